"""Attention as CUDA traces it, on a CPU.

``scaled_dot_product_attention`` stays one operator in an exported program, but just-in-time tracing
resolves it to a kernel of the device. The CPU's kernel has no converter, so every attention would
cut the model in two where a GPU would build one engine. Here it becomes one of CUDA's operators
(memory-efficient attention for float32, flash attention for float16 and bfloat16), which
Torch-TensorRT converts, and which compute on the CPU with the CPU's kernel.
"""

from typing import Any

import torch

aten = torch.ops.aten
CPU_KERNELS = torch.library.Library("aten", "IMPL")  # kept: when it is collected, its kernels go with it


def as_on_cuda() -> None:
    """Trace attention to CUDA's operators in this process, for good."""
    from torch_tensorrt.dynamo.lowering._decompositions import TORCH_TRT_DECOMPOSITIONS

    TORCH_TRT_DECOMPOSITIONS[aten._scaled_dot_product_flash_attention_for_cpu.default] = _traced
    CPU_KERNELS.impl("_scaled_dot_product_efficient_attention", _efficient, "CPU")
    CPU_KERNELS.impl("_scaled_dot_product_flash_attention", _flash, "CPU")


def _traced(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    if query.dtype == torch.float32 or attn_mask is not None:
        result = aten._scaled_dot_product_efficient_attention(
            query, key, value, attn_mask, False, dropout_p, is_causal, scale=scale
        )
    else:
        result = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)
    return result[0], result[1]


def _on_cpu(query: Any, key: Any, value: Any, dropout: float, causal: bool, mask: Any, scale: float | None) -> Any:
    return aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout, causal, attn_mask=mask, scale=scale
    )


def _efficient(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_bias: torch.Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    output, sums = _on_cpu(query, key, value, dropout_p, is_causal, attn_bias, scale)
    unused = torch.zeros((), dtype=torch.int64)  # the seed and offset of dropout
    return output, sums, unused, unused


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    output, sums = _on_cpu(query, key, value, dropout_p, is_causal, None, scale)
    unused = torch.zeros((), dtype=torch.int64)
    lengths = query.shape[-2], key.shape[-2]
    return output, sums, None, None, *lengths, unused, unused, torch.empty(0)
