"""Films on disk: what the short trainings see, what is measured, and what is kept."""

import json

import pytest
import torch
from typer.testing import CliRunner

import course_lib as cl
from course_lib import cli, films
from course_lib.data import toybox
from course_lib.evaluate import region_similarity


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    """One seed, of trainings of a single step."""
    folder = tmp_path_factory.mktemp("assets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(films.SIZES, "smoke", (32, 1, 8, 9))
        asked = CliRunner().invoke(cli.app, ["films", "--profile", "smoke", "--seed", "0", "--assets", str(folder)])
        assert asked.exit_code == 0, asked.output
    return folder


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(films.SIZES, "smoke", (32, 1, 8, 9))


def stored(assets):
    return json.loads(films.path("smoke", 0, assets).read_text())


def test_frames_of_many_films_are_all_of_different_films():
    clips = toybox.clips(20)
    mixed = films.strangers(clips).x
    assert mixed.shape == clips.x.shape
    for i in range(20):
        of = [[j for j in range(20) if torch.equal(mixed[i, t], clips.x[j, t])] for t in range(8)]
        assert all(len(found) == 1 for found in of) and len({found[0] for found in of}) == 8
    for t in range(8):
        assert len({mixed[i, t].numpy().tobytes() for i in range(20)}) == 20, "no frame is lost"
    with pytest.raises(ValueError, match="clips of 8 frames of different films need at least as many films, got 7"):
        films.strangers(toybox.clips(7))


def test_clips_that_stand_still_show_their_first_frame():
    clips = toybox.clips(3)
    still = films.KINDS["standing still"](clips).x
    assert all(torch.equal(still[:, t], clips.x[:, 0]) for t in range(8))


def test_fitting_statistics_changes_no_weight():
    method = cl.recipes.build_method(cl.recipes.recipe("video_color", "smoke")).eval()
    fitted = films.statistics_fitted(method, toybox.clips(40))
    changed = {key for key, value in fitted.state_dict().items() if not torch.equal(value, method.state_dict()[key])}
    assert changed and all("running_" in key or "num_batches" in key for key in changed)
    assert not fitted.training


def test_J_is_that_of_tracking_at_each_temperature():
    method = cl.recipes.build_method(cl.recipes.recipe("video_color", "smoke")).eval()
    clips = toybox.clips(34)
    found = films.J_at(method.embed, clips, (0, 0.03), radius=100)
    assert found.shape == (2, 34, 7)
    for row, options in zip(found, ({"topk": 1}, {"temperature": 0.03}), strict=True):
        masks = method.track(clips.x, clips.masks[:, 0], radius=100, **options)
        torch.testing.assert_close(row, region_similarity(masks[:, 1:], clips.masks[:, 1:]))


def test_what_is_kept_is_what_was_measured(assets):
    networks = stored(assets)["networks"]
    assert list(networks) == ["untrained", "untrained, statistics fitted", "films", "standing still",
                              "frames of many films"]
    assert [len(one["loss"]) for one in networks.values()] == [0, 0, 1, 1, 1]
    untrained = cl.recipes.build_method(cl.recipes.recipe("video_color", "smoke")).eval()
    for radius in films.WINDOWS:
        found = networks["untrained"]["windows"][str(radius)]
        curve = films.J_at(untrained.embed, toybox.clips(8, seed=3), films.TEMPERATURES, radius=radius).mean((1, 2))
        assert found["curve"] == pytest.approx(curve.tolist(), abs=1e-4)
        assert found["temperature"] == films.TEMPERATURES[curve.argmax()]
        own, usual = films.J_at(untrained.embed, toybox.clips(9, seed=2), (found["temperature"], 0.07),
                                radius=radius).mean(2).tolist()
        assert found["J"] == pytest.approx(own, abs=1e-4) and found["J_usual"] == pytest.approx(usual, abs=1e-4)


def test_a_killed_one_goes_on_and_other_settings_begin_anew(assets, small, monkeypatch):
    file, made = films.path("smoke", 0, assets), []
    whole, fit = stored(assets), films.fit
    monkeypatch.setattr(films, "fit", lambda *a, **k: made.append(1) or fit(*a, **k))
    films.measure("smoke", 0, assets=assets)
    assert not made and stored(assets) == whole
    part = dict(list(whole["networks"].items())[:4])
    file.write_text(json.dumps({**whole, "networks": part}))
    films.measure("smoke", 0, assets=assets)
    assert len(made) == 1 and stored(assets) == whole, "the same as if it had not been killed"
    file.write_text(json.dumps({**whole, "temperatures": [0, 1]}))
    films.measure("smoke", 0, assets=assets)
    assert len(made) == 4 and stored(assets) == whole


def test_all_whole_seeds_are_read(assets, tmp_path, monkeypatch):
    whole = stored(assets)
    for seed in (0, 2):
        place = films.path("laptop", seed, tmp_path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(whole))
    place.with_name("seed1.json").write_text(json.dumps({**whole, "networks": {"films": whole["networks"]["films"]}}))
    found = films.followed("laptop", assets=tmp_path)
    assert len(found["films"].loss) == 2 and found["untrained"].loss == []
    assert found["films"].J[8].shape == found["films"].J_usual[100].shape == (2, 9)
    assert found["films"].curves[100].shape == (2, len(films.TEMPERATURES))
    assert len(found["standing still"].temperatures[8]) == 2
    assert cl.evaluate.paired_scores(found["films"].J[8], found["untrained"].J[8]).seeds == (2, 2)


def test_in_smoke_two_seeds_are_made_now_and_elsewhere_the_command_is_named(small, tmp_path):
    assert films.followed("smoke", assets=tmp_path)["films"].J[8].shape == (2, 9)
    with pytest.raises(FileNotFoundError, match="make it with `python -m course_lib films --profile laptop`"):
        films.followed("laptop", assets=tmp_path)
    with pytest.raises(ValueError, match="made in smoke, laptop, got gpu"):
        films.measure("gpu", 0, assets=tmp_path)
