"""Pictures in: `load` gives any data set as a `Dataset` of uint8 tensors."""

from __future__ import annotations

import difflib
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
) -> Dataset:
    """A data set by name, whole, in memory.

    name: `toybox`, `cifar10`, `stl10`, `fashion_mnist`, `folder:PATH` or `archive:PATH`, where PATH is a folder or a
        tar archive with pictures in `train/CLASS` and `test/CLASS`, or in `CLASS` alone: then a fifth of each class,
        always the same one, becomes the test set.
    size: height and width in pixels. Pictures that are not square are cut to their central square.
    limit: at most this many training pictures (`train` and `val` together) and as many test pictures, classes
        balanced, always the same ones. The unlabelled pictures of STL-10 are limited to as many again.
    seed: chooses `val`, a tenth of the training pictures of each class. For Toybox, chooses the pictures.
    root: where public sets are looked for and kept, in place of `$COURSE_DATA` and the user's cache folder.

    Raises ValueError for an unknown name, and DataUnavailable where a public set cannot be had.
    """
    for what, value in (("size", size), ("limit", limit)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{what} must be a whole number of at least 1, got {value!r}: leave it out for all")
    if name == "toybox":
        from course_lib.data import toybox

        given = {"size": size, "limit": limit, "seed": seed}
        return toybox.dataset(**{key: value for key, value in given.items() if value is not None})

    from course_lib.data import public, vision

    kind, _, path = name.partition(":")
    if name in public.PUBLIC:
        pictures = public.load_public(public.PUBLIC[name], root)
    elif kind == "folder" and path:
        pictures = vision.read_folder(Path(path).expanduser(), size)
    elif kind == "archive" and path:
        pictures = vision.read_archive(Path(path).expanduser(), size)
    else:
        names = ["toybox", *public.PUBLIC, "folder:PATH", "archive:PATH"]
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
        raise ValueError(f'no data set is called "{name}": did you mean "{nearest}"? There are {", ".join(names)}')
    return vision.dataset(name, pictures, size=size, limit=limit, seed=seed)
