"""How long recipes train: what is timed, what is written, and what tables make of it."""

import json

import pytest
from typer.testing import CliRunner

import course_lib as cl
from course_lib import cli, recipes, tables, timing
from course_lib.cli import app
from course_lib.runs import Run
from course_lib.train import History


@pytest.fixture(scope="module")
def data():
    return cl.load("toybox", size=32, limit=1000)


class Clock:
    """A fit that takes so many seconds a picture, and much more for the first round."""

    def __init__(self, each):
        self.each, self.seen, self.epochs = each, None, None

    def __call__(self, method, images, *, epochs, batch_size, callbacks, **_):
        self.seen, self.epochs, seconds = len(images), epochs, 0.0
        for epoch in range(epochs):
            seconds += len(images) * self.each * (100 if epoch == 0 else 1)
            callbacks[0](method, History([], seconds, 0))


def test_the_first_round_does_not_count(data, monkeypatch):
    monkeypatch.setattr(timing, "fit", clock := Clock(0.002))
    assert timing.seconds("rotation", data, "smoke") == pytest.approx(0.002)
    assert clock.seen == timing.STEPS * recipes.recipe("rotation", "smoke").fit["batch_size"]


def test_what_has_no_training_or_too_few_pictures_is_told(data):
    with pytest.raises(ValueError, match="raw_pixels is measured as it is, so there is no training to time"):
        timing.seconds("raw_pixels", data, "smoke")
    small = cl.data.Dataset("small", *(data.pretrain[:100], data.train[:100], data.val, data.test))
    with pytest.raises(ValueError, match="a round takes 256 pictures, got 100: give a larger data set"):
        timing.seconds("rotation", small, "smoke")


def test_tables_take_the_minutes_of_the_times_and_not_those_of_a_busy_machine(data, tmp_path, monkeypatch):
    run = Run("rotation", "toybox", "smoke", assets=tmp_path)
    result = run.train(data)
    place = {"data": "toybox", "profile": "smoke", "assets": tmp_path}
    assert "minutes" not in tables.results_table(**place).columns
    monkeypatch.setattr(timing, "fit", Clock(0.0301))
    found = timing.measure(["rotation"], data, "smoke", assets=tmp_path)
    assert found == json.loads(timing.path("smoke", tmp_path).read_text()) and found["seconds"] == {"rotation": 0.0301}
    table = tables.results_table(**place)
    assert dict(zip(table.columns, table.rows[0], strict=True))["minutes"] == (
        f"{0.0301 * result['pictures_seen'] / 60:.1f}")
    assert "timed in one go with 1 thread (" in table.note and f"products in {found['precision']}" in table.note
    monkeypatch.setattr(timing, "fit", Clock(0.0301))
    timing.measure(["simclr"], data, "smoke", assets=tmp_path)
    assert dict(zip(table.columns, tables.results_table(**place).rows[0], strict=True))["minutes"] == "", (
        "times of another go are not mixed in")


def test_the_command_times_all_that_train(data, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "load", lambda *_, **__: data)
    monkeypatch.setattr(timing, "seconds", lambda name, *_: 0.001)
    done = CliRunner().invoke(app, ["time", "--data", "toybox", "--profile", "smoke", "--assets", str(tmp_path)])
    assert done.exit_code == 0, done.output
    trained = [name for name in recipes.NAMES if name not in recipes.BASELINES]
    assert list(timing.read("smoke", tmp_path)["seconds"]) == trained
    assert done.output.count("1 ms a picture") == len(trained)
    wrong = CliRunner().invoke(app, ["time", "simcrl", "--profile", "smoke", "--assets", str(tmp_path)])
    assert wrong.exit_code == 1 and "did you mean 'simclr'" in wrong.output


@pytest.mark.parametrize(("name", "pictures"), [("rotation", 300), ("video_color", 1500)])
def test_steps_are_really_timed(name, pictures):
    assert 0 < timing.seconds(name, cl.load("toybox", size=32, limit=pictures), "smoke") < 60
