"""The exercises of notebook 8: what a cache finds again, a digest, a second export that keeps its range."""

import hashlib
from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch

from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import DynamicDim, TensorSpec, export_dims
from tutorial_lib.teach.checking import Feedback, NotYet, a_function, by_case, call, exercise
from tutorial_lib.teach.lessons.nb08 import served

CHANGES = ("nothing", "another opt", "another max", "one weight", "another name", "another seed")
FOUND_AGAIN = {"nothing", "another name"}
"""As ``tests/builds/test_package_cache.py`` has it."""


@exercise("08.found", hint="Code depends on ranges, opt, settings and weights. What is only shown in tables?")
def found_again(answer: Any) -> Feedback:
    """After which of `CHANGES` a package that was kept is found again."""
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        raise NotYet(f"give a set of names: {', '.join(CHANGES)}.")
    names = {str(name) for name in answer}
    if strange := sorted(names - set(CHANGES)):
        raise NotYet(f"{strange[0]!r} is none of the changes: {', '.join(CHANGES)}.")
    if wrong := sorted(names ^ FOUND_AGAIN):
        raise NotYet(f"'{wrong[0]}': the package is {'found again' if wrong[0] in FOUND_AGAIN else 'built anew'}.")
    return Feedback(True, "the name is only shown in tables; opt changes what the code is tuned for.")


@exercise("08.digest", hint="hashlib.sha256(content).hexdigest() is the digest of all bytes of the file.")
def trust_by_digest(answer: Any) -> Feedback:
    """A function ``trusted(content, digest)`` for a digest that came by another way than the file."""
    trusted = a_function(answer, "lambda content, digest: True")
    content = b"a program, as it was saved"
    digest = hashlib.sha256(content).hexdigest()
    files = {
        "as it was saved": (content, True),
        "one byte changed": (content.replace(b"saved", b"Saved"), False),
        "one byte more": (content + b" ", False),
        "empty": (b"", False),
        "with the digest inside": (content + digest.encode(), False),
    }
    rows, wrong = [], []
    for name, (file, right) in files.items():
        given = bool(call(trusted, file, digest, shown=f"your function, given the file '{name}',"))
        rows.append({"file": name, "to be trusted": right, "yours": given})
        if given != right:
            wrong.append(f"the file '{name}' is {'trusted' if given else 'not trusted'}.")
    right_words = "hand the digest to the server by another way than the file, such as its configuration."
    return by_case(pd.DataFrame(rows), wrong, right_words)


@exercise(
    "08.again", hint="Say dynamic_shapes a second time, with the same Dim: batch from 1 to 32 in dimension 0 of x."
)
def export_once_more(answer: Any) -> Feedback:
    """A function ``again(module, x)`` that exports a module once more and keeps 1 to 32."""
    again = a_function(answer, "lambda module, x: torch.export.export(module, (x,)).module()")
    spec = TensorSpec("x", (DynamicDim("batch", 1, 4, 32), 8))
    case = Case("linear", torch.nn.Linear(8, 2), (spec,))
    with torch.no_grad():
        dims = {"input": export_dims(case.inputs)["x"]}
        first = torch.export.export(case.model, case.example(4), dynamic_shapes=dims).module()
        second = call(again, first, *case.example(4), shown="your function")
        if isinstance(second, torch.export.ExportedProgram):
            second = second.module()
        if second is first:
            raise NotYet("that is the module that came in; export it once more.")
        if not callable(second):
            raise NotYet(f"your function returned {type(second).__name__}; return the module of the new program.")
        taken = served(second, case)
    if taken != [1, 4, 32]:
        raise NotYet(f"of batches 1, 4, 32 and 33, your program takes {', '.join(map(str, taken)) or 'none'}.")
    return Feedback(True, "the whole range survives: 1, 4 and 32 are taken, 33 is refused.")
