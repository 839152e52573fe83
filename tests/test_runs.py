"""A run from recipe to files, the files read back, the tables made of them, and the command line around it all."""

import dataclasses
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import course_lib as cl
from course_lib import cli, recipes, runs, tables
from course_lib.cli import app
from course_lib.context import find_profile
from course_lib.data.types import Dataset, Images
from course_lib.methods import RotNet
from course_lib.recipes import NAMES, Recipe
from course_lib.runs import Run
from course_lib.train import History


@pytest.fixture(scope="module")
def data():
    return cl.load("toybox", limit=400)


@pytest.fixture(scope="module")
def assets(data, tmp_path_factory):
    """The files of four smoke runs."""
    folder = tmp_path_factory.mktemp("assets")
    for name in ("untrained_vit", "untrained_convnet", "rotation", "byol"):
        Run(name, "toybox", "smoke", assets=folder).train(data)
    return folder


def smoke(name, assets, seed=0):
    return Run(name, "toybox", "smoke", seed, assets)


def test_result_has_every_field(assets):
    found = smoke("rotation", assets).result
    assert (found["name"], found["data"], found["profile"], found["seed"]) == ("rotation", "toybox", "smoke", 0)
    assert found["recipe"]["method"] == "RotNet" and found["recipe"]["fit"]["epochs"] == 1
    assert found["pictures_seen"] == 360 // 64 * 64, "pretrain is train: val is never trained on"
    assert found["seconds"] > 0 and found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert set(found["measures"]) == set(found["untrained"]) >= {"knn_top1", "knn_top5", "linear_top1", "linear_top5",
                                                                 "rankme", "uniformity", "knn_val", "linear_val"}
    assert 0 <= found["measures"]["knn_top1"] <= found["measures"]["knn_top5"] <= 100
    assert len(found["curve"]["loss"]) == len(found["curve"]["epoch"]) == 5


@pytest.mark.parametrize(("by", "on", "measure"), [("knn", "val", "knn_val"), ("knn", "test", "knn_top1"),
                                                   ("linear", "val", "linear_val"), ("linear", "test", "linear_top1")])
def test_who_was_right_is_kept_and_its_mean_is_the_accuracy(by, on, measure, assets, data):
    bits = runs.right("rotation", by=by, on=on, data="toybox", profile="smoke", assets=assets)
    assert bits.dtype == torch.bool and bits.shape == (1, len(getattr(data, on)))
    assert 100 * bits.double().mean().item() == pytest.approx(
        smoke("rotation", assets).result["measures"][measure], abs=1e-3)
    assert torch.equal(bits[0], cl.evaluate(smoke("rotation", assets).encoder(), data).right[f"{by}_{on}"])


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000])
def test_bits_come_back_from_json_as_they_were(n):
    bits = torch.rand(n) < 0.5
    stored = json.loads(json.dumps(runs.packed(bits)))
    assert torch.equal(runs.unpacked(stored), bits)
    assert len(stored["bits"]) <= 4 * (n // 24 + 1), "eight in a byte, and three bytes in four letters"


def with_bits(folder, name, seeds, source="a"):
    """Results that hold nothing but who was right, one a seed."""
    for seed, right in enumerate(seeds):
        run = smoke(name, folder, seed)
        run.result_path.parent.mkdir(parents=True, exist_ok=True)
        bits = runs.packed(torch.tensor(right))
        run.result_path.write_text(json.dumps({
            "name": name, "seed": seed, "source": source, "recipe": {"fit": {"epochs": 1}}, "measures": {},
            "right": {"linear_val": bits, "linear_test": bits, "knn_val": bits, "knn_test": bits}}))


def test_runs_are_compared_over_all_their_seeds(tmp_path):
    draw = torch.Generator().manual_seed(0)
    rotation, byol = (torch.rand(3, 50, generator=draw) < p for p in (0.7, 0.5))
    with_bits(tmp_path, "rotation", rotation.tolist())
    with_bits(tmp_path, "byol", byol[:2].tolist())
    place = {"data": "toybox", "profile": "smoke", "assets": tmp_path}
    assert torch.equal(runs.right("rotation", **place), rotation)
    assert runs.compare("rotation", "byol", **place) == cl.evaluate.paired(rotation, byol[:2])
    assert runs.compare("rotation", "byol", **place).seeds == (3, 2)
    table = tables.comparison_table("byol", ("rotation",), **place)
    assert table.columns == ("encoder", "linear top-1 on val", "against BYOL", "seeds", "epochs")
    mean, spread = (100 * f(rotation.double().mean(1)).item() for f in (torch.mean, torch.std))
    difference = runs.compare("rotation", "byol", **place)
    cell = str(difference).replace(" points", "")
    assert table.rows[1] == ("rotation", f"{mean:.1f} ± {spread:.1f} %", cell, "3", "1")
    assert table.rows[0][0] == "BYOL" and table.rows[0][2:] == ("", "2", "1")
    assert "the spread between seeds is not counted" not in table.note and table.note in str(table)
    assert f"<p>{table.note}</p>" in table._repr_html_()
    with_bits(tmp_path, "vicreg", byol[:1].tolist())
    with_bits(tmp_path, "simclr", byol[:1].tolist())
    assert "the spread between seeds is not counted" in tables.comparison_table("vicreg", ("simclr",), **place).note
    on_test = tables.comparison_table("vicreg", ("simclr",), by="knn", on="test", **place)
    assert on_test.columns[1] == "kNN top-1 on test"


def test_what_cannot_be_compared_is_told(tmp_path):
    place = {"data": "toybox", "profile": "smoke", "assets": tmp_path}
    with_bits(tmp_path, "rotation", [[True, False]])
    with_bits(tmp_path, "byol", [[True, False]], source="b")
    with pytest.raises(ValueError, match="byol must be measured on the same pictures, got those of a and b: run"):
        runs.compare("rotation", "byol", **place)
    with pytest.raises(FileNotFoundError, match=r"there is no result .*course_lib run simclr --data toybox"):
        runs.compare("rotation", "simclr", **place)
    with pytest.raises(ValueError, match="there is no measure 'lineer': did you mean 'linear'"):
        runs.right("rotation", by="lineer", **place)
    with pytest.raises(ValueError, match="there is no part 'tset': did you mean 'test'"):
        runs.right("rotation", on="tset", **place)
    old = smoke("rotation", tmp_path).result | {"seed": 1, "right": {}}
    smoke("rotation", tmp_path, 1).result_path.write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"rotation on toybox, seed 1, does not say which pictures were classified "
                                         r"rightly: measure it anew with `python -m course_lib measure rotation"):
        runs.right("rotation", **place)
    with_bits(tmp_path, "mae", [[True, False], [True, False, True]])
    with pytest.raises(ValueError, match=r"seeds of mae were measured on different pictures, \[\('a', 2\), \('a', 3"):
        runs.right("mae", **place)


def test_the_seed_is_in_every_path(data, tmp_path, assets):
    paths = {seed: [getattr(smoke("rotation", tmp_path, seed), f"{part}_path") for part in (
        "result", "encoder", "heads", "resume")] for seed in (0, 1)}
    assert len({*paths[0], *paths[1]}) == 8
    other = smoke("rotation", assets, seed=1)
    first = smoke("rotation", assets).result
    second = other.train(data)
    assert smoke("rotation", assets).result == first and second["seed"] == 1
    assert second["files"]["encoder"]["sha256"] != first["files"]["encoder"]["sha256"]
    assert second["untrained"] != first["untrained"], "the floor is the same encoder untrained, of the same seed"
    for path in (other.result_path, other.encoder_path, other.heads_path):
        path.unlink()


def test_the_untrained_measures_are_those_of_the_baseline(assets, data, tmp_path):
    known, floor = smoke("rotation", assets).result, smoke("untrained_convnet", assets).result["measures"]
    assert known["untrained"] == floor != known["measures"]
    alone = smoke("rotation", tmp_path).train(data)  # no baseline there, so it is measured
    assert alone["untrained"] == floor
    elsewhere = dataclasses.replace(data, source="another copy")
    wrong = json.loads(smoke("untrained_convnet", assets).result_path.read_text()) | {"measures": {"linear_top1": 1.0}}
    path = smoke("untrained_convnet", tmp_path).result_path
    for odd in ({"source": "another copy"}, {"architecture": "another"}, {"seed": 1}):
        path.write_text(json.dumps(wrong | odd))
        assert smoke("rotation", tmp_path).measure(data)["untrained"] == floor, "a floor of something else is none"
    with pytest.raises(ValueError, match="rotation was measured on toybox, and these pictures come from another copy"):
        smoke("rotation", tmp_path).measure(elsewhere)


def test_weights_are_float16_with_their_names_and_hashes(assets):
    run = smoke("rotation", assets)
    for part, path in (("encoder", run.encoder_path), ("heads", run.heads_path)):
        kept = run.result["files"][part]
        assert assets / kept["path"] == path
        assert hashlib.sha256(path.read_bytes()).hexdigest() == kept["sha256"]
        state = load_file(path)
        assert {v.dtype for v in state.values() if v.is_floating_point()} == {torch.float16}
    assert set(load_file(run.encoder_path)) == set(recipes.build_encoder(run.settings).state_dict())
    assert set(load_file(run.heads_path)) == {"classifier.weight", "classifier.bias"}
    assert smoke("untrained_vit", assets).result["files"] == {}, "an untrained encoder is built, not kept"


@pytest.mark.parametrize("name", ["rotation", "untrained_convnet"])
def test_whoever_loads_the_encoder_measures_the_same(name, assets, data):
    encoder = smoke(name, assets).encoder()
    assert not encoder.training
    assert runs.rounded(cl.evaluate(encoder, data).measures) == smoke(name, assets).result["measures"]


@pytest.fixture(scope="module")
def small():
    return cl.load("toybox", limit=200)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in recipes.BASELINES])
def test_a_method_comes_back_from_disk_as_it_was(name, small, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "evaluate", lambda *_, **__: cl.Report("none", {}, {}))
    run = smoke(name, tmp_path)
    result = run.train(small)
    method = run.method()
    assert not method.training
    assert runs.held_out(method, small, result["recipe"]["fit"]["batch_size"]) == result["pretext"]


def test_a_method_of_other_classes_than_ten_comes_back(tmp_path):
    x = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8)
    some = Images(x, torch.arange(64) % 4, tuple("abcd"))
    mine = Dataset("folder:/home/me/birds", some.without_labels(), some, some, some)
    run = Run("supervised", mine.name, "smoke", assets=tmp_path)
    run.train(mine)
    assert run.method().classifier.out_features == 4
    assert [r["name"] for r in runs.results(mine.name, "smoke", tmp_path)] == ["supervised"]
    assert run.result["recipe"]["fit"]["batch_size"] == 64


def test_few_pictures_make_a_smaller_batch_and_pictures_without_classes_are_not_measured(tmp_path):
    plain = Images(torch.randint(256, (20, 3, 32, 32), dtype=torch.uint8))
    result = Run("simclr", "folder:mine", "smoke", assets=tmp_path).train(Dataset("folder:mine", *[plain] * 4))
    assert result["recipe"]["fit"]["batch_size"] == 20 and result["measures"] == {} and result["pretext"]["loss"] > 0


@pytest.fixture
def lean(assets, tmp_path):
    """A copy of the results and weights there are, to take some away."""
    shutil.copytree(assets, tmp_path / "assets")
    return tmp_path / "assets"


def shipping(monkeypatch, **parts):
    monkeypatch.setattr(runs, "ships", lambda name: parts.get(name, ()))


def test_what_is_not_shipped_is_deleted_and_its_result_stays(lean, data, monkeypatch):
    shipping(monkeypatch, byol=("encoder",), rotation=("encoder", "heads"))
    second = smoke("rotation", lean, seed=1)
    for path, first in ((second.encoder_path, smoke("rotation", lean).encoder_path),
                        (second.heads_path, smoke("rotation", lean).heads_path)):
        shutil.copy(first, path)
    result = smoke("rotation", lean).result
    names = {"encoder": second.encoder_path, "heads": second.heads_path}
    files = {part: file | {"path": names[part].relative_to(lean).as_posix()} for part, file in result["files"].items()}
    second.result_path.write_text(json.dumps(result | {"seed": 1, "files": files}))
    stray = smoke("rotation", lean).encoder_path.with_name("nobodys.safetensors")
    stray.write_bytes(b"")
    measures = {path: json.loads(path.read_text())["measures"] for path in lean.glob("results/*/*.json")}

    gone = runs.prune(lean)
    assert set(gone) == {stray, second.encoder_path, second.heads_path, smoke("byol", lean).heads_path}
    assert not any(path.exists() for path in gone) and runs.prune(lean) == []
    assert {path: json.loads(path.read_text())["measures"] for path in measures} == measures
    assert smoke("rotation", lean).method() and smoke("byol", lean).encoder() and second.result["files"] == {}
    with pytest.raises(FileNotFoundError, match="the heads of byol on toybox is not kept, only encoder: train it anew "
                                                "with `python -m course_lib run byol"):
        smoke("byol", lean).method()
    with pytest.raises(FileNotFoundError, match="the encoder of rotation on toybox is not kept, only its result alone"):
        second.encoder()


def test_weights_that_are_not_kept_are_trained_where_a_lesson_wants_them(lean, data, monkeypatch):
    short_rotation(monkeypatch)
    kept = smoke("rotation", lean)
    laptop = Run("rotation", "toybox", "laptop", assets=lean)
    for path in (laptop.result_path, laptop.encoder_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    laptop.train(data)
    trained = []
    monkeypatch.setattr(runs, "train_recipe", lambda *args: trained.append(1) or (cl.methods.RotNet(
        recipes.tiny_convnet()), History(), None))
    place = {"data": data, "profile": "laptop", "assets": lean}
    shipping(monkeypatch, rotation=("encoder",))
    runs.prune(lean)
    state = runs.encoder_for("rotation", **place)[0].state_dict()
    assert not trained and all(torch.equal(value, state[key]) for key, value in laptop.encoder().state_dict().items())
    runs.train_or_load("rotation", **place)
    assert len(trained) == 1, "the heads are gone"
    runs.encoder_for("rotation", **place, train=True)
    shipping(monkeypatch)
    runs.prune(lean)
    runs.encoder_for("rotation", **place)
    assert len(trained) == 3 and not kept.has("encoder")
    assert runs.encoder_for("untrained_convnet", **place)[1].pictures == 0 and len(trained) == 3


def test_the_course_ships_what_its_recipes_say_and_no_more(tmp_path):
    results = [runs.read_result(path) for path in sorted(runs.ASSETS.glob("results/*/*.json"))]
    kept = {(r["name"], r["data"], r["seed"]): tuple(r["files"]) for r in results}
    wanted = {key: tuple(recipes.ships(key[0])) if key[2] == 0 else () for key in kept}
    assert {key: kept[key] for key in kept if not set(kept[key]) <= set(wanted[key])} == {}, "run `prune`"
    named = {file["path"] for r in results for file in r["files"].values()}
    there = {path.relative_to(runs.ASSETS).as_posix() for path in runs.ASSETS.glob("checkpoints/*/*")}
    assert there == named, "every file of weights belongs to a result"
    weight = sum(path.stat().st_size for path in runs.ASSETS.rglob("*") if path.is_file() and "runs" not in path.parts)
    assert weight <= 40e6, f"assets weigh {weight / 1e6:.1f} MB"


def short_rotation(monkeypatch):
    """A laptop's recipe that takes a second."""
    short = Recipe("rotation", RotNet, fit={"laptop": {"epochs": 0.5, "batch_size": 64}})
    monkeypatch.setitem(recipes.RECIPES, "rotation", short)
    monkeypatch.setitem(recipes.base.BACKBONES["convnet"], "laptop", recipes.tiny_convnet)


def test_train_or_load_prefers_what_is_shipped_outside_smoke(data, tmp_path, monkeypatch):
    short_rotation(monkeypatch)
    first, history = runs.train_or_load("rotation", data, "laptop", assets=tmp_path)
    assert [log["step"] for log in history.logs] == [0, 1], "without a result it should train"
    Run("rotation", "toybox", assets=tmp_path).train(data)
    loaded, shipped = runs.train_or_load("rotation", data, "laptop", assets=tmp_path)
    torch.testing.assert_close(loaded.classifier.weight, first.classifier.weight, atol=1e-3, rtol=1e-3)
    assert shipped["accuracy"] == pytest.approx(history["accuracy"], abs=1e-5)
    assert shipped["loss"] == pytest.approx(history["loss"], abs=1e-5) and shipped.pictures == history.pictures
    assert not loaded.training and not first.training
    for again in ({"train": True, "profile": "laptop"}, {"profile": "smoke"}):
        assert "step" in runs.train_or_load("rotation", data, assets=tmp_path, **again)[1].logs[0]


def test_measuring_anew_restores_the_measures_and_keeps_the_rest(assets, data):
    run = smoke("rotation", assets)
    before = run.result
    run.result_path.write_text(json.dumps(before | {"measures": {"linear_top1": 99.9}, "untrained": {}}))
    assert run.measure(data) == before == run.result
    with pytest.raises(FileNotFoundError, match=r"there is no result .*course_lib run simclr --data toybox --profile"):
        smoke("simclr", assets).measure(data)


def test_a_killed_run_goes_on_and_leaves_nothing_behind(data, tmp_path, monkeypatch, assets):
    def killed(*_, **__):
        raise KeyboardInterrupt

    run = smoke("rotation", tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "_measures", killed)
        run.train(data)
    assert run.resume_path.exists() and not run.exists
    assert run.train(data)["files"]["encoder"]["sha256"] == smoke("rotation", assets).result["files"]["encoder"][
        "sha256"], "the resumed run should end with the same weights"
    assert not run.resume_path.exists()


def test_a_second_run_of_the_same_name_says_so_and_stops(data, tmp_path):
    run = smoke("rotation", tmp_path)
    with runs.claim(run.resume_path), pytest.raises(ValueError, match=r"rotation-toybox-smoke-seed0\.pt is in use by"):
        run.train(data)
    with runs.claim(run.resume_path):
        smoke("untrained_vit", tmp_path).train(data)  # another name goes on


def test_weights_that_break_after_the_last_step_or_in_float16_touch_nothing(data, tmp_path, assets, monkeypatch):
    run = smoke("rotation", tmp_path)
    run.train(data)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.suffix in (".json", ".safetensors")}
    fit = runs.fit
    for value in (float("nan"), 1e6):  # the second is finite in float32 alone
        def broken(method, *args, value=value, **kwargs):
            history = fit(method, *args, **kwargs)
            with torch.no_grad():
                method.classifier.bias.fill_(value)
            return history

        monkeypatch.setattr(runs, "fit", broken)
        with pytest.raises(FloatingPointError, match=r"classifier\.bias is not finite"):
            run.train(data)
        run.resume_path.unlink()
        assert {path: path.read_bytes() for path in before} == before


def test_a_disk_that_is_full_between_two_files_leaves_all_as_they_were(data, tmp_path):
    run = smoke("rotation", tmp_path)
    run.train(data)
    before = {path: path.read_bytes() for path in (run.result_path, run.encoder_path, run.heads_path)}
    assert len(before[run.heads_path]) < 3000 < len(before[run.encoder_path])
    script = textwrap.dedent(f"""
        import resource, signal
        from pathlib import Path
        import course_lib as cl
        from course_lib import runs
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        keep = runs.Run._keep
        def little_room(self, *args):
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
            keep(self, *args)
        runs.Run._keep = little_room
        try:
            runs.Run("rotation", "toybox", "smoke", assets=Path({str(tmp_path)!r})).train(cl.load("toybox", limit=400))
        except OSError as error:
            print("one sentence:", error)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert "one sentence: " in done.stdout and "cannot write" in done.stdout
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_that_is_killed_while_it_trains_goes_on(tmp_path):
    script = textwrap.dedent(f"""
        from pathlib import Path
        import course_lib as cl
        from course_lib import runs, train
        train.fit.__kwdefaults__["save_every"] = 0.0
        run = runs.Run("rotation", "toybox", "smoke", assets=Path({str(tmp_path)!r}))
        print(run.train(cl.load("toybox", limit=400))["files"]["encoder"]["sha256"])
    """)
    whole = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    run = smoke("rotation", tmp_path)
    run.result_path.unlink()
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        for _ in iter(lambda: not run.resume_path.exists() and child.poll() is None, False):
            pass
        child.send_signal(signal.SIGKILL)
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert again.stdout == whole.stdout


# reading what is wrong

def test_checkpoint_of_another_architecture(assets):
    path = smoke("rotation", assets).encoder_path
    with pytest.raises(ValueError, match=r"checkpoint of another architecture than this ConvNet: .* there and .* here"):
        runs.load_weights(cl.nets.convnet((8, 8, 8), 16), path)
    with pytest.raises(ValueError, match="another architecture than this ViT: it lacks"):
        runs.load_weights(cl.nets.vit(dim=16, depth=1), path)


def test_checkpoint_that_is_cut_altered_or_missing(assets, tmp_path):
    path = smoke("rotation", assets).encoder_path
    whole = path.read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        runs.load_weights(cl.nets.convnet(), tmp_path / "short.safetensors")
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ValueError, match=r"is not the file that its result was measured from \(its sha256 differs"):
            smoke("rotation", assets).encoder()
        path.unlink()
        with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*python -m course_lib run"):
            smoke("rotation", assets).encoder()
    finally:
        path.write_bytes(whole)


def test_a_checkpoint_of_whole_numbers_is_refused(tmp_path):
    net = cl.nets.convnet((8,), 16)
    state = {k: v.to(torch.int32) if v.ndim == 4 else v for k, v in net.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "whole.safetensors")
    with pytest.raises(ValueError, match=r"is torch\.int32 there and torch\.float32 here"):
        runs.load_weights(net, tmp_path / "whole.safetensors")


def test_a_broken_result_is_named(assets, tmp_path):
    run = smoke("rotation", tmp_path)
    run.result_path.parent.mkdir(parents=True)
    run.result_path.write_text('{"name": "rot')
    for read in (lambda: run.result, lambda: runs.results("toybox", "smoke", tmp_path)):
        with pytest.raises(ValueError, match=r"rotation-seed0\.json is no whole result"):
            read()


def test_what_was_logged_at_some_steps_alone_is_kept_where_it_was(tmp_path, monkeypatch):
    logs = [{"step": i, "epoch": i / 4, "lr": 1.0, "loss": float(i)} for i in range(4)]
    logs = [log | ({"odd": 1.0} if log["step"] % 2 else {}) for log in logs]
    curve = runs.thin(runs.History(logs, 1.0, 4))
    assert curve == {"epoch": [0.0, 0.25, 0.5, 0.75], "loss": [0.0, 1.0, 2.0, 3.0], "odd": [None, 1.0, None, 1.0]}
    monkeypatch.setattr(Run, "result", {"curve": curve, "seconds": 1.0, "pictures_seen": 4})
    assert smoke("rotation", tmp_path).history["odd"] == [1.0, 1.0]


def test_what_a_method_learned_is_tried_on_pictures_it_has_not_seen(assets, data):
    found = smoke("rotation", assets).result["pretext"]
    assert set(found) == {"loss", "accuracy"} and 0 <= found["accuracy"] <= 1
    assert smoke("untrained_convnet", assets).result["pretext"] == {}
    method = smoke("rotation", assets).method()
    seen = []
    method.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    runs.held_out(method, data, 20)
    shown = torch.cat([batch.x for batch in seen])
    assert len(shown) == len(data.val) == 40 and all(batch.index is None and batch.y is None for batch in seen)
    assert torch.equal(shown.flatten(1).long().sum(1).sort().values, data.val.x.flatten(1).long().sum(1).sort().values)


def test_a_method_that_remembers_pictures_is_tried_on_those(data):
    class Remembers(RotNet):
        remembers_pictures = True

        def loss(self, batch):
            assert torch.equal(batch.x, data.pretrain.x[batch.index])
            return super().loss(batch)

    assert runs.held_out(Remembers(recipes.tiny_convnet()), data, 64)["loss"] > 0


class Bank(RotNet):
    """A method that remembers something for each picture, which is too much to ship."""

    remembers_pictures = True
    not_shipped = ("bank",)

    def __init__(self, encoder, **options):
        super().__init__(encoder, **options)
        self.register_buffer("bank", torch.zeros(400))

    def loss(self, batch):
        return super().loss(batch) | {"remembered": self.bank[batch.index].mean()}

    def after_step(self, progress):
        self.bank.fill_(1.0)


def test_what_is_not_shipped_is_measured_as_training_left_it(data, tmp_path, monkeypatch):
    monkeypatch.setattr(cl.methods, "Bank", Bank, raising=False)
    monkeypatch.setitem(recipes.RECIPES, "rotation", Recipe("rotation", Bank, fit={"laptop": {"epochs": 1}}))
    run = smoke("rotation", tmp_path)
    assert run.train(data)["pretext"]["remembered"] == 1.0
    assert not [name for name in load_file(run.heads_path) if name.startswith("bank")]
    assert run.method().bank.sum() == 0


def test_trying_a_method_repeats_itself_and_leaves_its_mode(data):
    method = recipes.build_method(recipes.recipe("rotation", "smoke")).train()
    with torch.no_grad():
        method.classifier.weight.mul_(100)  # so that the fourth digit tells one view from another
    first = runs.held_out(method, data, 20)
    torch.manual_seed(77)
    assert runs.held_out(method, data, 20) == first != runs.held_out(method, data, 20, seed=1)
    assert all(module.training for module in method.modules())


def test_every_part_of_a_run_is_drawn_by_its_seed(data, monkeypatch):
    monkeypatch.setattr(runs, "fit", lambda *_, **__: runs.History())
    settings = recipes.recipe("rotation", "smoke")
    drawn = [runs.train_recipe(settings, data, seed)[0].classifier.weight for seed in (0, 1, 1)]
    assert torch.equal(drawn[1], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_an_untrained_encoder_is_not_trained_or_loaded_as_a_method(data, tmp_path):
    with pytest.raises(ValueError, match="raw_pixels is measured as it is and has nothing to train: take Run"):
        runs.train_or_load("raw_pixels", data, "smoke", assets=tmp_path)


def test_an_encoder_has_one_name_for_all_that_are_built_alike():
    small, same, other = cl.nets.convnet((8,), 16), cl.nets.convnet((8,), 16), cl.nets.convnet((8,), 24)
    assert runs.architecture(small) == runs.architecture(same) != runs.architecture(other)
    assert runs.architecture(cl.nets.Enlarged(small, 2)) != runs.architecture(cl.nets.Enlarged(small, 3))
    small.stem[0].padding_mode = "reflect"  # what torch keeps in its modules may change from version to version
    assert runs.architecture(small) == runs.architecture(same)


def test_a_method_of_clips_is_also_measured_by_what_it_follows(data, tmp_path):
    found = smoke("video_color", tmp_path).train(data)["pretext"]
    assert set(found) == {"loss", "accuracy", "J", "F", "copy_J", "copy_F"}
    assert 0 < found["J"] < 1


# what is shipped

SHIPPED = sorted(runs.ASSETS.glob("results/*/*.json"))


def test_shipped_results_are_of_todays_recipes():
    for path in SHIPPED:
        found = json.loads(path.read_text())
        today = json.loads(json.dumps(dataclasses.asdict(recipes.recipe(found["name"], found["profile"]))))
        from_data = {"classes": found["recipe"]["options"].get("classes")} if "classes" in found["recipe"][
            "options"] else {}
        today["options"] |= from_data
        assert found["recipe"] == today, f"{path.name} was made by another recipe: run it again"


def test_every_shipped_result_reads_back():
    for path in SHIPPED:
        found = json.loads(path.read_text())
        run = Run(found["name"], found["data"], found["profile"], found["seed"])
        assert run.result_path == path
        for part in found["files"].values():
            file = runs.ASSETS / part["path"]
            assert hashlib.sha256(file.read_bytes()).hexdigest() == part["sha256"], path.name
            assert file.stat().st_size < 16e6, f"{file.name} is too large to ship"


@pytest.mark.parametrize("name", ["simclr", "mae", "split_brain", "supervised", "inpainting"])
def test_shipped_methods_load(name):
    method = Run(name).method()
    assert type(method).__name__ == recipes.recipe(name).method and not method.training


# tables

def test_results_table_sorts_and_formats(assets, monkeypatch):
    table = tables.results_table("toybox", "smoke", assets=assets)
    first = sorted(("untrained ViT", "untrained convnet"), key=lambda title: linear(assets, title))
    assert [row[0] for row in table.rows[:2]] == first
    assert {row[0] for row in table.rows[2:]} == {"rotation", "BYOL"}
    for row in table.rows[2:]:
        found = smoke(row[0].lower(), assets).result
        above = runs.compare(row[0].lower(), "untrained_convnet", on="test", data="toybox", profile="smoke",
                             assets=assets)
        gain = found["measures"]["linear_top1"] - found["untrained"]["linear_top1"]
        assert above.points == pytest.approx(gain, abs=1e-2)
        assert row[1] == f"{found['measures']['linear_top1']:.1f} %"
        assert row[2] == f"{above.points:+.1f} ({above.low:.1f} to {above.high:.1f})"
    assert str(table).count("\n") == 5 and "<table>" in table._repr_html_()
    assert table.note == ""


def test_a_result_from_before_val_was_set_apart_is_marked_and_has_no_interval(assets, tmp_path):
    folder = tmp_path / "results" / "toybox-smoke"
    folder.mkdir(parents=True)
    for name in ("rotation", "byol", "untrained_convnet"):
        found = smoke(name, assets).result
        if name != "byol":
            del found["right"]
        (folder / f"{name}-seed0.json").write_text(json.dumps(found))
    supervised = smoke("rotation", assets).result | {"name": "supervised", "recipe": dataclasses.asdict(
        recipes.recipe("supervised", "smoke"))}
    del supervised["right"]
    (folder / "supervised-seed0.json").write_text(json.dumps(supervised))
    table = tables.results_table("toybox", "smoke", assets=tmp_path)
    rows = {row[0]: row for row in table.rows}
    assert set(rows) == {"untrained convnet", "rotation †", "BYOL", "supervised (all labels)"}
    assert re.fullmatch(r"[+-]\d+\.\d", rows["rotation †"][2]) and re.fullmatch(r"[+-]\d+\.\d", rows["BYOL"][2])
    assert str(table).endswith("|\n\n† trained before val was set apart, so on val's pictures too")


def test_measuring_anew_does_not_wash_an_old_training_clean(assets, data):
    run = smoke("rotation", assets)
    whole = run.result
    run.result_path.write_text(json.dumps({key: value for key, value in whole.items() if key != "right"}))
    try:
        for _ in range(2):
            anew = run.measure(data)
            assert anew["right"] == whole["right"] and runs.saw_val(anew) and not runs.saw_val(whole)
    finally:
        run.result_path.write_text(json.dumps(whole))


def linear(assets, title):
    names = {title: name for name, title in recipes.TITLES.items()}
    return smoke(names[title], assets).result["measures"]["linear_top1"]


def a_course(folder, assets, shown):
    """A README and two notebooks that show a table, one of them wrongly."""
    (folder / "README.md").write_text("before\n<!-- table: results -->\nold\n<!-- end table -->\nafter\n")
    (folder / "assets").symlink_to(assets)
    (folder / "notebooks").mkdir()
    source = '# table\ncl.tables.results_table("toybox", "smoke",\n    names=("byol", "untrained_vit"))'
    for name, text in {"right": str(shown), "wrong": str(shown).replace("%", "percent")}.items():
        output = {"output_type": "execute_result", "data": {"text/html": shown._repr_html_(), "text/plain": text}}
        cell = {"cell_type": "code", "source": source.splitlines(keepends=True), "outputs": [output]}
        (folder / "notebooks" / f"{name}.ipynb").write_text(json.dumps({"cells": [cell]}))


@pytest.fixture
def course(assets, tmp_path, monkeypatch):
    shown = tables.results_table("toybox", "smoke", names=("byol", "untrained_vit"), assets=assets)
    assert len(shown.rows) == 2
    a_course(tmp_path, assets, shown)
    make = tables.results_table
    monkeypatch.setattr(tables, "results_table", lambda *args, **given: make(*args, **given) if args else shown)
    return tmp_path, shown


def test_tables_are_filled_and_disagreement_is_found(course):
    root, shown = course
    old = (root / "README.md").read_text()
    assert tables.fill(root, write=False) == ["README.md: results", "notebooks/wrong.ipynb"]
    assert (root / "README.md").read_text() == old
    assert tables.fill(root) == ["README.md: results", "notebooks/wrong.ipynb"]
    assert (root / "README.md").read_text() == (
        f"before\n<!-- table: results -->\n{shown}\n<!-- end table -->\nafter\n")
    assert tables.fill(root) == []


def test_a_comparison_is_made_anew_too_and_another_call_is_told(assets, tmp_path):
    (tmp_path / "README.md").write_text("no table\n")
    (tmp_path / "assets").symlink_to(assets)
    (tmp_path / "notebooks").mkdir()
    book = tmp_path / "notebooks" / "one.ipynb"

    def write(call):
        output = {"output_type": "execute_result", "data": {"text/html": "old", "text/plain": "old"}}
        cell = {"cell_type": "code", "source": ["# table\n", call], "outputs": [output]}
        book.write_text(json.dumps({"cells": [cell]}))

    write('cl.tables.comparison_table("untrained_convnet", ("rotation",), on="val", data="toybox", profile="smoke")')
    assert tables.fill(tmp_path) == ["notebooks/one.ipynb"] and tables.fill(tmp_path) == []
    shown = tables.comparison_table("untrained_convnet", ("rotation",), data="toybox", profile="smoke", assets=assets)
    (output,) = json.loads(book.read_text())["cells"][0]["outputs"]
    assert "".join(output["data"]["text/plain"]) == str(shown)
    write("display(3)")
    with pytest.raises(ValueError, match=r"one\.ipynb: a cell that begins with `# table` must end with a call of "
                                         r"results_table or comparison_table, got display"):
        tables.fill(tmp_path)


@pytest.mark.parametrize("text", [
    "<!-- table: results -->\nold\n\nmuch that is written by hand\n",
    "<!-- table: results -->\n<!-- table: results -->\n<!-- end table -->\n",
    "<!-- end table -->\n", "<!-- table: resluts -->\n<!-- end table -->\n"])
def test_marks_that_do_not_pair_are_refused_and_nothing_is_written(course, text):
    root, _ = course
    before = {path: path.read_text() for path in root.glob("notebooks/*")}
    (root / "README.md").write_text(text)
    with pytest.raises(ValueError, match=r"README\.md has <!-- .* --> where it does not fit: write"):
        tables.fill(root)
    assert (root / "README.md").read_text() == text and {path: path.read_text() for path in before} == before


def test_the_projects_own_tables_agree_with_their_files():
    assert tables.fill(runs.ASSETS.parent, write=False) == [], "run `python -m course_lib tables`"


def test_a_table_is_of_the_first_seed(assets, data):
    other = smoke("rotation", assets, seed=1)
    before = str(tables.results_table("toybox", "smoke", assets=assets))
    other.train(data)
    assert str(tables.results_table("toybox", "smoke", assets=assets)) == before
    for path in (other.result_path, other.encoder_path, other.heads_path):
        path.unlink()


# command line

def invoke(command, *arguments, assets):
    return CliRunner().invoke(app, [command, *arguments, "--data", "toybox", "--assets", str(assets)])


def test_measure_takes_baselines_first_and_all_by_default(assets, data, monkeypatch):
    order = []
    monkeypatch.setattr(cli, "load", lambda *_, **given: data if given["limit"] == 1000 else pytest.fail("not smoke's"))
    monkeypatch.setattr(Run, "measure", lambda self, _: order.append(self.name) or self.result)
    done = invoke("measure", "--profile", "smoke", assets=assets)
    assert done.exit_code == 0, done.output
    assert order == ["untrained_convnet", "untrained_vit", "byol", "rotation"]
    order.clear()
    assert invoke("measure", "byol", "--profile", "smoke", assets=assets).exit_code == 0 and order == ["byol"]


@pytest.mark.parametrize("arguments", [["--profile", "smkoe"], ["byoll", "--profile", "smoke"],
                                       ["vicreg", "--profile", "smoke"]])
def test_measure_of_nothing_is_told(arguments, assets):
    done = invoke("measure", *arguments, assets=assets)
    assert done.exit_code == 1 and re.search("did you mean|there is no such result", done.output)


def test_run_writes_files_and_says_what_it_measured(tmp_path):
    done = invoke("run", "rotation", "--profile", "smoke", assets=tmp_path)
    assert done.exit_code == 0, done.output
    assert re.search(r"rotation \(seed 0\) {2}\d+ s {2}knn_top1 \d", done.output)
    assert sorted(p.name for p in tmp_path.rglob("*.*") if p.suffix != ".lock") == [
        "rotation-seed0-heads.safetensors", "rotation-seed0.json", "rotation-seed0.safetensors"]


def test_run_trains_every_seed_that_is_wanted(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(Run, "train", lambda self, _: trained.append((self.name, self.seed)) or {
        "name": self.name, "seed": self.seed, "seconds": 0, "measures": {}})
    monkeypatch.setattr(recipes, "seeds", lambda name: range(2))
    assert invoke("run", "rotation", "mae", "--profile", "smoke", assets=tmp_path).exit_code == 0
    assert trained == [("rotation", 0), ("rotation", 1), ("mae", 0), ("mae", 1)]
    trained.clear()
    invoke("run", "rotation", "--profile", "smoke", "--seed", "5", assets=tmp_path)
    assert trained == [("rotation", 5)]


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
    monkeypatch.setattr(tables, "fill", lambda root, write: ["README.md: results"])
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
