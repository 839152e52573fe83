"""Small pictures on the disk, plain and in archives."""

import tarfile

import torch
from PIL import Image

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


def loose(root, count, size=(8, 8)):
    """Pictures in one folder, without classes; each is unique."""
    for i in range(count):
        paint(root / f"{i:03d}.png", (i, 100, 255 - i), size)
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


def member(name, **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def assert_same(one, other):
    """Two data sets of the same pictures, labels and classes in each part."""
    for part in ("pretrain", "train", "val", "test"):
        a, b = getattr(one, part), getattr(other, part)
        assert torch.equal(a.x, b.x), part
        assert a.classes == b.classes, part
        assert (a.y is None and b.y is None) or torch.equal(a.y, b.y), part
