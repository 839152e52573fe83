"""Writing files so that a reader finds the old one or the new one, whole, whatever happens in between."""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let `write(temporary)` write a file beside `path`, then rename it to `path` in one step.

    The temporary name is unique, so processes that write the same file do not meet: the last one wins, whole. The
    folder is made where it is missing. Whatever goes wrong, `path` is left as it was and the temporary file is removed.

    Raises OSError with one sentence where the file cannot be written: a full disk, a read-only folder.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        # Flushed before the rename: otherwise a power cut may keep the new name and lose what it names.
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, UTF-8, atomically. Raises OSError as `write_atomically` does."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically. Raises OSError as `write_atomically` does."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    def write(temporary: Path) -> None:
        try:
            save_file(dict(tensors), temporary, metadata and dict(metadata))
        except SafetensorError as error:
            # It reports a full disk as an error of its own kind, with the system's number only in the text.
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        temporary.chmod(0o644)  # it comes out readable by its owner alone, but a class shares its files

    write_atomically(path, write)


def cannot_write(path: Path, error: OSError) -> OSError:
    """The same error, of the same class and number, with a sentence that says what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "the disk is full: free some space or choose another folder"
    else:
        advice = f"{error.strerror or error}: choose a folder that you may write to"
    return type(error)(error.errno, f"cannot write {path}: {advice}")
