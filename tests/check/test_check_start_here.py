"""The checkers of notebook 00: right answers pass, each slip is called by its name, and no answer crashes them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from course_lib.check import start_here as check
from course_lib.data import Images
from course_lib.evaluate import features, knn, knn_scores

# --- exercise 1 -------------------------------------------------------------------------------------------------------

CHANGE = {"raw pixels": 0.0, "untrained convnet": -12.3}


def test_right_words_pass_and_show_what_was_measured():
    verdict = check.shuffled_pixels({"raw pixels": "same", "untrained convnet": "down"}, CHANGE)
    assert verdict.passed and "-12.3 points" in verdict.text


@pytest.mark.parametrize("answer, says", [
    ({"raw pixels": "down", "untrained convnet": "down"}, "raw pixels you said down"),
    ({"raw pixels": "same", "untrained convnet": "up"}, "untrained convnet you said up"),
    ({"raw pixels": "same", "untrained convnet": "worse"}, "one of up, down, same"),
])
def test_a_wrong_word_is_named(answer, says):
    verdict = check.shuffled_pixels(answer, CHANGE)
    assert verdict.state == "wrong" and says in verdict.text


def test_a_missing_word_waits():
    assert check.shuffled_pixels({"raw pixels": "same", "untrained convnet": ...}, CHANGE).state == "waiting"


# --- exercise 2 -------------------------------------------------------------------------------------------------------

def by_the_library(bank, labels, queries, k, classes):
    return knn_scores(bank, labels, queries, classes=classes, k=k).argmax(1)


def vote(bank, labels, queries, k, classes, *, least=False, flat=False, everyone=False, dot=False, rows=False):
    s = queries @ bank.T if dot else F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    best, index = s.topk(len(bank) if everyone else k, dim=1, largest=not least)
    if rows:
        return index[:, 0]
    weight = torch.ones_like(best) if flat else ((best - best.max(1, keepdim=True).values) / 0.07).exp()
    return (weight[:, :, None] * F.one_hot(labels[index], classes)).sum(1).argmax(1)


def test_a_right_vote_passes():
    assert check.knn_vote(by_the_library).passed
    assert check.knn_vote(vote).passed


@pytest.mark.parametrize("slip, says", [
    ("least", "least similar"), ("flat", "count alike"), ("everyone", "whole bank"), ("dot", "dot product"),
    ("rows", "numbers of pictures"),
])
def test_each_slip_in_voting_is_called_by_its_name(slip, says):
    verdict = check.knn_vote(lambda *case: vote(*case, **{slip: True}))
    assert verdict.state == "wrong" and says in verdict.text


def test_an_unfinished_vote_waits():
    def unfinished(bank, labels, queries, k, classes):
        best, index = ...
        return best[index]

    assert check.knn_vote(unfinished).state == "waiting"


# --- exercise 3 -------------------------------------------------------------------------------------------------------

def by_hand(encoder, data, ks, *, train_mode=False, leak=False, choose="val", read="test"):
    encoder.train(train_mode)
    bank = Images.join(data.train, data.test) if leak else data.train
    with torch.no_grad():
        z = {part: encoder(getattr(data, part).x) for part in ("val", "test")}
        bank_z = encoder(bank.x)

    def accuracy(part, k):
        return knn(bank_z, bank.y, z[part], getattr(data, part).y, k=k)["top1"]

    k = max(ks, key=lambda k: accuracy(choose, k))
    return k, accuracy(read, k)


def with_features(encoder, data, ks):
    bank, val, test = (features(encoder, part) for part in (data.train, data.val, data.test))
    accuracy = {k: knn(bank, data.train.y, val, data.val.y, k=k)["top1"] for k in ks}
    k = max(accuracy, key=accuracy.get)
    return k, knn(bank, data.train.y, test, data.test.y, k=k)["top1"]


def test_an_honest_measure_passes():
    assert check.honest_knn(with_features).passed
    assert check.honest_knn(by_hand).passed


@pytest.mark.parametrize("slips, says", [
    ({"train_mode": True}, "train mode"),
    ({"train_mode": True, "leak": True, "choose": "test"}, "train mode"),
    ({"leak": True}, "in the bank"),
    ({"leak": True, "choose": "test"}, "in the bank"),
    ({"choose": "test"}, "test chose k"),
    ({"read": "val"}, "accuracy on val"),
])
def test_each_leak_is_called_by_its_name(slips, says):
    verdict = check.honest_knn(lambda encoder, data, ks: by_hand(encoder, data, ks, **slips))
    assert verdict.state == "wrong" and says in verdict.text


def test_a_measure_of_something_else_is_wrong():
    assert "never asked" in check.honest_knn(lambda encoder, data, ks: (1, 50.0)).text
    assert "pair" in check.honest_knn(lambda encoder, data, ks: 50.0).text


def test_the_trap_tells_every_leak_from_honesty():
    data, encoder = check.exam(), check.Watched().eval()
    honest = check.measure_honestly(encoder, data)
    others = [check._best(encoder, data, part) for part in ("val", "test")]
    others += [(k, check._accuracy(encoder, data, k, "test", ("train", "test"))) for k in check.KS]
    assert honest not in others


# --- exercise 4 -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("guess, state, says", [
    (4.0, "passed", "square root"), (2.0, "wrong", "quarter"), (8.0, "wrong", "no change"), (6.2, "wrong", "too high"),
])
def test_a_guess_of_the_optimism(guess, state, says):
    verdict = check.four_times_the_exam(guess, small=8.0, large=4.1)
    assert verdict.state == state and says in verdict.text
