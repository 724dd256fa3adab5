"""What a reader takes along: results and figures as files, the script, and a picture that needs no kernel."""

import base64
from typing import Any

from matplotlib.figure import Figure

from tutorial_lib.experiments.result import Result
from tutorial_lib.figures import plots
from tutorial_lib.studio import views

TYPES = {"json": "application/json", "csv": "text/csv", "svg": "image/svg+xml", "png": "image/png"}


def stem(result: Result) -> str:
    """The name of its files, without the suffix."""
    return f"{result.setting.model}-{result.backend}"


def contents(result: Result, figure: Figure | None) -> dict[str, str | bytes]:
    """The files of a result by their suffix."""
    files: dict[str, str | bytes] = {}
    if result.sweep is not None:
        files |= {"json": result.sweep.json(), "csv": result.sweep.table.to_csv(index=False)}
    if figure is not None:
        files |= {"svg": plots.svg(figure), "png": plots.png(figure)}
    return files


def links(result: Result, figure: Figure | None) -> str:
    """Links that download the files of a result; the page holds the files itself."""
    shown = []
    for suffix, content in contents(result, figure).items():
        data = base64.b64encode(content.encode() if isinstance(content, str) else content).decode()
        name = f"{stem(result)}.{suffix}"
        shown.append({"name": name, "type": TYPES[suffix], "content": data, "suffix": suffix.upper()})
    return str(views.HTML.downloads(shown))


def copyable(script: str) -> str:
    """A script with a button that copies it."""
    return str(views.HTML.script(script))


class Snapshot:
    """A figure and a table for readers without a kernel; the last line of a cell shows both."""

    def __init__(self, result: Result, behind: views.Pinned = ()) -> None:
        self.result = result
        self.behind = tuple(behind)

    def __str__(self) -> str:
        return views.alt(self.result)

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, Image, display  # in notebooks only

        show: Any = display
        figure = views.figure(self.result, self.behind)
        if figure is not None:
            show(Image(plots.png(figure), format="png", embed=True, alt=views.alt(self.result), width=1000))
        table = views.table(self.result, self.behind)
        show(HTML(f'<style>{views.STYLE}</style><div class="tl-studio">{table}</div>'))
