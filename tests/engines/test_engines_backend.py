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


def ranges(engine):
    return {i.name: tuple(zip(i.min, i.opt, i.max, strict=True)) for i in engine.data}


def test_every_option_and_the_defaults_of_this_package_reach_torch_tensorrt(run_inside, path):
    options = {"optimization_level": 2, "workspace_size": 1 << 20, "max_aux_streams": 1}
    defaults = {"min_block_size": 1, "pass_through_build_failures": True}
    assert run_inside(ours.settings, path, [*options, *defaults], options) == [{**options, **defaults}]


@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_is_as_pytorch_is_set(run_inside, path, allowed):
    (found,) = run_inside(ours.settings, path, ["disable_tf32"], None, allowed)
    assert found["disable_tf32"] is not allowed


def test_caches_are_private_and_belong_to_these_versions(run_inside, path):
    folder = os.path.dirname(run_inside(ours.build, path).options["engine_cache_dir"])
    assert os.path.basename(folder) == f"torch_tensorrt_rtx-{upstream.INSTALLED}-torch-{torch.__version__}"
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


def test_tensorrt_for_rtx_has_no_timing_cache(run_inside, path):
    options = run_inside(ours.build, path).options
    if upstream.MINOR < (2, 12):  # this one writes a file all the same: into the private folder
        assert os.path.dirname(options["timing_cache_path"]) == os.path.dirname(options["engine_cache_dir"])
    else:
        assert "timing_cache_path" not in options


def test_a_cache_folder_that_cannot_be_written_is_one_sentence(run_inside, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(inside.Upstream, match=r"^OSError: the cache folder .* cannot be written .*TUTORIAL_LIB_CACHE"):
        run_inside(ours.build_with_cache_in, str(tmp_path / "file"))


OTHERS = ["fallback_data_dependent_ops"] if upstream.MINOR < (2, 13) else ["enabled_precisions", "use_explicit_typing"]
"""Options of other versions: 2.13 removed some and added some."""


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("optimisation_level", "did you mean 'optimization_level'"),
        *((option, f"no option '{option}' in the installed version") for option in OTHERS),
    ],
)
def test_an_option_that_torch_tensorrt_would_ignore_is_refused_by_name(run_inside, path, option, words):
    with pytest.raises(OptionError, match=words):
        run_inside(ours.build, path, "seed", (1, 4, 32), {option: 1})


@pytest.mark.parametrize("option", ["optimisation_level", *OTHERS])
@pytest.mark.parametrize("how", ["jit", "ahead of time"])
def test_torch_tensorrt_ignores_it_without_a_word(run_inside, how, option):
    engines, warnings = run_inside(inside.upstream_engines, how, {"min_block_size": 1, option: 5})
    of_sizes = "Dynamic dimension"  # 2.14, ahead of time: torch.export recorded a min of 1 as 2
    assert (engines, [text for text in warnings if not text.startswith(of_sizes)]) == (1, [])


def test_a_failing_engine_build_is_an_error(run_inside, path):
    with pytest.raises(BuildError, match=f"{path} with tensorrt could not compile .* RuntimeError: no tactic found"):
        run_inside(ours.broken_engine_build, path)


def test_by_default_a_static_seed_stays_in_pytorch_ahead_of_time_with_a_warning(run_inside):
    engines, messages = run_inside(inside.upstream_engines, "ahead of time", {}, True)
    assert engines == 0
    assert any("3 supported operations" in m and "min_block_size was detected to be 5" in m for m in messages)


@pytest.mark.parametrize("path", AHEAD)
def test_a_build_without_engines_is_an_error(run_inside, path):
    with pytest.raises(BuildError, match=f"{path} with tensorrt built no engine: the model would run in PyTorch"):
        run_inside(ours.build, path, "seed", (4, 4, 4), {"min_block_size": 5})


def test_a_jit_graph_without_an_engine_is_an_error_even_beside_one_with(run_inside):
    # 8 operators with a dynamic batch, 7 with a batch of 1
    assert len(run_inside(ours.build, "jit", "seed", (2, 4, 32), {"min_block_size": 8}).engines) == 1
    with pytest.raises(
        BuildError, match=r"built no engine for x \[1, 7, 24\] float32: that graph would run in PyTorch"
    ):
        run_inside(ours.build, "jit", "seed", (1, 4, 32), {"min_block_size": 8})


@pytest.mark.parametrize("path", AHEAD)
def test_ahead_of_time_one_engine_serves_the_range(run_inside, path):
    build = run_inside(ours.build, path)
    assert [ranges(e) for e in build.engines] == [{"x": ((1, 4, 32), (7, 7, 7), (24, 24, 24))}]
    assert [i.kind for i in build.engines[0].inputs] == ["data"]
    assert build.engines[0].operators == 5
    assert build.left_to_pytorch == ()


def test_batch_one_builds_a_second_static_engine_on_jit(run_inside):
    build = run_inside(ours.build, "jit")
    assert [ranges(e)["x"][0] for e in build.engines] == [(1, 4, 32), (1, 1, 1)]
    assert [e.opt_source for e in build.engines] == ["the size of the first call", "its only size"]
    assert build.recompiles == 0


def test_on_jit_weights_and_the_batch_are_inputs_of_the_engine(run_inside):
    engine = run_inside(ours.build, "jit").engines[0]
    kinds = sorted(i.kind for i in engine.inputs)
    assert kinds == ["data", *["shape"] * upstream.SIZES_ARE_INPUTS, "weight", "weight", "weight"]
    assert engine.operators == (8 if upstream.SIZES_ARE_INPUTS else 10)


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


def test_two_inputs_share_two_dynamic_dimensions(run_inside, path):
    if path == "input" and not upstream.SHARED_DIMS:
        with pytest.raises(BuildError, match=r"Constraints violated|declared as two"):
            run_inside(ours.build, path, "masked", (2, 3, 6))
        return
    engine = run_inside(ours.build, path, "masked", (2, 3, 6)).engines[0]
    low = 2 if path == "input" and upstream.KEEPS_MIN_2 else 1
    assert ranges(engine) == {
        "x": ((low, 3, 6), (1, 5, 9), (16, 16, 16)),
        "mask": ((low, 3, 6), (1, 5, 9)),
    }


@pytest.mark.parametrize("name", ["seed", "vit"])
def test_output_is_as_exact_as_eager_at_both_ends_and_opt(run_inside, path, name):
    assert run_inside(ours.agreement, path, name, (1, 4, 8), (1, 4, 8)) == [True, True, True]


def test_the_guard_refuses_before_an_engine_sees_the_input(run_inside, path):
    words, reached, engines = run_inside(ours.refused_by_the_guard, path, 33)
    assert words.startswith("batch is 33 on x; this program was built for 2 to 32")
    assert (reached, engines) == (0, 1)


def test_a_recompile_is_counted_and_described(run_inside):
    before, build, right = run_inside(ours.calls_outside, "jit", 33, "recompile")
    assert right
    assert (before, len(build.engines), build.recompiles) == (1, 2, 1)
    late = build.engines[-1]
    assert late.after_build
    assert late.opt_source == "the size of the call that triggered it"
    assert ranges(late)["x"][0] == (1, 33, upstream.UNBOUNDED)


def test_outside_in_eager_builds_nothing(run_inside, path):
    before, build, right = run_inside(ours.calls_outside, path, 33, "eager")
    assert right
    assert len(build.engines) == before == 1


def test_operators_left_to_pytorch_are_named(run_inside, path):
    build = run_inside(ours.build, path, "hybrid", (2, 4, 32), ours.SORT)
    assert build.left_to_pytorch == ("aten.sort.default",)
    assert len(build.engines) == 2


@pytest.mark.parametrize("path", AHEAD)
def test_behind_a_graph_break_min_is_that_of_batch_2(run_inside, path):
    first, second = run_inside(ours.build, path, "hybrid", (2, 4, 32), ours.SORT).engines
    assert ranges(first)["x"][0] == (2 if path == "input" and upstream.KEEPS_MIN_2 else 1, 4, 32)
    (between,) = second.inputs
    assert (between.kind, between.min[0], between.opt[0], between.max[0]) == ("intermediate", 42, 84, 672)


@pytest.mark.parametrize("path", AHEAD)
def test_so_batch_1_is_refused_at_build_time_with_the_reason(run_inside, path):
    with pytest.raises(
        BuildError, match=r"cannot run at batch 1 .*cut into 2 engines, only the first accepts it.*min of 2"
    ):
        run_inside(ours.build, path, "hybrid", (1, 4, 32), ours.SORT)
