"""The repository's address, wherever it is shown: Colab badges, the notebooks' clone cells, the README's clone command.

`pyproject.toml` holds the address, under `[project.urls]`. `rewrite_badges` brings every other place into line.
"""

from __future__ import annotations

import re
from pathlib import Path

COLAB = "https://colab.research.google.com"
PLACEHOLDER = "https://github.com/OWNER/"

# The last line is needed because a kernel that is already running does not notice an editable install.
CLONE_CELL = """\
# On Colab: fetch the course and install it. Anywhere else this cell does nothing.
import sys
from importlib.util import find_spec

if "google.colab" in sys.modules and find_spec("course_lib") is None:
    !git clone --quiet --depth 1 {address} /content/course
    %pip install --quiet --editable "/content/course[viz]"
    sys.path.insert(0, "/content/course")"""

_ADDRESS = re.compile(r"https://github\.com/([\w-][\w.-]*/[\w.-]*[\w-])")
_IN_PYPROJECT = re.compile(r'^(Repository = ")([^"]*)(")', re.MULTILINE)
_IN_BADGE = re.compile(rf"({re.escape(COLAB)}/github/)[\w.-]+/[\w.-]+(/blob/)")
_IN_CLONE = re.compile(r"(git clone (?:-\S+ (?:\d+ )?)*)https://github\.com/[\w.-]+/[\w.-]+")


def repository(root: str | Path) -> str:
    """The address in `root/pyproject.toml`, such as `https://github.com/OWNER/ssl-course`.

    Raises ValueError where there is none, or where it is no address of a GitHub repository.
    """
    found = _IN_PYPROJECT.search((Path(root) / "pyproject.toml").read_text(encoding="utf-8"))
    if not found:
        raise ValueError(f"wanted a line `Repository = \"https://github.com/…\"` in {Path(root) / 'pyproject.toml'}, "
                         "found none: add it under [project.urls]")
    return checked_address(found[2])


def checked_address(address: str) -> str:
    """The address without a closing `/` or `.git`. Raises ValueError where it is no GitHub repository's."""
    plain = address.strip().removesuffix("/").removesuffix(".git")
    if not _ADDRESS.fullmatch(plain):
        raise ValueError(f"wanted the address of a GitHub repository (Colab opens no other), got {address!r}: "
                         "write it as https://github.com/OWNER/NAME")
    return plain


def is_placeholder(address: str) -> bool:
    """Whether nobody has set the address yet, so that no badge can work."""
    return address.startswith(PLACEHOLDER)


def badge_markdown(path: str, address: str) -> str:
    """The Colab badge of a notebook, as it stands in the notebook's first cell and in the README.

    path: the notebook's path from the repository's root, such as `notebooks/00_start_here.ipynb`.

        [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/
        github/OWNER/ssl-course/blob/main/notebooks/00_start_here.ipynb)        (one line, without a space)
    """
    owner_and_name = checked_address(address).removeprefix("https://github.com/")
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({COLAB}/github/{owner_and_name}/blob/main/{path})"


def clone_cell(address: str) -> str:
    """The source of a notebook's first code cell, `CLONE_CELL`. It does something on Colab only, and there once."""
    return CLONE_CELL.format(address=checked_address(address))


def rewrite_badges(root: str | Path, address: str | None = None) -> list[Path]:
    """Bring every badge and clone command under `root` into line with the repository's address.

    address: the new address, written to `pyproject.toml` first; None keeps the one that is there.

    Looks at README.md and at every notebook under `notebooks/`, as text, so that nothing else in them changes.
    Returns the files that changed. Raises ValueError where the address is no GitHub repository's.
    """
    root = Path(root)
    address = repository(root) if address is None else checked_address(address)
    owner_and_name = address.removeprefix("https://github.com/")
    changed = []
    for path in (root / "pyproject.toml", root / "README.md", *sorted((root / "notebooks").rglob("*.ipynb"))):
        old = path.read_bytes().decode("utf-8")
        if path.name == "pyproject.toml":
            new = _IN_PYPROJECT.sub(rf"\g<1>{address}\g<3>", old)
        else:
            new = _IN_CLONE.sub(rf"\g<1>{address}", _IN_BADGE.sub(rf"\g<1>{owner_and_name}\g<2>", old))
        if new != old:
            path.write_bytes(new.encode("utf-8"))
            changed.append(path)
    return changed
