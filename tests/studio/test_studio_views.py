"""Results as HTML: the numbers are the sweep's, the text is the reader's, and neither can break the page."""

import base64
import math
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tutorial_lib import PATHS, DynamicDim, sweep
from tutorial_lib.builds.plan import Plan
from tutorial_lib.builds.report import Engine, EngineInput
from tutorial_lib.engines import Call, EngineReport
from tutorial_lib.experiments.result import Failure, Result
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.sweep import EAGER, latencies
from tutorial_lib.studio import views

HOSTILE = "<script>alert(1)</script> \" ' & $x"
VOID = {"img", "br"}


class Page(HTMLParser):
    """What a browser would make of it: text, attributes, cells by row, and tags that do not close."""

    def __init__(self, html):
        super().__init__()
        self.open, self.wrong, self.tags, self.text, self.rows, self.titles = [], [], [], [], [], []
        self.feed(html)
        self.wrong += self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.titles.append(dict(attrs).get("title", ""))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page(html):
    found = Page(html)
    assert not found.wrong
    return found


@pytest.fixture(scope="module")
def result(built, seed):
    programs = {path: built(path, "eager", seed) for path in PATHS}
    found = sweep(programs, [1, 4, 8], min_samples=3, min_seconds=0.001)
    setting = Setting("expand-reshape", (DynamicDim("batch", 1, 4, 8),), backend="eager")
    seconds = {"build jit": 3.0, "build input": 6.25, "measure": 13.1}
    return Result(setting, found, tuple(program.build for program in programs.values()), seconds=seconds)


@pytest.fixture(scope="module")
def pin(built, seed, result):
    found = sweep({"jit": built("jit", "eager", seed)}, [2, 4], min_samples=3, min_seconds=0.001)
    return "A: 1 / 2 / 8", replace(result, sweep=found, builds=result.builds[:1])


@pytest.fixture(scope="module")
def streaming(built, seed, result):
    found = latencies(seed, {"jit": built("jit", "eager", seed)}, [1, 4])
    return replace(result, sweep=found, builds=result.builds[:1], seconds={}, final=False)


@pytest.fixture
def failing(result):
    why = Failure(f"the compiler is missing: {HOSTILE}", f"Traceback:\n  {HOSTILE}")
    return replace(result, failures={"export": why})


PLAN = Plan(
    plan_bytes=294_772,
    activation_bytes=85_655_552,
    weight_bytes=132,
    scratch_bytes=0,
    network_layers=42,
    shape_layers=33,
    layers=(),
    inputs=(),
    outputs=(),
    targets=("sm89",),
    conversion_seconds=0.0,
    build_seconds=0.0,
    messages=(),
    versions={},
)
ENGINES = EngineReport(
    case="seed",
    path="jit",
    mode="build",
    target=None,
    requested=(EngineInput("x", "float32", (2, 7), (4, 7), (8, 7)),),
    engines=(
        Engine((EngineInput("x", "float32", (1, 7), (4, 7), (8, 7)),), "the size of the first call", 5, 0.0, plan=PLAN),
        Engine((EngineInput("x", "float32", (1, 7), (1, 7), (1, 7)),), "a call", 5, 0.0, after_build=True),
    ),
    calls=(
        Call({"batch": 1}, "built", "", None, (2,), (2,), None),
        Call({"batch": 9}, "refused", "it", HOSTILE, (), (), None),
    ),
    left_to_pytorch=("aten.cat",),
    failed=None,
    explanation=None,
    log=(),
    notes=("engine 1, batch: min is 1, not 2",),
    versions={"torch-tensorrt-rtx": "2.13.0", "tensorrt-rtx": "1.5.0.114"},
    options={},
    seconds=0.0,
    tracing_seconds=0.0,
)


def test_the_table_has_the_numbers_of_the_sweep(result):
    rows = page(views.table(result)).rows[2:]
    assert [row[0] for row in rows] == ["1", "4 (opt)", "8"]
    table = result.sweep.table.set_index(["path", "batch"])
    for row, size in zip(rows, (1, 4, 8), strict=True):
        assert row[1].rstrip("*") == f"{table.loc[(EAGER, size), 'median_ms']:.3f}"
        for number, path in enumerate(PATHS):
            one = table.loc[(path, size)]
            median, speedup, ratio, agrees = row[2 + 4 * number : 6 + 4 * number]
            assert median.rstrip("*") == f"{one['median_ms']:.3f}"
            assert (speedup, ratio, agrees) == (f"{one['speedup']:.2f}x", f"{one['ratio']:.2f}x", "yes")


def test_a_median_carries_its_percentiles_and_what_to_know_before_trusting_it(result):
    table = result.sweep.table.assign(warning="unstable: 40%")
    found = page(views.table(replace(result, sweep=replace(result.sweep, table=table))))
    row = table[table["path"] == "jit"].iloc[0]
    assert f"{row['p10_ms']:.3f} to {row['p90_ms']:.3f} ms; unstable: 40%" in found.titles
    assert found.rows[2][1].endswith("*")
    assert "distrust" in "".join(found.text)


def test_a_difference_is_said_in_words(result):
    table = result.sweep.table.assign(agrees=False, ratio=9.5)
    rows = page(views.table(replace(result, sweep=replace(result.sweep, table=table)))).rows
    assert rows[2][4:6] == ["9.50x", "NO"]


def test_pinned_results_have_rows_and_how_times_changed_in_units_of_eagers(result, pin):
    found = page(views.table(result, [pin]))
    rows = found.rows[2:]
    assert [row[0] for row in rows] == ["1", "2 · A", "4 (opt)", "A", "8"]
    assert "A: 1 / 2 / 8" in "".join(found.text)  # the caption
    cells = [one.sweep.table.set_index(["path", "batch"]).loc[("jit", 4)] for one in (result, pin[1])]
    ratio = cells[1]["speedup"] / cells[0]["speedup"]
    assert rows[3][2].replace("*", "") == f"{cells[1]['median_ms']:.3f}{ratio:.2f}x"
    assert rows[3][6:] == ["–"] * 8  # only jit is pinned
    assert [attrs.get("class") for attrs in found.all("tr")][2:] == [None, "tl-pin", None, "tl-pin", None]


def test_medians_of_another_model_are_not_divided(result, pin):
    label, other = pin
    other = replace(other, setting=replace(other.setting, model="another"))
    assert "0.52x" in "".join(page(views.table(result, [(label, other)])).text)  # the caption
    assert 'class="tl-ratio"' not in views.table(result, [(label, other)])


def test_a_result_over_another_dimension_is_not_in_the_table(result, pin):
    dims = [{"name": "length", "min": 1, "opt": 4, "max": 8}]
    found = pin[1].sweep
    table = found.table.rename(columns={"batch": "length"})
    other = replace(pin[1], sweep=replace(found, table=table, provenance={**found.provenance, "dims": dims}))
    assert len(page(views.table(result, [("A", other)])).rows) == 5


def test_tables_are_told_to_screen_readers(result, pin):
    found = page(views.table(result, [pin]))
    assert len(found.all("caption")) == 1
    assert {attrs.get("scope") for attrs in found.all("th")} == {"col", "colgroup", "row"}
    assert [attrs["colspan"] for attrs in found.all("th") if attrs["scope"] == "colgroup"] == ["4"] * 3


def test_what_streams_in_has_no_verdict_yet(streaming):
    found = page(views.table(streaming))
    assert [row[4:6] for row in found.rows[2:]] == [["…", "…"]] * 2
    assert "first look" in "".join(found.text)
    assert "nan" not in "".join(found.text).lower()
    assert "agreement is measured after the last build." in views.alt(streaming)
    assert "nan" not in views.alt(streaming)


def test_what_failed_is_a_sentence_with_its_traceback_on_demand(failing):
    for view in (views.table, views.built):
        found = page(view(failing))
        text = "".join(found.text)
        assert f"export was not built: the compiler is missing: {HOSTILE}" in text
        assert f"Traceback:\n  {HOSTILE}" in text
        assert len(found.all("details")) == len(found.all("summary")) == 1


def test_where_nothing_could_be_built_there_is_no_figure(failing):
    nothing = replace(failing, sweep=None, builds=())
    assert views.figure(nothing) is None
    assert views.more(nothing) is None
    assert "Nothing is measured" in views.table(nothing)
    assert "Nothing is measured" in views.alt(nothing)
    assert page(views.built(nothing)).all("pre")


def test_hostile_text_stays_text(result, pin):
    about = {**result.sweep.provenance, "case": HOSTILE}
    builds = (replace(result.builds[0], notes=(HOSTILE,), reused=HOSTILE, left_to_pytorch=(HOSTILE,)),)
    bad = replace(result, sweep=replace(result.sweep, provenance=about), builds=builds)
    figure = views.figure(bad, [(HOSTILE, pin[1])])
    shown = [views.table(bad, [(HOSTILE, pin[1])]), views.built(bad), views.image(figure, views.alt(bad))]
    for html in (*shown, views.engine_reports([ENGINES]), views.seconds(bad)):
        found = page(html)
        assert not found.all("script")
        assert HOSTILE in "".join([*found.text, *(attrs.get("alt", "") for attrs in found.all("img"))])


def test_an_image_is_svg_with_a_text_alternative(result, pin):
    html = views.image(views.figure(result, [pin]), views.alt(result), stale=True)
    (image,) = page(html).all("img")
    kind, content = image["src"].split(",")
    assert kind == "data:image/svg+xml;base64"
    assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")
    assert image["class"] == "tl-stale"
    assert "max-width: 1200px" in image["style"]
    assert image["alt"] == views.alt(result)
    assert "tl-stale" not in views.image(views.more(result), "more")


def test_the_text_alternative_has_the_main_numbers(result):
    table = result.sweep.table[result.sweep.table["path"] != EAGER]
    best, worst = table.loc[table["speedup"].idxmax()], table.loc[table["ratio"].idxmax()]
    text = views.alt(result)
    assert "batch 1/4/8" in text
    assert "backend eager" in text
    assert result.sweep.provenance["device"] in text
    assert f"{best['speedup']:.2f} times, {best['path']} at batch {best['batch']}" in text
    assert f"{worst['ratio']:.2f} times eager's own, {worst['path']} at batch {worst['batch']}" in text


def test_an_output_that_is_not_finite_is_the_largest_error(result):
    table = result.sweep.table.copy()
    table.loc[table["path"] == "jit", ["ratio", "rms"]] = math.inf
    table.loc[table["path"] == "jit", "agrees"] = False
    bad = replace(result, sweep=replace(result.sweep, table=table))
    assert "largest error: inf times eager's own, jit" in views.alt(bad)
    assert "NO" in views.table(bad)
    views.image(views.figure(bad), views.alt(bad))


def test_built_shows_engines_with_real_ranges(result):
    found = page(views.built(result))
    heads = "".join(found.text)
    for build in result.builds:
        assert f"{build.path}: {len(build.engines)} engine" in heads
        for engine in build.engines:
            for one in engine.data:
                rows = [row for row in found.rows if row[1] == one.name]
                assert any(str(one).removeprefix(f"{one.name} ") in row for row in rows)
                assert any(engine.opt_source in row for row in rows)


def test_built_marks_recompiled_engines_bytes_reuse_and_notes(result):
    engine = replace(result.builds[1].engines[0], after_build=True, engine_bytes=2_500_000)
    build = replace(
        result.builds[1], engines=(engine,), reused="a saved program", notes=("a note",), artefact_bytes=10**6
    )
    text = "|".join(page(views.built(replace(result, builds=(build,)))).text)
    for said in ("after the build, by a call", "2.5 MB", "1.0 MB", "reused: a saved program", "note: a note"):
        assert said in text


def test_engines_of_a_report_say_by_what_they_were_built_and_what_they_need():
    shown = page(views.engine_reports((ENGINES,)))
    text = "|".join(shown.text)
    assert text.startswith("seed, jit: built by TensorRT for RTX 1.5.0.114, not run")
    assert ["1", "x", "[2/4/8, 7]", "[1/4/8, 7] float32"] in [row[:4] for row in shown.rows]
    for said in (*map(str, ENGINES.calls), *ENGINES.notes, "aten.cat", "after the build, by a call"):
        assert said in text
    assert "engine 1: plan 295 kB; memory: activation 85.7 MB, weights 132 bytes" in text
    assert "engine 2: " not in text


def test_a_report_on_a_build_that_failed_has_the_reason_and_tensorrts_log():
    failed = replace(ENGINES, engines=(), calls=(), failed="TensorRT refused it.", log=(f"its own words {HOSTILE}",))
    text = "|".join(page(views.engine_reports((failed,))).text)
    assert "not built by TensorRT for RTX 1.5.0.114" in text
    assert "the build failed: TensorRT refused it." in text
    assert f"TensorRT's log: its own words {HOSTILE}" in text


def test_seconds_are_on_one_line_with_what_was_reused(result):
    builds = (result.builds[0], replace(result.builds[1], reused="found on disk"))
    line = views.seconds(replace(result, builds=builds))
    assert line == "build jit 3.0 s, build input 6.2 s (reused: found on disk), measure 13 s; total 22 s"
    assert views.seconds(replace(result, seconds={})) == ""


def test_every_class_has_a_style_inside_the_studio(failing, pin):
    html = views.table(failing, [pin]) + views.built(failing) + views.engine_reports([ENGINES])
    used = {name for _, attrs in page(html).tags for name in (attrs.get("class") or "").split()}
    assert used
    for name in used | {"tl-problem", "tl-status", "tl-stale-note", "tl-stale"}:
        assert f".{name}" in views.STYLE
    rules = [line for line in views.STYLE.split("\n") if "{" in line]
    assert all(line.startswith((".tl-studio", "  ")) for line in rules)
