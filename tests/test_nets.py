"""Encoders keep their contract: one vector, maps, stages, and pictures normalised inside."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from course_lib.nets import (
    Decoder,
    Encoder,
    Enlarged,
    TransformerBlock,
    ViT,
    convnet,
    halves,
    mlp,
    resnet18,
    sincos_positions,
    vit,
)

ENCODERS = {
    "convnet": convnet,
    "convnet_tiny": lambda: convnet((8, 16), 24),
    "enlarged": lambda: Enlarged(convnet((8, 16), 24)),
    "vit": lambda: vit(dim=32, depth=2),
    "resnet18": resnet18,
    "resnet18 for ImageNet": lambda: resnet18("imagenet"),
}


@pytest.fixture(params=ENCODERS)
def encoder(request):
    return ENCODERS[request.param]().eval()


def count(module):
    return sum(p.numel() for p in module.parameters())


# --- every encoder ----------------------------------------------------------------------------------------------------


def test_the_vector_is_the_mean_of_the_maps_and_the_maps_are_the_last_stage(encoder):
    x = torch.rand(3, 3, 32, 32)
    h, maps, stages = encoder(x), encoder.maps(x), encoder.stages(x)
    assert h.shape == (3, encoder.dim) and maps.shape[:2] == (3, encoder.dim)
    torch.testing.assert_close(h, maps.mean((2, 3)))
    assert torch.equal(h, encoder.pool(maps))
    assert encoder.channels == [s.shape[1] for s in stages]
    assert len(stages) >= 2 and torch.equal(maps, stages[-1])
    sizes = [s.shape[2] for s in stages]
    assert sizes == sorted(sizes, reverse=True) and all(s.ndim == 4 and len(s) == 3 for s in stages)


def test_bytes_and_floats_are_the_same_pictures(encoder):
    x = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(encoder(x), encoder(x.float() / 255))


def test_pictures_are_normalized_inside(encoder):
    x = encoder.normalize(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 4, 4))
    assert x.abs().max() < 1e-6 and x.is_contiguous(memory_format=torch.channels_last)
    assert encoder.normalize(torch.ones(1, 3, 4, 4))[0, :, 0, 0].tolist() == pytest.approx([2.06, 2.176, 2.376])


def test_gradients_reach_every_weight(encoder):
    encoder.train()
    encoder(torch.rand(4, 3, 32, 32)).square().sum().backward()
    silent = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_a_picture_is_encoded_alone_and_in_a_batch_alike(encoder):
    x = torch.rand(5, 3, 32, 32)
    torch.testing.assert_close(encoder(x)[2:3], encoder(x[2:3]), rtol=1e-4, atol=1e-5)


def test_what_is_saved_is_weights_and_statistics_alone(encoder):
    saved = encoder.state_dict()
    assert "mean" not in saved and "positions" not in saved
    assert set(saved) >= {name for name, _ in encoder.named_parameters()}


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 1, 32, 32), (2, 32, 32, 3)])
def test_pictures_of_another_shape(encoder, shape):
    with pytest.raises(ValueError, match=r"pictures must have shape \[N, 3, H, W\], got .*: one picture needs a batch"):
        encoder(torch.zeros(shape))


def test_pictures_of_another_dtype(encoder):
    with pytest.raises(TypeError, match=r"uint8 in 0..255 or floats in \[0, 1\], got torch.int64"):
        encoder(torch.zeros(2, 3, 32, 32, dtype=torch.int64))


def test_a_list_instead_of_pictures(encoder):
    for look in (encoder, encoder.maps, encoder.stages):
        with pytest.raises(TypeError, match="pictures must be a tensor, got list"):
            look([torch.rand(3, 32, 32)])


def test_encoders_do_not_look_at_values(encoder):
    # Whoever made the pictures has: a look waits for a GPU, and Lightness or Enlarged would look twice.
    assert encoder(torch.full((2, 3, 32, 32), 1.5)).isfinite().all()


def test_encoders_work_in_float64_too(encoder):
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    single = encoder(x.float())
    double = encoder.double()(x)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)


def test_the_base_has_no_stages_of_its_own():
    with pytest.raises(NotImplementedError):
        Encoder()(torch.rand(1, 3, 8, 8))


# --- each encoder -----------------------------------------------------------------------------------------------------


def test_convnet_as_its_docstring_says():
    net = convnet()
    assert net.dim == 512
    assert [tuple(s.shape[1:]) for s in net.stages(torch.rand(2, 3, 32, 32))] == [
        (32, 16, 16), (64, 8, 8), (192, 4, 4), (512, 4, 4)]
    assert 0.6e6 < count(net) < 0.9e6


def test_convnet_of_other_widths():
    net = convnet((8, 16), 24)
    assert net.dim == 24 and net(torch.rand(2, 3, 32, 32)).shape == (2, 24)
    assert net(torch.rand(2, 3, 96, 64)).shape == (2, 24)


def test_resnet18_as_its_docstring_says():
    net = resnet18()
    assert net.dim == 512 and round(count(net) / 1e6, 1) == 11.2
    assert [tuple(s.shape[1:]) for s in net.eval().stages(torch.rand(1, 3, 32, 32))] == [
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_resnet18_with_the_imagenet_stem_is_torchvisions():
    from torchvision.models import resnet18 as theirs

    net, reference = resnet18("imagenet").eval(), theirs(weights=None)
    reference.fc = nn.Identity()
    weights = zip(net.parameters(), reference.parameters(), strict=True)
    with torch.no_grad():
        for ours, other in weights:
            other.copy_(ours)
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(net(x), reference.eval()(net.normalize(x)))
    assert net.maps(x).shape == (2, 512, 2, 2)


def test_resnet18_with_an_unknown_stem():
    with pytest.raises(ValueError, match=r"stem must be 'cifar' .* or 'imagenet' .*, got 'stl'"):
        resnet18("stl")


def test_an_enlarged_encoder_sees_more_pixels_of_the_same_picture():
    inner = convnet((8, 16), 24).eval()
    encoder = Enlarged(inner, factor=2).eval()
    x = torch.rand(2, 3, 8, 8)
    assert encoder.dim == 24 and count(encoder) == count(inner)
    by_hand = torch.empty(2, 3, 16, 16)
    for i in range(16):
        for k in range(16):  # a new pixel's centre is a quarter of an old pixel from one old centre
            (r, c), (dr, dc) = zip(*[divmod(min(max(v / 2 - 0.25, 0), 7), 1) for v in (i, k)], strict=True)
            r, c, below, right = int(r), int(c), min(int(r) + 1, 7), min(int(c) + 1, 7)
            by_hand[:, :, i, k] = ((1 - dr) * ((1 - dc) * x[:, :, r, c] + dc * x[:, :, r, right])
                                   + dr * ((1 - dc) * x[:, :, below, c] + dc * x[:, :, below, right]))
    torch.testing.assert_close(encoder.maps(x), inner.maps(by_hand))


def test_enlarged_to_less_than_before():
    with pytest.raises(ValueError, match=r"factor must be at least 1, .* got 0: 2 doubles them"):
        Enlarged(convnet((8,), 16), factor=0)


def test_vit_as_its_docstring_says():
    net = vit()
    assert net.dim == 128 and net.grid**2 == 64 and net.patch == 4 and round(count(net) / 1e6, 1) == 1.2
    x = torch.rand(2, 3, 32, 32)
    assert net.tokens(x).shape == (2, 65, 128)
    assert [tuple(s.shape) for s in net.stages(x)] == [(2, 128, 8, 8)] * 6


def test_vits_vector_is_the_mean_of_its_patch_tokens():
    net, x = vit(dim=32, depth=2), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(net(x), net.tokens(x)[:, 1:].mean(1))
    torch.testing.assert_close(net.maps(x).flatten(2).mT, net.tokens(x)[:, 1:])


def test_vit_keeps_what_it_is_told_to_keep_in_that_order():
    net, x = vit(dim=32, depth=2), torch.rand(3, 3, 32, 32)
    everything = torch.stack([torch.randperm(64) for _ in range(3)])
    shuffled = net.tokens(x, everything)
    back = everything.argsort(1)[:, :, None].expand(-1, -1, 32)
    torch.testing.assert_close(shuffled[:, 1:].gather(1, back), net.tokens(x)[:, 1:], rtol=1e-4, atol=1e-5)
    assert net.tokens(x, everything[:, :7]).shape == (3, 8, 32)


def test_vit_never_sees_a_hidden_patch():
    net, x = vit(dim=32, depth=2), torch.rand(2, 3, 32, 32, requires_grad=True)
    keep = torch.tensor([[0, 9, 63], [5, 6, 40]])
    net.tokens(x, keep).square().sum().backward()
    seen = x.grad.abs().sum(1).view(2, 8, 4, 8, 4).sum((2, 4)).flatten(1) > 0
    assert [row.nonzero().flatten().tolist() for row in seen] == [[0, 9, 63], [5, 6, 40]]


def test_vit_takes_every_picture_that_its_patches_tile():
    net = vit(size=48, patch=8, dim=32, depth=2, heads=2)
    assert net.grid == 6 and net.tokens(torch.rand(2, 3, 48, 48)).shape == (2, 37, 32)
    for height, width in ((32, 32), (8, 8), (16, 40), (64, 48)):
        x = torch.rand(2, 3, height, width)
        assert [tuple(m.shape) for m in net.stages(x)] == [(2, 32, height // 8, width // 8)] * 2
        torch.testing.assert_close(net(x), net.tokens(x)[:, 1:].mean(1))
        assert net.attention(x).shape == (2, 2, 1 + height * width // 64, 1 + height * width // 64)
    for height, width in ((32, 30), (30, 32), (4, 8), (0, 8)):
        with pytest.raises(ValueError, match=f"sides are multiples of 8 pixels, got {height}×{width}: resize them"):
            net(torch.rand(2, 3, height, width))


@pytest.mark.parametrize("shape", [(16, 24), (40, 8), (32, 24), (24, 32)])
def test_positions_are_those_of_the_picture_at_hand(shape):
    small, x = vit(dim=32, depth=2), torch.rand(2, 3, *shape)
    # Of a larger picture that begins with these pixels, the patches at the same places alone: the very same input.
    whole = torch.rand(2, 3, 48, 48)
    whole[:, :, :shape[0], :shape[1]] = x
    large = vit(size=48, dim=32, depth=2)
    large.load_state_dict(small.state_dict())
    places = torch.arange(144).view(12, 12)[:shape[0] // 4, :shape[1] // 4].flatten().expand(2, -1)
    torch.testing.assert_close(small.tokens(x), large.tokens(whole, places))


def test_vit_begins_with_xaviers_weights():
    net = vit()
    for layer in (net.blocks[0].qkv, net.blocks[5].out, net.blocks[2].mlp[0]):
        bound = (6 / sum(layer.weight.shape)) ** 0.5
        assert 0.99 * bound < layer.weight.abs().max() <= bound and not layer.bias.any()
    assert net.class_token.std().item() == pytest.approx(0.02, rel=0.3)


def test_vit_in_half_precision_takes_other_sizes_too():
    net = vit(dim=32, depth=2).bfloat16()
    assert net(torch.rand(2, 3, 16, 24, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_vit_of_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="pictures of 32 pixels do not split into patches of 5"):
        ViT(patch=5)
    with pytest.raises(ValueError, match="dim must be a multiple of heads, got dim=32 and heads=5"):
        vit(dim=32, heads=5)
    with pytest.raises(ValueError, match="depth must be at least 1 block, got 0"):
        vit(depth=0)
    with pytest.raises(ValueError, match=r"pool must be 'mean' .* or 'class' .*, got 'cls'"):
        vit(pool="cls")


def test_every_option_of_vit_reaches_the_net():
    base = {"size": 32, "patch": 4, "dim": 32, "depth": 2, "heads": 4}
    cases = [({"dim": 64}, (8, [64] * 2)), ({"depth": 3}, (8, [32] * 3)), ({"size": 64}, (16, [32] * 2)),
             ({"patch": 8}, (4, [32] * 2))]
    for change, wanted in cases:
        other = vit(**{**base, **change})
        assert (other.grid, other.channels) == wanted, change
    x = torch.rand(2, 3, 32, 32)
    assert vit(**{**base, "heads": 2}).attention(x).shape[1] == 2 and vit(**base).attention(x).shape[1] == 4


def test_vit_that_pools_its_class_token():
    mean, by_class, x = vit(dim=32, depth=2), vit(dim=32, depth=2, pool="class"), torch.rand(2, 3, 32, 32)
    by_class.load_state_dict(mean.state_dict())
    assert torch.equal(by_class(x), mean.tokens(x)[:, 0]) and not torch.allclose(by_class(x), mean(x), atol=1e-2)
    assert torch.equal(by_class.maps(x), mean.maps(x))
    silent = [name for name, p in by_class.named_parameters()
              if torch.autograd.grad(by_class(x).square().sum(), p, allow_unused=True)[0] is None]
    assert silent == []


def test_an_enlarged_encoder_pools_as_the_one_inside():
    inner, x = vit(dim=32, depth=1, pool="class"), torch.rand(2, 3, 16, 16)
    encoder = Enlarged(inner)
    assert torch.equal(encoder(x), inner.tokens(encoder.enlarge(x))[:, 0])


def test_attention_of_a_vit_is_what_its_blocks_use():
    net, x = vit(dim=32, depth=3, heads=2).double(), torch.rand(2, 3, 16, 16, dtype=torch.float64)
    maps = [net.attention(x, block) for block in range(3)]
    for weights in maps:
        assert weights.shape == (2, 2, 17, 17) and weights.is_floating_point()
        torch.testing.assert_close(weights.sum(3), torch.ones(2, 2, 17, dtype=torch.float64))
    assert torch.equal(net.attention(x), maps[2]) and torch.equal(net.attention(x, -3), maps[0])
    assert not torch.allclose(maps[0], maps[1]) and not torch.allclose(maps[1], maps[2])
    # Every block once more by hand: from its attention and the tokens before it to those after it.
    seen = []
    for block in net.blocks:
        block.register_forward_hook(lambda block, inputs, output: seen.append((inputs[0], output)))
    tokens, stages = net.tokens(x), net.stages(x)
    for weights, block, (before, after) in zip(maps, net.blocks, seen[:3], strict=True):
        values = block.qkv(block.norm1(before))[:, :, 64:].unflatten(2, (2, 16))
        mixed = before + block.out(torch.einsum("nhij,njhd->nihd", weights, values).flatten(2))
        torch.testing.assert_close(after, mixed + block.mlp(block.norm2(mixed)))
    assert torch.equal(tokens, net.norm(after))
    # A stage is what its block says, but for the last, which ends in a norm.
    for stage, (_, after) in zip(stages[:2], seen, strict=False):
        assert torch.equal(stage.flatten(2).mT, after[:, 1:])


@pytest.mark.parametrize("block", [3, -4])
def test_attention_of_a_block_there_is_none_of(block):
    with pytest.raises(IndexError, match=rf"this ViT has 3 blocks, got block={block}: give one of 0 to 2, or -1"):
        vit(dim=32, depth=3).attention(torch.rand(1, 3, 32, 32), block)


def test_attention_by_hand():
    block, inputs = TransformerBlock(8, 2).double(), torch.randn(1, 5, 8, dtype=torch.float64)
    q, k, v = block.qkv(block.norm1(inputs))[0].split(8, dim=1)
    mixed = torch.zeros(5, 8, dtype=torch.float64)
    for head in (slice(0, 4), slice(4, 8)):
        for i in range(5):
            weights = torch.stack([q[i, head] @ k[j, head] / 2 for j in range(5)]).softmax(0)
            mixed[i, head] = sum(weights[j] * v[j, head] for j in range(5))
    x = inputs + block.out(mixed)
    torch.testing.assert_close(block(inputs), x + block.mlp(block.norm2(x)))


def test_positions_are_all_different_and_near_places_are_alike():
    p = sincos_positions(6, 8, 32)
    assert p.shape == (48, 32)
    distance = torch.cdist(p, p).view(6, 8, 6, 8)
    assert (distance.view(48, 48) + torch.eye(48)).min() > 0.1
    assert distance[2, 3, 2, 4] < distance[2, 3, 2, 6] and distance[2, 3, 3, 3] < distance[2, 3, 5, 3]
    row, column = p.view(6, 8, 32)[:, :, :16], p.view(6, 8, 32)[:, :, 16:]
    assert torch.equal(row[:, 0], row[:, 7]) and torch.equal(column[0], column[5])
    torch.testing.assert_close(row[3, 0, :8], torch.sin(3 * 10000.0 ** (-torch.arange(8) / 8)))
    with pytest.raises(ValueError, match="a dim that is a multiple of 4, got 30"):
        sincos_positions(4, 4, 30)


# --- halves -----------------------------------------------------------------------------------------------------------


def test_halves_of_a_convnet_are_together_as_large():
    backbone = convnet()
    first, second = halves(backbone)
    for half in (first, second):
        assert half.channels == [24, 48, 136, 256] and half.dim == 256
    assert count(first) + count(second) == pytest.approx(count(backbone), rel=0.05)
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    assert not torch.equal(first.stem[0].weight, second.stem[0].weight)  # nor do they begin alike


@pytest.mark.parametrize(("widths", "dim", "wanted"), [
    ((16, 32, 64), 128, [8, 24, 48, 64]), ((4, 96), 20, [8, 72, 10]), ((128,), 64, [96, 32])])
def test_halves_of_other_convnets(widths, dim, wanted):
    for half in halves(convnet(widths, dim)):
        assert half.channels == wanted


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_halves_of_a_resnet_are_two_whole_ones(stem):
    backbone = resnet18(stem)
    first, second = halves(backbone)
    assert first is not second and backbone not in (first, second)
    for half in (first, second):
        assert [p.shape for p in half.parameters()] == [p.shape for p in backbone.parameters()]
        assert half.stem_name == stem
    assert not torch.equal(first.stem[0].weight, second.stem[0].weight)


@pytest.mark.parametrize("backbone", [vit(dim=16, depth=1), Enlarged(convnet((8,), 8)), nn.Linear(2, 2), convnet])
def test_halves_of_anything_else(backbone):
    name = type(backbone).__name__
    with pytest.raises(TypeError, match=rf"a ConvNet or a ResNet, got {name}: give nets.convnet\(\)"):
        halves(backbone)


# --- heads ------------------------------------------------------------------------------------------------------------


def test_mlp_has_norm_and_relu_between_layers_and_nothing_after_the_last():
    assert [type(layer) for layer in mlp(8, 16, 16, 4)] == [
        nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in mlp(8, 4)] == [nn.Linear]
    head = mlp(8, 16, 4)
    assert head(torch.rand(5, 8)).shape == (5, 4)
    assert head[0].bias is None and head[3].bias is not None  # batch norm has a shift of its own
    with pytest.raises(ValueError, match=r"at least an input and an output width, got \(8,\)"):
        mlp(8)


def test_mlp_without_norm_keeps_its_biases():
    head = mlp(8, 16, 16, 4, norm=False)
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert all(layer.bias is not None for layer in head if isinstance(layer, nn.Linear))
    x = torch.rand(5, 8)
    one_by_one = torch.cat([head(x[i:i + 1]) for i in range(5)])
    torch.testing.assert_close(head(x), one_by_one)  # no picture knows of its batch


def test_mlp_of_another_nonlinearity():
    assert [type(layer) for layer in mlp(8, 16, 4, act=nn.GELU)] == [nn.Linear, nn.BatchNorm1d, nn.GELU, nn.Linear]
    head = mlp(8, 16, 16, 4, act=nn.GELU)
    assert head[2] is not head[5], "each place has its own, since some have weights"


@pytest.mark.parametrize("norm", [True, False])
def test_mlp_with_a_norm_at_its_end(norm):
    head = mlp(8, 16, 4, norm=norm, last_norm=True)
    linear, last = head[-2:]
    assert isinstance(last, nn.BatchNorm1d) and last.weight is None and last.bias is None
    assert linear.bias is None and (head[0].bias is None) == norm
    z = head(torch.rand(64, 8))
    torch.testing.assert_close(z.mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.var(0, unbiased=False), torch.ones(4), rtol=0, atol=1e-2)
    assert [type(layer) for layer in mlp(8, 4, last_norm=True)] == [nn.Linear, nn.BatchNorm1d]


def test_heads_that_were_shipped_keep_their_names():
    assert list(mlp(8, 16, 4).state_dict()) == ["0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var",
                                                "1.num_batches_tracked", "3.weight", "3.bias"]


@pytest.mark.parametrize("size", [4, 8, 16, 32, 64])
def test_decoder_paints_pictures_of_its_size(size):
    decoder = Decoder(24, size, width=16)
    picture = decoder(torch.randn(2, 24))
    assert picture.shape == (2, 3, size, size)
    picture.sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())


@pytest.mark.parametrize("size", [0, 2, 12, 33])
def test_decoder_doubles_from_four(size):
    with pytest.raises(ValueError, match=f"size must be 4, 8, 16, 32, …, got {size}"):
        Decoder(24, size)
