"""What TensorRT's builder prints is read, in the words of two releases. The lines are real, some of their parts cut."""

import pytest

from tutorial_lib.builds.plan import PlanLayer
from tutorial_lib.engines import log

END = "\x1f"
LAYERS_1_5 = f"""\
Layers:
Name: __mye769_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, \
Metadata: {""}
Name: __myl_CastMean_myl0_1, LayerType: kgen, Inputs: [ {{ Name: x, Dimensions: [-1,16], Strides: [16,1], StrideOrder: \
[1,0], Datatype: Half, Format: (Linear) Row major linear format }}], Constants: [ {{ Name: __mye2616_dconst_myl0, \
Dimensions: [1,16], Strides: [16,1], StrideOrder: [1,0], Datatype: Half, Format: (Linear) Row major linear format \
}}], Outputs: [ {{ Name: __myln_k_arg__bb1_4_myl0, Dimensions: [-1,16], Strides: [16,1], StrideOrder: [1,0], \
Datatype: Half, Format: (Linear) Row major linear format }}], TacticName: __myl_CastMean_0x9b1c2b5f, StreamId: 0, \
Metadata: [NORMALIZATION]-[norm/native_layer_norm]{END}norm/expand_bias_broadcast
Name: __myl_FcAddAdd_myl0_3, LayerType: runtime_fusion, Inputs: [ {{ Name: x, Dimensions: [-1,16], Strides: [16,1], \
StrideOrder: [1,0], Datatype: Float, Format: (Linear) Row major linear format }}, {{ Name: __myln_k_arg__bb1_5_myl0, \
Dimensions: [-1,64], Strides: [64,1], StrideOrder: [1,0], Datatype: Float, Format: (Linear) Row major linear format \
}}], Constants: [], Outputs: [ {{ Name: output0, Dimensions: [-1,16], Strides: [16,1], StrideOrder: [1,0], Datatype: \
Float, Format: (Linear) Row major linear format }}], TacticName: , StreamId: 0, Metadata: [MATRIX_MULTIPLY]-[down/mm]
"""
LAYERS_1_4 = f"""\
Layers:
Name: __mye769_0_myl0_0, LayerType: shape_call, Inputs: [], Outputs: [], TacticName: , StreamId: 0, Metadata: {""}
Name: __myl_CastMean_myl0_1, LayerType: kgen, Inputs: [ {{ Name: x, Dimensions: [-1,16], Format/Datatype: Half }}], \
Outputs: [ {{ Name: __myln_k_arg__bb1_4_myl0, Dimensions: [-1,16], Format/Datatype: Half }}], TacticName: \
__myl_CastMean_0x9b1c2b5f, StreamId: 0, Metadata: [NORMALIZATION]-[norm/native_layer_norm]{END}\
norm/expand_bias_broadcast
Name: __myl_FcAddAdd_myl0_3, LayerType: runtime_fusion, Inputs: [ {{ Name: x, Dimensions: [-1,16], Format/Datatype: \
Float }}, {{ Name: __myln_k_arg__bb1_5_myl0, Dimensions: [-1,64], Format/Datatype: Float }}], Outputs: [ {{ Name: \
output0, Dimensions: [-1,16], Format/Datatype: Float }}], TacticName: , StreamId: 0, Metadata: \
[MATRIX_MULTIPLY]-[down/mm]
"""
MEMORY = """\
Disabling unused tactic source: EDGE_MASK_CONVOLUTIONS
Max Scratch Memory: 8192 bytes
[BlockAssignment] Algorithm ShiftNTopDown took 0.0113 ms to assign 1 blocks to 1 nodes requiring 8192 bytes.
Total Activation Memory: 8193280 bytes
Total Weights Memory: 8768 bytes
"""


@pytest.mark.parametrize("layers", [LAYERS_1_5, LAYERS_1_4], ids=["1.5", "1.4"])
def test_memory_is_read_in_bytes_and_layers_with_their_types_sources_tensors_and_tactics(layers):
    facts = log.read(MEMORY + layers)
    assert (facts.activation_bytes, facts.weight_bytes, facts.scratch_bytes) == ((8_193_280,), 8768, 8192)
    assert facts.layers == (
        PlanLayer("__mye769_0_myl0_0", "shape_call"),
        PlanLayer(
            "__myl_CastMean_myl0_1",
            "kgen",
            ("[NORMALIZATION]-[norm/native_layer_norm]", "norm/expand_bias_broadcast"),
            ("float16 [-1,16]",),
            ("float16 [-1,16]",),
            "__myl_CastMean_0x9b1c2b5f",
        ),
        PlanLayer(
            "__myl_FcAddAdd_myl0_3",
            "runtime_fusion",
            ("[MATRIX_MULTIPLY]-[down/mm]",),
            ("float32 [-1,16]", "float32 [-1,64]"),
            ("float32 [-1,16]",),
        ),
    )


def test_with_several_profiles_there_is_memory_and_there_are_layers_for_each():
    second = MEMORY.replace("8193280", "17874944")
    # 1.6 names the profile in some layers of a subgraph, and in the names of tensors
    more = LAYERS_1_5.replace("_myl0", "_myl1").replace("Name: x,", "Name: x [profile 1],").removeprefix("Layers:\n")
    facts = log.read(MEMORY + second + LAYERS_1_5 + more)
    assert facts.activation_bytes == (8_193_280, 17_874_944)
    assert [(layer.type, layer.profile) for layer in facts.layers] == [
        (kind, profile) for profile in (0, 1) for kind in ("shape_call", "kgen", "runtime_fusion")
    ]


def test_other_words_leave_everything_empty():
    assert log.read("Total Activation Memory is 12 kB\nLayer gemm has no inputs\n") == log.BuildLog((), 0, 0, ())


def test_types_have_pytorchs_names():
    names = ["Float", "Half", "BF16", "BFloat16", "Int64", "Bool"]
    assert [*map(log.dtype_name, names)] == ["float32", "float16", "bfloat16", "bfloat16", "int64", "bool"]
