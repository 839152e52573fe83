"""Stages on disk: what is measured and kept, and that any two runs can be compared by it."""

import json

import pytest
import torch
from typer.testing import CliRunner

import course_lib as cl
from course_lib import cli, runs, stages
from course_lib.runs import Run


@pytest.fixture(scope="module")
def data():
    return cl.load("toybox", limit=400)


@pytest.fixture(scope="module")
def assets(data, tmp_path_factory):
    """A trained run and its floor, both with their stages, of two seeds."""
    folder = tmp_path_factory.mktemp("assets")
    for name in ("rotation", "untrained_convnet"):
        for seed in (0, 1):
            Run(name, "toybox", "smoke", seed, folder).train(data)
            stages.measure(Run(name, "toybox", "smoke", seed, folder), data)
    return folder


def smoke(name, assets, seed=0):
    return Run(name, "toybox", "smoke", seed, assets)


def test_what_is_read_is_what_the_encoder_gives(assets, data):
    for name in ("rotation", "untrained_convnet"):
        for seed in (0, 1):
            found = stages.read(smoke(name, assets, seed))
            direct = cl.evaluate.stages_right(smoke(name, assets, seed).encoder(), data)
            assert list(found) == list(direct) == [f"stage {i}" for i in (1, 2, 3, 4)]
            assert all(torch.equal(found[stage], direct[stage]) and len(found[stage]) == 40 for stage in found)


def test_it_is_no_result_of_its_own_and_prune_leaves_it(assets):
    assert stages.path(smoke("rotation", assets)).exists()
    assert {r["name"] for r in runs.results("toybox", "smoke", assets)} == {"rotation", "untrained_convnet"}
    stored = json.loads(stages.path(smoke("rotation", assets)).read_text())
    assert stored["on"] == "val" and stored["pictures"] == [len(cl.load("toybox", limit=400).train), 40]
    assert stored["weights"] == smoke("rotation", assets).result["files"]["encoder"]["sha256"]


def test_a_file_of_the_same_weights_is_kept_and_others_are_measured_anew(assets, data, monkeypatch):
    asked, made = [], stages.stages_right
    monkeypatch.setattr(stages, "stages_right", lambda *a, **k: asked.append(1) or made(*a, **k))
    run = smoke("rotation", assets)
    before = stages.measure(run, data)
    assert not asked
    stored = json.loads(stages.path(run).read_text())
    stages.path(run).write_text(json.dumps(stored | {"weights": "those of another training"}))
    after = stages.measure(run, data)
    assert len(asked) == 1 and all(torch.equal(before[stage], after[stage]) for stage in before)


def test_all_seeds_that_are_there_are_read_and_in_smoke_one_is_measured_now(data, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "encoder_for", lambda *a, **k: pytest.fail("there are files to read"))
    for seed, bits in ((0, [True, False]), (2, [True, True])):
        place = stages.path(Run("untrained_convnet", "toybox", "laptop", seed, tmp_path))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({"right": {"stage 1": runs.packed(torch.tensor(bits))}}))
    read = stages.right("untrained_convnet", data, "laptop", assets=tmp_path)
    assert read["stage 1"].tolist() == [[True, False], [True, True]]
    monkeypatch.undo()
    now = stages.right("untrained_convnet", data, "smoke", assets=tmp_path)
    assert {stage: tuple(r.shape) for stage, r in now.items()} == {f"stage {i}": (1, 40) for i in (1, 2, 3, 4)}


def test_stages_of_two_runs_are_compared(assets, data):
    right = {name: torch.stack([stages.read(smoke(name, assets, seed))["stage 4"] for seed in (0, 1)])
             for name in ("rotation", "untrained_convnet")}
    assert cl.evaluate.paired(*right.values()).seeds == (2, 2)


def test_what_is_not_there_is_told(tmp_path, data, assets):
    with pytest.raises(FileNotFoundError, match=r"there is no .*stages.rotation-seed0\.json: make it with `python -m "
                                                r"course_lib stages rotation --data toybox --profile smoke`"):
        stages.read(smoke("rotation", tmp_path))
    with pytest.raises(FileNotFoundError, match=r"there is no result .*course_lib run rotation"):
        stages.measure(smoke("rotation", tmp_path), data)
    with pytest.raises(ValueError, match="did you mean 'rotation'"):
        stages.right("rotatoin", data, "smoke")


def test_weights_that_were_deleted_cannot_be_measured(data, tmp_path):
    Run("rotation", "toybox", "smoke", 1, tmp_path).train(data)
    runs.prune(tmp_path)
    with pytest.raises(FileNotFoundError, match="the encoder of rotation on toybox is not kept"):
        stages.measure(smoke("rotation", tmp_path, 1), data)


def test_the_command(data, assets, monkeypatch):
    monkeypatch.setattr(cli, "load", lambda *_, **__: data)
    done = CliRunner().invoke(cli.app, ["stages", "rotation", "untrained_convnet", "--data", "toybox", "--profile",
                                        "smoke", "--seed", "0", "--assets", str(assets)])
    assert done.exit_code == 0, done.output
    assert done.output.count("(seed 0)  stage 1 ") == 2
    wrong = CliRunner().invoke(cli.app, ["stages", "rotatoin", "--profile", "smoke"])
    assert wrong.exit_code == 1 and "did you mean 'rotation'" in wrong.output
