"""Messages of upstream's errors, and what :func:`tutorial_lib.explain.explain` makes of each."""

from typing import NamedTuple

from tutorial_lib.explain._guards import GUARDS


class Rule(NamedTuple):
    """An error of one of `types` (names, of base classes as well) whose message has `pattern` in it.

    `cause` and `fix` are templates for the groups of the pattern and for `where`, the user's line if upstream
    names it. A group `line` is quoted instead of the matched line. With `raised_by`, one of the last `frames`
    frames has to be in such a file.
    """

    kind: str
    types: str
    pattern: str
    cause: str
    fix: str
    raised_by: str = ""
    frames: int = 3


EXPORTS = r"/torch/(_export|export)/"
EAGER = "Call the model on the example without compiling it, and make that work first."
RECOMPILING = r"^(?:Detected recompile when|Recompiling function)"
REASON = r"[\s\S]*- \d+/\d+: "
BRANCH = (
    "Replace an `if` or `while` on values by torch.where or torch.cond, promise what you know of a number with "
    "torch._check(n > 0), or take that step out of the model and pass its result in."
)

RULES = (
    Rule(
        "example outside the range",
        "ConstraintViolationError UserError",
        r"^(?P<size>\d+) not in range \[(?P<low>\d+), (?P<high>\w+)\]",
        "The example has a dimension of size {size}, outside the range {low} to {high} that it is marked with.",
        "Trace with an example inside the range, or widen the range.",
    ),
    Rule(
        "examples disagree",
        "ConstraintViolationError UserError",
        r"^(?P<a>L\S+) = (?P<m>\d+) is not equal to (?P<b>L\S+) = (?P<n>\d+)",
        "One Dim stands for {a} and for {b}, and the examples have {m} and {n} there.",
        "Give examples of one size there, or each dimension a Dim of its own name. With Torch-TensorRT, give every "
        "Input a name: unnamed ones share theirs.",
    ),
    Rule(
        "example not a multiple",
        "UserError",
        r"Expected shape\[(?P<axis>\d+)\] = (?P<size>\d+) of input .* to be of the form (?P<form>\S+), where",
        "The example has {size} in dimension {axis}, which is declared as {form}, and {size} is not of that form.",
        "Trace with an example whose dimension {axis} is {form} for some whole number.",
    ),
    Rule(
        "dim definition",
        "UserError",
        r"Found different definitions (?P<a>Dim\(.*?\)) and (?P<b>Dim\(.*?\)) for the same symbolic dimension",
        "One name stands for two ranges: {a} and {b}.",
        "Make one Dim for both places, or two of two names. With Torch-TensorRT, name every Input, or they share it.",
    ),
    Rule(
        "guard",
        "AssertionError",
        r"Cannot create Dim with inconsistent min=",
        "The model needs a relation between sizes that PyTorch cannot show for the whole range, and PyTorch fails "
        "while it writes down which.",
        "Just in time, the error names the relation: torch._dynamo.mark_dynamic and torch.compile.",
        raised_by=r"/torch/fx/experimental/symbolic_shapes\.py$",
    ),
    Rule(
        "dim definition",
        "AssertionError ValueRangeError InternalTorchDynamoError",
        r"Cannot create Dim with inconsistent min=|Dim name must be a valid identifier, got|Invalid ranges \[\d+:\d+\]",
        "A dimension was declared with a range or a name that cannot be.",
        "Use min < max, and a Python identifier such as 'batch'. Do not mark a dimension that has one size.",
    ),
    Rule(
        "dynamic_shapes",
        "UserError",
        r"top-level keys must be the arg names (?P<names>\[.*?\]) of `inputs`, but here they are (?P<given>\[.*?\])",
        "dynamic_shapes has the keys {given}, and the model's arguments are {names}.",
        "Use exactly the names of the model's arguments, every one of them; None for an input that does not vary.",
    ),
    Rule(
        "dynamic_shapes",
        "UserError",
        r"mismatch between the structure of `(inputs|args|kwargs)` and `dynamic_shapes`",
        "dynamic_shapes is not built like the inputs: it has to have one entry for each.",
        "Give one entry for each input, in their order and nested like them; None for one that does not vary.",
    ),
    Rule(
        "dynamic_shapes",
        "UserError",
        r"to have the same length as the actual tensor shape .*\(expected (?P<want>\d+), but got (?P<got>\d+)",
        "A list in dynamic_shapes has {got} entries for a tensor of {want} dimensions.",
        "Give {want} entries, None for a fixed dimension, or only the dynamic ones by axis, such as a Dim under 0.",
    ),
    Rule(
        "dynamic_shapes",
        "UserError",
        r"Unexpected dimension mapped to index (?P<axis>\d+) .* but got (?P<got>.+) instead\)",
        "dynamic_shapes has {got} for dimension {axis}, which is no Dim.",
        'Make a Dim, batch = torch.export.Dim("batch", min=1, max=32), and use that.',
    ),
    Rule(
        "dynamic_shapes",
        "AssertionError UserError",
        r"expected dynamic_shape to be None, int, or _DimHint for _IntWrapper|to non-tensor type",
        "dynamic_shapes marks a dimension of an input that is no tensor.",
        "Put None there. For a number that varies, pass a tensor of that size, or Dim.DYNAMIC for an int.",
    ),
    Rule(
        "dynamic_shapes",
        "IndexError",
        r"^list assignment index out of range$",
        "dynamic_shapes or mark_dynamic names an axis that its input does not have.",
        "Axes count from 0: a tensor of 3 dimensions has 0, 1 and 2.",
        raised_by=r"/torch/(_export/non_strict_utils|export/dynamic_shapes)\.py$",
    ),
    Rule(
        "traced at one",
        "ValueError",
        r"export 0/1 specialized due to hint of (?P<size>[01]) for dimension (?P<name>inputs\S+\])",
        "The example has size {size} in {name}, and PyTorch turns a size of 0 or 1 into a constant while it traces.",
        "Trace with an example of 2 or more there. A Dim with min=1 keeps 1 in the range, Dim.DYNAMIC does not.",
    ),
    Rule(
        "number of inputs",
        "TypeError",
        r"missing a required argument: '(?P<name>\w+)'|too many positional arguments",
        "The examples given to torch.export are not one for each argument of the model's forward.",
        "Give one example for each argument of forward, in that order.",
        raised_by=EXPORTS,
    ),
    Rule(
        "number of inputs",
        "TypeError",
        r"(?P<name>[\w.<>]*forward)\(\) (takes \d+ positional|missing \d+ required positional)",
        "{name}() was called with another number of inputs than it takes.",
        "Give one input for each argument of forward, in that order (self is counted in upstream's numbers).",
    ),
    Rule(
        "number of inputs",
        "RuntimeError ValueError AssertionError",
        r"^expected inputs vector size to be \d+, but got \d+|^Trying to flatten user inputs with exported input tree "
        r"spec|^Ran into a kwarg keyword mismatch|^Wrong number of inputs, expected \d+ got \d+",
        "The program was called with other inputs than it was exported with, in number, in kind or by keyword.",
        "Call it as it was exported: as many inputs, in that order, and by keyword only what was exported so.",
    ),
    Rule(
        "data-dependent",
        "GuardOnDataDependentSymNode UserError",
        r"Could not extract specialized integer from data-dependent expression",
        "Python needs a number, as in range(), from a tensor{where}, and values are not known while tracing.",
        "Replace the loop by a tensor operation with a mask, or compute the number outside the model and pass it in.",
    ),
    Rule(
        "data-dependent",
        "GuardOnDataDependentSymNode UserError Unsupported",
        r"Could not guard on data-dependent expression|^Data-dependent branching|^Dynamic shape operator"
        r"|^Unsupported Tensor\.item\(\) call",
        "The code goes on as the values in a tensor say{where}, and values are not known while tracing.",
        BRANCH,
    ),
    Rule(
        "operator",
        "UnsupportedOperatorException",
        r"^(?P<what>\w+\.\w+\.\w+)$",
        "PyTorch cannot trace {what}{where} with sizes that vary: it does not know the shape of the result.",
        "Take it out of the model, or write it with operators that can be traced.",
    ),
    Rule(
        "class of the result",
        "RuntimeError",
        r"Found <class '(?:[\w.<>]+\.)?(?P<what>\w+)'> in output, which is not a known type",
        "The model returns a {what}, a class that torch.export does not know.",
        "Return tensors in a tuple or a dict, or, if it is a dataclass, call torch.export.register_dataclass({what}) "
        "first. torch.compile needs neither.",
    ),
    Rule(  # seen with 2.11, of dataclasses
        "class of the result",
        "TypeError",
        r"^unhashable type: '(?P<what>\w+)'",
        "The model returns a {what}, a class that torch.export does not know.",
        "Return tensors in a tuple or a dict, or, if it is a dataclass, call torch.export.register_dataclass({what}) "
        "first. torch.compile needs neither.",
        raised_by=r"/torch/_library/opaque_object\.py$",
    ),
    Rule(
        "class of the result",
        "NotImplementedError",
        r"Can't serialize TreeSpec of namedtuple class <class '(?:[\w.<>]+\.)?(?P<what>\w+)'>",
        "The model returns a {what}, a named tuple that torch.export cannot write into a file.",
        "Return a plain tuple or a dict. torch.compile needs neither.",
    ),
    Rule(
        "printing",
        "Unsupported",
        r"builtin operator `print`|LoggingLoggerVariable|logging\.Logger method",
        "The model prints or logs while it runs{where}, which a graph cannot do.",
        "Take that out of forward, or put it under `if not torch.compiler.is_compiling():`.",
    ),
    Rule(
        "packed sequence",
        "Unsupported TorchRuntimeError",  # the latter in torch 2.11
        r"the function `pack_padded_sequence`|built-in method _pad_packed_sequence",
        "Dynamo does not follow pack_padded_sequence{where}: how much it packs depends on the lengths' values.",
        "Run the recurrent layer over the padded batch, and drop what stands behind each length with a mask.",
    ),
    Rule(
        "packed sequence",
        "TypeError",
        r"argument 'size' failed to unpack the object",
        "pack_padded_sequence needs the values of the lengths, which are not known while tracing.",
        "Run the recurrent layer over the padded batch, and drop what stands behind each length with a mask.",
        raised_by=r"/torch/nn/(?:utils|modules)/rnn\.py$",
        frames=8,
    ),
    Rule(
        "quantized by torch.ao",
        "AttributeError Unsupported",
        r"quantized\.\w*PackedParams|UserDefinedObjectVariable\(ScriptObject\)",
        "A layer of this model keeps its weights in a packed object of torch.ao.quantization (quantize_dynamic), which "
        "cannot be traced.",
        "Compile the model without that, or quantize it with torchao, whose layers are made of tensors.",
    ),
    Rule(
        "recompile limit",
        "FailOnRecompileLimitHit RecompileLimitExceeded Unsupported",
        r"Hard failure due to |recompile limit exceeded|recompile_limit reached",
        "This model was compiled anew for so many different inputs that Dynamo gave up (recompile_limit).",
        "Find what changes with TORCH_LOGS=recompiles, and mark a size that varies before the first call: "
        "torch._dynamo.mark_dynamic(x, 0, min=2, max=32).",
    ),
    Rule(
        "number from a tensor",
        "Unsupported",
        r"^Backend compiler exception[\s\S]*failed with aten\._local_scalar_dense",
        "The backend cannot compile code that reads a number from a tensor, such as an index without dimensions.",
        "Give that tensor one dimension and look it up with index_select, or compile ahead of time.",
    ),
    Rule(
        "graph break",
        "Unsupported",
        r"^(?P<what>\S.*)\n\s+Explanation: (?P<line>.*)",
        "Dynamo cannot follow this code: {what}{where}.",
        "Take that line out of the model, or compile without fullgraph=True: Python then runs between the pieces.",
    ),
    Rule(
        "leaves torch",
        "RuntimeError",
        r"\.numpy\(\) is not supported for tensor subclasses|Cannot access data pointer of Tensor",
        "The model leaves PyTorch (numpy, a data pointer, a foreign kernel), and a graph cannot follow there{where}.",
        "Write that step with torch functions, or wrap it with torch.library.custom_op.",
    ),
    *(
        Rule(
            "recompile",
            "RuntimeError RecompileError",
            f"{RECOMPILING}{REASON}(?P<line>{guard.pattern})",
            guard.cause,
            guard.fix,
        )
        for guard in GUARDS
    ),
    Rule(
        "recompile",
        "RuntimeError RecompileError",
        RECOMPILING + r"(?:" + REASON + r"(?P<line>.+))?",
        "This call does not fit what was compiled, and compiling anew was forbidden.",
        'Call it with inputs like those before, or allow it: torch.compiler.set_stance("eager_on_recompile").',
    ),
    Rule(
        "call outside the range",
        "RuntimeError",
        r"Expected input (?:at )?(?P<name>\*?\S+)\.shape\[(?P<axis>\d+)\](?: = \d+)? to be (?:equal to )?"
        r"(?P<end>[<>]= \d+|\d+|of the form \S+), (?:but got \d+|where)",
        "{name} has another size in dimension {axis} than the program was exported for: {end}.",
        "Keep to that, or export again with a Dim for that dimension that is wide enough.",
    ),
    Rule(
        "call outside the range",
        "RuntimeError",
        r"input_handles\[(?P<n>\d+)\]: (?:dim value is too (?:large|small)|unmatched dim value) at (?P<axis>\d+), "
        r"expected(?: it to be| to be|:) (?P<end>[<>= ]*\d+), but got: (?P<size>\d+)",
        "Input {n} has {size} in dimension {axis} or a wrong number of dimensions; the package was compiled for {end}.",
        "Keep to that, or export with a Dim for that dimension that is wide enough, and compile again.",
    ),
    Rule(  # seen with 2.11
        "package",
        "RuntimeError",
        r"run_func_\b[\s\S]*API call failed at",
        "A package refused this call, or failed; its reason is on standard error, in a line that starts with Error.",
        "Read that line. Without one, set AOTI_RUNTIME_CHECK_INPUTS=1 before the package is loaded, and call it again.",
    ),
    Rule(
        "call outside the range",
        "RuntimeError",
        r"^Expected (?P<what>u\d+ [<>=!]+ \S+) but received"
        r"|^Runtime assertion failed for expression (?P<also>.+) on node",
        "A number that the program reads from its inputs breaks {what}{also}, which was promised when it was exported.",
        "Look for it in the torch._check calls of the model: keep to it, or promise less and export again.",
    ),
    Rule(
        "call outside the range",
        "AssertionError",
        r"^Guard failed: (?P<name>\w+)\.size\(\)\[(?P<axis>\d+)\] (?P<what>(?:[<>]=?|==) \d+)$",
        "{name} was exported for sizes {what} in dimension {axis}, and this call has another there (or another number "
        "of dimensions).",
        "Stay in the range, or export again with a wider Dim.",
    ),
    Rule(
        "hidden guard",
        "AssertionError",
        r"^Guard failed: (?P<what>.*\.size\(\)\[\d+\].*)$",
        "The exported program is right only where {what}, and this call is not. range_constraints may not show that.",
        "Call it only with such sizes, or change the line of the model that needs it and export again.",
    ),
    Rule(
        "number of dimensions",
        "RuntimeError",
        r"^Unexpected number of dimensions in input at \S+ \(expected (?P<want>.*), got (?P<got>.*)\)"
        r"|^expected ndim (?P<n>\d+) but got (?P<m>\d+)",
        "An input has {got}{m} dimensions or sizes, and the program takes {want}{n}.",
        "Give an input of the shape that it was exported with; unsqueeze(0) adds a batch of 1.",
    ),
    Rule(
        "dtype",
        "RuntimeError",
        r"to have one of the following scalar types: Long, Int; but got|expected scalar type (Long|Int) but found",
        "An input that counts or names things (ids, indices) is not of whole numbers{where}.",
        "Pass it as x.long(), and declare it so (TensorSpec(dtype=torch.int64)).",
    ),
    Rule(
        "dtype",
        "RuntimeError AssertionError",
        r"must have the same dtype, but got (?P<a>\w+) and (?P<b>\w+)|same dtype, but got: (?P<c>.+?) != (?P<d>.+)"
        r"|Input type \((?!torch\.)(?P<e>[\w:]+)\) and (?:weight|bias) type \((?P<f>[\w:]+)\) should be the same"
        r"|expected scalar type (?P<g>\w+) but found (?P<h>\w+)"
        r"|unmatched dtype, expected: (?P<i>\S+), but got: (?P<j>\S+)",
        "Two tensors have different dtypes: {a}{c}{e}{g}{i} and {b}{d}{f}{h}{j}{where}.",
        "Convert the input to the model's dtype, x.to(next(model.parameters()).dtype), or the model with model.to().",
    ),
    Rule(
        "dtype",
        "AssertionError RuntimeError",
        r"^Tensor dtype mismatch! Expected: (?:torch\.)?(?P<a>\w+), Got: (?:torch\.)?(?P<b>\w+)",
        "A tensor came out in {b} where {a} was captured, as under autocast.",
        "Take another path or another backend.",
    ),
    Rule(
        "device",
        "RuntimeError",
        r"Expected all tensors to be on the same device|two different devices|^Tensor on device \S+ is not on the exp"
        r"|Input type \(torch\.(?:\w+\.)?\w+Tensor\) and weight type \(torch\.(?:\w+\.)?\w+Tensor\) should be the same",
        "The tensors are not all on one device{where}.",
        "Move them together, model.to(device) and x.to(device); a tensor made in forward needs device=x.device.",
    ),
    Rule(
        "index",
        "IndexError",
        r"^index out of range in self",
        "An index is not in the table that it is looked up in, as an embedding{where}: below 0, or too large.",
        "Check the ids before the call. For examples, give the number of rows: TensorSpec(..., high=rows).",
    ),
    Rule(
        "sizes",
        "RuntimeError",
        r"size of tensor a \((?P<a>\w+)[^)]*\) must match the size of tensor b \((?P<b>\w+)[^)]*\) at non-singleton "
        r"dimension (?P<n>\d+)",
        "Two tensors do not fit: {a} and {b} in dimension {n}{where}.",
        "If one is a table of fixed length, slice or interpolate it to the input's size. " + EAGER,
    ),
    Rule(
        "sizes",
        "RuntimeError",
        r"mat1 and mat2 shapes cannot be multiplied|a and b must have same reduction dim|Attempting to broadcast a "
        r"dimension of length|shape '\[.*\]' is invalid for input of size|Sizes of tensors must match except in "
        r"dimension|to have \d+ channels, but got \d+ channels|Given normalized_shape=|must be equal to input_size\. E",
        "Two sizes do not fit each other in the model{where}. That is rarely about compiling.",
        EAGER,
    ),
    Rule(
        "strides",
        "RuntimeError",
        r"unmatched stride value at \d+|^view size is not compatible with input tensor's size and stride",
        "A tensor does not lie in memory as the code needs it: it is a transposed or a partial view{where}.",
        "Pass x.contiguous(), or write reshape instead of view.",
    ),
    Rule(
        "in-place",
        "RuntimeError",
        r"more than one element of the written-to tensor refers to a single memory location"
        r"|a leaf Variable that requires grad is being used in an in-place operation"
        r"|Inplace update to inference tensor outside InferenceMode",
        "The model writes into a tensor that it may not change: an input, a parameter or an expanded view{where}.",
        "Make a new tensor instead (x = x + 1, not x += 1 or x.add_(1)), or clone it first.",
    ),
    Rule(
        "memory",
        "OutOfMemoryError RuntimeError",
        r"out of memory\. Tried to allocate (?P<a>[\d.]+ \w+)"
        r"|DefaultCPUAllocator: (?:can't allocate|not enough) memory: you tried to allocate (?P<b>\d+ bytes)",
        "There was no memory for another {a}{b}.",
        "Lower the max of the range (the largest size decides), delete old programs, or use a smaller model or dtype.",
    ),
    Rule(
        "tensorrt converter",
        "RuntimeError AssertionError",
        r"Last \d dimensions can't be dynamic for (?P<what>adaptive_\w+)",
        "Torch-TensorRT cannot convert {what} where the sizes that it pools vary.",
        "For one value of each channel, x.mean(dim=(2, 3)). For more, leave it to PyTorch: "
        'options={{"torch_executed_ops": {{"torch.ops.aten._{what}.default"}}}}.',
    ),
    Rule(
        "tensorrt converter",
        "RuntimeError",
        r"This is only available in non TensorRT-RTX environments[\s\S]*?target=torch\.ops\.(?P<what>[\w.]+)",
        "Torch-TensorRT converts {what} for TensorRT, and not for TensorRT for RTX.",
        'Leave it to PyTorch, options={{"torch_executed_ops": {{"torch.ops.{what}"}}}}, or write that step with other '
        "operators: instead of nonzero and of masks as indices, torch.where.",
    ),
    Rule(
        "tensorrt converter",
        "AttributeError",
        r"^'int' object has no attribute 'target'",
        "The result holds a number, such as a size, which Torch-TensorRT does not give back.",
        "Drop it from the result, or take another backend.",
        raised_by=r"/torch_tensorrt/",
        frames=6,
    ),
    Rule(
        "complex numbers",
        "IndexError",
        r"^Dimension out of range",
        "Torch-TensorRT 2.13 writes complex numbers as real ones, with a dimension more, and fails on this model.",
        "Write the products of real and imaginary parts yourself, or take another backend.",
        raised_by=r"/complex_graph_rewrite\.py$",
        frames=40,
    ),
    Rule(
        "tensorrt converter",
        "RuntimeError AssertionError",
        r"Channel dim can't be dynamic for batch norm",
        "Torch-TensorRT cannot convert a normalization whose number of channels varies: instance normalization counts "
        "each image's channels by themselves, so just in time that number follows from the batch.",
        "Compile ahead of time (input or export).",
    ),
    Rule(
        "tensorrt converter",
        "RuntimeError ValueError",
        r"FillOperation LINSPACE requires that input at index 1 have rank 0",
        "torch.arange begins at a size that varies, which Torch-TensorRT cannot convert.",
        "Let it begin at 0, and add: start + torch.arange(length).",
    ),
    Rule(
        "tensorrt converter",
        "RuntimeError TypeError",
        r"int\(\) argument must be .* not '[\w.]*ITensor'",
        "A converter of Torch-TensorRT needs a number where the model has a size that varies, as in "
        "interpolate(x, size=y.shape[-2:]).",
        "Leave that operator to PyTorch, for example "
        'options={{"torch_executed_ops": {{"torch.ops.aten.upsample_bilinear2d.vec"}}}}.',
    ),
    Rule(
        "tensorrt attention",
        "RuntimeError ValueError",
        r"\[AttentionInput\]|For attention operation .*query heads",
        "TensorRT's attention layer has to know the number of heads of queries, keys and values, and here it cannot "
        "tell: decoders reshape or repeat keys and values with sizes that vary.",
        'Use options={{"decompose_attention": True}}, which builds attention from matrix products. Or write the number '
        "of heads as a number where they are reshaped.",
    ),
    Rule(
        "openvino conversion",
        "OpConversionFailure",
        r"No conversion rule found for operations: (?P<what>.+)",
        "OpenVINO cannot convert {what}.",
        "Take the backend inductor or eager, or write that step with other operators.",
    ),
    Rule(
        "openvino conversion",
        "OpConversionFailure",
        r"^-- (?P<what>\S+) with a message:",
        "OpenVINO cannot convert {what}.",
        "Take the backend inductor or eager, or write that step with other operators.",
    ),
    Rule(
        "openvino input",
        "IndexError",
        r"vector::_M_range_check",
        "OpenVINO leaves out an input that the model does not use, and finds no place for the range of another.",
        "Take the input path, or drop that argument from the model's forward and from the inputs.",
        raised_by=r"/(paths|openvino)\.py$",
    ),
    Rule(
        "openvino result",
        "GeneralFailure",
        r"Tensor name is not a number: (?P<what>\S+)",
        "OpenVINO cannot convert a result that holds one tensor twice ({what}).",
        "Return it once, or the second time as a copy: x.clone().",
    ),
    Rule(
        "openvino result",
        "ValueError",
        r"^(?P<what>.+) is not in list$",
        "The result holds the constant {what}, which OpenVINO does not give back.",
        "Drop it from the result, or return a tensor.",
        raised_by=r"/openvino/frontend/pytorch/fx_decoder\.py$",
    ),
    Rule(
        "openvino tracing",
        "RuntimeError",
        r"^Couldn't get TorchScript module by tracing\.\s+Exception:\s+(?P<why>.+?)\.?(?: of [{(\[].*)?$",
        "torch.jit.trace, with which OpenVINO converts a model that is not exported, cannot trace this one: {why}.",
        "Take the export path.",
    ),
    Rule(
        "openvino option",
        "RuntimeError",
        r"^Wrong value (?P<value>.*?) ?for property key (?P<name>\w+)\. (?P<line>.+)",
        "OpenVINO does not take the value {value} for {name}: {line}",
        "Give one that it takes, or leave {name} out.",
    ),
    Rule(
        "disk",
        "OSError CppCompileError RuntimeError",
        r"(?P<what>No space left on device|Disk quota exceeded|Read-only file system)",
        "A file could not be written: {what}.",
        "Free some space, or set TMPDIR and TORCHINDUCTOR_CACHE_DIR to folders that have some, and try again.",
    ),
    Rule(
        "process limit",
        "RuntimeError OSError CppCompileError MemoryError",
        r"can't start new thread|Cannot allocate memory|Resource temporarily unavailable",
        "The system gives this process no more threads or memory.",
        "Raise the limit (ulimit -u, ulimit -v, or the container's), or close other programs, and start Python again.",
    ),
    Rule(
        "compiler's cache",
        "ImportError OSError",
        r"torchinductor\S*: file too short",
        "A file in Inductor's cache is cut off: another process was writing it, or died while it did.",
        "Build again. If it stays so, delete the folder of the cache (TORCHINDUCTOR_CACHE_DIR).",
    ),
    Rule(
        "fault of Inductor",
        "LoweringException InductorError ValueRangeError",
        r"^(?:\w+: )*(?P<what>Invalid ranges \[\d+:-\d+\])",
        "Inductor fails on an operator of this model with sizes that vary: its own arithmetic on ranges of sizes goes "
        "wrong ({what}).",
        "Take another backend, or make fewer dimensions dynamic.",
    ),
    Rule(
        "fault of Inductor",
        "AssertionError",
        r"^expected size \S+, stride (?P<what>\d+==\d+) at dim=",
        "Inductor expected a tensor between two operators to lie in memory otherwise than it does (stride {what}).",
        "Take another path or another backend.",
    ),
    Rule(
        "C++ compiler",
        "InvalidCxxCompiler",
        r"No working C\+\+ compiler found",
        "Inductor found no C++ compiler that works.",
        "Install one (Ubuntu: sudo apt install g++), or name yours in CXX; python -m tutorial_lib doctor says more.",
    ),
    Rule(
        "C++ compiler",
        "CppCompileError",
        r"C\+\+ compile error(?:[\s\S]*?^(?P<line>.*\berror: .*)$)?",
        "The C++ compiler refused code that Inductor generated, or could not run.",
        "python -m tutorial_lib doctor tries the compiler. If Python.h is missing: sudo apt install python3-dev.",
    ),
    Rule(
        "complex numbers",
        "AttributeError",
        r"^'SymInt' object has no attribute 'device'",
        "Torch-TensorRT 2.13 writes complex numbers as real ones, and just in time that fails beside a dynamic size.",
        "Compile ahead of time (input or export), or write the products of real and imaginary parts yourself.",
        raised_by=r"/complex_graph_rewrite\.py$",
    ),
    Rule(
        "tensorrt needs a GPU",
        "RuntimeError",
        r"Myelin[\s\S]*CHECK\(status == CUDA_SUCCESS\) failed",
        "TensorRT for RTX asks for a GPU where it builds an engine whose weights can be replaced "
        "(immutable_weights=False), and there is none here.",
        "Leave immutable_weights at True. Replacing weights and the cache of engines need the other value: build on a "
        "machine with a supported GPU there.",
    ),
    Rule(
        "tensorrt precision",
        "RuntimeError ValueError",
        r"TensorRT does not support float64",
        "TensorRT does not compute in float64.",
        "Convert the model and its inputs with float().",
    ),
    Rule(
        "tensorrt converter",
        "RuntimeError",
        r"Output shape can not be computed for node \[\w+\]-\[aten_ops\.(?P<what>[\w.]+)\]",
        "TensorRT cannot tell the shape of what Torch-TensorRT made of aten.{what}.",
        'Leave that operator to PyTorch: options={{"torch_executed_ops": {{"torch.ops.aten.{what}"}}}}.',
    ),
    Rule(
        "tensorrt converter",
        "IndexError",
        r"^tuple index out of range",
        "Torch-TensorRT fails while it looks at torch.sort over the last dimension.",
        'Leave that operator to PyTorch: options={{"torch_executed_ops": {{"torch.ops.aten.sort.default"}}}}.',
        raised_by=r"/dynamo/conversion/aten_ops_converters\.py$",
    ),
    Rule(  # the sizes of a layer that TensorRT has refused are a sequence of length -1
        "tensorrt converter",
        "RuntimeError",
        r"^ValueError: __len__\(\) should return >= 0[\s\S]*"
        r"^I\w+::\w+: Error Code \d+: (?P<said>.+?)(?: In \w+ at \S+)?$",
        "TensorRT refused a layer, and the next converter failed for want of its sizes. TensorRT's own words: {said}",
        "Change what TensorRT names there, or leave that operator to PyTorch (torch_executed_ops); the one that failed "
        "is not at fault.",
    ),
    Rule(
        "tensorrt converter",
        "RuntimeError",
        r"^\w+: (?P<said>.+)\n[\s\S]*?While executing %\S+ .*?target=torch\.ops\.(?P<what>[\w.]+)",
        "Torch-TensorRT fails while it converts {what} ({said}).",
        'Leave that operator to PyTorch: options={{"torch_executed_ops": {{"torch.ops.{what}"}}}}.',
    ),
)
"""What was provoked here, the particular before the general."""

READ = (
    Rule(
        "tensorrt profile",
        "RuntimeError",
        r"Static dimension mismatch while setting input shape for (?P<name>\w+)",
        "{name} has another size than the engine in a dimension that is fixed there.",
        "Give it the size the engine was built with, or build it with that dimension dynamic.",
    ),
    Rule(
        "tensorrt profile",
        "RuntimeError",
        r"setInputShape\(.*to be true but got false|not satisfy any optimization profiles"
        r"|No optimization profile matches the input shapes",
        "A size of this call is outside the range that the TensorRT engine was built for, or a fixed one differs.",
        "Stay between min_shape and max_shape, or build the engine again with a wider range.",
    ),
    Rule(
        "dtype",
        "RuntimeError AssertionError",
        r"Expected input tensors to have type (?P<a>\w+), found type (?P<b>\w+)"
        r"|Dtype mismatch for .*Expect (?P<c>torch\.\w+), got (?P<d>torch\.\w+)",
        "The TensorRT engine was built for inputs of {a}{c}, and this one is {b}{d}.",
        "Convert the input to that dtype, or build the engine with Input(dtype=...) of yours.",
    ),
    Rule(
        "device",
        "RuntimeError",
        r"Expected input tensors to have device (?P<a>\S+), found device (?P<b>\S+)",
        "The TensorRT engine takes inputs on {a}, and this one is on {b}.",
        "Move it: x.to({a!r}).",
    ),
    Rule(
        "tensorrt target",
        "RuntimeError",
        r"Turing \(SM75\): FP32 GEMM is not supported",
        "TensorRT for RTX has no float32 matrix product for sm75 (Turing).",
        "Use float16, case.in_precision('fp16'), or another target.",
    ),
    Rule(
        "tensorrt option",
        "AssertionError",
        r"use_explicit_typing was set to True, however found that enabled_precisions was also specified",
        "enabled_precisions is no longer how Torch-TensorRT chooses a precision: since 2.10 the model's dtypes decide.",
        "Leave it out, and convert the model and the inputs (model.half(), x.half()), or use enable_autocast=True.",
    ),
)
"""Read in Torch-TensorRT's source (2.11 to 2.14) and TensorRT's messages; not run."""

OTHERWISE = (
    Rule(
        "fault of Torch-TensorRT",
        "AssertionError AttributeError IndexError KeyError NotImplementedError TypeError ValueError",
        r"\A(?P<said>.+)",
        "Torch-TensorRT's own code fails on this model ({said}).",
        "Take another path or backend, or leave an operator to PyTorch with the option torch_executed_ops.",
        raised_by=r"/torch_tensorrt/",
    ),
)
"""Known by where an error was raised alone; looked at last."""
