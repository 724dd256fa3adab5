"""What to build and measure, on which devices, and the files of settings and results.

setting  what is wanted, as one value: read and written here    run          a setting and a case to a result
result   what came of it, as a line of a file or a recording    campaign     many settings; processes: one per device
results_file, recordings: the files                             examination  a model, before a real build
"""

from tutorial_lib.experiments.campaign import build_ahead, run_all
from tutorial_lib.experiments.examination import examine
from tutorial_lib.experiments.processes import Processes
from tutorial_lib.experiments.recordings import Recorded, RecordedError
from tutorial_lib.experiments.result import Result
from tutorial_lib.experiments.results_file import ResultsFileError
from tutorial_lib.experiments.run import run
from tutorial_lib.experiments.setting import Setting

__all__ = [
    "Processes",
    "Recorded",
    "RecordedError",
    "Result",
    "ResultsFileError",
    "Setting",
    "build_ahead",
    "examine",
    "run",
    "run_all",
]
