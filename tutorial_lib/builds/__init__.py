"""From a case to a program that says what was really built.

job        the frame of every build around a function of ``paths``    program   a compiled program, with its checks
report     what was built: Build, Engine                              reasons   why a build failed
saving     programs as files                                          plan      TensorRT's plan as values
routed     a program for each of several profiles
backends/  what compiles: which works here, and with which settings   compat    what only some versions of torch need
package_cache, object_cache: packages of earlier kernels, and objects of the C++ compiler
cuda_graphs, convolutions: replayed calls; any batch for convolutions
"""

from tutorial_lib.core import inductor_cache

inductor_cache.prepare()  # before Dynamo is imported below

from tutorial_lib.builds.job import BuildError  # noqa: E402
from tutorial_lib.builds.program import Compiled, Program, Recompile  # noqa: E402
from tutorial_lib.builds.report import Build, Engine, EngineInput  # noqa: E402

__all__ = ["Build", "BuildError", "Compiled", "Engine", "EngineInput", "Program", "Recompile"]
