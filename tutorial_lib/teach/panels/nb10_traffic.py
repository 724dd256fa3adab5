"""Notebook 10: drag the traffic, and see the policies change places."""

import ipywidgets as w
from matplotlib.figure import Figure

from tutorial_lib.advisor import Advice, Traffic, advise
from tutorial_lib.teach.lessons.nb10 import MAX, invented
from tutorial_lib.teach.panels.panel import Panel
from tutorial_lib.teach.shown import says

REQUESTS, SHOWN = 200, 6
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


class TrafficPanel(Panel):
    """Two kinds of requests and their shares; :meth:`set` does what the sliders do."""

    def __init__(self) -> None:
        self._measured = invented()
        self._colours: dict[str, str] = {}
        self.small = w.SelectionSlider(options=(1, 4, 16, 64), value=4, description="small: rows")
        self.large = w.SelectionSlider(options=(64, 256, 1024, MAX), value=MAX, description="large: rows")
        self.share = w.IntSlider(10, 0, 100, 5, description="large: %", continuous_update=False)
        self.objective = w.Dropdown(options=("mean", "p99", "memory"), description="objective")
        controls = (self.small, self.large, self.share, self.objective)
        super().__init__(*controls, text="A panel: drag the traffic, see policies reorder.")

    def set(self, small: int = 4, large: int = MAX, share: int = 10, objective: str = "mean") -> Advice:
        """Serve requests of `small` rows, and `share` percent of `large` rows; returns what was advised."""
        return self._move(small=small, large=large, share=share, objective=objective)

    def _update(self) -> Advice:
        many = REQUESTS * self.share.value // 100
        counts = {self.small.value: REQUESTS - many, self.large.value: 0}
        counts[self.large.value] += many
        traffic = Traffic.of({size: count for size, count in counts.items() if count}, "rows")
        advice = advise(self._measured.case, traffic, self.objective.value, measured=self._measured)
        figure = self._draw(advice)
        self._show(figure, f"{figure.get_suptitle()}. {advice.recommendation}")
        self.told.value = says(advice.recommendation)
        return advice

    def _draw(self, advice: Advice) -> Figure:
        """A bar for each of the first policies in their order, in a colour that stays with its kind."""
        policies = advice.ranked[:SHOWN]
        figure = Figure(figsize=(8, 0.6 + 0.45 * len(policies)), layout="constrained")
        axes = figure.subplots()
        for place, policy in enumerate(policies):
            mean, low, high = advice.table.iloc[place][["mean_ms", "mean_ms_low", "mean_ms_high"]].astype(float)
            color = self._colours.setdefault(policy.name, COLOURS[len(self._colours) % len(COLOURS)])
            error = [[max(mean - low, 0)], [max(high - mean, 0)]]
            axes.barh(place, mean, xerr=error, color=color, ecolor="#444444", height=0.6)
        axes.set_yticks(range(len(policies)), [str(policy) for policy in policies], fontsize=8)
        axes.invert_yaxis()
        axes.set(xlabel="mean, milliseconds (made-up engines)")
        axes.grid(axis="x", alpha=0.3)
        axes.margins(x=0.1)
        figure.suptitle(f"Best first, by {self.objective.value}", fontsize=10)
        return figure
