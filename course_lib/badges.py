"""The repository's address, wherever it is shown: Colab badges, the notebooks' clone cells, the README's clone command.

`pyproject.toml` holds the address, under `[project.urls]`. `rewrite_badges` brings every other place into line.
"""

from __future__ import annotations

import re
from pathlib import Path

from course_lib.files import write_text

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

    Raises ValueError where there is none or more than one, or where it is no address of a GitHub repository.
    """
    path = Path(root) / "pyproject.toml"
    return checked_address(_written_address(path, _text(path)))


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

    Looks at README.md and at every notebook under `notebooks/`, as text, so that nothing else in them changes. Nothing
    is written before every new text is made, and then each file is replaced as a whole, `pyproject.toml` first: where
    the disk is full half-way, a second call without an address does the rest.

    Returns the files that changed. Raises ValueError, with nothing written, where the address is no GitHub repository's
    or a file is not what it should be, and OSError where a file cannot be read or written.
    """
    root = Path(root)
    texts = {path: _text(path) for path in
             (root / "pyproject.toml", root / "README.md", *sorted((root / "notebooks").rglob("*.ipynb")))}
    written = _written_address(root / "pyproject.toml", texts[root / "pyproject.toml"])
    address = checked_address(written if address is None else address)
    new = {path: _with_address(path, text, address) for path, text in texts.items()}
    changed = [path for path in texts if new[path] != texts[path]]
    for path in changed:
        write_text(path, new[path])
    return changed


def _text(path: Path) -> str:
    """A text file as it is, line ends included."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"wanted UTF-8 text in {path}, got other bytes at {error.start}: save it as UTF-8") from None


def _written_address(path: Path, text: str) -> str:
    """The address in the text of `pyproject.toml`, checked for being there once and for nothing else."""
    found = _IN_PYPROJECT.findall(text)
    if len(found) != 1:
        raise ValueError(f"wanted one line `Repository = \"https://github.com/…\"` in {path}, "
                         f"found {len(found) or 'none'}: keep one, under [project.urls]")
    return found[0][1]


def _with_address(path: Path, text: str, address: str) -> str:
    """The text with the address in every place. Raises ValueError where it has a badge that is cut or changed."""
    if path.name == "pyproject.toml":
        return _IN_PYPROJECT.sub(rf"\g<1>{address}\g<3>", text)
    for start in re.finditer(re.escape(f"{COLAB}/github/"), text):
        if not _IN_BADGE.match(text, start.start()):
            got = text[start.start() : start.start() + 80].split("\n")[0]
            raise ValueError(f"wanted {COLAB}/github/OWNER/NAME/blob/… for a badge in {path}, got {got!r}: "
                             "mend that link by hand")
    owner_and_name = address.removeprefix("https://github.com/")
    return _IN_CLONE.sub(rf"\g<1>{address}", _IN_BADGE.sub(rf"\g<1>{owner_and_name}\g<2>", text))
