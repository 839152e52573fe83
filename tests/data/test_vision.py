"""`load` on real pictures: class folders, archives, the cache of public sets, and how a set is split."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.data import DataUnavailable, Images, load, public, vision
from course_lib.data.public import PublicSet, load_public

COLORS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def paint(path, color, size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)


def class_folders(root, counts, parts=("train", "test"), size=(8, 8)):
    """Pictures of one colour a class; the i-th is a little darker than the one before, so that each is unique."""
    for part in parts:
        for name, color in COLORS.items():
            for i in range(counts[part] if part else counts):
                paint(root / part / name / f"{i:03d}.png", tuple(max(0, c - i) for c in color), size)
    return root


def pack(folder, path):
    with tarfile.open(path, f"w:{path.suffix[1:] if path.suffix != '.tar' else ''}") as archive:
        archive.add(folder, arcname="pictures")
    return path


def assert_colors(images):
    """The label says which colour channel is bright."""
    assert images.classes == ("blue", "green", "red")
    assert torch.equal(2 - images.x.float().mean(dim=(2, 3)).argmax(dim=1), images.y)


def keys(images):
    """One value a picture that no other picture has."""
    return (images.y * 1000 + images.x.amax(dim=(1, 2, 3))).tolist()


# ---- class folders and archives ------------------------------------------------------------------------------------


def test_folder_with_train_and_test(tmp_path):
    data = load(f"folder:{class_folders(tmp_path / 'set', {'train': 20, 'test': 5})}")
    for part, wanted in (("pretrain", 60), ("train", 54), ("val", 6), ("test", 15)):
        assert len(getattr(data, part)) == wanted, part
    for part in (data.train, data.val, data.test):
        assert_colors(part)
    assert data.pretrain.y is None
    assert data.source == "set"


def test_folder_without_test_gives_a_fifth_of_each_class(tmp_path):
    name = f"folder:{class_folders(tmp_path, 10, parts=('',))}"
    data, again = load(name), load(name, seed=1)
    assert data.test.y.bincount().tolist() == [2, 2, 2]
    assert torch.equal(data.test.x, again.test.x), "the test set must not depend on the seed"
    everything = keys(data.train) + keys(data.val) + keys(data.test)
    assert len(set(everything)) == 30


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_archive_gives_the_same_as_the_folder(tmp_path, suffix):
    folder = class_folders(tmp_path / "set", {"train": 4, "test": 2})
    one, other = load(f"folder:{folder}"), load(f"archive:{pack(folder, tmp_path / f'set{suffix}')}")
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(one, part).x, getattr(other, part).x), part
        assert torch.equal(getattr(one, part).y, getattr(other, part).y), part


def test_pictures_of_every_kind_become_rgb(tmp_path):
    for i, mode in enumerate(("L", "P", "RGBA", "1", "CMYK", "LA")):
        for part in ("train", "test"):
            path = tmp_path / part / "a" / f"{i}.{'tif' if mode == 'CMYK' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (4, 4)).save(path)
    assert load(f"folder:{tmp_path}").test.x.shape == (6, 3, 4, 4)


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are columns
    for part in ("train", "test"):
        for i in range(2):
            paint(tmp_path / part / "a" / f"{i}.jpg", (0, 0, 0), size=(8, 4), exif=exif)
    assert load(f"folder:{tmp_path}").test.x.shape[2:] == (8, 4)


def test_other_files_and_hidden_ones_are_left_alone(tmp_path):
    class_folders(tmp_path, {"train": 2, "test": 1})
    (tmp_path / "train" / "red" / "notes.txt").write_text("not a picture")
    (tmp_path / "train" / "red" / "._000.png").write_text("not a picture")
    assert len(load(f"folder:{tmp_path}").pretrain) == 6


def test_pictures_of_different_sizes_need_a_size(tmp_path):
    class_folders(tmp_path, {"train": 2, "test": 1})
    paint(tmp_path / "train" / "red" / "wide.png", COLORS["red"], size=(20, 10))
    with pytest.raises(ValueError, match=r"pictures of different sizes, from 8×8 to 10×20: give size="):
        load(f"folder:{tmp_path}")
    assert load(f"folder:{tmp_path}", size=6).pretrain.x.shape == (7, 3, 6, 6)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    class_folders(tmp_path, {"train": 2, "test": 1})
    (tmp_path / "train" / "red" / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"cannot read the picture train/red/broken\.png in .*: replace it"):
        load(f"folder:{tmp_path}")


def test_a_picture_cut_short_is_named(tmp_path):
    class_folders(tmp_path, {"train": 2, "test": 1}, size=(64, 64))
    path = tmp_path / "train" / "red" / "000.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"cannot read the picture train/red/000\.png"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("stray", ["red.png", "train/red.png", "other/red/0.png"])
def test_a_picture_outside_its_class_folder(tmp_path, stray):
    class_folders(tmp_path, {"train": 2, "test": 1})
    paint(tmp_path / stray, COLORS["red"])
    with pytest.raises(ValueError, match=r"should hold train/CLASS/\* and test/CLASS/\*, or CLASS/\* alone, got"):
        load(f"folder:{tmp_path}")


def test_no_pictures(tmp_path):
    with pytest.raises(ValueError, match="got no pictures: put each picture in the folder of its class"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_no_such_path(tmp_path, kind):
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a f\w+: check the path"):
        load(f"{kind}:{tmp_path / 'nowhere'}")


def member(name, **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("train/red/../../../escape.png"),
        member("/absolute/red/0.png"),
        member("train/red/link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("train/red/hard.png", type=tarfile.LNKTYPE, linkname="train/red/000.png"),
        member("train/red/device.png", type=tarfile.CHRTYPE),
    ],
    ids=lambda info: info.name,
)
def test_an_archive_that_reaches_out_is_refused(tmp_path, bad):
    path = pack(class_folders(tmp_path / "set", {"train": 2, "test": 1}), tmp_path / "set.tar")
    with tarfile.open(path, "a") as archive:
        archive.addfile(bad)
    with pytest.raises(ValueError, match="a link, a device or a path out of the archive: pack it again"):
        load(f"archive:{path}")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_an_archive_cut_short_is_refused(tmp_path, suffix, keep):
    path = pack(class_folders(tmp_path / "set", {"train": 20, "test": 10}), tmp_path / f"set{suffix}")
    whole = path.read_bytes()
    # Off the 512-byte grid of a plain tar: one that ends between two members cannot be told from a smaller one.
    path.write_bytes(whole[: int(keep * len(whole)) // 512 * 512 + 100 if keep else 0])
    with pytest.raises(ValueError, match=r"is no tar archive or is damaged \(.*\): copy it here again"):
        load(f"archive:{path}")


def test_something_else_than_an_archive(tmp_path):
    path = tmp_path / "set.tar"
    path.write_text("this is no archive " * 100)
    with pytest.raises(ValueError, match="is no tar archive or is damaged"):
        load(f"archive:{path}")


# ---- splitting, limiting, resizing ---------------------------------------------------------------------------------


@pytest.fixture
def pictures():
    """100 training and 40 test pictures of 4 classes, sorted by class; each has a colour of its own."""

    def part(count, start):
        x = torch.arange(start, start + count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
        return Images(x, torch.arange(4).repeat_interleave(count // 4), tuple("abcd"))

    return vision.Pictures("here", part(100, 0), part(40, 200))


def make(pictures, size=None, limit=None, seed=0):
    return vision.dataset("set", pictures, size=size, limit=limit, seed=seed)


def colors(images):
    return images.x[:, 0, 0, 0].tolist()


def test_val_is_a_tenth_of_each_class_and_apart_from_train(pictures):
    data = make(pictures)
    assert data.train.y.bincount().tolist() == [23] * 4
    assert data.val.y.bincount().tolist() == [2] * 4  # round(2.5), to even
    assert sorted(colors(data.train) + colors(data.val)) == list(range(100))
    assert sorted(colors(data.pretrain)) == list(range(100))
    assert sorted(colors(data.test)) == list(range(200, 240))
    for part in (data.train, data.val):
        assert torch.equal(part.x[:, 0, 0, 0].long() // 25, part.y), "a picture lost its label"


def test_the_seed_chooses_val_and_nothing_else(pictures):
    one, same, other = make(pictures), make(pictures), make(pictures, seed=1)
    assert colors(one.val) == colors(same.val) != colors(other.val)
    assert colors(one.pretrain) == colors(other.pretrain)
    assert colors(one.test) == colors(other.test)


@pytest.mark.parametrize("limit", [8, 20, 50])
def test_limit_takes_the_first_in_balance(pictures, limit):
    data, whole = make(pictures, limit=limit), make(pictures)
    assert colors(data.pretrain) == colors(whole.pretrain)[:limit]
    assert colors(data.test) == colors(whole.test)[:limit]
    assert len(data.train) + len(data.val) == limit
    counts = torch.cat([data.train.y, data.val.y]).bincount()
    assert counts.max() - counts.min() <= 1
    assert set(colors(data.train)).isdisjoint(colors(data.val))


def test_every_class_comes_once_in_each_round(pictures):
    rounds = make(pictures).test.y.view(-1, 4)
    assert torch.equal(rounds.sort(dim=1).values, torch.arange(4).expand(10, 4))
    assert len({tuple(row) for row in rounds.tolist()}) > 1, "always the same order would alias with a stride"


def test_a_limit_larger_than_the_set_changes_nothing(pictures):
    assert colors(make(pictures, limit=1000).train) == colors(make(pictures).train)


def test_a_limit_too_small_for_train_and_val(pictures):
    with pytest.raises(ValueError, match=r"needs a training picture for train and one for val, but \w has 1: raise"):
        make(pictures, limit=4)


def test_a_class_too_small_for_train_and_val(pictures):
    few = dataclasses.replace(pictures, train=pictures.train[[0, 1, 25, 26, 50, 51, 75]])
    with pytest.raises(ValueError, match="but d has 1: add pictures"):
        make(few)


def test_unlabelled_pictures_go_to_pretrain_only(pictures):
    extra = Images(torch.full((30, 3, 4, 4), 250, dtype=torch.uint8), classes=tuple("abcd"))
    data = make(dataclasses.replace(pictures, unlabelled=extra))
    assert len(data.pretrain) == 130 and len(data.train) + len(data.val) == 100
    assert colors(data.pretrain).count(250) == 30
    assert len(make(dataclasses.replace(pictures, unlabelled=extra), limit=20).pretrain) == 40


def test_size_resizes_every_part(pictures):
    data = make(pictures, size=7)
    assert all(getattr(data, part).x.shape[2:] == (7, 7) for part in ("pretrain", "train", "val", "test"))
    assert colors(data.test) == colors(make(pictures).test), "one colour stays that colour"


def test_shrinking_is_antialiased():
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    small = vision.resize(board.to(torch.uint8).expand(2, 3, 64, 64), 8)
    assert small.shape == (2, 3, 8, 8)
    assert ((small.int() - 127).abs() <= 2).all(), "a fine chequerboard should become an even grey"


def test_resizing_keeps_the_central_square():
    wide = torch.zeros(1, 3, 4, 12, dtype=torch.uint8)
    wide[..., 4:8] = 200
    assert (vision.resize(wide, 2) == 200).all()


def test_resizing_agrees_with_pillow():
    x = torch.randint(0, 256, (1, 3, 40, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    wanted = Image.fromarray(x[0].permute(1, 2, 0).numpy()).resize((16, 16), Image.Resampling.BILINEAR)
    difference = vision.resize(x, 16)[0].permute(1, 2, 0).int() - torch.from_numpy(np.array(wanted)).int()
    assert difference.abs().max() <= 1


# ---- public sets: the cache and local archives ---------------------------------------------------------------------


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
        assert part.x.is_contiguous() and part.x.shape[2] == side + 2 * border
        assert part.y.tolist() == labels.tolist()
    if name == "stl10":
        assert np.array_equal(pictures.unlabelled.x.numpy(), x[:5])
    data = load(name)
    assert data.source == "the original files" and len(data.classes) == 10
    assert len(data.pretrain) == (55 if name == "stl10" else 50) and len(data.test) == 10


def test_public_sets_are_well_described():
    for name, spec in public.PUBLIC.items():
        assert spec.name == name and len(set(spec.classes)) == 10
        for file in spec.files:
            assert len(file.sha256) == 64 and file.size > 0
            assert len(set(file.urls)) >= 3 and all(url.endswith("/" + file.name) for url in file.urls)


# ---- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, nearest",
    [
        ("cifar-10", "cifar10"),
        ("stl", "stl10"),
        ("fashionmnist", "fashion_mnist"),
        ("Toybox", "toybox"),
        ("folder", "folder:PATH"),
        ("", ""),
    ],
)
def test_an_unknown_name_offers_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f'no data set is called "{name}": did you mean "{nearest}') as caught:
        load(name)
    assert "toybox, cifar10, stl10, fashion_mnist, folder:PATH, archive:PATH" in str(caught.value)


@pytest.mark.parametrize("what", ["size", "limit"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "32"])
def test_sizes_and_limits_are_whole_numbers(what, value):
    with pytest.raises(ValueError, match=f"{what} must be a whole number of at least 1, got {value!r}"):
        load("cifar10", **{what: value})
