"""Few labels on disk: what is measured, what is kept, and that nothing beyond the labels drawn is learned from."""

import dataclasses
import json

import pytest
import torch
from typer.testing import CliRunner

import course_lib as cl
from course_lib import cli, few, recipes, runs
from course_lib.data.types import Dataset, Images
from course_lib.runs import Run


@pytest.fixture(scope="module")
def data():
    return cl.load("toybox", limit=400)


@pytest.fixture(scope="module")
def assets(data, tmp_path_factory):
    """A trained run, and its few-label measures."""
    folder = tmp_path_factory.mktemp("assets")
    Run("rotation", "toybox", "smoke", assets=folder).train(data)
    few.measure(smoke("rotation", folder), data, draws=2)
    return folder


def smoke(name, assets):
    return Run(name, "toybox", "smoke", assets=assets)


def test_what_is_read_is_what_the_frozen_encoder_gives(assets, data):
    found = few.read(smoke("rotation", assets))
    assert found.per_class == few.budgets(data) == (1, 10)
    direct = cl.evaluate.few_label(smoke("rotation", assets).encoder(), data, (1, 10), 2)
    assert torch.equal(found.right, direct.right) and found.right.shape == (2, 2, 40)


def test_it_is_no_result_of_its_own(assets):
    assert few.path(smoke("rotation", assets)).exists()
    assert [r["name"] for r in runs.results("toybox", "smoke", assets)] == ["rotation"]


def test_draws_that_are_there_are_kept_and_others_weights_begin_anew(data, assets, monkeypatch):
    asked = []
    made = few.few_label

    def spied(encoder, data, per_class, draws, **given):
        asked.append(list(draws))
        return made(encoder, data, per_class, draws, **given)

    monkeypatch.setattr(few, "few_label", spied)
    run = smoke("rotation", assets)
    before = few.read(run).right
    after = few.measure(run, data, draws=3).right
    assert asked == [[2]] and torch.equal(after[:, :2], before)
    few.measure(run, data, draws=3)
    assert asked == [[2]], "nothing is missing"
    stored = json.loads(few.path(run).read_text())
    few.path(run).write_text(json.dumps(stored | {"weights": "those of another training"}))
    few.measure(run, data, draws=2)
    assert asked == [[2], [0, 1]] and torch.equal(few.read(run).right, before)


def test_from_scratch_sees_the_labelled_pictures_and_no_others(data, tmp_path, monkeypatch):
    seen = []
    fit = few.fit

    def spied(method, images, **given):
        seen.append((images, given))
        return fit(method, images, **given)

    monkeypatch.setattr(few, "fit", spied)
    found = few.measure(smoke("supervised", tmp_path), data, draws=1)
    assert [torch.bincount(images.y).tolist() for images, _ in seen] == [[1] * 10, [10] * 10]
    for images, given in seen:
        index = cl.evaluate.draw_labels(data.train.y, len(images) // 10, 0)
        assert torch.equal(images.x, data.train.x[index]) and torch.equal(images.y, data.train.y[index])
        steps = given["epochs"] * (len(images) // given["batch_size"])
        assert round(steps) == 10 and given["lr"] == recipes.recipe("supervised", "smoke").fit["lr"]
    assert found.right.shape == (2, 1, 40)
    assert not smoke("supervised", tmp_path).exists, "no training with all labels is asked for"


def test_from_scratch_tells_classes_apart_that_can_be_told(tmp_path, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    parts = []
    for n in (120, 60, 60):
        y = torch.arange(n) % 3
        x = torch.randint(60, (n, 3, 32, 32), generator=draw)
        x[torch.arange(n), y] += 150
        parts.append(Images(x.to(torch.uint8), y, tuple("abc")))
    monkeypatch.setitem(few.STEPS, "smoke", 30)
    settings = recipes.recipe("supervised", "smoke")
    right = few.scratch(settings, Dataset("colours", parts[0].without_labels(), *parts), 10, 0)
    assert right.double().mean() > 0.9


def test_a_killed_one_goes_on_with_the_next_draw(data, tmp_path, monkeypatch):
    done, scratch = [], few.scratch

    def killed_in_the_second(settings, data, per_class, draw):
        if draw == 1:
            raise KeyboardInterrupt
        done.append(draw)
        return scratch(settings, data, per_class, draw)

    run = smoke("supervised", tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(few, "scratch", killed_in_the_second)
        few.measure(run, data, draws=2)
    assert done == [0, 0] and few.read(run).right.shape[1] == 1
    monkeypatch.setattr(few, "scratch", lambda *args: done.append(args[3]) or scratch(*args))
    assert few.measure(run, data, draws=2).right.shape[1] == 2
    assert done == [0, 0, 1, 1]


def test_curves_are_made_in_smoke_and_read_elsewhere(data, tmp_path):
    curves = few.curve(["untrained_convnet", "rotation", "supervised"], data, "smoke", assets=tmp_path)
    assert list(curves) == ["untrained convnet", "rotation", "supervised, from scratch"]
    assert all(found.right.shape == (2, 2, 40) for found in curves.values())
    assert not list(tmp_path.rglob("*.json"))
    with pytest.raises(FileNotFoundError, match=r"there is no .*few.rotation-seed0\.json: make it with `python -m "
                                                r"course_lib few rotation --data toybox --profile laptop`"):
        few.curve(["rotation"], data, "laptop", assets=tmp_path)


def test_a_curve_of_a_data_set_that_is_only_named_is_read(data, assets):
    found = few.curve(["rotation"], "toybox", "smoke", assets=assets)
    assert torch.equal(found["rotation"].right, few.read(smoke("rotation", assets)).right)
    with pytest.raises(FileNotFoundError, match=r"there is no .*few.supervised-seed0"):
        few.curve(["supervised"], "toybox", "smoke", assets=assets)


def test_what_cannot_be_measured_is_told(data, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"there is no result .*course_lib run rotation"):
        few.measure(smoke("rotation", tmp_path), data)
    with pytest.raises(ValueError, match="at least one draw, got 0: 5 are usual"):
        few.measure(smoke("supervised", tmp_path), data, draws=0)
    with pytest.raises(ValueError, match="did you mean 'rotation'"):
        few.curve(["rotatoin"], data, "smoke")
    monkeypatch.setattr(few.methods.RotNet, "needs", frozenset({"labels"}))
    with pytest.raises(ValueError, match="rotation was trained with every label, so few labels say nothing of it"):
        few.measure(smoke("rotation", tmp_path), data)


def test_the_command(data, assets, monkeypatch):
    monkeypatch.setattr(cli, "load", lambda *_, **__: data)
    done = CliRunner().invoke(cli.app, ["few", "rotation", "untrained_convnet", "--data", "toybox", "--profile",
                                        "smoke", "--draws", "2", "--assets", str(assets)])
    assert done.exit_code == 0, done.output
    assert done.output.count("10 a class: ") == 2 and few.path(smoke("untrained_convnet", assets)).exists()
    wrong = CliRunner().invoke(cli.app, ["few", "rotatoin", "--profile", "smoke"])
    assert wrong.exit_code == 1 and "did you mean 'rotation'" in wrong.output


def test_a_file_of_another_copy_of_the_pictures_is_not_gone_on_with(data, assets):
    run = smoke("rotation", assets)
    few.measure(run, dataclasses.replace(data, source="another copy"), draws=1)
    assert json.loads(few.path(run).read_text())["source"] == "another copy"
    assert few.read(run).right.shape[1] == 1


def test_training_from_scratch_is_capped_and_drawn_by_the_number_of_the_draw(data, monkeypatch):
    asked = []
    fit = few.fit
    monkeypatch.setattr(few, "fit", lambda method, some, **given: asked.append(
        (given["seed"], given["epochs"], method.classifier.weight.clone())) or fit(method, some, **given))
    monkeypatch.setitem(few.STEPS, "smoke", 3)
    settings = recipes.recipe("supervised", "smoke")
    for draw in (0, 1):
        few.scratch(settings, data, 1, draw)
    monkeypatch.setattr(few, "EPOCHS", 2)
    few.scratch(settings, data, 1, 1)
    assert [(seed, epochs) for seed, epochs, _ in asked] == [(0, 3), (1, 3), (1, 2)]
    assert torch.equal(asked[1][2], asked[2][2]) and not torch.equal(asked[0][2], asked[1][2])
