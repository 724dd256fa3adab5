"""Loads programs where nothing is known of what they were made from: run with FOLDER as the only argument.

For every ``*.dynpt`` there, ``*.inputs.pt`` holds the inputs of some calls, and ``*.refused.pt`` those of one that
is out of range. Outputs go to ``*.outputs.pt``, and what was seen to ``answer.json``.
"""

import gc
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

import torch

from tutorial_lib.builds import saving
from tutorial_lib.core import models


def answer(file):
    inputs, refused = (torch.load(file.with_suffix(f".{name}.pt")) for name in ("inputs", "refused"))
    program = saving.load(file)
    file.unlink()  # needed no more
    torch.save([program(*each) for each in inputs], file.with_suffix(".outputs.pt"))
    try:
        program(*refused)
        said = None
    except ValueError as error:
        said = str(error)
    return {"repr": repr(program), "refused": said, "report": program.build.to_dict()}


def main(folder):
    for name, kind in list(vars(models).items()):
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module):
            delattr(models, name)
    assert importlib.util.find_spec("conftest") is None
    answers = {file.stem: answer(file) for file in sorted(folder.glob("*.dynpt"))}
    gc.collect()
    left = [name for name in os.listdir(tempfile.gettempdir()) if not name.startswith("torchinductor_")]
    (folder / "answer.json").write_text(json.dumps({"programs": answers, "left": left}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
