"""Vision, from PyTorch's own layers."""

import torch
from registry import Layers, batch, images, images_of_any_size, side, zoo
from torch import nn
from torch.nn import functional

from tutorial_lib import DynamicDim, TensorSpec


@zoo
def cnn_of_any_size():
    class Cnn(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3)
            )
            self.classifier = nn.Linear(16, 10)

        def forward(self, x):
            return self.classifier(self.features(x).mean(dim=(2, 3)))

    return Cnn(), images_of_any_size()


@zoo
def separable_with_squeeze_and_excitation():
    class Separable(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
            self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
            self.norm = nn.GroupNorm(4, 16)
            self.squeeze, self.excite = nn.Linear(16, 4), nn.Linear(4, 16)

        def forward(self, x):
            x = functional.silu(self.norm(self.depthwise(self.stem(x))))
            gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean(dim=(2, 3))))))
            return x * gate[:, :, None, None]

    return Separable(), images_of_any_size()


class _UNetResized(nn.Module):
    """Down and up again; the way up asks for the size of the skip connection."""

    def __init__(self):
        super().__init__()
        self.down, self.bottom = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.up, self.head = nn.Conv2d(24, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        skip = functional.relu(self.down(x))
        x = functional.relu(self.bottom(skip))
        x = functional.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return self.head(functional.relu(self.up(torch.cat([skip, x], dim=1))))


@zoo
def u_net_resized():
    return _UNetResized(), images_of_any_size()


class _UNetTransposed(nn.Module):
    """Pooled twice and up again by transposed convolutions: sides are multiples of 4."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.bottom = (
            nn.Conv2d(before, after, 3, padding=1) for before, after in ((3, 8), (8, 12), (12, 16))
        )
        self.up_second, self.up_first = nn.ConvTranspose2d(16, 12, 2, stride=2), nn.ConvTranspose2d(24, 8, 2, stride=2)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        first = functional.relu(self.first(x))
        second = functional.relu(self.second(functional.max_pool2d(first, 2)))
        x = functional.relu(self.bottom(functional.max_pool2d(second, 2)))
        x = torch.cat([second, self.up_second(x)], dim=1)
        return self.head(torch.cat([first, self.up_first(x)], dim=1))


@zoo
def u_net_in_steps():
    return _UNetTransposed(), images_of_any_size(step=4)


@zoo
def u_net_without_steps():
    return _UNetTransposed(), images_of_any_size()  # refused: only multiples of 4 fit


@zoo
def pixel_unshuffle():
    model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 12, 3, padding=1), nn.PixelShuffle(2))
    return model, images_of_any_size(step=2, name="input")


@zoo
def patches_by_reshape():
    class Patches(Layers):
        def forward(self, x):
            x = x.unflatten(3, (-1, 4)).unflatten(2, (-1, 4))  # [batch, 3, rows, 4, columns, 4]
            patches = x.permute(0, 2, 4, 1, 3, 5).flatten(3)  # [batch, rows, columns, 48]
            return self.linear(patches.flatten(1, 2))

    return Patches(linear=nn.Linear(3 * 4 * 4, 16)), images_of_any_size(step=4)


@zoo
def interpolated_position_table():
    class Vit(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 16, 8, stride=8)
            self.positions = nn.Parameter(torch.randn(1, 16, 4, 4))
            self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, x):
            x = self.patches(x)
            x = x + functional.interpolate(self.positions, size=x.shape[-2:], mode="bicubic", antialias=True)
            return self.block(x.flatten(2).transpose(1, 2)).mean(dim=1)

    return Vit(), images_of_any_size()


@zoo
def detection_head():
    class Head(Layers):
        """The 10 best places of a feature map: their boxes in pixels, scores and classes."""

        def forward(self, x):
            height, width = x.shape[-2:]
            x = functional.relu(self.shared(x))
            scores = self.scores(x).sigmoid().flatten(2)  # [batch, classes, places]
            boxes = self.boxes(x).flatten(2).transpose(1, 2)  # [batch, places, 4]
            rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            centres = torch.stack([columns, rows], dim=-1).reshape(-1, 2)
            boxes = torch.cat([centres - boxes[..., :2].exp(), centres + boxes[..., 2:].exp()], dim=-1)
            best, places = scores.amax(dim=1).topk(10)
            chosen = boxes.gather(1, places[..., None].expand(-1, -1, 4))
            return {"boxes": chosen, "scores": best, "labels": scores.argmax(dim=1).gather(1, places)}

    shape = batch(1, 2, 5), 8, DynamicDim("height", 4, 8, 16), DynamicDim("width", 4, 8, 16)
    model = Head(shared=nn.Conv2d(8, 8, 3, padding=1), scores=nn.Conv2d(8, 5, 1), boxes=nn.Conv2d(8, 4, 1))
    return model, TensorSpec("x", shape)


@zoo
def grid_sample():
    class Warp(nn.Module):
        def forward(self, x, flow):
            theta = torch.eye(2, 3, device=x.device).expand(x.shape[0], 2, 3)
            grid = functional.affine_grid(theta, x.shape, align_corners=False) + 0.1 * flow
            return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)

    shape = batch(1, 2, 5), side("height"), side("width")
    flow = TensorSpec("flow", (*shape, 2))
    return Warp(), TensorSpec("x", (shape[0], 3, *shape[1:])), flow


@zoo
def pyramid_pooling():
    class Pyramid(Layers):
        def forward(self, x):
            x = self.stem(x)
            pooled = [functional.adaptive_avg_pool2d(x, side).flatten(1) for side in (1, 2, 4)]
            return self.head(torch.cat(pooled, dim=1))

    return Pyramid(head=nn.Linear(8 * (1 + 4 + 16), 5), stem=nn.Conv2d(3, 8, 3, padding=1)), images_of_any_size()


@zoo
def feature_pyramid():
    class Fpn(Layers):
        def forward(self, x):
            fine = self.fine(x)
            coarse = self.coarse(fine)
            up = functional.interpolate(coarse, scale_factor=2, mode="nearest")
            return [fine + up, coarse]

    model = Fpn(fine=nn.Conv2d(3, 8, 3, padding=1), coarse=nn.Conv2d(8, 8, 3, stride=2, padding=1))
    return model, images_of_any_size(step=2)


@zoo
def fractional_upsampling():
    class Upsample(Layers):
        def forward(self, x):
            return self.conv(functional.interpolate(x, scale_factor=1.5, mode="bilinear"))

    return Upsample(conv=nn.Conv2d(3, 4, 3, padding=1)), images_of_any_size()


@zoo
def video_convolution():
    model = nn.Sequential(nn.Conv3d(3, 6, 3, padding=1), nn.ReLU(), nn.AvgPool3d((1, 2, 2)), nn.Conv3d(6, 4, 1))
    return model, TensorSpec("input", (batch(1, 2, 18), 3, DynamicDim("frames", 1, 4, 9), 8, 8))


@zoo
def gan_generator():
    model = nn.Sequential(
        nn.Linear(12, 8 * 16),
        nn.Unflatten(1, (8, 4, 4)),
        nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1),
        nn.InstanceNorm2d(6, affine=True),
        nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(6, 3, 4, stride=2, padding=1),
        nn.Tanh(),
    )
    return model, TensorSpec("input", (batch(), 12))


@zoo
def sliding_blocks():
    class Blocks(Layers):
        def forward(self, x):
            columns = functional.unfold(x, 3, padding=1)  # [batch, 27, places]
            columns = self.linear(columns.transpose(1, 2)).transpose(1, 2)
            return functional.fold(columns, x.shape[-2:], 3, padding=1)

    return Blocks(linear=nn.Linear(27, 27)), images_of_any_size()


@zoo
def bytes_normalized():
    class Normalized(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.rand(3, 1, 1))
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x.float() / 255 - self.mean)

    shape = images().shape
    return Normalized(), TensorSpec("x", shape, torch.uint8, high=256)


@zoo
def optical_flow_correlation():
    class Correlation(nn.Module):
        """Every pixel of one feature map against every pixel of another."""

        def forward(self, first, second):
            height, width = first.shape[-2:]
            volume = torch.einsum("bcp,bcq->bpq", first.flatten(2), second.flatten(2)) / first.shape[1] ** 0.5
            return volume.unflatten(1, (height, width)).softmax(dim=-1)

    shape = batch(1, 2, 3), 8, DynamicDim("height", 2, 6, 10), DynamicDim("width", 2, 6, 10)
    return Correlation(), TensorSpec("first", shape), TensorSpec("second", shape)
