"""Run as a process: load every saved program of a folder, and compare it with what its builder wrote down."""

import sys
from pathlib import Path

import torch

from tutorial_lib.builds import saving
from tutorial_lib.checks import agreement


def main(folder: Path) -> None:
    """Print what each file does here; this process has neither the model's class nor its weights."""
    for file in sorted(folder.glob("*.dynpt")):
        program = saving.load(file)
        print(program)
        for x, eager, double in torch.load(folder / "expected.pt"):
            print(f"  batch {len(x):2}: {agreement.compare(program(x), eager, double)}")
        try:
            program(x.new_zeros(33, 256))
        except ValueError as error:
            print(f"  batch 33: {error}")
    try:
        torch.load(folder / "whole_model.pt", weights_only=False)
    except AttributeError as error:
        print("whole_model.pt:", str(error).split(" on ")[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
