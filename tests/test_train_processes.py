"""`fit` on two processes: what one process would have learned, and everything that is remembered alike on both."""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch
from reference.outside import SmallDINO, SmallQueue, build, pictures
from reference.processes import ROOT, run_processes
from reference.small import Flat, FlatMaps, Flips, Sized

import course_lib as cl

SCRIPT = f"""
import sys
sys.path[:0] = [{str(ROOT / "tests")!r}]
from test_train_processes import work
work(sys.argv[1])
"""
# SGD, since Adam divides by the size of a gradient: where that is nearly 0 it makes a large step of a rounding error.
PLAIN = {"epochs": 2, "batch_size": 16, "lr": 0.05, "optimizer": "sgd", "precision": "float32", "device": "cpu"}


def without_chance(name):
    """A method whose views and encoder depend neither on chance nor on which pictures share a process."""
    torch.manual_seed(0)
    if name == "SmallDINO":
        views = cl.augment.MultiCrop(cl.augment.none(16), cl.augment.none(8), locals_=2)
        return SmallDINO(Flat(), views=views)
    if name == "SmallQueue":
        return SmallQueue(Flat(), size=32, views=Flips())
    if name == "SimCLR":
        return cl.methods.SimCLR(Flat(), dim=4, projector="linear", views=Flips())
    if name == "MoCo":  # its key of a picture is the query's mirror image, and the queue is what both processes saw
        return cl.methods.MoCo(Flat(), dim=4, queue=32, momentum=0.9, shuffle=False, groups=1, views=Flips())
    if name == "InstDisc":  # the exact softmax, since negatives are drawn by each process for itself
        return cl.methods.InstDisc(Flat(), pictures=64, dim=4, negatives=None, temperature=0.5, views=Flips())
    if name in ("Siamese", "SupCon", "Triplet"):
        method = getattr(cl.methods, name)(Flat(), dim=4, views=Flips())
        setattr(method, "projector" if name == "SupCon" else "head", torch.nn.Linear(5, 4))  # without batch norm
        return method
    if name == "CLIP":
        words = sorted({word for caption in CAPTIONS for word in caption.split()})
        return cl.methods.CLIP(Flat(), words=words, dim=8, depth=1, views=Flips())
    if name == "CMC":
        return cl.methods.CMC(cl.methods.pretext.split_brain.SplitEncoder(Flat(), Flat()), dim=4, views=Flips())
    if name == "CPC":
        return cl.methods.CPC(Flat(), patch=8, stride=4, dim=4, views=Sized(16))
    if name == "DenseCL":
        return cl.methods.DenseCL(FlatMaps(), dim=4, queue=32, momentum=0.9, views=Flips())
    return cl.methods.RotNet(Flat(), views=Flips())


def with_batch_norm(name):
    options = {"MoCo": {"queue": 32}, "NNCLR": {"hidden": 16, "queue": 32}, "PIRL": {"pictures": 64, "negatives": 8},
               "MeanShift": {"hidden": 16, "queue": 32}, "InstDisc": {"pictures": 64, "negatives": 8}}
    if name in options:
        torch.manual_seed(0)
        views = cl.augment.simclr(36 if name == "PIRL" else 16)
        return getattr(cl.methods, name)(cl.nets.convnet((8, 8), 16), dim=8, views=views, **options[name])
    if name == "BYOL":
        torch.manual_seed(0)
        return cl.methods.BYOL(cl.nets.convnet((8, 8), 16), hidden=16, dim=8, views=cl.augment.byol(16))
    return build(name)


EQUAL = ("RotNet", "SimCLR", "SmallDINO", "SmallQueue", "MoCo", "InstDisc", "Siamese", "SupCon", "Triplet", "CLIP",
         "CMC", "CPC", "DenseCL")
CAPTIONS = tuple(f"{number} {thing}" for number in "abcdefgh" for thing in ("ball", "box", "cup", "hat", "key", "leaf",
                                                                            "ring", "star"))
ALIKE = ("BYOL", "SmallDINO", "SmallQueue", "MoCo", "NNCLR", "MeanShift", "InstDisc", "PIRL")


class OtherLoss(cl.methods.SimCLR):
    """Another loss and nothing else: it counts the pictures that it is asked about."""

    def objective(self, z1, z2):
        self.asked = len(z1)
        return (z1 - z2).square().mean()


class Draws(cl.methods.RotNet):
    """It logs a random number, as views draw theirs."""

    def loss(self, batch):
        return super().loss(batch) | {"drawn": torch.rand(())}


class Killed(Exception):
    """As if the process had been ended."""


def train(method, **changes):
    images = dataclasses.replace(pictures(labels=True), captions=CAPTIONS)
    history = cl.fit(method, images, **{**PLAIN, **changes})
    return {"state": method.state_dict(), "loss": history["loss"], "pictures": history.pictures}


def work(folder):
    """One of the processes: everything it finds goes to a file."""
    found = {}
    for name in EQUAL:
        found[f"equal {name}"] = train(without_chance(name))
    for name in ALIKE:
        seen = []
        found[f"alike {name}"] = train(with_batch_norm(name), callbacks=[
            lambda method, history, seen=seen: seen.append({k: v.clone() for k, v in method.named_buffers()})])
        found[f"seen {name}"] = seen

    history = cl.fit(Draws(Flat(), views=Flips()), pictures(), **PLAIN)
    found["drawn"] = history["drawn"]

    method = OtherLoss(Flat(), dim=4, projector="linear", views=Flips())
    train(method)
    found["asked"] = method.asked

    broken, resume = build("SmallQueue"), f"{folder}/run.pt"
    after_step = broken.after_step

    def die(progress):
        after_step(progress)
        if progress > 0.6:
            raise Killed

    broken.after_step = die
    try:
        train(broken, resume=resume, save_every=0.0)
    except Killed:
        torch.distributed.barrier()  # the first one has saved before the other looks for the file
        found["resumed"] = train(build("SmallQueue", seed=5), resume=resume)
    torch.save(found, f"{folder}/{os.environ['RANK']}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    run_processes(SCRIPT, [folder])
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """What each of the two processes found."""
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def assert_close(one, two, what):
    assert one.keys() == two.keys()
    for name, value in one.items():
        other = two[name]
        # Each process brings every second picture, so the rows of a step come in another order.
        if name in ("queue", "queue.rows", "place_queue.rows"):
            value, other = (rows[rows[:, 0].argsort()] for rows in (value, other))
        torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{what}: {n}: {m}")


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_learn_what_one_learns(found, name):
    method = without_chance(name)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    alone = train(method)
    moved = max((value - before[k]).abs().max() for k, value in alone["state"].items())
    assert moved > 0.01, "nothing was learned, so nothing is compared"
    for process in found:
        assert_close(alone["state"], process[f"equal {name}"]["state"], name)
    if name == "SimCLR":  # its loss sees both processes' pictures; a mean over pictures is each process's own
        assert found[1]["equal SimCLR"]["loss"] == pytest.approx(alone["loss"], rel=1e-5)


@pytest.mark.parametrize("name", ALIKE)
def test_weights_queues_and_statistics_are_the_same_on_both(found, name):
    first, second = (process[f"alike {name}"]["state"] for process in found)
    differ = [k for k in first if not torch.equal(first[k], second[k])]
    assert not differ, f"{name}: the processes ended with different {differ}"
    for epoch, (one, other) in enumerate(zip(*(process[f"seen {name}"] for process in found), strict=True)):
        differ = [k for k in one if not torch.equal(one[k], other[k])]
        assert not differ, f"{name}: callbacks after epoch {epoch} saw different {differ}"


def test_every_picture_is_counted_once(found):
    for process in found:
        assert process["equal RotNet"]["pictures"] == 2 * 64
        assert process["resumed"]["pictures"] == 2 * 64


def test_each_process_draws_its_own_views(found):
    one, other = (process["drawn"] for process in found)
    assert len({*one, *other}) == len(one) + len(other)


def test_a_loss_that_is_replaced_alone_still_sees_every_processs_pictures(found):
    assert [process["asked"] for process in found] == [16, 16]


def test_killed_and_resumed_two_processes_end_with_the_same_weights(found):
    for process in found:
        whole, resumed = process["alike SmallQueue"], process["resumed"]
        assert all(torch.equal(value, resumed["state"][k]) for k, value in whole["state"].items())
    assert found[0]["resumed"]["loss"] == found[0]["alike SmallQueue"]["loss"]


def test_a_run_of_two_processes_is_not_gone_on_with_by_one(found, folder):
    with pytest.raises(ValueError, match=r"belongs to another run, with processes=2 \(now 1\): go on with those"):
        train(build("SmallQueue"), resume=folder / "run.pt")
