"""From a case to a program that says what was really built: the frame of a build, its report, saving, caching."""

from tutorial_lib.core import inductor_cache

inductor_cache.prepare()  # before Dynamo is imported below

from tutorial_lib.builds.job import BuildError  # noqa: E402
from tutorial_lib.builds.program import Compiled, Program, Recompile  # noqa: E402
from tutorial_lib.builds.report import Build, Engine, EngineInput  # noqa: E402

__all__ = ["Build", "BuildError", "Compiled", "Engine", "EngineInput", "Program", "Recompile"]
