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
