"""Permutations are as unlike as is said, tiles are shuffled as is asked, and none gives its place away."""

from __future__ import annotations

import math

import pytest
import torch
from reference import jigsaw_reference as reference
from reference import losses
from reference.compare import assert_full_precision, assert_same
from reference.training import accuracy_after
from torch import nn

import course_lib as cl
from course_lib.methods import Batch
from course_lib.methods.pretext.jigsaw import Jigsaw, normalize_tiles, permutation_loss, permutation_set
from course_lib.nets import Enlarged
from course_lib.recipes import tiny_convnet


@pytest.mark.parametrize(("n", "distance", "said"), [(2, 9, "9 for up to 9"), (9, 9, "9 for up to 9"),
                                                     (16, 8, "8 for 16"), (64, 7, "7 for 64"), (256, 6, "6 for 256")])
def test_the_smallest_hamming_distance_is_what_the_docstring_says(n, distance, said):
    permutations = permutation_set(n)
    assert permutations.shape == (n, 9) and permutations.dtype == torch.int64
    assert (permutations.sort(1).values == torch.arange(9)).all()
    assert reference.smallest_distance(permutations.tolist()) == distance
    assert said in permutation_set.__doc__


@pytest.mark.parametrize(("n", "tiles"), [(6, 3), (12, 4), (20, 5), (2, 2)])
def test_permutations_are_those_of_a_slow_greedy_search(n, tiles):
    assert permutation_set(n, tiles).tolist() == [list(p) for p in reference.permutation_set(n, tiles)]


def test_a_smaller_set_is_the_beginning_of_a_larger_one():
    assert torch.equal(permutation_set(16), permutation_set(64)[:16])


@pytest.mark.parametrize(("n", "tiles", "message"), [
    (7, 3, "3 tiles have 6 permutations, of which 2 or more make a puzzle, got 7: choose"), (1, 9, "got 1: choose"),
    (4, 10, "for 2 to 9 tiles, got 10"), (1, 1, "for 2 to 9 tiles, got 1")])
def test_sets_that_cannot_be(n, tiles, message):
    with pytest.raises(ValueError, match=message):
        permutation_set(n, tiles)


def test_tiles_are_normalized_as_by_a_loop():
    tiles = torch.rand(2, 9, 3, 3, 3, dtype=torch.float64)
    tiles[0, 0] = 0.3  # flat
    tiles[1, :, 1] **= 8  # skewed, so that some of it is clamped
    wanted = reference.normalize_tiles(tiles)
    assert (wanted == 1).any() and (wanted == 0).any()
    torch.testing.assert_close(normalize_tiles(tiles), wanted)


def test_no_tile_has_a_brightness_or_a_contrast_of_its_own():
    light, contrast = torch.rand(4, 9, 3, 1, 1), torch.rand(4, 9, 3, 1, 1)
    tiles = 0.3 + 0.4 * light + (0.05 + 0.1 * contrast) * (torch.rand(4, 9, 3, 8, 8) - 0.5)
    out = normalize_tiles(tiles)
    assert out.min() > 0 and out.max() < 1  # nothing was clamped
    mean = out.mean((3, 4))
    torch.testing.assert_close(mean, mean.mean(1, keepdim=True).expand_as(mean))
    torch.testing.assert_close(mean[:, 0], tiles.mean((1, 3, 4)))  # the picture keeps its own

    def spread(x):  # of the tiles' deviations within a picture, as a share of their mean
        std = x.std((3, 4))
        return (std.std(1) / std.mean(1)).max()

    assert spread(out) < 0.12 < spread(tiles)


def test_a_flat_tile_stays_flat():
    tiles = 0.5 + 1e-4 * torch.randn(2, 9, 3, 6, 6)
    tiles[:, 0] = torch.rand(2, 3, 6, 6)
    assert normalize_tiles(tiles)[:, 1:].std((3, 4)).max() < 0.01


class Means(nn.Module):
    """The mean of each channel, as a feature."""

    dim = 3

    def forward(self, x):
        return x.mean((2, 3))


class Reader(nn.Module):
    """Keeps what the head is given, and answers with the scores of `scores`."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, h):
        self.seen = h
        return self.scores(h)


def test_tiles_are_cut_with_gap_and_jitter_pixel_by_pixel():
    at = torch.arange(72) / 71
    x = torch.stack([at[:, None].expand(72, 72), at.expand(72, 72), torch.zeros(72, 72)]).repeat(300, 1, 1, 1)
    tiles = Jigsaw(Means(), tile=14, jitter=2, normalize=False, permutations=2, views=nn.Identity()).tiles(x)
    row, column = (71 * tiles[:, :, :2]).round().long().unbind(2)
    assert (row[..., 0, 0] - torch.tensor([5, 29, 53]).repeat_interleave(3)).unique().tolist() == [-2, -1, 0, 1, 2]
    assert (column[..., 0, 0] - torch.tensor([5, 29, 53]).repeat(3)).unique().tolist() == [-2, -1, 0, 1, 2]
    assert (row[..., 1:, 0] - row[..., :-1, 0] == 1).all() and (column[..., 0, 1:] - column[..., 0, :-1] == 1).all()


def test_the_head_reads_tiles_in_the_order_of_the_permutation_that_is_the_answer():
    method = Jigsaw(Means(), tile=8, jitter=0, normalize=False, permutations=12, puzzles=5, views=nn.Identity())
    method.shorten = nn.Identity()
    x = torch.rand(3, 3, 24, 24)
    means = x.unflatten(2, (3, 8)).unflatten(4, (3, 8)).mean((3, 5)).flatten(2).mT  # tiles touch here: [3, 9, 3]

    def compare(h):  # scores the permutations by how well they explain what was read
        shuffled = means.repeat(5, 1, 1)[:, method.permutations]
        return -1e4 * (shuffled - h.view(15, 1, 9, 3)).abs().sum((2, 3))

    method.head = Reader(compare)
    out = method.loss(Batch(x, torch.arange(3)))
    assert method.head.seen.shape == (15, 27) and out["accuracy"] == 1 and out["loss"] < 1e-6
    assert len(method.head.seen.unique(dim=0)) > 5  # the puzzles of a picture differ
    method.head = Reader(lambda h: h.new_zeros(len(h), 12))
    assert method.loss(Batch(x, torch.arange(3)))["loss"].item() == pytest.approx(math.log(12))


def test_shuffling_vectors_is_shuffling_tiles():
    torch.manual_seed(0)
    encoder, tiles = tiny_convnet(), torch.rand(2, 9, 3, 16, 16)
    order = permutation_set(16)[5]
    first = encoder(tiles.flatten(0, 1)).unflatten(0, (2, 9))[:, order]
    second = encoder(tiles[:, order].flatten(0, 1)).unflatten(0, (2, 9))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_a_method_leaves_the_shared_set_as_it_is():
    before = permutation_set(4).clone()
    Jigsaw(Means(), permutations=4).permutations.zero_()
    assert torch.equal(permutation_set(4), before)


def test_loss_beside_a_loop():
    logits, answer = torch.randn(6, 16, dtype=torch.float64), torch.randint(16, (6,))
    assert_same(permutation_loss, losses.classification, logits, answer)


def test_limits_by_hand():
    answer = torch.arange(16)
    assert permutation_loss(torch.zeros(16, 16), answer).item() == pytest.approx(math.log(16))
    assert permutation_loss(100 * torch.eye(16), answer).item() == pytest.approx(0)


def test_full_precision_inside_autocast():
    assert_full_precision(permutation_loss, 5 * torch.randn(8, 16), torch.arange(8))


def test_tiles_that_do_not_fit_the_view():
    method = Jigsaw(Means(), permutations=2, jitter=2, views=nn.Identity())
    with pytest.raises(ValueError, match="a crop of 8 pixels that moves by 2 either way does not fit a cell of 10"):
        method.loss(Batch(torch.zeros(2, 3, 32, 32), torch.arange(2)))


def test_it_learns_to_solve_puzzles():
    data = cl.load("toybox", limit=700)

    def held_out_accuracy(encoder):
        return accuracy_after(Jigsaw(encoder, permutations=8), data, epochs=4)

    torch.manual_seed(0)
    untrained = held_out_accuracy(Enlarged(tiny_convnet()).requires_grad_(False))  # only a head learns
    trained = held_out_accuracy(Enlarged(tiny_convnet()))
    assert trained > 0.5, f"{trained:.1%} of puzzles right, where a guess has 12.5 %"
    assert trained > untrained + 0.05, f"{trained:.1%} of puzzles right, and {untrained:.1%} with an untrained encoder"
