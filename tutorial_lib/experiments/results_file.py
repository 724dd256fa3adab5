"""The file of a campaign: a line for each setting, added when it is done, and all of it as a table.

Every line is a JSON object. The first says what the file is, every other is a result.
Lines are added whole and one at a time, so a file whose writer was killed ends in a whole line or in part
of one. That part is not read, and it is cut off when the file is opened again.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from tutorial_lib.core import plain_values
from tutorial_lib.experiments.result import SCHEMA, Result, from_schema_1
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.latency import MIN_SECONDS

HEADER = {"tutorial_lib": "campaign", "schema": SCHEMA}


class ResultsFileError(ValueError):
    """A file that is not a results file, or that cannot be written to now; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Line:
    """A result in a file.

    Attributes
    ----------
    key : str
        The digest of what was asked for (:func:`key`).
    attempts : int
        How often it was run; its process ended early every time but the last.
    result : Result
        The result of the last run.
    host : str
        The name of the machine; empty in recordings, which are shown to others.
    """

    key: str
    attempts: int
    result: Result
    host: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        host = {"host": self.host} if self.host else {}
        return {"key": self.key, "attempts": self.attempts, **host, "result": self.result.to_dict()}

    @classmethod
    def from_dict(cls, plain: Any, where: str = "the line", schema: int = SCHEMA) -> "Line":
        """The inverse of :meth:`to_dict`; also reads what the first schema wrote.

        Raises
        ------
        ValueError
            If something is missing, unknown or of another type; `where` is how the message calls the line.
        """
        if schema == 1:
            result = from_schema_1(plain, where)
            head = {name: plain[name] for name in ("key", "attempts") if name in plain}
            plain = {**head, "host": plain["where"].get("host", ""), "result": result}
        content = plain_values.read(_LineContent, plain, where)
        return cls(content.key, content.attempts, Result.from_dict(content.result, f"{where}.result"), content.host)


@dataclass(frozen=True)
class _LineContent:
    key: str
    attempts: int
    result: dict[str, Any]
    host: str = ""


def key(setting: Setting, device: str = "auto", min_seconds: float = MIN_SECONDS) -> str:
    """The digest that identifies a setting in a file.

    It leaves out the limits of ranges, which say what may be asked for and not what is.
    """
    ranges = tuple(dataclasses.replace(dim, limit=None) for dim in setting.ranges)
    content = [dataclasses.replace(setting, ranges=ranges).to_dict(), device, min_seconds]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class ResultsFile:
    """An open results file, and its lines by key."""

    def __init__(self, file: IO[bytes], lines: dict[str, Line]) -> None:
        self._file, self.lines = file, lines

    def append(self, line: Line) -> None:
        """Add a result, unless there is one with its key."""
        if line.key not in self.lines:
            self._file.write(_bytes(line.to_dict()))
            self._file.flush()
            os.fsync(self._file.fileno())
            self.lines[line.key] = line


def _bytes(content: Any) -> bytes:
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode() + b"\n"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[ResultsFile]:
    """The file, for this process alone to write to, without a last line that was cut off.

    A file of the first schema is written anew in this one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # this system has no such locks
        except OSError:
            raise ResultsFileError(
                f"{path} is being written to by another campaign; wait for it, or give another file."
            ) from None
        file.seek(0)
        content = file.read()
        lines = {} if _bytes(HEADER).startswith(content) else _parsed(content, path)
        if content.startswith(_bytes(HEADER)):
            file.truncate(content.rfind(b"\n") + 1)
        else:  # new, hardly begun, or of the first schema
            whole = b"".join(map(_bytes, [HEADER, *(line.to_dict() for line in lines.values())]))
            file.truncate(0)
            file.write(whole)
            file.flush()
        yield ResultsFile(file, lines)


def read(path: Path) -> dict[str, Line]:
    """The results in a file by key; another process may be writing to it."""
    return _parsed(path.read_bytes(), path)


def _parsed(content: bytes, path: Path) -> dict[str, Line]:
    """The results in a file by key, without a last line that was cut off.

    Raises
    ------
    ResultsFileError
        If it is another file, or a line in it cannot be read.
    """
    header, *lines = content.split(b"\n")[:-1] or [b""]
    try:
        head = json.loads(header)
        if head.get("tutorial_lib") != HEADER["tutorial_lib"]:
            raise ValueError
    except (ValueError, AttributeError):
        raise ResultsFileError(f"{path} is no file of a campaign; give another one.") from None
    schema = head.get("schema")
    if schema not in (1, SCHEMA):
        raise ResultsFileError(f"{path} has schema {schema}, and this version reads {SCHEMA}.")
    results: dict[str, Line] = {}
    for number, line in enumerate(lines, start=2):
        try:
            parsed = Line.from_dict(json.loads(line), schema=schema)
            results.setdefault(parsed.key, parsed)
        except (ValueError, TypeError, KeyError) as error:
            raise ResultsFileError(
                f"line {number} of {path} cannot be read ({error}); take that line out, and it runs again."
            ) from None
    return results


def rows_of(lines: Sequence[Line]) -> pd.DataFrame:
    """One row for each path and size, eager's among them, or for each path that failed."""
    rows: list[dict[str, Any]] = []
    for line in lines:
        result, setting = line.result, line.result.setting
        requested = {"setting": line.key, **result.facts}
        host = {"host": line.host} if line.host else {}
        environment = {**host, **result.where, "attempts": line.attempts}
        if result.sweep:
            environment["date"] = result.sweep.provenance["date"]
            seconds = {build.path: build.seconds for build in result.builds}
            for row in result.sweep.table.to_dict("records"):
                rows.append(
                    {**requested, **row, "error": None, "build_seconds": seconds.get(row["path"]), **environment}
                )
        dims = {dim.name: None for dim in setting.ranges}
        for failed, failure in result.failures.items():
            for path in [failed] if failed else setting.paths:
                rows.append({**requested, "path": path, **dims, "error": failure.sentence, **environment})
    table = pd.DataFrame(rows)
    for name in {dim.name for line in lines for dim in line.result.setting.ranges}:
        table[name] = table[name].astype("Int64")  # models have different dimensions
    return table
