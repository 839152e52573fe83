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
from course_lib.methods.contrastive.cpc import SignalEncoder
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


@pytest.mark.parametrize(("name", "head", "margin"), [
    ("SimCLR", "projector", 0.4), ("BYOL", "projector", 0.1), ("VICReg", "expander", 0.1), ("MoCo", "head", 0.3),
    ("NNCLR", "projector", 0.2), ("MeanShift", "projector", 0.1), ("InstDisc", "head", 0.3), ("PIRL", "head", 0.2),
    ("DenseCL", "head", 0.2)])
def test_two_views_of_a_picture_come_together_and_two_pictures_do_not(name, head, margin, data, held_out):
    method = getattr(methods, name).build(tiny_convnet(), data.pretrain)
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


@pytest.mark.parametrize("name", ["Siamese", "SupCon", "Triplet"])
def test_what_shares_a_label_comes_together(name, data, held_out):
    """By nearest neighbours among other pictures that were not trained on, in the embedding that the loss sees."""
    method = getattr(methods, name)(tiny_convnet())
    network = nn.Sequential(method.encoder, method.projector if name == "SupCon" else method.head).eval()

    def found():
        z = F.normalize(features(network, held_out), dim=1)
        nearest = (z @ z.T).fill_diagonal_(-1).argmax(1)
        return (data.test.y[nearest] == data.test.y).float().mean().item()

    before = found()
    train(method, data.train, epochs=6)
    after = found()
    assert after > before + 0.05, f"{before:.1%} of nearest neighbours share the class before, {after:.1%} after"


def test_cmc_knows_which_colours_belong_to_a_picture(data, held_out):
    method = methods.CMC(methods.CMC.default_encoder(tiny_convnet()))

    def found():
        with torch.no_grad():
            lightness = F.normalize(method.lightness_head(method.encoder.lightness(held_out)), dim=1)
            colors = F.normalize(method.color_head(method.encoder.colors(held_out)), dim=1)
        return ((lightness @ colors.T).argsort(1, descending=True) == torch.arange(len(colors))[:, None]).float()

    method.eval()
    before = (found().argmax(1) + 1).float().mean()
    train(method, data.pretrain, epochs=5)
    after = (found().argmax(1) + 1).float().mean()
    assert after < 0.6 * before, f"the right colours stand at place {before:.0f} of {len(held_out)} before, {after:.0f} after"


def test_clip_tells_classes_by_their_names(data, held_out):
    method = methods.CLIP.build(tiny_convnet(), data.pretrain)
    train(method, data.pretrain, epochs=15)
    prompts = method.embed_texts([f"a {name}" for name in data.classes])
    with torch.no_grad():
        accuracy = ((method.embed_images(held_out) @ prompts.T).argmax(1) == data.test.y).float().mean()
    assert accuracy > 0.2, f"{accuracy:.1%} of classes right without a label, where a guess has 10 %"


def test_cpc_tells_the_patches_that_follow(data):
    method = methods.CPC(tiny_convnet(), patch=16, stride=16)
    train(method, data.pretrain, epochs=4)
    torch.manual_seed(1)
    with torch.no_grad():
        logs = method(data.test.batch(torch.arange(64)))
    places = 64 * 3 * 2  # rows 1 and 2 of 64 pictures, three places each
    assert logs["loss_1"] < 0.8 * math.log(places), f"costs {logs['loss_1']:.2f}, and a guess {math.log(places):.2f}"


def test_sequence_cpc_finds_the_slow_state_under_fast_noise():
    draw = torch.Generator().manual_seed(0)
    state = torch.randn(500, 1, 1, generator=draw).expand(-1, 32, 1)  # one number a signal, the slowest there is
    x = torch.cat([state + 0.5 * torch.randn(500, 32, 1, generator=draw), torch.randn(500, 32, 1, generator=draw)], 2)
    torch.manual_seed(0)
    method = methods.SequenceCPC(SignalEncoder(2, 8), width=8, steps=2)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    for step in range(150):
        loss = method(cl.Batch(x[torch.randint(400, (64,), generator=draw)]))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        c = torch.cat([method.contexts(x)[:, -1], torch.ones(500, 1)], 1)
    solution = torch.linalg.lstsq(c[:400], state[:400, 0]).solution
    left = (state[400:, 0] - c[400:] @ solution).square().mean() / state[400:, 0].var()
    assert left < 0.2, f"{left:.0%} of the state's variance cannot be read from the context"


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
