"""The shape studio: set min / opt / max, rebuild, and watch latency and agreement across batch sizes.

setting   what a run builds and measures        panel    the widgets and where they stand
result    what it found                         form     the panel's entries as a setting
worker    one thread, the newest request wins   display  what the panel shows of the results
bench     builds, measures, remembers           views    results -> HTML and figures
script    a setting as a stand-alone script     take     files, script and snapshot
app       Studio: the controls, and the same from code
"""

from tutorial_lib.studio.app import Studio

__all__ = ["Studio"]
