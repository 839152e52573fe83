"""Lab beside scikit-image, there and back, and gradients that are finite everywhere."""

from __future__ import annotations

import pytest
import torch
from reference.compare import assert_full_precision

from course_lib.parts.lab import gray, lab_to_rgb, rgb_to_lab


def pictures(n=6, size=8):
    """Random pictures, some of them nearly black, with black and white themselves."""
    x = torch.rand(n, 3, size, size, dtype=torch.float64)
    x[1] *= 0.05  # below the bends of both curves
    x[2], x[3] = 0, 1
    return x


def test_scikit_images_numbers():
    theirs = pytest.importorskip("skimage.color", reason="scikit-image is a dependency of development alone")
    x = pictures()
    lab = theirs.rgb2lab(x.permute(0, 2, 3, 1).numpy())
    torch.testing.assert_close(rgb_to_lab(x), torch.from_numpy(lab).permute(0, 3, 1, 2), rtol=0, atol=1e-6)
    torch.testing.assert_close(rgb_to_lab(x.float()).double(), rgb_to_lab(x), rtol=0, atol=1e-3)
    back = torch.from_numpy(theirs.lab2rgb(lab)).permute(0, 3, 1, 2)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), back, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rgb", "lab"), [
    ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)), ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
    ((0.0, 1.0, 0.0), (87.74, -86.18, 83.18)), ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
])
def test_colors_with_known_numbers(rgb, lab):
    found = rgb_to_lab(torch.tensor(rgb).view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor(lab), rtol=0, atol=0.01)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_there_and_back(dtype, error):
    x = pictures().to(dtype)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, rtol=0, atol=error)


def test_a_gray_picture_has_no_color():
    x = torch.linspace(0, 1, 256).view(1, 1, 16, 16).expand(-1, 3, -1, -1)
    lab = rgb_to_lab(x)
    # The published white point is rounded, so that greys miss zero by up to 0.005, where people see steps of about 2.
    assert lab[:, 1:].abs().max() < 0.005
    assert (lab[0, 0].flatten().diff() > 0).all(), "a lighter grey has a larger L"


def test_colors_beyond_the_screen_are_cut_off():
    x = lab_to_rgb(torch.tensor([50.0, 120.0, -120.0]).view(1, 3, 1, 1))
    assert x.min() == 0 and x.max() == 1


def test_gradients_are_right_and_finite_everywhere():
    inside = torch.rand(1, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rgb_to_lab, inside)
    assert torch.autograd.gradcheck(lab_to_rgb, rgb_to_lab(inside).detach().requires_grad_())
    # Black, white and, on both sides of it, the bend of the curve: a bare cube root has an infinite slope at 0.
    bend = torch.tensor([0.0, 0.04045 - 1e-6, 0.04045 + 1e-6, 1.0])
    x = torch.cartesian_prod(bend, bend, bend).T.reshape(1, 3, 8, 8).requires_grad_()
    lab = rgb_to_lab(x)
    assert torch.autograd.grad(lab.square().sum(), x, retain_graph=True)[0].isfinite().all()
    lab = lab.detach().requires_grad_()
    assert torch.autograd.grad(lab_to_rgb(lab).square().sum(), lab)[0].isfinite().all()


def test_gray_keeps_lightness_and_nothing_else():
    x = pictures()
    without = gray(x)
    assert (without - without[:, :1]).abs().max() < 1e-4, "red, green and blue are alike"
    torch.testing.assert_close(rgb_to_lab(without)[:, 0], rgb_to_lab(x)[:, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(gray(without), without, rtol=0, atol=1e-6)  # what is grey stays as it is
    bytes_ = (x * 255).round().to(torch.uint8)
    torch.testing.assert_close(gray(bytes_), gray(bytes_.float() / 255))


def test_full_precision_inside_autocast():
    for convert, x in ((rgb_to_lab, torch.rand(2, 3, 4, 4)), (lab_to_rgb, 50 * torch.rand(2, 3, 4, 4))):
        assert_full_precision(lambda values, convert=convert: convert(values).mean(), x)


@pytest.mark.parametrize("convert", [rgb_to_lab, lab_to_rgb, gray])
@pytest.mark.parametrize(("x", "error", "message"), [
    (torch.rand(3, 8, 8), ValueError, r"shape \[N, 3, H, W\], got \[3, 8, 8\]: one picture .* x\[None\]"),
    (torch.rand(2, 1, 8, 8), ValueError, r"shape \[N, 3, H, W\], got \[2, 1, 8, 8\]"),
    (torch.zeros(2, 3, 8, 8, dtype=torch.int64), TypeError, "got torch.int64: convert them to uint8"),
    ([[1, 2]], TypeError, "pictures must be a tensor, got list"),
])
def test_bad_input(convert, x, error, message):
    with pytest.raises(error, match=message):
        convert(x)


def test_lab_is_never_bytes():
    with pytest.raises(TypeError, match=r"must be floats, got torch\.uint8: give what rgb_to_lab returns"):
        lab_to_rgb(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_precision_stays(dtype):
    x = torch.rand(2, 3, 4, 4, dtype=dtype)
    assert rgb_to_lab(x).dtype == gray(x).dtype == lab_to_rgb(rgb_to_lab(x)).dtype == dtype


def test_values_are_not_looked_at():
    # A GPU would wait for the look. What a decoder paints just outside [0, 1] is converted as it is.
    assert gray(torch.full((1, 3, 2, 2), 1.1)).isfinite().all() and rgb_to_lab(-torch.ones(1, 3, 2, 2)).isfinite().all()
