import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from advising import ALIKE, TUNED, bench
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tutorial_lib import Case, DynamicDim, ShapeError, TensorSpec, expand_reshape
from tutorial_lib.advisor import figure as advisor_figure
from tutorial_lib.advisor.advice import OBJECTIVES, advise
from tutorial_lib.advisor.latency_model import PADDING
from tutorial_lib.advisor.measuring import measure, worth_measuring
from tutorial_lib.advisor.policies import predict
from tutorial_lib.advisor.traffic import Traffic
from tutorial_lib.cli.commands import main
from tutorial_lib.figures import plots
from tutorial_lib.measure import latency

BOTH_ENDS = {2: 90, 64: 10}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Two threads wait for each other where tests run beside something else, and each call is short."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def advised(traffic=BOTH_ENDS, formulas=TUNED, objective="mean", noise=0.0, **more):
    made = bench(formulas, noise)
    return advise(made.case, traffic, objective, bench=made, **more)


# ---- which policy -----------------------------------------------------------------------------------------------


def test_buckets_win_where_small_and_large_requests_want_another_opt():
    found = advised(noise=0.02)
    assert found.best.name == "2 buckets"
    assert found.best.engines[0][0][:2] == (1, 2)
    assert found.best.engines[1][0][1:] == (64, 64)
    row = found.table.set_index("verdict").loc["recommended"]
    assert row["mean_ms"] == pytest.approx(0.9 * 0.3 + 0.1 * 3.7, rel=0.05)
    assert row["mean_ms_low"] < row["mean_ms"] < row["mean_ms_high"]


@pytest.mark.parametrize(("traffic", "opt"), [({2: 99, 4: 9}, 2), ({48: 5, 64: 90}, 64)])
def test_one_engine_is_enough_where_all_requests_want_the_same_opt(traffic, opt):
    found = advised(traffic, noise=0.02)
    assert [engine[0][1] for engine in found.best.engines] == [opt]
    assert "may do as well, and this is the simplest" in found.recommendation


def test_where_opt_makes_no_difference_it_says_so_and_takes_one_engine_tuned_for_the_median():
    found = advised(formulas=ALIKE, noise=0.2)
    assert found.best == found.baselines["b"]
    assert len(found.ties) > 2
    assert "Opt makes no difference here that is larger than the uncertainty." in found.notes
    assert not any("Opt makes no difference" in note for note in advised({2: 99, 4: 9}, noise=0.02).notes)


def test_where_eager_is_as_fast_nothing_is_built():
    found = advised(formulas={**ALIKE, None: ALIKE[2,]}, noise=0.1)
    assert found.best.engines == ()
    assert "run eager PyTorch and build nothing" in found.recommendation


def test_a_difference_below_five_per_cent_is_a_tie_however_sure():
    nearly = {(2,): lambda size: 1.0 * size, (64,): lambda size: 0.96 * size, None: lambda size: 9.0 * size}
    found = advised(formulas=nearly)
    assert found.ranked[0].engines[0][0][1] == 64
    assert found.best.name == "one engine, opt 2"


def test_noise_widens_the_intervals_and_is_said():
    sure, unsure = (advised(noise=noise) for noise in (0.01, 0.8))
    width = [float((f.table["mean_ms_high"] - f.table["mean_ms_low"]).mean()) for f in (sure, unsure)]
    assert width[0] < width[1]
    assert any("measure again on a quiet machine" in note for note in unsure.notes)
    assert not any("measure again" in note for note in sure.notes)


def test_the_same_seed_gives_the_same_advice():
    one, other = (advised(noise=0.3).table for _ in range(2))
    assert one.equals(other)


# ---- objectives -------------------------------------------------------------------------------------------------


def test_the_99th_percentile_looks_at_the_large_requests():
    found = advised({2: 970, 64: 30}, objective="p99", noise=0.01)
    assert found.best.engines[-1][0][1] == 64
    assert found.table["p99_ms"].iloc[0] == pytest.approx(3.7, rel=0.05)
    assert "99th percentile of latency" in found.recommendation


def test_throughput_needs_a_bound_and_counts_samples():
    with pytest.raises(ShapeError, match="throughput without a bound on latency"):
        advised(objective="throughput")
    found = advised(objective="throughput", p99_at_most_ms=5)
    row = found.table.iloc[0]
    assert row["samples_per_second"] == pytest.approx(1000 * (0.9 * 2 + 0.1 * 64) / row["mean_ms"])
    assert "with 99 % of the requests within 5 ms" in found.recommendation
    assert not found.table.set_index("policy").loc["eager", "meets_bound"]


def test_a_bound_that_nothing_meets_is_said():
    found = advised(p99_at_most_ms=0.01)
    assert found.recommendation.startswith("No policy keeps its 99th percentile within 0.01 ms for certain")
    assert not found.meets(found.best)
    assert "above the bound" in found.summary()["verdict"].iloc[-1]


def test_least_memory_within_a_bound_is_one_engine():
    found = advised(objective="memory", p99_at_most_ms=5)
    assert found.best.name == "one engine, opt 64"  # the faster one of two that need the same
    assert found.figures[found.best]["mean_ms"][0] < found.figures[found.baselines["b"]]["mean_ms"][0]
    by_name = found.table.assign(name=[policy.name for policy in found.ranked]).set_index("name")["memory_mb"]
    assert by_name["2 buckets"] - by_name["one engine, opt 64"] == pytest.approx(1000 / 1e6)


def test_least_build_time_within_a_bound_is_one_engine():
    found = advised(objective="build", p99_at_most_ms=5)
    assert found.table["build_seconds"].iloc[0] == 2.0
    assert len(found.best.engines) == 1
    assert advised(objective="build").best.engines == ()


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"objective": "p50"}, "there is no objective 'p50'; use mean, p99, throughput, memory, build"),
        ({"p99_at_most_ms": -1}, "p99_at_most_ms is -1; use a number of milliseconds above 0"),
        ({"p99_at_most_ms": float("nan")}, "p99_at_most_ms is nan"),
        ({"traffic": [65]}, "the traffic has batch 65, and the range is 1 to 64"),
        ({"traffic": Traffic.of([1], "rows")}, "the traffic has sizes of 'rows', and the model has batch"),
        ({"traffic": []}, "the traffic is empty"),
    ],
)
def test_what_cannot_be_advised_on_is_refused(keywords, said):
    with pytest.raises(ShapeError, match=said) as error:
        advised(**keywords)
    assert "\n" not in str(error.value)


# ---- table, sentence, code --------------------------------------------------------------------------------------


def test_the_table_has_both_baselines_and_one_recommendation():
    found = advised(noise=0.02)
    assert sorted(role for role in found.table["baseline"] if role) == ["a", "b"]
    assert found.table["verdict"].tolist().count("recommended") == 1
    assert found.table["mean_ms"].is_monotonic_increasing
    assert len(found.summary()) == len(found.policies)
    assert set(OBJECTIVES) == {"mean", "p99", "throughput", "memory", "build"}
    for column in ("mean_ms", "p99_ms", "samples_per_second", "build_seconds"):
        assert (found.table[f"{column}_low"] <= found.table[column]).all()
        assert (found.table[column] <= found.table[f"{column}_high"]).all()


def test_the_recommendation_is_one_sentence_with_figures_and_both_baselines():
    said = advised(noise=0.02).recommendation
    assert said.startswith("For mean latency, build 2 buckets (batch 1/2/")
    assert "x as fast as (a) padded to max" in said
    assert "x as fast as (b) one engine, opt 2" in said
    assert said.endswith(".")
    assert "\n" not in said


def test_a_model_that_cannot_be_padded_is_not_padded():
    made = bench(TUNED)

    class Centre(type(made.case.model)):
        def forward(self, x):
            return super().forward(x - x.mean(0))

    centred = Case("centred", Centre(12), made.case.inputs)
    found = advise(centred, BOTH_ENDS, bench=replace(made, case=centred))
    assert not any(policy.padded for policy in found.policies)
    assert list(found.baselines) == ["b"]
    assert "centred cannot be padded along batch" in found.notes[0]


def test_a_policy_is_found_by_its_name():
    found = advised()
    assert found.find("2 buckets").name == "2 buckets"
    with pytest.raises(ShapeError, match="there is no policy '9 buckets'; use padded to max"):
        found.find("9 buckets")


def test_the_code_builds_what_build_builds():
    found = advised(noise=0.02)
    names = {}
    exec(found.code(), names)
    (x,) = found.bench.case.example(3)
    assert names["build"](found.bench.case)(x).equal(found.build()(x))


def test_several_profiles_are_said_not_to_be_compared_with_tensorrt():
    made = bench(TUNED)
    found = advise(made.case, BOTH_ENDS, bench=replace(made, backend="tensorrt"))
    assert "one profile for each engine" in found.notes[-1]


# ---- measuring and replaying ------------------------------------------------------------------------------------


def test_opts_worth_measuring_are_far_enough_apart():
    assert worth_measuring(Traffic.of({2: 90, 64: 10}), 3) == [(2,), (64,)]
    assert worth_measuring(Traffic.of([64] * 9), 3) == [(64,)]
    assert worth_measuring(Traffic.of({1: 60, 8: 30, 64: 10}), 2) == [(1,), (64,)]
    assert (8, 32) in worth_measuring(Traffic.of({(1, 8): 3, (8, 32): 9}, ("a", "b")), 3)


@pytest.fixture(scope="module")
def real():
    """Everything for real, on a small model, with the backend that takes no time to build."""
    case = expand_reshape((1, 4, 16), embed_dim=12, tokens=3)
    fitted, held_out = Traffic.named("bimodal", 16, requests=300).split()
    return advise(case, fitted, backend="eager", seconds=0.2), held_out


def test_what_is_measured_is_one_grid_for_all_engines_padding_and_eager(real):
    made = real[0].bench.measurement
    assert set(made.samples) == {*made.opts, None, PADDING}
    assert made.axes[0][0] == 1
    assert made.axes[0][-1] == 16
    for cells in made.samples.values():
        assert len(cells) == len(made.axes[0])
        assert len({len(cell) for cell in cells}) == 1
        assert len(cells[0]) >= 6
    assert min(made.build_seconds.values()) > 0
    assert made.weight_bytes > 0


def test_a_replay_serves_the_same_requests_with_recommended_and_baselines(real):
    advice, held_out = real
    found = advice.replay(held_out, [advice.find("2 fixed sizes")], seconds=0.5)
    assert found.requests == 150
    assert 0 <= found.left_out < 150
    roles = " ".join(found.table["role"])
    assert "recommended" in roles
    assert "(a)" in roles
    assert "(b)" in roles
    assert (found.table[["mean_ms", "p99_ms", "predicted_mean_ms", "predicted_p99_ms"]] > 0).all(axis=None)
    expected = found.table["mean_ms"] / found.table["predicted_mean_ms"] - 1
    assert found.table["mean_error"].tolist() == pytest.approx(expected.tolist())
    assert found.against("a") > 0
    assert len(found.summary()) == len(found.table) >= 3
    assert "150 requests to each policy" in str(found)


def test_a_replay_on_a_machine_that_is_as_measured_has_no_error(monkeypatch):
    """Calls take the time that the model gives them: what is left is what replaying itself gets wrong."""
    found = advised({2: 70, 3: 20, 20: 20, 64: 10})
    by_size = {}

    def turns(calls, device, shuffle):
        spent = {}
        for policy, some in calls.items():
            sizes = np.array([[call.args[0].shape[0]] for call in some])
            spent[policy] = predict(policy, found.curves, sizes, point=True)[0].tolist()
            by_size[policy] = len(some)
        return spent

    monkeypatch.setattr(latency, "turns", turns)
    table = found.replay({2: 70, 3: 20, 20: 20, 64: 10}).table
    assert table["mean_error"].abs().max() < 1e-6
    assert table["p99_error"].abs().max() < 1e-6
    assert (table["predicted_mean_ms_low"] <= table["mean_ms"] + 1e-9).all()
    assert (table["mean_ms"] <= table["predicted_mean_ms_high"] + 1e-9).all()


def test_a_replay_in_which_a_baseline_wins_says_so(real):
    found = real[0].replay(real[1], seconds=0.1)
    table = found.table.assign(mean_ms=1.0)
    assert "no baseline had a mean more than 5% below" in replace(found, table=table).verdict
    table.loc[table["role"].str.contains("(a)", regex=False) & ~table["role"].str.contains("recomm"), "mean_ms"] = 0.9
    assert "(a) had the lower mean, so what was measured before did not hold" in replace(found, table=table).verdict


def test_a_busy_machine_is_said():
    made = bench(TUNED)
    busy = replace(made.measurement, about={**made.measurement.about, "others": 0.9})
    found = advise(made.case, BOTH_ENDS, bench=replace(made, measurement=busy))
    assert any("Other processes used 0.9 cores while this was measured" in note for note in found.notes)


def test_two_dimensions_for_real(masked):
    traffic = Traffic.of({(1, 2): 50, (2, 5): 30, (4, 9): 20}, ("batch", "length"))
    found = advise(masked, traffic, backend="eager", seconds=0.1)
    assert any("of length" in policy.name or "of batch" in policy.name for policy in found.policies)
    replayed = found.replay(traffic, seconds=0.2)
    assert 50 <= replayed.requests <= 100  # as many as the time allows on this machine
    axes = advisor_figure.costs(found).axes
    assert axes[1].get_xlabel().startswith("batch (length 2, the median)")


def test_measuring_takes_opts_that_are_given():
    case = expand_reshape((1, 4, 8), embed_dim=12, tokens=3)
    found = measure(case, [1, 8], backend="eager", seconds=0, opts=[(2,), (5,)])
    assert found.measurement.opts == [(2,), (5,)]
    assert {2, 5} <= set(found.measurement.axes[0])


# ---- figure and command line ------------------------------------------------------------------------------------


def test_the_figure_shows_shares_costs_and_boundaries():
    found = advised(noise=0.02)
    figure = advisor_figure.costs(found)
    above, below = figure.axes
    assert above.get_ylabel() == "share (%)"
    bars = [sum(bar.get_height() for bar in group) for group in above.containers]
    assert bars == pytest.approx([100, 100])
    assert "(ms)" in below.get_ylabel()
    labels = [line.get_label() for line in below.get_lines() if not line.get_label().startswith("_")]
    assert len(labels) == 4
    assert any("recommended" in label for label in labels)
    boundary = found.best.engines[0][0][2] + 0.5
    assert all(boundary in [line.get_xdata()[0] for line in axes.get_lines()] for axes in (above, below))
    plots.png(figure)


def test_the_figure_has_no_text_outside_or_on_top_of_another():
    figure = advisor_figure.costs(advised(noise=0.02))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    legend = figure.legends[0].get_window_extent(renderer)
    label = figure.axes[1].xaxis.label.get_window_extent(renderer)
    assert not legend.overlaps(label)
    assert legend.y0 >= 0
    for text in (*figure.texts, figure.axes[1].yaxis.label, figure.axes[0].yaxis.label):
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
    above = figure.axes[0].get_legend().get_window_extent(renderer)
    bars = [bar.get_window_extent(renderer) for group in figure.axes[0].containers for bar in group]
    assert not any(above.overlaps(bar) for bar in bars)


def run(*arguments):
    return main(["advise", "--backend", "eager", "--seconds", "0", *arguments])


def test_the_command_prints_table_and_recommendation_and_writes_three_files(tmp_path, capsys):
    (tmp_path / "traffic.csv").write_text("tokens,count\n1,60\n8,30\n32,20\n")
    arguments = ["--model", "perceptron", "--max", "32", "--opt", "8", "--traffic", str(tmp_path / "traffic.csv")]
    assert run(*arguments, "--replay", "--out", str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert "For mean latency, " in printed
    assert "55 requests to each policy" in printed
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        f"perceptron-advice{suffix}" for suffix in (".csv", ".png", ".py")
    ]
    assert run(*arguments, "--objective", "p99", "--p99-at-most-ms", "0.000001") == 1
    assert "No policy keeps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("batch\n1\nx\n", [], "traffic.csv, line 3: batch is 'x'"),
        ("batch\n1\n33\n", [], "the traffic has batch 33, and the range is 1 to 32"),
        ("tokens\n1\n", [], "sizes of 'tokens', and the model has batch"),
        ("batch\n1\n", ["--replay"], "leaves one part empty"),
        ("batch\n1\n", ["--objective", "throughput"], "give p99_at_most_ms"),
    ],
)
def test_bad_traffic_is_one_sentence_and_exit_code_two(content, arguments, said, tmp_path, capsys):
    (tmp_path / "traffic.csv").write_text(content)
    assert run("--traffic", str(tmp_path / "traffic.csv"), *arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.slow
def test_the_advisor_needs_no_matplotlib():
    check = "import sys, tutorial_lib.advisor; assert 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True).returncode == 0


def test_traffic_of_one_size_in_a_range_of_one_size():
    case = Case(
        "one", expand_reshape(embed_dim=12, tokens=3).model, (TensorSpec("x", (DynamicDim("batch", 4, 4, 4), 3, 12)),)
    )
    found = advise(case, Traffic.of([4] * 20), backend="eager", seconds=0)
    assert {policy.name for policy in found.policies} == {"padded to max", "eager"}
    assert "one engine" not in found.recommendation
    plots.png(advisor_figure.costs(found))
