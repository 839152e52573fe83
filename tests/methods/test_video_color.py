"""Colours are copied by attention, from grey frames alone, and what learned to copy them can follow a thing."""

from __future__ import annotations

import math

import pytest
import torch
from reference.compare import assert_full_precision, assert_same
from reference.video_color_reference import copy_colors

import course_lib as cl
from course_lib.data import toybox
from course_lib.evaluate import evaluate_clips
from course_lib.methods import Batch
from course_lib.methods.pretext.colorization import Lightness
from course_lib.methods.pretext.video_color import VideoColorizer, copy_loss
from course_lib.nets import convnet
from course_lib.parts.lab import gray
from course_lib.parts.propagation import propagate, similarity
from course_lib.recipes import tiny_convnet


def tiny(**options):
    return VideoColorizer(Lightness(convnet((8, 12), 16)), dim=8, **options)


def some_clips(n=3, frames=5, size=16):
    return torch.randint(256, (n, frames, 3, size, size), dtype=torch.uint8)


def loss_of_embeddings(target, references, right, colors, temperature=0.3):
    return copy_loss(similarity(target, references, temperature), right, colors)


def embeddings(n=2, d=3, p=4, r=6):
    return torch.randn(n, d, p), torch.randn(n, d, r), torch.randint(4, (n, p)), torch.randint(3, (n, r))


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_loss_beside_a_loop():
    target, references, right, colors = embeddings()
    assert (right == 3).any(), "no place has a colour that no reference has, so that case is not tested"
    assert_same(loss_of_embeddings, copy_colors, target.double(), references.double(), right, colors, temperature=0.3)


def test_full_precision_inside_autocast():
    assert_full_precision(loss_of_embeddings, *embeddings(d=16), temperature=0.07)


def test_limits_by_hand():
    colors = torch.tensor([[0, 0, 0, 1]])
    right = torch.tensor([[0, 1]])
    blind = copy_loss(torch.zeros(1, 2, 4), right, colors)
    assert blind.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)
    sure = torch.tensor([[[50.0, 0, 0, 0], [0, 0, 0, 50.0]]])
    assert copy_loss(sure, right, colors).item() == pytest.approx(0, abs=1e-6)
    # Which of the references of the right colour it points to does not matter.
    assert copy_loss(sure.roll(1, 2)[:, :1], right[:, :1], colors).item() == pytest.approx(0, abs=1e-6)
    assert copy_loss(sure.flip(1), right, colors).item() == pytest.approx(50 - math.log(3) / 2)


def test_colors_that_cannot_be_copied_cost_nothing_and_push_nowhere():
    logits = torch.randn(1, 3, 4, requires_grad=True)
    loss = copy_loss(logits, torch.tensor([[0, 7, 1]]), torch.tensor([[0, 0, 1, 1]]))
    loss.backward()
    assert (logits.grad[0, 1] == 0).all() and (logits.grad[0, [0, 2]] != 0).all()
    torch.testing.assert_close(loss, copy_loss(logits[:, [0, 2]], torch.tensor([[0, 1]]), torch.tensor([[0, 0, 1, 1]])))
    assert copy_loss(logits, torch.full((1, 3), 7), torch.zeros(1, 4, dtype=torch.int64)) == 0


# --- what is embedded -------------------------------------------------------------------------------------------------


def test_embeddings_never_see_color_and_have_the_grid_of_the_first_stage():
    method, x = tiny().eval(), torch.rand(2, 3, 32, 32)
    method_on_color = VideoColorizer(method.encoder.encoder, dim=8).eval()  # not told to turn pictures grey
    method_on_color.heads.load_state_dict(method.heads.state_dict())
    z = method.embed(x)
    assert z.shape == (2, 8, 16, 16) and z.std() > 0
    torch.testing.assert_close(z, method.embed(gray(x)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(z, method_on_color.embed(x), rtol=1e-4, atol=1e-4)
    assert (z - method.embed(1 - x)).abs().max() > 1e-3  # lightness they do see


def test_building_it_leaves_the_encoder_as_it_was():
    encoder = Lightness(convnet((8, 12), 16))
    before = {name: t.clone() for name, t in encoder.state_dict().items()}
    method = VideoColorizer(encoder)
    assert method.training and all(module.training for module in method.modules())
    assert all(torch.equal(t, before[name]) for name, t in method.encoder.state_dict().items())


def test_every_stage_is_trained():
    method = tiny()
    method.loss(Batch(some_clips(), torch.arange(3)))["loss"].backward()
    silent = [name for name, p in method.named_parameters() if p.grad is None or (p.ndim > 1 and not p.grad.any())]
    assert not silent


# --- which frames are copied from -------------------------------------------------------------------------------------


def test_the_last_frame_copies_from_references_before_it():
    method, seen = tiny(references=2), []
    embed = method.embed
    method.embed = lambda x: seen.append(x.mean((1, 2, 3))) or embed(x)
    light = torch.arange(6, dtype=torch.uint8).view(1, 6, 1, 1, 1) * 40
    for _ in range(20):
        method.loss(Batch(light.expand(2, -1, 3, 16, 16), torch.arange(2)))
    times = (torch.stack(seen).view(20, 2, 3) * 255 / 40).round()
    assert torch.equal(times[:, 0], times[:, 1])
    assert (times.diff(dim=2) > 0).all(), "a reference comes after the frame that copies from it"
    assert set(times.flatten().tolist()) == {0, 1, 2, 3, 4, 5}, "some frames are never looked at"


@pytest.mark.parametrize("references", [1, 3])
def test_an_encoder_that_knows_every_place_copies_every_color(references):
    method = tiny(references=references)
    codes = torch.eye(64).view(1, 64, 8, 8)
    method.embed = lambda x: codes.expand(len(x), -1, -1, -1)
    x = some_clips(2, 1).expand(-1, 4, -1, -1, -1)
    out = method.loss(Batch(x, torch.arange(2)))
    assert out["accuracy"] == 1 and out["loss"] < 1e-4
    method.embed = lambda x: torch.ones(len(x), 4, 8, 8)  # one that knows no place copies the commonest colour
    out = method.loss(Batch(x, torch.arange(2)))
    assert out["accuracy"] < 0.9 and out["loss"] > 0.1


def test_all_colors_alike_are_no_task():
    out = tiny().loss(Batch(torch.full((2, 4, 3, 16, 16), 99, dtype=torch.uint8), torch.arange(2)))
    assert out["accuracy"] == 1 and out["loss"].abs() < 1e-5


# --- bad input, tracking, learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "error", "message"), [
    (torch.zeros(4, 3, 32, 32, dtype=torch.uint8), ValueError,
     r"clips \[N, T, 3, H, W\] of 4 frames or more are needed, got \[4, 3, 32, 32\]: draw some with toybox.clips"),
    (torch.zeros(2, 3, 3, 16, 16, dtype=torch.uint8), ValueError, "of 4 frames or more are needed"),
    (torch.zeros(2, 4, 3, 16, 16, dtype=torch.int64), TypeError, "uint8 in 0..255 or floats"),
    (torch.full((2, 4, 3, 16, 16), 255.0), ValueError, "divide by 255"),
])
def test_what_is_no_clip_is_refused(x, error, message):
    with pytest.raises(error, match=message):
        tiny().loss(Batch(x, torch.arange(len(x))))


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        tiny(temperature=0).loss(Batch(some_clips(), torch.arange(3)))


def test_track_is_propagate_in_eval_mode_and_changes_nothing():
    method, frames, first = tiny(temperature=0.2), some_clips(), torch.rand(3, 16, 16)
    before = {name: t.clone() for name, t in method.state_dict().items()}
    found = method.track(frames, first, topk=3)
    assert method.training and found.shape == (3, 5, 16, 16) and not found.requires_grad
    assert all(torch.equal(t, before[name]) for name, t in method.state_dict().items())
    method.eval()
    torch.testing.assert_close(found, propagate(method.embed, frames, first, topk=3, temperature=0.2))
    assert not torch.allclose(found, propagate(method.embed, frames, first, topk=3, temperature=0.07))
    method.track(frames, first)
    assert not method.training


def test_it_learns_to_follow_things():
    clips = toybox.clips(140, frames=6)
    train, held_out = clips[:120], clips[120:]
    method = VideoColorizer(Lightness(tiny_convnet()), references=1)
    before = evaluate_clips(method.track, held_out)
    run = cl.fit(method, train, epochs=3, batch_size=12, lr=3e-3, precision="float32", device="cpu")
    assert all(math.isfinite(loss) for loss in run["loss"])
    after = evaluate_clips(method.track, held_out)
    told = f"J is {after['J']:.3f}, was {before['J']:.3f}, and {after['copy_J']:.3f} with the first mask held still"
    assert after["J"] > before["J"] + 0.1 and after["J"] > after["copy_J"] + 0.15, told
