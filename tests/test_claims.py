"""What the notebooks say of bare PyTorch, without this library in front."""

import subprocess
import sys

import pytest
import torch

from tutorial_lib import ExpandReshapeModel, status

BARE_PACKAGE = """
import sys, torch
from tutorial_lib import expand_reshape
from tutorial_lib.builds.backends import inductor
from tutorial_lib.core import shapes
from tutorial_lib.paths import package
from pathlib import Path

case = expand_reshape((1, 4, 8), embed_dim=48, tokens=64)
with torch.no_grad():
    exported = torch.export.export(case.model, case.example(), dynamic_shapes=shapes.export_dims(case.inputs))
    with inductor.patched(inductor.settings(case.device, {})):
        program = package(exported, "inductor", case.device, str(Path(sys.argv[1]) / "bare.pt2"))
    small = torch.randn(4, 32, 48)  # 32 tokens, and the program is built for 64
    try:
        out = program(small)
    except Exception as error:
        print("refused", error)
    else:
        print("ran", tuple(out.shape), tuple(case.model(small).shape))
"""


@pytest.mark.slow
@pytest.mark.skipif(not status("inductor", "cpu").works, reason=status("inductor", "cpu").reason)
def test_a_bare_package_accepts_a_tensor_that_is_too_small_and_returns_garbage(tmp_path):
    command = [sys.executable, "-c", BARE_PACKAGE, str(tmp_path)]  # a process of its own, which may not survive it
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "refused" not in done.stdout
    assert done.returncode < 0 or done.stdout.startswith("ran (4, 65, 3, 12, 4) (4, 33, 3, 12, 4)"), done.stderr


def test_bare_torch_compile_builds_another_engine_at_batch_one_and_above_the_range():
    built = []

    def noting(graph, inputs):
        built.append(graph)
        return graph.forward

    model = ExpandReshapeModel(48).eval()
    program = torch.compile(model, backend=noting)
    with torch.no_grad():
        example = torch.randn(4, 7, 48)
        torch._dynamo.mark_dynamic(example, 0, min=1, max=8)
        for batch, engines in ((4, 1), (2, 1), (8, 1), (1, 2), (9, 3)):
            program(example if batch == 4 else torch.randn(batch, 7, 48))
            assert len(built) == engines, f"batch {batch}"
