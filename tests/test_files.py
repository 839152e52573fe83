"""A file is either the old one or the new one, whole, and a failure says what to do."""

import errno
import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from course_lib.files import save_tensors, write_atomically


def test_the_file_appears_whole_and_nothing_else_stays(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    write_atomically(path, lambda temporary: temporary.write_text("one"))
    write_atomically(path, lambda temporary: temporary.write_text("two"))
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("new")
        assert temporary.parent == path.parent, "a rename is atomic only within one folder"
        assert path.read_text() == "old"

    write_atomically(path, write)
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs the device /dev/full")
def test_a_full_disk_is_explained(tmp_path):
    with pytest.raises(OSError, match=r"cannot write .*a\.txt: the disk is full: free some space or choose") as caught:
        write_atomically(tmp_path / "a.txt", lambda temporary: Path("/dev/full").write_bytes(b"x"))
    assert caught.value.errno == errno.ENOSPC


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*a\.txt: .*: choose a folder that you may write to"):
        write_atomically(tmp_path / "file" / "a.txt", lambda temporary: temporary.write_text("x"))


def test_tensors_are_saved_with_metadata_for_everyone_to_read(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.arange(3)}, {"source": "here"})
    assert load_file(path)["x"].tolist() == [0, 1, 2]
    assert path.stat().st_mode & 0o777 == 0o644


def test_tensors_that_do_not_fit_raise_oserror_and_leave_nothing(tmp_path):
    """The limit on file sizes stands in for a disk that fills up while safetensors writes."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*a\.safetensors: ") as caught:
            save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2_000_000, dtype=torch.uint8)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []
