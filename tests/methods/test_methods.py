"""What holds for every method, whatever its idea."""

from __future__ import annotations

import math

import pytest
import torch

import course_lib as cl
from course_lib import methods
from course_lib.data import toybox
from course_lib.data.types import Images
from course_lib.methods import MAE, Batch, Method
from course_lib.methods.pretext.colorization import Lightness
from course_lib.methods.pretext.split_brain import SplitEncoder
from course_lib.nets import convnet, vit

NAMES = sorted(name for name in methods.__all__ if name not in ("Method", "Batch"))


def encoder(name):
    """The smallest one of the kind that a method wants."""
    if name == "MAE":
        return vit(dim=16, depth=1, heads=2)
    if name == "SplitBrain":
        return SplitEncoder(convnet((8, 12), 16), convnet((8, 12), 16))
    return Lightness(convnet((8, 12), 16)) if name in ("Colorizer", "VideoColorizer") else convnet((8, 12), 16)


def build(name, seed=0):
    torch.manual_seed(seed)
    return getattr(methods, name)(encoder(name))


def batch(name="", n=6):
    draw = torch.Generator().manual_seed(9)
    clip = (4,) if "clips" in getattr(methods, name, Method).needs else ()
    x = torch.randint(256, (n, *clip, 3, 32, 32), dtype=torch.uint8, generator=draw)
    return Batch(x, torch.arange(n), torch.arange(n) % 10)


def outputs(method, batch, seed=3):
    torch.manual_seed(seed)
    return method(batch)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_a_finite_scalar_with_what_is_worth_plotting(name):
    method = build(name)
    out = outputs(method, batch(name))
    assert all(value.shape == () and value.isfinite() for value in out.values())
    assert out["loss"].dtype == torch.float32 and out["loss"].requires_grad
    torch.manual_seed(3)
    again = method.loss(batch(name))
    torch.testing.assert_close(again["loss"] if isinstance(again, dict) else again, out["loss"])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight_that_is_trained(name):
    method = build(name)
    outputs(method, batch(name))["loss"].backward()
    for parameter_name, p in method.named_parameters():
        if not p.requires_grad:
            assert p.grad is None, f"{parameter_name} is frozen and has a gradient"
            continue
        assert p.grad is not None and p.grad.isfinite().all(), f"no gradient reaches {parameter_name}"
        # A bias may have a gradient of zero by symmetry, such as VICReg's last one: nothing there feels a shift.
        assert p.ndim == 1 or p.grad.abs().sum() > 0, f"the gradient of {parameter_name} is zero"
    assert all(p.requires_grad for p in method.encoder.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_everything_remembered_is_saved(name):
    method, other = build(name), build(name, seed=1)
    for step in range(3):
        outputs(method, batch(name), seed=step)
        method.after_step((step + 1) / 3)
    assert outputs(other, batch(name))["loss"] != outputs(method, batch(name))["loss"]
    missing = other.load_state_dict(method.state_dict())
    assert not missing.missing_keys and not missing.unexpected_keys
    first, second = outputs(method, batch(name)), outputs(other, batch(name))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_losses_leave_autocast_in_float32(name):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = outputs(build(name), batch(name))
    assert out["loss"].dtype == torch.float32 and out["loss"].isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_read_only_where_they_are_needed(name):
    method, whole = build(name), batch(name)
    if "labels" in method.needs:
        assert outputs(method, whole)["loss"] != outputs(method, Batch(whole.x, whole.index, whole.y.flip(0)))["loss"]
    else:
        assert outputs(build(name), Batch(whole.x, whole.index))["loss"] == outputs(build(name), whole)["loss"]


@pytest.mark.parametrize("name", NAMES)
def test_one_picture_trains_or_is_refused_in_one_sentence(name):
    method, one = build(name), Images(batch(n=1).x, batch(n=1).y, tuple("abcdefghij"))
    if "clips" in method.needs:
        one = toybox.clips(1, frames=4)
    if method.smallest_batch == 1:
        assert math.isfinite(cl.fit(method, one, epochs=1, batch_size=1, precision="float32", device="cpu")["loss"][0])
    else:
        with pytest.raises(ValueError, match=f"{name} needs at least 2 pictures in each process's batch, got 1: raise"):
            cl.fit(method, one, epochs=1, batch_size=1, precision="float32", device="cpu")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("x", "error", "message"), [
    (torch.zeros(4, 3, 32, 32, dtype=torch.int64), TypeError, "uint8 in 0..255 or floats"),
    (torch.full((4, 3, 32, 32), 255.0), ValueError, "divide by 255"),
    (torch.full((4, 3, 32, 32), torch.nan), ValueError, "got values from nan"),
    (torch.zeros(4, 1, 32, 32), ValueError, r"\[N, (T, )?3, H, W\]"),
])
def test_pictures_that_are_none_are_refused(name, x, error, message):
    with pytest.raises(error, match=message):
        x = x[:, None].expand(-1, 4, -1, -1, -1) if "clips" in getattr(methods, name).needs else x
        build(name).loss(Batch(x, torch.arange(4), torch.arange(4)))


def test_supervised_needs_labels_and_the_rest_do_not():
    assert [name for name in NAMES if "labels" in getattr(methods, name).needs] == ["Supervised"]
    unlabelled = Images(batch().x, None, tuple("abcdefghij"))
    with pytest.raises(ValueError, match=r"Supervised: labels are needed, .*: take data\.train"):
        cl.fit(build("Supervised"), unlabelled, epochs=1, batch_size=2, device="cpu")


def test_supervised_is_cross_entropy_with_the_labels():
    method = build("Supervised")
    with torch.no_grad():
        method.classifier.weight.zero_()
        method.classifier.bias.copy_(torch.arange(10.0))
    out = outputs(method, batch())
    wanted = sum(math.log(sum(math.exp(k) for k in range(10))) - y for y in range(6)) / 6
    assert out["loss"].item() == pytest.approx(wanted, rel=1e-5) and out["accuracy"] == 0


def test_mae_trains_on_one_picture_and_the_rest_need_two():
    assert MAE.smallest_batch == 1
    assert Method.smallest_batch == 2


def test_a_method_without_a_loss_says_so():
    class Nothing(Method):
        """No loss yet."""

    with pytest.raises(NotImplementedError, match=r"Nothing has no loss yet: define loss\(self, batch\)"):
        Nothing(convnet((8,), 16), torch.nn.Identity()).loss(batch())


def test_a_batch_knows_its_length():
    assert len(batch(n=5)) == 5
