"""The figure of profiles: it draws what a report says."""

from dataclasses import replace

from engine_reports import CALLED, FAILED, REFUSED, TWO_DIMS, VERSION

from tutorial_lib.figures.engine_profiles import profiles


def bars(axes):
    return [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]


def marks(axes, marker):
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == marker]


def test_ranges_and_opts_are_those_of_the_report():
    jit, export = profiles([CALLED, REFUSED]).axes
    assert bars(jit) == [(2, 32), (1, 32), (1, 1), (1, 65536)]
    assert marks(jit, "o") == [4, 4, 1, 33]
    assert [text.get_text() for text in jit.texts] == ["2 / 4 / 32", "1 / 4 / 32", "only 1", "1 / 33 / 65536"]
    assert bars(export) == [(2, 32), (1, 32)]


def test_engines_built_by_a_call_are_hatched_and_name_it():
    jit, _ = profiles([CALLED, REFUSED]).axes
    assert [bool(bar.get_hatch()) for bar in jit.patches] == [False, False, True, True]
    labels = [label.get_text() for label in jit.get_yticklabels()]
    assert labels == ["typed", "engine 1", "engine 2, built at batch 1", "engine 3, built at batch 33"]


def test_a_refused_call_is_crossed_where_it_was_refused():
    jit, export = profiles([CALLED, REFUSED]).axes
    assert (marks(jit, "x"), marks(export, "x")) == ([], [33])
    batch, patches = profiles([TWO_DIMS]).axes
    assert (marks(batch, "x"), marks(patches, "x")) == ([], [600])


def test_ticks_are_sizes_that_occur():
    for axes in profiles([CALLED, REFUSED]).axes:
        assert set(axes.get_xticks()) <= {1, 2, 4, 32, 33, 65536}
        assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "batch (x, dim 0)"


def test_the_title_says_what_built_the_engines_or_that_nothing_did():
    built, *typed = profiles([CALLED, REFUSED]).get_suptitle().splitlines()
    assert built.startswith(f"Engines built by TensorRT for RTX {VERSION}, not run")
    assert typed == ["seed, typed: x [2/4/32, 196] (min/opt/max)"]
    assert "TensorRT built nothing." in profiles([replace(CALLED, mode="graph")]).get_suptitle()
    (axes,) = profiles([FAILED]).axes
    assert axes.get_title(loc="left") == "jit: the build failed"
    assert bars(axes) == [(2, 32)]
