"""Language, audio, recurrent layers, and other sequences, from PyTorch's own layers."""

import torch
from registry import Layers, batch, ids, length, zoo
from torch import nn
from torch.nn import functional

from tutorial_lib import Case, DynamicDim, TensorSpec


@zoo
def encoder_with_padding_mask():
    class Encoder(nn.Module):
        """PyTorch's own encoder: in its mask, True is padding."""

        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(30, 16), nn.Embedding(40, 16)
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        def forward(self, ids, padding):
            x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
            return self.encoder(x, src_key_padding_mask=padding)

    def examples(sizes):
        rows, columns = sizes["batch"], sizes["length"]
        present = torch.randint(1, columns + 1, (rows, 1))
        return torch.randint(30, (rows, columns)), torch.arange(columns) >= present

    shape = batch(), length(limit=40)
    inputs = ids(shape, 30), TensorSpec("padding", shape, torch.bool)
    return Case("encoder_with_padding_mask", Encoder(), inputs, examples=examples)


@zoo
def position_table_too_short():
    class Short(Layers):
        def forward(self, ids):
            return self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))

    model = Short(tokens=nn.Embedding(30, 16), positions=nn.Embedding(32, 16))
    return model, ids((batch(), length()), 30)  # refused: 40 positions, and a table of 32


@zoo
def cross_attention():
    class CrossAttention(nn.Module):
        def __init__(self, width=16, heads=2):
            super().__init__()
            self.heads = heads
            self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
            self.out, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

        def forward(self, queries, memory):
            q = self._split(self.query(queries))
            k, v = (self._split(part) for part in self.key_value(memory).chunk(2, dim=-1))
            x = functional.scaled_dot_product_attention(q, k, v)
            return self.norm(queries + self.out(x.transpose(1, 2).flatten(2)))

        def _split(self, x):
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    rows = batch()
    queries = TensorSpec("queries", (rows, DynamicDim("queries", 1, 5, 9), 16))
    return CrossAttention(), queries, TensorSpec("memory", (rows, length(1), 16))


@zoo
def causal_decoder():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(30, 16)
            self.positions = nn.Parameter(torch.randn(40, 16))
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.norm = nn.RMSNorm(16)

        def forward(self, ids):
            x = self.tokens(ids) + self.positions[: ids.shape[1]]
            mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
            attended, _ = self.attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)
            return self.norm(x + attended) @ self.tokens.weight.T

    return Decoder(), ids((batch(), length(1, limit=40)), 30)


class _StepWithCache(nn.Module):
    """One new token beside `past` keys and values; the mask covers all `past + 1`."""

    def __init__(self, heads=2, width=16):
        super().__init__()
        self.heads = heads
        self.tokens, self.qkv, self.out = nn.Embedding(30, width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, ids, keys, values, mask):
        parts = self.qkv(self.tokens(ids)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # [batch, heads, 1, width]
        keys, values = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
        x = functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask[:, None, None, :])
        return self.out(x.transpose(1, 2).flatten(2)), keys, values


@zoo
def decoder_with_cache():
    rows, past = batch(), DynamicDim("past", 1, 12, 40)
    cache = (TensorSpec(name, (rows, 2, past, 8)) for name in ("keys", "values"))
    return _StepWithCache(), ids((rows, 1), 30), *cache, TensorSpec("mask", (rows, past + 1))


@zoo
def decoder_with_untied_cache():
    rows, past = batch(), DynamicDim("past", 1, 12, 40)
    cache = (TensorSpec(name, (rows, 2, past, 8)) for name in ("keys", "values"))
    mask = TensorSpec("mask", (rows, DynamicDim("total", 2, 13, 41)))
    return _StepWithCache(), ids((rows, 1), 30), *cache, mask  # refused: total is past + 1


@zoo
def twice_as_long():
    class Mixed(nn.Module):
        """Two tokens for each frame."""

        def forward(self, frames, tokens):
            return frames.repeat_interleave(2, dim=1) * tokens

    frames = DynamicDim("frames", 1, 6, 20)
    return Mixed(), TensorSpec("frames", (batch(), frames, 8)), TensorSpec("tokens", (batch(), 2 * frames, 8))


@zoo
def rotary_embedding():
    class Rotary(nn.Module):
        """Queries as complex numbers, turned by their positions."""

        def forward(self, x):
            angles = torch.outer(torch.arange(x.shape[1]), 100.0 ** -torch.linspace(0, 1, x.shape[2] // 2))
            turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angles), angles)
            return torch.view_as_real(turned).flatten(2)

    return Rotary(), TensorSpec("x", (batch(), length(1), 8))


@zoo
def lstm():
    class Lstm(Layers):
        def forward(self, x):
            x, (hidden, _) = self.lstm(x)
            return self.head(x), hidden

    model = Lstm(lstm=nn.LSTM(8, 12, num_layers=2, bidirectional=True, batch_first=True), head=nn.Linear(24, 5))
    return model, TensorSpec("x", (batch(), 6, 8))


@zoo
def lstm_of_any_length():
    class Lstm(Layers):
        def forward(self, x):
            return self.lstm(x)[0][:, -1]

    model = Lstm(lstm=nn.LSTM(8, 12, batch_first=True))
    return model, TensorSpec("x", (batch(), length(), 8))  # ahead of time refused: each step is traced by itself


@zoo
def gru_with_state():
    class Gru(Layers):
        def forward(self, x, state):
            return self.gru(x, state)

    rows = batch()
    return Gru(gru=nn.GRU(8, 12)), TensorSpec("x", (5, rows, 8)), TensorSpec("state", (1, rows, 12))


@zoo
def recurrent_cell():
    class Cell(Layers):
        def forward(self, x):
            hidden = cell = torch.zeros(x.shape[0], 12)
            for step in x.unbind(dim=1):
                hidden, cell = self.cell(step, (hidden, cell))
            return hidden

    return Cell(cell=nn.LSTMCell(8, 12)), TensorSpec("x", (batch(), 4, 8))


@zoo
def packed_sequences():
    class Packed(Layers):
        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.gru(packed)[1][0]

    def examples(sizes):
        return torch.randn(sizes["batch"], 6, 8), torch.randint(1, 7, (sizes["batch"],))

    inputs = TensorSpec("x", (batch(), 6, 8)), TensorSpec("lengths", (batch(),), torch.int64)
    return Case("packed_sequences", Packed(gru=nn.GRU(8, 12, batch_first=True)), inputs, examples=examples)


@zoo
def time_delay_network():
    model = nn.Sequential(
        nn.Conv1d(8, 12, 5, dilation=2),
        nn.ReLU(),
        nn.BatchNorm1d(12),
        nn.Conv1d(12, 12, 3, groups=12),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(12, 4),
    )
    return model, TensorSpec("input", (batch(), 8, length(16, 40, 90)))


@zoo
def streaming_style_convolution():
    class Causal(Layers):
        """The state of a streaming convolution, passed in and out."""

        def forward(self, chunk, state):
            x = torch.cat([state, chunk], dim=2)
            return self.conv(x), x[:, :, -4:]

    rows = batch()
    return Causal(conv=nn.Conv1d(4, 6, 5)), TensorSpec("chunk", (rows, 4, length(1))), TensorSpec("state", (rows, 4, 4))


@zoo
def spectrogram_classifier():
    class Spectrogram(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("window", torch.hann_window(64))
            self.mel = nn.Parameter(torch.rand(33, 10))
            self.conv = nn.Conv1d(10, 6, 3, padding=1)

        def forward(self, wave):
            spectrum = torch.stft(wave, 64, 16, window=self.window, return_complex=True)  # [batch, 33, frames]
            power = spectrum.abs().square().transpose(1, 2) @ self.mel  # [batch, frames, 10]
            return self.conv((power + 1e-3).log().transpose(1, 2)).mean(dim=2)

    return Spectrogram(), TensorSpec("wave", (batch(), DynamicDim("samples", 200, 400, 1000)))


@zoo
def spectrum_and_back():
    class Denoiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("window", torch.hann_window(32))

        def forward(self, wave):
            spectrum = torch.stft(wave, 32, 8, window=self.window, return_complex=True)
            mask = torch.sigmoid(spectrum.abs() - 1)
            return torch.istft(spectrum * mask, 32, 8, window=self.window, length=wave.shape[1])

    return Denoiser(), TensorSpec("wave", (batch(1, 2, 5), DynamicDim("samples", 100, 200, 500)))


@zoo
def linear_attention():
    class Linear(Layers):
        def forward(self, x):
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            q, k = functional.elu(q) + 1, functional.elu(k) + 1
            sums = torch.einsum("bld,ble->blde", k, v).cumsum(dim=1)  # [batch, length, 8, 8]
            return torch.einsum("bld,blde->ble", q, sums) / (q * k.cumsum(dim=1)).sum(dim=-1, keepdim=True)

    return Linear(qkv=nn.Linear(8, 24)), TensorSpec("x", (batch(), length(1), 8))


@zoo
def sinusoidal_positions():
    class Sinusoidal(nn.Module):
        def forward(self, x):
            steps, width = x.shape[1], x.shape[2]
            table = torch.zeros(steps, width)
            angles = torch.arange(steps)[:, None] * torch.exp(torch.arange(0, width, 2) * (-4 / width))
            table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
            return x + table

    return Sinusoidal(), TensorSpec("x", (batch(), length(), 8))


@zoo
def windows_of_a_sequence():
    class Windows(nn.Module):
        """Attention inside windows of 8 positions: a sequence is padded to a multiple, and cropped again."""

        def forward(self, x):
            steps = x.shape[1]
            x = functional.pad(x, (0, 0, 0, -steps % 8))
            windows = x.unflatten(1, (-1, 8))
            weights = (windows @ windows.transpose(-1, -2)).softmax(dim=-1)
            return (weights @ windows).flatten(1, 2)[:, :steps]

    return Windows(), TensorSpec("x", (batch(), length(), 8))


@zoo
def time_series_patches():
    class PatchTst(nn.Module):
        """Overlapping patches of a normalized series, as forecasting models take them."""

        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(8, 16), nn.Linear(16, 4)
            self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, series):
            mean, std = series.mean(dim=1, keepdim=True), series.std(dim=1, keepdim=True) + 1e-5
            patches = ((series - mean) / std).unfold(1, 8, 4)  # [batch, patches, 8]
            return self.head(self.block(self.embed(patches)).mean(dim=1)) * std + mean

    return PatchTst(), TensorSpec("series", (batch(), length(12, 24, 60)))
