"""`Images`, `Dataset` and `Batch`: what fits together, and what each method may see."""

from __future__ import annotations

import pytest
import torch

from course_lib.data.types import Dataset, Images


@pytest.fixture
def images() -> Images:
    x = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8)
    return Images(x, torch.arange(6) % 3, ("a", "b", "c"), captions=tuple("uvwxyz"))


def test_a_batch_holds_what_is_known_of_its_pictures(images):
    batch = images.batch(torch.tensor([4, 0]))
    assert torch.equal(batch.x, images.x[[4, 0]]) and batch.index.tolist() == [4, 0]
    assert batch.y.tolist() == [1, 0] and batch.captions == ("y", "u") and len(batch) == 2
    bare = images.only(()).batch(torch.tensor([4]))
    assert bare.y is None and bare.captions is None


@pytest.mark.parametrize(("needs", "labels", "captions"), [((), False, False), ({"labels"}, True, False),
                                                           ({"captions"}, False, True)])
def test_only_what_is_needed_can_be_read(images, needs, labels, captions):
    seen = images.only(needs)
    assert (seen.y is not None, seen.captions is not None) == (labels, captions)
    assert seen.factors is None and seen.masks is None and seen.classes == images.classes


@pytest.mark.parametrize(("needs", "message"), [
    ({"labels"}, r"labels are needed, and these pictures have none: take data\.train, not data\.pretrain"),
    ({"captions"}, "captions are needed, and these pictures have none: take Toybox"),
    ({"clips"}, "clips are needed, and these are single pictures"),
    ({"label"}, "needs must be a set with some of labels, captions, clips")])
def test_what_is_missing_is_named(images, needs, message):
    with pytest.raises(ValueError, match=message):
        Images(images.x).only(needs)


def test_a_mask_of_another_length_is_refused(images):
    assert images[torch.arange(6) > 3].y.tolist() == [1, 2]
    with pytest.raises(IndexError, match=r"a mask must say yes or no for each of the 6 pictures, got \[2\]"):
        images[torch.tensor([True, False])]


def test_a_data_set_has_labels_everywhere_or_nowhere(images):
    bare = Images(images.x)
    whole = Dataset("whole", images.without_labels(), images, images, images)
    assert whole.classes == ("a", "b", "c") and whole.pretrain.captions == images.captions
    flat = Dataset("flat", bare, bare, bare, bare)
    assert flat.classes == () and "no classes" in repr(flat)
    assert len(flat.seen_by()) == 6 and len(flat.held_out()) == 6
    with pytest.raises(ValueError, match="val must have labels where other parts have some, got none"):
        Dataset("odd", bare, images, bare, images)
    with pytest.raises(ValueError, match="pretrain must have no labels"):
        Dataset("odd", images, images, images, images)
    with pytest.raises(ValueError, match="clips are needed, and flat has none: use toybox"):
        flat.seen_by({"clips"})
