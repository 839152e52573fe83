"""Pictures of your own: in class folders or loose in one folder, plain or in a tar archive."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from course_lib.data.types import Images
from course_lib.data.vision import Pictures, resize
from course_lib.progress import bar

PARTS = ("train", "val", "test")
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
LAYOUT = "train/CLASS/* (and val/CLASS/*, test/CLASS/*, where there are), or CLASS/* alone, or pictures in one folder"

# A whole data set lies in memory, and joining its pictures needs the same again for a moment. A small archive may
# unpack to any amount, so these are checked on the way, not after.
MOST_BYTES = 4_000_000_000  # of all pictures, decoded and resized
MOST_FILE_BYTES = 200_000_000  # of one file, and of one read in an archive
MOST_FILES = 500_000  # in an archive, pictures or not


def read_folder(path: Path, size: int | None) -> Pictures:
    """Pictures in a folder.

    In `train/CLASS`, and in `val/CLASS` and `test/CLASS` where those are there; or in `CLASS` alone; or, without
    labels, all in one folder, or in `train`, `val` and `test` without class folders. As in torchvision's `ImageFolder`,
    a class is the folder right under the part, with all that lies deeper: `cat/indoors/*` and `cat/*` are both `cat`,
    and `home/cat/*` and `street/cat/*` are the classes `home` and `street`. Folders that hold nothing but one folder
    are passed by. Hidden files are left alone.

    Raises FileNotFoundError for what is no folder, ValueError for another layout, pictures of different sizes where
    `size` is None, pictures that cannot be read, and more than fit in memory.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"wanted a folder of pictures, but {path} is not a folder: check the path")

    def files() -> Iterator[tuple[str, BinaryIO]]:
        names = (file.relative_to(path).as_posix() for file in _walk(path))
        for name in bar(sorted(filter(_is_picture, names)), desc=f"reading {path.name}", unit="picture", delay=1.0):
            with open(path / name, "rb") as stream:
                yield name, stream

    return _arrange(files(), path, size)


def read_archive(path: Path, size: int | None) -> Pictures:
    """The same from a tar archive, plain or compressed, in one pass: nothing is ever extracted to the disk.

    Raises ValueError as `read_folder` does, and where the archive is damaged, ends too early, or holds a link or a
    path that leads out of it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"wanted a tar archive of pictures, but {path} is not a file: check the path")

    def members() -> Iterator[tuple[str, BinaryIO]]:
        megabytes = math.ceil(path.stat().st_size / 1e6)
        with (
            open(path, "rb") as raw,
            bar(total=megabytes, desc=f"reading {path.name}", unit="MB", delay=1.0) as progress,
        ):
            try:
                stream = _Guarded(_decompressed(raw), path)
                with tarfile.open(fileobj=stream, mode="r:") as archive:
                    for count, member in enumerate(archive, start=1):
                        _check_member(member, count, path)
                        if member.isfile() and _is_picture(member.name):
                            yield member.name, io.BytesIO(archive.extractfile(member).read())
                            progress.update(raw.tell() // 1_000_000 - progress.n)
                    # tarfile takes a missing or broken header for the end, so half of an archive would pass for all.
                    if stream.last != bytes(tarfile.BLOCKSIZE):
                        raise tarfile.ReadError("it stops before its end mark")
            except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
                raise ValueError(f"{path} is no tar archive or is damaged ({error}): copy it here again") from error

    return _arrange(members(), path, size)


def _walk(path: Path) -> Iterator[Path]:
    """All files under a folder. Folders that are links count, as they do in a class that shares its pictures."""
    seen = set()
    for folder, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, file) for file in files)


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not any(part.startswith((".", "__")) for part in path.parts)


# ---- archives ------------------------------------------------------------------------------------------------------


def _decompressed(raw: BinaryIO) -> BinaryIO:
    start = raw.read(6)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(raw)
    if start.startswith(b"BZh"):
        return bz2.open(raw)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(raw)
    return raw


class _Guarded:
    """A stream that refuses to read too much at once: tarfile reads a name that is said to be 9 GB long in one piece.

    last: what was read last; at the end of an archive, its end mark.
    """

    def __init__(self, stream: BinaryIO, path: Path):
        self.stream, self.path, self.last = stream, path, b""
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, count: int) -> bytes:
        if count > MOST_FILE_BYTES + tarfile.BLOCKSIZE:
            raise ValueError(f"{self.path} holds a file or a name of {count / 1e6:,.0f} MB, and at most "
                            f"{MOST_FILE_BYTES / 1e6:,.0f} MB are read: take it out")
        self.last = self.stream.read(count)
        return self.last


def _check_member(member: tarfile.TarInfo, count: int, path: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
        raise ValueError(f"{path} holds {member.name}, which is a link, a device or a path out of the archive: "
                         "pack it again with plain files only")
    if count > MOST_FILES:
        raise ValueError(f"{path} holds more than {MOST_FILES:,} files: give a smaller archive")
    if _is_picture(member.name) and member.size > MOST_FILE_BYTES:
        raise ValueError(f"{path} holds {member.name} of {member.size / 1e6:,.0f} MB, and at most "
                        f"{MOST_FILE_BYTES / 1e6:,.0f} MB are read: take it out")


# ---- what the folders mean -----------------------------------------------------------------------------------------


def _arrange(streams: Iterable[tuple[str, BinaryIO]], where: Path, size: int | None) -> Pictures:
    """The parts and classes of pictures that come with their paths under `where`."""
    pictures, room = {}, MOST_BYTES
    for name, stream in streams:
        pictures[name] = resize(_decode(stream, f"{name} in {where}"), size)
        room -= pictures[name].numel()
        if room < 0:
            raise ValueError(f"{where} holds more than {MOST_BYTES / 1e9:g} GB of pictures once they are decoded: "
                             "give a smaller size=, or fewer pictures")
    names = sorted(pictures)
    places = _places(names, where)
    shapes = sorted({tuple(picture.shape[2:]) for picture in pictures.values()})
    if len(shapes) > 1:
        (h1, w1), (h2, w2) = shapes[0], shapes[-1]
        raise ValueError(f"{where} has pictures of different sizes, from {h1}×{w1} to {h2}×{w2}: give size=32, or "
                         "another size, to cut all of them to their central square and bring them to one size")

    classes = tuple(sorted({of_class for _, of_class in places} - {""}))
    parts = {}
    for part in PARTS:
        members = [i for i, (of_part, _) in enumerate(places) if of_part == part]
        if members:
            x = torch.cat([pictures.pop(names[i]) for i in members])
            y = torch.tensor([classes.index(places[i][1]) for i in members]) if classes else None
            parts[part] = Images(x, y, classes)
    return Pictures(where.resolve().name, **parts)


def _places(names: list[str], where: Path) -> list[tuple[str, str]]:
    """The part and the class of each path; the class is "" where there are no class folders.

    Raises ValueError where some paths have a part or a class and others have none.
    """
    paths = [PurePosixPath(name).parts for name in names]
    folders = [path[:-1] for path in paths]
    # One folder around everything, such as the archive's own name, says nothing.
    while folders and all(folders) and len({f[0] for f in folders}) == 1 and folders[0][0] not in PARTS:
        folders = [f[1:] for f in folders]
    tops = {f[0] if f else "" for f in folders}
    in_parts = bool(tops) and tops <= set(PARTS)
    if in_parts:
        places = [(f[0], "".join(f[1:2])) for f in folders]
    else:
        places = [("train", "".join(f[:1])) for f in folders]
    # `train` may be a class too, beside `car`, but then it holds pictures and no folders.
    mixed = not in_parts and any(len(f) > 1 and f[0] in PARTS for f in folders)
    without = {not of_class for _, of_class in places}
    if mixed or len(without) != 1 or (in_parts and "train" not in tops):
        found = ", ".join(sorted({f"{'/'.join(f) or '.'}/" for f in folders})[:5]) or "no pictures"
        raise ValueError(f"{where} should hold {LAYOUT}, got {found}: put each picture in the folder of its class")
    return places


# ---- one picture ---------------------------------------------------------------------------------------------------


def _decode(stream: BinaryIO, name: str) -> UInt8[Tensor, "1 3 h w"]:
    from PIL import Image, ImageOps

    try:
        with Image.open(stream) as picture:
            picture = ImageOps.exif_transpose(picture)
            deep = picture.mode.startswith(("I", "F"))
            array = _eight_bits(np.array(picture)) if deep else np.array(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the picture {name} ({error}): replace it or take it away") from error
    return torch.from_numpy(array).permute(2, 0, 1)[None]


def _eight_bits(gray: np.ndarray) -> np.ndarray:
    """A grey picture of 16 bits, or of floats in [0, 1], as RGB of 8: Pillow's own way cuts at 255, which is white.

    Raises ValueError for other values, whose white nobody knows.
    """
    white = 1.0 if gray.dtype.kind == "f" else 65535.0
    if not (gray.min() >= 0 and gray.max() <= white):  # a NaN fails both
        raise ValueError(f"its values run from {gray.min():g} to {gray.max():g} where 0 to {white:g} was wanted")
    return np.repeat((gray / white * 255).round().astype(np.uint8)[:, :, None], 3, axis=2)
