"""The engines' own process: ``python -m tutorial_lib.engines.server``, started by :mod:`tutorial_lib.engines.worker`.

Its main thread works; another one reads requests, so that one can be cancelled, and ends the process when the
reader's process is gone. What libraries print goes to the standard error stream.
"""

import contextlib
import os
import pickle
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import cloudpickle

from tutorial_lib.builds.backends import BackendUnavailable, OptionError
from tutorial_lib.core.errors import sentence
from tutorial_lib.core.progress import Cancelled, Progress, listening
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines import frontend, tasks
from tutorial_lib.engines.builder import Builder, Request
from tutorial_lib.engines.errors import EngineProcessError, EnginesUnavailable, TargetError

TYPING_ERRORS = (EnginesUnavailable, OptionError, ShapeError, BackendUnavailable, TargetError)
"""Errors that reach the reader as they are."""

Answer = Callable[[bytes, Request], Any]
"""From a pickled task to its result."""


class Server:
    """Answers the requests that come as pickles in the file `requests`, one at a time, in the file `answers`."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests, self._answers = requests, answers
        self._waiting: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self._writing = threading.Lock()
        self._cancelled: set[int] = set()
        self._written: dict[str, int] = {}
        self._is_outdated()  # from now on, what is imported already is watched

    def serve(self, answer: Answer) -> None:
        """Answer until the reader's process is gone."""
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            number, payload = self._waiting.get()
            if self._is_outdated():
                self._send("answer", number, "outdated", None)
            else:
                kind, value = self._answer(answer, number, payload)
                self._is_outdated()  # from now on, what this request imported is watched, too
                self._send("answer", number, kind, value)

    def _read(self) -> None:
        with contextlib.suppress(Exception):
            while True:
                kind, number, payload = pickle.load(self._requests)
                if kind == "cancel":
                    self._cancelled.add(number)
                else:
                    self._waiting.put((number, payload))
        os._exit(0)  # whatever the main thread is doing, nobody waits for it

    def _answer(self, answer: Answer, number: int, payload: bytes) -> tuple[str, Any]:
        """The kind of an answer, ``value``, ``raise`` or ``cancelled``, and its value or error."""

        def send(progress: Progress) -> None:
            self._send("progress", number, progress)

        def is_cancelled() -> bool:
            return number in self._cancelled

        def tell(text: str) -> None:
            if is_cancelled():
                raise Cancelled
            send(Progress("tracing", 0, None, text))

        try:
            with listening(tell):
                return "value", answer(payload, Request(is_cancelled=is_cancelled, progress=send))
        except Cancelled:
            return "cancelled", None
        except TYPING_ERRORS as error:
            return "raise", error
        except OSError as error:  # of the cache folder, in a sentence
            return "raise", EnginesUnavailable(str(error))
        except Exception as error:
            return "raise", EngineProcessError(sentence(error))

    def _send(self, *message: Any) -> None:
        data = cloudpickle.dumps(message)
        with self._writing:
            self._answers.write(data)
            self._answers.flush()

    def _is_outdated(self) -> bool:
        """Whether a file of the reader's was changed since it was imported here."""
        for name, module in list(sys.modules.items()):
            written = _last_written(module)
            if written is not None and self._written.setdefault(name, written) != written:
                return True
        return False


def _last_written(module: ModuleType) -> int | None:
    """When a module's file was last written, in nanoseconds; None for libraries, which do not change."""
    file = getattr(module, "__file__", None)
    if not file or file.startswith((sys.prefix, sys.base_prefix)) or not file.endswith(".py"):
        return None
    try:
        return Path(file).stat().st_mtime_ns
    except OSError:
        return None


def main() -> None:
    """Load Torch-TensorRT, then serve; a failure to load is the answer to every request."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what the libraries print is no answer
        requests = sys.stdin.buffer
        installed = pickle.load(requests)
        try:
            frontend.load(installed)
            answer = tasks.Tasks(Builder()).answer
        except Exception as error:
            problem = EngineProcessError(f"the engines' process cannot load TensorRT: {sentence(error)}")

            def answer(payload: bytes, request: Request) -> Any:
                raise problem

        Server(requests, answers).serve(answer)


if __name__ == "__main__":
    main()
