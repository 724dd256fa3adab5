import copy
import json
import math
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import script_grid
import torch
from torch import nn

from tutorial_lib import (
    PATHS,
    Case,
    DynamicDim,
    TensorSpec,
    expand_reshape,
    perceptron,
    status,
    text_encoder,
    vit,
    vit_any_size,
)
from tutorial_lib.builds.backends import OptionError
from tutorial_lib.builds.backends.cpp_compiler import compiler
from tutorial_lib.core.precision import PrecisionError
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.experiments import setting as settings
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure import latency
from tutorial_lib.measure.sweep import sweep
from tutorial_lib.upstream.exported_script import script

CONFIG = Path(__file__).parents[2] / "pyproject.toml"
SCALE = 0.5


def halved(x):
    """A function that the model below needs."""
    return x * SCALE / math.sqrt(1)


class Embedded(nn.Module):
    """What the model below holds."""

    def __init__(self):
        super().__init__()
        self.linear, self.dropout = nn.Linear(16, 24), nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(halved(self.linear(x)))


class TwoInputs(nn.Module):
    """Two inputs, one of them of integers, that share two dynamic dimensions; two outputs, one of them of integers."""

    def __init__(self):
        super().__init__()
        self.embedded = Embedded()

    def forward(self, x, mask):
        if x.dim() != 3:
            raise ShapeError("x has three dimensions.")
        return {"masked": self.embedded(x) * mask.unsqueeze(-1), "mask": mask + 1}


def first_model(**changes):
    return expand_reshape(batch=(1, 4, 8), embed_dim=48, tokens=7, **changes)


def small_vit():
    return vit(batch=(1, 2, 4), image=32, embed_dim=12, depth=1, classes=5)


def small_perceptron():
    return perceptron(tokens=(2, 8, 64), width=16)


def small_text_encoder():
    return text_encoder((1, 2, 4), (2, 5, 16), vocabulary=50, positions=16, embed_dim=24, depth=1, heads=2)


def small_vit_any_size():
    return vit_any_size((1, 2, 3), (32, 64, 96), grid=4, embed_dim=24, depth=1, heads=2)


class PastAndNext(nn.Module):
    """Scores for past entries and one more, as a cache of keys has."""

    def forward(self, keys, mask):
        return torch.nn.functional.pad(keys.sum(-1), (1, 0)) + mask


def past_and_next():
    past = DynamicDim("past", 1, 2, 4)
    inputs = (TensorSpec("keys", (past, 8)), TensorSpec("mask", (past + 1,)))
    return Case("past and next", PastAndNext(), inputs, recipe="PastAndNext()")


def two_inputs():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TwoInputs()
    batch, length = DynamicDim("batch", 1, 2, 4), DynamicDim("length", 2, 5, 9)
    inputs = (TensorSpec("x", (batch, length, 16)), TensorSpec("mask", (batch, length), torch.int64))
    return Case("two inputs", model, inputs, recipe="TwoInputs()")


def setting(base, backend="eager", **choices):
    return Setting(base.name, tuple(base.dims.values()), backend, **{"samples": 1, **choices})


def written(base, backend="eager", **choices):
    return script(base, setting(base, backend, **choices))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(latency, "MIN_SECONDS", 0.002)


@pytest.fixture
def run(tmp_path):
    """``run(text)``: what a script says, and its rows, in a process that cannot import this package from here."""

    def run(text):
        assert "tutorial_lib" not in text
        file, rows = tmp_path / "exported.py", tmp_path / "rows.json"
        file.write_text(text)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [sys.executable, "-I", str(file), "--json", str(rows)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment | ({"CXX": compiler()} if "inductor" in text else {}),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads(rows.read_text())

    return run


@pytest.fixture
def loaded(tmp_path):
    """``loaded(text)``: the names that an imported script defines (of backend eager, which changes no settings)."""

    def load(text):
        file = tmp_path / "exported.py"
        file.write_text(text)
        with torch.no_grad():  # restores what the script switches off
            return runpy.run_path(str(file))

    return load


TUNED = (("freezing", False), ("max_autotune", True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "backend", "choices", "within"),
    [
        (two_inputs, "eager", {"sizes": (1, 3)}, 1e-9),
        (past_and_next, "eager", {"sizes": (1, 3)}, 1e-9),
        (small_text_encoder, "eager", {"sizes": (1, 4), "precision": "bf16"}, 1e-9),
        (small_perceptron, "inductor", {"sizes": (3,), "paths": ("export",), "options": TUNED}, 1e-3),
        (two_inputs, "openvino", {"sizes": (1, 3)}, 1e-3),
        (past_and_next, "openvino", {"sizes": (1, 3)}, 1e-3),
        (first_model, "openvino", {"sizes": (1, 8), "precision": "bf16"}, 1e-3),
    ],
)
def test_a_script_finds_the_numbers_of_the_studio(run, make, backend, choices, within):
    if not status(backend, "cpu").works:
        pytest.skip(status(backend, "cpu").reason)
    base = make()
    selected = setting(base, backend, **choices)
    case = selected.case(base)
    printed, rows = run(script(base, selected))

    paths = [path for path in selected.paths if (backend, path) != ("openvino", "jit")]
    programs = {path: PATHS[path](case, backend, dict(selected.options)) for path in paths}
    table = sweep(programs, selected.measured(case), min_samples=1, min_seconds=0).table
    for row, ours in zip(rows, table.to_dict("records"), strict=True):
        assert (row["path"], row["size"]) == (ours["path"], ours[next(iter(case.dims))])
        assert row["rms"] == pytest.approx(ours["rms"], rel=within)
        assert row["ratio"] == pytest.approx(ours["ratio"], rel=within)
        assert row["agrees"]
        assert row["median_ms"] > 0
        assert row["speedup"] > 0
    lines = printed.splitlines()
    assert lines[0] == f"{backend} on cpu, torch {torch.__version__}, {selected.precision}"
    assert len(lines) == 2 + len(rows) + 1
    assert lines[-1] == "All paths agree with float64."


class ConvolutionAndGru(nn.Module):
    """Just in time, torch narrows the range of the one (a kernel for each size) and leaves the other to Python."""

    def __init__(self):
        super().__init__()
        self.mix, self.recur = nn.Conv1d(3, 4, 3), nn.GRU(4, 4, batch_first=True)

    def forward(self, x):
        return self.recur(self.mix(x).mT)[0]


@pytest.mark.slow
def test_a_script_compiles_convolutions_and_recurrent_layers_as_the_studio_does(run):
    inputs = (TensorSpec("x", (DynamicDim("batch", 1, 4, 32), 3, 8)),)
    base = Case("both", ConvolutionAndGru(), inputs, recipe="ConvolutionAndGru()")
    text = written(base, paths=("jit",), sizes=(1, 20, 32))
    counted = "    counted = torch._dynamo.utils.counters\n    assert counted['stats']['unique_graphs'] == 2, counted\n"
    last = "    return 1 if wrong else 0\n"
    assert last in text
    run(text.replace(last, counted + last))
    assert "allow_rnn" not in written(small_perceptron())


def test_jit_marks_the_range_and_calls_at_opt_and_at_1():
    text = written(first_model(), paths=("jit",))
    first, second = "    program(*inputs)\n", "    program(*example(batch=1))\n"
    mark = "torch._dynamo.mark_dynamic(inputs[0], 0, min=2, max=8, hint_override=4)\n"
    assert f"inputs = example(batch=4)\n    {mark}{first}{second}    return program" in text


def test_jit_compiles_each_combination_of_ones():
    dims = tuple(DynamicDim(name, 1, 2, 3) for name in "abcd")
    text = written(Case("four", nn.Identity(), (TensorSpec("input", dims),), recipe="nn.Identity()"))
    assert text.count("example(a=") == 16 + 2 + 1
    assert "recompile_limit = 16" in text
    assert "SIZES = (1, 2, 3)" in text
    assert "example(a=size, b=2, c=2, d=2)" in text


def test_settings_are_the_resolved_ones_without_paths_of_this_machine(inductor, monkeypatch):
    monkeypatch.setattr("tutorial_lib.builds.backends.inductor.packing_gain", lambda threads: 2.0)
    text = written(first_model(), inductor)
    assert "torch._inductor.config.freezing = True\n" in text
    assert 'torch._inductor.config.aot_inductor.compile_wrapper_opt_level = "O0"\n' in text
    for private in (compiler(), "cxx", str(Path.home()), sys.prefix, str(CONFIG.parent)):
        assert private not in text
    assert "cache_key_tag = str(RANGES)" in text
    assert "aot_inductor" not in written(first_model(), inductor, paths=("jit",))


@pytest.mark.parametrize("make", [small_text_encoder, two_inputs, past_and_next])
def test_a_script_has_the_same_inputs(loaded, make):
    base = make()
    sizes = {name: dim.max for name, dim in base.dims.items()}
    inputs = loaded(written(base))["example"](**sizes)
    for given, ours in zip(inputs, base.example(sizes), strict=True):
        assert torch.equal(given, ours)


def test_a_script_computes_sizes_that_follow_from_others(loaded):
    text = written(past_and_next())
    assert '{"keys": {0: past}, "mask": {0: past + 1}}' in text
    names = loaded(text)
    keys, mask = names["example"](past=3)
    assert names["check"](keys, mask) == (keys, mask)
    with pytest.raises(ValueError, match=r"past \+ 1 is 3, and has to be 4"):
        names["check"](keys, mask[:3])


def test_examples_of_ones_own_are_left_to_the_reader(loaded):
    base = replace(first_model(), examples=lambda sizes: (torch.ones(sizes["batch"], 7, 48),))
    with pytest.raises(SystemExit, match="does not know your examples"):
        loaded(written(base))["example"](batch=2)


def test_a_script_exports_steps_and_refuses_what_is_none(loaded):
    text = written(small_vit_any_size())
    assert 'height_ = torch.export.Dim("height_", min=2, max=6)' in text
    assert '{"images": {0: batch, 2: 16 * height_, 3: 16 * width_}}' in text
    with pytest.raises(ValueError, match="images has size 72 in dim 3; the programs take multiples of 16"):
        loaded(text)["check"](torch.zeros(1, 3, 64, 72))


@pytest.fixture
def gpu(monkeypatch):
    """Scripts for a GPU that is not here."""
    monkeypatch.setattr(Case, "device", property(lambda case: torch.device("cuda", 0)))
    monkeypatch.setattr(Setting, "settled", lambda setting, base: setting)
    monkeypatch.setattr("tutorial_lib.core.precision.why_not", lambda name, device: None)
    monkeypatch.setattr("tutorial_lib.builds.backends.tensorrt.option_names", frozenset)
    monkeypatch.setattr("tutorial_lib.builds.backends.tensorrt.shared_dims", lambda spec: {})
    monkeypatch.setattr(
        "tutorial_lib.builds.backends.tensorrt.settings",
        lambda options: {"disable_tf32": not torch.backends.cuda.matmul.allow_tf32},
    )


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True), ("fp16", False)])
def test_on_a_gpu_a_script_sets_tf32_and_times_with_events(gpu, precision, allowed):
    text = written(first_model(), "inductor", precision=precision)
    assert f"torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = {allowed}\n" in text
    assert f'DEVICE, DTYPE = "cuda", torch.{"float16" if precision == "fp16" else "float32"}\n' in text
    assert "torch.cuda.Event" in text
    assert "timeit" not in text
    assert "freezing" not in text
    assert f'"disable_tf32": {not allowed}' in written(first_model(), "tensorrt", precision=precision)


def ruff(folder, *command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--config", str(CONFIG), str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_scripts_are_formatted_and_clean(tmp_path, device, request, monkeypatch):
    pytest.importorskip("ruff")
    if device == "gpu":
        request.getfixturevalue("gpu")
    monkeypatch.setattr(Setting, "settled", lambda setting, base: setting)
    last = "tensorrt" if device == "gpu" else "openvino"
    backends = [name for name in ("eager", "inductor", last) if name != "openvino" or status(name, "cpu").works]
    long = {"a" * 30: "b" * 40, 'quo"te': [1.5] * 30, "set": {"x"}, "none": None}
    for make in (first_model, small_vit, small_perceptron, two_inputs):
        base = make()
        for backend in backends:
            for paths in (("jit",), ("input",), ("export",), tuple(PATHS)):
                if (backend, paths) == ("openvino", ("jit",)):
                    continue
                options = (("post_grad_fusion_options", long),) if backend == "inductor" else ()
                sizes = tuple(range(1, 65)) if paths == ("jit",) and make is small_perceptron else ()
                text = written(base, backend, paths=paths, options=options, sizes=sizes)
                Path(tmp_path, f"{make.__name__}_{backend}_{len(list(tmp_path.iterdir()))}.py").write_text(text)
    ruff(tmp_path, "check", "--no-cache", "--ignore", "D")
    ruff(tmp_path, "format", "--no-cache", "--check")


@pytest.mark.parametrize("point", script_grid.GRID, ids=", ".join)
def test_scripts_are_what_they_were(point):
    """If they are to change, look at how they change, and write the digests again: see script_grid.py."""
    assert script_grid.digest(*point) == json.loads(script_grid.DIGESTS.read_text())[", ".join(point)]


def wrong_inputs():
    right = torch.zeros(2, 5, 16), torch.zeros(2, 5, dtype=torch.int64)
    return {
        "x has size 5 in dim 0; the programs take 1 to 4": (torch.zeros(5, 5, 16), right[1]),
        "x has size 1 in dim 1; the programs take 2 to 9": (torch.zeros(2, 1, 16), right[1]),
        "x has size 15 in dim 2; the programs take 16 to 16": (torch.zeros(2, 5, 15), right[1]),
        "batch is 3 on mask and 2 before it": (right[0], torch.zeros(3, 5, dtype=torch.int64)),
        "x has to be a contiguous torch.float32 of 3 dimensions on cpu": (right[0][0], right[1]),
        "mask has to be a contiguous torch.int64": (right[0], torch.zeros(2, 5)),
        "x has to be a contiguous": (torch.zeros(2, 16, 5).transpose(1, 2), right[1]),
        "is shorter than": right[:1],
    }


def test_a_script_refuses_what_its_programs_were_not_built_for(loaded):
    names = loaded(written(two_inputs()))
    right = names["example"](batch=4, length=9)
    assert names["check"](*right) == right
    for message, inputs in wrong_inputs().items():
        with pytest.raises(ValueError, match=message):
            names["checked"](None)(*inputs)


def test_a_script_ends_with_1_where_a_path_differs(loaded, capsys, monkeypatch):
    names = loaded(written(small_perceptron(), paths=("export",), sizes=(2, 64)))
    monkeypatch.setattr(sys, "argv", ["exported.py"])
    broken = names["export"]
    names["PATHS"]["export"] = lambda model: lambda x: broken(model)(x) * (1 + 1e-4 * (x.shape[0] > 2))
    with torch.no_grad():
        assert names["main"].__globals__["PATHS"] is names["PATHS"]
        assert names["main"]() == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[2:-1]] == ["yes", "yes", "yes", "NO"]
    assert lines[-1] == "1 of 4 results differ from float64."


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_numbers_that_are_not_finite_differ(loaded, wrong):
    names = loaded(written(small_perceptron()))
    exact = torch.ones(3, dtype=torch.float64)
    for outputs in ([exact + wrong, exact], [exact, exact + wrong]):
        assert not names["compare"](outputs, [exact, exact], [exact, exact])[2]


def test_a_model_of_the_readers_own_is_left_to_the_reader(loaded, monkeypatch, capsys):
    ours = small_perceptron()
    base = Case("mine", copy.deepcopy(ours.model), ours.inputs)
    text = written(base, paths=("export",), sizes=(2,))
    assert "class Perceptron" not in text
    names = loaded(text)
    with pytest.raises(SystemExit, match=r"return it there, with the weights that were compiled\.$"):
        names["make_model"]()
    monkeypatch.setitem(names["main"].__globals__, "make_model", lambda: base.model)
    monkeypatch.setattr(sys, "argv", ["exported.py"])
    with torch.no_grad():
        assert names["main"]() == 0


def test_what_a_model_needs_is_defined_before_it():
    text = written(two_inputs())
    order = ["import math\n", "SCALE = 0.5\n", "def halved(", "class Embedded(", "class TwoInputs(", "def make_model("]
    places = [text.index(piece) for piece in order]
    assert places == sorted(places)
    assert "ShapeError" not in text
    assert 'raise ValueError("x has three dimensions.")' in text
    vit_text = written(small_vit())
    assert vit_text.index("class Block(") < vit_text.index("class VisionTransformer(")


def test_what_cannot_be_written_down_is_said_in_a_sentence(inductor):
    model = type("Made", (nn.Identity,), {"__module__": __name__})()
    inputs = first_model().inputs
    for recipe, message in (
        ("Made()", "the source of Made cannot be read"),
        ("Mad()", "uses Mad, which is not to be found in test_exported_script"),
        ("Made(", "is not Python"),
        ("first_model(**CONFIG)", "cannot be written in a script"),
    ):
        with pytest.raises(ShapeError, match=message):
            written(Case("made", model, inputs, recipe=recipe))
    with pytest.raises(ShapeError, match="cannot be written in a script"):
        written(first_model(), inductor, options=(("cpp.threads", CONFIG),))


def test_a_setting_that_cannot_be_built_has_no_script():
    for choices, error in (
        ({"paths": ()}, ShapeError),
        ({"sizes": (9,)}, ShapeError),
        ({"precision": "fp8"}, PrecisionError),
        ({"options": settings.freeze({"freezing": True})}, OptionError),
    ):
        with pytest.raises(error):
            written(first_model(), **choices)


def test_jit_with_openvino_has_no_script(monkeypatch):
    monkeypatch.setattr(Setting, "settled", lambda setting, base: setting)
    with pytest.raises(ShapeError, match="cannot hold jit with openvino"):
        written(first_model(), "openvino", paths=("jit",))


@pytest.mark.parametrize("path", ["jit", "export"])
def test_a_script_for_a_backend_without_profiles_says_what_to_write_instead(path):
    base = first_model()
    several = replace(
        setting(base, paths=(path,)), profiles=base.with_profiles({"batch": (1, 2, 4)}, {"batch": (4, 8, 16)}).profiles
    )
    with pytest.raises(ShapeError, match="write one for each profile"):
        script(base, several)
