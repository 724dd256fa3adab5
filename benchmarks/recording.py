"""What a benchmark writes into its file beside its numbers: what was measured on, when, and by which command."""

import datetime
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from tutorial_lib.builds import report
from tutorial_lib.core.files import save


def about(device: torch.device, *packages: str) -> dict[str, Any]:
    """Device, date, command and versions, those of `packages` among them."""
    return {
        "device": report.device_name(device),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "versions": report.versions(*packages),
    }


def keep(file: Path | None, content: Any, indent: int | None = 1) -> None:
    """Write `content` as JSON, if there is a file for it."""
    if file:
        save(file, json.dumps(content, indent=indent) + "\n")
