"""Results as HTML: the numbers are the sweep's, the text is the reader's, and neither can break the page."""

import base64
import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from html_page import HOSTILE, Page

from tutorial_lib import PATHS, DynamicDim, sweep
from tutorial_lib.experiments.result import Failure, Result
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.sweep import EAGER, latencies
from tutorial_lib.studio import views


def narrow(measured):
    """The sweep with intervals that are a tenth wide on both sides, however noisy this machine is."""
    table = measured.table
    ends = {"low_ms": 0.9 * table["median_ms"], "high_ms": 1.1 * table["median_ms"]}
    ends |= {"speedup_low": 0.9 * table["speedup"], "speedup_high": 1.1 * table["speedup"]}
    return replace(measured, table=table.assign(**ends))


@pytest.fixture(scope="module")
def result(built, seed):
    programs = {path: built(path, "eager", seed) for path in PATHS}
    measured = narrow(sweep(programs, [1, 4, 8], min_samples=3, min_seconds=0.001))
    setting = Setting("expand-reshape", (DynamicDim("batch", 1, 4, 8),), backend="eager")
    seconds = {"build jit": 3.0, "build input": 6.25, "measure": 13.1}
    return Result(setting, measured, tuple(program.build for program in programs.values()), seconds=seconds)


@pytest.fixture(scope="module")
def pin(built, seed, result):
    measured = narrow(sweep({"jit": built("jit", "eager", seed)}, [2, 4], min_samples=3, min_seconds=0.001))
    return "A: 1 / 2 / 8", replace(result, sweep=measured, builds=result.builds[:1])


@pytest.fixture
def failing(result):
    why = Failure(f"the compiler is missing: {HOSTILE}", f"Traceback:\n  {HOSTILE}")
    return replace(result, failures={"export": why})


def with_table(result, **columns):
    return replace(result, sweep=replace(result.sweep, table=result.sweep.table.assign(**columns)))


def test_the_table_has_the_numbers_of_the_sweep(result):
    rows = Page(views.table(result)).rows[2:]
    assert [row[0] for row in rows] == ["1", "4 (opt)", "8"]
    table = result.sweep.table.set_index(["path", "batch"])
    for row, size in zip(rows, (1, 4, 8), strict=True):
        assert row[1].startswith(f"{table.loc[(EAGER, size), 'median_ms']:.3f}")
        for number, path in enumerate(PATHS):
            measured = table.loc[(path, size)]
            median, speedup, ratio, agrees = row[2 + 4 * number : 6 + 4 * number]
            interval = f"{measured['low_ms']:.3f} – {measured['high_ms']:.3f}"
            assert median.replace("*", "") == f"{measured['median_ms']:.3f}{interval}"
            interval = f"{measured['speedup_low']:.2f} – {measured['speedup_high']:.2f}"
            assert (speedup, ratio) == (f"{measured['speedup']:.2f}x{interval}", f"{measured['ratio']:.2f}x")
            assert agrees == "yes"
    assert result.sweep.certainty in Page(views.table(result)).text


def test_without_intervals_the_table_has_medians_alone(result):
    columns = ["low_ms", "high_ms", "speedup_low", "speedup_high"]
    old = replace(result, sweep=replace(result.sweep, table=result.sweep.table.drop(columns=columns)))
    page = Page(views.table(old))
    row = old.sweep.table.query("path == 'jit'").iloc[0]
    assert page.rows[2][2].rstrip("*") == f"{row['median_ms']:.3f}"
    assert page.rows[2][3] == f"{row['speedup']:.2f}x"
    assert "true one" not in page.text


def test_an_interval_of_several_times_its_lower_end_is_not_told_in_numbers(result):
    table = views.table(with_table(result, low_ms=12.0, high_ms=61.705, speedup_low=1.0, speedup_high=3.9))
    assert "very wide" in table
    assert "61.705" not in table
    assert "1.00 – 3.90" in table


def test_a_median_carries_its_percentiles_and_its_warning(result):
    warned = with_table(result, warning="unstable: 40%")
    page = Page(views.table(warned))
    row = warned.sweep.table.query("path == 'jit'").iloc[0]
    titles = [attrs.get("title") for attrs in page.all("td")]
    assert f"{row['p10_ms']:.3f} to {row['p90_ms']:.3f} ms; unstable: 40%" in titles
    assert "*" in page.rows[2][1]
    assert "distrust" in page.text


def test_a_median_and_its_interval_have_lines_of_their_own_where_no_style_sheet_is_let_in(result):
    row = result.sweep.table.query("path == 'jit'").iloc[0]
    median = f">{row['median_ms']:.3f}<br><span"
    assert median in views.table(with_table(result, warning="")).replace("*<br>", "<br>")


def test_a_difference_is_said_in_words(result):
    rows = Page(views.table(with_table(result, agrees=False, ratio=9.5))).rows
    assert rows[2][4:6] == ["9.50x", "NO"]


def test_pinned_results_have_rows_and_how_times_changed_in_units_of_eagers(result, pin):
    page = Page(views.table(result, [pin]))
    rows = page.rows[2:]
    assert [row[0] for row in rows] == ["1", "2 · A", "4 (opt)", "A", "8"]
    assert "A: 1 / 2 / 8" in page.text  # the caption
    new, old = (each.sweep.table.set_index(["path", "batch"]).loc[("jit", 4)] for each in (result, pin[1]))
    interval = f"{old['low_ms']:.3f} – {old['high_ms']:.3f}"
    ratio = f"{old['speedup'] / new['speedup']:.2f}x"
    assert rows[3][2].replace("*", "") == f"{old['median_ms']:.3f}{interval}{ratio}"
    assert rows[3][6:] == ["–"] * 8  # only jit is pinned
    assert [attrs.get("class") for attrs in page.all("tr")][2:] == [None, "tl-pin", None, "tl-pin", None]
    recorded = replace(pin[1], recorded="recorded on a GPU")
    assert Page(views.table(result, [(pin[0], recorded)])).rows[5][0] == "A, recorded"


def test_results_of_another_model_or_dimension_are_not_compared(result, pin):
    label, other = pin
    another_model = replace(other, setting=replace(other.setting, model="another"))
    assert 'class="tl-ratio"' not in views.table(result, [(label, another_model)])
    dims = [{"name": "length", "min": 1, "opt": 4, "max": 8}]
    table = other.sweep.table.rename(columns={"batch": "length"})
    moved = replace(other.sweep, table=table, provenance={**other.sweep.provenance, "dims": dims})
    assert views.table(result, [(label, replace(other, sweep=moved))]) == views.table(result)


def test_tables_are_told_to_screen_readers(result, pin):
    page = Page(views.table(result, [pin]))
    assert page.all("table")[0]["aria-label"]
    assert {attrs.get("scope") for attrs in page.all("th")} == {"col", "colgroup", "row"}
    assert [attrs["colspan"] for attrs in page.all("th") if attrs["scope"] == "colgroup"] == ["4"] * 3


def test_what_streams_in_has_no_verdict_yet(built, seed, result):
    measured = latencies(seed, {"jit": built("jit", "eager", seed)}, [1, 4])
    streaming = replace(result, sweep=measured, builds=result.builds[:1], seconds={}, final=False)
    page = Page(views.table(streaming))
    assert [row[4:6] for row in page.rows[2:]] == [["…", "…"]] * 2
    assert "first look" in page.text
    assert views.alt(streaming).endswith("agreement is measured after the last build.")
    assert "nan" not in (page.text + views.alt(streaming)).lower()


def test_what_failed_is_a_sentence_with_its_traceback_on_demand(failing):
    for view in (views.table, views.built):
        page = Page(view(failing))
        assert f"export was not built: the compiler is missing: {HOSTILE}" in page.text
        assert f"Traceback:\n  {HOSTILE}" in page.text
        assert len(page.all("details")) == len(page.all("summary")) == 1


def test_where_nothing_could_be_built_there_is_no_figure(failing):
    nothing = replace(failing, sweep=None, builds=())
    assert views.figure(nothing) is None
    assert views.charts(nothing) == views.more(nothing) == []
    assert "Nothing is measured" in views.table(nothing)
    assert "Nothing is measured" in views.alt(nothing)
    assert Page(views.built(nothing)).all("pre")


def test_hostile_text_stays_text(result, pin):
    metadata = {**result.sweep.provenance, "case": HOSTILE}
    builds = (replace(result.builds[0], notes=(HOSTILE,), reused=HOSTILE, left_to_pytorch=(HOSTILE,)),)
    bad = replace(result, sweep=replace(result.sweep, provenance=metadata), builds=builds)
    figure = views.figure(bad, [(HOSTILE, pin[1])])
    shown = [views.table(bad, [(HOSTILE, pin[1])]), views.built(bad), views.image(figure, views.alt(bad))]
    shown += [views.seconds(bad), views.status(HOSTILE, details=HOSTILE)]
    for html in (*shown, views.problem(HOSTILE)):
        page = Page(html)
        assert not page.all("script")
        assert HOSTILE in page.text + "".join(attrs.get("alt", "") for attrs in page.all("img"))


def test_an_image_is_svg_with_a_text_alternative(result, pin):
    (image,) = Page(views.image(views.figure(result, [pin]), views.alt(result))).all("img")
    kind, content = image["src"].split(",")
    assert kind == "data:image/svg+xml;base64"
    assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")
    assert image["alt"] == views.alt(result)
    assert "max-width: 1200px" in image["style"]


def test_the_text_alternative_has_the_main_numbers(result):
    table = result.sweep.table[result.sweep.table["path"] != EAGER]
    best, worst = table.loc[table["speedup"].idxmax()], table.loc[table["ratio"].idxmax()]
    text = views.alt(result)
    for said in ("batch 1/4/8", "backend eager", result.sweep.provenance["device"]):
        assert said in text
    assert f"{best['speedup']:.2f} times, {best['path']} at batch {best['batch']}" in text
    assert f"{worst['ratio']:.2f} times eager's own, {worst['path']} at batch {worst['batch']}" in text


def test_an_output_that_is_not_finite_is_the_largest_error(result):
    is_jit = result.sweep.table["path"] == "jit"
    bad = with_table(
        result,
        ratio=result.sweep.table["ratio"].mask(is_jit, math.inf),
        rms=result.sweep.table["rms"].mask(is_jit, math.inf),
        agrees=~is_jit,
    )
    assert "largest error: inf times eager's own, jit" in views.alt(bad)
    assert "NO" in views.table(bad)
    views.image(views.figure(bad), views.alt(bad))


def test_built_shows_engines_with_real_ranges(result):
    page = Page(views.built(result))
    expected = [
        [str(number), each.name, str(each).removeprefix(f"{each.name} "), engine.opt_source]
        for build in result.builds
        for number, engine in enumerate(build.engines, start=1)
        for each in engine.data
    ]
    assert [row[:4] for row in page.rows if row[1] == "x"] == expected
    for build in result.builds:
        assert f"{build.path}: {len(build.engines)} engine" in page.text


def test_built_marks_recompiled_engines_bytes_reuse_and_notes(result):
    engine = replace(result.builds[1].engines[0], after_build=True, engine_bytes=2_500_000)
    changes = {"reused": "a saved program", "notes": ("a note",), "artefact_bytes": 10**6}
    build = replace(result.builds[1], engines=(engine,), **changes)
    text = Page(views.built(replace(result, builds=(build,)))).text
    for said in ("after the build, by a call", "2.5 MB", "1.0 MB", "reused: a saved program", "note: a note"):
        assert said in text


def test_seconds_are_on_one_line_with_what_was_reused(result):
    builds = (result.builds[0], replace(result.builds[1], reused="found on disk"))
    line = views.seconds(replace(result, builds=builds))
    assert line == "build jit 3.0 s, build input 6.2 s (reused: found on disk), measure 13 s; total 22 s"
    assert views.seconds(replace(result, seconds={})) == ""


def test_every_class_has_a_style_inside_the_studio(failing, pin):
    html = views.table(failing, [pin]) + views.built(failing)
    used = {name for _, attrs in Page(html).tags for name in (attrs.get("class") or "").split()}
    for name in used | {"tl-problem", "tl-status", "tl-stale-note", "tl-stale"}:
        assert f".{name}" in views.STYLE
    rules = [line for line in views.STYLE.split("\n") if "{" in line]
    assert all(line.startswith((".tl-studio", "  ")) for line in rules)
