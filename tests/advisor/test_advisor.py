from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from advising import ALIKE, TUNED, bench
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tutorial_lib import Case, ShapeError, expand_reshape
from tutorial_lib.advisor import figure as advisor_figure
from tutorial_lib.advisor.advice import advise
from tutorial_lib.advisor.latency_model import PADDING
from tutorial_lib.advisor.measuring import measure, worth_measuring
from tutorial_lib.advisor.policies import predict
from tutorial_lib.advisor.replay import Replay
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
    measured = bench(formulas, noise)
    return advise(measured.case, traffic, objective, measured=measured, **more)


@pytest.fixture(scope="module")
def usual(one_thread):
    """What is advised where small and large requests want another opt, with a little noise; leave it as it is."""
    return advised(noise=0.02)


# ---- which policy -----------------------------------------------------------------------------------------------


def test_buckets_win_where_small_and_large_requests_want_another_opt(usual):
    assert usual.best.name == "2 buckets"
    assert usual.best.engines[0][0][:2] == (1, 2)
    assert usual.best.engines[1][0][1:] == (64, 64)
    row = usual.table.set_index("verdict").loc["recommended"]
    assert row["mean_ms"] == pytest.approx(0.9 * 0.3 + 0.1 * 3.7, rel=0.05)
    assert row["mean_ms_low"] < row["mean_ms"] < row["mean_ms_high"]


@pytest.mark.parametrize(("traffic", "opt"), [({2: 99, 4: 9}, 2), ({48: 5, 64: 90}, 64)])
def test_one_engine_is_enough_where_all_requests_want_the_same_opt(traffic, opt):
    advice = advised(traffic, noise=0.02)
    assert [engine[0][1] for engine in advice.best.engines] == [opt]
    assert "this is the simplest" in advice.recommendation


def test_where_opt_makes_no_difference_it_says_so_and_takes_one_engine_tuned_for_the_median():
    advice = advised(formulas=ALIKE, noise=0.2)
    assert advice.best == advice.baselines["b"]
    assert len(advice.ties) > 2
    assert any("Opt makes no difference" in note for note in advice.notes)
    assert not any("Opt makes no difference" in note for note in advised({2: 99, 4: 9}, noise=0.02).notes)


def test_where_eager_is_as_fast_nothing_is_built():
    advice = advised(formulas={**ALIKE, None: ALIKE[2,]}, noise=0.1)
    assert advice.best.engines == ()
    assert "run eager PyTorch and build nothing" in advice.recommendation


def test_a_difference_below_five_per_cent_is_a_tie_however_sure():
    nearly = {(2,): lambda size: 1.0 * size, (64,): lambda size: 0.96 * size, None: lambda size: 9.0 * size}
    advice = advised(formulas=nearly)
    assert advice.ranked[0].engines[0][0][1] == 64
    assert advice.best.name == "one engine, opt 2"


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
    advice = advised({2: 970, 64: 30}, objective="p99", noise=0.01)
    assert advice.best.engines[-1][0][1] == 64
    assert advice.table["p99_ms"].iloc[0] == pytest.approx(3.7, rel=0.05)
    assert "99th percentile of latency" in advice.recommendation


def test_throughput_counts_samples():
    advice = advised(objective="throughput", p99_at_most_ms=5)
    row = advice.table.iloc[0]
    assert row["samples_per_second"] == pytest.approx(1000 * (0.9 * 2 + 0.1 * 64) / row["mean_ms"])
    assert "with 99 % of the requests within 5 ms" in advice.recommendation
    assert not advice.table.set_index("policy").loc["eager", "meets_bound"]


def test_a_bound_that_nothing_meets_is_said():
    advice = advised(p99_at_most_ms=0.01)
    assert advice.recommendation.startswith("No policy keeps its 99th percentile within 0.01 ms")
    assert not advice.meets(advice.best)
    assert "above the bound" in advice.summary()["verdict"].iloc[-1]


def test_least_memory_within_a_bound_is_one_engine():
    advice = advised(objective="memory", p99_at_most_ms=5)
    assert advice.best.name == "one engine, opt 64"  # the faster one of two that need the same
    assert advice.figures[advice.best]["mean_ms"][0] < advice.figures[advice.baselines["b"]]["mean_ms"][0]
    by_name = advice.table.assign(name=[policy.name for policy in advice.ranked]).set_index("name")["memory_mb"]
    assert by_name["2 buckets"] - by_name["one engine, opt 64"] == pytest.approx(1000 / 1e6)


def test_least_build_time_within_a_bound_is_one_engine():
    advice = advised(objective="build", p99_at_most_ms=5)
    assert advice.table["build_seconds"].iloc[0] == 2.0
    assert len(advice.best.engines) == 1
    assert advised(objective="build").best.engines == ()


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"objective": "p50"}, "'p50'"),
        ({"objective": "throughput"}, "without a bound"),
        ({"p99_at_most_ms": -1}, "p99_at_most_ms is -1"),
        ({"p99_at_most_ms": float("nan")}, "p99_at_most_ms is nan"),
        ({"traffic": [65]}, "batch 65"),
    ],
)
def test_what_cannot_be_advised_on_is_refused(keywords, said):
    with pytest.raises(ShapeError, match=said):
        advised(**keywords)


# ---- table, sentence, code --------------------------------------------------------------------------------------


def test_the_table_has_both_baselines_and_one_recommendation(usual):
    assert sorted(role for role in usual.table["baseline"] if role) == ["a", "b"]
    assert usual.table["verdict"].tolist().count("recommended") == 1
    assert usual.table["mean_ms"].is_monotonic_increasing
    assert len(usual.summary()) == len(usual.policies)
    for column in ("mean_ms", "p99_ms", "samples_per_second", "build_seconds"):
        assert (usual.table[f"{column}_low"] <= usual.table[column]).all()
        assert (usual.table[column] <= usual.table[f"{column}_high"]).all()


def test_the_recommendation_compares_with_both_baselines(usual):
    assert usual.recommendation.startswith("For mean latency, build 2 buckets (batch 1/2/")
    assert "x as fast as (a) padded to max" in usual.recommendation
    assert "x as fast as (b) one engine, opt 2" in usual.recommendation


def test_a_model_that_cannot_be_padded_is_not_padded():
    measured = bench(TUNED)

    class Centre(type(measured.case.model)):
        def forward(self, x):
            return super().forward(x - x.mean(0))

    centred = Case("centred", Centre(12), measured.case.inputs)
    advice = advise(centred, BOTH_ENDS, measured=replace(measured, case=centred))
    assert not any(policy.padded for policy in advice.policies)
    assert list(advice.baselines) == ["b"]
    assert "centred cannot be padded along batch" in advice.notes[0]


def test_a_policy_is_found_by_its_name():
    advice = advised()
    assert advice.find("2 buckets").name == "2 buckets"
    with pytest.raises(ShapeError, match="'9 buckets'; use padded to max"):
        advice.find("9 buckets")


def test_the_code_builds_what_build_builds(usual):
    names = {}
    exec(usual.code(), names)
    (x,) = usual.measured.case.example(3)
    assert names["build"](usual.measured.case)(x).equal(usual.build()(x))


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
    measured = real[0].measured.measurement
    assert set(measured.samples) == {*measured.opts, None, PADDING}
    assert measured.axes[0][0] == 1
    assert measured.axes[0][-1] == 16
    for cells in measured.samples.values():
        assert len(cells) == len(measured.axes[0])
        assert len({len(cell) for cell in cells}) == 1
        assert len(cells[0]) >= 6
    assert min(measured.build_seconds.values()) > 0
    assert measured.weight_bytes > 0


def test_a_replay_serves_the_same_requests_with_recommended_and_baselines(real):
    advice, held_out = real
    replayed = advice.replay(held_out, [advice.find("2 fixed sizes")], seconds=3)  # for all, on a busy machine too
    assert replayed.requests == 150
    assert 0 <= replayed.left_out < 150
    roles = " ".join(replayed.table["role"])
    assert all(role in roles for role in ("recommended", "(a)", "(b)"))
    assert (replayed.table[["mean_ms", "p99_ms", "predicted_mean_ms", "predicted_p99_ms"]] > 0).all(axis=None)
    expected = replayed.table["mean_ms"] / replayed.table["predicted_mean_ms"] - 1
    assert replayed.table["mean_error"].tolist() == pytest.approx(expected.tolist())
    assert replayed.against("a") > 0
    assert len(replayed.summary()) == len(replayed.table) >= 3
    assert "150 requests to each policy" in str(replayed)


def test_a_replay_on_a_machine_that_is_as_measured_has_no_error(monkeypatch):
    """Calls take the time that the model gives them: what is left is what replaying itself gets wrong."""
    advice = advised({2: 70, 3: 20, 20: 20, 64: 10})
    by_size = {}

    def turns(calls, device, shuffle):
        spent = {}
        for policy, some in calls.items():
            sizes = np.array([[call.args[0].shape[0]] for call in some])
            spent[policy] = predict(policy, advice.model, sizes, point=True)[0].tolist()
            by_size[policy] = len(some)
        return spent

    monkeypatch.setattr(latency, "turns", turns)
    table = advice.replay({2: 70, 3: 20, 20: 20, 64: 10}).table
    assert table["mean_error"].abs().max() < 1e-6
    assert table["p99_error"].abs().max() < 1e-6
    assert (table["predicted_mean_ms_low"] <= table["mean_ms"] + 1e-9).all()
    assert (table["mean_ms"] <= table["predicted_mean_ms_high"] + 1e-9).all()


def replay_of(advice, spread=0.0, **measured):
    """A replay in which everything takes 1 ms, except for what is given: policy -> (mean, p99)."""
    roles = {advice.predicted_best: "recommended", **{policy: f"({role})" for role, policy in advice.baselines.items()}}
    rows = [{"policy": str(policy), "role": role, "mean_ms": 1.0, "p99_ms": 1.0} for policy, role in roles.items()]
    for row in rows:
        row["mean_ms"], row["p99_ms"] = measured.get(row["role"].strip("()"), (1.0, 1.0))
    table = pd.DataFrame(rows)
    noise = np.random.default_rng(0).lognormal(0, spread, (len(rows), 200))
    draws = {column: table[column].to_numpy()[:, None] * noise for column in ("mean_ms", "p99_ms")}
    column = advice.objective.replay_column
    return Replay(table, draws, tuple(roles), column, advice.bound_ms, 150, 0, None, "no device")


def test_a_replay_in_which_no_other_policy_is_faster_confirms_the_recommendation(usual):
    replayed = replay_of(usual, a=(0.96, 0.5))
    assert "no policy had a mean more than 5% below" in replayed.verdict
    assert replayed.best == usual.best == usual.after(replayed).best
    assert usual.after(replayed).recommendation == usual.recommendation


@pytest.mark.parametrize(
    ("objective", "bound", "measured", "said"),
    [
        ("mean", None, {"a": (0.7, 2.0)}, "had a mean 30% below that of 2 buckets"),
        ("p99", None, {"a": (2.0, 0.8)}, "had a 99th percentile 20% below"),
        ("mean", 5.0, {"recommended": (0.5, 6.0), "a": (0.9, 4.0)}, "kept within 5 ms, and 2 buckets"),
        ("memory", 5.0, {"recommended": (0.5, 6.0), "a": (0.9, 4.0), "b": (1.0, 7.0)}, "kept within 5 ms"),
    ],
)
def test_a_recommendation_never_contradicts_the_replay_beside_it(objective, bound, measured, said):
    advice = advised(objective=objective, p99_at_most_ms=bound, noise=0.02)
    replayed = replay_of(advice, **measured)
    assert said in replayed.verdict
    after = advice.after(replayed)
    assert after.best == replayed.best == advice.baselines["a"] != advice.best
    assert "build padded to max" in after.recommendation
    assert f"the replay served it better than {advice.best}" in after.recommendation
    assert after.table.set_index("verdict").loc["recommended", "policy"] == str(after.best)
    assert "padded to max" in after.code()


def test_a_replay_that_is_too_unsteady_to_tell_overrules_nothing_and_says_so(usual):
    replayed = replay_of(usual, spread=0.5, a=(0.8, 1.0))
    assert replayed.best == usual.best
    assert "had a mean 20% below that of 2 buckets" in replayed.verdict
    assert "too unsteady to tell chance from a difference" in replayed.verdict


def test_a_policy_that_was_not_chosen_for_its_latency_is_not_judged_by_it():
    advice = advised(objective="memory")
    replayed = replay_of(advice, a=(0.1, 0.1))
    assert replayed.best == advice.best
    assert "it was not chosen for its latency" in replayed.verdict


def test_a_bound_that_no_policy_kept_in_the_replay_is_said():
    replayed = replay_of(advised(p99_at_most_ms=5, noise=0.02), recommended=(1, 9), a=(1, 9), b=(1, 9))
    assert "no policy kept its 99th percentile within 5 ms" in replayed.verdict


@pytest.mark.parametrize("seed", range(4))
def test_under_load_a_simpler_policy_that_looks_slower_is_a_tie_and_not_the_recommendation(seed):
    """Eager is 30 % slower, each engine's samples have noise of their own, and sizes are lognormal."""
    slower = {**ALIKE, None: lambda size: 1.3 * ALIKE[2,](size)}
    generator = np.random.default_rng(seed)
    measured = bench(slower, rounds=8)
    noisy = {
        engine: [cell * generator.lognormal(0, 1.2, cell.shape) for cell in cells]
        for engine, cells in measured.measurement.samples.items()
    }
    measured = replace(measured, measurement=replace(measured.measurement, samples=noisy))
    sizes = np.clip(np.exp(generator.normal(1.5, 1.2, 300)), 1, 64).astype(int)
    advice = advise(measured.case, Traffic.of(sizes), measured=measured)
    means = {policy: advice.figures[policy]["mean_ms"][0] for policy in advice.policies}
    assert means[advice.best] <= 1.05 * min(means.values())
    eager = advice.find("eager")
    if advice.best != eager and eager in advice.ties:
        assert "the measurement is too unsteady to tell" in advice.recommendation
        assert any("eager may do as well" in note for note in advice.notes)


def test_notes_tell_of_a_busy_machine_and_of_profiles_with_tensorrt():
    measured = bench(TUNED)
    busy = replace(measured.measurement, metadata={**measured.measurement.metadata, "others": 0.9})
    measured = replace(measured, measurement=busy, backend="tensorrt")
    notes = " ".join(advise(measured.case, BOTH_ENDS, measured=measured).notes)
    assert "Other processes used 0.9 cores" in notes
    assert "layouts() compares them" in notes


def test_two_dimensions_for_real(masked):
    traffic = Traffic.of({(1, 2): 50, (2, 5): 30, (4, 9): 20}, ("batch", "length"))
    advice = advise(masked, traffic, backend="eager", seconds=0.1)
    assert any("of length" in policy.name or "of batch" in policy.name for policy in advice.policies)
    replayed = advice.replay(traffic, seconds=0.2)
    assert 50 <= replayed.requests <= 100  # as many as the time allows on this machine
    axes = advisor_figure.costs(advice).axes
    assert axes[1].get_xlabel().startswith("batch (length 2, the median)")


def test_measuring_takes_opts_that_are_given():
    case = expand_reshape((1, 4, 8), embed_dim=12, tokens=3)
    measured = measure(case, [1, 8], backend="eager", seconds=0, opts=[(2,), (5,)])
    assert measured.measurement.opts == [(2,), (5,)]
    assert {2, 5} <= set(measured.measurement.axes[0])


# ---- figure and command line ------------------------------------------------------------------------------------


def test_the_figure_shows_shares_costs_and_boundaries(usual):
    figure = advisor_figure.costs(usual)
    above, below = figure.axes
    assert above.get_ylabel() == "share (%)"
    bars = [sum(bar.get_height() for bar in group) for group in above.containers]
    assert bars == pytest.approx([100, 100])
    assert "(ms)" in below.get_ylabel()
    labels = [line.get_label() for line in below.get_lines() if not line.get_label().startswith("_")]
    assert len(labels) == 4
    assert any("recommended" in label for label in labels)
    boundary = usual.best.engines[0][0][2] + 0.5
    assert all(boundary in [line.get_xdata()[0] for line in axes.get_lines()] for axes in (above, below))
    plots.png(figure)


def test_the_figure_has_no_text_outside_or_on_top_of_another(usual):
    figure = advisor_figure.costs(usual)
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
        assert box.y1 <= figure.bbox.y1
    subtitle = figure.axes[0]._left_title.get_window_extent(renderer)
    assert subtitle.x1 <= figure.bbox.x1
    assert not any(subtitle.overlaps(text.get_window_extent(renderer)) for text in figure.texts)


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
        ("batch\n1\n", ["--replay"], "leaves one part empty"),
    ],
)
def test_bad_traffic_is_one_sentence_and_exit_code_two(content, arguments, said, tmp_path, capsys):
    (tmp_path / "traffic.csv").write_text(content)
    assert run("--traffic", str(tmp_path / "traffic.csv"), *arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_traffic_of_one_size_in_a_range_of_one_size():
    case = expand_reshape((4, 4, 4), embed_dim=12, tokens=3)
    advice = advise(case, Traffic.of([4] * 20), backend="eager", seconds=0)
    assert {policy.name for policy in advice.policies} == {"padded to max", "eager"}
    assert "one engine" not in advice.recommendation
    plots.png(advisor_figure.costs(advice))
