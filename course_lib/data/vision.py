"""Real pictures: CIFAR-10, STL-10 and Fashion-MNIST, and class folders of pictures, plain or in a tar archive."""

from __future__ import annotations

import dataclasses
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from course_lib.data.types import Dataset, Images

VAL_SHARE = 0.1  # of the training labels
TEST_SHARE = 0.2  # of class folders that come without a test set
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What a source holds, before anything is split, cut short or resized.

    source: what it was read from, so that a re-encoded copy is never taken for the original.
    unlabelled: more pictures to pretrain on (STL-10 only).
    """

    source: str
    train: Images
    test: Images
    unlabelled: Images | None = None


def dataset(name: str, pictures: Pictures, *, size: int | None, limit: int | None, seed: int) -> Dataset:
    """The four parts of a data set.

    Training pictures and test pictures each stand in rounds: every class once a round, in a shuffled order that is
    always the same, so the first n of them are balanced. `limit` takes the first `limit` training pictures, test
    pictures and unlabelled pictures. `val` is a tenth of each class of the training pictures, drawn by `seed`.
    `pretrain` is all of the training pictures, and the unlabelled ones where there are any.
    """
    train, test = (_in_rounds(part, size, limit) for part in (pictures.train, pictures.test))
    extra = [] if pictures.unlabelled is None else [resize(pictures.unlabelled.x[:limit], size)]
    held_out = stratified(train.y, VAL_SHARE, seed)
    for number, name_of_class in enumerate(train.classes):
        if not (train.y[~held_out] == number).any() or not (train.y[held_out] == number).any():
            raise ValueError(
                f"every class needs a training picture for train and one for val, but {name_of_class} has "
                f"{int((train.y == number).sum())}: " + ("add pictures" if limit is None else f"raise limit={limit}")
            )
    pretrain = Images(torch.cat([train.x, *extra]) if extra else train.x, classes=train.classes)
    return Dataset(name, pretrain, train[~held_out], train[held_out], test, source=pictures.source)


def _in_rounds(images: Images, size: int | None, limit: int | None) -> Images:
    """The first `limit` pictures, classes balanced, resized."""
    rank = torch.zeros(len(images), dtype=torch.float64)
    for number in range(len(images.classes)):
        members = images.y == number
        rank[members] = torch.arange(int(members.sum()), dtype=torch.float64)
    shuffle = torch.rand(len(images), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = (rank + shuffle).argsort()[:limit]
    return Images(resize(images.x[order], size), images.y[order], images.classes)


def stratified(y: Int64[Tensor, " n"], share: float, seed: int) -> Bool[Tensor, " n"]:
    """A mask of `share` of every class, drawn by `seed`: at least one picture of each class that has two."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(len(y), dtype=torch.bool)
    for number in y.unique():
        members = (y == number).nonzero().squeeze(1)
        wanted = max(1, round(share * len(members))) if len(members) > 1 else 0
        mask[members[torch.randperm(len(members), generator=generator)[:wanted]]] = True
    return mask


def resize(x: UInt8[Tensor, "n 3 h w"], size: int | None) -> UInt8[Tensor, "n 3 s s"]:
    """The central square of each picture at `size` × `size`, antialiased; None leaves the pictures as they are."""
    if size is None or x.shape[2:] == (size, size):
        return x
    side = min(x.shape[2:])
    top, left = (x.shape[2] - side) // 2, (x.shape[3] - side) // 2
    x = x[:, :, top : top + side, left : left + side]
    shrink = (F.interpolate(part, (size, size), mode="bilinear", antialias=True) for part in x.split(1000))
    return torch.cat(list(shrink))


# ---- class folders -------------------------------------------------------------------------------------------------


def read_folder(path: Path, size: int | None) -> Pictures:
    """Pictures in `path/train/CLASS` and `path/test/CLASS`, or in `path/CLASS`, where a fifth becomes the test set."""
    if not path.is_dir():
        raise FileNotFoundError(f"wanted a folder of class folders, but {path} is not a folder: check the path")

    def files() -> Iterator[tuple[str, BinaryIO]]:
        found = sorted(p for p in path.rglob("*") if p.is_file() and _is_picture(p.relative_to(path).as_posix()))
        for file in tqdm(found, desc=f"reading {path.name}", unit="picture"):
            with open(file, "rb") as stream:
                yield file.relative_to(path).as_posix(), stream

    return _from_class_folders(files(), path, size)


def read_archive(path: Path, size: int | None) -> Pictures:
    """The same from a tar archive, in one pass, in memory: nothing is ever extracted to the disk.

    Raises ValueError where the archive is damaged or holds a link or a path that leads out of it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"wanted a tar archive of class folders, but {path} is not a file: check the path")

    def members() -> Iterator[tuple[str, BinaryIO]]:
        with open(path, "rb") as raw, tqdm(
            total=path.stat().st_size, desc=f"reading {path.name}", unit="B", unit_scale=True
        ) as bar:
            try:
                with tarfile.open(fileobj=raw, mode="r:*") as archive:
                    for member in archive:
                        name = PurePosixPath(member.name)
                        if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
                            raise ValueError(f"{path} holds {member.name}, which is a link, a device or a path out of "
                                             "the archive: pack it again with plain files only")
                        if member.isfile() and _is_picture(member.name):
                            yield member.name, io.BytesIO(archive.extractfile(member).read())
                            bar.update(raw.tell() - bar.n)
            except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
                reason = str(error).splitlines()[0].rstrip(":")  # tarfile adds a line for each compression it tried
                raise ValueError(f"{path} is no tar archive or is damaged ({reason}): copy it here again") from error

    return _from_class_folders(members(), path, size)


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not any(part.startswith((".", "__")) for part in path.parts)


def _from_class_folders(streams: Iterable[tuple[str, BinaryIO]], where: Path, size: int | None) -> Pictures:
    """Pictures by the folders they lie in: `…/train/CLASS/NAME` and `…/test/CLASS/NAME`, or `…/CLASS/NAME`."""
    pictures = {name: resize(_decode(stream, f"{name} in {where}"), size) for name, stream in streams}
    names = sorted(pictures)
    folders = [PurePosixPath(name).parent for name in names]
    parts = [folder.parent.name if folder.parent.name in ("train", "test") else "" for folder in folders]
    if set(parts) not in ({"train", "test"}, {""}) or any(not folder.name for folder in folders):
        found = ", ".join(sorted({f"{folder}/" for folder in map(str, folders)})[:5]) or "no pictures"
        raise ValueError(f"{where} should hold train/CLASS/* and test/CLASS/*, or CLASS/* alone, got {found}: "
                         "put each picture in the folder of its class")
    shapes = {tuple(picture.shape[2:]) for picture in pictures.values()}
    if len(shapes) > 1:
        (h1, w1), (h2, w2) = sorted(shapes)[0], sorted(shapes)[-1]
        raise ValueError(f"{where} has pictures of different sizes, from {h1}×{w1} to {h2}×{w2}: "
                         "give size=, such as size=64, to bring all of them to one")

    classes = tuple(sorted({folder.name for folder in folders}))
    number = {name: i for i, name in enumerate(classes)}
    x = torch.cat([pictures.pop(name) for name in names])
    images = Images(x, torch.tensor([number[folder.name] for folder in folders]), classes)
    if parts[0]:
        test = torch.tensor([part == "test" for part in parts])
    else:
        test = stratified(images.y, TEST_SHARE, seed=0)
    return Pictures(where.name, images[~test], images[test])


def _decode(stream: BinaryIO, name: str) -> UInt8[Tensor, "1 3 h w"]:
    from PIL import Image, ImageOps

    try:
        with Image.open(stream) as picture:
            array = np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the picture {name} ({error}): replace it or take it away") from error
    return torch.from_numpy(array).permute(2, 0, 1)[None]
