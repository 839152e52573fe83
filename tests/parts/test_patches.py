"""Patches in reading order, masks that hide what they say, and crops of a grid that lie where they should."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from course_lib.parts import grid_crops, patchify, random_masking, unpatchify


@pytest.mark.parametrize(("shape", "patch"), [
    ((2, 3, 8, 8), 4), ((3, 3, 8, 12), 2), ((1, 1, 6, 6), 6), ((2, 5, 4, 4), 1)])
def test_patchify_is_torchs_unfold_with_channels_last(shape, patch):
    x = torch.randn(shape)
    unfolded = F.unfold(x, patch, stride=patch).mT  # each patch as (channel, row, column)
    wanted = unfolded.unflatten(2, (shape[1], patch * patch)).transpose(2, 3).flatten(2)
    assert torch.equal(patchify(x, patch), wanted)
    assert torch.equal(unpatchify(patchify(x, patch), patch, *shape[2:]), x)


def test_patches_come_in_reading_order():
    x = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
    assert patchify(x[None, None], 2)[0].tolist() == [[0] * 4, [1] * 4, [2] * 4, [3] * 4]


@pytest.mark.parametrize(("height", "width"), [(8, 9), (9, 8)])
def test_patches_that_do_not_tile(height, width):
    with pytest.raises(ValueError, match=f"patches of 4 pixels do not tile a picture of {height}×{width}: choose"):
        patchify(torch.zeros(1, 3, height, width), 4)


@pytest.mark.parametrize("shape", [(1, 5, 48), (1, 4, 47)])
def test_patches_that_make_no_picture(shape):
    with pytest.raises(ValueError, match=f"8×8 has 4 patches of 4×4 pixels, got {shape[1]} patches of {shape[2]} num"):
        unpatchify(torch.zeros(shape), 4, 8, 8)


@pytest.mark.parametrize(("length", "ratio", "visible"), [(64, 0.75, 16), (64, 0.5, 32), (9, 0.75, 2), (2, 0.5, 1)])
def test_masking_hides_the_same_number_everywhere(length, ratio, visible):
    keep, hidden, restore = random_masking(50, length, ratio)
    assert keep.shape == (50, visible) and hidden.shape == restore.shape == (50, length)
    assert (hidden.sum(1) == length - visible).all()
    assert not hidden.gather(1, keep).any()  # what is kept is not hidden
    assert all(len(set(row.tolist())) == visible for row in keep)


def test_restore_puts_visible_and_hidden_back_in_reading_order():
    keep, hidden, restore = random_masking(20, 16, 0.75)
    places = torch.arange(16).expand(20, -1)
    rest = restore.argsort(1)[:, keep.shape[1]:]
    assert torch.equal(rest.sort(1).values, places[hidden].view(20, -1))
    assert torch.equal(torch.cat([keep, rest], 1).gather(1, restore), places)


def test_every_patch_is_hidden_equally_often_and_each_picture_differently():
    _, hidden, _ = random_masking(4000, 16, 0.75)
    frequency = hidden.float().mean(0)
    assert (frequency - 0.75).abs().max() < 4.5 * (0.75 * 0.25 / 4000) ** 0.5
    assert len(hidden.unique(dim=0)) > 1500  # of 1820 possible masks


@pytest.mark.parametrize(("ratio", "visible"), [(0.0, 16), (1.0, 0), (0.98, 0)])
def test_masks_that_hide_nothing_or_everything(ratio, visible):
    with pytest.raises(ValueError, match=f"of 16 patches leaves {visible} visible: both sides need at least one"):
        random_masking(2, 16, ratio)


def coordinates(n, height, width):
    """Pictures whose channels are the row, the column and the number of the picture."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return torch.stack([torch.stack([rows.expand(height, width), columns.expand(height, width),
                                     torch.full((height, width), i)]) for i in range(n)])


@pytest.mark.parametrize(("height", "width", "size", "jitter", "tiles", "cell", "top", "left"), [
    (24, 24, 4, 2, 3, None, [2, 10, 18], [2, 10, 18]),
    (32, 32, 8, 1, 3, None, [2, 12, 22], [2, 12, 22]),  # cells of 10 from pixel 1 on
    (32, 32, 7, 1, 3, None, [2, 12, 22], [2, 12, 22]),  # an odd pixel to spare lies below and to the right
    (24, 30, 5, 0, 2, 7, [6, 13], [9, 16]),
    (32, 32, 8, 0, 3, 8, [4, 12, 20], [4, 12, 20]),  # cells as large as their crops: these touch
    (9, 9, 9, 0, 1, None, [0], [0])])
def test_crops_of_a_grid_pixel_by_pixel(height, width, size, jitter, tiles, cell, top, left):
    n = 300
    crops = grid_crops(coordinates(n, height, width), size, jitter=jitter, tiles=tiles, cell=cell)
    assert crops.shape == (n, tiles**2, 3, size, size)
    assert (crops[:, :, 2] == torch.arange(n)[:, None, None, None]).all()
    row, column = crops[:, :, 0], crops[:, :, 1]
    first_row, first_column = row[..., 0, 0], column[..., 0, 0]
    steps = torch.arange(size)
    assert torch.equal(row, (first_row[..., None, None] + steps[:, None]).expand_as(row))
    assert torch.equal(column, (first_column[..., None, None] + steps).expand_as(column))
    moved = torch.stack([first_row - torch.tensor(top).repeat_interleave(tiles),
                         first_column - torch.tensor(left).repeat(tiles)])
    for tile in range(tiles**2):  # every displacement occurs in every tile and direction, and none beyond
        for direction in range(2):
            assert moved[direction, :, tile].unique().tolist() == list(range(-jitter, jitter + 1))
    if jitter:  # and each is drawn by itself: all pairs of displacements occur, of directions and of tiles
        pairs = (2 * jitter + 1) ** 2
        assert len(torch.stack([moved[0, :, 0], moved[1, :, 0]], 1).unique(dim=0)) == pairs
        assert len(torch.stack([moved[0, :, 0], moved[0, :, 1]], 1).unique(dim=0)) == pairs


def test_gaps_between_crops():
    crops = grid_crops(coordinates(500, 48, 48), 9, jitter=2).unflatten(1, (3, 3))
    across = crops[:, :, 1:, 1, 0, 0] - crops[:, :, :-1, 1, 0, -1] - 1  # pixels that lie between two neighbours
    down = crops[:, 1:, :, 0, 0, 0] - crops[:, :-1, :, 0, -1, 0] - 1
    for gaps in (across, down):
        assert gaps.min() == 16 - 9 - 4 and gaps.max() == 16 - 9 + 4


def test_crops_carry_gradients_to_the_pixels_they_show():
    x = torch.zeros(1, 3, 12, 12, requires_grad=True)
    grid_crops(x, 2).sum().backward()
    inside = torch.zeros(12).index_fill(0, torch.tensor([1, 2, 5, 6, 9, 10]), 1.0)
    assert torch.equal(x.grad[0, 0], inside[:, None] * inside)


@pytest.mark.parametrize(("size", "options", "message"), [
    (8, {"jitter": 2}, "a crop of 8 pixels that moves by 2 either way does not fit a cell of 10: make the crop"),
    (11, {}, "a crop of 11 pixels that moves by 0 either way does not fit a cell of 10"),
    (0, {}, "a crop of 0 pixels"), (4, {"jitter": -1}, "that moves by -1"),
    (8, {"cell": 12}, "a grid of 3×3 cells of 12 pixels does not fit a picture of 32×40: choose cells of at most 10"),
    (1, {"tiles": 33}, "a grid of 33×33 cells"),
])
def test_crops_that_do_not_fit(size, options, message):
    with pytest.raises(ValueError, match=message):
        grid_crops(torch.zeros(1, 3, 32, 40), size, **options)
