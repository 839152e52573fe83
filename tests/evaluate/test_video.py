"""J and F by hand, beside a loop, and at the conventions for empty masks; tracks that are perfect or stand still."""

from __future__ import annotations

import math

import pytest
import torch

from course_lib.data import toybox
from course_lib.evaluate import contour_accuracy, evaluate_clips, region_similarity
from course_lib.evaluate.video import contour


def square(top, left, side, size=12):
    mask = torch.zeros(size, size, dtype=torch.uint8)
    mask[top:top + side, left:left + side] = 1
    return mask


EMPTY, FULL, THING = square(0, 0, 0), square(0, 0, 12), square(3, 3, 4)


# --- J ----------------------------------------------------------------------------------------------------------------


def test_region_by_hand():
    assert region_similarity(THING, THING) == 1
    assert region_similarity(THING, square(3, 5, 4)).item() == pytest.approx(8 / 24)  # half of each is shared
    assert region_similarity(THING, square(3, 3, 2)).item() == pytest.approx(4 / 16)
    assert region_similarity(THING, square(8, 8, 3)) == 0
    assert region_similarity(THING, FULL).item() == pytest.approx(16 / 144)


@pytest.mark.parametrize(("measure", "of_full_and_empty"), [(region_similarity, 0), (contour_accuracy, 1)])
def test_conventions_for_empty_masks(measure, of_full_and_empty):
    assert measure(EMPTY, EMPTY) == 1
    assert measure(EMPTY, THING) == 0 and measure(THING, EMPTY) == 0
    assert measure(FULL, FULL) == 1
    assert measure(FULL, EMPTY) == of_full_and_empty  # neither has a contour


@pytest.mark.parametrize("measure", [region_similarity, contour_accuracy])
def test_batches_of_any_shape_and_masks_of_any_dtype(measure):
    masks, truth = torch.rand(2, 3, 12, 12), (torch.rand(2, 3, 12, 12) > 0.4).to(torch.uint8)
    values = measure(masks, truth)
    assert values.shape == (2, 3) and values.dtype == torch.float32 and values.min() >= 0 and values.max() <= 1
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(values[i, j], measure(masks[i, j] >= 0.5, truth[i, j].double()))


@pytest.mark.parametrize("measure", [region_similarity, contour_accuracy])
def test_masks_that_do_not_fit(measure):
    with pytest.raises(ValueError, match=r"one shape \[..., H, W\], got \[2, 12, 12\] and \[12, 12\]: give one mask"):
        measure(torch.zeros(2, 12, 12), EMPTY)
    with pytest.raises(ValueError, match=r"got \[4\] and \[4\]"):
        measure(torch.zeros(4), torch.zeros(4))


# --- F ----------------------------------------------------------------------------------------------------------------


def test_contour_by_hand():
    found = contour(square(1, 1, 2, size=4).bool())
    assert found.int().tolist() == [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    edge = contour(square(0, 0, 2, size=4).bool())  # a thing cut off by the picture's edge has no contour there
    assert edge.int().tolist() == [[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert not contour(torch.ones(4, 4, dtype=torch.bool)).any()


def test_contour_accuracy_by_hand():
    assert contour_accuracy(THING, THING, tolerance=0) == 1
    assert contour_accuracy(THING, square(3, 4, 4)) == 1  # a step to the right is within one pixel
    # A straight line two columns off: out of reach of 1 pixel, within reach of 2.
    left, right = (torch.arange(12).expand(12, 12) < edge for edge in (4, 6))
    assert contour_accuracy(left, right, tolerance=1.9) == 0 and contour_accuracy(left, right, tolerance=2) == 1
    # The same square with a far one beside it: all of the true contour is found, and half of the mask's is right.
    two = square(1, 1, 3) | square(7, 7, 3)
    assert contour_accuracy(two, square(1, 1, 3)).item() == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert contour_accuracy(square(1, 1, 3), two).item() == pytest.approx(2 * 0.5 * 1 / 1.5)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 3])
def test_contour_accuracy_beside_a_loop(tolerance):
    masks, truth = torch.rand(4, 9, 7) > 0.8, torch.rand(4, 9, 7) > 0.8

    def pixels(mask):
        return [(i, j) for i in range(9) for j in range(7)
                if any(mask[i, j] != mask[min(i + a, 8), min(j + b, 6)] for a, b in ((0, 1), (1, 0), (1, 1)))]

    def share(part, of):
        near = [any(math.hypot(i - k, j - m) <= tolerance for k, m in of) for i, j in part]
        return sum(near) / len(near)

    for mask, true, value in zip(masks, truth, contour_accuracy(masks, truth, tolerance=tolerance), strict=True):
        precision, recall = share(pixels(mask), pixels(true)), share(pixels(true), pixels(mask))
        assert value.item() == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match="the tolerance must be 0 pixels or more, got -1"):
        contour_accuracy(THING, THING, tolerance=-1)


# --- clips ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips():
    return toybox.clips(5, frames=4)


def test_a_perfect_track_and_one_that_stands_still(clips):
    truth = iter(clips.masks.split(2))
    perfect = evaluate_clips(lambda frames, first: next(truth), clips, batch_size=2)
    assert perfect["J"] == perfect["F"] == 1 and perfect["J_by_frame"] == [1, 1, 1]
    still = evaluate_clips(lambda frames, first: first[:, None].expand(-1, frames.shape[1], -1, -1), clips)
    for result in (perfect, still):
        assert result["copy_J"] == pytest.approx(still["J"]) and result["copy_F"] == pytest.approx(still["F"])
    assert still["J_by_frame"] == still["copy_J_by_frame"] and 0 < still["J"] < 0.9


def test_means_leave_out_the_frame_that_was_given(clips):
    result = evaluate_clips(lambda frames, first: torch.zeros(len(first), 4, 32, 32), clips)
    assert result["J"] == result["F"] == 0
    wanted = [region_similarity(clips.masks[:, 0], clips.masks[:, t]).mean().item() for t in (1, 2, 3)]
    assert result["copy_J_by_frame"] == pytest.approx(wanted) and result["copy_J"] == pytest.approx(sum(wanted) / 3)


def test_a_track_is_given_frames_and_first_masks_alone(clips):
    seen = []

    def track(frames, first):
        seen.append((frames, first))
        return torch.zeros(len(first), 4, 32, 32)

    evaluate_clips(track, clips, batch_size=3)
    assert [len(first) for _, first in seen] == [3, 2]
    assert torch.equal(torch.cat([frames for frames, _ in seen]), clips.x)
    assert torch.equal(torch.cat([first for _, first in seen]), clips.masks[:, 0])


def test_a_track_of_another_shape_is_refused(clips):
    with pytest.raises(ValueError, match=r"got \[5, 1, 32, 32\] and \[5, 4, 32, 32\]"):
        evaluate_clips(lambda frames, first: first[:, None], clips)
