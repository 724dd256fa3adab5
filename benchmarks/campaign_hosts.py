"""A campaign over two hosts with Dask: a worker is slow, a worker is lost, the scheduler restarts, and nothing is lost.

    python benchmarks/campaign_hosts.py [--settings 8] [--json FILE]

As root on Linux, the hosts are two network namespaces that a pair of virtual Ethernet devices joins, with a host name
each; elsewhere they are the addresses 127.0.0.2 and 127.0.0.3. Each has a home and a folder for temporary files of its
own, and there is no shared folder. Printed are the settings that are lost or there twice, and who measured how many.
The time of a setting says nothing here: both hosts are one machine.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import options
from recording import keep

from tutorial_lib import DynamicDim
from tutorial_lib.experiments.campaign import run_all, table
from tutorial_lib.experiments.setting import Setting

PORT, SLOW, PATIENCE = 8786, 5.0, 180.0
"""The scheduler's port, seconds for which a worker stands still, and seconds that any step may take."""
LOST = 3
"""Exit code of a client whose scheduler went."""


def settings(count: int) -> list[Setting]:
    """Small settings, each another range."""
    ranges = [(DynamicDim("tokens", 1, 8 * (number + 1), 256),) for number in range(count)]
    return [Setting("perceptron", each, "eager", paths=("export",), sizes=(1, 64), samples=3) for each in ranges]


@dataclass
class Host:
    """Where processes run as on a machine of their own."""

    name: str
    address: str
    folder: Path
    prefix: tuple[str, ...] = ()
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a command here, in a process group of its own."""
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        own = {"HOME": str(self.folder), "TMPDIR": str(self.folder / "tmp"), "OMP_NUM_THREADS": "1"}
        caches = {
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor"),
        }
        imports = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*self.prefix, *command],
                env={**os.environ, **own, **caches, **imports},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def worker(self, scheduler: str) -> "subprocess.Popen[bytes]":
        """Start a Dask worker that does one thing at a time."""
        words = f"--nthreads 1 --no-nanny --no-dashboard --death-timeout {PATIENCE:g} --host {self.address}".split()
        return self.start(sys.executable, "-m", "dask", "worker", scheduler, "--name", self.name, *words)


def send(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Send a signal to a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextlib.contextmanager
def hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts, with what is left of them removed at the end."""
    ours, names = f"tl{os.getpid()}", ("host-a", "host-b")
    namespaces = [f"{ours}{letter}" for letter in "ab"]
    isolated = os.geteuid() == 0 and shutil.which("ip") and shutil.which("unshare") and _joined(ours, namespaces)
    if isolated:
        addresses = ["10.213.0.1", "10.213.0.2"]
        prefixes = [
            ("ip", "netns", "exec", space, "unshare", "--uts", "sh", "-c", f'hostname {name}; exec "$@"', "sh")
            for space, name in zip(namespaces, names, strict=True)
        ]
    else:
        addresses, prefixes = ["127.0.0.2", "127.0.0.3"], [(), ()]
    both = [Host(*each) for each in zip(names, addresses, (folder / name for name in names), prefixes, strict=True)]
    try:
        yield both[0], both[1]
    finally:
        for process in [process for host in both for process in host.processes]:
            send(process, signal.SIGKILL)
            process.wait()
        for space in namespaces if isolated else ():
            subprocess.run(["ip", "netns", "delete", space], check=False)


def _joined(ours: str, namespaces: list[str]) -> bool:
    """Make two network namespaces and join them; False where this system does not allow it."""
    first, second = namespaces
    commands = [
        f"ip netns add {first}",
        f"ip netns add {second}",
        f"ip link add {ours}0 netns {first} type veth peer name {ours}1 netns {second}",
    ]
    for space, device, address in ((first, f"{ours}0", "10.213.0.1/24"), (second, f"{ours}1", "10.213.0.2/24")):
        inside = f"ip -n {space}"
        commands += [
            f"{inside} addr add {address} dev {device}",
            f"{inside} link set {device} up",
            f"{inside} link set lo up",
        ]
    for command in commands:
        if subprocess.run(command.split(), check=False, capture_output=True).returncode:
            for space in namespaces:
                subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)
            return False
    return True


def client(scheduler: str, file: Path, count: int) -> None:
    """Run the campaign from here; ends with :data:`LOST` when the scheduler goes."""
    from distributed import Client

    try:
        with Client(scheduler, timeout=f"{PATIENCE:g}s") as dask:
            run_all(settings(count), file, dask.get_executor(), device="cpu", min_seconds=0.01)
    except Exception as error:
        print(f"ended early: {type(error).__name__}: {error}")
        os._exit(LOST)  # Dask goes on trying to reach it


def done(file: Path) -> int:
    """How many settings have a result."""
    return 0 if not file.exists() or table(file).empty else int(table(file)["setting"].nunique())


def until(reached: Any, what: str) -> None:
    """Wait for something, not for ever."""
    end = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > end:
            raise SystemExit(f"error: {what} did not happen within {PATIENCE:g} s")
        time.sleep(0.1)


def campaign(count: int) -> dict[str, Any]:
    """Run it with all that goes wrong; what the table then has."""
    with tempfile.TemporaryDirectory(prefix="tutorial_lib-") as folder, hosts(Path(folder)) as (first, second):
        file, scheduler = first.folder / "campaign.jsonl", f"tcp://{first.address}:{PORT}"

        def begin() -> list["subprocess.Popen[bytes]"]:
            words = f"--host {first.address} --port {PORT} --no-dashboard".split()
            of_scheduler = first.start(sys.executable, "-m", "dask", "scheduler", *words)
            workers = [first.worker(scheduler), second.worker(scheduler)]
            asking = first.start(
                sys.executable, __file__, "--client", scheduler, "--file", str(file), "--settings", str(count)
            )
            return [of_scheduler, *workers, asking]

        of_scheduler, _, lost, asking = begin()
        until(lambda: done(file) >= 1, "the first result")
        send(lost, signal.SIGSTOP)
        time.sleep(SLOW)
        send(lost, signal.SIGCONT)
        until(lambda: done(file) >= 2, "a result beside a slow worker")
        send(lost, signal.SIGKILL)
        replaced = second.worker(scheduler)
        until(lambda: done(file) >= 3, "a result after a worker was lost")
        workers = (replaced, first.processes[1])
        for worker in workers:  # so that the campaign does not end before the scheduler goes
            send(worker, signal.SIGSTOP)
        before = done(file)
        send(of_scheduler, signal.SIGKILL)
        until(lambda: asking.poll() is not None, "the end of the client without a scheduler")
        interrupted = asking.returncode == LOST
        for worker in workers:
            send(worker, signal.SIGKILL)
        kept = done(file)
        *_, asking = begin()
        until(lambda: asking.poll() is not None, "the end of the campaign")
        keys = [json.loads(line)["key"] for line in file.read_text().splitlines()[1:]] if file.exists() else []
        rows = table(file)
        return {
            "hosts": "two network namespaces" if first.prefix else "two addresses of the loopback device",
            "settings": count,
            "done before the scheduler went": before,
            "kept after that": kept,
            "the client said so": interrupted,
            "exit code of the second client": asking.returncode,
            "lost": count - len(set(keys)),
            "twice": len(keys) - len(set(keys)),
            "failed": [str(error) for error in rows["error"].dropna()],
            "measured by": rows.groupby("host")["setting"].nunique().to_dict(),
            "log": "" if asking.returncode == 0 else (first.folder / "log").read_text()[-2000:],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=8, help="how many (default: %(default)s)")
    parser.add_argument("--json", type=options.file, help="keep what was found in this file")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client:
        client(args.client, args.file, args.settings)
        return
    result = campaign(args.settings)
    keep(args.json, result)
    print("\n".join(f"{name}: {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
