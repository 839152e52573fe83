"""`setup`: it seeds, chooses, and says in one line what is not on this machine, without fetching it."""

import dataclasses

import pytest

import course_lib as cl
from course_lib.context import find_profile
from course_lib.data import public


@pytest.fixture
def laptop(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "laptop")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data"


def test_data_that_has_to_be_downloaded_is_said_and_not_downloaded(laptop, monkeypatch, capsys):
    monkeypatch.setattr(public, "fetch", None)  # calling it fails
    context = cl.setup()
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith("profile laptop (COURSE_PROFILE says so) · device ")
    assert said.rstrip().endswith(" · cifar10 is not here: a download of 170 MB, 3 minutes at 1 MB/s")
    assert (context.data, context.limit, context.profile) == ("cifar10", None, "laptop")
    assert not laptop.exists(), "setup writes nothing"


def test_data_that_is_here_needs_no_words(laptop, capsys):
    laptop.mkdir()
    (laptop / "cifar10-small.tar.xz").write_bytes(b"")
    assert cl.setup().data == "cifar10"
    assert "not here" not in capsys.readouterr().out


@pytest.mark.parametrize("data, size", [("stl10", "2,640 MB"), ("fashion_mnist", "31 MB")])
def test_a_notebook_chooses_its_data(laptop, capsys, data, size):
    assert cl.setup(data=data).data == data
    assert f"{data} is not here: a download of {size}" in capsys.readouterr().out


def test_data_that_is_no_public_set_is_passed_on(laptop, capsys):
    assert cl.setup(data="folder:~/pictures").data == "folder:~/pictures"
    assert "not here" not in capsys.readouterr().out


def test_smoke_works_on_a_little_of_toybox(laptop, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    context = cl.setup(seed=5, data="stl10")
    assert (context.data, context.limit, context.seed) == ("toybox", 1000, 5)
    assert "not here" not in capsys.readouterr().out


def test_the_profile_is_found_out(monkeypatch):
    monkeypatch.delenv("COURSE_PROFILE")
    for there, name in ((True, "gpu"), (False, "laptop")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert find_profile()[0] == name
    assert dataclasses.fields(cl.Context)[0].name == "device"
