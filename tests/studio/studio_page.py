"""A studio as a browser sees it, and a path whose build is held."""

import re
import threading
import time
from html import unescape

from ipywidgets import HTML, widget_serialization

from tutorial_lib.core import progress

PATIENCE = 60


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Page:
    """A studio as a browser sees it: ``page["Build"]`` is the control with that label, ``page.text`` all its text."""

    def __init__(self, studio):
        view = studio._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]
        self._root = widget_serialization["from_json"](f"IPY_MODEL_{view['model_id']}", None)

    def _widgets(self):
        widgets = [self._root]
        for widget in widgets:
            widgets.extend(getattr(widget, "children", ()))
        return widgets

    def __getitem__(self, label):
        (widget,) = [w for w in self._widgets() if getattr(w, "description", "") == label]
        return widget

    def labels(self, pattern):
        """The labels of the controls that match."""
        return [w.description for w in self._widgets() if re.search(pattern, getattr(w, "description", ""))]

    @property
    def tabs(self):
        (tabs,) = [w for w in self._widgets() if hasattr(w, "selected_index")]
        return tabs

    @property
    def html(self):
        return "".join(w.value for w in self._widgets() if isinstance(w, HTML))

    @property
    def text(self):
        return _text(re.sub(r"<style>.*?</style>", " ", self.html, flags=re.DOTALL))

    def _of_class(self, name, role=r' role="\w+"'):
        found = re.search(rf'<div class="{name}"{role}>(.*?)</div>(\s*<details>.*?</details>)?', self.html, re.DOTALL)
        return _text(found[0]) if found else ""

    @property
    def status(self):
        return self._of_class("tl-status", role="")

    @property
    def problem(self):
        return self._of_class("tl-problem")

    @property
    def stale(self):
        """The mark of results of another setting, which the figure and the tables carry too."""
        text = self._of_class("tl-stale-note")
        assert ("tl-stale" in self.tabs._dom_classes) == bool(text)
        return text

    def entries(self):
        """What is in every entry."""
        return {w.description: w.value for w in self._widgets() if hasattr(w, "value") and hasattr(w, "description")}


def _text(html):
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


class Held:
    """A path that goes on building until it is let go or, if it is stoppable, cancelled."""

    def __init__(self, build, stoppable=True):
        self.build, self.stoppable = build, stoppable
        self.begun, self.go, self.runs = threading.Event(), threading.Event(), 0

    def __call__(self, *arguments):
        self.runs += 1
        self.begun.set()
        deadline = time.monotonic() + PATIENCE
        while not self.go.wait(0.005):
            assert time.monotonic() < deadline
            if self.stoppable:
                progress.stage("compiling without end")
        return self.build(*arguments)

    def hold(self):
        self.begun.clear()
        self.go.clear()
