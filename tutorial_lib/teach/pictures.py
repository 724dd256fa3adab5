"""Figures as HTML with words for who cannot see them."""

import base64
import html

from matplotlib.figure import Figure

from tutorial_lib.figures import plots


def picture(figure: Figure, alt: str) -> str:
    """A figure as an ``<img>`` that needs no other file."""
    content, width = base64.b64encode(plots.png(figure)).decode(), round(100 * figure.get_figwidth())
    return (
        f'<img alt="{html.escape(alt)}" style="width: 100%; max-width: {width}px; background: #fff" '
        f'src="data:image/png;base64,{content}">'
    )
