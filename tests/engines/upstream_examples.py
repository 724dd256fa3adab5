"""Some of upstream's examples about dynamic shapes, rebuilt: the same kind of model with the same ranges.

They follow ``examples/`` and ``docsrc/`` of pytorch/TensorRT (main, August 2026).
"""

import torch
from torch import nn
from torch.nn import functional

from tutorial_lib import Case, DynamicDim, TensorSpec, expand_reshape

# ---- models ------------------------------------------------------------------------------------------------------


class MaskedEncoder(nn.Module):
    """Embeds ids and switches off those that the mask hides, so both inputs have one batch."""

    def __init__(self, vocabulary=1024, width=64):
        super().__init__()
        self.tokens, self.projection = nn.Embedding(vocabulary, width), nn.Linear(width, width)

    def forward(self, input_ids, attention_mask):
        x = self.tokens(input_ids)
        return self.projection(x * attention_mask[..., None].to(x.dtype))


class Scores(nn.Module):
    """Attention scores: queries times keys."""

    def forward(self, query, key):
        return query @ key.mT


def _heads(x, count):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def _rotated(x, cosine, sine):
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine


class VideoAttention(nn.Module):
    """Attention over the patches of a video, with positions that turn complex numbers in time, height and width."""

    def __init__(self, heads=8, head_width=48):
        super().__init__()
        self.heads, width = heads, heads * head_width
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x, turns):
        turns = torch.view_as_complex(turns.unflatten(-1, (-1, 2)))[None, :, :, :, None]  # [1, t, h, w, 1, pairs]
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)  # [b, t, h, w, heads, width]
        q, k = (_turned(part, turns) for part in (q, k))
        q, k, v = (part.flatten(1, 3).transpose(1, 2) for part in (q, k, v))  # [b, heads, t * h * w, width]
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(attended).reshape(x.shape)


def _turned(x, turns):
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turns).flatten(-2)


class LatentDenoiser(nn.Module):
    """Down by four and up again, with attention to a text, as the networks of image generators do."""

    def __init__(self, width=16, text=32):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(4, width, 3, 2, 1), nn.SiLU(), nn.Conv2d(width, width, 3, 2, 1))
        self.text = nn.Linear(text, 2 * width)
        self.grow, self.up = nn.ConvTranspose2d(2 * width, width, 4, 4), nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, sample, encoder_hidden_states):
        x = self.down(sample)
        k, v = self.text(encoder_hidden_states).chunk(2, dim=-1)
        weights = (x.flatten(2).mT @ k.mT / x.shape[1] ** 0.5).softmax(-1)  # [batch, height * width, tokens]
        seen = (weights @ v).mT.reshape(x.shape)
        return sample + self.up(functional.silu(self.grow(torch.cat([x, seen], dim=1))))


class TextAndImage(nn.Module):
    """One attention over the tokens of a text and of an image, whose places come as inputs, as in Flux."""

    def __init__(self, heads=4, head_width=16, text=32):
        super().__init__()
        self.heads, width = heads, heads * head_width
        self.image_in, self.text_in = nn.Linear(64, width), nn.Linear(text, width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, 64)
        self.places = nn.Linear(3, head_width // 2)

    def forward(self, hidden_states, encoder_hidden_states, txt_ids, img_ids):
        x = torch.cat([self.text_in(encoder_hidden_states), self.image_in(hidden_states)], dim=1)
        angles = self.places(torch.cat([txt_ids, img_ids])).repeat(1, 2)
        q, k, v = (_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = (_rotated(part, angles.cos(), angles.sin()) for part in (q, k))
        x = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(x[:, encoder_hidden_states.shape[1] :])


class ShiftedRelu(nn.Module):
    """Adds, scales and cuts off."""

    def forward(self, x):
        return torch.relu((x + 2) * 0.5)


# ---- cases -------------------------------------------------------------------------------------------------------


def _seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


def _case(name, make, *inputs):
    return Case(name, _seeded(make), inputs)


def _images(low, opt, high, name="x"):
    return TensorSpec(name, (DynamicDim("batch", low, opt, high), 3, 224, 224))


def _any_image():
    sides = (DynamicDim(side, 64, 256, 512) for side in ("height", "width"))
    return TensorSpec("x", (DynamicDim("batch", 1, 8, 16), 3, *sides))


def first_model():
    return expand_reshape(batch=(1, 4, 32))


def saved_convolution():
    return _case("convolution", lambda: nn.Conv2d(3, 16, 3, padding=1), _renamed(_any_image(), "input"))


def saved_linear():
    x = TensorSpec("input", (DynamicDim("batch", 1, 8, 32), 10))
    return _case("linear", lambda: nn.Linear(10, 5), x)


def _renamed(spec, name):
    return TensorSpec(name, spec.shape, spec.dtype)


def shared_batch():
    shape = DynamicDim("batch", 1, 4, 8), 16
    inputs = (TensorSpec(name, shape, torch.int64, high=2) for name in ("input_ids", "attention_mask"))
    return _case("shared batch", MaskedEncoder, *inputs)


def scores():
    shape = 1, 12, DynamicDim("seq_len", 1, 7, 10), 64
    return _case("scores", Scores, TensorSpec("query", shape), TensorSpec("key", shape))


def video():
    time, height, width = DynamicDim("t", 1, 4, 32), DynamicDim("h", 4, 8, 64), DynamicDim("w", 4, 8, 64)
    x = TensorSpec("x", (1, time, height, width, 8 * 48))
    return _case("video", VideoAttention, x, TensorSpec("turns", (time, height, width, 48)))


def latents():
    batch = DynamicDim("batch", 2, 4, 24)
    sides = (DynamicDim(side, 64, 96, 128, step=4) for side in ("height", "width"))
    sample = TensorSpec("sample", (batch, 4, *sides))
    return _case("latents", LatentDenoiser, sample, TensorSpec("encoder_hidden_states", (batch, 77, 32)))


def text_and_image(image=(3586, 4096, 4096)):
    batch, length = DynamicDim("batch", 1, 2, 2), DynamicDim("seq_len", 1, 512, 512)
    inputs = (
        TensorSpec("hidden_states", (batch, 4096, 64)),
        TensorSpec("encoder_hidden_states", (batch, length, 32)),
        TensorSpec("txt_ids", (length, 3)),
        TensorSpec("img_ids", (DynamicDim("img_id", *image), 3)),
    )
    return _case("text and image", TextAndImage, *inputs).in_precision("fp16")


def broken_graph():
    return _case("broken graph", ShiftedRelu, _images(1, 8, 16))
