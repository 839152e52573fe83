"""`load`: names that were meant otherwise, paths, and what happens where a public set cannot be had."""

import dataclasses
from pathlib import Path

import pytest
from data_helpers import assert_same, class_folders, pack

from course_lib.data import DataUnavailable, load, public


@pytest.mark.parametrize(
    "name, nearest",
    [
        ("cifar-10", "cifar10"),
        ("CIFAR10", "cifar10"),
        ("CIFAR-10", "cifar10"),
        ("Fashion MNIST", "fashion_mnist"),
        ("STL_10", "stl10"),
        ("stl", "stl10"),
        ("fashionmnist", "fashion_mnist"),
        ("Toybox", "toybox"),
        ("folder", "folder:PATH"),
        ("", '(?!folder:")'),
    ],
)
def test_an_unknown_name_offers_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f'no data set is called "{name}": did you mean "{nearest}') as caught:
        load(name)
    assert "toybox, cifar10, stl10, fashion_mnist, folder:PATH, archive:PATH" in str(caught.value)


@pytest.mark.parametrize("what", ["size", "limit"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "32"])
def test_sizes_and_limits_are_whole_numbers(what, value):
    with pytest.raises(ValueError, match=f"{what} must be a whole number of at least 1, got {value!r}"):
        load("cifar10", **{what: value})


def test_a_path_is_told_how_it_is_named(tmp_path):
    folder = class_folders(tmp_path / "set", 3, parts=("",))
    archive = pack(folder, tmp_path / "set.tar.gz")
    for path, kind in ((folder, "folder"), (archive, "archive")):
        with pytest.raises(TypeError, match=rf'a data set has a name, got .*: .* write load\("{kind}:{path}"\)'):
            load(path)
        with pytest.raises(ValueError, match=f'did you mean "{kind}:{path}"'):
            load(str(path))


def test_a_tilde_in_a_path_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = class_folders(tmp_path / "set", 4, parts=("",))
    pack(folder, tmp_path / "set.tar")
    for kind, name in (("folder", "set"), ("archive", "set.tar")):
        assert_same(load(f"{kind}:~/{name}"), load(f"{kind}:{tmp_path / name}"))
        assert not Path("~").exists()


# ---- where a public set cannot be had ------------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """CIFAR-10 with mirrors that nobody answers for, and folders that hold nothing."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = dataclasses.replace(public.CIFAR10.files[0], urls=("http://127.0.0.1:9/a", "http://127.0.0.1:9/b"))
    monkeypatch.setitem(public.PUBLIC, "cifar10", dataclasses.replace(public.CIFAR10, files=(file,)))
    return tmp_path / "data"


def test_without_a_fallback_it_is_an_error_that_says_what_to_do(offline):
    with pytest.raises(DataUnavailable, match="cannot load cifar10; tried") as caught:
        load("cifar10", limit=50)
    assert "Without a network: put cifar-10-python.tar.gz, or an archive" in str(caught.value)


def test_the_fallback_is_toybox_and_one_line_says_so(offline, capsys):
    data = load("cifar10", size=16, limit=50, seed=3, fallback="toybox")
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    for words in ("cifar10 cannot be had here", str(offline), "none of 2 mirrors gave cifar-10-python.tar.gz",
                  "refused", "Toybox instead"):
        assert words in said
    assert data.name == "toybox"
    assert_same(data, load("toybox", size=16, limit=50, seed=3))


def test_the_fallback_is_silent_where_the_set_is_here(offline, tmp_path, monkeypatch, capsys):
    spec = dataclasses.replace(public.CIFAR10, name="tints", classes=("red", "green", "blue"))
    monkeypatch.setitem(public.PUBLIC, "tints", spec)
    offline.mkdir()
    pack(class_folders(tmp_path / "set", {"train": 3, "test": 2}), offline / "tints-small.tar")
    assert load("tints", fallback="toybox").classes == ("red", "green", "blue")
    assert load("tints", fallback="toybox", root=tmp_path / "elsewhere").name == "toybox", "root comes first"
    capsys.readouterr()
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "elsewhere"))
    assert load("tints", fallback="toybox", root=offline).classes == ("red", "green", "blue")
    assert capsys.readouterr().out == ""


def test_a_fallback_hides_no_other_mistake(offline, tmp_path):
    with pytest.raises(ValueError, match="no data set is called"):
        load("cifar", fallback="toybox")
    with pytest.raises(FileNotFoundError, match="check the path"):
        load(f"folder:{tmp_path / 'nowhere'}", fallback="toybox")
    with pytest.raises(ValueError, match=r"fallback must be .* or None, got 'cifar10': only"):
        load("stl10", fallback="cifar10")
