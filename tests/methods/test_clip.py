"""CLIP: its loss beside a loop, what its text encoder reads, and CMC, which has the same loss between two halves."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from reference import losses
from reference.compare import assert_full_precision, assert_same

from course_lib.data.types import Images
from course_lib.methods import CLIP, CMC, Batch
from course_lib.methods.contrastive.clip import TextEncoder, clip_loss
from course_lib.methods.pretext.split_brain import SplitEncoder
from course_lib.nets import convnet

WORDS = ("a", "boat", "red", "house", "at", "night")
CAPTIONS = ("a red boat", "a house at night", "a boat", "a red house at night")


def method(**options):
    torch.manual_seed(0)
    return CLIP(convnet((8, 8), 16), words=WORDS, dim=16, **options)


def slow(image_z, text_z, logit_scale):
    return (losses.batch_info_nce(image_z, text_z, 1 / logit_scale)
            + losses.batch_info_nce(text_z, image_z, 1 / logit_scale)) / 2


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("scale", [1.0, 14.3])
def test_beside_a_loop_also_in_the_gradient_of_the_scale(scale):
    assert_same(clip_loss, slow, draw(5, 4), draw(5, 4), torch.tensor(scale, dtype=torch.float64))


def test_limits_by_hand():
    same, scale = torch.ones(4, 3, dtype=torch.float64), torch.tensor(10.0, dtype=torch.float64)
    assert clip_loss(same, same, scale).item() == pytest.approx(math.log(4))
    apart = torch.eye(4, dtype=torch.float64)
    assert clip_loss(2 * apart, apart, scale).item() == pytest.approx(math.log(1 + 3 * math.exp(-10)))
    assert clip_loss(apart, apart.roll(1, 0), scale).item() > 10  # sure, and wrong
    image_z, text_z = draw(2, 5, 4)
    torch.testing.assert_close(clip_loss(image_z, text_z, scale), clip_loss(text_z, image_z, scale))
    assert_full_precision(clip_loss, torch.randn(5, 8), torch.randn(5, 8), torch.tensor(20.0))


def test_the_scale_is_learned_and_held_below_100():
    clip = method(scale=100.0)
    out = clip(Batch(torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8), captions=CAPTIONS))
    assert out["scale"].item() == pytest.approx(100, rel=1e-5)
    out["loss"].backward()
    assert clip.log_scale.grad != 0
    with torch.no_grad():
        clip.log_scale.add_(1.0)
    clip.after_step(0.5)
    assert clip.log_scale.exp().item() == pytest.approx(100, rel=1e-5)


def test_a_caption_is_read_as_it_stands_and_what_is_behind_it_does_not_matter():
    clip = method().eval()
    alone = clip.embed_texts(["a red boat"])
    beside = clip.embed_texts(["a red boat", "a red house at night"])  # which makes the first one padded
    torch.testing.assert_close(beside[:1], alone)
    torch.testing.assert_close(clip.embed_texts(["A red BOAT."]), alone)
    assert not torch.allclose(clip.embed_texts(["boat red a"]), alone, atol=1e-4), "it sees the order of words"
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(1))


def test_what_it_cannot_read_is_one_sentence():
    clip = method()
    with pytest.raises(ValueError, match=r"these words were not learned: green\. Known are a, boat"):
        clip.embed_texts(["a green boat"])
    with pytest.raises(ValueError, match="reads captions of up to 24 words, got one of 30: build it with a larger"):
        clip.embed_texts(["a " * 30])
    assert TextEncoder(WORDS, 16, length=30)(["a " * 30]).shape == (1, 16)


def test_words_come_from_the_captions():
    images = Images(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), captions=CAPTIONS)
    built = CLIP.build(convnet((8,), 16), images)
    assert built.built_with["words"] == ["a", "at", "boat", "house", "night", "red"]


def test_cmc_is_the_same_question_between_lightness_and_colours():
    encoder = SplitEncoder(convnet((8,), 16), convnet((8,), 16))
    cmc = CMC(encoder, dim=8, temperature=0.2, views=torch.nn.Identity()).eval()
    x = torch.rand(5, 3, 16, 16)
    lightness, colors = cmc.lightness_head(encoder.lightness(x)), cmc.color_head(encoder.colors(x))
    wanted = clip_loss(lightness, colors, torch.tensor(5.0))
    torch.testing.assert_close(cmc(Batch(x))["loss"], wanted)
    gray = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(encoder.lightness(gray).norm(), encoder.lightness(gray).norm())
    assert F.cosine_similarity(encoder.colors(gray)[:1], encoder.colors(gray)[1:2]) > 0.999, "no colours to tell apart"
    with pytest.raises(TypeError, match=r"CMC needs SplitEncoder\(lightness_half, color_half\), got ConvNet"):
        CMC(convnet((8,), 16))
