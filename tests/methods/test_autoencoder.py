"""The reconstruction's cost, and a decoder that fits the views."""

from __future__ import annotations

import pytest
import torch
from reference import losses
from reference.compare import assert_full_precision, assert_same

from course_lib import augment
from course_lib.methods import Autoencoder, Batch
from course_lib.methods.reconstruction.autoencoder import reconstruction_loss
from course_lib.nets import Decoder, convnet


def test_loss_beside_a_loop():
    output, target = torch.rand(2, 2, 3, 3, 4, dtype=torch.float64)
    assert_same(reconstruction_loss, losses.mean_squared_error, output, target)


def test_limits_by_hand():
    x = torch.rand(64, 3, 8, 8)
    assert reconstruction_loss(x, x) == 0
    assert reconstruction_loss(x + 0.5, x).item() == pytest.approx(0.25)
    assert reconstruction_loss(x.mean().expand_as(x), x).item() == pytest.approx(x.var(correction=0).item())


def test_full_precision_inside_autocast():
    assert_full_precision(reconstruction_loss, torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8))


def test_shapes_that_differ_are_not_broadcast():
    with pytest.raises(ValueError, match=r"its target's shape \[2, 3, 8, 8\], got \[1, 3, 8, 8\]: build the decoder"):
        reconstruction_loss(torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8))


def test_the_decoder_fits_the_views_and_may_be_given():
    x = torch.rand(2, 3, 16, 16)
    assert Autoencoder(convnet((8,), 16), views=augment.weak(16)).reconstruct(x).shape == x.shape
    given = Decoder(16, 8)
    method = Autoencoder(convnet((8,), 16), given, views=augment.weak(16))
    assert method.decoder is given
    with pytest.raises(ValueError, match="build the decoder for the size of the views"):
        method.loss(Batch(x, torch.arange(2)))


def test_the_view_itself_is_the_target():
    method = Autoencoder(convnet((8,), 16), views=augment.none())
    method.reconstruct = lambda x: x.clone()
    assert method.loss(Batch(torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8), torch.arange(2))) == 0
