"""The tutorial's models as PyTorch modules, each with the shapes of its inputs and outputs."""

import torch
from torch import nn

from tutorial_lib.core.shapes import ShapeError


class ExpandReshapeModel(nn.Module):
    """The first steps of a Vision Transformer, which mix a dynamic batch with fixed sizes.

    The class token is expanded to the batch, concatenated in front of the patches, projected to
    queries, keys and values, and split into heads::

        x [batch, tokens, embed_dim] -> [batch, tokens + 1, 3, heads, embed_dim / heads]
    """

    def __init__(self, embed_dim: int = 768, heads: int = 12) -> None:
        super().__init__()
        if embed_dim % heads:
            raise ShapeError(f"embed_dim is {embed_dim}; it must be a multiple of {heads}, the number of heads.")
        self.heads = heads
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim))
        self.qkv_proj = nn.Linear(embed_dim, 3 * embed_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = x.shape[0]
        cls_token = self.cls_token.expand(batch, -1, -1)
        x = torch.cat([cls_token, x], dim=1)
        qkv = self.qkv_proj(x)
        return qkv.reshape(batch, qkv.size(1), 3, self.heads, -1)


class Block(nn.Module):
    """A pre-norm transformer block: attention and a two-layer perceptron, each with a residual.

    ``attend`` says where attention may look, False for nowhere: [batch, heads, tokens, tokens], or 1 for any of these.
    """

    def __init__(self, embed_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.qkv, self.proj = nn.Linear(embed_dim, 3 * embed_dim), nn.Linear(embed_dim, embed_dim)
        self.mlp = nn.Sequential(nn.Linear(embed_dim, 4 * embed_dim), nn.GELU(), nn.Linear(4 * embed_dim, embed_dim))

    def forward(self, x: torch.Tensor, attend: torch.Tensor | None = None) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [batch, heads, tokens, head_dim]
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attend)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """A small Vision Transformer: images [batch, 3, 224, 224] -> class scores [batch, classes]."""

    def __init__(
        self,
        image: int = 224,
        patch: int = 16,
        embed_dim: int = 192,
        depth: int = 4,
        heads: int = 3,
        classes: int = 100,
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, embed_dim, kernel_size=patch, stride=patch)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, (image // patch) ** 2 + 1, embed_dim))
        self.blocks = nn.Sequential(*(Block(embed_dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(images).flatten(2).transpose(1, 2)  # [batch, patches, embed_dim]
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class Perceptron(nn.Module):
    """The two-layer perceptron of a transformer block, on single tokens: x [tokens, width] -> [tokens, width]."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class GatedNorm(nn.Module):
    """A dozen operators on every number and no matrix product: x [batch, tokens, width] -> the same shape.

    An RMSNorm with a gate, silu, tanh and gelu. Eager PyTorch reads and writes the whole tensor for each operator; a
    compiler that fuses them reads it once.
    """

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.scale, self.gate = nn.Parameter(torch.ones(width)), nn.Parameter(torch.randn(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.scale
        gated = nn.functional.silu(normed * self.gate)
        return x + gated * torch.tanh(normed) * nn.functional.gelu(normed)


class AnySizeVisionTransformer(nn.Module):
    """A Vision Transformer for images of any size: images [batch, 3, height, width] -> class scores [batch, classes].

    The position embeddings are those of `grid` x `grid` patches, interpolated to the patches that there are. The
    convolution drops what is left of a height or width that is no multiple of `patch`, without a word.
    """

    def __init__(
        self,
        grid: int = 14,
        patch: int = 16,
        embed_dim: int = 192,
        depth: int = 4,
        heads: int = 3,
        classes: int = 100,
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, embed_dim, kernel_size=patch, stride=patch)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, embed_dim, grid, grid))
        self.blocks = nn.Sequential(*(Block(embed_dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(images)  # [batch, embed_dim, rows, columns]
        x = x + nn.functional.interpolate(self.pos_embed, size=x.shape[2:], mode="bicubic")
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.head(self.norm(self.blocks(x))[:, 0])


class TextEncoder(nn.Module):
    """A small transformer encoder: ids [batch, length], mask [batch, length] -> class scores [batch, classes].

    ``mask`` is True at tokens and False at padding; every row needs a token. Padding is neither attended to nor
    counted in the mean over the tokens, so what stands there makes no difference.
    """

    def __init__(
        self,
        vocabulary: int = 1000,
        positions: int = 512,
        embed_dim: int = 128,
        depth: int = 2,
        heads: int = 4,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, embed_dim)
        self.positions = nn.Parameter(0.02 * torch.randn(positions, embed_dim))
        self.blocks = nn.ModuleList(Block(embed_dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, classes)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, mask[:, None, None, :])
        present = mask.unsqueeze(-1).to(x.dtype)  # [batch, length, 1]
        return self.head((self.norm(x) * present).sum(dim=1) / present.sum(dim=1))


class RMSNorm(nn.Module):
    """Divide by the root mean square of the last axis, and scale: x [..., width] -> [..., width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6) * self.weight


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: turn each pair of features by an angle that grows with the position.

    x is [batch, heads, new, head_dim]; cos and sin are [batch, 1, new, head_dim / 2].
    """
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


class DecoderBlock(nn.Module):
    """A block of a language model as they are built today: grouped-query attention and a gated perceptron.

    x [batch, new, embed_dim] and the keys and values of earlier tokens, each [batch, kv_heads, past, head_dim], give
    the next x, and keys and values [batch, kv_heads, past + new, head_dim]. Several query heads share a key head, so
    the cache is `heads / kv_heads` times smaller.
    """

    def __init__(self, embed_dim: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, embed_dim // heads
        self.norm1, self.norm2 = RMSNorm(embed_dim), RMSNorm(embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim, bias=False)
        self.k_proj = nn.Linear(embed_dim, kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(embed_dim, kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(embed_dim, embed_dim, bias=False)
        self.gate_proj = nn.Linear(embed_dim, 3 * embed_dim, bias=False)
        self.up_proj = nn.Linear(embed_dim, 3 * embed_dim, bias=False)
        self.down_proj = nn.Linear(3 * embed_dim, embed_dim, bias=False)

    def forward(
        self,
        x: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        attend: torch.Tensor,
        past: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y = self.norm1(x)
        query = rotated(self._heads(self.q_proj(y), self.heads), *angles)
        keys = rotated(self._heads(self.k_proj(y), self.kv_heads), *angles)
        values = self._heads(self.v_proj(y), self.kv_heads)
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
        x = x + self.o_proj(self.attended(query, keys, values, attend))
        y = self.norm2(x)
        return x + self.down_proj(nn.functional.silu(self.gate_proj(y)) * self.up_proj(y)), keys, values

    def _heads(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """[batch, new, heads * head_dim] -> [batch, heads, new, head_dim]."""
        return x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)

    def attended(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, attend: torch.Tensor
    ) -> torch.Tensor:
        """Attention, [batch, new, heads * head_dim], from matrix products.

        ``scaled_dot_product_attention`` computes the same. But traced for a GPU it pads masks to rows of 8, and asks
        for something that PyTorch cannot show for a range of `new` that is not in steps of 8 (notebook 12).
        """
        query = query.unflatten(1, (self.kv_heads, -1))  # [batch, kv_heads, heads per key head, new, head_dim]
        scores = torch.einsum("bkgnd,bktd->bkgnt", query, keys).float() / self.head_dim**0.5
        weights = scores.masked_fill(~attend[:, None], -torch.inf).softmax(dim=-1).to(values.dtype)
        # All heads become one axis last: before that, torch 2.11 asks for what it cannot show for a range of `new`.
        attended = torch.einsum("bkgnt,bktd->bkgnd", weights, values)
        return attended.permute(0, 3, 1, 2, 4).flatten(2)


class Decoder(nn.Module):
    """A small language model, which continues a text token by token.

    Called on a whole prompt without a cache, it is the *prefill*; with the keys and values of the `past` tokens, of
    which each call returns `new` more, it is a *decode* step::

        ids [batch, new], padding [batch], past_keys and past_values [depth, batch, kv_heads, past, head_dim]
        -> logits [batch, new, vocabulary], keys and values [depth, batch, kv_heads, past + new, head_dim]

    ``padding`` says how many places at the left of each row, cache included, are padding. Nothing attends to these,
    and positions count from the first token behind them. Positions are rotary, so no table bounds the length.
    """

    frequencies: torch.Tensor

    def __init__(
        self, vocabulary: int = 256, embed_dim: int = 128, depth: int = 2, heads: int = 8, kv_heads: int = 2
    ) -> None:
        super().__init__()
        if embed_dim % (2 * heads) or heads % kv_heads:
            raise ShapeError(
                f"embed_dim is {embed_dim}, with {heads} heads and {kv_heads} kv_heads; it must be a multiple of "
                "twice the heads, and heads one of kv_heads."
            )
        self.tokens = nn.Embedding(vocabulary, embed_dim)
        self.blocks = nn.ModuleList(DecoderBlock(embed_dim, heads, kv_heads) for _ in range(depth))
        self.norm = RMSNorm(embed_dim)
        self.head = nn.Linear(embed_dim, vocabulary, bias=False)
        half = embed_dim // heads // 2
        self.register_buffer("frequencies", 10_000.0 ** (-torch.arange(half) / half), persistent=False)

    def forward(
        self,
        ids: torch.Tensor,
        padding: torch.Tensor,
        past_keys: torch.Tensor | None = None,
        past_values: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        past = 0 if past_keys is None else past_keys.shape[3]
        place = torch.arange(past + ids.shape[1], device=ids.device)  # [past + new], of keys
        query_place = place[past:]  # [new]
        positions = (query_place - padding[:, None]).clamp(min=0)  # [batch, new]
        angle = positions[:, None, :, None] * self.frequencies.float()  # [batch, 1, new, head_dim / 2]
        earlier = place <= query_place[:, None]  # [new, past + new]
        real = place >= padding[:, None, None]  # [batch, 1, past + new]
        itself = place == query_place[:, None]  # a padding token attends to itself, or its row would be empty
        attend = ((earlier & real) | itself)[:, None]  # [batch, 1, new, past + new]
        x = self.tokens(ids)
        turns = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        keys, values = [], []
        for index, block in enumerate(self.blocks):
            cached = None if past_keys is None or past_values is None else (past_keys[index], past_values[index])
            x, k, v = block(x, turns, attend, cached)
            keys.append(k)
            values.append(v)
        return self.head(self.norm(x)), torch.stack(keys), torch.stack(values)
