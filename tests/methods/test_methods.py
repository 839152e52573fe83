"""What holds for every method, whatever its idea."""

from __future__ import annotations

import dataclasses
import inspect
import math

import pytest
import torch

import course_lib as cl
from course_lib import augment, methods
from course_lib.data import toybox
from course_lib.data.types import Images
from course_lib.methods import MAE, Batch, Method
from course_lib.methods.contrastive.cpc import SignalEncoder
from course_lib.methods.contrastive.word2vec import WordVectors
from course_lib.methods.pretext.colorization import Lightness
from course_lib.methods.pretext.split_brain import SplitEncoder
from course_lib.nets import Decoder, Enlarged, convnet, vit

NAMES = sorted(name for name in methods.__all__ if name not in ("Method", "Batch"))
CAPTIONS = ("a red boat", "a green boat at night", "the red house", "a cat", "the cat in a house", "a boat at night")
WORDS = ("a", "boat", "at", "cat", "house", "night", "red", "the", "green", "in")
# What comes from the data: arguments that have no default, or that `build` gives.
FROM_DATA = {"Supervised": {"classes": 12}, "InstDisc": {"pictures": 6}, "PIRL": {"pictures": 6},
             "CLIP": {"words": list(WORDS)}, "SkipGram": {"counts": [5, 3, 2, 2, 2, 2, 2, 2, 1, 1]}}
OF_PICTURES = [name for name in NAMES if name not in ("SequenceCPC", "SkipGram")]


def encoder(name):
    """The smallest one of the kind that a method wants."""
    if name == "MAE":
        return vit(dim=16, depth=1, heads=2)
    if name == "SequenceCPC":
        return SignalEncoder(3, 8)
    if name == "SkipGram":
        return WordVectors(WORDS, 8)
    if name in ("CMC", "SplitBrain"):
        return SplitEncoder(convnet((8, 12), 16), convnet((8, 12), 16))
    return Lightness(convnet((8, 12), 16)) if name in ("Colorizer", "VideoColorizer") else convnet((8, 12), 16)


def build(name, seed=0, **options):
    torch.manual_seed(seed)
    needed = {key: value for key, value in FROM_DATA.get(name, {}).items() if name != "Supervised"}
    return getattr(methods, name)(encoder(name), **{**needed, **options})


def batch(name="", n=6):
    draw = torch.Generator().manual_seed(9)
    clip = (4,) if "clips" in getattr(methods, name, Method).needs else ()
    x = torch.randint(256, (n, *clip, 3, 32, 32), dtype=torch.uint8, generator=draw)
    if name == "SequenceCPC":
        x = torch.randn(n, 32, 3, generator=draw)
    return Batch(x, torch.arange(n), torch.tensor([0, 0, 0, 1, 1, 2])[:n], CAPTIONS[:n])


def outputs(method, batch, seed=3):
    torch.manual_seed(seed)
    return method(batch)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_a_finite_scalar_with_what_is_worth_plotting(name):
    method = build(name)
    out = outputs(method, batch(name))
    assert all(value.shape == () and value.isfinite() for value in out.values())
    assert out["loss"].dtype == torch.float32 and out["loss"].requires_grad
    torch.manual_seed(3)
    again = method.loss(batch(name))
    torch.testing.assert_close(again["loss"] if isinstance(again, dict) else again, out["loss"])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight_that_is_trained(name):
    method = build(name)
    outputs(method, batch(name))["loss"].backward()
    for parameter_name, p in method.named_parameters():
        if not p.requires_grad:
            assert p.grad is None, f"{parameter_name} is frozen and has a gradient"
            continue
        assert p.grad is not None and p.grad.isfinite().all(), f"no gradient reaches {parameter_name}"
        # A bias may have a gradient of zero by symmetry, such as VICReg's last one: nothing there feels a shift.
        assert p.ndim == 1 or p.grad.abs().sum() > 0, f"the gradient of {parameter_name} is zero"
    assert all(p.requires_grad for p in method.encoder.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_everything_remembered_is_saved(name):
    method, other = build(name), build(name, seed=1)
    for step in range(3):
        outputs(method, batch(name), seed=step)
        method.after_step((step + 1) / 3)
    assert outputs(other, batch(name))["loss"] != outputs(method, batch(name))["loss"]
    missing = other.load_state_dict(method.state_dict())
    assert not missing.missing_keys and not missing.unexpected_keys
    first, second = outputs(method, batch(name)), outputs(other, batch(name))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_losses_leave_autocast_in_float32(name):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = outputs(build(name), batch(name))
    assert out["loss"].dtype == torch.float32 and out["loss"].isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_read_only_where_they_are_needed(name):
    method, whole = build(name), batch(name)
    if "labels" in method.needs:
        assert outputs(method, whole)["loss"] != outputs(method, dataclasses.replace(whole, y=whole.y.flip(0)))["loss"]
    else:
        hidden = dataclasses.replace(whole, y=None)
        assert outputs(build(name), hidden)["loss"] == outputs(build(name), whole)["loss"]


@pytest.mark.parametrize("name", OF_PICTURES)
def test_one_picture_trains_or_is_refused_in_one_sentence(name):
    method, one = build(name), Images(batch(n=1).x, batch(n=1).y, tuple("abcdefghij"), captions=CAPTIONS[:1])
    if "clips" in method.needs:
        one = toybox.clips(1, frames=4)
    if method.smallest_batch == 1:
        assert math.isfinite(cl.fit(method, one, epochs=1, batch_size=1, precision="float32", device="cpu")["loss"][0])
    else:
        least = f"{name} needs at least {method.smallest_batch} pictures in each process's batch, got 1: raise"
        with pytest.raises(ValueError, match=least):
            cl.fit(method, one, epochs=1, batch_size=1, precision="float32", device="cpu")


@pytest.mark.parametrize("name", OF_PICTURES)
@pytest.mark.parametrize(("x", "error", "message"), [
    (torch.zeros(4, 3, 32, 32, dtype=torch.int64), TypeError, "uint8 in 0..255 or floats"),
    (torch.full((4, 3, 32, 32), 255.0), ValueError, "divide by 255"),
    (torch.full((4, 3, 32, 32), torch.nan), ValueError, "got values from nan"),
    (torch.zeros(4, 1, 32, 32), ValueError, r"\[N, (T, )?3, H, W\]"),
])
def test_pictures_that_are_none_are_refused(name, x, error, message):
    with pytest.raises(error, match=message):
        x = x[:, None].expand(-1, 4, -1, -1, -1) if "clips" in getattr(methods, name).needs else x
        build(name).loss(Batch(x, torch.arange(4), torch.arange(4), CAPTIONS[:4]))


def test_labels_that_are_needed_and_hidden_are_told():
    unlabelled = Images(batch().x, None, tuple("abcdefghij"))
    with pytest.raises(ValueError, match=r"Supervised: labels are needed, .*: take data\.train"):
        cl.fit(build("Supervised"), unlabelled, epochs=1, batch_size=2, device="cpu")


def test_supervised_is_cross_entropy_with_the_labels():
    method = build("Supervised")
    with torch.no_grad():
        method.classifier.weight.zero_()
        method.classifier.bias.copy_(torch.arange(10.0))
    out = outputs(method, batch())
    wanted = sum(math.log(sum(math.exp(k) for k in range(10))) - y for y in batch().y.tolist()) / 6
    assert out["loss"].item() == pytest.approx(wanted, rel=1e-5) and out["accuracy"] == 0


def test_mae_trains_on_one_picture_and_the_rest_need_two():
    assert MAE.smallest_batch == 1
    assert Method.smallest_batch == 2


def test_a_method_without_a_loss_says_so():
    class Nothing(Method):
        """No loss yet."""

    with pytest.raises(NotImplementedError, match=r"Nothing has no loss yet: define loss\(self, batch\)"):
        Nothing(convnet((8,), 16), torch.nn.Identity()).loss(batch())


def test_a_batch_knows_its_length():
    assert len(batch(n=5)) == 5


# --- every option reaches the loss ------------------------------------------------------------------------------------

# Method -> option -> another value than the default. Encoder and views are tried apart.
OPTIONS = {
    "Autoencoder": {"decoder": lambda: Decoder(16, 32, width=16)},
    "BYOL": {"hidden": 24, "dim": 12, "momentum": 0.5},
    "CLIP": {"dim": 16, "depth": 1, "scale": 5.0},
    "CMC": {"dim": 16, "temperature": 0.5},
    "CPC": {"patch": 8, "stride": 4, "dim": 16, "steps": 1, "negatives": "same"},
    "Colorizer": {"target": "regression", "grid": 40, "uniform": 1.0},
    "ContextEncoder": {"mask": "center", "adversarial": 0.5},
    "DenoisingAutoencoder": {"decoder": lambda: Decoder(16, 32, width=16), "noise": 0.6, "kind": "masking"},
    "DenseCL": {"dim": 16, "weight": 0.2, "queue": 16, "momentum": 0.5, "temperature": 0.5},
    "InstDisc": {"dim": 16, "negatives": None, "temperature": 0.5, "proximal": 1.0, "momentum": 0.9},
    "Jigsaw": {"permutations": 16, "tile": 10, "jitter": 0, "normalize": False, "puzzles": 2},
    "MAE": {"mask_ratio": 0.5, "norm_pix_loss": False, "width": 32, "depth": 1, "heads": 2},
    "MeanShift": {"hidden": 24, "dim": 12, "neighbours": 2, "queue": 16, "momentum": 0.5},
    "MoCo": {"dim": 16, "queue": 4, "momentum": 0.5, "temperature": 0.5, "version": 1, "groups": 2, "shuffle": False},
    "NNCLR": {"hidden": 24, "dim": 12, "queue": 16, "temperature": 0.5},
    "PIRL": {"dim": 16, "negatives": 8, "temperature": 0.5, "weight": 0.2, "tile": 10, "jitter": 0, "enlarge": 1,
             "momentum": 0.9},
    "RelativePatch": {"patch": 10, "jitter": 0, "gap": False, "drop_color": False},
    "RotNet": {},
    "SimCLR": {"dim": 16, "temperature": 0.1, "projector": "linear", "group": 2},
    "SequenceCPC": {"width": 12, "steps": 2, "negatives": "same"},
    "Siamese": {"dim": 16, "margin": 50.0},
    "SkipGram": {"window": 1, "negatives": 2, "power": 0.0, "subsample": 0.01},
    "SplitBrain": {"grid": 40, "uniform": 1.0, "levels": 5},
    "SupCon": {"dim": 16, "temperature": 0.5, "mean": "inside"},
    "Supervised": {"classes": 12},
    "Triplet": {"dim": 16, "margin": 0.5},
    "VICReg": {"dim": 24, "invariance": 1.0, "variance": 1.0, "covariance": 2.0},
    "VideoColorizer": {"dim": 8, "references": 2, "temperature": 0.5, "grid": 20.0},
}


def training(name, **options):
    """Every loss of three steps with the same draws, and the weights afterwards, the teacher's too."""
    method = build(name, **{key: value() if callable(value) else value for key, value in options.items()})
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for step in range(3):
        loss = outputs(method, batch(name), seed=step)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / 4)
        losses.append(loss.item())
    return losses, {key: value.clone() for key, value in method.state_dict().items()}


def test_the_table_of_options_is_complete():
    for name in NAMES:
        named = set(inspect.signature(getattr(methods, name)).parameters) - {"encoder", "views"}
        given = set(OPTIONS[name]) | set(FROM_DATA.get(name, {}))
        assert named == given, f"{name} has the options {named}: give each another value in OPTIONS"


@pytest.mark.parametrize(("name", "option"), [(name, option) for name in OPTIONS for option in OPTIONS[name]])
def test_every_option_reaches_the_loss(name, option):
    losses, state = training(name)
    others, other = training(name, **{option: OPTIONS[name][option]})
    assert all(map(math.isfinite, others))
    # A teacher's momentum shows in the loss of the second step; whatever else is built or drawn shows in the first.
    first = 1 if option == "momentum" else 0
    assert losses[first] != others[first] and losses[-1] != others[-1], f"{name} does not heed {option}"
    assert losses[:first] == others[:first]
    shapes = [{key: value.shape for key, value in s.items()} for s in (state, other)]
    assert shapes[0] != shapes[1] or any(not torch.equal(state[key], other[key]) for key in state)


TWO_VIEWS = ("BYOL", "DenseCL", "MeanShift", "MoCo", "NNCLR", "PIRL", "SimCLR", "SupCon", "VICReg")


@pytest.mark.parametrize("name", sorted(set(OF_PICTURES) - {"VideoColorizer"}))
def test_every_method_sees_its_views_and_nothing_else(name):
    """Other views, another loss; and what they make black cannot be told apart."""
    size = {"Jigsaw": 36, "RelativePatch": 36, "PIRL": 36, "CPC": 48}.get(name, 32)

    class Black(torch.nn.Module):
        calls = 0

        def __init__(self):
            super().__init__()
            self.size = size

        def forward(self, x):
            self.calls += 1
            return torch.zeros(len(x), 3, size, size)

    same = augment.none(size)
    assert outputs(build(name, views=same), batch(name))["loss"] != outputs(build(name), batch(name))["loss"]
    black = Black()
    method, x = build(name, views=black), batch(name)
    dark = dataclasses.replace(x, x=255 - x.x)
    assert outputs(method.eval(), x)["loss"] == outputs(method, dark)["loss"]
    assert black.calls == 2 * (2 if name in TWO_VIEWS else 1)


@pytest.mark.parametrize("name", sorted(set(OF_PICTURES) - {"VideoColorizer"}))
def test_views_of_several_sizes_are_one_sentence(name):
    with pytest.raises(TypeError, match=r"one view of each picture .*a list of 6: give it|has no `size`: give"):
        build(name, views=augment.multicrop()).loss(batch(name))


@pytest.mark.parametrize(("name", "option", "value", "message"), [
    ("BYOL", "momentum", 2, r"momentum .* must lie in \[0, 1\], got 2: 0\.99 is usual"),
    ("BYOL", "momentum", -0.1, r"must lie in \[0, 1\], got -0\.1"),
    ("BYOL", "momentum", math.nan, r"must lie in \[0, 1\], got nan"),
    ("Colorizer", "target", "mean", "target must be 'bins' or 'regression', got 'mean'"),
    ("ContextEncoder", "mask", "left", "mask must be 'center' or 'blocks', got 'left'"),
    ("ContextEncoder", "adversarial", 1, r"must lie in \[0, 1\), got 1"),
    ("CLIP", "scale", 101, r"scale .* must lie in \(0, 100\], got 101"),
    ("CPC", "negatives", "none", "negatives must be one of all, same, others, got 'none'"),
    ("CPC", "stride", 32, "patches of 16 pixels, 32 apart, do not tile views of size 48"),
    ("CPC", "patch", 48, "do not tile views of size 48 in rows enough"),
    ("CPC", "steps", 4, "there are 1 to 3 rows to predict, got steps=4"),
    ("DenseCL", "weight", 1.5, r"weight must lie in \[0, 1\], got 1\.5"),
    ("InstDisc", "pictures", 0, "a slot for each picture, at least 1, got n=0"),
    ("InstDisc", "proximal", -1, "cannot be negative, got -1"),
    ("InstDisc", "temperature", 0, "temperature must be positive, got 0: 0.07 is usual"),
    ("InstDisc", "momentum", 1, r"share of an old slot .* must lie in \[0, 1\), got 1"),
    ("MeanShift", "neighbours", 5000, "a queue of 4096 has 1 to 4096 neighbours to give, got 5000"),
    ("MeanShift", "momentum", 2, r"must lie in \[0, 1\], got 2"),
    ("MoCo", "version", 3, "version must be 1 .* or 2 .*, got 3"),
    ("MoCo", "momentum", -1, r"must lie in \[0, 1\], got -1"),
    ("MoCo", "groups", 0, "groups must be at least 1, .* got 0"),
    ("MoCo", "queue", 0, "a queue holds at least 1 embedding, got size=0"),
    ("PIRL", "weight", -0.1, r"weight .* must lie in \[0, 1\], got -0\.1"),
    ("SequenceCPC", "steps", 0, "at least 1 step ahead must be predicted, got steps=0"),
    ("SimCLR", "group", 1, "a group needs at least 2 pictures to tell apart, got 1: None takes all"),
    ("SkipGram", "window", 0, "window and negatives must be at least 1 .*, got 0, 5 and 0"),
    ("SkipGram", "counts", [1], "how often each of those words occurs, got WordVectors and 1 counts"),
    ("SupCon", "mean", "middle", "mean must be 'outside' or 'inside' of the logarithm, got 'middle'"),
])
def test_options_that_cannot_be_are_one_sentence(name, option, value, message):
    with pytest.raises(ValueError, match=message):
        build(name, **{option: value})


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_of_the_pictures_may_be_unknown(name):
    whole = batch(name)
    if getattr(methods, name).remembers_pictures:
        with pytest.raises(ValueError, match="knows the pictures that it was trained on by their numbers, and this"):
            build(name).loss(dataclasses.replace(whole, index=None))
        return
    unknown = outputs(build(name), dataclasses.replace(whole, index=None))
    assert unknown["loss"] == outputs(build(name), whole)["loss"]


@pytest.mark.parametrize("name", NAMES)
def test_another_objective_is_the_loss(name):
    """The one line to override: nothing else of the loss has to be written again."""

    class Other(getattr(methods, name)):
        def objective(self, first, *rest):
            assert first.requires_grad
            return 0 * first.sum() + 7

    # There the adversary's loss comes on top.
    options = {"adversarial": 0.0} if name == "ContextEncoder" else FROM_DATA.get(name, {})
    torch.manual_seed(0)
    out = outputs(Other(encoder(name), **options), batch(name))
    assert out["loss"] == (14 if name == "SplitBrain" else 7)  # two halves, each with its own


@pytest.mark.parametrize("name", [name for name in NAMES if name != "SequenceCPC"])
def test_it_is_built_for_pictures_and_can_be_built_again_without(name):
    kind, options = getattr(methods, name), {k: v for k, v in OPTIONS[name].items() if k not in ("decoder", "classes")}
    images = Images(batch().x, batch().y, tuple("abcdefghijkl"), captions=CAPTIONS)
    torch.manual_seed(0)
    method = kind.build(encoder(name), images, **options)
    given = FROM_DATA.get(name, {})
    found = {key: sorted(value) if key == "words" else value for key, value in method.built_with.items()}
    assert found == options | {key: sorted(value) if key == "words" else value for key, value in given.items()}
    again = kind(encoder(name), **method.built_with)
    again.load_state_dict(method.state_dict())
    assert outputs(method, batch(name))["loss"] == outputs(again, batch(name))["loss"]


@pytest.mark.parametrize("name", OF_PICTURES)
def test_around_a_backbone_it_has_the_encoder_that_suits_it(name):
    kind, backbone = getattr(methods, name), vit(dim=16, depth=1, heads=2) if name == "MAE" else convnet((8, 16), 32)
    wrapped = kind.default_encoder(backbone)
    wanted = {"Jigsaw": Enlarged, "RelativePatch": Enlarged, "Colorizer": Lightness, "VideoColorizer": Lightness,
              "CMC": SplitEncoder, "SplitBrain": SplitEncoder}.get(name, type(backbone))
    assert type(wrapped) is wanted and wrapped.dim == backbone.dim
    needed = FROM_DATA.get(name, {})
    assert outputs(kind(wrapped, **needed), batch(name))["loss"].isfinite()


def test_what_each_method_needs():
    needs = {name: getattr(methods, name).needs for name in NAMES}
    assert all(type(value) is frozenset for value in needs.values())
    assert {name: set(value) for name, value in needs.items() if value} == {
        "CLIP": {"captions"}, "Siamese": {"labels"}, "SkipGram": {"captions"}, "SupCon": {"labels"},
        "Supervised": {"labels"}, "Triplet": {"labels"}, "VideoColorizer": {"clips"}}


class Marks(torch.nn.Module):
    """Views that can be told apart: the first call gives one shade of grey for each picture, the second another."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        shade = torch.linspace(0.1, 0.4, len(x))[:, None, None, None] + (0.5 if self.calls % 2 == 0 else 0.0)
        return shade.expand(-1, 3, 16, 16) * torch.tensor([1.0, 0.9, 0.7])[:, None, None]


@pytest.mark.parametrize("name", ["SimCLR", "VICReg"])
def test_the_objective_gets_one_view_and_then_the_other(name):
    method, marks, seen = build(name, views=Marks()).eval(), Marks(), []
    method.objective = lambda *z: seen.extend(z) or z[0].sum()
    method.loss(batch(n=4))
    head = method.projector if name == "SimCLR" else method.expander
    for z in seen:
        torch.testing.assert_close(z, head(method.encoder(marks(torch.zeros(4)))))
    assert len(seen) == 2 and not torch.allclose(*seen)


def test_byols_student_and_teacher_see_both_views_each_in_its_place():
    method, marks, seen = build("BYOL", views=Marks()).eval(), Marks(), []
    method.objective = lambda *given: seen.extend(given) or given[0].sum()
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.mul_(1.1)  # so that it can be told from the student
    method.loss(batch(n=4))
    v1, v2 = marks(torch.zeros(4)), marks(torch.zeros(4))
    wanted = [method.predictor(method.student(v1)), method.predictor(method.student(v2)),
              method.teacher(v1), method.teacher(v2)]
    for name, found, right in zip(("p1", "p2", "z1", "z2"), seen, wanted, strict=True):
        torch.testing.assert_close(found, right, msg=f"{name} is not what it should be")
    assert all(not torch.allclose(a, b) for i, a in enumerate(seen) for b in seen[:i])
