"""What the benchmarks' command lines take: what cannot be used ends with one sentence, before anything is measured."""

import argparse
from pathlib import Path

import torch

from tutorial_lib.builds import backends


def device(text: str) -> torch.device:
    """A device that is here; ``auto`` is the GPU if there is one."""
    try:
        return backends.as_device(text)
    except backends.BackendUnavailable as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def gpu(text: str) -> torch.device:
    """A GPU that is here."""
    found = device(text)
    if found.type != "cuda":
        raise argparse.ArgumentTypeError(f"this is about NVIDIA GPUs, and {text!r} is none.")
    return found


def file(text: str) -> Path:
    """A file, there already or to be made, in a folder that is there."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no file in a folder that exists; make the folder first.")
    return path
