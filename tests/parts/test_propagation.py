"""Masks and colours carried through clips whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from course_lib.parts.propagation import attention, check_clips, propagate, similarity

EVERYWHERE = 1000.0  # a radius beyond every picture


def coded(ids, table):
    """Frames that show the numbers `ids` [N, T, H, W], and an encoder that gives each its row of `table`."""
    frames = (ids / 255.0)[:, :, None].expand(-1, -1, 3, -1, -1)
    return frames, lambda x: table[(x[:, 0] * 255).round().long()].permute(0, 3, 1, 2)


def moving(steps, side=12):
    """A pattern of unique pixels that is shifted by (down, right) from frame to frame, and a mask that goes with it."""
    ids, mask = [torch.arange(side**2).view(side, side)], [torch.zeros(side, side)]
    mask[0][1:4, 1:6] = 1
    mask[0][2, 2] = 0  # a hole, so that filling the outline is not enough
    for step in steps:
        ids.append(ids[-1].roll(step, (0, 1)))
        mask.append(mask[-1].roll(step, (0, 1)))
    frames, embed = coded(torch.stack(ids)[None], torch.eye(side**2))
    return frames, embed, torch.stack(mask)[None]


@pytest.mark.parametrize("k_frames", [1, 3])
def test_a_mask_follows_a_moving_pattern_exactly(k_frames):
    frames, embed, masks = moving([(1, 2), (2, 0), (0, 3), (1, -1), (3, 1)])
    found = propagate(embed, frames, masks[:, 0], k_frames=k_frames, radius=EVERYWHERE, topk=1)
    assert torch.equal(found, masks)
    soft = propagate(embed, frames, masks[:, 0], k_frames=k_frames, radius=EVERYWHERE, topk=10, temperature=0.05)
    torch.testing.assert_close(soft, masks, rtol=0, atol=1e-5)


def test_clips_of_a_batch_do_not_mix():
    frames, embed, masks = moving([(1, 2), (2, 0)])
    other, _, other_masks = moving([(3, 0), (0, 4)])
    both, first = torch.cat([frames, other]), torch.cat([masks[:, 0], 1 - other_masks[:, 0]])
    found = propagate(embed, both, first, radius=EVERYWHERE, topk=1)
    assert torch.equal(found, torch.cat([masks, 1 - other_masks]))


def test_colors_are_carried_channel_by_channel():
    frames, embed, _ = moving([(1, 2), (0, 3)])
    first = torch.rand(1, 2, 12, 12)
    found = propagate(embed, frames, first, topk=4)
    assert found.shape == (1, 3, 2, 12, 12) and torch.equal(found[:, 0], first)
    for channel in range(2):
        torch.testing.assert_close(found[:, :, channel], propagate(embed, frames, first[:, channel], topk=4))


def test_a_jump_further_than_the_radius_is_not_followed():
    frames, embed, masks = moving([(3, 4)])
    assert torch.equal(propagate(embed, frames, masks[:, 0], radius=5, topk=1)[:, 1, 4:7, 5:10], masks[:, 1, 4:7, 5:10])
    missed = propagate(embed, frames, masks[:, 0], radius=4.9, topk=1)[:, 1]
    assert not torch.equal(missed[:, 4:7, 5:10], masks[:, 1, 4:7, 5:10])


@pytest.mark.parametrize(("side", "reach"), [(9, 1), (18, 2)])
def test_the_radius_counts_pixels_of_the_frames(side, reach):
    """Where all places look alike each takes the mean of those around it, so one pixel reaches exactly its disc."""
    frames, mask = torch.zeros(1, 2, 3, side, side), torch.zeros(1, side, side)
    cell = slice(4 * reach, 5 * reach)
    mask[:, cell, cell] = 1

    def embed(x):
        return torch.ones(len(x), 2, 9, 9)

    found = propagate(embed, frames, mask, radius=2 * reach, topk=1000)[0, 1]
    row, column = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    disc = (row - 4) ** 2 + (column - 4) ** 2 <= 4
    assert disc.sum() == 13
    wanted = torch.nn.functional.interpolate(disc[None, None] / 13, (side, side), mode="bilinear")[0, 0]
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("size", [8, 16])
def test_a_still_clip_keeps_its_mask_also_on_a_coarse_map(size):
    codes = torch.eye(64).view(1, 64, 8, 8)
    mask = torch.zeros(2, size, size)
    mask[0, 2:6, 4:6], mask[1, :4, 2:8] = 1, 1
    frames = torch.rand(2, 1, 3, size, size).expand(-1, 5, -1, -1, -1)
    found = propagate(lambda x: codes.expand(len(x), -1, -1, -1), frames, mask, temperature=0.05)
    assert torch.equal(found >= 0.5, (mask == 1)[:, None].expand(-1, 5, -1, -1))


def test_the_first_frame_is_never_forgotten():
    seen, hidden = torch.arange(16).view(4, 4), torch.arange(16, 48).view(2, 4, 4)
    frames, embed = coded(torch.stack([seen, *hidden, seen])[None], torch.eye(48))
    mask = torch.eye(4)[None]
    assert torch.equal(propagate(embed, frames, mask, k_frames=1, radius=EVERYWHERE, topk=1)[:, 3], mask)


def test_the_first_frame_is_forgotten_where_it_is_not_kept():
    seen, hidden = torch.arange(16).view(4, 4), torch.arange(16, 48).view(2, 4, 4)
    frames, embed = coded(torch.stack([seen, *hidden, seen])[None], torch.eye(48))
    options = {"radius": EVERYWHERE, "topk": 1000}
    mask = torch.eye(4)[None]
    found = propagate(embed, frames, mask, k_frames=2, keep_first=False, **options)
    assert torch.equal(found[:, :3], propagate(embed, frames, mask, k_frames=2, **options)[:, :3])  # still in reach
    assert found[:, 3].std() < 1e-4  # like no frame that is left


def test_with_the_truth_nothing_is_carried_on():
    frames, embed, masks = moving([(1, 2), (2, 0), (0, 3), (1, -1)])
    truth = torch.rand(1, 5, 12, 12)
    options = {"k_frames": 1, "keep_first": False, "radius": EVERYWHERE}
    found = propagate(embed, frames, truth[:, 0], truth=truth, **options)
    for t in range(1, 5):
        one = propagate(embed, frames[:, t - 1:t + 1], truth[:, t - 1], **options)
        torch.testing.assert_close(found[:, t], one[:, 1])
    options = {"k_frames": 3, "radius": EVERYWHERE, "topk": 1}
    colors = torch.stack([masks, 1 - masks], 2)
    assert torch.equal(propagate(embed, frames, colors[:, 0], truth=colors, **options), colors)


def test_frames_before_the_last_k_are_forgotten():
    """Frame 1 looks like frame 0 and like frame 3; frame 2 looks like none. So frame 3 needs a memory of two frames."""
    one, two, three = torch.eye(48).split(16)
    frames, embed = coded(torch.arange(64).view(1, 4, 4, 4), torch.cat([one, one + two, three, two]))
    mask = torch.eye(4)[None]
    options = {"radius": EVERYWHERE, "topk": 1000, "temperature": 0.02}
    torch.testing.assert_close(propagate(embed, frames, mask, k_frames=2, **options)[:, 3], mask)
    assert propagate(embed, frames, mask, k_frames=1, **options)[:, 3].std() < 1e-4  # alike everywhere: nothing found


# --- attention --------------------------------------------------------------------------------------------------------


def test_attention_points_with_weights_that_sum_to_one_at_the_most_similar_alone():
    logits = torch.randn(3, 5, 11, dtype=torch.float64)
    for topk in (1, 4, 11, 50):
        weights = attention(logits, topk)
        torch.testing.assert_close(weights.sum(2), torch.ones(3, 5, dtype=torch.float64))
        kept = min(topk, 11)
        assert ((weights > 0).sum(2) == kept).all()
        least = logits.sort(2, descending=True).values[:, :, kept - 1 : kept]
        assert torch.equal(weights > 0, logits >= least)
        ratio = (weights.log() - logits)[weights > 0].view(3, 5, kept)  # the same for all that are kept
        torch.testing.assert_close(ratio, ratio[:, :, :1].expand_as(ratio))


def test_a_place_out_of_reach_gets_no_weight_even_where_fewer_than_k_are_in_reach():
    weights = attention(torch.tensor([[[0.0, -math.inf, 0.0, -math.inf]]]), 3)
    assert weights.flatten().tolist() == [0.5, 0, 0.5, 0]


def test_temperature_from_one_place_alone_to_all_alike():
    target, references = torch.randn(2, 8, 5), torch.randn(2, 8, 7)
    cold = attention(similarity(target, references, 1e-4), 7)
    cosine = torch.cosine_similarity(target[:, :, :, None], references[:, :, None], dim=1)
    assert torch.equal(cold.argmax(2), cosine.argmax(2)) and cold.amax(2).min() > 0.99
    torch.testing.assert_close(attention(similarity(target, references, 1e6), 7), torch.full((2, 5, 7), 1 / 7))


def test_similarity_is_a_cosine_whatever_the_lengths():
    target, references = torch.randn(2, 8, 5, dtype=torch.float64), torch.randn(2, 8, 7, dtype=torch.float64)
    cosine = torch.cosine_similarity(target[:, :, :, None], references[:, :, None], dim=1)
    torch.testing.assert_close(similarity(target, references, 0.25), 4 * cosine)
    torch.testing.assert_close(similarity(9 * target, references / 7, 0.25), 4 * cosine)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "message"), [
    ({"frames": torch.zeros(2, 3, 8, 8)}, r"clips \[N, T, 3, H, W\] of 2 frames or more .* got \[2, 3, 8, 8\]"),
    ({"frames": torch.zeros(2, 1, 3, 8, 8)}, "of 2 frames or more are needed"),
    ({"frames": torch.zeros(2, 4, 1, 8, 8)}, r"got \[2, 4, 1, 8, 8\]: draw some with toybox.clips"),
    ({"first": torch.zeros(3, 8, 8)}, r"need masks \[N, H, W\] or values .* got \[3, 8, 8\]: give clips.masks\[:, 0\]"),
    ({"first": torch.zeros(2, 4, 4)}, r"got \[2, 4, 4\]"),
    ({"first": torch.zeros(2, 4, 1, 8, 8)}, r"got \[2, 4, 1, 8, 8\]"),
    ({"k_frames": 0}, "got 0, 10 and 8.0"),
    ({"topk": 0}, "got 3, 0 and 8.0"),
    ({"radius": -1}, "got 3, 10 and -1: the defaults are 3, 10 and 8"),
    ({"truth": torch.zeros(2, 3, 8, 8)}, r"true values of \[2, 4\] frames .* \[8, 8\] each, got \[2, 3, 8, 8\]"),
    ({"truth": torch.zeros(2, 4, 1, 8, 8)}, r"got \[2, 4, 1, 8, 8\]: give clips.masks"),
    ({"temperature": 0}, "temperature must be above 0, got 0: 0.07 is usual"),
])
def test_bad_input(change, message):
    wanted = {"frames": torch.zeros(2, 4, 3, 8, 8), "first": torch.zeros(2, 8, 8)}
    with pytest.raises(ValueError, match=message):
        propagate(lambda x: x, **{**wanted, **change})


def test_check_clips_wants_as_many_frames_as_it_is_told():
    check_clips(torch.zeros(1, 4, 3, 8, 8), 4)
    with pytest.raises(ValueError, match="of 5 frames or more"):
        check_clips(torch.zeros(1, 4, 3, 8, 8), 5)
