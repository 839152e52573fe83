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
from course_lib.evaluate import features, knn
from course_lib.methods.masked.mae import masked_loss, normalize_patches
from course_lib.methods.pretext.rotation import rotate4
from course_lib.nets import SignalEncoder
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
    ("SimCLR", "projector", 0.4), ("BYOL", "projector", 0.1), ("VICReg", "expander", 0.1), ("MoCo", "head", 0.2),
    ("NNCLR", "projector", 0.2), ("MeanShift", "projector", 0.1), ("InstDisc", "head", 0.08), ("PIRL", "head", 0.2),
    ("DenseCL", "head", 0.08)])
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
    """By a vote of neighbours, in the embedding that the loss sees; the labels are the backgrounds, which are easy."""
    known, asked = (part.factors["background"] for part in (data.train, data.test))
    labelled = cl.Images(data.train.x, known, tuple("abcdefgh"))
    method = getattr(methods, name)(tiny_convnet())
    network = nn.Sequential(method.encoder, method.projector if name == "SupCon" else method.head).eval()

    def wrong():
        bank = features(network, data.train.x.float() / 255)
        return 100 - knn(bank, known, features(network, held_out), asked)["top1"]

    before = wrong()
    train(method, labelled, epochs=6, lr=5e-3)
    after = wrong()
    assert after < 0.8 * before, f"{before:.1f} % of votes are wrong before, {after:.1f} % after"


def test_cmc_knows_which_colours_belong_to_a_picture(data, held_out):
    method = methods.CMC(methods.CMC.default_encoder(tiny_convnet()))

    def place():
        with torch.no_grad():
            lightness = F.normalize(method.lightness_head(method.encoder.lightness(held_out)), dim=1)
            colors = F.normalize(method.color_head(method.encoder.colors(held_out)), dim=1)
        cosines = lightness @ colors.T
        return (cosines > cosines.diagonal()[:, None]).float().sum(1).mean() + 1

    method.eval()
    before = place()
    train(method, data.pretrain, epochs=5)
    after = place()
    assert after < 0.6 * before, f"the right colours stand at place {before:.0f} before, {after:.0f} after"


def test_clip_knows_which_caption_belongs_to_a_picture(data, held_out):
    method = methods.CLIP.build(tiny_convnet(), data.pretrain)

    def place():
        with torch.no_grad():
            cosines = method.embed_images(held_out) @ method.embed_texts(data.test.captions).T
        return (cosines > cosines.diagonal()[:, None]).float().sum(1).mean() + 1

    method.eval()
    before = place()
    train(method, data.pretrain, epochs=8)
    after = place()
    assert after < 0.5 * before, f"the right caption stands at place {before:.0f} before, {after:.0f} after"


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

    def left():
        with torch.no_grad():
            c = torch.cat([method.contexts(x)[:, -1], torch.ones(500, 1)], 1)
        solution = torch.linalg.lstsq(c[:400], state[:400, 0]).solution
        return (state[400:, 0] - c[400:] @ solution).square().mean() / state[400:, 0].var()

    before = left()
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    for _ in range(150):
        loss = method(cl.Batch(x[torch.randint(400, (64,), generator=draw)]))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = left()
    assert after < 0.6 * before, f"{before:.1%} of the state's variance cannot be read before, {after:.1%} after"


def test_supervised_learns_the_classes(data, held_out):
    method = train(methods.Supervised(tiny_convnet()), data.train, epochs=8)
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
