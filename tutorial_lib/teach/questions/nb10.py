"""The questions of notebook 10."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "opt": Question(
        "In the bimodal traffic, nine of ten requests have few rows and one has thousands. You may build one engine, "
        "and the mean latency counts. Where does opt belong?",
        choices=("at the size that is most frequent", "at the median", "where the large requests are"),
        answer="where the large requests are",
        why="Opt belongs where the time is, and where it makes a difference. Small requests cost nearly the same "
        "whatever opt was, because most of it is the price of any call.",
    ),
    "memory": Question(
        "Which way to serve a traffic needs the least memory?",
        choices=("one engine for everything", "several small engines", "padding to few sizes", "eager PyTorch"),
        answer="eager PyTorch",
        why="An engine that was not built takes no memory and no time to build. Without a bound on latency, that is "
        "the answer to the wrong question.",
    ),
    "meet": Question(
        "Two made-up engines take 0.02 + 0.004 n and 0.10 + 0.002 n milliseconds for n rows. Up to how many rows "
        "should requests go to the first?",
        answer=40,
        tolerance=0.1,
        unit="rows",
        why="The lines meet where 0.02 + 0.004 n = 0.10 + 0.002 n. Around there both take the same time, so the exact "
        "place hardly matters; it is the far ends that do.",
    ),
    "padded": Question(
        "A model subtracts the mean over all rows. How many of the compared policies may pad?",
        answer=0,
        why="What is added would change the rest of the output. The advisor asks the model with real rows, and leaves "
        "policies that pad out.",
    ),
}
