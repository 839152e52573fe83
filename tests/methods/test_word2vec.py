"""Skip-gram: its loss beside a loop, its pairs by hand, and vectors that learn what words stand together."""

from __future__ import annotations

import collections
import math

import pytest
import torch
import torch.nn.functional as F
from reference import losses
from reference.compare import assert_full_precision, assert_same

import course_lib as cl
from course_lib.data.types import Images
from course_lib.methods import SkipGram
from course_lib.methods.contrastive.word2vec import WordVectors, skip_gram_loss


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def pairs_of(method, sentence):
    words = method.encoder.words
    center, context = method.pairs([sentence])
    return collections.Counter((words[a], words[b]) for a, b in zip(center.tolist(), context.tolist(), strict=True))


def test_beside_a_loop():
    assert_same(skip_gram_loss, losses.skip_gram, draw(4, 5), draw(4, 5), draw(4, 3, 5))


def test_limits_by_hand():
    zero = torch.zeros(4, 5, dtype=torch.float64)
    assert skip_gram_loss(zero, zero, zero[:, None].expand(4, 3, 5)).item() == pytest.approx(4 * math.log(2))
    u = torch.full((1, 4), 10.0, dtype=torch.float64)
    assert skip_gram_loss(u, u, -u[:, None]).item() < 1e-9
    assert_full_precision(skip_gram_loss, torch.randn(4, 8), torch.randn(4, 8), torch.randn(4, 3, 8))
    with pytest.raises(ValueError, match=r"need \[N, D\] for words .*, got \[4, 5\], \[4, 5\] and \[4, 5\]"):
        skip_gram_loss(zero, zero, zero)


def test_at_its_minimum_a_product_is_the_mutual_information_less_log_k():
    """Levy and Goldberg's result on a world of three words, with the expected loss in place of draws."""
    joint = torch.tensor([[0.20, 0.10, 0.05], [0.10, 0.15, 0.10], [0.05, 0.10, 0.15]], dtype=torch.float64)
    own, k = joint.sum(1), 4
    products = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([products], max_iter=200, tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = -(joint * F.logsigmoid(products) + k * torch.outer(own, own) * F.logsigmoid(-products)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    wanted = (joint / torch.outer(own, own)).log() - math.log(k)
    torch.testing.assert_close(products.detach(), wanted, atol=1e-4, rtol=0)


def test_pairs_are_those_within_the_window_of_one_caption():
    method = SkipGram.from_sentences(["red boat at night", "red"], window=1)
    assert pairs_of(method, "red boat at night") == collections.Counter([
        ("red", "boat"), ("boat", "red"), ("boat", "at"), ("at", "boat"), ("at", "night"), ("night", "at")])
    method.window = 3
    assert sum(pairs_of(method, "red boat at night").values()) == 12
    assert not pairs_of(method, "red") and method.loss(cl.Batch(torch.zeros(1), captions=("red",))).item() == 0


def test_words_that_are_left_out_leave_no_gap():
    method = SkipGram.from_sentences(["red boat at night"], window=1)
    method.kept[list(method.encoder.words).index("boat")] = 0.0
    assert pairs_of(method, "red boat at night") == collections.Counter([
        ("red", "at"), ("at", "red"), ("at", "night"), ("night", "at")])


def test_frequent_words_are_left_out_more_often_and_drawn_less_than_in_proportion():
    method = SkipGram.from_sentences(["a a a a a a a boat", "a boat"], subsample=0.05)
    a, boat = (list(method.encoder.words).index(word) for word in ("a", "boat"))
    assert method.kept[a].item() == pytest.approx(math.sqrt(0.05 / 0.8)) and method.kept[boat] == math.sqrt(0.05 / 0.2)
    shares = torch.tensor([8.0, 2.0]) ** 0.75
    torch.testing.assert_close(method.noise[[a, boat]], shares / shares.sum())
    assert SkipGram.from_sentences(["a boat"]).kept.tolist() == [1, 1]


def test_words_that_stand_alike_get_vectors_that_are_alike():
    draw = torch.Generator().manual_seed(0)
    things, places = {"boat": "water", "ship": "water", "car": "street", "bus": "street"}, []
    for i in torch.randint(4, (400,), generator=draw).tolist():
        thing = list(things)[i]
        places.append(f"{thing} {things[thing]}")
    images = Images(torch.zeros(400, 3, 1, 1, dtype=torch.uint8), captions=tuple(places))
    torch.manual_seed(0)
    method = SkipGram.from_sentences(places, dim=8, negatives=3)
    cl.fit(method, images, epochs=30, batch_size=50, lr=0.05, precision="float32", device="cpu", weight_decay=0.0)
    v = F.normalize(method.encoder.of("boat", "ship", "car", "bus"), dim=1)
    cosines = (v @ v.T).tolist()
    assert cosines[0][1] > 0.8 and cosines[2][3] > 0.8 and cosines[0][2] < 0.5, cosines


def test_words_and_counts_that_do_not_fit():
    with pytest.raises(ValueError, match="these words were not learned: ship"):
        SkipGram.from_sentences(["a boat"]).encoder.of("ship")
    with pytest.raises(ValueError, match="how often each of those words occurs, got Linear and 2 counts"):
        linear = torch.nn.Linear(2, 2)
        linear.dim = 2
        SkipGram(linear, counts=[1, 2])
    images = Images(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), captions=("a red boat", "a boat"))
    assert SkipGram.build(WordVectors(("boat", "a", "red")), images).built_with["counts"] == [2, 2, 1]
