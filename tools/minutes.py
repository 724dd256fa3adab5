"""Minutes for each notebook: reading from its words, running from running it. The table is in docs/instructor.md.

    python tools/minutes.py            # writes the table again, with the running times of the last run
    python tools/minutes.py --run      # runs every notebook first, in a copy of the course; do that on an idle machine

Reading is 200 words of prose and 100 words of code in a minute, which is slow enough for a text that one tries out.
"""

import argparse
import json
import platform
import re
import tempfile
import time
from pathlib import Path

import nbformat
from course import write
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/instructor.md"
RECORDED = ROOT / "benchmarks/recorded/notebook_seconds.json"
MARKS = "<!-- minutes per notebook -->", "<!-- end of minutes per notebook -->"
PROSE, CODE = 200, 100


def reading_minutes(notebook: nbformat.NotebookNode) -> float:
    """Minutes to read a notebook once."""
    words = {"markdown": 0, "code": 0}
    for cell in notebook.cells:
        if cell.cell_type in words:
            words[cell.cell_type] += len(re.findall(r"\w+", re.sub(r"<[^>]*>|\]\([^)]*\)", " ", cell.source)))
    return words["markdown"] / PROSE + words["code"] / CODE


def table(seconds: dict[str, float]) -> str:
    """The table; running times are a column of it once there are any."""
    rows, total = [("notebook", "read, min", "run, s")], 0.0
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        minutes = reading_minutes(nbformat.read(file, as_version=4))
        total += minutes
        run = f"{seconds[file.name]:.0f}" if file.name in seconds else ""
        rows.append((f"[{file.stem}](../notebooks/{file.name})", f"{minutes:.0f}", run))
    rows.append(("all", f"{total:.0f}", f"{sum(seconds.values()):.0f}"))
    columns = 3 if seconds else 2
    head, *lines = [f"| {' | '.join(row[:columns])} |" for row in rows]
    return "\n".join([head, "|" + "---|" * columns, *lines])


def page(text: str) -> str:
    """The page with the table written anew."""
    recorded = json.loads(RECORDED.read_text()) if RECORDED.is_file() else {"seconds": {}, "machine": ""}
    source = "Reading is counted: 200 words of prose, 100 of code in a minute, without exercises."
    source += f" Running was measured once, {recorded['machine']}." if recorded["machine"] else ""
    before, rest = text.split(MARKS[0])
    return f"{before}{MARKS[0]}\n{source}\n\n{table(recorded['seconds'])}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def run_all() -> dict[str, float]:
    """Seconds that each notebook takes from its first cell to its last, in a kernel of its own."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        write(ROOT, Path(folder))
        for file in sorted(Path(folder, "notebooks").glob("*.ipynb")):
            client = NotebookClient(
                nbformat.read(file, as_version=4), timeout=900, resources={"metadata": {"path": str(file.parent)}}
            )
            start = time.perf_counter()
            client.execute()
            seconds[file.name] = round(time.perf_counter() - start, 1)
            print(f"{file.name}: {seconds[file.name]} s", flush=True)
    return seconds


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="measure the running times first")
    if parser.parse_args().run:
        import torch

        machine = (
            f"on {torch.get_num_threads()} threads of {platform.machine()} without a GPU, torch {torch.__version__}"
        )
        RECORDED.write_text(json.dumps({"machine": machine, "seconds": run_all()}, indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
