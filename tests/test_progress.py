"""Bars show where it takes long, count rightly, and cost nothing where it does not."""

import pytest

from course_lib import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand, and bars that are not silenced."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    return now


@pytest.fixture
def made(monkeypatch):
    bars, tqdm = [], progress.tqdm
    monkeypatch.setattr(progress, "tqdm", lambda *args, **given: bars.append(tqdm(*args, **given)) or bars[-1])
    return bars


def test_what_is_over_before_its_delay_makes_no_bar(clock, made, capsys):
    assert list(progress.bar(range(3), delay=5.0)) == [0, 1, 2]
    with progress.bar(total=2, delay=5.0) as steps:
        steps.update()
        assert steps.n == 1 and steps.total == 2
    assert not made and capsys.readouterr().err == ""


def test_what_takes_longer_shows_how_far_it_is(clock, made, capsys):
    for i in progress.bar(range(10), desc="long", delay=5.0):
        clock[0] += 1.0
        if i == 6:
            assert made[0].n == 6 and made[0].total == 10
    assert len(made) == 1 and made[0].n == 10 and "long" in capsys.readouterr().err


@pytest.mark.parametrize("delay", [0.0, 1e-9])
def test_one_switch_silences_every_bar(monkeypatch, capsys, delay):
    for value, silent in (("1", True), ("true", True), ("0", False), ("", False)):
        monkeypatch.setenv("TQDM_DISABLE", value)
        list(progress.bar(range(3), desc="seen", delay=delay))
        assert ("seen" not in capsys.readouterr().err) == silent, value
    monkeypatch.delenv("TQDM_DISABLE")
    list(progress.bar(range(3), desc="seen", delay=delay, quiet=True))
    assert capsys.readouterr().err == ""
