"""features(): frozen, checked, float32, and the same whatever the batch."""

import pytest
import torch
from torch import nn

from course_lib.data.types import Dataset, Images
from course_lib.evaluate import RawPixels, features


def pictures(n=10, size=8):
    draw = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, 3, size, size), generator=draw, dtype=torch.uint8)


def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())


class Gives(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


def test_a_batch_at_a_time_is_the_same_as_all_at_once():
    x, net = pictures(), encoder()
    whole = features(net, x)
    assert whole.dtype == torch.float32 and whole.device.type == "cpu" and not whole.requires_grad
    torch.testing.assert_close(features(net, x, batch_size=3), whole)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x.float() / 255), whole)


def test_images_uint8_and_floats_give_the_same_features():
    x, net = pictures(), encoder()
    wanted = features(net, x)
    assert torch.equal(features(net, Images(x)), wanted)
    assert torch.equal(features(net, x.float() / 255), wanted)


def test_each_module_gets_its_own_mode_back_even_after_an_error():
    net = encoder().train()
    net[1].eval()
    modes = [m.training for m in net.modules()]
    features(net, pictures())
    assert [m.training for m in net.modules()] == modes
    with pytest.raises(RuntimeError):
        features(net, torch.zeros(2, 3, 1, 1))  # too small for the convolution
    assert [m.training for m in net.modules()] == modes


def test_weights_and_running_statistics_stay_as_they_are():
    net = encoder().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    features(net, pictures())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


class Restless(nn.Module):
    """Changes a buffer whenever it is called; not in state_dict, and by `.data`, where few would look."""

    def __init__(self, change):
        super().__init__()
        self.change = change
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros(1), persistent=False)

    def forward(self, x):
        if self.change == "buffer":
            self.seen += 1
        elif self.change == "data":
            self.weight.data.mul_(0.5)
        elif self.change == "replaced":
            self.seen = self.seen + len(x)
        return x.flatten(1) * self.weight


@pytest.mark.parametrize(("change", "named"), [("buffer", "seen"), ("data", "weight"), ("replaced", "seen")])
def test_an_encoder_that_changes_while_it_is_measured_is_refused(change, named):
    with pytest.raises(RuntimeError, match=f"must stay as it is while it is measured, but it changed {named}"):
        features(Restless(change), pictures())
    features(Restless(None), pictures())


def test_batch_norm_that_ignores_eval_is_refused():
    class Stubborn(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(True)

    with pytest.raises(RuntimeError, match="running_mean"):
        features(nn.Sequential(Stubborn(3), nn.Flatten()), pictures())


def test_features_are_float32_even_under_autocast():
    net, x = encoder(), pictures()
    wanted = features(net, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(features(net, x), wanted)


def test_raw_pixels_are_the_pixels():
    x, net = pictures(), RawPixels(8)
    z = features(net, x)
    assert z.shape == (10, net.dim) == (10, 192)
    assert torch.equal(z, x.flatten(1).float() / 255)
    assert torch.equal(net(x), z)
    with pytest.raises(ValueError, match=r"RawPixels\(32\) wants pictures \[N, 3, 32, 32\], got \[10, 3, 8, 8\]"):
        features(RawPixels(32), x)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        ([[1, 2]], TypeError, "pictures must be a tensor, got list: give images.x of an Images"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), TypeError, "got torch.int64"),
        (torch.zeros(0, 3, 8, 8), ValueError, "at least one picture, got none: check how"),
        (torch.tensor(1.0), ValueError, r"shape \[N, 3, H, W\], got \[\]"),
        (torch.zeros(3, 8, 8), ValueError, r"shape \[N, 3, H, W\]"),
        (torch.full((2, 3, 8, 8), 255.0), ValueError, r"must lie in \[0, 1\], got values from 255 to 255"),
        (torch.full((2, 3, 8, 8), torch.nan), ValueError, r"must lie in \[0, 1\], got values from nan"),
    ],
)
def test_pictures_that_do_not_fit(x, error, words):
    with pytest.raises(error, match=words):
        features(RawPixels(8), x)


def test_pictures_out_of_range_are_found_in_every_batch():
    x = torch.rand(10, 3, 8, 8)
    x[9] = 2
    with pytest.raises(ValueError, match="must lie in"):
        features(RawPixels(8), x, batch_size=4)


def test_a_whole_data_set_is_told_to_give_a_part():
    y = torch.zeros(10, dtype=torch.int64)
    part = Images(pictures(), y, ("a",))
    with pytest.raises(TypeError, match=r"got a whole Dataset: give one of its parts, such as data\.test"):
        features(RawPixels(8), Dataset("d", part.without_labels(), part, part, part))


def test_an_encoder_that_works_in_place_leaves_the_pictures_alone():
    x = torch.rand(10, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    features(Gives(lambda x: x.mul_(2).flatten(1)), x)
    assert torch.equal(x, before)


def test_an_encoder_needs_no_dim_and_no_weights():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert not hasattr(plain, "dim") and features(plain, pictures()).shape == (10, 4)


def stateless_norm(x):
    return torch.nn.functional.batch_norm(x, None, None, training=True).flatten(1)


@pytest.mark.parametrize("encoder", [
    nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()),
    Gives(stateless_norm),
    Gives(lambda x: (x - x.mean(0)).flatten(1)),
    Gives(lambda x: torch.nn.functional.dropout(x.flatten(1))),
], ids=["BatchNorm", "functional", "centered", "dropout"])
@pytest.mark.parametrize("n", [1, 2, 10])
def test_an_encoder_whose_features_depend_on_the_batch_is_refused(encoder, n):
    x = pictures()[:n]
    with pytest.raises(ValueError, match=r"must not depend on the other pictures of the batch.*track_running_stats"):
        features(encoder, x)


def test_rounding_is_no_dependence_on_the_batch():
    """Features far from zero that hardly differ, noise of rounding's size, and one hard decision that tips."""
    def rounded(x):
        z = 100 + 1e-3 * x.flatten(1)
        z = z + 1e-4 * len(x)
        z[0] += 50 * (len(x) == 16)
        return z

    features(Gives(rounded), pictures())


def test_encoders_that_do_not_fit():
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got function: give method\.encoder"):
        features(lambda x: x.flatten(1), pictures())
    method = nn.Module()
    method.encoder, method.loss = RawPixels(8), lambda batch: 0
    with pytest.raises(TypeError, match=r"got the whole method Module: give method\.encoder"):
        features(method, pictures())
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        with pytest.raises(TypeError, match=rf"measured in float32, but its 0\.weight is {dtype}: .* encoder\.float"):
            features(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).to(dtype), pictures())
    with pytest.raises(ValueError, match=r"must turn \[10, 3, H, W\] into \[10, dim\], got \[10, 3, 8, 8\]: pool"):
        features(Gives(lambda x: x), pictures())
    with pytest.raises(ValueError, match="got tuple"):
        features(Gives(lambda x: (x, x)), pictures())
    with pytest.raises(ValueError, match="encoder's features must be finite, but 10 of 10 rows hold NaN"):
        features(Gives(lambda x: x.flatten(1) * torch.nan), pictures())
