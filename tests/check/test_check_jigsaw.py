"""The checkers of notebook 03: right answers pass, each slip is called by its name, and no answer crashes them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from course_lib.check import jigsaw as check
from course_lib.methods.pretext import jigsaw

ROOT = Path(__file__).parents[2]


def says(verdict, words):
    assert verdict.state == "wrong" and words in verdict.text, verdict


@pytest.mark.parametrize(("folder", "state"), [("notebooks", "waiting"), ("notebooks/solutions", "passed")])
@pytest.mark.parametrize("name", ["farthest", "normalize_tiles", "puzzle_loss", "put_back", "near_set"])
def test_the_cell_of_the_notebook_waits_and_the_solution_passes(folder, state, name):
    cells = json.loads((ROOT / folder / "03_jigsaw.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {"torch": torch, "F": F, "check": check, "jigsaw": jigsaw}
    exec(next(source for source in sources if f"check.{name}({name})" in source), names)
    verdict = getattr(check, name)(names[name])
    assert verdict.state == state, verdict


# --- how far two lie apart --------------------------------------------------------------------------------------------

def test_eight_places_is_right():
    assert check.places_apart(8).passed


@pytest.mark.parametrize(("guess", "words"), [(9, "the most there can be"), (1, "in how many they agree"),
                                              (4.5, "half of the time"), (7.5, "too low"), (8.4, "too high")])
def test_a_wrong_guess_is_told_why(guess, words):
    says(check.places_apart(guess), words)


# --- the search -------------------------------------------------------------------------------------------------------

def search(distance):
    return int((distance.amin(1) * 1000 + distance.sum(1)).argmax())


def farthest(chosen, candidates):
    return search((candidates[:, None] != chosen).sum(2))


def by(worth):
    """A search that takes the candidate for which `worth` of its distances [m, k] is largest."""
    return lambda chosen, candidates: worth((candidates[:, None] != chosen).sum(2)).argmax()


def one_by_one(chosen, candidates, *, better=lambda new, old: new > old):
    """The search as a loop."""
    best, found = (-1, -1), None
    for i, distance in enumerate((candidates[:, None] != chosen).sum(2)):
        if better(worth := (int(distance.min()), int(distance.sum())), best):
            best, found = worth, i
    return found


@pytest.mark.parametrize("answer", [farthest, one_by_one])
def test_a_right_search_passes(answer):
    assert check.farthest(answer).passed


def test_the_reference_finds_the_librarys_set():
    every = torch.tensor(list(itertools.permutations(range(4))))
    chosen = every[:1]
    while len(chosen) < 10:
        chosen = torch.cat([chosen, every[[check.farthest_slowly(chosen, every)]]])
    assert torch.equal(chosen, jigsaw.permutation_set(10, tiles=4))


@pytest.mark.parametrize(("answer", "words"), [
    (by(lambda d: d.amin(1)), "of equals you take the first"),
    (lambda *a: one_by_one(*a, better=lambda new, old: new >= old), "of equals you take the last, as `>=`"),
    (lambda *a: one_by_one(*a, better=lambda new, old: new[0] >= old[0]), "2 mistakes at once; one of them: of equals"),
    (by(lambda d: d.amin(0) * 1000 + d.sum(0)), "the smallest over the candidates"),
    (by(lambda d: d.amin(0)), "2 mistakes at once; one of them: you take the smallest over the candidates"),
    (by(lambda d: d.amin(1) + d.sum(1)), "which outweighs it"),
    (by(lambda d: 10 * d.amin(1) + d.sum(1)), "which outweighs it"),
    (lambda chosen, candidates: search((candidates[:, None] == chosen).sum(2)), "the places in which two agree"),
    (lambda chosen, candidates: search((candidates[:, None] - chosen).abs().sum(2)), "numbers are only names"),
    (lambda chosen, candidates: (candidates[:, None] != chosen).sum(1).amin(1).argmax(),
     "2 mistakes at once; one of them: you count along the chosen"),
    (lambda chosen, candidates: farthest(candidates, chosen), "the smallest over the candidates"),
    (lambda chosen, candidates: search((candidates[:, None] != chosen).sum(1)), "you count along the chosen"),
    (by(lambda d: d.sum(1)), "the largest sum alone"),
    (by(lambda d: -d.amin(1)), "nearest to one of the chosen"),
    (by(lambda d: d.amax(1)), "the farthest of the chosen"),
    (by(lambda d: d[:, -1]), "chosen last"),
    (by(lambda d: d[:, 0]), "the first permutation alone"),
    (lambda chosen, candidates: 0, "another candidate than comparing"),
    (lambda chosen, candidates: candidates[0], "must be one number, and it has shape [5]"),
])
def test_a_wrong_search_is_named(answer, words):
    says(check.farthest(answer), words)


# --- tiles ------------------------------------------------------------------------------------------------------------

def normalize(tiles, *, over=(3, 4), correction=0, eps=0.01, center=1, divide=lambda x, std, eps: x / (std + eps)):
    std, mean = torch.std_mean(tiles, over, correction=correction, keepdim=True)
    return divide(tiles - center * mean, std, eps)


def test_right_tiles_pass():
    assert check.normalize_tiles(normalize).passed


@pytest.mark.parametrize(("options", "words"), [
    ({"over": (1, 3, 4)}, "those of the whole picture"), ({"over": (2, 3, 4)}, "over the colours too"),
    ({"over": (0, 3, 4)}, "over the batch"), ({"center": 0}, "the mean is still there"),
    ({"correction": 1}, "divides by n − 1"), ({"eps": 0}, "0.01 is missing"),
    ({"eps": 0, "correction": 1}, "0.01 is missing"),
    ({"divide": lambda x, std, eps: x / (std**2 + eps)}, "divide by the variance"),
    ({"divide": lambda x, std, eps: x / std + eps}, "0.01 is added to the quotient"),
    ({"divide": lambda x, std, eps: x / (std**2 + eps).sqrt()}, "0.01 is added under the root"),
    ({"divide": lambda x, std, eps: x}, "the deviation is as it was"),
    ({"over": (0, 1, 2, 3, 4)}, "of all tiles of all pictures together"), ({"over": (2, 3)}, "colours and rows"),
    ({"over": (4,)}, "over one row of a tile"), ({"over": (3,)}, "over one column of a tile"),
    ({"divide": lambda x, std, eps: x / std.masked_fill(std == 0, torch.nan)}, "0.01 is missing"),
    ({"eps": 0.5}, "other tiles than one by one"),
])
def test_wrong_tiles_are_named(options, words):
    says(check.normalize_tiles(lambda tiles: normalize(tiles, **options)), words)


def test_other_tiles_are_named():
    def unbracketed(tiles):
        return tiles - tiles.mean((3, 4), keepdim=True) / (tiles.std((3, 4), correction=0, keepdim=True) + 0.01)

    says(check.normalize_tiles(unbracketed), "put the difference in brackets")
    says(check.normalize_tiles(jigsaw.normalize_tiles), "the library's tiles, mapped back into [0, 1]")


# --- the puzzle's loss ------------------------------------------------------------------------------------------------

def puzzle(h, permutations, head, *, one=False, pooled=False, tile=False, undo=False, fixed=False, reduction="mean",
           same=False, expand=True, flat=True, softmax=False, low=0, high=12):
    """The notebook's solution, and what is often written in its place."""
    answer = torch.randint(low, high, (len(h),))
    answer = torch.arange(len(h)) if fixed else answer[:1].expand(len(h)) if same else answer
    order = permutations[answer[:1]].expand(len(h), -1) if one else permutations[answer]
    order = order.argsort(1) if undo else order
    shuffled = h.gather(1, order[:, :, None].expand_as(h) if expand else order[:, :, None])
    scores = head(shuffled.mean(1) if pooled else shuffled.flatten(1) if flat else shuffled)
    return F.cross_entropy(scores.softmax(1) if softmax else scores, permutations[answer, 0] if tile else answer,
                           reduction=reduction)


def test_a_right_loss_passes():
    assert check.puzzle_loss(puzzle).passed


@pytest.mark.parametrize(("options", "words"), [
    ({"one": True}, "all pictures are shuffled by one permutation, and the labels"),
    ({"pooled": True}, "the head gets one vector of 5 numbers a picture, and nine of 5"),
    ({"tile": True}, "the label is a tile's number"),
    ({"one": True, "tile": True}, "all pictures are shuffled by one permutation, and the labels"),
    ({"one": True, "pooled": True, "tile": True}, "the head gets one vector of 5 numbers"),
    ({"undo": True}, "you undo the permutation"),
    ({"fixed": True}, "every batch is shuffled by the same permutations"),
    ({"same": True}, "draw one for each of them"),
    ({"expand": False}, "the head gets nine numbers a picture, one of each vector"),
    ({"expand": False, "flat": False}, "the head gets nine numbers a picture, one of each vector"),
    ({"flat": False}, "what the head is given must have shape [8, 45], and it has [8, 9, 5]"),
    ({"high": 9}, "only 9 of the 12 permutations are ever drawn"),
    ({"low": 1}, "only 11 of the 12 permutations are ever drawn"),
    ({"softmax": True}, "takes a softmax itself"),
    ({"softmax": True, "tile": True}, "2 mistakes at once; one of them: the label is a tile's number"),
    ({"reduction": "sum"}, "you add up the losses"),
])
def test_mistakes_in_the_loss_are_named(options, words):
    says(check.puzzle_loss(lambda h, permutations, head: puzzle(h, permutations, head, **options)), words)


@pytest.mark.parametrize(("answer", "words"), [
    (lambda h, order: h[:, order].flatten(1), "each picture comes in the orders of all pictures"),
    (lambda h, order: h.flatten(1), "nothing is shuffled"),
    (lambda h, order: in_order(h, order).mT.flatten(1), "the vectors are interleaved, number by number"),
])
def test_what_the_head_is_given_by_mistake_is_named(answer, words):
    def loss(h, permutations, head):
        number = torch.randint(len(permutations), (len(h),))
        return F.cross_entropy(head(answer(h, permutations[number])), number)

    says(check.puzzle_loss(loss), words)


def in_order(h, order):
    return h.gather(1, order[:, :, None].expand_as(h))


def test_every_order_and_one_vector_at_a_time_are_named():
    def every(h, permutations, head):
        losses = [F.cross_entropy(head(h[:, order].flatten(1)), torch.full((len(h),), number))
                  for number, order in enumerate(permutations)]
        return torch.stack(losses).mean()

    def alone(h, permutations, head):
        number = torch.randint(len(permutations), (len(h),))
        return F.cross_entropy(head(in_order(h, permutations[number]).flatten(0, 1)), number.repeat_interleave(9))

    says(check.puzzle_loss(every), "in every order of the set: draw one order for each picture")
    says(check.puzzle_loss(alone), "the head gets one vector at a time")


def test_a_loss_without_a_gradient():
    says(check.puzzle_loss(lambda *a: puzzle(*a).detach()), "no gradient comes out of it")
    says(check.puzzle_loss(lambda h, *a: puzzle(h.detach(), *a)), "no gradient comes out of it")


def test_another_loss_shows_both_values():
    says(check.puzzle_loss(lambda *a: puzzle(*a) + 1), "in: 9.581 where 8.581 is right")


def test_orders_that_are_not_in_the_set():
    says(check.puzzle_loss(lambda h, permutations, head: puzzle(h.flip(1), permutations, head)),
         "is none of the permutations")


def test_a_head_that_is_not_asked():
    says(check.puzzle_loss(lambda h, permutations, head: h.sum()), "the head was never asked")


# --- put back ---------------------------------------------------------------------------------------------------------

def put_back(shuffled, logits, permutations, *, over=1, undo=True, own=True):
    """The notebook's solution; with over=0, undo=False and own=False it is the friend's."""
    order = permutations[logits.softmax(over).argmax(1)]
    order = order.argsort(1) if undo else order
    return in_order(shuffled, order if own else order[:1].expand_as(order))


def test_right_ways_to_put_back_pass():
    assert check.put_back(put_back).passed
    assert check.put_back(lambda shuffled, logits, permutations: torch.empty_like(shuffled).scatter(
        1, permutations[logits.argmax(1)][:, :, None].expand_as(shuffled), shuffled)).passed


@pytest.mark.parametrize(("options", "words"), [
    ({"over": 0}, "the softmax runs over the pictures"), ({"undo": False}, "you shuffle once more"),
    ({"own": False}, "all puzzles are put back in the order that is said of the first"),
    ({"over": 0, "own": False}, "2 mistakes at once; one of them: the softmax"),
    ({"undo": False, "own": False}, "2 mistakes at once; one of them: you shuffle once more"),
    ({"over": 0, "undo": False, "own": False}, "3 mistakes at once; one of them: the softmax"),
])
def test_mistakes_in_putting_back_are_named(options, words):
    says(check.put_back(lambda *case: put_back(*case, **options)), words)


def test_the_friends_code_has_the_three_mistakes():
    names = {"torch": torch}
    exec(check.FRIENDS, names)
    case = check.answered()[0]
    assert torch.equal(names["put_back"](*case), put_back(*case, over=0, undo=False, own=False))


def test_other_ways_to_put_back():
    says(check.put_back(lambda shuffled, *_: shuffled), "still as they were shuffled")
    says(check.put_back(lambda shuffled, logits, orders: put_back(shuffled, -logits, orders)), "least likely")


# --- a control --------------------------------------------------------------------------------------------------------

def twins(n, base=None):
    half = jigsaw.permutation_set(n // 2) if base is None else base(n // 2)
    return torch.cat([half, half[:, [1, 0, 2, 3, 4, 5, 6, 7, 8]]])


def test_twins_of_a_set_that_lies_far_apart_are_a_control():
    assert check.near_set(twins).passed
    torch.manual_seed(0)
    assert check.near_set(lambda n: twins(n, lambda half: torch.rand(half, 9).argsort(1))).passed


@pytest.mark.parametrize(("answer", "words"), [
    (jigsaw.permutation_set, "only 0 of your 64 have another one two places away"),
    (lambda n: torch.tensor(list(itertools.islice(itertools.permutations(range(9)), n))),
     "tile 0 stands in place 0 in 100 % of the puzzles"),
    (lambda n: twins(n)[: n // 2].repeat(2, 1), "64 of your 64 occur more than once"),
    (lambda n: torch.zeros(n, 9).long(), "row 0 is no permutation of nine tiles"),
    (lambda n: twins(n) + 1, "row 0 is no permutation of nine tiles"),
    (lambda n: twins(n).float(), "must be of int64"),
    (lambda n: twins(64), "must have shape [128, 9], and it has [64, 9]"),
    (lambda n: twins(2 * n)[:n], "only"),
])
def test_what_is_no_control_is_told(answer, words):
    says(check.near_set(answer), words)
