"""From a case to a program that says what was really built: the frame of a build, its report, saving, caching."""

from tutorial_lib.builds.job import BuildError
from tutorial_lib.builds.program import Compiled, Program, Recompile
from tutorial_lib.builds.report import Build, Engine, EngineInput

__all__ = ["Build", "BuildError", "Compiled", "Engine", "EngineInput", "Program", "Recompile"]
