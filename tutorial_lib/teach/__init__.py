"""What the notebooks teach with: predictions, exercises, sentences chosen by the numbers, small panels.

shown       what every widget here shares            stories     sentences that follow from the numbers
prediction  predict: guess, check, reveal            questions/  the questions, a module for each notebook
checking    check and hint of exercises, Feedback    exercises/  the exercises, a module for each notebook
panels/     the small panels of the notebooks        lessons/    what the cells of a notebook call beside the library
pictures    figures as HTML
"""

from tutorial_lib.teach import panels
from tutorial_lib.teach.checking import Feedback, check, hint
from tutorial_lib.teach.prediction import Prediction, predict
from tutorial_lib.teach.stories import lesson, ratio, row, speed_up

__all__ = ["Feedback", "Prediction", "check", "hint", "lesson", "panels", "predict", "ratio", "row", "speed_up"]
