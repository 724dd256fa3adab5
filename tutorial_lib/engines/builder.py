"""Builds engines with TensorRT's own builder, listens to what it says, and can stop it.

:class:`Builder` changes Torch-TensorRT's interpreter in this process: TensorRT's log and progress come here, and a plan
is not deserialized, since that needs a driver. Everything up to and including ``IBuilder.build_serialized_network`` is
upstream's.
"""

import importlib
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from tutorial_lib.builds import report
from tutorial_lib.builds.plan import Plan, PlanTensor
from tutorial_lib.core.errors import first_line
from tutorial_lib.core.progress import Cancelled, Listener, Progress
from tutorial_lib.engines import log, targets
from tutorial_lib.engines.errors import EngineRefused
from tutorial_lib.engines.stand_in import StandIn
from tutorial_lib.explain import explain

NO_DRIVER = "Cuda Runtime ("
"""In errors that TensorRT for RTX 1.4 logs without a driver, also for builds that succeed."""
INTERVAL = 0.05
"""Seconds between two reports of progress."""


@dataclass
class Request:
    """What a build is asked for besides the graph.

    Attributes
    ----------
    target : str or None
        A compute capability (:mod:`tutorial_lib.engines.targets`), or TensorRT's portable default.
    keep_plans : bool
        Whether the serialized plans are wanted.
    is_cancelled : callable
        Asked at every step of the builder; True stops it.
    progress : callable
        Called with a :class:`~tutorial_lib.core.progress.Progress`, also from threads of TensorRT's.
    """

    target: str | None = None
    keep_plans: bool = False
    is_cancelled: Callable[[], bool] = lambda: False
    progress: Listener = lambda progress: None


@dataclass
class Phase:
    """A phase of TensorRT's builder that has begun, with its number of steps and how many of them are done."""

    parent: str | None
    steps: int
    done: int = 0


def share_done(phases: Mapping[str, Phase]) -> float:
    """How much of a build is done, 0 to 1, counting every step of a phase as the same part of its parent's step.

    Examples
    --------
    >>> share_done({"build": Phase(None, 4, 2), "time": Phase("build", 10, 5)})
    0.625
    """

    def of(name: str) -> float:
        phase = phases[name]
        below = sum(of(other) for other, inner in phases.items() if inner.parent == name)
        return min(1.0, (phase.done + min(1.0, below)) / max(1, phase.steps))

    return max((of(name) for name, phase in phases.items() if phase.parent is None), default=0.0)


class _NoRuntime:
    """Takes the place of ``trt.Runtime``, which needs a driver: a plan stays the bytes that it is."""

    def __init__(self, logger: Any) -> None:
        pass

    def deserialize_cuda_engine(self, data: Any) -> types.SimpleNamespace:
        plan = bytes(data)
        # 2.14 asks which outputs share the memory of an input, as a cache that is written in place does: none here
        return types.SimpleNamespace(serialize=lambda: plan, get_aliased_input_tensor=lambda name: None)


class Builder:
    """The engine build of this process: TensorRT's builder, with a log and progress of each build."""

    def __init__(self) -> None:
        self._trt = importlib.import_module("tensorrt")  # TensorRT for RTX under that name, by torch_tensorrt
        self._interpreter: Any = importlib.import_module("torch_tensorrt.dynamo.conversion._TRTInterpreter")
        conversion = importlib.import_module("torch_tensorrt.dynamo.conversion._conversion")
        self._interpret = conversion.interpret_module_to_result
        self._compiler: Any = importlib.import_module("torch_tensorrt.dynamo._compiler")
        self.request = Request()
        self.versions = {
            **report.versions(),
            "torch-tensorrt-rtx": importlib.import_module("torch_tensorrt").__version__,
            "tensorrt-rtx": self._trt.__version__,
        }
        self._network: dict[str, Any] = {}  # what a Plan says of the network that it was made from
        self._network_done = 0.0  # time.perf_counter(), or 0 while the network is not complete
        self._log = log.collector(self._trt)
        self._monitor = _monitor(self._trt)(self)
        self._patch()

    def _patch(self) -> None:
        """Make upstream's interpreter log here, report progress here, and leave out the deserialization."""
        trt = self._trt
        proxy: Any = types.ModuleType("tensorrt")
        proxy.__getattr__ = lambda name: getattr(trt, name)
        proxy.Runtime = _NoRuntime
        self._interpreter.trt = proxy
        self._interpreter.TRT_LOGGER = self._log
        populate = self._interpreter.TRTInterpreter._populate_trt_builder_config

        def populated(interpreter: Any, *args: Any) -> Any:
            config = populate(interpreter, *args)
            config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
            config.progress_monitor = self._monitor
            targets.apply(config, self.request.target)
            self._look_at(interpreter.ctx.net, interpreter.optimization_profiles or [])
            return config

        self._interpreter.TRTInterpreter._populate_trt_builder_config = populated
        self._compiler.interpret_module_to_result = self._serialized

    def _look_at(self, network: Any, profiles: Sequence[Any]) -> None:
        """Note the inputs and the layers of a complete network, and name each layer as its own source.

        With that, the plan can tell what its layers were made from.
        """
        self._network_done = time.perf_counter()
        shape_layers = 0
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            layer.metadata = layer.name
            if all(layer.get_output(number).is_shape_tensor for number in range(layer.num_outputs)):
                shape_layers += 1
        self._network = {
            "network_layers": network.num_layers,
            "shape_layers": shape_layers,
            "inputs": tuple(_tensor(network.get_input(number), profiles) for number in range(network.num_inputs)),
            "outputs": tuple(_tensor(network.get_output(number), ()) for number in range(network.num_outputs)),
        }
        self.request.progress(Progress("building", 0, None, "TensorRT builds an engine"))

    def convert(
        self,
        module: torch.fx.GraphModule,
        inputs: Sequence[Any],
        settings: Any = None,
        name: str = "",
        engine_cache: Any = None,
        **binding_names: Any,
    ) -> StandIn:
        """Build an engine for `module`; the signature is that of ``convert_module``.

        Raises
        ------
        EngineRefused
            If a converter or TensorRT's builder refuses.
        Cancelled
            If the request was cancelled.
        """
        self.request.progress(Progress("converting", 0, None, "converting the graph to a TensorRT network"))
        self._log.lines.clear()
        start = time.perf_counter()
        self._network_done = 0.0
        with _frozen_parameters(module):
            try:
                result = self._interpret(module, inputs, settings, engine_cache=engine_cache, **binding_names)
            except Exception as error:
                if self.request.is_cancelled():
                    raise Cancelled from None
                raise self._refusal(error) from error
        end = time.perf_counter()
        facts = log.read("\n".join(text for _, text in self._log.lines))
        plan = Plan(
            plan_bytes=len(result.serialized_engine),
            activation_bytes=max(facts.activation_bytes, default=0),
            activation_by_profile=facts.activation_bytes if len(facts.activation_bytes) > 1 else (),
            weight_bytes=facts.weight_bytes,
            scratch_bytes=facts.scratch_bytes,
            layers=facts.layers,
            **self._network,
            targets=targets.built_for(self.request.target, self.versions["tensorrt-rtx"]),
            conversion_seconds=self._network_done - start,
            build_seconds=end - self._network_done,
            messages=self._messages(self._log.warning),
            versions=self.versions,
            data=bytes(result.serialized_engine) if self.request.keep_plans else None,
        )
        refused = targets.refusal_after_build(self.request.target, plan.is_dynamic, self.versions["torch-tensorrt-rtx"])
        if refused:
            raise EngineRefused(refused, plan.messages)
        return StandIn(module, inputs, plan)

    def _serialized(
        self, module: torch.fx.GraphModule, inputs: Sequence[Any], settings: Any = None, **keywords: Any
    ) -> types.SimpleNamespace:
        """The engine of ``convert_exported_program_to_serialized_trt_engine``, built and counted as any other.

        Its bytes are empty where engines are not built.
        """
        request = self.request
        self.request = replace(request, keep_plans=True)
        try:
            engine = self._compiler.convert_module(module, inputs, settings, **keywords)
        finally:
            self.request = request
        return types.SimpleNamespace(serialized_engine=engine.plan.data if engine.plan else b"")

    def _messages(self, severity: int) -> tuple[str, ...]:
        """What TensorRT said of this severity or a graver one, each sentence once."""
        messages = dict.fromkeys(text for level, text in self._log.lines if level <= severity)
        return tuple(text for text in messages if NO_DRIVER not in text)

    def _refusal(self, error: Exception) -> EngineRefused:
        """One sentence from the exception and TensorRT's log, and what it means where that is known."""
        errors = self._messages(self._log.error)
        reason = f"{type(error).__name__}: {first_line(error)}"
        if errors and (self._network_done or not str(error)):
            reason = _sentence(errors[0])  # upstream says only that the build returned nothing
        refusal = EngineRefused(reason, errors)
        explanation = explain(RuntimeError("\n".join([f"{type(error).__name__}: {error}", *errors])))
        if explanation.translated:
            refusal.explanation = replace(explanation, quote=reason)
        return refusal


def _tensor(tensor: Any, profiles: Sequence[Any]) -> PlanTensor:
    """An input or output of a network. A profile names an input with a range; another has one shape."""
    shape = tuple(tensor.shape)
    if tensor.is_shape_tensor:
        ranges = [profile.get_shape_input(tensor.name) for profile in profiles]
    elif -1 in shape:
        ranges = [profile.get_shape(tensor.name) for profile in profiles]
    else:
        ranges = [(shape, shape, shape)] * len(profiles)
    if tensor.is_network_input and not ranges:
        ranges = [(shape, shape, shape)]
    return PlanTensor(
        name=tensor.name,
        dtype=log.dtype_name(tensor.dtype.name),
        profiles=tuple((tuple(low), tuple(opt), tuple(high)) for low, opt, high in ranges),
        is_shape_tensor=tensor.is_shape_tensor,
    )


def _sentence(text: str) -> str:
    """TensorRT's message without the place in its source: ``[file.cpp::function::12] Error Code 2: ...``."""
    return text.split("] ", 1)[-1].strip() if text.startswith("[") else text.strip()


@contextmanager
def _frozen_parameters(module: torch.fx.GraphModule) -> Iterator[None]:
    """Give a graph its frozen parameters back, which upstream deletes after the conversion to save memory.

    Copying the module instead would make fake constants on ``jit``, where Dynamo's fake mode is in force.
    """
    names = [name for name in dir(module) if name.startswith("_frozen_param")]
    values = {name: getattr(module, name) for name in names}
    try:
        yield
    finally:
        for name, value in values.items():
            if not hasattr(module, name):
                setattr(module, name, value)


def _monitor(trt: Any) -> type[Any]:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Reports how far a build is, and stops it when asked to.

        TensorRT's phases are nested: a phase is one step of its parent, and has steps itself.
        """

        def __init__(self, builder: Builder) -> None:
            super().__init__()
            self._builder = builder
            self._phases: dict[str, Phase] = {}
            self._percent, self._last = 0, 0.0

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self._phases.clear()
                self._percent = 0
            self._phases[phase] = Phase(parent, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in self._phases:
                self._phases[phase].done = step + 1
            now = time.monotonic()
            if now - self._last >= INTERVAL:
                self._last = now
                self._percent = max(self._percent, int(100 * share_done(self._phases)))
                self._builder.request.progress(Progress("building", self._percent, 100, f"TensorRT: {phase}"))
            return not self._builder.request.is_cancelled()

        def phase_finish(self, phase: str) -> None:
            self._phases.pop(phase, None)

    return Monitor
