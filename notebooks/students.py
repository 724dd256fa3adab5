"""Writes the student version of every notebook into ``student/``: no outputs, no solutions, the same code.

The exercises live once, with their solutions, in the notebooks themselves. What students shall not see there is either
a cell with the tag ``solution`` or a ``<details>`` block whose summary is "Solution". Run it with ``make students``.
"""

import re
from pathlib import Path

import nbformat

FOLDER = Path(__file__).parent
SOLUTION = re.compile(r"<details><summary>Solution</summary>.*?</details>\s*", flags=re.DOTALL)
NOTE = "*Student version. Outputs and solutions are in the [full notebook](../{name}).*"


def is_solution(cell):
    """Whether students do not get this cell."""
    return "solution" in cell.metadata.get("tags", ())


def student(path):
    """The student version of the notebook at ``path``, as the text of a file."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not is_solution(cell)]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = re.sub(r'"([\w./]+)"', _one_folder_up, cell.source)
        else:
            cell.source = SOLUTION.sub("", cell.source).rstrip()
    notebook.cells = [cell for cell in notebook.cells if cell.source]
    notebook.cells[0].source += "\n\n" + NOTE.format(name=path.name)
    return nbformat.writes(notebook) + "\n"


def _one_folder_up(quoted):
    """A file beside the notebooks is one folder up from their student versions."""
    name = quoted[1]
    return f'"../{name}"' if "." in name.strip(".") and (FOLDER / name).is_file() else quoted[0]


def sources():
    """The notebooks with the solutions, in order."""
    return sorted(FOLDER.glob("*.ipynb"))


def main():
    """Write them all; one whose source is gone is removed."""
    folder = FOLDER / "student"
    folder.mkdir(exist_ok=True)
    for file in set(folder.glob("*.ipynb")) - {folder / source.name for source in sources()}:
        file.unlink()
    for source in sources():
        (folder / source.name).write_text(student(source), encoding="utf-8")


if __name__ == "__main__":
    main()
