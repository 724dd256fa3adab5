"""Sentences as HTML: this package writes code between backticks."""

import html
import re


def with_code(text: str) -> str:
    """Text as HTML, with what stands between backticks as code.

    >>> with_code("`x < 2` & more")
    '<code>x &lt; 2</code> &amp; more'
    """
    return code_marked(html.escape(text, quote=False))


def code_marked(escaped: str) -> str:
    """HTML that was escaped, in which what stands between backticks, without a tag in between, becomes code."""
    return re.sub(r"`([^`<>]+)`", r"<code>\1</code>", escaped)
