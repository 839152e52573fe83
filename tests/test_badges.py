"""One address, shown in many places: every place follows it, and nothing else changes."""

import json
import resource
import signal

import pytest

from course_lib.badges import badge_markdown, clone_cell, is_placeholder, repository, rewrite_badges

OLD, NEW = "https://github.com/OWNER/ssl-course", "https://github.com/some-one/my.course"
PATH = "notebooks/00_start_here.ipynb"


def project(root, address):
    """A small project under `root` that shows `address` in every place there is."""
    (root / "notebooks" / "solutions").mkdir(parents=True)
    (root / "pyproject.toml").write_text(f'[project]\nname = "x"\n\n[project.urls]\nRepository = "{address}"\n')
    (root / "README.md").write_text(
        f"git clone {address} course && cd course\n{badge_markdown(PATH, address)}\n"
        "Compare https://github.com/others/library and `git clone` in general.\n")
    for path in (PATH, "notebooks/solutions/00_start_here.ipynb"):
        cells = [{"cell_type": "markdown", "metadata": {}, "source": f"# Où? τ\n{badge_markdown(path, address)}"},
                 {"cell_type": "code", "metadata": {}, "source": clone_cell(address).splitlines(keepends=True)}]
        text = json.dumps({"cells": cells, "nbformat": 4}, indent=1, ensure_ascii=False) + "\n"
        (root / path).write_text(text, encoding="utf-8")
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_new_address_reaches_every_place_and_changes_nothing_else(tmp_path):
    project(tmp_path / "moved", OLD)
    changed = rewrite_badges(tmp_path / "moved", NEW)
    wanted = project(tmp_path / "wanted", NEW)
    assert len(changed) == len(wanted) == 4
    for path, text in wanted.items():
        assert (tmp_path / "moved" / path.relative_to(tmp_path / "wanted")).read_bytes() == text
    assert repository(tmp_path / "moved") == NEW
    assert rewrite_badges(tmp_path / "moved", NEW) == []


def test_without_an_address_every_place_follows_pyproject(tmp_path):
    project(tmp_path, OLD)
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace(OLD, NEW))
    assert [path.name for path in rewrite_badges(tmp_path)] == ["README.md", *["00_start_here.ipynb"] * 2]
    assert badge_markdown(PATH, NEW) in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("written", [NEW, f"{NEW}/", f"{NEW}.git", f" {NEW}\n"])
def test_an_address_may_be_pasted_as_git_or_a_browser_gives_it(tmp_path, written):
    project(tmp_path, OLD)
    rewrite_badges(tmp_path, written)
    assert repository(tmp_path) == NEW


@pytest.mark.parametrize("wrong", [
    "", "some-one/my.course", "git@github.com:some-one/my.course.git", "https://gitlab.com/some-one/my.course",
    "https://github.com/some-one", "https://github.com/some-one/my.course/tree/main", 'https://github.com/a/b"'])
def test_another_kind_of_address_is_refused_and_nothing_is_written(tmp_path, wrong):
    before = project(tmp_path, OLD)
    with pytest.raises(ValueError, match=r"wanted the address of a GitHub repository.*got.*write it as"):
        rewrite_badges(tmp_path, wrong)
    assert all(path.read_bytes() == text for path, text in before.items())


def test_a_pyproject_without_an_address_is_named(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(ValueError, match=r"wanted one line `Repository.*pyproject\.toml, found none: keep one"):
        repository(tmp_path)


def test_two_addresses_in_pyproject_are_refused(tmp_path):
    project(tmp_path, OLD)
    with open(tmp_path / "pyproject.toml", "a") as file:
        file.write(f'Repository = "{NEW}"\n')
    with pytest.raises(ValueError, match=r"wanted one line `Repository.*pyproject\.toml, found 2: keep one"):
        repository(tmp_path)


@pytest.mark.parametrize(("name", "old", "new", "message"), [
    ("pyproject.toml", b"Repository", b"Homepage", r"wanted one line `Repository.*found none: keep one"),
    ("README.md", b"OWNER/ssl-course/blob", b"OWNER/blob", r"wanted .*OWNER/NAME/blob/.* in .*README\.md, got 'https"),
    (PATH, b"OWNER/ssl-course/blob", b"/ssl-course/blob", r"wanted .*OWNER/NAME/blob/.*00_start_here.*mend that link"),
    (PATH, "τ".encode(), b"\xff", r"wanted UTF-8 text in .*00_start_here\.ipynb, got other bytes at \d+: save it as"),
])
def test_odd_input_is_one_sentence_and_nothing_is_written(tmp_path, name, old, new, message):
    project(tmp_path, OLD)
    text = (tmp_path / name).read_bytes()
    assert old in text
    (tmp_path / name).write_bytes(text.replace(old, new))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=message):
        rewrite_badges(tmp_path, NEW)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_full_disk_cuts_no_file_and_a_second_call_does_the_rest(tmp_path):
    """The limit on file sizes stands in for a disk that fills up while the README is written."""
    old = project(tmp_path, OLD)
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text() + "A long story.\n" * 2000)
    long = readme.read_bytes()
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*README\.md: "):
            rewrite_badges(tmp_path, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert readme.read_bytes() == long
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(old), "something was left behind"
    assert [path.name for path in rewrite_badges(tmp_path)] == ["README.md", *["00_start_here.ipynb"] * 2]
    assert NEW in readme.read_text() and OLD not in readme.read_text()


def test_line_ends_stay_as_they_are(tmp_path):
    project(tmp_path, OLD)
    readme = tmp_path / "README.md"
    readme.write_bytes(readme.read_bytes().replace(b"\n", b"\r\n"))
    rewrite_badges(tmp_path, NEW)
    assert readme.read_bytes().count(b"\r\n") == readme.read_bytes().count(b"\n") == 3


def test_an_address_nobody_has_set_is_recognised():
    assert is_placeholder(OLD)
    assert not is_placeholder(NEW)
