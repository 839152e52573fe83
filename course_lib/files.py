"""Writing files so that a reader finds the old one or the new one, whole, whatever happens in between."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

ABANDONED = 3600.0  # seconds without a change after which an unfinished file is given up, whoever writes it


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let `write(temporary)` write a file of the same name in a folder beside `path`, then rename it to `path`.

    The folder's name is unique, so processes that write the same file do not meet: the last one wins, whole. The folder
    of `path` is made where it is missing. Whatever goes wrong, `path` is left as it was and what was written is
    removed. What an earlier writer that was killed left behind is removed too, see `tidy`.

    `write` must raise OSError where the disk takes no more. `torch.save` does not: use `save_torch`.

    Raises OSError with one sentence where the file cannot be written: a full disk, a read-only folder.
    """
    with _written(Path(path), write) as place:
        place()


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write several files that belong together: all are on the disk before the first takes its place.

    So a disk that fills up on the way leaves every one of them as it was. Raises OSError as `write_atomically` does.
    """
    with contextlib.ExitStack() as stack:
        written = [stack.enter_context(_written(path, functools.partial(Path.write_bytes, data=made)))
                   for path, made in contents.items()]
        for place in written:
            place()


@contextlib.contextmanager
def _written(path: Path, write: Callable[[Path], None]) -> Iterator[Callable[[], None]]:
    """A new file for `path`, whole and flushed, in a folder beside it, and the function that puts it in its place. The
    folder is gone afterwards."""
    # A folder, since some writers make temporary files of their own beside the one that they were asked for.
    folder = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    temporary = folder / path.name

    def place() -> None:
        with _explained(path):
            os.replace(temporary, path)

    try:
        with _explained(path):
            tidy(path)
            folder.mkdir(parents=True)
            write(temporary)
            # Flushed before the rename: otherwise a power cut may keep the new name and lose what it names.
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        yield place
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # whether it goes changes nothing about `path`


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What goes wrong with a file inside is told in one sentence."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, UTF-8, atomically, line ends as they are. Raises OSError as `write_atomically` does."""
    write_atomically(path, lambda temporary: temporary.write_bytes(text.encode("utf-8")))


def save_torch(path: str | Path, state: object) -> None:
    """Write what `torch.save` makes of `state`, atomically. Raises OSError as `write_atomically` does.

    It is made in memory first: on a full disk `torch.save` raises a RuntimeError of its own, given a path, and often
    given an open file.
    """
    import torch

    made = io.BytesIO()
    torch.save(state, made)
    write_atomically(path, lambda temporary: temporary.write_bytes(made.getbuffer()))


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically. Raises OSError as `write_atomically` does."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    def write(temporary: Path) -> None:
        try:
            save_file(dict(tensors), temporary, metadata and dict(metadata))
        except SafetensorError as error:
            # It reports a full disk as an error of its own kind, with the system's number only in the text, which is
            # "… (os error 28)" or, before version 0.5, "… (Os { code: 28, …".
            number = re.search(r"(?:os error|Os \{ code:) (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        temporary.chmod(0o644)  # it comes out readable by its owner alone, but a class shares its files

    write_atomically(path, write)


def tidy(path: str | Path) -> None:
    """Remove what writers of `path` left unfinished: those on this machine that are gone, and all after an hour.

    `write_atomically` does it before it writes. What cannot be removed stays.
    """
    path = Path(path)
    unfinished = re.compile(rf"\.{re.escape(path.name)}\.(.*)-(\d{{1,9}})-[0-9a-f]{{8}}\.tmp")
    for folder in path.parent.iterdir() if path.parent.is_dir() else ():
        if found := unfinished.fullmatch(folder.name):
            gone = found[1] == _machine() and not _is_running(int(found[2]))
            if gone or _seconds_unchanged(folder) > ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)  # another process may be removing it too


def _machine() -> str:
    """This machine's name: process numbers mean nothing on another one that shares the folder."""
    return re.sub(r"[^\w-]", "_", socket.gethostname())


def _is_running(process: int) -> bool:
    """Whether a process of this number runs here. On Windows, where asking would end it, always yes."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, and is someone else's
        return True
    return True


def _seconds_unchanged(folder: Path) -> float:
    """Since when nothing in the folder changed; 0 where another process just removed it."""
    try:
        return time.time() - max(entry.stat().st_mtime for entry in (folder, *folder.iterdir()))
    except FileNotFoundError:
        return 0.0


@contextlib.contextmanager
def claim(path: str | Path) -> Iterator[None]:
    """Keep `path` for this process while the block runs, as in `with claim("runs/simclr"): ...`.

    The claim is a lock on the file `path` + ".lock", which stays there, empty or not; the system ends the claim when
    the process dies, however it dies. `path` itself is not touched and need not be there.

    Raises ValueError at once where another process has the claim, or another block of this one, and OSError where the
    lock cannot be written.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    file = path.with_name(f"{path.name}.lock")
    lock = FileLock(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        if os.name != "nt":  # there a locked file can be neither read nor written
            file.write_text(str(os.getpid()))
    except Timeout:
        holder = "" if os.name == "nt" else file.read_text()  # older versions of filelock empty it when they ask
        process = f"process {holder}" if holder.isdigit() else "another process"
        raise ValueError(f"{path} is in use by {process}: wait until it is done, or stop it") from None
    except OSError as error:
        lock.release()
        raise cannot_write(file, error) from error
    try:
        yield
    finally:
        lock.release()


def cannot_write(path: Path, error: OSError) -> OSError:
    """The same error, of the same class and number, with a sentence that says what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "the disk is full: free some space or choose another folder"
    elif error.errno == errno.EFBIG:
        advice = "the file is larger than may be written here: raise the limit (`ulimit -f`) or choose another folder"
    else:
        advice = f"{error.strerror or error}: choose a folder that you may write to"
    return type(error)(error.errno, f"cannot write {path}: {advice}")
