"""What a reader takes along: results and figures as files, the script, and a picture that needs no kernel."""

import base64
import html
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from tutorial_lib.experiments.result import Result
from tutorial_lib.figures import plots
from tutorial_lib.studio import views

TYPES = {"json": "application/json", "csv": "text/csv", "svg": "image/svg+xml", "png": "image/png"}
COPY = (
    "navigator.clipboard.writeText(this.closest('.tl-take').querySelector('pre').textContent)"
    ".then(() => {this.nextElementSibling.textContent = 'Copied.'},"
    " () => {this.nextElementSibling.textContent = 'The browser does not allow it; open the script and copy it.'})"
)


def contents(result: Result, figure: Figure | None) -> dict[str, str | bytes]:
    """The files of a result by their suffix."""
    files: dict[str, str | bytes] = {}
    if result.sweep is not None:
        files |= {"json": result.sweep.json(), "csv": result.sweep.table.to_csv(index=False)}
    if figure is not None:
        files |= {"svg": plots.svg(figure), "png": plots.png(figure)}
    return files


def links(result: Result, figure: Figure | None) -> str:
    """Links that download the files of a result; a browser makes the files itself."""
    stem = f"{result.setting.model}-{result.backend}"
    parts = []
    for suffix, content in contents(result, figure).items():
        data = base64.b64encode(content.encode() if isinstance(content, str) else content).decode()
        name = html.escape(f"{stem}.{suffix}")
        parts.append(f'<a download="{name}" href="data:{TYPES[suffix]};base64,{data}">{suffix.upper()}</a>')
    return (
        f'<p class="tl-take">Download: {" · ".join(parts)}. Where the browser does not allow it, '
        "<code>studio.save(folder)</code> writes the same files.</p>"
    )


def copyable(script: str) -> str:
    """A script with a button that copies it."""
    return (
        '<div class="tl-take"><p>A script that builds and measures the same without this package: '
        f'<button type="button" class="jupyter-button" onclick="{html.escape(COPY)}">Copy as script</button> '
        '<span role="status"></span></p>'
        f"<details><summary>The script ({len(script.splitlines())} lines)</summary>"
        f"<pre>{html.escape(script)}</pre></details></div>"
    )


class Snapshot:
    """A figure and a table for readers without a kernel; the last line of a cell shows both."""

    def __init__(self, result: Result, behind: Sequence[tuple[str, Result]] = ()) -> None:
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
