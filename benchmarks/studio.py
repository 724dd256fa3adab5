"""From the click on Build: seconds to TensorRT's engines, to the first curve of a compiled path, and to the end.

    python benchmarks/studio.py [--model vit] [--backend openvino] [--repeats 5] [--json FILE]

Three paths, the sizes that the panel proposes, in four states: **cold**, a new kernel with empty caches; **new
setting**, another range in that kernel; **reused**, the same click once more; **new kernel**, which finds on disk what
the one before left. Given are medians of the repeats, in which models and backends take turns, and the largest memory
that a kernel took. Starting Python and importing the package are not part of a time; ``--shown`` is how many seconds
the panel is in view before the first click, during which it loads what the first build needs.

``--json`` keeps every run as soon as it has ended; the same command goes on where it was stopped. ``tables.py`` writes
the page's table.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import options
from fresh_process import processes
from recording import about, keep
from tables import STATES, studio_table

from tutorial_lib import MODELS
from tutorial_lib.builds import backends
from tutorial_lib.measure.device_conditions import Conditions
from tutorial_lib.measure.sweep import EAGER

PACKAGES = ("openvino", "tensorrt-rtx", "torch-tensorrt-rtx")
Run = dict[str, Any]
"""By state: seconds to each of :data:`STEPS`, and ``parts`` of these; and ``peak_mb`` of the first kernel."""


def click(studio: Any) -> dict[str, Any]:
    """Seconds from a click to each step, and what the result says of them; a step that is not reached is left out."""
    display, setting = studio._display, studio.setting
    reached: dict[str, float] = {}
    draw, start = display.draw, time.perf_counter()

    def noting(streaming: Any = None) -> None:
        draw(streaming)
        shown, seconds = display.shown, time.perf_counter() - start
        if shown is None or shown.setting != setting:
            return
        if shown.engines and len(shown.engines) == len(shown.setting.paths):
            reached.setdefault("engines", seconds)
        if shown.sweep is not None and set(shown.sweep.table["path"]) != {EAGER}:
            reached.setdefault("first curve", seconds)

    display.draw = noting
    try:
        result = studio.build()
    finally:
        display.draw = draw
    done = time.perf_counter() - start
    return {**reached, "done": done, "parts": {name: round(value, 3) for name, value in result.seconds.items()}}


def kernel(model: str, backend: str, shown: float, first_alone: bool) -> Run:
    """The clicks of one process: the model's own range and, unless `first_alone`, another one twice."""
    from tutorial_lib.studio import Studio

    studio = Studio()
    studio.set(model=model, backend=backend)
    if shown:
        studio._repr_mimebundle_()
        time.sleep(shown)
    clicks = [click(studio)]
    if not first_alone:
        dim = studio.setting.ranges[0]
        studio.set(**{dim.name: (dim.min, dim.opt + dim.step, dim.max - dim.step)})
        clicks += [click(studio), click(studio)]
    return {
        "clicks": clicks,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def measured(model: str, backend: str, shown: float) -> Run:
    """One repeat: two kernels that share caches which are empty at first."""
    with processes(__file__) as (_, again):
        words = ["--model", model, "--backend", backend, "--shown", str(shown)]
        first = again("--inside", "all", *words)
        second = again("--inside", "first", *words)
    clicks = [*first["clicks"], *second["clicks"]]
    return {**dict(zip(STATES, clicks, strict=True)), "peak_mb": first["peak_mb"]}


def read(file: Path | None, common: dict[str, Any]) -> dict[str, Any]:
    """The runs that `file` has already; it has to be of this machine and these versions."""
    if file is None or not file.exists():
        return {**common, "cases": []}
    content: dict[str, Any] = json.loads(file.read_text())
    other = [name for name in common if content.get(name) != common[name]]
    if other:
        raise SystemExit(f"error: {file} was measured with another {' and '.join(other)}; give another file.")
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(MODELS), action="append", help="default: expand-reshape")
    parser.add_argument("--backend", choices=list(backends.BACKENDS), action="append", help="default: all that work")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--shown", type=float, default=0.0, metavar="SECONDS", help="default: not shown before")
    parser.add_argument("--json", type=options.file)
    parser.add_argument("--inside", choices=["all", "first"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(kernel(args.model[0], args.backend[0], args.shown, args.inside == "first")))
        return
    device = backends.as_device("auto")
    common = about(device, *PACKAGES)
    content = read(args.json, {"device": common["device"], "versions": common["versions"], "shown_seconds": args.shown})
    conditions = Conditions(device)
    working = [status.name for status in backends.statuses(device) if status.works]
    wanted = [(model, backend) for model in args.model or ["expand-reshape"] for backend in args.backend or working]
    for repeat in range(args.repeats):
        for model, backend in wanted:
            case = next(
                (each for each in content["cases"] if (each["model"], each["backend"]) == (model, backend)), None
            )
            if case is None:
                case = {"model": model, "backend": backend, "runs": []}
                content["cases"].append(case)
            if len(case["runs"]) > repeat:
                continue
            conditions.sample()
            case["runs"].append(measured(model, backend, args.shown))
            done = ", ".join(f"{state} {case['runs'][-1][state]['done']:.1f} s" for state in STATES)
            print(f"{model}, {backend}, {repeat + 1} of {args.repeats}: {done}", flush=True)
            content |= {**about(device, *PACKAGES), "conditions": conditions.summary()}
            keep(args.json, content)
    print(f"\n{content['device']}\n{studio_table([content])}")


if __name__ == "__main__":
    main()
