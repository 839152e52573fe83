"""Encoders and heads. Every encoder takes floats in [0, 1] (or uint8) and normalises inside, so no one can forget to.

An encoder has `dim`, and three ways to look: `encoder(x)` -> `[N, dim]`, `encoder.maps(x)` -> `[N, C, h, w]` before
pooling, `encoder.stages(x)` -> the map after each stage.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn


def _as_float(x: Tensor) -> Float[Tensor, "n 3 h w"]:
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"an encoder takes pictures [N, 3, H, W], got {list(x.shape)}")
    if x.dtype == torch.uint8:
        return x.float() / 255
    if not x.is_floating_point():
        raise TypeError(f"an encoder takes uint8 in 0..255 or floats in [0, 1], got {x.dtype}: convert to uint8")
    return x


class Encoder(nn.Module):
    """A picture's way to one vector: `stages` in a subclass, `maps` its last entry, `forward` the mean over places.

    dim: the length of the vector that `forward` returns.
    """

    dim: int

    def __init__(self):
        super().__init__()
        # ImageNet's channel means and one deviation for all: close to zero mean and unit variance on natural pictures.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)

    def normalize(self, x: Tensor) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [0, 1], or uint8, to about zero mean and unit variance, in channels-last memory."""
        return ((_as_float(x) - self.mean) / 0.25).contiguous(memory_format=torch.channels_last)

    def stages(self, x: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c h w"]]:
        raise NotImplementedError

    def maps(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        return self.stages(x)[-1]

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return F.adaptive_avg_pool2d(self.maps(x), 1).flatten(1)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a way around them (He et al. 2016, figure 2)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


class ConvNet(Encoder):
    """The laptop encoder: a stem that halves the picture, residual stages, and a 1×1 convolution up to `dim`."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 192), dim: int = 512):
        super().__init__()
        self.dim = dim
        # Most of the work of a small net is at full resolution, so the stem leaves that at once. Later stages pool and
        # do not stride: a CPU takes twice as long for the gradient of a strided convolution.
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        pairs = zip((widths[0], *widths), widths, strict=False)
        self.blocks = nn.ModuleList(nn.Sequential(nn.AvgPool2d(2) if i else nn.Identity(), ResidualBlock(a, b))
                                    for i, (a, b) in enumerate(pairs))
        self.head = nn.Sequential(nn.Conv2d(widths[-1], dim, 1, bias=False), nn.BatchNorm2d(dim), nn.ReLU())

    def stages(self, x):
        x = self.stem(self.normalize(x))
        maps = []
        for block in self.blocks:
            maps.append(x := block(x))
        return [*maps, self.head(x)]


def convnet(widths: tuple[int, ...] = (32, 64, 192), dim: int = 512) -> ConvNet:
    """The laptop encoder: 32×32 pictures to 4×4 maps and `dim` = 512 numbers."""
    return ConvNet(widths, dim)


class Enlarged(Encoder):
    """An encoder that enlarges whatever it is given `factor` times before it looks, bilinearly.

    For methods that cut small pictures into pieces: of a piece of 8 pixels a net that halves three times leaves one
    place, which is mostly border. Pieces in training and whole pictures in evaluation are enlarged alike, so both come
    at the same scale. That costs factor² times the work, and no weights.
    """

    def __init__(self, encoder: Encoder, factor: int = 2):
        super().__init__()
        if factor < 1:
            raise ValueError(f"factor must be at least 1, for pictures as they are, got {factor}: 2 doubles them")
        self.encoder, self.factor, self.dim = encoder, factor, encoder.dim

    def stages(self, x: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c h w"]]:
        return self.encoder.stages(F.interpolate(_as_float(x), scale_factor=self.factor, mode="bilinear"))


class ResNet(Encoder):
    """torchvision's ResNet-18 without its classifier, untrained. See `resnet18`."""

    def __init__(self, stem: str = "cifar"):
        from torchvision.models import resnet18 as torchvision_resnet18

        super().__init__()
        if stem not in ("cifar", "imagenet"):
            raise ValueError(f"stem must be 'cifar' (3×3, no pooling) or 'imagenet' (7×7 and pooling), got {stem!r}")
        net = torchvision_resnet18(weights=None)
        self.dim = net.fc.in_features
        if stem == "cifar":  # SimCLR, appendix B.9: at 32 pixels the large stride of the usual stem loses too much
            net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            net.maxpool = nn.Identity()
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.blocks = nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4])

    def stages(self, x):
        x = self.stem(self.normalize(x))
        maps = []
        for block in self.blocks:
            maps.append(x := block(x))
        return maps


def resnet18(stem: str = "cifar") -> ResNet:
    """ResNet-18 (He et al. 2016) on torchvision's, 11.2 M weights, `dim` = 512."""
    return ResNet(stem)


class TransformerBlock(nn.Module):
    """Self-attention, then a two-layer perceptron, each after a layer norm and with a way around (pre-norm)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim} and heads={heads}")
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, 2))
        # Written out: on a CPU the gradient of torch's fused attention takes several times as long at this size.
        attention = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        x = x + self.out((attention @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def sincos_positions(height: int, width: int, dim: int) -> Float[Tensor, "hw d"]:
    """Fixed sine and cosine positions of a grid, half of the numbers for the row and half for the column.

    Source: Vaswani et al. 2017, section 3.5, in two dimensions as MAE does. `dim` must be a multiple of four.
    """
    if dim % 4:
        raise ValueError(f"sine and cosine of rows and of columns need a dim that is a multiple of 4, got {dim}")
    frequency = 10000.0 ** (-torch.arange(dim // 4) / (dim // 4))
    def waves(n):
        angle = torch.arange(n)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], 1)

    rows, columns = waves(height), waves(width)
    return torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], 1)


class ViT(Encoder):
    """A small vision transformer (Dosovitskiy et al. 2021) with a class token and fixed sine-cosine positions.

    forward: the mean of the patch tokens, which carries more than the class token where no loss trains that one.
    """

    def __init__(self, size: int = 32, patch: int = 4, dim: int = 128, depth: int = 6, heads: int = 4):
        super().__init__()
        if size % patch:
            raise ValueError(f"pictures of {size} pixels do not split into patches of {patch}: "
                             f"choose a divisor of {size}")
        self.dim, self.patch, self.grid = dim, patch, size // patch
        self.embed = nn.Conv2d(3, dim, patch, patch)
        self.register_buffer("positions", sincos_positions(self.grid, self.grid, dim), persistent=False)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def _embed(self, x, keep):
        x = self.normalize(x)
        if x.shape[2:] != (self.patch * self.grid,) * 2:
            size = self.patch * self.grid
            raise ValueError(f"this ViT takes pictures of {size}×{size} pixels, got {x.shape[2]}×{x.shape[3]}: "
                             f"resize them or build vit(size={x.shape[2]})")
        x = self.embed(x).flatten(2).transpose(1, 2) + self.positions
        if keep is not None:
            x = x.gather(1, keep[:, :, None].expand(-1, -1, self.dim))
        return torch.cat([self.class_token.expand(len(x), -1, -1).to(x.dtype), x], 1)

    def tokens(self, x: Float[Tensor, "n 3 h w"], keep: Int64[Tensor, "n k"] | None = None) -> Float[Tensor, "n t d"]:
        """The class token, then one token a patch in reading order; with `keep`, only those patches are ever seen."""
        x = self._embed(x, keep)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def stages(self, x):
        x = self._embed(x, None)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            last = i == len(self.blocks) - 1
            maps.append((self.norm(x) if last else x)[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid)))
        return maps


def vit(size: int = 32, patch: int = 4, dim: int = 128, depth: int = 6, heads: int = 4) -> ViT:
    """A small ViT: 64 patches of 4×4 pixels, 1.2 M weights, `dim` = 128."""
    return ViT(size, patch, dim, depth, heads)


def mlp(*widths: int) -> nn.Sequential:
    """A head: linear layers of the given widths, batch norm and ReLU between them, nothing after the last.

    `mlp(512, 512, 128)` is SimCLR's projector.
    """
    if len(widths) < 2:
        raise ValueError(f"a head needs at least an input and an output width, got {widths}")
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


class Decoder(nn.Module):
    """From one vector back to a picture: a linear layer to 4×4, then upsampling by two until `size` is reached.

    In: `[N, dim]`. Out: `[N, 3, size, size]`, in the range of the target and not squashed.
    """

    def __init__(self, dim: int, size: int = 32, width: int = 64):
        super().__init__()
        doublings = int(math.log2(max(size, 4) / 4))
        if size != 4 * 2**doublings:
            raise ValueError(f"the decoder doubles from 4 pixels on, so size must be 4, 8, 16, 32, …, got {size}")
        self.seed = nn.Sequential(nn.Linear(dim, 2 * width * 16), nn.Unflatten(1, (2 * width, 4, 4)))
        layers: list[nn.Module] = []
        inputs = 2 * width
        for _ in range(doublings):
            layers += [nn.BatchNorm2d(inputs), nn.ReLU(), nn.ConvTranspose2d(inputs, width, 4, 2, 1, bias=False)]
            inputs, width = width, max(width // 2, 16)
        self.up = nn.Sequential(*layers, nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 3, 3, 1, 1))

    def forward(self, h: Float[Tensor, "n d"]) -> Float[Tensor, "n 3 s s"]:
        return self.up(self.seed(h))
