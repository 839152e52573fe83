"""Pictures in: `load` gives any data set as a `Dataset` of uint8 tensors."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from course_lib.data.fetch import DataUnavailable
from course_lib.data.types import Batch, Dataset, Images

__all__ = ["Batch", "DataUnavailable", "Dataset", "Images", "load"]


def load(
    name: str,
    *,
    size: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    fallback: str | None = None,
) -> Dataset:
    """A data set by name, whole, in memory. `pretrain` is `train` without labels; `val` and `test` lie apart from both.

    name: `toybox`, `cifar10`, `stl10`, `fashion_mnist`, `folder:PATH` or `archive:PATH`, where PATH is a folder or a
        tar archive with pictures in `train/CLASS`, and in `val/CLASS` and `test/CLASS` where those are there; or in
        `CLASS` alone; or, without any labels, all in one folder. Where there is no `test`, a fifth of each class,
        always the same one, becomes it.
    size: height and width in pixels. Pictures that are not square are cut to their central square.
    limit: at most this many training pictures (with the part of them that becomes `val`), as many test pictures, and
        as many of a `val` that came as such, classes balanced, always the same ones. The unlabelled pictures of STL-10
        are limited to as many again.
    seed: chooses `val`, a tenth of the training pictures of each class, where there is none. For Toybox, chooses the
        pictures.
    root: where public sets are looked for and kept, in place of `$COURSE_DATA` and the user's cache folder.
    fallback: "toybox" to get Toybox, and one printed line that says so, where a public set cannot be had.

    Raises TypeError or ValueError for what is no name, FileNotFoundError where a PATH is not there, ValueError where
    its pictures cannot be used, and DataUnavailable where a public set cannot be had.
    """
    for what, value in (("size", size), ("limit", limit)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{what} must be a whole number of at least 1, got {value!r}: leave it out for all")
    if fallback not in (None, "toybox"):
        raise ValueError(f'fallback must be "toybox" or None, got {fallback!r}: only Toybox is always there')
    if not isinstance(name, str):
        raise TypeError(f'a data set has a name, got {name!r}: for pictures of your own write load("{_at(name)}")')
    if name == "toybox":
        return _toybox(size, limit, seed)

    from course_lib.data import folders, public, vision

    kind, _, path = name.partition(":")
    if name in public.PUBLIC:
        try:
            pictures = public.load_public(public.PUBLIC[name], root)
        except DataUnavailable as error:
            if fallback is None:
                raise
            print(f"{name} cannot be had here ({error.briefly}): this is Toybox instead")
            return _toybox(size, limit, seed)
    elif kind == "folder" and path:
        pictures = folders.read_folder(Path(path).expanduser(), size)
    elif kind == "archive" and path:
        pictures = folders.read_archive(Path(path).expanduser(), size)
    else:
        names = ["toybox", *public.PUBLIC, "folder:PATH", "archive:PATH"]
        raise ValueError(f'no data set is called "{name}": did you mean "{_nearest(name, names)}"? '
                         f"There are {', '.join(names)}")
    return vision.dataset(name, pictures, size=size, limit=limit, seed=seed)


def _toybox(size: int | None, limit: int | None, seed: int) -> Dataset:
    from course_lib.data import toybox

    given = {"size": size, "limit": limit, "seed": seed}
    return toybox.dataset(**{key: value for key, value in given.items() if value is not None})


def _nearest(name: str, names: list[str]) -> str:
    """The name that was meant: a path that is there, or else the nearest one, whatever its case and separators."""
    if name and Path(name).expanduser().exists():
        return _at(name)
    plain = {re.sub("[^a-z0-9]", "", known.lower()): known for known in names}
    wanted = re.sub("[^a-z0-9]", "", name.lower())
    return plain[difflib.get_close_matches(wanted, plain, n=1, cutoff=0)[0]]


def _at(path: object) -> str:
    return f"{'archive' if '.tar' in str(path) or str(path).endswith('.tgz') else 'folder'}:{path}"
