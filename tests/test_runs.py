"""A run from recipe to files, the files read back, the tables made of them, and the command line around it all."""

import dataclasses
import errno
import hashlib
import json
import re

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import course_lib as cl
from course_lib import cli, recipes, runs, tables
from course_lib.cli import app
from course_lib.context import find_profile


@pytest.fixture(scope="module")
def data():
    return cl.load("toybox", limit=400)


@pytest.fixture(scope="module")
def assets(data, tmp_path_factory):
    """The files of four smoke runs."""
    folder = tmp_path_factory.mktemp("assets")
    for name in ("untrained_vit", "untrained_convnet", "rotation", "byol"):
        runs.run(name, data, "smoke", assets=folder)
    return folder


def result(assets, name):
    return json.loads((assets / "results" / "toybox-smoke" / f"{name}.json").read_text())


def test_result_has_every_field(assets):
    found = result(assets, "rotation")
    assert found["name"] == "rotation" and found["data"] == "toybox" and found["profile"] == "smoke"
    assert found["recipe"]["method"] == "RotNet" and found["recipe"]["fit"]["epochs"] == 1
    assert found["pictures_seen"] == 400 // 64 * 64
    assert found["seconds"] > 0 and found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert set(found["measures"]) == set(found["untrained"]) >= {"knn_top1", "knn_top5", "linear_top1", "linear_top5",
                                                                 "rankme", "uniformity"}
    assert 0 <= found["measures"]["knn_top1"] <= found["measures"]["knn_top5"] <= 100
    assert len(found["curve"]["loss"]) == len(found["curve"]["epoch"]) == 6


def test_the_untrained_measures_are_those_of_the_baseline(assets):
    assert result(assets, "rotation")["untrained"] == result(assets, "untrained_convnet")["measures"]
    assert result(assets, "rotation")["measures"] != result(assets, "rotation")["untrained"]


def test_checkpoint_is_float16_with_the_encoders_keys_and_its_hash(assets, data):
    found = result(assets, "rotation")
    path = assets / found["checkpoint"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == found["sha256"]
    state = load_file(path)
    assert set(state) == set(recipes.build_encoder(recipes.recipe("rotation", "smoke")).state_dict())
    assert {v.dtype for v in state.values() if v.is_floating_point()} == {torch.float16}


def test_whoever_loads_the_checkpoint_measures_the_same(assets, data):
    encoder = runs.load_encoder("rotation", "toybox", "smoke", assets=assets)
    measures = cl.evaluate(encoder, data).measures
    assert {k: round(float(v), 3) for k, v in measures.items()} == result(assets, "rotation")["measures"]


def test_load_method_brings_the_heads_back(assets):
    method = runs.load_method("byol", "toybox", "smoke", assets=assets)
    fresh = recipes.build_method(recipes.recipe("byol", "smoke"))
    heads = load_file(assets / "checkpoints" / "toybox-smoke" / "byol-heads.safetensors")
    assert heads and not any(k.startswith(("encoder.", "teacher.")) for k in heads)
    for name, value in heads.items():
        torch.testing.assert_close(method.state_dict()[name], value.to(method.state_dict()[name].dtype))
    assert not torch.equal(method.projector[0].weight, fresh.projector[0].weight)
    assert not method.training


def test_train_or_load_prefers_shipped_weights_outside_smoke(data, tmp_path, monkeypatch):
    short = recipes.Recipe("RotNet", "convnet_tiny", {}, {"epochs": 0.5, "batch_size": 64})
    monkeypatch.setattr(runs, "recipe", lambda *_: short)
    monkeypatch.setattr(runs, "untrained_measures", lambda *_: {})
    first, history = runs.train_or_load("rotation", data, "laptop", assets=tmp_path)
    assert [log["step"] for log in history.logs] == [0, 1, 2], "without a checkpoint it should train"
    runs.run("rotation", data, "laptop", assets=tmp_path)
    loaded, shipped = runs.train_or_load("rotation", data, "laptop", assets=tmp_path)
    torch.testing.assert_close(loaded.classifier.weight, first.classifier.weight, atol=1e-3, rtol=1e-3)
    assert shipped["accuracy"] == pytest.approx(history["accuracy"], abs=1e-5)
    assert shipped["loss"] == pytest.approx(history["loss"], abs=1e-5) and shipped.pictures == history.pictures
    for again in ({"train": True, "profile": "laptop"}, {"profile": "smoke"}):
        assert "step" in runs.train_or_load("rotation", data, assets=tmp_path, **again)[1].logs[0]


def test_measuring_anew_restores_the_measures_and_keeps_the_rest(assets, data):
    path = runs.files("rotation", "toybox", "smoke", assets=assets).result
    before = result(assets, "rotation")
    path.write_text(json.dumps(before | {"measures": {"linear_top1": 99.9}, "untrained": {}, "protocol": {}}))
    assert runs.measure("rotation", data, "smoke", assets=assets) == before == result(assets, "rotation")
    with pytest.raises(FileNotFoundError, match=r"there is no result .*course_lib run simclr --data toybox --profile"):
        runs.measure("simclr", data, "smoke", assets=assets)


def test_a_data_set_of_ones_own_is_found_where_it_was_written(data, tmp_path):
    mine = dataclasses.replace(data, name="folder:/home/me/birds")
    wrote = runs.run("untrained_convnet", mine, "smoke", assets=tmp_path)
    assert runs.results(mine.name, "smoke", tmp_path) == [wrote]
    assert runs.load_result("untrained_convnet", mine.name, "smoke", assets=tmp_path) == wrote
    runs.load_encoder("untrained_convnet", mine.name, "smoke", assets=tmp_path)


def test_a_killed_run_goes_on_and_leaves_nothing_behind(data, tmp_path, monkeypatch, assets):
    def killed(*_, **__):
        raise KeyboardInterrupt

    resume = runs.files("rotation", "toybox", "smoke", assets=tmp_path).resume
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs, "_measured", killed)
        runs.run("rotation", data, "smoke", assets=tmp_path)
    assert resume.exists()
    found = runs.run("rotation", data, "smoke", assets=tmp_path)
    assert found["sha256"] == result(assets, "rotation")["sha256"], "the resumed run should end with the same weights"
    assert not resume.exists()


def test_checkpoint_of_another_architecture(assets):
    with pytest.raises(ValueError, match=r"checkpoint of another architecture than this ConvNet: .* there and .* here"):
        runs.load_weights(cl.nets.convnet((8, 8, 8), 16), assets / "checkpoints/toybox-smoke/rotation.safetensors")
    with pytest.raises(ValueError, match="another architecture than this ViT: it lacks"):
        runs.load_weights(cl.nets.vit(dim=16, depth=1), assets / "checkpoints/toybox-smoke/rotation.safetensors")


def test_checkpoint_cut_short_or_missing(assets, tmp_path):
    whole = (assets / "checkpoints/toybox-smoke/rotation.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        runs.load_weights(cl.nets.convnet(), tmp_path / "short.safetensors")
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*python -m course_lib run"):
        runs.load_encoder("simclr", "toybox", "laptop", assets=tmp_path)


def test_full_disk_while_saving_leaves_no_half_written_result(data, tmp_path, monkeypatch):
    def full(path, write):
        raise OSError(errno.ENOSPC, f"cannot write {path}: the disk is full")

    monkeypatch.setattr(runs, "write_text", full)
    with pytest.raises(OSError, match="the disk is full"):
        runs.run("untrained_vit", data, "smoke", assets=tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_what_a_method_learned_is_tried_on_pictures_it_has_not_seen(assets, data):
    found = result(assets, "rotation")["pretext"]
    assert set(found) == {"loss", "accuracy"} and 0 <= found["accuracy"] <= 1
    assert result(assets, "untrained_convnet")["pretext"] == {}
    method = recipes.build_method(recipes.recipe("rotation", "smoke"))
    assert runs.held_out(method, data, 64) == runs.held_out(method, data, 64), "nothing random may be left in it"
    trained = runs.load_method("rotation", "toybox", "smoke", assets=assets)
    assert runs.held_out(trained, data, 64)["accuracy"] == pytest.approx(found["accuracy"], abs=0.01)


def test_a_method_of_clips_is_also_measured_by_what_it_follows(data, tmp_path):
    found = runs.run("video_color", data, "smoke", assets=tmp_path)["pretext"]
    assert set(found) == {"loss", "accuracy", "J", "F", "copy_J", "copy_F"}
    assert 0 < found["J"] < 1


def test_shipped_results_are_of_todays_recipes():
    for path in runs.ASSETS.glob("results/*/*.json"):
        found = json.loads(path.read_text())
        today = recipes.recipe(found["name"], found["profile"])
        assert found["recipe"] == {"method": today.method, "encoder": today.encoder, "options": dict(today.options),
                                   "fit": dict(today.fit)}, f"{path.name} was made by another recipe: run it again"


# tables

def test_results_table_sorts_and_formats(assets, monkeypatch):
    table = tables.results_table("toybox", "smoke", assets=assets)
    first = sorted(("untrained ViT", "untrained convnet"), key=lambda title: linear(assets, title))
    assert [row[0] for row in table.rows[:2]] == first
    assert {row[0] for row in table.rows[2:]} == {"rotation", "BYOL"}
    for row in table.rows[2:]:
        found = result(assets, row[0].lower())
        gain = found["measures"]["linear_top1"] - found["untrained"]["linear_top1"]
        assert row[1] == f"{found['measures']['linear_top1']:.1f} %" and row[2] == f"{gain:+.1f}"
    assert str(table).count("\n") == 5 and "<table>" in table._repr_html_()


def linear(assets, title):
    names = {title: name for name, title in recipes.TITLES.items()}
    return result(assets, names[title])["measures"]["linear_top1"]


def test_readme_is_filled_and_disagreement_is_found(assets, tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("before\n<!-- table: results -->\nold\n<!-- end table -->\nafter\n")
    shown = tables.results_table("toybox", "smoke", assets=assets)
    monkeypatch.setattr(tables, "results_table", lambda **_: shown)
    assert tables.fill_readme(tmp_path, write=False) == ["results"]
    assert "old" in (tmp_path / "README.md").read_text()
    assert tables.fill_readme(tmp_path) == ["results"]
    assert (tmp_path / "README.md").read_text() == (
        f"before\n<!-- table: results -->\n{shown}\n<!-- end table -->\nafter\n")
    assert tables.fill_readme(tmp_path) == []


def test_notebook_table_that_differs_from_its_files_is_found(assets, tmp_path):
    shown = tables.results_table("toybox", "smoke", names=("byol", "untrained_vit"), assets=assets)
    assert len(shown.rows) == 2
    (tmp_path / "assets").symlink_to(assets)
    (tmp_path / "notebooks").mkdir()
    source = '# table\ncl.tables.results_table("toybox", "smoke",\n    names=("byol", "untrained_vit"))'
    for name, text in {"right": str(shown), "wrong": str(shown).replace("%", "percent")}.items():
        output = {"output_type": "execute_result", "data": {"text/html": shown._repr_html_(), "text/plain": text}}
        cell = {"cell_type": "code", "source": source.splitlines(keepends=True), "outputs": [output]}
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert tables.fill_notebooks(tmp_path, write=False) == ["notebooks/wrong.ipynb"]
    assert tables.fill_notebooks(tmp_path) == ["notebooks/wrong.ipynb"]
    assert tables.fill_notebooks(tmp_path) == []


def test_the_projects_own_tables_agree_with_their_files():
    root = runs.ASSETS.parent
    assert tables.fill_readme(root, write=False) == [], "run `python -m course_lib tables`"
    assert tables.fill_notebooks(root, write=False) == [], "run `python -m course_lib tables`"


def test_every_shipped_checkpoint_has_the_hash_of_its_result():
    for path in runs.ASSETS.glob("results/*/*.json"):
        found = json.loads(path.read_text())
        if found["checkpoint"]:
            checkpoint = runs.ASSETS / found["checkpoint"]
            assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() == found["sha256"], path.name
            assert checkpoint.stat().st_size < 16e6, f"{checkpoint.name} is too large to ship"


# command line

def test_measure_takes_baselines_first_and_all_by_default(assets, data, monkeypatch):
    order = []
    monkeypatch.setattr(cli, "load", lambda *_, **__: data)
    monkeypatch.setattr(runs, "measure", lambda name, *_, **__: order.append(name) or result(assets, name))
    done = CliRunner().invoke(app, ["measure", "--data", "toybox", "--profile", "smoke", "--assets", str(assets)])
    assert done.exit_code == 0, done.output
    assert order == ["untrained_convnet", "untrained_vit", "byol", "rotation"]


def test_run_writes_files_and_says_what_it_measured(tmp_path):
    arguments = ["run", "rotation", "--data", "toybox", "--profile", "smoke", "--assets", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert re.search(r"rotation {2}\d+ s {2}knn_top1 \d", done.output)
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["rotation-heads.safetensors", "rotation.json",
                                                             "rotation.safetensors"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["run", "simcrl"], "there is no method 'simcrl': did you mean 'simclr'?"),
    (["run", "simclr", "--profile", "lapotp"], "there is no profile 'lapotp': did you mean 'laptop'?"),
    (["run", "simclr", "--data", "cifar11", "--profile", "smoke"],
     'no data set is called "cifar11": did you mean "cifar10"?'),
    (["data", "toyboxx"], 'did you mean "toybox"?'),
])
def test_a_wrong_name_is_one_sentence_with_the_nearest_right_one(arguments, message):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert message in done.output and "Traceback" not in done.output


def test_doctor_says_what_the_machine_is():
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
    for word in ("torch", "device", "memory", "profile", "cifar10", "toybox"):
        assert re.search(rf"^{word} ", done.output, re.MULTILINE), f"{word} is missing in\n{done.output}"


def test_tables_check_fails_where_tables_disagree(monkeypatch):
    monkeypatch.setattr(tables, "fill_readme", lambda root, write: ["results"])
    monkeypatch.setattr(tables, "fill_notebooks", lambda root, write: [])
    done = CliRunner().invoke(app, ["tables", "--check"])
    assert done.exit_code == 1 and "README.md: results differs from its files" in done.output


# profiles

def test_profile_by_variable_and_by_machine(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "gpu")
    assert find_profile() == ("gpu", "COURSE_PROFILE says so")
    monkeypatch.delenv("COURSE_PROFILE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_profile()[0] == "laptop"
    monkeypatch.setenv("COURSE_PROFILE", "fast")
    with pytest.raises(ValueError, match="COURSE_PROFILE must be one of smoke, laptop, gpu, got 'fast'"):
        find_profile()


def test_setup_seeds_everything_and_prints_one_line(capsys):
    import random

    import numpy as np

    draws = []
    for _ in range(2):
        context = cl.setup(seed=4)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    assert context.profile == "smoke" and context.data == "toybox" and context.seed == 4
    assert len(capsys.readouterr().out.strip().splitlines()) == 2
