"""Encoders and heads. Every encoder takes floats in [0, 1] (or uint8) and normalises inside, so no one can forget to.

An encoder has `dim`, and three ways to look: `encoder(x)` -> `[N, dim]`, `encoder.maps(x)` -> `[N, dim, h, w]` before
pooling, `encoder.stages(x)` -> the map after each stage. `encoder.pool(maps)` goes from maps to vectors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.pictures import as_float


class Encoder(nn.Module):
    """A picture's way to one vector: `stages` in a subclass, `maps` its last entry, `forward` those maps pooled.

    dim: the length of the vector that `forward` returns.
    channels: how many channels the map after each stage has, so that heads can be built without a picture.
    """

    dim: int
    channels: list[int]

    def __init__(self):
        super().__init__()
        # ImageNet's channel means and one deviation for all: close to zero mean and unit variance on natural pictures.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)

    def normalize(self, x: Tensor) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [0, 1], or uint8, to about zero mean and unit variance, in channels-last memory."""
        return ((as_float(x, values=False) - self.mean) / 0.25).contiguous(memory_format=torch.channels_last)

    def stages(self, x: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c h w"]]:
        raise NotImplementedError

    def maps(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        return self.stages(x)[-1]

    def pool(self, maps: Float[Tensor, "n d h w"]) -> Float[Tensor, "n d"]:
        """One vector a picture from its maps: the mean over places."""
        return F.adaptive_avg_pool2d(maps, 1).flatten(1)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return self.pool(self.maps(x))


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
        self.dim, self.channels = dim, [*widths, dim]
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

    @property
    def channels(self) -> list[int]:
        return self.encoder.channels

    def enlarge(self, x: Tensor) -> Float[Tensor, "n 3 h w"]:
        return F.interpolate(as_float(x, values=False), scale_factor=self.factor, mode="bilinear")

    def stages(self, x: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c h w"]]:
        return self.encoder.stages(self.enlarge(x))

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return self.encoder(self.enlarge(x))  # which knows how it pools


class ResNet(Encoder):
    """torchvision's ResNet-18 without its classifier, untrained. See `resnet18`."""

    def __init__(self, stem: str = "cifar"):
        from torchvision.models import resnet18 as torchvision_resnet18

        super().__init__()
        if stem not in ("cifar", "imagenet"):
            raise ValueError(f"stem must be 'cifar' (3×3, no pooling) or 'imagenet' (7×7 and pooling), got {stem!r}")
        net = torchvision_resnet18(weights=None)
        self.dim, self.channels, self.stem_name = net.fc.in_features, [64, 128, 256, 512], stem
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


def halves(backbone: Encoder) -> tuple[Encoder, Encoder]:
    """Two new untrained encoders of half the weights, together as large as `backbone`: for methods that train a pair.

    A ConvNet's widths are scaled by 0.72, to multiples of 8, and its dim is halved: for one `convnet()` two of
    `convnet((24, 48, 136), 256)`. A ResNet gives two whole ones of the same stem, which together are twice as large,
    since torchvision has none that is narrower.
    Raises TypeError for any other encoder.
    """
    if isinstance(backbone, ConvNet):
        # Weights of a convolution grow with the square of the width, and 0.72² is about one half.
        widths = tuple(8 * max(1, round(0.72 * width / 8)) for width in backbone.channels[:-1])
        return ConvNet(widths, backbone.dim // 2), ConvNet(widths, backbone.dim // 2)
    if isinstance(backbone, ResNet):
        return ResNet(backbone.stem_name), ResNet(backbone.stem_name)
    raise TypeError(f"halves can be made of a ConvNet or a ResNet, got {type(backbone).__name__}: "
                    "give nets.convnet() or nets.resnet18()")


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

    def attend(self, x: Float[Tensor, "n t d"]) -> tuple[Float[Tensor, "n heads t t"], Float[Tensor, "n heads t k"]]:
        """How much each token takes from each, rows summing to 1, and the values that it takes, for every head."""
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, 2))
        # Written out: on a CPU the gradient of torch's fused attention takes several times as long at this size.
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1), v

    def forward(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        attention, v = self.attend(x)
        x = x + self.out((attention @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def sincos_positions(height: int, width: int, dim: int, device="cpu") -> Float[Tensor, "hw d"]:
    """Fixed sine and cosine positions of a grid, half of the numbers for the row and half for the column.

    Source: Vaswani et al. 2017, section 3.5, in two dimensions as MAE does. `dim` must be a multiple of four.
    """
    if dim % 4:
        raise ValueError(f"sine and cosine of rows and of columns need a dim that is a multiple of 4, got {dim}")
    frequency = 10000.0 ** (-torch.arange(dim // 4, device=device) / (dim // 4))

    def waves(n):
        angle = torch.arange(n, device=device)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], 1)

    rows, columns = waves(height), waves(width)
    return torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], 1)


class ViT(Encoder):
    """A small vision transformer (Dosovitskiy et al. 2021) with a class token and fixed sine-cosine positions.

    size: of the pictures that it is meant for, in pixels; `grid` is how many patches those have along a side. It takes
        any others too whose sides are multiples of `patch`, with the positions of their own grid.
    pool: what `forward` returns, "mean" for the mean of the patch tokens, which carries more where no loss trains the
        class token, or "class" for the class token. `maps` are the patch tokens either way.
    """

    def __init__(self, size: int = 32, patch: int = 4, dim: int = 128, depth: int = 6, heads: int = 4,
                 pool: str = "mean"):
        super().__init__()
        if size % patch:
            raise ValueError(f"pictures of {size} pixels do not split into patches of {patch}: "
                             f"choose a divisor of {size}")
        if depth < 1:
            raise ValueError(f"depth must be at least 1 block, got {depth}: 6 is usual here")
        if pool not in ("mean", "class"):
            raise ValueError(f"pool must be 'mean' (of the patch tokens) or 'class' (the class token), got {pool!r}")
        self.dim, self.patch, self.grid, self.pooling, self.channels = dim, patch, size // patch, pool, [dim] * depth
        self.embed = nn.Conv2d(3, dim, patch, patch)
        self.register_buffer("positions", sincos_positions(self.grid, self.grid, dim), persistent=False)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def _embed(self, x, keep=None):
        x = self.normalize(x)
        height, width = x.shape[2:]
        if height % self.patch or width % self.patch or not height * width:
            raise ValueError(f"this ViT takes pictures whose sides are multiples of {self.patch} pixels, "
                             f"got {height}×{width}: resize them")
        x = self.embed(x)
        grid = x.shape[2:]
        positions = self.positions
        if grid != (self.grid, self.grid):
            positions = sincos_positions(*grid, self.dim, x.device).to(positions.dtype)
        x = x.flatten(2).transpose(1, 2) + positions
        if keep is not None:
            x = x.gather(1, keep[:, :, None].expand(-1, -1, self.dim))
        return torch.cat([self.class_token.expand(len(x), -1, -1).to(x.dtype), x], 1)

    def tokens(self, x: Float[Tensor, "n 3 h w"], keep: Int64[Tensor, "n k"] | None = None) -> Float[Tensor, "n t d"]:
        """The class token, then one token a patch in reading order; with `keep`, only those patches are ever seen."""
        x = self._embed(x, keep)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def attention(self, x: Float[Tensor, "n 3 h w"], block: int = -1) -> Float[Tensor, "n heads t t"]:
        """How much each token takes from each in one block, the last by default; a row sums to 1.

        Token 0 is the class token, so `[:, :, 0, 1:]` is where that looks. Raises IndexError for a block there is none
        of.
        """
        depth = len(self.blocks)
        if not -depth <= block < depth:
            raise IndexError(f"this ViT has {depth} blocks, got block={block}: "
                             f"give one of 0 to {depth - 1}, or -1 for the last")
        x = self._embed(x)
        for before in self.blocks[:block]:
            x = before(x)
        return self.blocks[block].attend(x)[0]

    def stages(self, x):
        tokens = self._embed(x)
        grid = [side // self.patch for side in x.shape[2:]]
        maps = []
        for i, block in enumerate(self.blocks):
            tokens = block(tokens)
            last = i == len(self.blocks) - 1
            maps.append((self.norm(tokens) if last else tokens)[:, 1:].transpose(1, 2).unflatten(2, grid))
        return maps

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return self.tokens(x)[:, 0] if self.pooling == "class" else super().forward(x)


def vit(size: int = 32, patch: int = 4, dim: int = 128, depth: int = 6, heads: int = 4, pool: str = "mean") -> ViT:
    """A small ViT: 64 patches of 4×4 pixels, 1.2 M weights, `dim` = 128. pool: "mean" or "class", see `ViT`."""
    return ViT(size, patch, dim, depth, heads, pool)


class SignalEncoder(nn.Module):
    """Pieces of a signal to embeddings: strided convolutions over time, `[N, T, C]` to `[N, T/4, dim]`."""

    def __init__(self, channels: int, dim: int = 32):
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(nn.Conv1d(channels, dim, 4, 2, 1), nn.ReLU(), nn.Conv1d(dim, dim, 4, 2, 1))

    def forward(self, x: Float[Tensor, "n t c"]) -> Float[Tensor, "n s d"]:
        return self.layers(x.mT).mT


def mlp(*widths: int, norm: bool = True, act: Callable[[], nn.Module] = nn.ReLU, last_norm: bool = False
        ) -> nn.Sequential:
    """A head: linear layers of the given widths, batch norm and `act` between them, nothing after the last.

    norm: whether there is batch norm between layers. act: makes the nonlinearity, such as `nn.GELU`.
    last_norm: ends with a batch norm that has neither scale nor shift, as SimSiam's and Barlow Twins' projectors do.

    A layer has a bias unless a batch norm follows, which would take it away again.
    `mlp(512, 512, 128)` is SimCLR's projector.
    """
    if len(widths) < 2:
        raise ValueError(f"a head needs at least an input and an output width, got {widths}")
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths[:-1]):
        layers.append(nn.Linear(inputs, outputs, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm1d(outputs))
        layers.append(act())
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not last_norm))
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


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
