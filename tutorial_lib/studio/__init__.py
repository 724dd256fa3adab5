"""The shape studio: set min / opt / max, rebuild, and watch latency and agreement across batch sizes.

app          Studio: the controls, and the same from code
panel        the widgets and where they stand        worker        one thread, the newest request wins
form         the panel's entries as a setting        runner        runs, from the request to the last status
display      what the panel shows of the results     cached_runs   builds, measures, remembers
views        results as HTML and figures             engine_views  TensorRT's engines, likewise
downloads    files, script and snapshot              experiment   a setting to try in the panel
"""

from tutorial_lib.studio.app import Studio

__all__ = ["Studio"]
