"""The exercises of notebook 0."""

from typing import Any

from tutorial_lib.teach.checking import Feedback, NotYet, a_range, exercise


@exercise("00.range", hint="The three numbers are min, opt and max. Two of them are promises, and one is a wish.")
def range_for_a_service(answer: Any) -> Feedback:
    """Holds 1 and 100, tuned for 8."""
    dim = a_range(answer)
    if dim.min > 1 or dim.max < 100:
        raise NotYet(f"{dim} refuses a batch of {1 if dim.min > 1 else 100}: it holds {dim.min} to {dim.max}.")
    if dim.opt != 8:
        raise NotYet(f"{dim} is tuned for {dim.opt}, not for 8.")
    return Feedback(True, f"{dim} serves 1 and 100, and is tuned for 8.")
