"""Pictures of one's own: every layout that is understood, one sentence for every other, and archives that mean harm."""

import gzip
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from data_helpers import COLORS, assert_colors, assert_same, class_folders, keys, loose, member, pack, paint
from PIL import Image

from course_lib.data import Dataset, Images, folders, load

try:
    blank = Images(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    Dataset("none", blank, blank, blank, blank)
    LABELS_ARE_NEEDED = False
except ValueError:
    LABELS_ARE_NEEDED = True
without_labels = pytest.mark.skipif(LABELS_ARE_NEEDED, reason="a Dataset without labels cannot be made yet")

# ---- class folders -------------------------------------------------------------------------------------------------


def test_folder_with_train_and_test(tmp_path):
    data = load(f"folder:{class_folders(tmp_path / 'set', {'train': 20, 'test': 5})}")
    for part, wanted in (("pretrain", 54), ("train", 54), ("val", 6), ("test", 15)):
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


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_archive_gives_the_same_as_the_folder(tmp_path, suffix):
    folder = class_folders(tmp_path / "set", {"train": 4, "test": 2})
    one, other = load(f"folder:{folder}"), load(f"archive:{pack(folder, tmp_path / f'set{suffix}')}")
    assert_same(one, other)


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
    paint(tmp_path / "__MACOSX" / "red" / "000.png", COLORS["red"])
    data = load(f"folder:{tmp_path}")
    assert (len(data.train), len(data.val)) == (3, 3)


def test_pictures_of_different_sizes_need_a_size(tmp_path):
    class_folders(tmp_path, {"train": 2, "test": 1})
    paint(tmp_path / "train" / "red" / "wide.png", COLORS["red"], size=(20, 10))
    with pytest.raises(ValueError, match=r"pictures of different sizes, from 8×8 to 10×20: give size=32, or"):
        load(f"folder:{tmp_path}")
    data = load(f"folder:{tmp_path}", size=6)
    assert len(data.train) + len(data.val) == 7
    assert all(getattr(data, part).x.shape[2:] == (6, 6) for part in ("pretrain", "train", "val", "test"))
    assert_colors(data.train)


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
    with pytest.raises(ValueError, match=r"should hold train/CLASS/\* \(and val/CLASS/\*, .*, got .*: put each"):
        load(f"folder:{tmp_path}")


def test_no_pictures(tmp_path):
    with pytest.raises(ValueError, match="got no pictures: put each picture in the folder of its class"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_no_such_path(tmp_path, kind):
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a f\w+: check the path"):
        load(f"{kind}:{tmp_path / 'nowhere'}")


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
    path.write_bytes(whole[: int(keep * len(whole)) // 512 * 512 + 100 if keep else 0])
    with pytest.raises(ValueError, match=r"is no tar archive or is damaged \(.*\): copy it here again"):
        load(f"archive:{path}")


def test_something_else_than_an_archive(tmp_path):
    path = tmp_path / "set.tar"
    path.write_text("this is no archive " * 100)
    with pytest.raises(ValueError, match="is no tar archive or is damaged"):
        load(f"archive:{path}")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_an_archive_that_stops_between_two_pictures_is_refused(tmp_path, suffix):
    """Every byte before the cut is right, so it passes for a smaller archive but for the missing end mark."""
    path = tmp_path / f"set{suffix}"
    plain = pack(class_folders(tmp_path / "set", {"train": 4, "test": 2}), tmp_path / "whole.tar")
    with tarfile.open(plain) as archive:
        cuts = [info.offset for info in archive][3:]
    for cut in cuts:
        with (open(path, "wb") if suffix == ".tar" else gzip.open(path, "wb")) as stream:
            stream.write(plain.read_bytes()[:cut])
        with pytest.raises(ValueError, match=r"is damaged \(it stops before its end mark\): copy it here again"):
            load(f"archive:{path}")


def test_a_broken_header_in_the_middle_is_no_end(tmp_path):
    path = pack(class_folders(tmp_path / "set", {"train": 4, "test": 2}), tmp_path / "set.tar")
    with tarfile.open(path) as archive:
        middle = [info.offset for info in archive][9]
    content = bytearray(path.read_bytes())
    content[middle + 150] ^= 1  # its checksum
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        load(f"archive:{path}")


# ---- archives that unpack to too much ------------------------------------------------------------------------------


BIG = 600 << 20


def sparse_header(name, size):
    """A member that is one hole of `size` bytes: no byte of it is in the archive."""
    header = bytearray(member(name, type=tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % size
    header[148:155] = b"%06o\0" % tarfile.calc_chksums(header)[0]
    return bytes(header)


@pytest.mark.parametrize(
    "header, zeros",
    [
        (member("red/big.png", size=BIG).tobuf(tarfile.GNU_FORMAT), BIG),
        (member("././@LongLink", size=BIG, type=tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT), BIG),
        (sparse_header("red/hole.png", BIG), 0),
    ],
    ids=["picture", "name", "hole"],
)
def test_a_tar_bomb_is_refused_before_memory_is_gone(tmp_path, header, zeros):
    """In a process that may take 400 MB more than it has: the member alone would be 600."""
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header)
        for _ in range(0, zeros, 1 << 20):
            stream.write(bytes(1 << 20))
        stream.write(bytes(1024))
    assert path.stat().st_size < 10e6
    code = f"""
import resource, course_lib.data.folders as folders
from pathlib import Path
now = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + (400 << 20),) * 2)
try:
    folders.read_archive(Path({str(path)!r}), None)
except ValueError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert "of 629 MB, and at most 200 MB are read: take it out" in run.stdout


def test_more_pictures_than_fit_in_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MOST_BYTES", 30 * 3 * 8 * 8)
    class_folders(tmp_path, 10, parts=("",))
    load(f"folder:{tmp_path}")
    paint(tmp_path / "red" / "more.png", COLORS["red"])
    with pytest.raises(ValueError, match=r"more than .* GB of pictures once they are decoded: give a smaller size="):
        load(f"folder:{tmp_path}")
    load(f"folder:{tmp_path}", size=4)


def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch):
    path = pack(class_folders(tmp_path / "set", 10, parts=("",)), tmp_path / "set.tar")
    monkeypatch.setattr(folders, "MOST_FILES", 34)  # 30 pictures and 4 folders
    load(f"archive:{path}")
    monkeypatch.setattr(folders, "MOST_FILES", 33)
    with pytest.raises(ValueError, match="holds more than 33 files: give a smaller archive"):
        load(f"archive:{path}")


def test_pixels_without_end_are_refused(tmp_path):
    """A picture of 20,000 × 20,000 in a few kilobytes: 1.2 GB of pixels."""
    class_folders(tmp_path, 3, parts=("",))
    Image.new("1", (20_000, 20_000)).save(tmp_path / "red" / "wide.png")
    with pytest.raises(ValueError, match=r"cannot read the picture red/wide\.png in .*decompression bomb"):
        load(f"folder:{tmp_path}", size=8)


# ---- which parts and classes there are -----------------------------------------------------------------------------


LAYOUTS = {
    "train": ({"train": 20}, (3 * 14, 3 * 2, 3 * 4)),
    "train and test": ({"train": 20, "test": 5}, (3 * 18, 3 * 2, 3 * 5)),
    "train and val": ({"train": 20, "val": 3}, (3 * 16, 3 * 3, 3 * 4)),
    "train, val and test": ({"train": 20, "val": 3, "test": 5}, (3 * 20, 3 * 3, 3 * 5)),
}


@pytest.mark.parametrize("kind", ["folder", "archive"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_parts_that_are_there_are_taken_and_the_others_split_off(tmp_path, layout, kind):
    counts, sizes = LAYOUTS[layout]
    folder = class_folders(tmp_path / "set", counts, parts=counts)
    for name in set(counts) - {"train"}:  # darker than the training pictures, so that each part can be told
        for path in (folder / name).rglob("*.png"):
            color = tuple(c // 2 for c in Image.open(path).getpixel((0, 0)))
            paint(path, color)
    data = load(f"folder:{folder}" if kind == "folder" else f"archive:{pack(folder, tmp_path / 'set.tar')}")
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    for part in (data.train, data.val, data.test):
        assert_colors(part)
    for name in ("val", "test"):
        assert (getattr(data, name).x.amax() < 128) == (name in counts), f"{name} came from elsewhere"
    assert torch.equal(data.pretrain.x, data.train.x) and data.pretrain.y is None
    if set(counts) == {"train"}:
        assert len(set(keys(data.train) + keys(data.val) + keys(data.test))) == 60


@pytest.mark.parametrize("parts", [("test",), ("val", "test")])
def test_parts_without_train_are_refused(tmp_path, parts):
    class_folders(tmp_path, dict.fromkeys(parts, 4), parts=parts)
    with pytest.raises(ValueError, match=r"should hold train/CLASS/\* .*got test/blue/"):
        load(f"folder:{tmp_path}")


def test_a_class_may_be_called_train(tmp_path):
    for name in ("car", "train"):
        for i in range(4):
            paint(tmp_path / name / f"{i}.png", (i, 0, 0))
    assert load(f"folder:{tmp_path}").classes == ("car", "train")


def test_a_class_is_the_folder_right_under_the_part(tmp_path):
    """What lies deeper belongs to it: no class is added by depth, and none is two of the same name at once."""
    for i in range(5):
        paint(tmp_path / "deep" / "cat" / f"{i}.png", (i, 0, 0))
        paint(tmp_path / "deep" / "cat" / "indoors" / f"{i}.png", (i, 0, 9))
        paint(tmp_path / "deep" / "dog" / f"{i}.png", (i, 9, 0))
        paint(tmp_path / "twice" / "a" / "x" / f"{i}.png", (i, 0, 0))
        paint(tmp_path / "twice" / "b" / "x" / f"{i}.png", (i, 0, 9))
    deep, twice = load(f"folder:{tmp_path / 'deep'}"), load(f"folder:{tmp_path / 'twice'}")
    assert deep.classes == ("cat", "dog") and deep.test.y.bincount().tolist() == [2, 1]
    assert twice.classes == ("a", "b")
    for part in (twice.train, twice.val, twice.test):
        assert torch.equal(part.x[:, 2, 0, 0] == 9, part.y == 1)


def test_folders_around_everything_are_passed_by(tmp_path):
    class_folders(tmp_path / "outer" / "inner", {"train": 4, "test": 2})
    data = load(f"folder:{tmp_path}")
    assert data.classes == ("blue", "green", "red") and len(data.test) == 6


def test_a_class_folder_may_be_a_link_and_a_circle_ends(tmp_path):
    class_folders(tmp_path / "set", 4, parts=("",))
    (tmp_path / "set" / "red").rename(tmp_path / "elsewhere")
    (tmp_path / "set" / "red").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "blue" / "circle").symlink_to(tmp_path / "set")
    data = load(f"folder:{tmp_path / 'set'}")
    assert data.classes == ("blue", "green", "red")
    assert len(data.train) + len(data.val) + len(data.test) == 12


@pytest.mark.parametrize("count", [3, 4, 5])
def test_a_few_pictures_a_class_are_enough_for_all_parts(tmp_path, count):
    data = load(f"folder:{class_folders(tmp_path, count, parts=('',))}")
    for part in (data.train, data.val, data.test):
        assert (part.y.bincount(minlength=3) > 0).all()


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_pictures_for_all_parts(tmp_path, count):
    with pytest.raises(ValueError, match=f"needs a picture for each of train, val, test, got {count}: add pictures"):
        load(f"folder:{class_folders(tmp_path, count, parts=('',))}")


# ---- pictures without classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_loose_pictures_are_found_to_have_no_labels(tmp_path, kind):
    folder = loose(tmp_path / "set", 30)
    if kind == "folder":
        pictures = folders.read_folder(folder, None)
    else:
        pictures = folders.read_archive(pack(folder, tmp_path / "set.tar"), None)
    assert pictures.train.y is None and pictures.train.classes == () and len(pictures.train) == 30
    assert pictures.val is None and pictures.test is None


@without_labels
def test_loose_pictures_become_a_data_set_without_labels(tmp_path):
    data = load(f"folder:{loose(tmp_path, 30)}")
    parts = (data.pretrain, data.train, data.val, data.test)
    assert [len(part) for part in parts] == [22, 22, 2, 6] and data.classes == ()
    assert all(part.y is None for part in parts)
    assert torch.equal(data.pretrain.x, data.train.x)
    everything = [int(value) for part in parts[1:] for value in part.x[:, 0, 0, 0]]
    assert sorted(everything) == list(range(30))
    assert_same(data, load(f"archive:{pack(tmp_path, tmp_path.parent / f'{tmp_path.name}.tar')}"))


@without_labels
def test_loose_pictures_in_parts(tmp_path):
    loose(tmp_path / "train", 20), loose(tmp_path / "test", 4)
    data = load(f"folder:{tmp_path}")
    assert [len(part) for part in (data.train, data.val, data.test)] == [18, 2, 4] and data.test.y is None


@without_labels
def test_a_limit_on_loose_pictures_is_not_the_first_by_name(tmp_path):
    data = load(f"folder:{loose(tmp_path, 60)}", limit=10)
    assert len(data.train) + len(data.val) == 10 and len(data.test) == 10
    assert data.train.x[:, 0, 0, 0].max() > 30


def test_too_few_loose_pictures(tmp_path):
    with pytest.raises(ValueError, match="a data set needs a picture for each of train, val, test, got 2: add"):
        load(f"folder:{loose(tmp_path, 2)}")


def test_loose_pictures_of_different_sizes_need_a_size(tmp_path):
    loose(tmp_path, 5)
    paint(tmp_path / "wide.png", (0, 0, 0), size=(20, 10))
    with pytest.raises(ValueError, match="give size=32"):
        load(f"folder:{tmp_path}")


# ---- grey pictures of more than 8 bits -----------------------------------------------------------------------------


def gray(path, values, dtype):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.tile(np.array(values, dtype), (4, 1))).save(path)


@pytest.mark.parametrize(
    "suffix, dtype, white",
    [(".png", np.uint16, 65535), (".tif", np.uint16, 65535), (".tif", np.int32, 65535), (".tif", np.float32, 1.0)],
)
def test_deep_gray_pictures_are_scaled(tmp_path, suffix, dtype, white):
    for i in range(3):
        gray(tmp_path / "train" / "a" / f"{i}{suffix}", [0, white * 0.25, white * 0.5, white], dtype)
    data = load(f"folder:{tmp_path}")
    assert (data.train.x.int() - torch.tensor([0, 64, 127, 255])).abs().max() <= 1


def test_deep_gray_pictures_of_unknown_white_are_named(tmp_path):
    for i, values in enumerate(([0, 70_000], [-1, 5])):
        path = tmp_path / str(i) / "train" / "a" / "odd.tif"
        gray(path, values, np.int32)
        with pytest.raises(ValueError, match=r"odd\.tif in .* \(its values run from .* where 0 to 65535 was wanted\)"):
            load(f"folder:{tmp_path / str(i)}")
