"""What the panels with TensorRT's engines share."""

import contextlib
import io
from typing import Any

from tutorial_lib.core.models import Case
from tutorial_lib.engines import EngineReport, Recording


def built(recording: Recording, case: Case, *args: Any, **keywords: Any) -> tuple[tuple[EngineReport, ...], str]:
    """What :meth:`Recording.build_all` returns, and the words that it prints where the answer is a recorded one."""
    note = io.StringIO()
    with contextlib.redirect_stdout(note):
        reports = recording.build_all(case, *args, **keywords)
    return reports, note.getvalue()
