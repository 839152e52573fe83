"""Every method learns: a few dozen steps on Toybox end well above where they began.

Methods of two views must know a picture by its other view far more often than the same encoder untrained does; pretext
methods must solve their task far better than a guess does. Both are measured on pictures that were not trained on.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from reference.outside import SmallDINO, SmallQueue
from torch import nn

import course_lib as cl
from course_lib import augment, methods
from course_lib.evaluate import features
from course_lib.methods.masked.mae import masked_loss, normalize_patches
from course_lib.methods.pretext.rotation import rotate4
from course_lib.parts import patchify
from course_lib.recipes import tiny_convnet, tiny_vit


@pytest.fixture(scope="module")
def data():
    return cl.load("toybox", limit=700)


@pytest.fixture(scope="module")
def held_out(data):
    return data.test.x.float() / 255


def train(method, images, epochs=4, lr=3e-3):
    """A short training, after which the method is in eval mode."""
    run = cl.fit(method, images, epochs=epochs, batch_size=64, lr=lr, precision="float32", device="cpu")
    assert all(math.isfinite(loss) for loss in run["loss"])
    return method.eval()


def separation(network, x):
    """How far cosines of two views of a picture lie above those of two pictures, in deviations of the latter."""
    torch.manual_seed(1)
    views = augment.simclr()
    first, second = (F.normalize(features(network, views(x)), dim=1) for _ in range(2))
    cosines = first @ second.T
    others = cosines[~torch.eye(len(x), dtype=torch.bool)]
    return ((cosines.diagonal().mean() - others.mean()) / others.std()).item()


@pytest.mark.parametrize(("name", "head", "margin"), [("SimCLR", "projector", 0.4), ("BYOL", "projector", 0.1),
                                                      ("VICReg", "expander", 0.1)])
def test_two_views_of_a_picture_come_together_and_two_pictures_do_not(name, head, margin, data, held_out):
    method = getattr(methods, name)(tiny_convnet())
    network = nn.Sequential(method.encoder, getattr(method, head)).eval()
    before = separation(network, held_out)
    train(method, data.pretrain, epochs=5)
    after = separation(network, held_out)
    assert after > before + margin, f"views of a picture stand out by {before:.2f} deviations before, {after:.2f} after"


@pytest.mark.parametrize("build", [
    lambda: SmallQueue(tiny_convnet(), size=256, views=augment.simclr()),
    lambda: SmallDINO(tiny_convnet(), outputs=64, views=augment.multicrop(32, 16, locals_=2)),
])
def test_methods_from_outside_learn_too(build, data, held_out):
    method = build()
    before = separation(method.encoder.eval(), held_out)
    after = separation(train(method, data.pretrain, epochs=5).encoder, held_out)
    assert after > before + 0.05, f"views of a picture stand out by {before:.2f} deviations before, {after:.2f} after"


def test_supervised_learns_the_classes(data, held_out):
    method = train(methods.Supervised(tiny_convnet()), data.train)
    with torch.no_grad():
        accuracy = (method.classifier(method.encoder(held_out)).argmax(1) == data.test.y).float().mean()
    assert accuracy > 0.25, f"{accuracy:.1%} of classes right, where a guess has 10 %"


def test_rotnet_knows_which_way_up(data, held_out):
    method = train(methods.RotNet(tiny_convnet()), data.pretrain)
    x, rotation = rotate4(held_out)
    with torch.no_grad():
        accuracy = (method.classifier(method.encoder(x)).argmax(1) == rotation).float().mean()
    assert accuracy > 0.5, f"{accuracy:.1%} of rotations right, where a guess has 25 %"


def test_the_autoencoder_paints_the_picture_it_sees(data, held_out):
    method = train(methods.Autoencoder(tiny_convnet()), data.pretrain)
    with torch.no_grad():
        cost = (method.reconstruct(held_out) - held_out).square().mean()
    blind = (held_out - held_out.mean(0)).square().mean()  # the best that can be painted without looking
    assert cost < 0.9 * blind, f"costs {cost:.4f}, and the mean picture {blind:.4f}"


def test_mae_paints_what_is_hidden_better_than_gray(data, held_out):
    method = train(methods.MAE(tiny_vit()), data.pretrain, epochs=6, lr=2e-3)
    with torch.no_grad():
        output, hidden = method.predict_patches(held_out)
    target = normalize_patches(patchify(held_out, method.encoder.patch))
    cost, gray = masked_loss(output, target, hidden), masked_loss(torch.zeros_like(output), target, hidden)
    assert cost < 0.9 * gray, f"costs {cost:.3f}, and grey {gray:.3f}"
