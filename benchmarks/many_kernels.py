"""What do several kernels at once cost on one machine, and do they keep out of each other's way?

    python benchmarks/many_kernels.py --kernels 5 [--notebook 01_three_compile_paths.ipynb]

As on a hub: each kernel has its own home and its own copy of the course, all share the installation. Printed are the
largest memory of each, its processes included, and how long it took beside the others. The exit code is 1 if a cell
failed, if a kernel wrote into the shared installation, or if two kernels had a cache in common.
"""

import argparse
import concurrent.futures
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from course import write  # noqa: E402 (a tool beside this folder)

FOLDERS = """
import json
from tutorial_lib.core.files import cache_folder
from tutorial_lib.cli.doctor import _inductor_folder
print(json.dumps([str(cache_folder()), str(_inductor_folder())]))
"""
PRIVATE = ("TUTORIAL_LIB_CACHE", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME", "TMPDIR")


def shared_files() -> dict[str, float]:
    """When each file of the installation that could be shared was last written."""
    files = (ROOT / "tutorial_lib").rglob("*")
    return {str(file): file.stat().st_mtime for file in files if file.suffix in (".py", ".json", ".jinja")}


def memory_mb(pid: int) -> float:
    """Proportional memory of a process and of those that it started, in MB: what is shared counts once."""
    total = 0
    with_children = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in with_children:
        try:
            full = process.memory_full_info()
        except psutil.Error:
            continue
        total += getattr(full, "pss", full.rss)
    return total / 1e6


def run(number: int, home: Path, name: str) -> dict[str, Any]:
    """Run a notebook in a kernel of its own, as the user whose home is `home`."""
    write(ROOT, home / "course")
    file = home / "course/notebooks" / name
    notebook = nbformat.read(file, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(FOLDERS))
    (home / "tmp").mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in PRIVATE}
    environment |= {"HOME": str(home), "TMPDIR": str(home / "tmp"), "USER": f"learner{number}"}
    client = NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(file.parent)}})
    peak, ended, failed = 0.0, threading.Event(), None

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.5):
            try:
                peak = max(peak, memory_mb(client.km.provisioner.process.pid))
            except (AttributeError, psutil.Error):
                continue  # it has not started, or has ended

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        failed = str(error).splitlines()[-1]
    ended.set()
    watcher.join()
    outputs = notebook.cells[-1].get("outputs", [])
    caches = outputs[0]["text"].strip() if outputs and "text" in outputs[0] else ""
    return {"peak_mb": peak, "seconds": time.perf_counter() - start, "failed": failed, "caches": caches}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", type=int, default=5)
    parser.add_argument("--notebook", default="01_three_compile_paths.ipynb")
    args = parser.parse_args()
    before = shared_files()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        homes = [Path(folder, f"learner{number}") for number in range(args.kernels)]
        for home in homes:
            home.mkdir()
        with concurrent.futures.ThreadPoolExecutor(args.kernels) as pool:
            futures = [pool.submit(run, number, home, args.notebook) for number, home in enumerate(homes)]
            results = [future.result() for future in futures]
    problems = [f"kernel {number}: {result['failed']}" for number, result in enumerate(results) if result["failed"]]
    caches = [result["caches"] for result in results if result["caches"]]
    if len(set(caches)) < len(results):
        problems.append(f"caches are not private: {sorted(set(caches))}")
    if shared_files() != before:
        problems.append("a kernel wrote into the installation")
    for number, result in enumerate(results):
        print(f"kernel {number}: {result['peak_mb']:.0f} MB at most, {result['seconds']:.0f} s")
    print(f"{args.kernels} kernels: {sum(result['peak_mb'] for result in results):.0f} MB on {os.cpu_count()} cores")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
