"""A setting is right by itself: what is typed comes back as it was typed, or as a sentence."""

import contextlib
import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorial_lib import MODELS, DynamicDim, ShapeError, status
from tutorial_lib.builds.backends import BACKENDS, BackendUnavailable, OptionError
from tutorial_lib.cli import commands
from tutorial_lib.core.precision import PrecisionError
from tutorial_lib.experiments.results_file import key
from tutorial_lib.experiments.setting import Setting, freeze, read_options, read_sizes, show_options
from tutorial_lib.studio import Studio

FIRST_SCHEMA_KEY = "b3846c0da678d4e4"
"""What `of()` had on a CPU, measured for 0.1 s, before settings could ask for engines."""


def of(**more):
    return Setting("expand-reshape", (DynamicDim("batch", 1, 4, 8),), **{"backend": "eager", **more})


def test_a_setting_says_all_that_tells_it_from_another():
    assert str(of()) == "expand-reshape 1 / 4 / 8, eager, fp32, jit input export"
    assert str(of(paths=("jit",), options=freeze({"b": 1, "a": True}))).endswith("fp32, jit, a=True, b=1")
    two = (*of().ranges, DynamicDim("length", 2, 5, 9))
    assert replace(of(), ranges=two).label == "batch 1 / 4 / 8, length 2 / 5 / 9", "named, since they are two"


def test_equal_settings_are_one_key():
    one, other = of(options=freeze({"b": 1, "a": 2})), of(options=freeze({"a": 2, "b": 1}))
    assert {one: 1}[other] == 1
    assert of(samples=5) != of()


# ---- options ----------------------------------------------------------------------------------------------------

NAMES = st.lists(st.sampled_from(["a", "b_1", "cpp", "max_autotune"]), min_size=1, max_size=3).map(".".join)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = PLAIN | st.tuples(PLAIN) | st.tuples(PLAIN, st.tuples(PLAIN))


@settings(max_examples=40)
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_options_are_read_as_they_are_shown(options):
    frozen = freeze(options)
    assert read_options(show_options(frozen)) == frozen
    assert dict(frozen) == options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("   ", ()),
        ("  max_autotune = True ,\n", (("max_autotune", True),)),
        ("max_autotune=True, cpp.threads=4", (("cpp.threads", 4), ("max_autotune", True))),
        ("a='x.y=1, z'", (("a", "x.y=1, z"),)),
        ("a=(1, 2), b=-1", (("a", (1, 2)), ("b", -1))),
    ],
)
def test_options_are_read_as_they_are_typed(text, expected):
    assert read_options(text) == expected


NO_OPTIONS = """max_autotune | True | a= | =1 | a=1 b=2 | a=b | a=f(1) | **{'a': 1} | **x | a=1, a=2 | a=1) or (b=2
a=__import__('os') | 'a'=1 | a.=1 | .a=1 | 1=2 | ) | a=1,,b=2 | a==1
a=nan | \0 | a=1.b | a.b | lambda=1 | a={[]: 1}"""


@pytest.mark.parametrize("text", [*NO_OPTIONS.replace("\n", " | ").split(" | "), "a=" + "-" * 99999, "(" * 9999])
def test_what_is_no_list_of_options_is_refused_with_an_example(text):
    with pytest.raises(OptionError, match="as in max_autotune=True"):
        read_options(text)


@given(st.text(max_size=20) | st.text(alphabet="a=1,.()[]{}'\" *:\\", max_size=12))
def test_whatever_is_typed_as_options_is_read_or_refused(text):
    with contextlib.suppress(OptionError):
        hash(read_options(text))


@pytest.mark.parametrize("text", ["a=[1]", "a=([1],)"])
def test_a_value_that_can_change_is_no_part_of_a_setting(text):
    with pytest.raises(OptionError, match="option a is"):
        read_options(text)


# ---- sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sizes"), [(" , ", ()), ("1, 4, 32", (1, 4, 32)), ("4 1;\t32\n3", (4, 1, 32, 3)), ("4,4, 4 ", (4,))]
)
def test_sizes_are_read_as_they_are_typed(text, sizes):
    assert read_sizes(text) == sizes


@pytest.mark.parametrize(
    ("text", "said"), [("1, x", "'1, x'"), ("1.5", "'1.5'"), ("1, -4", "is -4"), ("2147483648", "is 2147483648")]
)
def test_sizes_that_are_none_are_refused(text, said):
    with pytest.raises(ShapeError, match=said):
        read_sizes(text)


@given(st.text(max_size=20))
def test_whatever_is_typed_as_sizes_is_read_or_refused(text):
    with contextlib.suppress(ShapeError):
        assert all(size >= 1 for size in read_sizes(text))


# ---- the whole --------------------------------------------------------------------------------------------------

WRONG = [
    (of(paths=()), ShapeError, "no path"),
    (of(paths=("jit", "aot")), ShapeError, "'aot'"),
    (of(budget=math.nan), ShapeError, "seconds of measuring are nan"),
    (of(samples=0), ShapeError, "rounds of measuring is 0"),
    (of(samples=1.5), ShapeError, "rounds of measuring is 1.5"),
    (of(sizes=(1, 9)), ShapeError, "batch 9"),
    (replace(of(sizes=(1, 4)), ranges=(DynamicDim("batch", 2, 4, 8),)), ShapeError, "batch 1"),
    (replace(of(), ranges=(DynamicDim("length", 1, 4, 8),)), ShapeError, "'length'; it has batch"),
    (of(backend="aot"), BackendUnavailable, "'aot'"),
    (of(precision="fp64"), PrecisionError, "'fp64'"),
    (of(options=freeze({"freezing": True})), OptionError, "'freezing'"),
]


@pytest.mark.parametrize(("setting", "kind", "said"), WRONG, ids=[said for *_, said in WRONG])
def test_what_cannot_be_built_is_refused(setting, kind, said, seed):
    with pytest.raises(kind, match=said):
        setting.settled(seed)


def test_a_misspelt_option_of_inductor_comes_with_a_suggestion(seed, inductor):
    with pytest.raises(OptionError, match="did you mean 'max_autotune'"):
        of(backend=inductor, options=freeze({"max_autotun": True})).settled(seed)


def test_a_backend_and_a_precision_that_are_not_here_are_refused(seed):
    if seed.device.type != "cpu":
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendUnavailable, match="backend tensorrt: "):
        of(backend="tensorrt").settled(seed)
    with pytest.raises(PrecisionError, match="precision tf32: "):
        of(precision="tf32").settled(seed)


def test_a_case_without_dynamic_dimension_has_nothing_to_sweep_over(seed):
    with pytest.raises(ShapeError, match="no dynamic dimension to sweep over"):
        Setting("fixed", (), "eager").settled(replace(seed, inputs=(replace(seed.inputs[0], shape=(4, 7, 48)),)))


def test_auto_is_checked_as_the_backend_it_comes_to(seed):
    assert of(backend="eager").settled(seed).backend == "eager"
    expected = next(name for name in BACKENDS if status(name, seed.device).works)
    assert of(backend="auto").settled(seed).backend == expected


def test_the_case_of_a_setting_has_its_ranges_and_precision(seed):
    case = replace(of(precision="bf16"), ranges=(DynamicDim("batch", 2, 3, 5),)).case(seed)
    assert [str(dim) for dim in case.dims.values()] == ["batch 2/3/5"]
    assert case.precision == "bf16"


# ---- one experiment, one identity -------------------------------------------------------------------------------


def recorded(model):
    """The setting that `record` makes."""
    words = ["record", "--out", "x.json", "--models", model, "--backends", "eager", "--precision", "fp32"]
    (setting,), *_ = commands._record_settings(
        commands._parser().parse_args([*words, "--samples", "3"]), torch.device("cpu")
    )
    return setting


def compared(model, case):
    """The setting that `compare` makes."""
    words = ["compare", "--model", model, "--backend", "eager", "--min-samples", "3"]
    return commands._compare_setting(commands._parser().parse_args(words), case)


@pytest.fixture(params=["vit-any-size", "text-encoder"])
def asked(request):
    """A case, and what the studio, `record` and `compare` ask for when nothing but eager is chosen."""
    case, studio = MODELS[request.param](), Studio(device="cpu")
    studio.set(model=request.param, backend="eager", budget=0, engines=False)
    yield case, [studio.setting, recorded(request.param), compared(request.param, case)]
    studio.close()


def test_the_studio_and_the_command_line_ask_for_one_experiment_with_the_steps_and_limits_of_the_model(asked):
    case, settings = asked
    for setting in settings:
        assert setting.ranges == tuple(case.dims.values())
        assert setting.case(case).inputs == case.inputs
    assert len({setting.settled(case) for setting in settings}) == 1
    assert len({key(setting.settled(case)) for setting in settings}) == 1
    assert settings[0] == settings[0].settled(case), "the studio's is settled"


def test_a_limit_that_is_not_typed_makes_no_other_experiment():
    case = MODELS["text-encoder"]()
    whole = Setting("text-encoder", tuple(case.dims.values()), "eager")
    bare = replace(whole, ranges=tuple(replace(dim, limit=None) for dim in whole.ranges))
    assert bare.settled(case) == whole.settled(case)
    assert key(bare) == key(whole)


def test_a_range_in_smaller_steps_than_the_model_s_is_refused_and_larger_ones_are_kept():
    case = MODELS["vit-any-size"]()
    batch, height, width = case.dims.values()
    single = Setting("vit-any-size", (batch, replace(height, step=1), width), "eager")
    with pytest.raises(ShapeError, match="multiples of 16"):
        single.settled(case)
    double = Setting("vit-any-size", (batch, DynamicDim("height", 96, 224, 320, step=32), width), "eager")
    assert double.settled(case).ranges[1].step == double.case(case).dims["height"].step == 32


@pytest.mark.parametrize(
    "setting",
    [
        of(options=freeze({"cpp.threads": 4, "a": (1, (2, "x")), "none": None})),
        of(engines=True, measure=False, calls=(1, 33)),
        of(precision=None),
        of(budget=2.5),
        Setting("vit-any-size", (DynamicDim("height", 96, 224, 320, step=16, limit=640),)),
    ],
)
def test_a_setting_comes_back_from_json_as_it_was(setting):
    again = Setting.from_dict(json.loads(json.dumps(setting.to_dict())))
    assert again == setting
    assert hash(again) == hash(setting)
    assert key(again) == key(setting)


def test_a_setting_has_the_key_that_it_had_in_the_first_schema():
    assert key(of(), "cpu", 0.1) == FIRST_SCHEMA_KEY
    assert key(of(engines=True), "cpu", 0.1) != FIRST_SCHEMA_KEY


def test_several_profiles_are_a_part_of_the_setting_and_one_is_its_range(seed):
    few, many = (DynamicDim("batch", 1, 2, 4),), (DynamicDim("batch", 4, 8, 16),)
    setting = of(profiles=(few, many)).settled(seed)
    assert setting.ranges == (DynamicDim("batch", 1, 2, 16),)
    assert setting.sizes == (1, 2, 4, 8, 16)
    assert setting.label == setting.ranges_text == "batch 1/2/4; batch 4/8/16"
    assert setting.case(seed).profiles == (few, many)
    assert Setting.from_dict(json.loads(json.dumps(setting.to_dict()))) == setting
    assert "profiles" not in of().to_dict()  # the keys of older settings are as they were
    assert of(profiles=(few,)).settled(seed) == replace(of(), ranges=few).settled(seed)
    with pytest.raises(ShapeError, match="batch 5 to 7 is in no profile"):
        of(profiles=(few, (DynamicDim("batch", 8, 8, 16),))).settled(seed)
