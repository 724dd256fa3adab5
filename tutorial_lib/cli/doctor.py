"""What works on this machine, what does not, and how to fix it: ``python -m tutorial_lib doctor``.

Every check ends in one of these states, and only NOT OK makes the exit code 1:

- OK: it is installed and fits. OK, but: it works, and the sentence says what may surprise.
- NOT OK: it keeps this machine from what it could do otherwise. It is missing and needed (as a C++ compiler is where
  OpenVINO is missing too: then nothing here compiles), or it is installed and does not fit, or it could not be checked.
- absent: it is optional and not installed; the sentence says what it is for and how to get it.
- not needed here: nothing on this machine would use it.

No model is built, but by ``--measure``. What may crash (importing Torch-TensorRT) or hang (``nvidia-smi``) runs in a
process of its own, and every check has a time limit, so that a check that fails does not affect the others.
"""

import argparse
import ctypes
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Any

import torch
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from tutorial_lib.builds import backends
from tutorial_lib.builds.backends import cpp_compiler, openvino, preference, tensorrt
from tutorial_lib.builds.job import BuildError
from tutorial_lib.builds.plan import show_activation, show_bytes
from tutorial_lib.cli.arguments import FAILED, error
from tutorial_lib.core import inductor_cache
from tutorial_lib.core.errors import system_reason
from tutorial_lib.core.files import cache_folder
from tutorial_lib.core.markup import with_code
from tutorial_lib.engines import EnginesUnavailable, install, targets
from tutorial_lib.engines.errors import PlanError
from tutorial_lib.engines.files import fits, read
from tutorial_lib.engines.worker import environment

OK, BUT, NOT_OK, ABSENT, UNNEEDED = "OK", "OK, but", "NOT OK", "absent", "not needed here"
PYTHONS = ("3.11", "3.12")
TORCHES = tuple(tensorrt.TENSORRT["standard"])
SECONDS, SMI_SECONDS = 60.0, 10.0  # limits of any check, and of nvidia-smi, which some broken drivers hang
COLUMNS = 110
INSTALL = "run `make lab`, which installs it (`pip install -c constraints.txt -e .` by hand)."
GET_DRIVER = "install NVIDIA's driver (Ubuntu: `sudo ubuntu-drivers install`) on a machine with an NVIDIA GPU"
MEASURE = (
    "`python -m tutorial_lib doctor --measure` compares inductor and openvino on this CPU, once, in about a minute; "
    "until then `auto` takes inductor."
)
SET_CACHE = "set TUTORIAL_LIB_CACHE to a folder that can be written."
STATUSES = "import json, tutorial_lib as t; print('\\n' + json.dumps([*map(vars, t.statuses())]))"
_fold = partial(wrap, break_on_hyphens=False)


@dataclass(frozen=True)
class Check:
    """What was found of one thing; `fix` is empty where there is nothing to do."""

    name: str
    state: str
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Report:
    """All checks, the most basic first, and the status of every backend."""

    checks: tuple[Check, ...]
    backends: tuple[backends.Status, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is NOT OK."""
        return all(check.state != NOT_OK for check in self.checks)

    @property
    def verdict(self) -> str:
        """Which backends work here, after what to do first if something is NOT OK."""
        working = [status.name for status in self.backends if status.works]
        text = "Which backends work here could not be found out."
        if working:
            text = "All three paths work here with " if self.ok else "Of the backends, these work here: "
            text += " and ".join(working).replace(" and ", ", ", len(working) - 2 if len(working) > 2 else 0)
            text += f" on {self.backends[0].device}"
            for status in self.backends:
                if not status.works:
                    text += f"; {status.name} does not: {_problem_and_fix(status.reason)[0]}"
            text += "."
        broken = [check for check in self.checks if check.state == NOT_OK]
        if not broken:
            return text
        count = f"{len(broken)} things are" if len(broken) > 1 else "1 thing is"
        return f"{count} NOT OK. First, for {broken[0].name}: {broken[0].fix} {text}"

    def summary(self) -> str:
        """The verdict, and what to do about what is not OK; without what was found, which names folders."""
        todo = []
        for check in self.checks:
            if check.fix:
                state = "" if check.state == BUT else f" is {check.state}"
                todo.append(f"- {check.name}{state}: {check.fix}")
        return "\n".join([self.verdict, "", *todo])

    def __str__(self) -> str:
        state_width = max(len(check.state) for check in self.checks)
        name_width = max(len(check.name) for check in self.checks)
        margin, lines = " " * (state_width + name_width + 4), []
        for check in self.checks:
            text = _fold(check.found, COLUMNS - len(margin))
            text += _fold(check.fix, COLUMNS - len(margin), initial_indent="-> ", subsequent_indent="   ")
            lines.append(f"{check.state:{state_width}}  {check.name:{name_width}}  {text[0]}")
            lines += [margin + line for line in text[1:]]
        return "\n".join([*lines, "", *_fold(self.verdict, COLUMNS)])

    def class_line(self, machine: str) -> str:
        """One line about the computer called `machine`, for an instructor who looks at forty of them."""
        works = ", ".join(status.name for status in self.backends if status.works) or "none"
        builder = next((check for check in self.checks if check.name == "engine builder"), None)
        engines = "are built" if builder and builder.state == OK else "are shown as recorded"
        broken = [check for check in self.checks if check.state == NOT_OK]
        verdict = "; ".join(f"NOT OK, {check.name}: {check.fix or check.found}" for check in broken[:1]) or "ready"
        more = f" ({len(broken) - 1} more)" if broken[1:] else ""
        return f"{machine}: {verdict}{more} | backends: {works} | TensorRT engines {engines}"

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        heads = "".join(f'<th scope="col" {left}>{head}</th>' for head in ("What", "State", "Found, and what to do"))
        rows = "".join(
            f'<tr><th scope="row" {left}>{with_code(c.name)}</th><td {left}>{with_code(c.state)}</td>'
            f"<td {left}>{with_code(c.found)}{'<br>' if c.fix else ''}{with_code(c.fix)}</td></tr>"
            for c in self.checks
        )
        caption = f"<caption {left}>What works on this machine</caption>"
        table = f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        return f"{table}<p>{with_code(self.verdict)}</p>"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {"ok": self.ok, "verdict": self.verdict, **asdict(self)}


def diagnose() -> Report:
    """Make every check: about a second, and more the first time that a C++ compiler or a GPU is tried."""
    with warnings.catch_warnings(action="ignore"):  # torch warns of a driver that is too old; a check says it
        statuses_future = _start(_statuses)
        futures = {name: _start(look, name) for name, look in CHECKS.items()}
        checks = [_answer(name, future) for name, future in futures.items()]
        statuses = _answer("backends", statuses_future)
    if isinstance(statuses, Check):
        return Report((*checks, statuses), ())
    return Report((*checks, *(_on_gpu(status) for status in statuses if status.device != "cpu")), statuses)


def _start(look: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Call `look` in a thread that ends with this process, so that one that hangs holds nothing up."""
    future: Future[Any] = Future()

    def call() -> None:
        try:
            future.set_result(look(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def _answer(name: str, future: Future[Any]) -> Any:
    try:
        return future.result(SECONDS)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, TimeoutError | subprocess.TimeoutExpired):
            reason = "no answer in time"
        fix = "run `python -m tutorial_lib doctor` again, and report this line if it stays."
        if isinstance(error, ImportError):
            fix = INSTALL
        return Check(name, NOT_OK, f"it could not be checked ({reason})", fix)


def check_plan(file: Path) -> Check:
    """Whether the plan in `file` runs on this machine's card, and whether its memory is free there."""
    name = f"plan {file.name}"
    try:
        plan = read(file)
    except PlanError as error:
        return Check(name, NOT_OK, str(error), "build it again with `python -m tutorial_lib engines --out FOLDER`.")
    needs = f"needs {show_activation(plan)} for activations, {show_bytes(plan.weight_bytes)} for weights"
    content = f"built by TensorRT for RTX {plan.tensorrt_version} for {', '.join(plan.targets)}; {needs}"
    if not torch.cuda.is_available():
        return Check(name, ABSENT, f"{content}; PyTorch sees no GPU here that could run it")
    reason = targets.why_not_on(torch.cuda.get_device_capability(), plan.targets)
    reason = reason or fits(plan, torch.cuda.mem_get_info()[0])
    if reason:
        problem, fix = _problem_and_fix(reason)
        return Check(name, NOT_OK, f"{content}. {problem}", fix)
    free = "which may be free on this card" if plan.allocates_at_run_time else "which are free on this card"
    return Check(name, OK, f"{content}, {free}")


def _python(name: str) -> Check:
    text = f"{platform.python_version()} at {sys.executable}"
    if _minor(platform.python_version()) in PYTHONS:
        return Check(name, OK, text)
    fix = f"install Python {PYTHONS[-1]}, then run `make clean` and `make lab PYTHON=python{PYTHONS[-1]}`."
    return Check(name, NOT_OK, text, fix)


def _torch(name: str) -> Check:
    text = f"{torch.__version__}, {f'for CUDA {torch.version.cuda}' if torch.version.cuda else 'a CPU build'}"
    if install.torch_minor() in TORCHES:
        return Check(name, OK, text)
    return Check(name, NOT_OK, f"{text}; the tutorial is made for {', '.join(TORCHES)}", INSTALL)


def _cpp_compiler(name: str) -> Check:
    """Needed by inductor, and optional on a CPU where OpenVINO compiles without one."""
    instead = not torch.cuda.is_available() and openvino.why_not(torch.device("cpu")) is None
    check = _ready(name, cpp_compiler.compiler, ABSENT if instead else NOT_OK)
    return replace(check, fix=f"for the backend inductor, {check.fix}") if check.state == ABSENT else check


def _openvino(name: str) -> Check:
    """Whether OpenVINO can be used, in which precisions it computes here, and whether it reports to its makers."""
    version = _version(name)
    if version is None:
        return Check(name, ABSENT, "not installed", f"for the backend openvino, {INSTALL}")
    if reason := openvino.why_not(torch.device("cpu")):
        return Check(name, NOT_OK, _problem_and_fix(reason)[0], "`pip install --force-reinstall openvino`.")
    text = f"{version}, computes in {', '.join(openvino.precisions())}"
    if openvino.telemetry_is_off():
        return Check(name, OK, f"{text}; its telemetry is off")
    fix = "import tutorial_lib before openvino, which turns it off, or `pip uninstall openvino-telemetry`."
    return Check(name, BUT, f"{text}; its telemetry is on in this process", fix)


def _auto(name: str) -> Check:
    """What `auto` takes on the CPU where there is a choice, and why."""
    if requested := preference.requested():
        return Check(name, OK, f"{requested}, since {preference.VARIABLE} says so")
    works = [backends.status(backend, "cpu").works for backend in ("inductor", "openvino")]
    if not all(works):
        return Check(name, UNNEEDED, "there is no choice between inductor and openvino")
    comparison = preference.comparison_here()
    if comparison is None:
        return Check(name, BUT, "inductor, not compared with openvino on this CPU", MEASURE)
    return Check(name, OK, f"{comparison.faster}: {comparison}")


def _ready(name: str, look: Callable[[], object], missing: str) -> Check:
    """Something that says itself why it does not work, and what to do."""
    try:
        return Check(name, OK, str(look()))
    except (cpp_compiler.NoCompiler, EnginesUnavailable) as error:
        problem, fix = _problem_and_fix(str(error))
        return Check(
            name, missing, problem, fix or "run `make lab` on x86-64 Linux, with the torch of constraints.txt."
        )


def _folder(name: str, folder: Callable[[], Path], variable: str, shared: str) -> Check:
    """A folder with code that will be run; `shared` is the state of one that its group may write to."""
    path, fix = folder(), f"`export {variable}=FOLDER`, with a folder of your own."
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(4096))
    except OSError as error:
        return Check(name, NOT_OK, f"{path} cannot be written ({error.strerror})", fix)
    status = path.stat()
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return Check(name, NOT_OK, f"{path} belongs to another user, who could put code there", fix)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        state = NOT_OK if status.st_mode & stat.S_IWOTH else shared
        fix = f"`chmod go-w {shlex.quote(str(path))}`, or {fix}"
        return Check(name, state, f"others may write to {path}, and could put code there", fix)
    gigabytes = shutil.disk_usage(path).free / 2**30
    text = f"{path}, {gigabytes:.1f} GB free"
    return Check(name, OK, text) if gigabytes >= 1 else Check(name, BUT, text, f"free some space, or {fix}")


def _inductor_cache(name: str) -> Check:
    if problem := inductor_cache.problem():
        return Check(name, NOT_OK, problem.cause, problem.fix)
    return _folder(name, _inductor_folder, "TORCHINDUCTOR_CACHE_DIR", shared=BUT)


def _inductor_folder() -> Path:
    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or default_cache_dir())
    if not folder.exists() and folder.parent.is_dir():
        folder.mkdir(mode=0o700)  # Inductor would leave it to the umask who may write
    return folder


def _package(name: str, major: str = "", fix: str = INSTALL, missing: str = NOT_OK) -> Check:
    """A package by its name, in its version `major` if that matters."""
    version = _version(name)
    if version is None:
        return Check(name, missing, "not installed", fix)
    if major and version.split(".")[0] != major:
        return Check(name, NOT_OK, f"{version}; the tutorial is made for {major}.x", fix)
    return Check(name, OK, version)


def _kernel(name: str) -> Check:
    here = f"this {'kernel' if 'ipykernel.kernelapp' in sys.modules else 'process'} runs {sys.executable}"
    spec = _in_jupyter("kernels", "python3/kernel.json")
    command = json.loads(spec.read_text())["argv"][0] if spec else "python"
    if command in ("python", "python3", f"python{_minor(platform.python_version())}"):
        return Check(name, OK, f"JupyterLab starts its own Python; {here}")  # jupyter_client puts it in place of these
    if _is_this_python(shutil.which(command)):
        return Check(name, OK, f"JupyterLab starts {command}; {here}")
    fix = f"`rm -r {spec and shlex.quote(str(spec.parent))}`, then `python -m ipykernel install --sys-prefix`."
    return Check(name, NOT_OK, f"JupyterLab starts {command}, and {here}", fix)


def _is_this_python(path: str | None) -> bool:
    """Whether it is a Python of this environment, where `python` and `python3` are links to each other."""
    if path is None:
        return False
    mine = Path(sys.executable)  # all environments may link to the same Python, so the folder counts too
    return Path(path).resolve() == mine.resolve() and Path(path).parent.resolve() == mine.parent.resolve()


def _widgets_in_lab(name: str) -> Check:
    file = _in_jupyter("labextensions", "@jupyter-widgets/jupyterlab-manager/package.json")
    fix = "`pip install --force-reinstall --no-deps 'jupyterlab_widgets==3.*'`, then reload the page."
    return Check(name, OK, str(file.parent)) if file else Check(name, NOT_OK, "no extension: they would be text", fix)


def _in_jupyter(kind: str, name: str) -> Path | None:
    """`name` in the first of Jupyter's folders of a `kind` that has it, as JupyterLab looks for it."""
    folders = importlib.import_module("jupyter_core.paths").jupyter_path(kind)  # all else is checked without it
    return next((path for folder in folders if (path := Path(folder, name)).is_file()), None)


def _computer(name: str) -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    threads = torch.get_num_threads()
    text = f"{cores} cores, {threads} threads of PyTorch, {gigabytes:.1f} GB of memory"
    if threads <= cores:
        return Check(name, OK, text)
    return Check(name, BUT, text, f"`export OMP_NUM_THREADS={cores}`; more threads than cores make latencies unsteady.")


def _chromium(name: str) -> Check:
    for command in (os.environ.get("CHROMIUM", ""), "chromium", "google-chrome"):
        if path := shutil.which(command):
            return Check(name, OK, path)
    fix = "for the browser tests, install it (`sudo apt install chromium`) or set CHROMIUM to its path."
    return Check(name, ABSENT, "none on the PATH", fix)


def _driver(name: str) -> Check:
    newest, needed = _driver_cuda(), torch.version.cuda
    if newest is None:
        return Check(name, ABSENT, "none (no libcuda)", f"to use a GPU, {GET_DRIVER}.")
    torch_build = f"torch {torch.__version__} is {f'built for CUDA {needed}' if needed else 'a CPU build'}"
    text = f"it runs CUDA up to {newest[0]}.{newest[1]}, and {torch_build}"
    if needed is None:
        return Check(name, UNNEEDED, text)
    if int(needed.split(".")[0]) <= newest[0]:  # CUDA's libraries run on every driver of the same first number
        return Check(name, OK, text)
    fix = (
        f"update the driver (Ubuntu: `sudo ubuntu-drivers install`), or install a torch for CUDA {newest[0]} with the "
        "command that the selector on pytorch.org shows."
    )
    return Check(name, NOT_OK, text, fix)


def _gpu(name: str) -> Check:
    reboot = "run `nvidia-smi`, then `sudo reboot`: an old driver may still be loaded."
    try:
        gpus = _gpus()
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return Check(name, NOT_OK, " ".join(str(error).split()), reboot)
    listed = "; ".join(gpus)
    if torch.cuda.is_available():
        return Check(name, OK, listed or "seen by torch, and there is no `nvidia-smi`")
    if not gpus:
        return Check(name, ABSENT, "none", f"for TensorRT, and Inductor on a GPU, {GET_DRIVER}, then `make lab`.")
    if torch.version.cuda is None:
        fix = "`make clean`, then `make lab`, which takes the build for CUDA where `nvidia-smi` finds a GPU."
        return Check(name, ABSENT, f"{listed}; torch {torch.__version__} is a CPU build and cannot use it", fix)
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return Check(
            name, ABSENT, f"{listed}; CUDA_VISIBLE_DEVICES hides it", "`unset CUDA_VISIBLE_DEVICES` to use it."
        )
    return Check(name, NOT_OK, f"{listed}; torch {torch.__version__} cannot use it", reboot)


def _fitting_tensorrt(name: str) -> Check:
    """Which flavours of TensorRT run on this machine's GPU, the first of them, and what to type to get one."""
    try:
        gpus = _gpus()
    except (RuntimeError, subprocess.TimeoutExpired):
        return Check(name, UNNEEDED, "unknown, because the GPU gives no answer")
    capability = re.search(r"compute capability (\d+)\.(\d+)", "".join(gpus[:1]))
    if capability is None:
        return Check(name, UNNEEDED, "none, without an NVIDIA GPU")
    major, minor = map(int, capability.groups())
    flavours = tensorrt.flavours_for((major, minor))
    if not install.has_wheels():
        flavours = tuple(flavour for flavour in flavours if flavour != "rtx")
    if not flavours:
        return Check(name, UNNEEDED, f"none runs on compute capability {major}.{minor}")
    names = " or ".join(tensorrt.NAMES[flavour] for flavour in flavours)
    text = f"{names}, on compute capability {major}.{minor}"
    installed = tensorrt.flavour()
    fix = " or ".join(f"{tensorrt.SWITCH[flavour]} for {tensorrt.NAMES[flavour]}" for flavour in flavours)
    if installed is None:
        return Check(name, ABSENT, f"{text}; not installed", f"{fix}.")
    text += f"; {tensorrt.NAMES[installed]} is installed"
    return Check(name, OK, text) if installed in flavours else Check(name, NOT_OK, text, f"{fix}.")


def _torch_tensorrt(name: str) -> Check:
    """Torch-TensorRT of the installed flavour, with a TensorRT and a torch that belong to it."""
    flavour, torch_minor = tensorrt.flavour(), install.torch_minor()
    if flavour is None:
        return Check(name, ABSENT, "not installed", f"for the backend tensorrt, {tensorrt.HOW_TO_GET_IT}.")
    if mixed := tensorrt.mixed_flavours():
        return Check(name, NOT_OK, mixed, f"{tensorrt.SWITCH['standard']} or {tensorrt.SWITCH['rtx']}, to have one.")
    package, library = (
        ("torch-tensorrt", "tensorrt") if flavour == "standard" else ("torch-tensorrt-rtx", "tensorrt-rtx")
    )
    installed, engine = _version(package), _version(library, f"{library}-cu13", f"{library}-cu12")
    text = f"{installed}, {library} {engine or 'missing'}, torch {torch.__version__}"
    if flavour == "rtx":
        text = f"{package} {text}"
    needed = tensorrt.TENSORRT[flavour].get(torch_minor, _minor(engine or ""))
    if (_minor(installed or ""), _minor(engine or "")) == (torch_minor, needed):
        return Check(name, OK, text)
    fix = (
        f"`pip install '{package}=={torch_minor}.*' '{library}=={needed}.*'`, which belong to torch {torch_minor}, or "
        f"`pip uninstall {package}` to do without."
    )
    return Check(name, NOT_OK, text, fix)


def _on_gpu(status: backends.Status) -> Check:
    """Whether a backend works on the GPU: tensorrt if its libraries load, inductor if Triton is here."""
    name = f"{status.name} on {status.device}"
    problem, fix = _problem_and_fix(status.reason)
    if status.works:
        return Check(name, OK, "works")
    if status.name == "openvino":
        return Check(name, UNNEEDED, "it is used for CPUs here")
    if status.name == "tensorrt" and (flavour := tensorrt.flavour()) is None:
        return Check(name, ABSENT, problem, fix)
    if status.name == "tensorrt" and "cannot be imported" in problem:
        file = f"requirements-tensorrt{'-rtx' if flavour == 'rtx' else ''}.txt"
        fix = f"`pip install --force-reinstall -r {file}`, without another TensorRT in LD_LIBRARY_PATH."
    return Check(name, NOT_OK, problem, fix or "`export CUDA_VISIBLE_DEVICES=`, to use the CPU instead.")


def _statuses() -> tuple[backends.Status, ...]:
    """The status of every backend; where that imports Torch-TensorRT, from a process that may crash and print."""
    if tensorrt.flavour() is None or not torch.cuda.is_available():
        return backends.statuses()
    ask = [sys.executable, "-c", STATUSES]
    done = subprocess.run(ask, capture_output=True, text=True, env=environment(), timeout=SECONDS)
    if done.returncode:
        raise RuntimeError(f"asking them ended with exit code {done.returncode} {done.stderr.strip()[-150:]}")
    return tuple(backends.Status(**status) for status in json.loads(done.stdout.splitlines()[-1]))


def _gpus() -> list[str]:
    """Name, compute capability and driver of every GPU that the driver has; none without ``nvidia-smi``."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS)
    if done.returncode and "No devices" not in done.stdout:
        raise RuntimeError(f"nvidia-smi says: {done.stdout} {done.stderr}")
    gpus = (line.split(", ") for line in done.stdout.splitlines() if line.count(", ") == 2)
    return [f"{name}, compute capability {capability}, driver {driver}" for name, capability, driver in gpus]


def _driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the NVIDIA driver runs, without starting CUDA; None if there is no driver."""
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return None
    return None if failed else (version.value // 1000, version.value % 1000 // 10)


def _version(*names: str) -> str | None:
    """Version of the first of these packages that is installed."""
    for name in names:
        for distribution in importlib.metadata.distributions(name=name):
            return distribution.version
    return None


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _problem_and_fix(sentence: str) -> tuple[str, str]:
    """The two halves of a sentence of this package that ends with what to do."""
    problem, *fix = re.split(r"; (?=install |set |run |on a Linux |use |build |`)", sentence.rstrip("."), maxsplit=1)
    return problem, "".join(f"{words}." for words in fix)


CHECKS: dict[str, Callable[[str], Check]] = {
    "Python": _python,
    "torch": _torch,
    "C++ compiler": _cpp_compiler,
    "openvino": _openvino,
    "auto on the CPU": _auto,
    "cache of the tutorial": partial(_folder, folder=cache_folder, variable="TUTORIAL_LIB_CACHE", shared=NOT_OK),
    "cache of Inductor": _inductor_cache,
    "jupyterlab": partial(_package, major="4"),
    "ipykernel": _package,
    "kernel python3": _kernel,
    "ipywidgets": partial(_package, major="8"),
    "jupyterlab_widgets": partial(_package, major="3"),
    "widgets in JupyterLab": _widgets_in_lab,
    "matplotlib": _package,
    "pandas": _package,
    "cores and memory": _computer,
    "engine builder": partial(_ready, look=install.located, missing=ABSENT),
    "nbval": partial(_package, fix="for `make test`, `pip install -c constraints.txt --group dev`.", missing=ABSENT),
    "Chromium": _chromium,
    "NVIDIA driver": _driver,
    "NVIDIA GPU": _gpu,
    "TensorRT for the GPU": _fitting_tensorrt,
    "torch-tensorrt": _torch_tensorrt,
}


def add_parser(commands: Any) -> None:
    """Add the command ``doctor`` to a parser's subcommands."""
    text = "what works on this machine, what does not, and how to fix it"
    parser = commands.add_parser("doctor", help=text, description=f"Says {text}. Exit code 1 if anything is NOT OK.")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="say too whether this plan runs on this card")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON")
    shape.add_argument("--class", dest="one_line", action="store_true", help="print one line, to look at many machines")
    parser.add_argument(
        "--measure", action="store_true", help="compare inductor and openvino on this CPU first, for what auto takes"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the report; the exit code is 0 unless something is NOT OK."""
    if args.measure:
        from tutorial_lib.cli.compare_backends import compare_backends  # needs pandas, which may be missing

        try:
            preference.remember(compare_backends())
        except (backends.BackendUnavailable, BuildError) as problem:
            return error(f"inductor and openvino cannot be compared here: {problem}", FAILED)
        except OSError as problem:
            return error(f"the result could not be kept ({system_reason(problem)}); {SET_CACHE}", FAILED)
    report = diagnose()
    if args.plan:
        report = replace(report, checks=(*report.checks, check_plan(args.plan)))
    if args.one_line:
        print(report.class_line(platform.node() or "this machine"))
    else:
        print(json.dumps(report.to_dict(), indent=2) if args.json else report)
    return 0 if report.ok else FAILED
