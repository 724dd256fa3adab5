"""The file of a campaign: a line for each setting, added when it is done, and all of it as a table.

Every line is a JSON object. The first says what the file is, every other is a setting with all that was found.
Lines are added whole and one at a time, so a file whose writer was killed ends in a whole line or in part
of one. That part is not read, and it is cut off when the file is opened again.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pandas as pd

from tutorial_lib.core.files import lock
from tutorial_lib.core.shapes import DynamicDim
from tutorial_lib.experiments.setting import Setting, show_options
from tutorial_lib.measure.latency import MIN_SECONDS

HEADER = {"tutorial_lib": "campaign", "schema": 1}

Found = dict[str, Any]
"""What was found of one setting, as plain values for JSON."""


class JournalError(ValueError):
    """A file that is not a campaign's, or that cannot be written to now; the message says what to do."""


def plain(setting: Setting) -> dict[str, Any]:
    """A setting as plain values for JSON, without unset fields that the first version of this file did not have."""
    content = json.loads(json.dumps(dataclasses.asdict(setting), default=repr))
    unset = {"measure": True, "engines": False, "calls": []}
    return {name: value for name, value in content.items() if name not in unset or value != unset[name]}


def setting_of(content: Found) -> Setting:
    """The setting that :func:`plain` made `content` from."""
    fixed = {name: tuple(content[name]) for name in ("paths", "sizes")}
    ranges = tuple(DynamicDim(**dim) for dim in content["ranges"])
    return Setting(**{**content, **fixed, "ranges": ranges, "options": tuple(map(tuple, content["options"]))})


def key(setting: Setting, device: str = "auto", min_seconds: float = MIN_SECONDS) -> str:
    """The digest that a setting is known by in a file.

    The limits of its ranges are no part of it: they say what may be asked for, not what is.
    """
    setting = dataclasses.replace(setting, ranges=tuple(dataclasses.replace(d, limit=None) for d in setting.ranges))
    told = json.dumps([plain(setting), device, min_seconds], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


class Journal:
    """An open file, and what it holds by key."""

    def __init__(self, file: IO[bytes], known: dict[str, Found]) -> None:
        self._file, self.known = file, known

    def append(self, line: Found) -> None:
        """Add a setting, unless it is there."""
        if line["key"] not in self.known:
            self._file.write(_line(line))
            self._file.flush()
            os.fsync(self._file.fileno())
            self.known[line["key"]] = line


def _line(content: Any) -> bytes:
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode() + b"\n"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """The file, for this process alone to write to, without a last line that was cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            lock(file, wait=False)
        except OSError:
            raise JournalError(
                f"{path} is being written to by another campaign; wait for it, or give another file."
            ) from None
        file.seek(0)
        content = file.read()
        if _line(HEADER).startswith(content):  # new, or hardly begun
            content = _line(HEADER)
            file.truncate(0)
            file.write(content)
            file.flush()
        known = _parsed(content, path)
        file.truncate(content.rfind(b"\n") + 1)
        yield Journal(file, known)


def read(path: Path) -> dict[str, Found]:
    """The settings in a file by key, while it is written to, too."""
    return _parsed(path.read_bytes(), path)


def _parsed(content: bytes, path: Path) -> dict[str, Found]:
    """The settings in a file by key, without a last line that was cut off.

    Raises
    ------
    JournalError
        If it is another file, or a line in it cannot be read.
    """
    header, *lines = content.split(b"\n")[:-1] or [b""]
    try:
        about = json.loads(header)
        if about.get("tutorial_lib") != HEADER["tutorial_lib"]:
            raise ValueError
    except (ValueError, AttributeError):
        raise JournalError(f"{path} is no file of a campaign; give another one.") from None
    if about.get("schema") != HEADER["schema"]:
        raise JournalError(f"{path} has schema {about.get('schema')}, and this version reads {HEADER['schema']}.")
    known: dict[str, Found] = {}
    for number, line in enumerate(lines, start=2):
        try:
            one = json.loads(line)
            known.setdefault(one["key"], one)
        except (ValueError, TypeError, KeyError):
            raise JournalError(
                f"line {number} of {path} cannot be read; take that line out, and it runs again."
            ) from None
    return known


def ranges_of(setting: Found) -> str:
    """The ranges of a setting in plain values: ``batch 1/4/32 length 8/64/256``."""
    return " ".join(f"{dim['name']} {dim['min']}/{dim['opt']}/{dim['max']}" for dim in setting["ranges"])


def rows_of(lines: Sequence[Found]) -> pd.DataFrame:
    """One row for each path and size, eager's among them, or for each path that failed."""
    rows: list[dict[str, Any]] = []
    for line in lines:
        setting, dims = line["setting"], {dim["name"]: None for dim in line["setting"]["ranges"]}
        asked = {
            "setting": line["key"],
            "model": setting["model"],
            "ranges": ranges_of(setting),
            "precision": setting["precision"],
            "options": show_options(setting["options"]),
        }
        ran = {**line["where"], "attempts": line["attempts"]}
        backend = setting["backend"]
        if line["sweep"]:
            about = line["sweep"]["provenance"]
            backend, ran = about["backend"], {**ran, "date": about["date"]}
            build_seconds = {build["path"]: build["seconds"] for build in line["sweep"]["builds"]}
            for row in line["sweep"]["table"]:
                built = {"build_seconds": build_seconds.get(row["path"])}
                rows.append({**asked, "backend": backend, **row, "error": None, **built, **ran})
        for path, why in line["failures"].items():
            for one in [path] if path else setting["paths"]:
                rows.append({**asked, "backend": backend, "path": one, **dims, "error": why, **ran})
    found = pd.DataFrame(rows)
    for name in {dim["name"] for line in lines for dim in line["setting"]["ranges"]}:
        found[name] = found[name].astype("Int64")  # models have different dimensions
    return found
