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

def by_the_library(bank, labels, queries, k, classes, temperature=0.07):
    return knn_scores(bank, labels, queries, classes=classes, k=k, temperature=temperature).argmax(1)


def vote(bank, labels, queries, k, classes, temperature=0.07, *, least=False, flat=False, everyone=False, dot=False,
         rows=False, raw=False, times=False, nearest=False, fixed=False, place=False, loop=False,
         lost=False, every=False, short=False, long=False):
    s = (queries if dot or raw or long else F.normalize(queries, dim=1)) @ (
        bank if dot or raw or short else F.normalize(bank, dim=1)).T
    best, index = s.topk(len(bank) if everyone else 1 if nearest else k, dim=1, largest=not least)
    if rows:
        return index[:, 0]
    best = best if raw else best - best.max(1, keepdim=True).values
    best = best * temperature if times else best / (0.07 if fixed else temperature)
    weight = torch.ones_like(best) if flat else best.exp()
    if place:
        return weight.argmax(1)
    if lost:
        votes = torch.zeros(len(s), classes)
        votes[torch.arange(len(s))[:, None], labels[index]] += weight
        return votes.argmax(1)
    if every:
        return (weight[:, :, None] * F.one_hot(labels[index], classes)).sum(1)
    if loop:
        return torch.zeros(len(s), classes).scatter_add(1, labels[index], weight).argmax(1)
    return (weight[:, :, None] * F.one_hot(labels[index], classes)).sum(1).argmax(1)


def test_a_right_vote_passes():
    assert check.knn_vote(by_the_library).passed
    assert check.knn_vote(vote).passed


@pytest.mark.parametrize("slips, says", [
    ("least", "least similar"), ("flat", "count alike"), ("everyone", "whole bank"), ("dot", "dot product"),
    ("rows", "numbers of pictures"), ("raw", "votes become NaN"), ("raw loop", "votes become inf"),
    ("times", "multiply by the temperature"), ("nearest", "nearest picture decides alone"),
    ("lost", "only the last one counts"), ("every", "argmax(1)"), ("short", "bank keeps its lengths"),
    ("long", "queries keep their lengths"),
    ("fixed", "temperature is always 0.07"), ("place", "places among the k"),
    ("rows least", "2 mistakes at once; one of them: you return the numbers"),
    ("times dot", "2 mistakes at once; one of them: you multiply by the temperature"),
])
def test_each_slip_in_voting_is_called_by_its_name(slips, says):
    verdict = check.knn_vote(lambda *case: vote(*case, **dict.fromkeys(slips.split(), True)))
    assert verdict.state == "wrong" and says in verdict.text, verdict


def test_a_softmax_along_the_queries_and_distances_are_called_by_their_names():
    def down(bank, labels, queries, k, classes, temperature=0.07):
        best, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)
        weight = (best / temperature).softmax(0)
        return (weight[:, :, None] * F.one_hot(labels[index], classes)).sum(1).argmax(1)

    def far(bank, labels, queries, k, classes, temperature=0.07):
        best, index = torch.cdist(queries, bank).topk(k, dim=1, largest=False)
        weight = (-best / temperature).softmax(1)
        return (weight[:, :, None] * F.one_hot(labels[index], classes)).sum(1).argmax(1)

    assert "dim=1 shares them" in check.knn_vote(down).text
    assert "compare by distance" in check.knn_vote(far).text


def test_an_answer_that_normalises_in_place_is_no_worse():
    def in_place(bank, labels, queries, *rest):
        bank /= bank.norm(dim=1, keepdim=True)
        queries /= queries.norm(dim=1, keepdim=True)
        return vote(bank, labels, queries, *rest)

    assert check.knn_vote(in_place).passed


def test_an_unfinished_vote_waits():
    def unfinished(bank, labels, queries, k, classes, temperature=0.07):
        best, index = ...
        return best[index]

    assert check.knn_vote(unfinished).state == "waiting"


# --- exercise 3 -------------------------------------------------------------------------------------------------------

def by_hand(encoder, data, given, *, train_mode=False, leak=False, choose="val", read="test", ks=None, fixed=None):
    ks = ks or given
    encoder.train(train_mode)
    bank = Images.join(data.train, data.test) if leak else data.train
    with torch.no_grad():
        z = {part: encoder(getattr(data, part).x) for part in ("val", "test")}
        bank_z = encoder(bank.x)

    def accuracy(part, k):
        return knn(bank_z, bank.y, z[part], getattr(data, part).y, k=k)["top1"]

    k = fixed or max(ks, key=lambda k: accuracy(choose, k))
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
    ({"fixed": 5}, "k is always 5"),
    ({"ks": (1, 5, 15)}, "ks is not used"),
    ({"ks": (20,)}, "k is always 20"),
])
def test_each_leak_is_called_by_its_name(slips, says):
    verdict = check.honest_knn(lambda encoder, data, ks: by_hand(encoder, data, ks, **slips))
    assert verdict.state == "wrong" and says in verdict.text


def test_a_look_at_test_with_every_k_and_a_bank_that_grows_are_called_by_their_names():
    def best(encoder, data, ks):
        z = {part: features(encoder, getattr(data, part)) for part in ("train", "val", "test")}
        accuracy = {part: {k: knn(z["train"], data.train.y, z[part], getattr(data, part).y, k=k)["top1"] for k in ks}
                    for part in ("val", "test")}
        return max(accuracy["val"], key=accuracy["val"].get), max(accuracy["test"].values())

    def grown(encoder, data, ks):
        k, _ = with_features(encoder, data, ks)
        both = Images.join(data.train, data.val)
        return k, knn(features(encoder, both), both.y, features(encoder, data.test), data.test.y, k=k)["top1"]

    assert "best accuracy on test of all ks" in check.honest_knn(best).text
    assert "val joins the bank" in check.honest_knn(grown).text


def test_a_measure_of_something_else_is_wrong():
    assert "never asked" in check.honest_knn(lambda encoder, data, ks: (1, 50.0)).text
    assert "end with `return k, accuracy`" in check.honest_knn(lambda e, data, ks: with_features(e, data, ks)[1]).text
    assert "in percent" in check.honest_knn(lambda *case: (with_features(*case)[0], with_features(*case)[1] / 100)).text


def test_the_exams_tell_every_slip_from_honesty_and_from_each_other():
    cases = [(encoder.eval(), data, ks) for encoder, data, ks in check.honest_knn.cases()]
    found = {sentence: [slip(*case) for case in cases] for sentence, slip in check.honest_knn.wrong().items()}
    found["right"] = [check._measure(*case) for case in cases]
    assert len(set(map(str, found.values()))) == len(found)


# --- exercise 4 -------------------------------------------------------------------------------------------------------

SMALL, LARGE = {"equally good": 7.6, "ours": 6.7}, {"equally good": 3.7, "ours": 2.5}


@pytest.mark.parametrize("equal, ours, state, says", [
    (3.8, 2.6, "passed", "square root"), (3.8, 2.2, "passed", "less than half"),
    (1.9, 2.5, "wrong", "equally good: you said 1.9 points, measured is 3.7 points: that is a quarter"),
    (7.6, 2.5, "wrong", "equally good: you said 7.6 points, measured is 3.7 points: that is no change"),
    (5.2, 2.5, "wrong", "too high"),
    (3.8, 3.35, "wrong", "ours: you said 3.35 points, measured is 2.5 points: that is half, as if"),
    (3.8, 1.7, "wrong", "that is a quarter, as if"), (3.8, 6.7, "wrong", "that is no change"),
    (3.8, "2.5 or so", "wrong", "must be a number"), (3.8, ..., "waiting", "write a number for ours"),
    (..., 2.5, "waiting", "write a number for equally good"),
])
def test_a_guess_of_the_optimism(equal, ours, state, says):
    verdict = check.four_times_the_exam({"equally good": equal, "ours": ours}, SMALL, LARGE)
    assert verdict.state == state and says in verdict.text, verdict


def test_one_number_is_not_enough():
    assert "a dict from kind of tries" in check.four_times_the_exam(3.3, SMALL, LARGE).text


def optimism(right, size, exams=300):
    """What the best on an exam claims, less what it is worth on all other pictures, in points."""
    points = 0.0
    for _ in range(exams):
        pictures = torch.randperm(right.shape[1])
        best = right[right[:, pictures[:size]].sum(1).argmax()].double()
        points += 100 * (best[pictures[:size]].mean() - best[pictures[size:]].mean()).item() / exams
    return points


@pytest.mark.parametrize("apart, half_is_right", [(0.0, True), (0.025, False)])
def test_the_law_and_the_checker_agree_with_simulated_tries(apart, half_is_right):
    """Tries that are right about a fifth of the pictures, and differ in truth by so much. In points, chance is 2.8 on
    200 pictures and 1.4 on 800."""
    torch.manual_seed(0)
    right = torch.rand(300, 4000) < 0.2 + apart * torch.randn(300, 1)
    small, large = ({kind: optimism(right, size) for kind in SMALL} for size in (200, 800))
    chance, truth = 2.8, 100 * apart
    law = small["ours"] / 4 * ((chance**2 + truth**2) / (chance**2 / 4 + truth**2)) ** 0.5
    guess = {"equally good": large["equally good"], "ours": law}
    assert check.four_times_the_exam(guess, small, large).passed, (small, large, law)
    half = check.four_times_the_exam(guess | {"ours": small["ours"] / 2}, small, large)
    assert half.passed == half_is_right, (small, large)
