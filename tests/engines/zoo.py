"""Models from outside this tutorial, small: what readers bring. `MODELS` maps a name to a function that makes a case.

Those that end in "(transformers)" are the library's own classes with random weights; nothing is downloaded.
"""

import torch
from torch import nn
from torch.nn import functional

from tutorial_lib import Case, DynamicDim, TensorSpec


class Cnn(nn.Module):
    """Convolutions with batch normalization and pooling, and a classifier."""

    def __init__(self):
        super().__init__()
        layers = []
        for before, after in ((3, 8), (8, 16)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.features, self.classifier = nn.Sequential(*layers), nn.Linear(16, 10)

    def forward(self, images):
        return self.classifier(self.features(images).mean(dim=(2, 3)))


class Separable(nn.Module):
    """Depthwise convolutions, squeeze and excitation, and group normalization."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise, self.norm = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.GroupNorm(4, 16)
        self.squeeze, self.excite, self.head = nn.Linear(16, 4), nn.Linear(4, 16), nn.Conv2d(16, 8, 1)

    def forward(self, images):
        x = functional.silu(self.norm(self.depthwise(self.stem(images))))
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean(dim=(2, 3))))))
        return self.head(x * gate[:, :, None, None])


class CrossAttention(nn.Module):
    """Queries attend to a memory of another length, part of which a mask hides."""

    def __init__(self, width=32, heads=4):
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, queries, memory, visible):
        q, (k, v) = self._split(self.query(queries)), map(self._split, self.key_value(memory).chunk(2, dim=-1))
        mask = visible[:, None, None, :] > -2  # never a row without any, which has no softmax
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.norm(queries + self.out(x.transpose(1, 2).flatten(2)))

    def _split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class DecoderWithPast(nn.Module):
    """One block of a language model like GPT-2, with keys and values of earlier tokens as inputs and outputs."""

    def __init__(self, vocabulary=50, width=32, heads=4, positions=64):
        super().__init__()
        self.heads = heads
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids, past_keys, past_values):
        new, past = ids.shape[1], past_keys.shape[2]
        place = past + torch.arange(new, device=ids.device)
        x = self.tokens(ids) + self.positions(place)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.before(x)).chunk(3, dim=-1)
        )
        k, v = torch.cat([past_keys, k], dim=2), torch.cat([past_values, v], dim=2)
        mask = torch.arange(past + new, device=ids.device)[None, :] <= place[:, None]
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return self.head(x + self.mlp(self.after(x))), k, v


class DetectionHead(nn.Module):
    """Scores and boxes at every place of a feature map, with anchors that follow its size."""

    def __init__(self, channels=16, anchors=3):
        super().__init__()
        self.shared = nn.Conv2d(channels, channels, 3, padding=1)
        self.scores, self.boxes = nn.Conv2d(channels, anchors, 1), nn.Conv2d(channels, 4 * anchors, 1)

    def forward(self, features):
        height, width = features.shape[-2:]
        x = functional.relu(self.shared(features))
        scores = self.scores(x).flatten(2).transpose(1, 2)
        boxes = self.boxes(x).unflatten(1, (-1, 4)).permute(0, 1, 3, 4, 2).flatten(1, 3)
        rows = torch.arange(height, device=x.device)[:, None].expand(height, width)
        columns = torch.arange(width, device=x.device)[None, :].expand(height, width)
        centres = torch.stack([rows, columns], dim=-1).reshape(-1, 2).to(x.dtype)
        return scores.sigmoid(), boxes, centres


class UNet(nn.Module):
    """Down and up again, with a skip connection whose size is asked for."""

    def __init__(self):
        super().__init__()
        self.down, self.bottom = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.up, self.head = nn.Conv2d(24, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, images):
        skip = functional.relu(self.down(images))
        x = functional.relu(self.bottom(skip))
        x = functional.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return self.head(functional.relu(self.up(torch.cat([skip, x], dim=1))))


class Recurrent(nn.Module):
    """A recurrent layer of PyTorch's over sequences of one length, and a classifier."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer(16, 24, batch_first=True), nn.Linear(24, 5)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Selecting(nn.Module):
    """As many rows come out as are positive: a size that the data decides."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        y = self.linear(x)
        return y[y.sum(dim=1) > 0] * 2


class Output(nn.Module):
    """One tensor of what a model of transformers returns."""

    def __init__(self, model, name, **keywords):
        super().__init__()
        self.model, self.name, self.keywords = model, name, keywords

    def forward(self, *inputs):
        return getattr(self.model(*inputs, **self.keywords), self.name)


class BertOutput(Output):
    def forward(self, ids, mask):
        return super().forward(ids, mask)


class OneInput(Output):
    def forward(self, x):
        return super().forward(x)


def _case(name, model, *inputs):
    return Case(name, model.eval(), inputs)


def _images(name="images", batch=None, height=None, width=None):
    return TensorSpec(name, (batch or DynamicDim("batch", 1, 4, 16), 3, height or 32, width or 32))


def _side(name):
    return DynamicDim(name, 32, 64, 128)


def cnn_of_any_size():
    return _case("cnn of any size", Cnn(), _images(height=_side("height"), width=_side("width")))


def separable():
    return _case("separable", Separable(), _images(height=_side("height"), width=_side("width")))


def cross_attention():
    batch, queries, length = (
        DynamicDim("batch", 1, 2, 8),
        DynamicDim("queries", 2, 8, 16),
        DynamicDim("length", 2, 20, 64),
    )
    inputs = TensorSpec("queries", (batch, queries, 32)), TensorSpec("memory", (batch, length, 32))
    return _case("cross-attention", CrossAttention(), *inputs, TensorSpec("visible", (batch, length)))


def decoder_with_past():
    batch, new, past = DynamicDim("batch", 1, 2, 4), DynamicDim("new", 2, 4, 8), DynamicDim("past", 2, 8, 32)
    ids = TensorSpec("ids", (batch, new), torch.int64, high=50)
    pasts = (TensorSpec(f"past_{what}", (batch, 4, past, 8)) for what in ("keys", "values"))
    return _case("decoder with past", DecoderWithPast(), ids, *pasts)


def detection_head():
    shape = DynamicDim("batch", 1, 2, 4), 16, DynamicDim("height", 8, 16, 32), DynamicDim("width", 8, 16, 32)
    return _case("detection head", DetectionHead(), TensorSpec("features", shape))


def unet():
    return _case(
        "u-net", UNet(), _images(batch=DynamicDim("batch", 1, 2, 4), height=_side("height"), width=_side("width"))
    )


def gru():
    return _case("gru", Recurrent(nn.GRU), TensorSpec("x", (DynamicDim("batch", 1, 4, 16), 6, 16)))


def selecting():
    return _case("selecting", Selecting(), TensorSpec("x", (DynamicDim("batch", 2, 4, 16), 8)))


EAGER = {"attn_implementation": "eager"}
"""Attention from products: the mask of the fused operator is padded for a GPU, which asks for more of the length."""
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}


def bert():
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=50, max_position_embeddings=64, **SMALL, **EAGER)
    batch, length = DynamicDim("batch", 1, 2, 8), DynamicDim("length", 4, 16, 64)
    inputs = [TensorSpec(name, (batch, length), torch.int64, high=high) for name, high in (("ids", 50), ("mask", 2))]
    return _case("bert (transformers)", BertOutput(BertModel(config), "last_hidden_state"), *inputs)


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=50, num_key_value_heads=2, max_position_embeddings=64, **SMALL, **EAGER)
    return _language_model("llama (transformers)", LlamaForCausalLM(config))


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=50, n_positions=64, n_embd=32, n_layer=1, n_head=4, **EAGER)
    return _language_model("gpt2 (transformers)", GPT2LMHeadModel(config))


def _language_model(name, model):
    ids = TensorSpec("x", (DynamicDim("batch", 1, 2, 4), DynamicDim("length", 4, 16, 64)), torch.int64, high=50)
    return _case(name, OneInput(model, "logits", use_cache=False), ids)


MODELS = {
    "cnn of any size": cnn_of_any_size,
    "separable": separable,
    "cross-attention": cross_attention,
    "decoder with past": decoder_with_past,
    "detection head": detection_head,
    "u-net": unet,
    "gru": gru,
    "selecting": selecting,
    "bert (transformers)": bert,
    "llama (transformers)": llama,
    "gpt2 (transformers)": gpt2,
}
