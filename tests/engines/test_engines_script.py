"""Scripts of the studio for TensorRT, run where the front end thinks that it is there."""

import contextlib
import io
import sys
from dataclasses import replace
from unittest import mock

import inside
import inside_package as ours
import pytest
import torch
import upstream

from tutorial_lib import PATHS
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure import latency
from tutorial_lib.upstream.exported_script import script

pytestmark = pytest.mark.slow


def asked_for(found):
    """The range of every input of every engine that was asked for, and the settings."""
    ranges = [
        [f"{sorted(i.shape.items()) if isinstance(i.shape, dict) else i.shape}{several(i)}" for i in one]
        for one, *_ in found
    ]
    return ranges, [(one.min_block_size, one.pass_through_build_failures, one.disable_tf32) for _, one, _ in found]


def several(engine_input):
    return str(getattr(engine_input, "profiles", None) or "")


def exported(name, paths, several=()):
    """Run the script of a case, and this package's own paths after it.

    Returns the script, its exit code and output, and of both what was asked for.
    """
    base = ours.case(name, (1, 4, 8))
    with mock.patch.object(latency, "MIN_SECONDS", 0.002):
        setting = Setting(base.name, tuple(base.dims.values()), "tensorrt", paths=paths, sizes=(1, 4), samples=1)
        setting = replace(setting, profiles=base.with_profiles(*several).profiles)
        text = script(base, setting)
    names = {"__name__": "exported"}
    with (
        inside.requests() as by_script,
        contextlib.redirect_stdout(io.StringIO()) as printed,
        mock.patch.object(sys, "argv", ["exported.py"]),
    ):
        exec(compile(text, "exported.py", "exec"), names)
        if base.recipe is None:
            names["make_model"] = lambda: base.model
        try:
            code = names["main"]()
        finally:
            torch.compiler.set_stance("default")
    torch._dynamo.reset()
    with inside.requests() as by_paths:
        for path in paths:
            PATHS[path](setting.case(base), "tensorrt")
    return text, code, printed.getvalue(), asked_for(by_script), asked_for(by_paths)


@pytest.mark.parametrize("name", ["seed", "masked"])
def test_a_script_asks_for_the_same_engines_as_the_paths(run_inside, name):
    shared = name == "masked" and not upstream.SHARED_DIMS  # `input` is then refused
    paths = tuple(path for path in PATHS if not (shared and path == "input"))
    text, code, printed, by_script, by_paths = run_inside(exported, name, paths)
    assert code == 0
    assert by_script == by_paths
    if not shared:
        assert len(by_script[0]) == 1 + len(paths)  # jit has one more, for batch 1
    lines = printed.splitlines()
    assert lines[0].startswith("tensorrt on ")
    assert "torch_tensorrt 2." in lines[0]
    assert len(lines) == 2 + (1 + len(paths)) * 2 + 1
    assert lines[-1] == "All paths agree with float64."
    assert "import torch_tensorrt\n" in text
    assert '"min_block_size": 1' in text
    for not_here in ("tutorial_lib", "engine_cache_dir", "timing_cache_path", "_cache"):
        assert not_here not in text


@pytest.mark.skipif(upstream.MINOR < (2, 14), reason="Torch-TensorRT before 2.14 builds one profile")
def test_a_script_has_the_same_several_profiles_as_the_paths(run_inside):
    few, many = {"batch": (1, 2, 3)}, {"batch": (3, 4, 8)}
    text, code, _, by_script, by_paths = run_inside(exported, "seed", ("input", "export"), (few, many))
    assert (code, by_script) == (0, by_paths)
    assert all("'max_shape': (3," in ranges[0] and "'max_shape': (8," in ranges[0] for ranges in by_script[0])
    assert 'torch_tensorrt.runtime.optimization_profile(program, "auto")' in text
