"""Notebook 8: another process, what is in a file, and copies of a file that were damaged or forged."""

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tutorial_lib.builds import saving
from tutorial_lib.core.models import Case

MEMBERS = ("about.json", "program.pt2")


def run(*arguments: str) -> str:
    """What a fresh Python prints that is started with these arguments.

    Raises
    ------
    RuntimeError
        If it ends with an error, with what it said.
    """
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def in_a_fresh_process(folder: Path) -> str:
    """What :mod:`tutorial_lib.teach.lessons.nb08_fresh_process` says of the files in `folder`."""
    return run("-m", "tutorial_lib.teach.lessons.nb08_fresh_process", str(folder))


def listing(file: Path) -> pd.DataFrame:
    """The members of a saved program and of the archive inside it, with their bytes, from 100 bytes on."""
    rows: list[dict[str, Any]] = []
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            rows.append({"member": member.filename, "bytes": member.file_size})
            if member.filename.endswith(".pt2"):
                inner = zipfile.ZipFile(io.BytesIO(archive.read(member))).infolist()
                rows += [{"member": f"    {_end(each.filename)}", "bytes": each.file_size} for each in inner]
    return pd.DataFrame([row for row in rows if row["bytes"] >= 100])


def _end(path: str) -> str:
    """The end of a file's name, which tells more than its beginning, of at most 30 characters."""
    name = path.split("/")[-1]
    return name if len(name) <= 30 else f"...{name[-27:]}"


def holds(file: Path, content: bytes) -> bool:
    """Whether `content` can be read in the program of a file, byte for byte."""
    with zipfile.ZipFile(file) as archive:
        return content in archive.read("program.pt2")


def copy_with(source: Path, target: Path, change: Callable[[dict[str, Any]], Any], digests: bool = True) -> Path:
    """A copy of a saved program whose record was changed; `digests` computes the sums again, so that they fit."""
    with zipfile.ZipFile(source) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    about = json.loads(members["about.json"])
    change(about)
    members["about.json"] = json.dumps(about).encode()
    if digests:
        sums = {member: hashlib.sha256(members[member]).hexdigest() for member in MEMBERS}
        members["SHA256SUMS"] = "".join(f"{sums[member]}  {member}\n" for member in sums).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return target


def spoiled(source: Path, folder: Path) -> list[Path]:
    """Six copies of a saved program: three damaged, and three whose record tells of another world."""
    content = source.read_bytes()
    middle = len(content) // 2
    flipped, short = folder / "bit flipped", folder / "cut off"
    flipped.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    short.write_bytes(content[:-1000])

    def copy(name: str, change: Callable[[dict[str, Any]], Any], digests: bool = True) -> Path:
        return copy_with(source, folder / name, change, digests)

    return [
        flipped,
        short,
        copy("range edited", lambda about: about["inputs"][0]["shape"][0].update(max=64), digests=False),
        copy("another torch", lambda about: about["build"]["versions"].update(torch="2.99.0")),
        copy(
            "another device",
            lambda about: about.update(device="cuda:99", build={**about["build"], "device": "NVIDIA H100"}),
        ),
        copy("another CPU", lambda about: about["machine"]["instructions"].append("avx9000")),
    ]


def refusal(file: Path) -> str | None:
    """The sentence with which a file is refused; None if it is loaded."""
    try:
        saving.load(file)
    except saving.ArtefactError as error:
        return str(error).replace(str(file), f"'{file.name}'")
    return None


def served(program: Callable[..., Any], case: Case) -> list[int]:
    """Which of the batches 1, 4, 32 and 33 an exported program takes."""
    taken = []
    for size in (1, 4, 32, 33):
        try:
            program(*case.example(size))
            taken.append(size)
        except AssertionError:  # "Guard failed: ..."
            pass
    return taken
