"""What the tests of this folder run in the engines' process: upstream's own calls.

Every function takes and returns plain values, because they cross a process boundary.
"""

import contextlib
import warnings

import torch
from upstream import DEVICE

from tutorial_lib import expand_reshape
from tutorial_lib.engines import frontend, tasks
from tutorial_lib.engines.stand_in import ProfileRefusal, StandIn

WIDTH, TOKENS = 24, 7


class Upstream(Exception):
    """An error that torch or torch_tensorrt raised, as text."""


def answered(function, *args):
    """What `function` raises or returns, with engines that are stand-ins and are not noted by this package."""
    frontend.set_engine_build(tasks.stand_in)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return None, function(*args)
        except Exception as error:
            if type(error).__module__.startswith("tutorial_lib"):
                return error.with_traceback(None), None
            return Upstream(f"{type(error).__name__}: {error}"), None  # many of torch's do not cross processes


def seed(batch=(2, 4, 32)):
    """The tutorial's first model, small: x [batch, 7, 24]."""
    return expand_reshape(batch=batch, embed_dim=WIDTH, tokens=TOKENS).to(DEVICE)


def model():
    return seed().model


def batch_of(size, tokens=TOKENS):
    return torch.randn(size, tokens, WIDTH, device=DEVICE)


def batches(low, opt, high):
    """An ``Input`` of torch_tensorrt with that range of batches."""
    import torch_tensorrt

    shapes = {f"{end}_shape": (size, TOKENS, WIDTH) for end, size in (("min", low), ("opt", opt), ("max", high))}
    return torch_tensorrt.Input(**shapes)


def message(error):
    """Type and text of an error, of what a compiler's own error is about where it is one."""
    inner = getattr(error, "inner_exception", None) or error
    return f"{type(inner).__name__}: {str(inner).strip()}"


@contextlib.contextmanager
def requests():
    """The engines that are asked for inside the block: (inputs, settings, graph) of each."""
    found = []

    def build(module, inputs, settings=None, **kwargs):
        found.append((inputs, settings, module))
        return StandIn(module, inputs)

    frontend.set_engine_build(build)
    try:
        yield found
    finally:
        frontend.set_engine_build(tasks.stand_in)


def dims(found, axis=0):
    """(min, opt, max) of one axis of the data input of each engine that was asked for; one number if static."""
    sizes = []
    for inputs, _, _ in found:
        data = next(i for i in inputs if len(_corner(i, "opt")) == 3 and _corner(i, "opt")[1] in (TOKENS, TOKENS + 1))
        low, opt, high = (_corner(data, end)[axis] for end in ("min", "opt", "max"))
        sizes.append(opt if low == opt == high else (low, opt, high))
    return sizes


def _corner(spec, end):
    return tuple(spec.shape[f"{end}_shape"]) if isinstance(spec.shape, dict) else tuple(spec.shape)


def jit(size, mark=None, unbacked=None, calls=(), oblivious=False, dynamic=None, axis=0):
    """Profiles after ``torch.compile``; `mark` and `unbacked` hold keywords of mark_dynamic and mark_unbacked."""
    program = torch.compile(
        model(),
        backend="tensorrt",
        dynamic=dynamic,
        options={"min_block_size": 1, "pass_through_build_failures": True},
    )
    x = batch_of(size)
    if mark is not None:
        torch._dynamo.mark_dynamic(x, 0, **mark)
    if unbacked is not None:
        torch._dynamo.decorators.mark_unbacked(x, 0, **unbacked)
    with requests() as found, torch.fx.experimental._config.patch(backed_size_oblivious=oblivious):
        program(x)
        for one in calls:
            program(batch_of(one))
    return dims(found, axis)


def from_input(low, opt, high, oblivious=False):
    """Profiles after ``torch_tensorrt.compile`` with an Input range."""
    import torch_tensorrt

    with requests() as found, torch.fx.experimental._config.patch(backed_size_oblivious=oblivious):
        torch_tensorrt.compile(model(), ir="dynamo", inputs=[batches(low, opt, high)], min_block_size=1)
    return dims(found)


def exported(dim, size, spec=None):
    """Profiles after torch.export with `dim`, a (min, max) pair or the name of a Dim hint, then dynamo.compile.

    `spec` is an (min, opt, max) triple for an Input given to dynamo.compile.
    """
    import torch_tensorrt

    x = batch_of(size)
    batch = (
        getattr(torch.export.Dim, dim) if isinstance(dim, str) else torch.export.Dim("batch", min=dim[0], max=dim[1])
    )
    program = torch.export.export(model(), (x,), dynamic_shapes={"x": {0: batch}})
    with requests() as found:
        torch_tensorrt.dynamo.compile(program, inputs=[batches(*spec)] if spec else (x,), min_block_size=1)
    return dims(found)


def exported_twice_the_batch():
    """Profile of x [2 * batch] with batch in [1, 16], and the range that the exported program promises."""
    import torch_tensorrt

    x, batch = batch_of(8), torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(model(), (x,), dynamic_shapes={"x": {0: 2 * batch}})
    with requests() as found:
        torch_tensorrt.dynamo.compile(program, inputs=(x,), min_block_size=1)
    return dims(found), [(int(r.lower), int(r.upper)) for r in program.range_constraints.values()]


def jit_with_two_dims():
    """Dynamic profiles of each engine when batch and tokens are both marked."""
    x = batch_of(4, tokens=5)
    torch._dynamo.mark_dynamic(x, 0, min=2, max=32)
    torch._dynamo.mark_dynamic(x, 1, min=2, max=64)
    program = torch.compile(model(), backend="tensorrt", options={"min_block_size": 1})
    with requests() as found:
        program(x)
    return [
        sorted(tuple(_corner(i, end) for end in ("min", "opt", "max")) for i in inputs if isinstance(i.shape, dict))
        for inputs, _, _ in found
    ]


def automatic_dynamic_then(size):
    """No mark: profiles after batch 4 and 8, and the refusal of a third batch."""
    program = torch.compile(model(), backend="tensorrt", options={"min_block_size": 1})
    with requests() as found:
        program(batch_of(4))
        program(batch_of(8))
        try:
            program(batch_of(size))
            refusal = None
        except ProfileRefusal as error:
            refusal = str(error)
    return dims(found), refusal


def marked_to_refuse(size, stance):
    """What a marked program does at `size` under a stance that forbids recompiling: an error's text, or engines."""
    program = torch.compile(model(), backend="tensorrt", options={"min_block_size": 1})
    x = batch_of(4)
    torch._dynamo.mark_dynamic(x, 0, min=2, max=32)
    with requests() as found:
        program(x)
        with torch.compiler.set_stance(stance):
            try:
                program(batch_of(size))
            except RuntimeError as error:
                return str(error)
    return dims(found)


def jit_called_with(change):
    """Profiles after a call whose input differs from the marked batch of 4 in one respect, and the error if any."""
    program = torch.compile(model(), backend="tensorrt", options={"min_block_size": 1})
    x = batch_of(4)
    torch._dynamo.mark_dynamic(x, 0, min=2, max=32)
    inputs = {
        "dtype": (batch_of(4).double(),),
        "tokens": (batch_of(4, tokens=5),),
        "empty": (batch_of(4)[:0],),
        "arity": (batch_of(4), batch_of(4)),
    }[change]
    error = None
    with requests() as found:
        program(x)
        try:
            program(*inputs)
        except Exception as raised:
            error = message(raised)
    return len(found), error


def static_sizes_up_to(count):
    """Engines when every call has another size and nothing is dynamic, and whether all outputs were right."""
    one = model()
    program = torch.compile(one, backend="tensorrt", dynamic=False, options={"min_block_size": 1})
    with requests() as found:
        right = [torch.allclose(program(x), one(x), atol=1e-5) for x in map(batch_of, range(2, 2 + count))]
    return len(found), all(right)


def ahead_of_time_called_with(path, change):
    """What upstream's ahead-of-time program says to an input that it was not compiled for."""
    import torch_tensorrt

    x = batch_of(4)
    if path == "input":
        program = torch_tensorrt.compile(model(), ir="dynamo", inputs=[batches(1, 4, 32)], min_block_size=1)
    else:
        batch = torch.export.Dim("batch", min=1, max=32)
        program = torch.export.export(model(), (x,), dynamic_shapes={"x": {0: batch}})
        if path == "export":
            program = torch_tensorrt.dynamo.compile(program, inputs=(x,), min_block_size=1)
        else:
            program = program.module()
    inputs = {
        "one": (batch_of(1),),
        "max": (batch_of(32),),
        "above": (batch_of(33),),
        "dtype": (x.half(),),
        "rank": (x[0],),
        "tokens": (batch_of(4, tokens=9),),
        "empty": (x[:0],),
        "arity": (x, x),
    }[change]
    try:
        return tuple(program(*inputs).shape)
    except Exception as error:
        return message(error).splitlines()[0]


def upstream_engines(how, options):
    """Engines and warnings of upstream's own call with `options`, whatever they are."""
    import torch_tensorrt

    messages = []
    with requests() as found, tasks._warnings_of("torch_tensorrt", messages):
        if how == "jit":
            x = batch_of(4)
            torch._dynamo.mark_dynamic(x, 0, min=2, max=32)
            torch.compile(model(), backend="tensorrt", options=options)(x)
        else:
            torch_tensorrt.compile(model(), ir="dynamo", inputs=[batches(1, 4, 32)], **options)
    return len(found), messages


def cache_keys(heads=(12, 8), opts=(4, 4)):
    """The engine cache's key of the seed model, for each pair of a number of heads and an opt."""
    import torch_tensorrt
    from torch_tensorrt.dynamo._engine_cache import BaseEngineCache

    from tutorial_lib import ExpandReshapeModel

    keys = []
    for number, opt in zip(heads, opts, strict=True):
        one = ExpandReshapeModel(WIDTH, number).eval().to(DEVICE)
        with requests() as found:
            torch_tensorrt.compile(one, ir="dynamo", inputs=[batches(1, opt, 32)], min_block_size=1)
        ((inputs, settings, graph),) = found
        keys.append(BaseEngineCache.get_hash(graph, inputs, settings))
    return keys
