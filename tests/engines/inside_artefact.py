"""What the tests of saved programs run in the engines' process.

Every function takes and returns plain values, because they cross a process boundary.
"""

import pickle
from dataclasses import replace
from pathlib import Path
from unittest import mock

import inside_package as ours
import torch
from serialized import numbered_engines

from tutorial_lib import PATHS, Reference, ShapeError
from tutorial_lib.builds import saving

OPTIONS = {"hybrid": ours.SORT}


def build(path, name="seed", low=1):
    return PATHS[path](ours.case(name, (low, 4, 8)), backend="tensorrt", options=OPTIONS.get(name))


def agreement(program, case, sizes):
    reference, found = Reference(case), []
    for size in sizes:
        inputs = case.example(size, seed=1)
        found.append(reference.compare(program(*inputs), inputs).agrees)
    return found


def refusal(program, inputs):
    try:
        program(*inputs)
    except (ShapeError, AssertionError, RuntimeError) as error:
        return str(error).strip().splitlines()[0]
    return None


def saved_and_loaded(file, path, name, low):
    """What a program on disk becomes, and what is left of the one that was saved.

    Returns whether both agree at min, opt and max, the ranges and the engines of the loaded one, and what
    it says above max, with the guard in front and without.
    """
    with numbered_engines():
        program = build(path, name, low)
        saving.save(program, file)
        loaded, case, sizes = saving.load(file), program.case, (low, 4, 8)
        agrees = agreement(program, case, sizes) + agreement(loaded, case, sizes)
        above = case.example(9)
        said = refusal(loaded, above), refusal(loaded._program, above)
        return agrees, [str(dim) for dim in loaded.dims.values()], loaded.build.engines == program.build.engines, *said


def refused(file, change):
    """The sentence with which a program cannot be saved or loaded, while nothing is unpickled."""
    here = saving.Machine.here(torch.device("cpu"))
    cards = [replace(here, compute_capability=card) for card in ((9, 0), (8, 0))]
    with numbered_engines(), mock.patch.object(saving.Machine, "here", side_effect=cards):
        try:
            saving.save(build("jit" if change == "jit" else "export"), file)
            if change == "byte":
                content = bytearray(Path(file).read_bytes())
                content[len(content) // 2] ^= 1
                Path(file).write_bytes(content)
            with mock.patch.object(pickle, "loads", side_effect=AssertionError("unpickled")):
                saving.load(file)
        except saving.ArtefactError as error:
            return str(error)
