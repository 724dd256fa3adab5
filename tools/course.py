"""Writes the course into a folder to work in, so that running notebooks changes no file of the checkout.

``python tools/course.py build/course`` copies the notebooks, what they read, and the pages that they link to. With
``--student``, notebooks come without outputs, solutions and tests. A notebook that somebody has worked in stays as it
is; with ``--fresh``, it is written anew.

The exercises live once, with their solutions, in the notebooks. What students shall not see is a cell with the tag
``solution`` or ``hidden-test``, or a ``<details>`` block whose summary is "Solution".
"""

import argparse
import hashlib
import json
import re
import shutil
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
FOLDERS = ("notebooks", "docs")
HIDDEN = {"solution", "hidden-test"}
SOLUTION = re.compile(r"<details><summary>Solution</summary>.*?</details>\s*", flags=re.DOTALL)
WRITTEN = ".written.json"
"""Beside the notebooks: what was written, to tell which of them somebody has changed since."""


def student(text: str) -> str:
    """The student version of a notebook file."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not HIDDEN & set(cell.metadata.get("tags", ()))]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = SOLUTION.sub("", cell.source).rstrip()
    notebook.cells = [cell for cell in notebook.cells if cell.source]
    return nbformat.writes(notebook) + "\n"


def write(source: Path, target: Path, for_students: bool = False, fresh: bool = False) -> list[Path]:
    """Write the course of the checkout `source` into `target`; returns the notebooks that were left as they are."""
    record, kept = target / WRITTEN, []
    written = json.loads(record.read_text()) if record.is_file() else {}
    files = [file for name in FOLDERS for file in sorted((source / name).rglob("*")) if file.is_file()]
    for file in files:
        name = str(file.relative_to(source))
        if file.suffix == ".py" or any(part.startswith(".") for part in file.relative_to(source).parts):
            continue
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix != ".ipynb":
            shutil.copyfile(file, copy)
            continue
        if copy.is_file() and not fresh and _digest(copy.read_text(encoding="utf-8")) != written.get(name):
            kept.append(copy)
            continue
        text = file.read_text(encoding="utf-8")
        text = student(text) if for_students else text
        copy.write_text(text, encoding="utf-8")
        written[name] = _digest(text)
    record.write_text(json.dumps(written, indent=1))
    return kept


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--student", action="store_true", help="without outputs, solutions and tests")
    parser.add_argument("--fresh", action="store_true", help="also write anew what somebody has worked in")
    args = parser.parse_args()
    if kept := write(ROOT, args.folder, args.student, args.fresh):
        names = ", ".join(file.name for file in kept)
        print(f"Kept, since you have worked in them: {names}. To begin them anew: `make lab FRESH=1`.")


if __name__ == "__main__":
    main()
