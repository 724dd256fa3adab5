"""Attention as a GPU traces it, on a CPU.

``scaled_dot_product_attention`` stays one operator in an exported program, but just-in-time tracing resolves it to a
kernel of the device. The CPU's kernel has no converter, so every attention would cut the model in two where a GPU
would build one engine. Here the choice is made as ``ATen/native/transformers/cuda/sdp_utils.cpp`` (torch 2.11 to 2.13)
makes it for a card of compute capability 8.0 and above: flash attention, else memory-efficient attention, else plain
products. The operators compute on the CPU, with the CPU's kernel.
"""

import math
from typing import Any

import torch
from torch._C import DispatchKey

aten = torch.ops.aten
CPU_KERNELS = torch.library.Library("aten", "IMPL")  # kept: when it is collected, its kernels go with it

LOW_PRECISION = (torch.float16, torch.bfloat16)
LARGEST_FLASH_HEAD = 256
FLASH_ALIGNMENT = 8
MASK_ALIGNMENT = 8


def as_on_gpu() -> None:
    """Trace attention to a GPU's operators in this process, for good. To be called once."""
    operator: Any = aten.scaled_dot_product_attention.default
    operator.py_impl(DispatchKey.CompositeImplicitAutograd)(traced)
    CPU_KERNELS.impl("_scaled_dot_product_efficient_attention", _efficient_on_cpu, "CPU")
    CPU_KERNELS.impl("_scaled_dot_product_flash_attention", _flash_on_cpu, "CPU")


def traced(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """What ``scaled_dot_product_attention`` is traced to.

    `query` is [batch, heads, L, E], `key` [batch, heads, S, E], `value` [batch, heads, S, V]; the mask broadcasts to
    [batch, heads, L, S], and the result is [batch, heads, L, V].
    """
    if _takes_flash(query, key, value, attn_mask, is_causal, enable_gqa):
        padded = [_with_aligned_heads(tensor) for tensor in (query, key, value)]
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        result = aten._scaled_dot_product_flash_attention(*padded, dropout_p, is_causal, False, scale=scale)[0]
        return result if padded[0] is query else result[..., : query.shape[-1]]
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        lowest = torch.scalar_tensor(-math.inf, dtype=query.dtype, device=query.device)
        additive: torch.Tensor | None = torch.where(attn_mask, 0.0, lowest)
    else:
        additive = attn_mask
    if _takes_efficient(query, key, value, attn_mask):
        if additive is not None:
            additive = _with_aligned_rows(additive).expand(*query.shape[:3], key.shape[2])
        return aten._scaled_dot_product_efficient_attention(
            query, key, value, additive, False, dropout_p, is_causal, scale=scale
        )[0]
    return aten._scaled_dot_product_attention_math(
        query, key, value, additive, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
    )[0]


def _takes_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None,
    is_causal: bool,
    enable_gqa: bool,
) -> bool:
    return (
        query.dim() == key.dim() == value.dim() == 4
        and attn_mask is None
        and bool(query.shape[-1] == key.shape[-1] == value.shape[-1])
        and query.shape[-1] <= LARGEST_FLASH_HEAD
        and not (is_causal and query.shape[-2] != key.shape[-2])
        and query.dtype in LOW_PRECISION
        and _have_the_same_batch_and_heads(query, key, value, enable_gqa)
        and _have_rows(query, key)
        and (query.shape[-1] == 1 or _are_dense_in_the_last_dimension(query, key, value))
    )


def _takes_efficient(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None
) -> bool:
    alignment = 8 if query.dtype in LOW_PRECISION else 4
    return (
        query.dim() == key.dim() == value.dim() == 4
        and query.shape[-1] == key.shape[-1]
        and query.shape[-1] % alignment == 0
        and value.shape[-1] % alignment == 0
        and _have_rows(query, key)
        and _are_dense_in_the_last_dimension(query, key, value, *(() if attn_mask is None else (attn_mask,)))
        and _have_the_same_batch_and_heads(query, key, value, enable_gqa=False)
        and query.dtype in (torch.float32, *LOW_PRECISION)
    )


def _have_the_same_batch_and_heads(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, enable_gqa: bool
) -> bool:
    if not query.shape[0] == key.shape[0] == value.shape[0]:
        return False
    if enable_gqa:
        return bool(key.shape[-3] == value.shape[-3] and query.shape[-3] % key.shape[-3] == 0)
    return bool(query.shape[-3] == key.shape[-3] == value.shape[-3])


def _have_rows(query: torch.Tensor, key: torch.Tensor) -> bool:
    return bool(query.shape[-2] != 0 and key.shape[-2] != 0)


def _are_dense_in_the_last_dimension(*tensors: torch.Tensor) -> bool:
    return all(tensor.stride(-1) == 1 for tensor in tensors)


def _with_aligned_heads(tensor: torch.Tensor) -> torch.Tensor:
    missing = -tensor.shape[-1] % FLASH_ALIGNMENT
    return tensor if missing == 0 else torch.nn.functional.pad(tensor, (0, missing))


def _with_aligned_rows(mask: torch.Tensor) -> torch.Tensor:
    """The mask in rows that start at multiples of eight. A stride that is not a number yet counts as none."""
    if mask.stride(-1) == 1 and all(isinstance(s, int) and s % MASK_ALIGNMENT == 0 for s in mask.stride()[:-1]):
        return mask
    length = mask.shape[-1]
    return torch.nn.functional.pad(mask, (0, MASK_ALIGNMENT - length % MASK_ALIGNMENT))[..., :length]


def _on_cpu(query: Any, key: Any, value: Any, mask: Any, dropout: float, causal: bool, scale: float | None) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, mask, dropout, causal, scale=scale, enable_gqa=query.shape[-3] != key.shape[-3]
    )


def _efficient_on_cpu(
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
    output = _on_cpu(query, key, value, attn_bias, dropout_p, is_causal, scale)
    unused = torch.zeros((), dtype=torch.int64)  # the seed and offset of dropout
    return output, query.new_empty(query.shape[0], query.shape[1], 0, dtype=torch.float32), unused, unused


def _flash_on_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    output = _on_cpu(query, key, value, None, dropout_p, is_causal, scale)
    sums = query.new_empty(query.shape[:3], dtype=torch.float32)
    unused = torch.zeros((), dtype=torch.int64)
    return output, sums, None, None, query.shape[-2], key.shape[-2], unused, unused, torch.empty(0)
