"""layerwise(): each stage is read by itself, pooled as is said, and the encoder stays as it is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.data.types import Dataset, Images
from course_lib.evaluate import Stage, evaluate, features, layers, layerwise, linear_probe, paired, stages_right
from course_lib.nets import convnet, vit


def noise(n, seed, classes=3):
    """Pictures of noise; the class is how bright blue is, from dark to light."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (n, 3, 16, 16), generator=draw)
    y = torch.randint(classes, (n,), generator=draw)
    x[:, 2] = x[:, 2] // 4 + 60 * y[:, None, None]
    return Images(x.to(torch.uint8), y, tuple("abc"))


@pytest.fixture(scope="module")
def data():
    train = noise(150, 0)
    return Dataset("noise", train.without_labels(), train, noise(60, 1), noise(90, 2))


class Forgetful(nn.Module):
    """The first stage is the picture, the second has red and green alone, and the third has blue and 40 empty maps."""

    dim = 41

    def stages(self, x):
        return [x, x[:, :2], F.pad(x[:, 2:], (0, 0, 0, 0, 0, 40))]


def test_each_stage_is_read_by_itself(data):
    top1 = layerwise(Forgetful(), data, numbers=48)
    assert list(top1) == ["pixels", "stage 1", "stage 2", "stage 3"]
    assert top1["pixels"] == top1["stage 1"] > 95 and top1["stage 3"] > 95
    assert 20 < top1["stage 2"] < 47  # of three classes


def test_a_stage_is_a_linear_probe_on_pooled_maps(data):
    torch.manual_seed(0)
    encoder = convnet((4, 8), 16)
    top1 = layerwise(encoder, data, numbers=40)
    parts = (data.train, data.val, data.test)
    encoder.eval()
    for stage, grid in enumerate((3, 2, 1)):  # of maps 4×8×8, 8×4×4 and 16×4×4
        with torch.no_grad():
            z = [F.adaptive_avg_pool2d(encoder.stages(p.x / 255)[stage], grid).flatten(1) for p in parts]
        wanted = linear_probe(z[0], data.train.y, z[1], data.val.y, z[2], data.test.y, classes=3).top1
        assert top1[f"stage {stage + 1}"] == pytest.approx(wanted, abs=1.2)  # one picture of 90
    with torch.no_grad():
        torch.testing.assert_close(z[2], encoder(data.test.x))  # the last one is the encoder's own vector


@pytest.mark.parametrize(("encoder", "widths"), [
    (convnet(), [972, 800, 1024, 768, 512]), (vit(dim=16, depth=2, heads=2), [972, 1024, 1024])])
def test_every_stage_gives_about_as_many_numbers(encoder, widths):
    x = torch.rand(2, 3, 32, 32)
    stages = [None, *range(len(widths) - 1)]
    assert [features(Stage(encoder, stage, 1024), x).shape[1] for stage in stages] == widths
    assert features(Stage(encoder, 0, 1), x).shape[1] == len(encoder.eval().stages(x)[0][0])  # at least a grid of one


def test_stages_can_be_compared_picture_by_picture(data):
    right = [evaluate(Stage(Forgetful(), stage, 48), data).right["linear_test"] for stage in (0, 1)]
    top1 = layerwise(Forgetful(), data, numbers=48)
    assert [100 * bits.double().mean().item() for bits in right] == pytest.approx([top1["stage 1"], top1["stage 2"]])
    assert paired(*right).low > 0


def test_the_encoder_stays_as_it_is(data):
    encoder = convnet((4,), 8).train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    layerwise(encoder, data, numbers=8)
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())
    assert all(m.training for m in encoder.modules())


def test_a_probe_that_does_not_converge_is_named(data, monkeypatch):
    monkeypatch.setattr(layers, "linear_probe", lambda *args, **options: linear_probe(*args, **options, max_iter=1))
    with pytest.warns(UserWarning, match="stopped before its gradient was within the tolerance") as caught:
        top1 = layerwise(Forgetful(), data, numbers=48)
    assert [str(w.message).removeprefix("the probe of ").split(" stopped")[0] for w in caught] == list(top1)


class NoTest(Dataset):
    @property
    def test(self):
        raise AssertionError("test was read")

    @test.setter
    def test(self, images):
        pass


@pytest.fixture
def blind(data):
    """The data, where reading test is a failure."""
    made = object.__new__(NoTest)
    for part in ("name", "pretrain", "train", "val"):
        object.__setattr__(made, part, getattr(data, part))
    return made


def test_who_is_right_after_each_stage(data, blind):
    right = stages_right(Forgetful(), blind, numbers=48)
    assert list(right) == ["stage 1", "stage 2", "stage 3"]
    assert all(r.dtype == torch.bool and r.shape == (60,) for r in right.values())
    top1 = layerwise(Forgetful(), data, numbers=48, on="val")
    for stage, r in right.items():
        assert 100 * r.double().mean().item() == pytest.approx(top1[stage], abs=1e-4)
    direct = evaluate(Stage(Forgetful(), 1, 48), data).right["linear_val"]
    assert torch.equal(right["stage 2"], direct), "in the order of the pictures"


def test_probes_learn_from_as_many_pictures_as_they_are_told(data, monkeypatch):
    seen = []
    search = layers.search
    monkeypatch.setattr(layers, "search", lambda z, y, *rest: seen.append((len(z), y)) or search(z, y, *rest))
    for _ in range(2):
        stages_right(Forgetful(), data, train=40, numbers=48)
    assert [n for n, _ in seen] == [40] * 6 and torch.equal(seen[0][1], seen[3][1])
    assert not torch.equal(seen[0][1], data.train.y[:40]), "drawn, not the first ones"


def test_a_stage_whose_probe_does_not_converge_is_named(data, monkeypatch):
    search = layers.search
    monkeypatch.setattr(layers, "search", lambda *args: search(*args, max_iter=1))
    with pytest.warns(UserWarning, match="the probe of stage . stopped before") as caught:
        stages_right(Forgetful(), data, numbers=48)
    assert {w.filename for w in caught} == {__file__} and len(caught) == 3


def test_bad_input_to_stages_right(data):
    with pytest.raises(ValueError, match="a probe learns from pictures of train, got train=0: 10,000 are the usual"):
        stages_right(Forgetful(), data, train=0)
    with pytest.raises(TypeError, match=r"an encoder with stages\(x\), a list of maps, got Flatten"):
        stages_right(nn.Flatten(), data)


def test_on_val_is_the_best_fit_on_train_and_test_is_not_read(data, blind):
    top1 = layerwise(Forgetful(), blind, numbers=48, on="val")
    assert list(top1) == ["pixels", "stage 1", "stage 2", "stage 3"]
    for stage in range(3):
        net = Stage(Forgetful(), stage, 48)
        z = [t for p in (data.train, data.val) for t in (features(net, p), p.y)]
        result = linear_probe(*z, *z[2:], classes=3)
        assert top1[f"stage {stage + 1}"] == result.val_top1[result.l2]


def test_the_line_that_called_is_warned(data, monkeypatch):
    monkeypatch.setattr(layers, "linear_probe", lambda *args, **options: linear_probe(*args, **options, max_iter=1))
    with pytest.warns(UserWarning) as caught:
        layerwise(Forgetful(), data, numbers=48)
    assert {w.filename for w in caught} == {__file__}


def test_bad_input(data):
    with pytest.raises(ValueError, match=r'on must be "test", to report, or "val", to choose, got \'train\''):
        layerwise(Forgetful(), data, on="train")
    with pytest.raises(TypeError, match="evaluated on a Dataset with train, val and test, got Images"):
        layerwise(Forgetful(), data.test)
    with pytest.raises(TypeError, match=r"an encoder with stages\(x\), a list of maps, got Flatten: build one with"):
        layerwise(nn.Flatten(), data)
    with pytest.raises(ValueError, match="a stage needs at least 1 number, got numbers=0: 1024 is the usual one"):
        layerwise(Forgetful(), data, numbers=0)
