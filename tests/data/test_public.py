"""Public sets: the cache, local archives, who waits for whom, and the files as they are published."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import torch
from data_helpers import class_folders, loose, member, pack

from course_lib.data import DataUnavailable, load, public
from course_lib.data.public import PublicSet, load_public


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


NOWHERE = PublicSet("tints", (public.RemoteFile("tints.bin", 1, "", ()),), ("red", "green", "blue"), read=None)


def test_a_local_archive_is_read_once_then_cached(home, tmp_path, monkeypatch):
    pack(class_folders(tmp_path / "set", {"train": 3, "test": 2}), home / "tints-small.tar.gz")
    first = load_public(NOWHERE)
    assert first.train.classes == NOWHERE.classes, "the set's own order, not the alphabet's"
    assert torch.equal(first.train.x.float().mean(dim=(2, 3)).argmax(dim=1), first.train.y)
    assert first.source == "tints-small.tar.gz"
    assert [path.name[:6] for path in home.glob("*.safetensors")] == ["tints-"]

    monkeypatch.setattr(public, "read_archive", None)
    second = load_public(NOWHERE)
    assert torch.equal(first.train.x, second.train.x) and torch.equal(first.test.y, second.test.y)
    assert (second.source, second.train.classes) == (first.source, first.train.classes)


def test_a_read_only_folder_is_left_alone(home, tmp_path):
    pack(class_folders(tmp_path / "set", {"train": 3, "test": 2}), home / "tints-small.tar.gz")
    home.chmod(0o555)
    load_public(NOWHERE)
    home.chmod(0o755)
    assert [path.name for path in home.iterdir()] == ["tints-small.tar.gz"]
    assert len(list((tmp_path / "user" / "course_lib").glob("*.safetensors"))) == 1


def test_a_cache_of_a_copy_is_never_taken_for_the_original(home, tmp_path):
    archive = pack(class_folders(tmp_path / "set", {"train": 3, "test": 2}), home / "tints-small.tar.gz")
    load_public(NOWHERE)
    archive.unlink()
    with pytest.raises(DataUnavailable, match="cannot load tints; tried"):
        load_public(NOWHERE)


def test_a_changed_archive_is_read_again(home, tmp_path):
    for count in (3, 4):
        pack(class_folders(tmp_path / f"set{count}", {"train": count, "test": 2}), home / "tints-small.tar.gz")
        assert len(load_public(NOWHERE).train) == 3 * count


def test_the_original_comes_before_a_copy(home, tmp_path):
    pack(class_folders(tmp_path / "set", {"train": 3, "test": 2}), home / "tints-small.tar.gz")
    load_public(NOWHERE)
    next(home.glob("*.safetensors")).rename(home / "tints.safetensors")  # as if the original had nine pictures
    pack(class_folders(tmp_path / "set4", {"train": 4, "test": 2}), home / "tints-small.tar.gz")
    assert len(load_public(NOWHERE).train) == 9


def test_an_archive_of_other_classes_is_refused(home, tmp_path):
    pack(class_folders(tmp_path / "set", {"train": 3, "test": 2}), home / "tints-small.tar.gz")
    with pytest.raises(ValueError, match="should hold the classes red, green, cyan, got blue, green, red"):
        load_public(dataclasses.replace(NOWHERE, classes=("red", "green", "cyan")))
    assert list(home.glob("*.safetensors")) == []


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_cache_is_named(home, content):
    (home / "tints.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"tints\.safetensors is damaged \(.*\): delete it and load again"):
        load_public(NOWHERE)


def test_a_cache_cut_short_is_named(home, tmp_path):
    pack(class_folders(tmp_path / "set", {"train": 3, "test": 2}), home / "tints-small.tar.gz")
    load_public(NOWHERE)
    cache = next(home.glob("*.safetensors"))
    cache.write_bytes(cache.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is damaged"):
        load_public(NOWHERE)


def test_root_comes_before_course_data(home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    pack(class_folders(tmp_path / "set", {"train": 3, "test": 2}), other / "tints-small.tar.gz")
    assert len(load_public(NOWHERE, root=other).train) == 9
    assert list(home.iterdir()) == []


def test_course_data_may_be_a_folder_that_is_not_there_yet(home, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "a" / "b"))
    with pytest.raises(DataUnavailable):
        load_public(NOWHERE)
    assert public.data_folder() == tmp_path / "a" / "b"


def test_a_local_archive_keeps_its_own_val(home, tmp_path):
    pack(class_folders(tmp_path / "set", {"train": 3, "val": 1, "test": 2}, ("train", "val", "test")),
         home / "tints-small.tar")
    for pictures in (load_public(NOWHERE), load_public(NOWHERE)):
        assert (len(pictures.train), len(pictures.val), len(pictures.test)) == (9, 3, 6)


def test_a_local_archive_of_train_alone(home, tmp_path):
    pack(class_folders(tmp_path / "set", {"train": 3}, ("train",)), home / "tints-small.tar")
    for pictures in (load_public(NOWHERE), load_public(NOWHERE)):
        assert (len(pictures.train), pictures.val, pictures.test) == (9, None, None)


def test_a_local_archive_without_classes_is_refused(home, tmp_path):
    pack(loose(tmp_path / "set", 5), home / "tints-small.tar")
    with pytest.raises(ValueError, match="should hold the classes red, green, blue, got none: name its class folders"):
        load_public(NOWHERE)


# ---- public sets: where they are -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["COURSE_DATA", "root"])
def test_a_file_where_a_folder_was_wanted(home, tmp_path, monkeypatch, how):
    (tmp_path / "file").write_text("")
    if how == "COURSE_DATA":
        monkeypatch.setenv("COURSE_DATA", str(tmp_path / "file"))
    with pytest.raises(NotADirectoryError, match=f"^{how} must be a folder, and .*file is a file: give the folder"):
        load_public(NOWHERE, root=tmp_path / "file" if how == "root" else None)


@pytest.mark.parametrize("how", ["COURSE_DATA", "root", "XDG_CACHE_HOME"])
def test_a_tilde_is_the_home_folder(home, tmp_path, monkeypatch, how):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COURSE_DATA")
    if how != "root":
        monkeypatch.setenv(how, "~/pictures")
    wanted = tmp_path / "pictures" / "course_lib" if how == "XDG_CACHE_HOME" else tmp_path / "pictures"
    assert public.data_folder("~/pictures" if how == "root" else None) == wanted
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert public.user_folder() == tmp_path / ".cache" / "course_lib"


def test_whereabouts_are_those_that_loading_finds(home, tmp_path, monkeypatch):
    spec = dataclasses.replace(NOWHERE, files=(public.RemoteFile("tints.bin", 60_000_000, "", ()),))
    monkeypatch.setitem(public.PUBLIC, "tints", spec)
    missing = "not here: a download of 60 MB, 1 minutes at 1 MB/s"
    assert public.whereabouts("tints") == missing
    (home / "tints.bin").write_bytes(b"")
    assert public.whereabouts("tints") == f"here: {home / 'tints.bin'}"
    (home / "tints.bin").unlink()
    archive = pack(class_folders(tmp_path / "set", {"train": 3, "test": 2}), home / "tints-small.tar.gz")
    assert public.whereabouts("tints") == f"here: {archive}"
    load("tints")
    archive.unlink()
    assert public.whereabouts("tints") == missing, "the cache of a copy is no use without the copy"
    (tmp_path / "user" / "course_lib").mkdir(parents=True)
    (tmp_path / "user" / "course_lib" / "tints.safetensors").write_bytes(b"")
    assert public.whereabouts("tints").endswith("course_lib/tints.safetensors")


# ---- another process has the lock ----------------------------------------------------------------------------------


@pytest.fixture
def held(home, tmp_path):
    """Another process that holds the lock of the cache until it is ended or told to let go."""
    pack(class_folders(tmp_path / "set", {"train": 3, "test": 2}), home / "tints-small.tar.gz")
    name = f"tints-{public.sha256(home / 'tints-small.tar.gz')[:12]}"
    code = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.readline()"
    other = subprocess.Popen([sys.executable, "-c", code, str(home / f".{name}.lock")], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    yield other
    other.kill()
    other.communicate()


def test_a_lock_held_elsewhere_is_said_and_ends_with_a_sentence(held, home, monkeypatch, capsys):
    monkeypatch.setattr(public, "NOTICE", 0.2)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"another process has been preparing .*tints-\w+\.safetensors for more than "
                                           r"0\.6 seconds: wait until it is done, or end it, .*\.lock"):
        load_public(NOWHERE, patience=0.6)
    assert 0.6 <= time.monotonic() - start < 5
    said = capsys.readouterr().out
    assert said.startswith("waiting for another process that prepares ") and said.count("\n") == 1


def test_a_lock_that_is_let_go_is_taken(held, home, monkeypatch, capsys):
    monkeypatch.setattr(public, "NOTICE", 0.2)

    def let_go(*args, **options):
        held.stdin.write("\n")
        held.stdin.flush()

    monkeypatch.setattr("builtins.print", let_go)
    start = time.monotonic()
    assert len(load_public(NOWHERE, patience=30.0).train) == 9
    assert time.monotonic() - start < 15, "it should be said soon, not when patience has come to its end"


def test_a_lock_of_a_process_that_died_is_no_lock(held, home, capsys):
    held.kill()
    held.wait()
    assert len(load_public(NOWHERE, patience=1.0).train) == 9
    assert capsys.readouterr().out == ""


# ---- public sets: the files as they are published ------------------------------------------------------------------


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            archive.addfile(member(name, size=len(content)), io.BytesIO(content))
    return buffer.getvalue()


def cifar10_files(x, y):
    def batch(start):
        return pickle.dumps({"data": x[start : start + 10].reshape(10, -1), "labels": y[start : start + 10].tolist()})

    batches = {f"data_batch_{i + 1}": batch(10 * i) for i in range(5)} | {"test_batch": batch(50)}
    batches["batches.meta"] = pickle.dumps({"label_names": ["x"] * 10})
    return {"cifar-10-python.tar.gz": tar_of({f"cifar-10-batches-py/{k}": v for k, v in batches.items()})}


def stl10_files(x, y):
    columns_first = x.transpose(0, 1, 3, 2)
    parts = {"train": slice(0, 50), "test": slice(50, 60), "unlabeled": slice(0, 5)}
    files = {f"stl10_binary/{name}_X.bin": columns_first[part].tobytes() for name, part in parts.items()}
    for name in ("train", "test"):
        files[f"stl10_binary/{name}_y.bin"] = (y[parts[name]] + 1).astype(np.uint8).tobytes()
    return {"stl10_binary.tar.gz": tar_of(files)}


def fashion_mnist_files(x, y):
    def idx(array):
        shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
        return gzip.compress(bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes())

    files = {}
    for name, part in (("train", slice(0, 50)), ("t10k", slice(50, 60))):
        files[f"{name}-images-idx3-ubyte.gz"] = idx(x[part, 0])
        files[f"{name}-labels-idx1-ubyte.gz"] = idx(y[part])
    return files


@pytest.mark.parametrize(
    "name, side, files",
    [("cifar10", 32, cifar10_files), ("stl10", 96, stl10_files), ("fashion_mnist", 28, fashion_mnist_files)],
)
def test_the_published_files_are_read(home, monkeypatch, name, side, files):
    """Small files of the published formats, put there by hand: right pixels, right labels, right parts."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 3, side, side), dtype=np.uint8), np.arange(60) % 10
    if name == "fashion_mnist":
        x[:, 1:] = x[:, :1]
    made = files(x, y)
    spec = public.PUBLIC[name]
    assert set(made) == {file.name for file in spec.files}
    own = []
    for file in spec.files:
        content = made[file.name]
        (home / file.name).write_bytes(content)
        own.append(public.RemoteFile(file.name, len(content), hashlib.sha256(content).hexdigest(), ()))
    monkeypatch.setitem(public.PUBLIC, name, dataclasses.replace(spec, files=tuple(own)))
    for module in ("cifar", "stl10"):  # torchvision knows the real files by their hashes
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda path, md5=None: True)

    pictures = load_public(public.PUBLIC[name])
    border = 2 if name == "fashion_mnist" else 0
    for part, wanted, labels in ((pictures.train, x[:50], y[:50]), (pictures.test, x[50:], y[50:])):
        inside = part.x[:, :, border : border + side, border : border + side]
        assert np.array_equal(inside.numpy(), wanted)
        assert part.x.sum() == inside.sum(), "the border should be black"
        assert part.x.is_contiguous() and part.x.shape[2:] == (side + 2 * border,) * 2
        assert part.y.tolist() == labels.tolist()
    if name == "stl10":
        assert np.array_equal(pictures.unlabelled.x.numpy(), x[:5])
    data = load(name)
    assert data.source == "the original files" and len(data.classes) == 10
    assert (len(data.train), len(data.val), len(data.test)) == (40, 10, 10)
    assert torch.equal(data.pretrain.x[:40], data.train.x) and data.pretrain.y is None
    assert len(data.pretrain) == (45 if name == "stl10" else 40), "unlabelled pictures and those of train, not of val"


def test_public_sets_are_well_described():
    for name, spec in public.PUBLIC.items():
        assert spec.name == name and len(set(spec.classes)) == 10
        for file in spec.files:
            assert len(file.sha256) == 64 and file.size > 0
            assert len(set(file.urls)) >= 3 and all(url.endswith("/" + file.name) for url in file.urls)
