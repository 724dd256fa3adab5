"""The tensorrt backend up to the engine build and after it, with stand-ins for the engines of TensorRT for RTX."""

import os
import stat
from types import SimpleNamespace

import inside
import inside_package as ours
import pytest
import torch
import upstream

from tutorial_lib import BuildError, EngineInput, OptionError
from tutorial_lib.builds.backends import tensorrt
from tutorial_lib.builds.job import forward_of_its_own

pytestmark = pytest.mark.slow

AHEAD = ("input", "export")


def test_every_option_and_the_defaults_of_this_package_reach_torch_tensorrt(run_inside, path):
    options = {"optimization_level": 2, "workspace_size": 1 << 20, "max_aux_streams": 1}
    defaults = {"min_block_size": 1, "pass_through_build_failures": True}
    assert run_inside(ours.settings, path, [*options, *defaults], options) == [{**options, **defaults}]


@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_is_as_pytorch_is_set(run_inside, path, allowed):
    (found,) = run_inside(ours.settings, path, ["disable_tf32"], None, allowed)
    assert found["disable_tf32"] is not allowed


def test_caches_are_private_and_belong_to_these_versions(run_inside, path):
    options = run_inside(ours.build, path).options
    folder = os.path.dirname(options["engine_cache_dir"])
    assert os.path.basename(folder) == f"torch_tensorrt_rtx-{upstream.INSTALLED}-torch-{torch.__version__}"
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    if upstream.MINOR < (2, 12):  # TensorRT for RTX has no timing cache, but this one writes a file all the same
        assert os.path.dirname(options["timing_cache_path"]) == folder
    else:
        assert "timing_cache_path" not in options


OTHERS = ["fallback_data_dependent_ops"] if upstream.MINOR < (2, 13) else ["enabled_precisions", "use_explicit_typing"]
"""Options of other versions: 2.13 removed some and added some."""


@pytest.mark.parametrize("option", ["optimisation_level", *OTHERS])
def test_an_option_that_torch_tensorrt_would_ignore_is_refused_by_name(run_inside, path, option):
    with pytest.raises(OptionError, match=option):
        run_inside(ours.build, path, "seed", (1, 4, 32), {option: 1})


@pytest.mark.parametrize("option", ["optimisation_level", *OTHERS])
@pytest.mark.parametrize("how", ["jit", "ahead of time"])
def test_torch_tensorrt_ignores_it_without_a_word(run_inside, how, option):
    engines, warnings = run_inside(inside.upstream_engines, how, {"min_block_size": 1, option: 5})
    of_sizes = "Dynamic dimension"  # 2.14, ahead of time: torch.export recorded a min of 1 as 2
    assert (engines, [text for text in warnings if not text.startswith(of_sizes)]) == (1, [])


@pytest.mark.parametrize("path", AHEAD)
def test_a_build_without_engines_is_an_error(run_inside, path):
    with pytest.raises(BuildError, match="built no engine: the model would run in PyTorch"):
        run_inside(ours.build, path, "seed", (4, 4, 4), {"min_block_size": 5})


def test_a_jit_graph_without_an_engine_is_an_error_even_beside_one_with(run_inside):
    # 8 operators with a dynamic batch, 7 with a batch of 1
    with pytest.raises(BuildError, match=r"no engine for x \[1, 7, 24\] float32: that graph would run in PyTorch"):
        run_inside(ours.build, "jit", "seed", (1, 4, 32), {"min_block_size": 8})


@pytest.mark.parametrize(("version", "place"), [("2.11.0", "arg0_1"), ("2.12.1", "arg1_1"), ("2.13.0", "arg1_1")])
def test_sizes_have_no_place_among_the_arguments_before_2_12(monkeypatch, version, place):
    monkeypatch.setattr(tensorrt, "upstream", lambda: SimpleNamespace(__version__=version))
    size = EngineInput("s77", "int64", (1,), (4,), (32,), "shape")
    x = EngineInput("x", "float32", (1, 3), (4, 3), (32, 3))
    assert tensorrt.graph_names([size, x])[place] == ("x", "data")


def test_the_program_the_engines_and_the_output_are_on_the_models_device(run_inside, path):
    assert run_inside(ours.devices, path) == {upstream.DEVICE}


def test_every_input_is_a_plain_argument_by_which_2_11_finds_its_sizes():
    sources = []

    def compile_graph(graph, _):
        sources.extend(node.meta["grapharg"].source for node in graph.graph.find_nodes(op="placeholder"))
        return graph

    case = ours.case("masked")
    torch.compile(forward_of_its_own(case), backend=compile_graph, dynamic=True)(*case.example())
    names = {getattr(getattr(source, "base", source), "local_name", None) for source in sources}
    assert {"input_0", "input_1"} <= names


def test_a_fixed_input_of_a_weights_shape_is_not_taken_for_a_weight(run_inside, path):
    engine = run_inside(ours.build, path, "square").engines[0]
    kinds = {i.name: i.kind for i in engine.inputs if i.kind in ("data", "weight")}
    assert (kinds["x"], kinds["y"]) == ("data", "data")
    assert list(kinds.values()).count("weight") == (1 if path == "jit" else 0)


def test_a_recompile_is_counted_and_described(run_inside):
    before, build, right = run_inside(ours.calls_outside, "jit", 33, "recompile")
    assert right
    assert (before, len(build.engines), build.recompiles) == (1, 2, 1)
    late = build.engines[-1]
    assert (late.after_build, late.opt_source) == (True, "the size of the call that triggered it")
    (x,) = late.data
    assert (x.min[0], x.opt[0], x.max[0]) == (1, 33, upstream.UNBOUNDED)


def test_outside_in_eager_builds_nothing(run_inside, path):
    before, build, right = run_inside(ours.calls_outside, path, 33, "eager")
    assert right
    assert len(build.engines) == before == 1
