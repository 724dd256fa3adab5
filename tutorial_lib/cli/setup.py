"""Sets the tutorial up and opens it: ``python -m tutorial_lib setup``, what ``make lab`` runs too.

It runs before anything is installed, and on a Python that may be too old or too new, so it imports the standard
library alone. Everything lands in one virtual environment; a run that was interrupted is repeated whole.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Sequence  # noqa: UP035 (an old Python has to get as far as the sentence about its version)

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ((3, 11), (3, 12))
FREE_GB, FREE_GB_CUDA = 4.0, 12.0
"""Disk space that an installation takes, with PyTorch's CPU build and with the one that brings CUDA."""
CUDA = (
    "On Linux, pip takes the PyTorch that brings CUDA: several GB. For the small CPU build, stop here and set "
    "PIP_EXTRA_INDEX_URL to the address that pytorch.org shows for pip and CPU, or install uv, which needs no setting."
)
INDEXES = ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CONFIG_FILE")
TORCHES = ("2.13", "2.14")
"""What can be chosen, the default first; on Linux, 2.14's ordinary wheel brings CUDA."""
STANDARD = ("torch-tensorrt", "tensorrt", "tensorrt-cu13", "tensorrt-cu13-bindings", "tensorrt-cu13-libs")
RTX = ("torch-tensorrt-rtx", "tensorrt-rtx", *(f"tensorrt-rtx-cu13{part}" for part in ("", "-bindings", "-libs")))
FLAVOURS = {"standard": (STANDARD, "requirements-tensorrt.txt"), "rtx": (RTX, "requirements-tensorrt-rtx.txt")}
"""Both flavours own the module torch_tensorrt: their packages, and the file that names what is installed."""
BUILD_TOOLS = ("pip>=25.1", "hatchling>=1.27", "editables", "setuptools", "wheel")
LAB = (
    "--ip=127.0.0.1",
    "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb",
    "--ContentsManager.hide_globs=['*.json','*.png','recorded','diagrams','__pycache__']",
)
INTERRUPTED = 130

REASONS = (
    (
        r"No space left on device|Errno 28|not enough space|os error 28",
        f"the disk is full. Free about {FREE_GB:.0f} GB and run the same command again.",
    ),
    (
        r"407|ProxyError|[Pp]roxy [Aa]uthentication|proxy connect",
        "the proxy refused the connection. Set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT and run the command again.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate|SSLError",
        "the certificate of the package index is not trusted here. Set PIP_CERT (uv: SSL_CERT_FILE) to your "
        "organisation's certificate file and run the same command again.",
    ),
    (
        r"NewConnectionError|NameResolutionError|name resolution|Name or service|Connection (refused|reset)|timed out|"
        r"getaddrinfo|unreachable|dns error|error sending request|from versions: none",
        "the package index cannot be reached. Connect this machine and run the same command again, or set it up from a "
        "wheelhouse with `--offline FOLDER`.",
    ),
)
"""What installers write, and the sentence that a person can act on."""


class SetupError(Exception):
    """Why it cannot go on, as a sentence with what to do."""


@dataclass(frozen=True)
class Choices:
    """What is remembered from one run to the next: which TensorRT a GPU gets, whether engines are built, and torch."""

    tensorrt: str = "standard"
    engines: bool = True
    torch: str = TORCHES[0]


@dataclass(frozen=True)
class Machine:
    """What matters here of a machine."""

    has_gpu: bool  # as NVIDIA's driver sees it
    cards: tuple[str, ...]  # compute capabilities, such as "8.9"; empty where they are not known
    is_linux_x86: bool  # where TensorRT for RTX can build engines
    uv: str | None  # where uv is, which is used in place of pip

    @property
    def runs_rtx(self) -> bool:
        """Whether a card runs engines of TensorRT for RTX."""
        return self.is_linux_x86 and any(re.match(r"7\.5$|8\.|12\.", card) for card in self.cards)


def look() -> Machine:
    """What is known of the machine that this runs on."""
    cards = _lines("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")
    is_linux_x86 = (sys.platform, platform.machine()) == ("linux", "x86_64")
    return Machine(bool(_lines("nvidia-smi", "-L")), tuple(cards), is_linux_x86, shutil.which("uv"))


def _lines(*command: str) -> list[str]:
    """What a program prints; nothing where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [] if done.returncode else done.stdout.split("\n")[:-1]


def find_python() -> list[str] | None:
    """The command of a Python that the tutorial runs on: this one, or another on this machine."""
    if sys.version_info[:2] in PYTHONS:
        return [sys.executable]
    for major, minor in reversed(PYTHONS):
        for command in ([f"python{major}.{minor}"], ["py", f"-{major}.{minor}"]):
            if _lines(*command, "-c", "print()"):
                return command
    return None


class Environment:
    """The virtual environment at `folder`, which is made and filled: from the wheelhouse `offline`, if there is one."""

    def __init__(self, folder: Path, machine: Machine, offline: Path | None = None) -> None:
        self.folder = folder
        self.machine = replace(machine, uv=None) if offline else machine
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self._stamp = folder / ".ready"
        self._env = dict(os.environ)
        if offline:
            self._env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(offline.resolve())}
        if links := self._env.get("PIP_FIND_LINKS"):
            self._env.setdefault("UV_FIND_LINKS", links)
        if not machine.has_gpu and not self._env.get("UV_FIND_LINKS"):
            self._env.setdefault("UV_TORCH_BACKEND", "cpu")  # uv's small build; pip takes what the index has

    def remembered(self) -> Choices:
        """The choices of the last run that ended well."""
        return Choices(**self._read_stamp().get("choices", {}))

    def is_ready(self, choices: Choices) -> bool:
        """Whether this is what the last run that ended well left."""
        return self._read_stamp() == self._content(choices)

    def _read_stamp(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._stamp.read_text()))
        except (OSError, ValueError):
            return {}

    @staticmethod
    def _content(choices: Choices) -> dict[str, Any]:
        names = ("pyproject.toml", "constraints*.txt", "requirements-*.txt", "tutorial_lib/engines/requirements-*.txt")
        files = [file for name in names for file in sorted(ROOT.glob(name))]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        return {"choices": asdict(choices), "inputs": digest}

    def install(self, choices: Choices) -> None:
        """Install everything; what is there already stays."""
        machine = self.machine
        if choices.tensorrt == "rtx" and machine.has_gpu and not machine.runs_rtx:
            cards = " ".join(sorted(set(machine.cards))) or "unknown"
            raise SetupError(
                f"TensorRT for RTX does not run on compute capability {cards} ({platform.machine()}); use data-centre "
                "TensorRT there: `make lab TENSORRT=standard`, or `python -m tutorial_lib setup --tensorrt standard`."
            )
        self._create(choices)
        print(f"Installing PyTorch, JupyterLab and the rest into {self.folder}; this takes minutes.", flush=True)
        self._pip("install", *self._constraints(choices), "-e", ".", "--group", "dev")
        if machine.has_gpu:
            self._install_tensorrt(choices)
        if choices.engines and machine.is_linux_x86:
            self._run([self.python, "-m", "tutorial_lib.engines", "install", "--optional"])
        self._stamp.write_text(json.dumps(self._content(choices)))

    def _constraints(self, choices: Choices) -> tuple[str, str]:
        """The arguments that tell an installer the exact versions; those of another torch are put over the others."""
        if choices.torch == TORCHES[0]:
            return "-c", "constraints.txt"
        text = "".join((ROOT / name).read_text() for name in ("constraints.txt", f"constraints-{choices.torch}.txt"))
        pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, flags=re.MULTILINE))
        file = self.folder / "constraints.txt"
        file.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
        return "-c", str(file)

    def _create(self, choices: Choices) -> None:
        python = find_python()
        if python is None and not self.machine.uv:
            have = ".".join(map(str, sys.version_info[:2]))
            raise SetupError(
                f"this is Python {have}, and the tutorial needs 3.11 or 3.12: install Python 3.12, or uv, which brings "
                "its own, and run the same command again."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stamp.unlink(missing_ok=True)
        if not self.python.exists():
            self._check_space(choices)
        if self.machine.uv:  # which fetches a Python where none fits
            fitting = python[0] if python and len(python) == 1 else ".".join(map(str, PYTHONS[-1]))
            self._run([self.machine.uv, "venv", "--quiet", "--allow-existing", "--python", fitting, self.folder])
        elif python:
            self._run([*python, "-m", "venv", self.folder])
            self._pip("install", "--upgrade", "pip>=25.1")

    def _check_space(self, choices: Choices) -> None:
        has_small_build = choices.torch == TORCHES[0] and any(map(self._env.get, INDEXES))
        brings_cuda = sys.platform == "linux" and not self.machine.uv and not has_small_build
        if brings_cuda and not self.machine.has_gpu:
            print(CUDA, file=sys.stderr)
        needed = FREE_GB_CUDA if brings_cuda else FREE_GB
        free = shutil.disk_usage(self.folder).free / 1e9
        if free < needed:
            raise SetupError(
                f"{free:.1f} GB are free in {self.folder.parent.resolve()}, and the installation takes "
                f"{needed:.0f} GB: free some space first."
            )

    def _install_tensorrt(self, choices: Choices) -> None:
        """The flavour that was chosen; if it cannot be had, the other one where the card runs it, or none."""
        try:
            self._install_flavour(choices)
        except SetupError:
            if choices.tensorrt == "standard" and self.machine.runs_rtx:
                instead = "TensorRT for RTX, which runs here, comes instead."
                print(f"Data-centre TensorRT could not be installed; {instead}", file=sys.stderr)
                self._install_tensorrt(replace(choices, tensorrt="rtx"))
            else:
                without = "everything but the backend tensorrt works without it."
                print(f"warning: TensorRT could not be installed; {without}", file=sys.stderr)

    def _install_flavour(self, choices: Choices) -> None:
        """Where the other flavour is installed, both go first: its files may have overwritten this one's."""
        other = next(packages for name, (packages, _) in FLAVOURS.items() if name != choices.tensorrt)
        module = other[0].replace("-", "_")
        places = ("lib/python3*/site-packages", "Lib/site-packages")  # the second one is Windows'
        if any(file for place in places for file in self.folder.glob(f"{place}/{module}-*.dist-info")):
            self._pip(
                "uninstall", *([] if self.machine.uv else ["--yes"]), "torch-tensorrt", "torch-tensorrt-rtx", *other[1:]
            )
        packages, requirements = FLAVOURS[choices.tensorrt]
        if choices.torch == TORCHES[0]:
            self._pip("install", "-r", requirements)  # which name constraints.txt
        else:
            self._pip("install", *self._constraints(choices), *packages[:2])

    def fill_wheelhouse(self, wheelhouse: Path) -> None:
        """Put everything that :meth:`install` needs into a folder, for machines without a network."""
        wheelhouse.mkdir(parents=True, exist_ok=True)
        self._pip("install", "pip>=25.1")  # an environment that uv made has none
        wheel = [self.python, "-m", "pip", "wheel", "--quiet", "--wheel-dir", wheelhouse.resolve()]
        self._run([*wheel, *self._constraints(self.remembered()), *BUILD_TOOLS, ".", "--group", "dev"])
        for project in wheelhouse.glob("tutorial_lib-*.whl"):
            project.unlink()  # it comes from its own folder
        if self.machine.is_linux_x86 and self.remembered().engines:
            question = "from tutorial_lib.engines.install import requirements; print(requirements())"
            for file in _lines(str(self.python), "-c", question):
                self._run([*wheel, "--no-deps", "-r", file])

    def install_group(self, group: str) -> None:
        """Install a further dependency group of the project."""
        self._pip("install", *self._constraints(self.remembered()), "--group", group)

    def lab(self, arguments: Sequence[str], for_students: bool = False, fresh: bool = False) -> int:
        """Open JupyterLab in a copy of the course, on loopback and with a token; returns its exit code.

        It is a copy so that running the course changes no file of the checkout. What one worked in stays, unless the
        copy is to be `fresh`.
        """
        course = ROOT / "build" / ("student" if for_students else "course")
        choices = [*(["--student"] if for_students else []), *(["--fresh"] if fresh else [])]
        self._run([self.python, "tools/course.py", course, *choices])
        command = [self.python, "-m", "jupyterlab", f"--notebook-dir={course}", *LAB, *arguments]
        before = signal.signal(signal.SIGINT, lambda *_: None)  # Control + C is for JupyterLab, which asks back
        try:
            return subprocess.call(list(map(str, command)), cwd=ROOT)
        finally:
            signal.signal(signal.SIGINT, before)

    def _pip(self, verb: str, *arguments: str) -> None:
        if self.machine.uv:
            self._run([self.machine.uv, "pip", verb, "--quiet", "--python", self.python, *arguments])
        else:
            self._run([self.python, "-m", "pip", verb, "--quiet", *arguments])

    def _run(self, command: Sequence[object]) -> None:
        """Run a command of an installer; one that fails is a :class:`SetupError` with what to do."""
        try:
            done = subprocess.run(list(map(str, command)), cwd=ROOT, env=self._env, stderr=subprocess.PIPE, text=True)
        except OSError as error:
            raise SetupError(f"{command[0]} cannot be run ({error.strerror}).") from None
        if done.stderr.strip():
            print(done.stderr.rstrip(), file=sys.stderr)
        if done.returncode:
            raise SetupError(f"the installation stopped: {explain(done.stderr)}")


def explain(text: str) -> str:
    """What an installer's last words mean, and what to do."""
    for pattern, sentence in REASONS:
        if re.search(pattern, text):
            return sentence
    return "its own message is above. Once that is repaired, run the same command again."


def add_parser(commands: Any) -> None:
    """Add the command ``setup`` to a parser's subcommands, for ``--help``."""
    commands.add_parser("setup", help="install everything into .venv and open JupyterLab", add_help=False)


def main(arguments: Sequence[str]) -> int:
    """Set the tutorial up, then open JupyterLab; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m tutorial_lib setup", description="Install everything and open JupyterLab."
    )
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="the environment's folder")
    parser.add_argument("--tensorrt", metavar="FLAVOUR", help="for a GPU: standard or rtx; remembered")
    parser.add_argument("--engines", choices=("0", "1"), help="0 leaves TensorRT's engine builder out; remembered")
    parser.add_argument("--torch", metavar="VERSION", help=f"{' or '.join(TORCHES)}; remembered")
    parser.add_argument("--offline", type=Path, metavar="FOLDER", help="take everything from this wheelhouse")
    parser.add_argument(
        "--wheelhouse", type=Path, metavar="FOLDER", help="fill a wheelhouse for other machines, then end"
    )
    parser.add_argument("--group", help="install this dependency group too, such as docs, then end")
    parser.add_argument(
        "--with", dest="installer", choices=("pip", "uv"), help="by default uv if it is there, else pip"
    )
    parser.add_argument("--student", action="store_true", help="open the course without outputs and solutions")
    parser.add_argument("--fresh", action="store_true", help="write notebooks anew that were worked in")
    parser.add_argument("--no-lab", action="store_true", help="only install")
    parser.add_argument("lab", nargs="*", metavar="LAB", help="after --, options for JupyterLab, such as --port=9000")
    args = parser.parse_args(arguments)
    try:
        return _setup(args)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on.", file=sys.stderr)
        return INTERRUPTED


def _setup(args: argparse.Namespace) -> int:
    if args.tensorrt not in (None, *FLAVOURS):
        raise SetupError(f"TENSORRT is {args.tensorrt!r}; use standard or rtx.")
    if args.torch not in (None, *TORCHES):
        raise SetupError(f"TORCH is {args.torch!r}; use {' or '.join(TORCHES)}.")
    if args.offline and not args.offline.is_dir():
        raise SetupError(
            f"there is no folder {args.offline}: fill it with `make wheelhouse` on a machine with a network."
        )
    machine = look()
    if args.installer == "uv" and not machine.uv:
        raise SetupError("uv is not installed here: leave out `--with uv`, and pip is used.")
    if args.installer == "pip":
        machine = replace(machine, uv=None)
    environment = Environment(args.venv.absolute(), machine, args.offline)
    typed = {"tensorrt": args.tensorrt, "torch": args.torch}
    if args.engines:
        typed["engines"] = args.engines == "1"
    choices = replace(environment.remembered(), **{name: value for name, value in typed.items() if value is not None})
    if not environment.is_ready(choices):
        environment.install(choices)
    if args.group:
        environment.install_group(args.group)
        return 0
    if args.wheelhouse:
        environment.fill_wheelhouse(args.wheelhouse)
        print(f"{args.wheelhouse} is filled: on a machine without a network, `make lab OFFLINE={args.wheelhouse}`.")
        return 0
    return 0 if args.no_lab else environment.lab(args.lab, args.student, args.fresh)
