"""features(): frozen, checked, float32, and the same whatever the batch."""

import pytest
import torch
from torch import nn

from course_lib.data.types import Images
from course_lib.evaluate import RawPixels, features


def pictures(n=10, size=8):
    draw = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, 3, size, size), generator=draw, dtype=torch.uint8)


def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())


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
        ([[1, 2]], TypeError, "pictures must be Images, a uint8 tensor or floats .*, got list"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), TypeError, "got torch.int64"),
        (torch.zeros(0, 3, 8, 8), ValueError, r"N at least 1, got \[0, 3, 8, 8\]"),
        (torch.zeros(3, 8, 8), ValueError, r"shape \[N, 3, H, W\]"),
        (torch.full((2, 3, 8, 8), 255.0), ValueError, r"must lie in \[0, 1\], got 255 to 255"),
        (torch.full((2, 3, 8, 8), torch.nan), ValueError, r"must lie in \[0, 1\], got nan"),
    ],
)
def test_pictures_that_do_not_fit(x, error, words):
    with pytest.raises(error, match=words):
        features(RawPixels(8), x)


class Gives(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


def test_encoders_that_do_not_fit():
    with pytest.raises(ValueError, match=r"must turn \[10, 3, H, W\] into \[10, dim\], got \[10, 3, 8, 8\]: pool"):
        features(Gives(lambda x: x), pictures())
    with pytest.raises(ValueError, match="got tuple"):
        features(Gives(lambda x: (x, x)), pictures())
    with pytest.raises(ValueError, match="encoder's features must be finite, but 10 of 10 rows hold NaN"):
        features(Gives(lambda x: x.flatten(1) * torch.nan), pictures())
