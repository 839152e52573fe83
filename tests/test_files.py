"""A file is either the old one or the new one, whole, and a failure says what to do."""

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from course_lib.files import claim, save_tensors, save_torch, tidy, write_all, write_atomically, write_text

ROOT = Path(__file__).parents[1]
WRITERS = {  # each writes a file of a bit more than `size` bytes
    "text": lambda path, size: write_text(path, "x" * (size + 100)),
    "torch": lambda path, size: save_torch(path, {"x": torch.zeros(size, dtype=torch.uint8), "step": torch.ones(3)}),
    "safetensors": lambda path, size: save_tensors(path, {"x": torch.zeros(size, dtype=torch.uint8)}),
}


@contextlib.contextmanager
def files_of_at_most(size):
    """The system lets this process write no larger file, as after `ulimit -f`: it cuts a write short, then refuses."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only an administrator may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


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
        assert temporary.parent.parent == path.parent, "a rename is atomic only within one disk"
        assert temporary.name == path.name, "a writer may go by the name's end"
        assert path.read_text() == "old"

    with open(path) as reader:
        write_atomically(path, write)
        assert reader.read() == "old", "who reads the old file must not see it change"
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


def test_what_torch_saves_is_read_back(tmp_path):
    save_torch(tmp_path / "a.pt", {"x": torch.arange(3), "step": 7})
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    assert state["x"].tolist() == [0, 1, 2] and state["step"] == 7


def test_text_is_written_as_it_is(tmp_path):
    write_text(tmp_path / "a.txt", "τ\r\none\ntwo")
    assert (tmp_path / "a.txt").read_bytes() == "τ\r\none\ntwo".encode()


@pytest.mark.parametrize("size", [99_950, 100_000, 3_000_000])  # it fails with the last bytes, or long before
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_over_the_limit_is_one_sentence_and_the_old_one_stays(tmp_path, writer, size):
    path = tmp_path / "a.bin"
    path.write_text("old")
    with files_of_at_most(100_000), pytest.raises(OSError, match=r"cannot write .*a\.bin: .*raise the limit") as caught:
        WRITERS[writer](path, size)
    assert caught.value.errno == errno.EFBIG
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_sentence_and_the_old_file_stays(small_disk, writer):
    path = small_disk / "a.bin"
    WRITERS[writer](path, 100_000)
    old = path.read_bytes()
    with pytest.raises(OSError, match=r"cannot write .*a\.bin: the disk is full: free some space") as caught:
        WRITERS[writer](path, 200_000)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == old
    assert list(small_disk.iterdir()) == [path]
    WRITERS[writer](path, 110_000)  # nothing that failed takes room


def test_a_full_disk_is_understood_from_older_safetensors_too(tmp_path, monkeypatch):
    """Version 0.4 words it differently; this is its text."""
    def full(*_):
        raise SafetensorError('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "…" })')

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="the disk is full"):
        save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)})


def test_tensors_that_no_file_can_hold_are_not_called_a_full_disk(tmp_path):
    shared = torch.zeros(4)
    with pytest.raises(RuntimeError, match="share memory"):
        save_tensors(tmp_path / "a.safetensors", {"x": shared, "y": shared})
    assert list(tmp_path.iterdir()) == []


# --- what killed writers leave ----------------------------------------------------------------------------------------

WRITES = """
import sys, time
from course_lib.files import write_atomically

def write(temporary):
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(600)

write_atomically(sys.argv[1], write)
"""


@contextlib.contextmanager
def process(script, *arguments):
    """A process that has written its first line; it is killed in the end, at the latest."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        try:
            assert running.stdout.readline(), "the process ended before its first line"
            yield running
        finally:
            running.kill()


def test_a_file_that_is_being_written_stays_and_one_whose_writer_was_killed_goes(tmp_path):
    path = tmp_path / "a.txt"
    with process(WRITES, path):
        write_text(path, "one")
        assert len(list(tmp_path.iterdir())) == 2, "another process is still writing its file"
    write_text(path, "two")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "two"


def test_what_another_machine_left_goes_after_an_hour_without_a_change(tmp_path):
    path, hours_ago = tmp_path / "a.txt", time.time() - 2 * 3600
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass  # its number is no running process's here, which says nothing about another machine
    names = {"old": f".a.txt.else-where-{gone.pid}-0123abcd.tmp", "new": f".a.txt.elsewhere-{gone.pid}-0123abcd.tmp",
             "growing": f".a.txt.elsewhere-{gone.pid}-ffffffff.tmp",
             "another file's": f".b.txt.elsewhere-{gone.pid}-0123abcd.tmp",
             "the user's": ".a.txt.tmp"}
    for what, name in names.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("half")
        if what not in ("new", "growing"):
            os.utime(tmp_path / name / "a.txt", (hours_ago, hours_ago))
        if what != "new":
            os.utime(tmp_path / name, (hours_ago, hours_ago))
    tidy(path)
    assert {path.name for path in tmp_path.iterdir()} == {name for what, name in names.items() if what != "old"}


def test_a_folder_that_is_not_there_is_tidy(tmp_path):
    tidy(tmp_path / "nowhere" / "a.txt")
    assert list(tmp_path.iterdir()) == []


# --- one process at a time --------------------------------------------------------------------------------------------

CLAIMS = """
import sys, time
from course_lib.files import claim

with claim(sys.argv[1]):
    print("claimed", flush=True)
    time.sleep(600)
"""


def test_what_one_process_has_claimed_another_does_not_get_before_it_dies(tmp_path):
    path = tmp_path / "runs" / "simclr"
    with process(CLAIMS, path) as other:
        start = time.monotonic()
        for _ in range(2):  # to ask does not loosen the claim, nor forget whose it is
            with pytest.raises(ValueError, match=rf"simclr is in use by process {other.pid}: wait .* or stop it"), \
                    claim(path):
                raise AssertionError("two processes have the same claim")
        assert time.monotonic() - start < 2, "a second process is told at once"
        with claim(path.with_name("byol")):
            pass
    with claim(path):
        pass
    assert not path.exists()


def test_a_claim_ends_with_its_block_however_that_ends(tmp_path):
    with pytest.raises(KeyboardInterrupt), claim(tmp_path / "a"):
        with pytest.raises(ValueError, match=rf"a is in use by process {os.getpid()}"), claim(tmp_path / "a"):
            raise AssertionError("the same claim twice")
        raise KeyboardInterrupt
    with claim(tmp_path / "a"):
        pass


def test_a_claim_passes_on_what_goes_wrong_in_its_block(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no weights$"), claim(tmp_path / "a"):
        raise FileNotFoundError("no weights")


def test_a_claim_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*a\.lock: .*choose a folder"), claim(tmp_path / "file" / "a"):
        raise AssertionError("claimed without a lock")


def test_a_claim_on_a_full_disk_is_explained_and_let_go(tmp_path):
    refused = pytest.raises(OSError, match=r"cannot write .*a\.lock: ")
    with files_of_at_most(0), refused as caught, claim(tmp_path / "a"):
        raise AssertionError("claimed without a lock")
    with claim(tmp_path / "a"):
        del caught  # until here it kept the lock in memory: the claim must end with the failure, not with its memory


def test_files_that_belong_together_are_written_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for path in (first, second):
        path.write_text("old")
    script = f"""
import resource, signal
from pathlib import Path
from course_lib.files import write_all
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_all({{Path({str(first)!r}): b"new", Path({str(second)!r}): bytes(2000)}})
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "cannot write" in done.stdout and "second" in done.stdout
    assert first.read_text() == second.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    write_all({first: b"new", second: b"new too"})
    assert first.read_text() == "new" and second.read_text() == "new too" and len(list(tmp_path.iterdir())) == 2
