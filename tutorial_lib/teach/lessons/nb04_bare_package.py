"""Run as a process: build a bare AOTInductor package, and print what it answers to each request of notebook 4."""

import json
import os
import tempfile
from pathlib import Path

import torch

from tutorial_lib.builds.backends import inductor
from tutorial_lib.core import shapes
from tutorial_lib.paths import package
from tutorial_lib.teach.lessons.nb04 import CHECKS, CRASH, requests, send, small_case


def main() -> None:
    """Print a line of JSON for each request: setting, request, outcome, what was said."""
    torch.set_num_threads(1)  # a process with threads cannot fork safely
    case = small_case()
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        exported = torch.export.export(case.model, case.example(8), dynamic_shapes=shapes.export_dims(case.inputs))
        with inductor.patched(inductor.settings(case.device, {})):
            bare = package(exported, "inductor", case.device, str(Path(folder) / "bare.pt2"))
        for title, setting in CHECKS.items():
            os.environ["AOTI_RUNTIME_CHECK_INPUTS"] = setting
            for name, x in requests(case).items():
                if os.fork() == 0:
                    reply = send(bare, case, x)
                    print(json.dumps([title, name, reply.outcome, reply.says]), flush=True)
                    os._exit(0)
                if os.wait()[1]:
                    print(json.dumps([title, name, CRASH, "the process was ended"]), flush=True)


if __name__ == "__main__":
    main()
