"""paired(): the difference of two encoders on the same pictures, and how sure it is; claim(): one line about it."""

import math

import numpy as np
import pytest
import torch
from reference.paired_answers import SETTINGS, coverage
from scipy import stats

from course_lib.evaluate import Difference, claim, difference_in_differences, paired
from course_lib.evaluate.paired import student_t


def answers(both, a_alone, b_alone, neither):
    """Who was right, of a and of b, on so many pictures of each kind."""
    a = [True] * (both + a_alone) + [False] * (b_alone + neither)
    b = [True] * both + [False] * a_alone + [True] * b_alone + [False] * neither
    return torch.tensor(a), torch.tensor(b)


def test_one_seed_each_is_bonett_and_prices_interval():
    got = paired(*answers(20, 12, 4, 14))
    p12, p21 = 13 / 52, 5 / 52  # one is added to each kind on which they differ
    half = stats.norm.ppf(0.975) * math.sqrt((p12 + p21 - (p12 - p21) ** 2) / 52)
    assert got.points == pytest.approx(16) and (got.pictures, got.seeds) == (50, (1, 1))
    assert (got.low, got.high) == (pytest.approx(100 * (p12 - p21 - half)), pytest.approx(100 * (p12 - p21 + half)))


def test_by_hand_on_two_pictures():
    got = paired(torch.tensor([True, True]), torch.tensor([False, True]))
    # With the two added pictures the differences are 1, 0, 1, -1: mean 1/4, variance 11/16, over 4.
    half = stats.norm.ppf(0.975) * math.sqrt(11 / 64)
    assert got.points == 50 and got.low == pytest.approx(25 - 100 * half)
    assert got.high == 100, "no difference is more than 100 points"


def test_pictures_on_which_both_agree_count_for_nothing_but_their_number():
    one, other = paired(*answers(80, 12, 4, 4)), paired(*answers(4, 12, 4, 80))
    assert [one.points, one.low, one.high] == pytest.approx([other.points, other.low, other.high])


def test_several_seeds_by_hand():
    a = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]]).bool()
    b = torch.tensor([[0, 1, 0, 0], [0, 1, 1, 0]]).bool()
    got = paired(a, b)
    d = np.array([1, 0, 0, 1, 1, -1])  # of the means over seeds, and the two added pictures
    of_pictures = d.var() / 6
    # Accuracies 3/4 and 1 of a, 1/4 and 1/2 of b: each variance 1/32, over two seeds.
    of_a = of_b = 1 / 64
    # What neither seed nor picture explains, a: ±1/8 thrice and ±3/8 once in each row; its mean square has 3 degrees.
    residual = 2 * (3 * (1 / 8) ** 2 + (3 / 8) ** 2) / 3
    variance = of_pictures + of_a + of_b - 2 * residual / 8
    freedom = variance**2 / (of_pictures**2 / 5 + of_a**2 + of_b**2)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    assert got.points == pytest.approx(50) and got.seeds == (2, 2) and got.counts_seeds
    assert (got.low, got.high) == (pytest.approx(100 * (d.mean() - half), abs=1e-3),
                                   pytest.approx(100 * min(d.mean() + half, 1), abs=1e-3))


def test_seeds_that_differ_widen_the_interval():
    draw = torch.Generator().manual_seed(0)
    b = torch.rand(2, 3, 1000, generator=draw) < 0.5
    steady, spread = (torch.rand(3, 1000, generator=draw) < torch.tensor(p)[:, None]
                      for p in ((0.6, 0.6, 0.6), (0.45, 0.6, 0.75)))
    narrow, wide = paired(steady, b[0]), paired(spread, b[0])
    assert narrow.low > 0, "three steady seeds show ten points"
    assert wide.low < 0 < wide.high, "three seeds that differ by fifteen points do not"


def test_one_seed_beside_several_is_given_their_spread():
    draw = torch.Generator().manual_seed(0)
    a = torch.rand(3, 1000, generator=draw) < torch.tensor([0.5, 0.6, 0.7])[:, None]
    b = torch.rand(1000, generator=draw) < 0.5
    got = paired(a, b)
    assert got.seeds == (3, 1) and got.counts_seeds
    assert got.high - got.low > 2 * 4.3 * 100 * a.double().mean(1).std().item()


def test_it_turns_around_when_both_are_swapped():
    draw = torch.Generator().manual_seed(0)
    for shape_a, shape_b in (((60,), (60,)), ((3, 60), (3, 60)), ((3, 60), (60,)), ((2, 60), (5, 60))):
        a, b = torch.rand(shape_a, generator=draw) < 0.6, torch.rand(shape_b, generator=draw) < 0.4
        there, back = paired(a, b), paired(b, a)
        assert (there.points, there.low, there.high) == pytest.approx((-back.points, -back.high, -back.low))
        assert there.seeds == back.seeds[::-1]


def test_an_encoder_beside_itself_differs_by_nothing():
    a = torch.rand(5000) < 0.6
    got = paired(a, a)
    assert got.points == 0 and got.low == -got.high and got.high < 0.06
    assert str(got) == "+0.0 points (-0.1 to 0.1)"


@pytest.mark.parametrize("name", SETTINGS)
def test_the_interval_holds_the_truth_as_often_as_it_says(name):
    held = coverage(SETTINGS[name], 400)
    assert held >= 0.93, f"only {100 * held:.1f} % of the intervals of 95 % hold the true difference"


def changed(n, p, seeds=(), draw=None):
    return torch.rand((*seeds, n), generator=draw) < p


def test_beside_what_does_not_change_a_difference_in_differences_is_the_difference():
    draw = torch.Generator().manual_seed(0)
    a, b, c = (changed(200, p, draw=draw) for p in (0.7, 0.5, 0.4))
    there, beside, back = paired(a, b), difference_in_differences(a, b, c, c), difference_in_differences(c, c, a, b)
    assert (beside.points, beside.low, beside.high) == pytest.approx((there.points, there.low, there.high))
    assert (back.points, back.low, back.high) == pytest.approx((-there.points, -there.high, -there.low))


def test_a_difference_in_differences_by_hand():
    a, b, c, d = (torch.tensor(row).bool() for row in ([1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]))
    got = difference_in_differences(a, b, c, d)
    each = np.array([2, 0, -1, 1, 1, -1])  # (a - b) - (c - d) of four pictures, and the two that are added
    half = stats.norm.ppf(0.975) * math.sqrt(each.var() / 6)
    assert got.points == pytest.approx(50) and (got.pictures, got.seeds) == (4, (1, 1))
    assert (got.low, got.high) == pytest.approx((100 * (each.mean() - half), 100 * (each.mean() + half)))


def test_what_the_stages_of_a_training_share_drops_out():
    """Trainings that differ by ten points all the same change alike, so a small change can be told."""
    draw = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.0, 0.1, 0.2])[:, None]
    luck, still = torch.rand(3, 2000, generator=draw), torch.rand(3, 2000, generator=draw)
    before, after = luck < 0.4 + spread, luck < 0.48 + spread
    c, d = still < 0.51, still < 0.5
    got = difference_in_differences(after, before, c, d)
    assert got.points == pytest.approx(7, abs=1.5) and got.low > 0 and got.seeds == (3, 3)
    apart = paired(after, before)
    assert apart.low < 0 < apart.high, "as if other trainings had been read for the two stages"


@pytest.mark.parametrize("seeds", [(1, 1), (3, 3), (1, 3)])
def test_a_difference_in_differences_holds_the_truth_as_often_as_it_says(seeds):
    draw, held, times = torch.Generator().manual_seed(0), 0, 200
    spread = 0.05 if max(seeds) > 1 else 0.0  # with one seed each it is about these two trainings
    for _ in range(times):
        ease = torch.randn(500, generator=draw)
        sides = []
        for n, gain in zip(seeds, (0.3, 0.1), strict=True):
            whole = ease + 4 * spread * torch.randn(n, 1, generator=draw) + 0.5 * torch.randn(n, 500, generator=draw)
            step = spread * torch.randn(n, 1, generator=draw) + 0.5 * torch.randn(n, 500, generator=draw)
            sides += [whole + step + gain > 0, whole > 0]
        got = difference_in_differences(*sides)
        deviation = math.sqrt(1 + 17 * spread**2 + 0.25 + 0.25)
        wanted = 100 * (stats.norm.cdf(0.3 / deviation) - stats.norm.cdf(0.1 / deviation))
        held += got.low <= wanted <= got.high
    assert held / times >= 0.92


@pytest.mark.parametrize(("shapes", "sentence"), [
    (((2, 9), (3, 9), (9,), (9,)), "a and b must be read from the same trainings, got 2 and 3 seeds: compare two of"),
    (((9,), (9,), (2, 9), (9,)), "c and d must be read from the same trainings, got 2 and 1 seeds"),
    (((9,), (9,), (9,), (8,)), r"all four must be of the same pictures, got \[9, 9, 9, 8\]: take them on"),
])
def test_a_difference_in_differences_of_what_does_not_fit(shapes, sentence):
    with pytest.raises(ValueError, match=sentence):
        difference_in_differences(*(torch.ones(shape).bool() for shape in shapes))


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3.3, 4, 30, 1e4, 1e7, math.inf])
def test_students_t(freedom):
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-6)


def test_it_is_written_with_its_sign_and_says_what_is_not_counted():
    got = Difference(5.62, 4.4, 6.79, 5000, (1, 1))
    assert str(got) == "+5.6 points (4.4 to 6.8)"
    assert repr(got) == ("+5.6 points (4.4 to 6.8), 95 %, on 5,000 pictures, one training of each, so the spread "
                         "between seeds is not counted")
    assert str(Difference(-0.02, -1.26, 1.0, 5, (1, 1))) == "+0.0 points (-1.3 to 1.0)"
    assert repr(Difference(1, 0, 2, 10, (3, 3))).endswith("on 10 pictures, 3 seeds each")
    assert repr(Difference(1, 0, 2, 10, (3, 1))).endswith("on 10 pictures, 3 and 1 seeds")


@pytest.mark.parametrize(("a", "b", "error", "sentence"), [
    ([True], torch.ones(1).bool(), TypeError, r"a must be a tensor of bools, one a picture, got list: take report"),
    (torch.ones(3).bool(), torch.ones(3), TypeError, r"b must be a tensor of bools, one a picture, got torch\.float32"),
    (torch.ones(3).bool(), torch.ones(4).bool(), ValueError, "of the same pictures, got 3 and 4: take both on"),
    (torch.ones(2, 3).bool(), torch.ones(2).bool(), ValueError, "of the same pictures, got 3 and 2"),
    (torch.ones(0).bool(), torch.ones(0).bool(), ValueError, r"at least one picture whether it was right, .* \[0\]"),
    (torch.ones(1, 1, 1).bool(), torch.ones(1).bool(), ValueError, r"\[n\] or \[seeds, n\], got \[1, 1, 1\]"),
])
def test_bad_input(a, b, error, sentence):
    with pytest.raises(error, match=sentence):
        paired(a, b)


@pytest.mark.parametrize(("low", "high", "given", "line"), [
    (4.4, 6.8, {}, "✓ a beats b: +5.0 points (4.4 to 6.8)"),
    (-0.1, 6.8, {}, "✗ a beats b: +5.0 points (-0.1 to 6.8)"),
    (4.4, 6.8, {"above": 4}, "✓ a beats b: +5.0 points (4.4 to 6.8), claimed above 4"),
    (4.4, 6.8, {"above": 5}, "✗ a beats b: +5.0 points (4.4 to 6.8), claimed above 5"),
    (-0.1, 6.8, {"same": True}, "✓ a beats b: no difference that we can measure, +5.0 points (-0.1 to 6.8)"),
    (4.4, 6.8, {"same": True}, "✗ a beats b: +5.0 points (4.4 to 6.8)"),
])
def test_a_claim_is_one_line(low, high, given, line, capsys):
    assert claim("a beats b", Difference(5, low, high, 100, (3, 3)), **given) is None
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize(("seeds", "note"), [((1, 1), "; one training of each"), ((1, 0), "; one training"),
                                             ((0, 1), "; one training"), ((0, 0), ""), ((3, 1), "")])
def test_a_claim_says_how_many_trainings_it_is_about(seeds, note, capsys):
    claim("a beats b", Difference(5, 4, 6, 100, seeds))
    assert capsys.readouterr().out == f"✓ a beats b: +5.0 points (4.0 to 6.0){note}\n"


def test_a_difference_that_no_training_makes():
    assert repr(Difference(5, 4, 6, 100, (0, 0))).endswith("no training sets them apart")
    assert repr(Difference(5, 4, 6, 100, (1, 0))).endswith("one training, so the spread between seeds is not counted")


@pytest.mark.parametrize("yes", [True, np.float64(1) < 2, torch.tensor(1.0) < 2])
def test_a_plain_comparison_is_told_as_one(yes, capsys):
    claim("the loss falls", yes)
    claim("the loss falls", not yes)
    note = "the loss falls: a comparison of two numbers, without an interval\n"
    assert capsys.readouterr().out == f"✓ {note}✗ {note}"


def test_bad_claims():
    with pytest.raises(TypeError, match=r"by a Difference or by True or False, got float: give evaluate\.paired"):
        claim("a is better", 0.3)
    with pytest.raises(ValueError, match="above and same are for a Difference, got them with a plain comparison"):
        claim("a is better", True, same=True)
    with pytest.raises(ValueError, match="above 2 points or of none at all, got both: leave out"):
        claim("a is better", Difference(5, 4, 6, 100, (1, 1)), above=2, same=True)
