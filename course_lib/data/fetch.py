"""Getting a file from the internet whole: checked by hash, resumed where it stopped, from whichever mirror works."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import http.client
import math
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from course_lib.files import cannot_write
from course_lib.progress import bar, say

TIMEOUT = 20.0  # seconds without a byte after which a connection is given up
CHUNK = 1 << 16  # bytes
NOTICE = 3.0  # seconds that a mirror may have cost before it is said that the next one is asked


class DataUnavailable(RuntimeError):
    """No source has the data: the message names each one, why it failed, and what to do offline.

    briefly: the same in half a line.
    """

    def __init__(self, message: str, briefly: str = ""):
        super().__init__(message)
        self.briefly = briefly


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file that several servers have. Its bytes are known beforehand, so it does not matter which one sends them.

    name: what it is called on disk.
    size: bytes.
    sha256: hex digest.
    urls: the mirrors, in the order in which they are asked.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]

    def is_at(self, path: Path) -> bool:
        """Whether `path` holds exactly the bytes of this file."""
        return _size(path) == self.size and sha256(path) == self.sha256


class _Failed(Exception):
    """A mirror did not give the file: the message says why in a few words."""


def sha256(path: Path) -> str:
    """The hex digest of a file, read a megabyte at a time."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(file: RemoteFile, folder: Path) -> Path:
    """The path of `file` in `folder`, downloaded where it is not there yet.

    What has come so far is kept as `NAME.part`, and the next try, mirror or run goes on from there; `NAME` itself
    appears only when its hash is right. Only one process may fetch into a folder at a time: see `public.load_public`.

    Raises DataUnavailable where no mirror gave the right bytes, OSError where the folder cannot be written.
    """
    path, part = folder / file.name, folder / f"{file.name}.part"
    if file.is_at(path):
        return path
    missing, free = file.size - _size(part), shutil.disk_usage(folder).free
    if missing > free:
        raise OSError(errno.ENOSPC, f"cannot write {path}: the disk is full: free {(missing - free) // 1_000_000 + 1} "
                                    "MB or choose another folder")
    reasons = []
    for url in file.urls:
        start = time.monotonic()
        try:
            _fetch_from(url, file, part)
        except _Failed as reason:
            reasons.append(f"{url}: {reason}")
            if url != file.urls[-1] and time.monotonic() - start > NOTICE:
                say(f"{file.name}: {urllib.parse.urlsplit(url).netloc} does not give it ({reason}), asking the next "
                    "mirror …")
        else:
            os.replace(part, path)
            return path
    last = f" ({reasons[-1].partition(': ')[2]})" if reasons else ""
    raise DataUnavailable("\n".join(reasons), f"none of {len(file.urls)} mirrors gave {file.name}{last}")


def _fetch_from(url: str, file: RemoteFile, part: Path) -> None:
    """Bring `part` to its full size from one mirror, by as many connections as it takes, and check it.

    Raises _Failed where the mirror has nothing new to give or gave the wrong bytes.
    """
    inherited = _size(part) > 0
    while True:
        before = _size(part)
        reason = _connect(url, file, part) if before < file.size else ""
        if _size(part) >= file.size:
            if file.is_at(part):
                return
            part.unlink()
            if not inherited:
                raise _Failed("wrong sha256, discarded")
            inherited = False  # the bytes of an earlier run or mirror may be the wrong ones: once more without them
        elif _size(part) <= before:
            raise _Failed(reason)


def _connect(url: str, file: RemoteFile, part: Path) -> str:
    """Add to `part` what one connection brings. Returns why that was not all, "" where it was.

    Raises _Failed where asking again would not help.
    """
    have = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "course_lib"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        raise _Failed(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Failed(_words(error)) from error

    with response:
        if response.status == 206 and _starts_at(response) != have:
            raise _Failed("sent another part of the file than the one asked for")
        if response.status != 206:  # it ignores Range and sends everything
            have = 0
        # Checked before anything is overwritten: a login page must not cost what has come so far.
        if response.length not in (None, file.size - have):
            raise _Failed(f"offered {response.length} bytes where {file.size - have} were wanted")
        with (
            _open(part, "ab" if have else "wb") as stream,
            bar(total=math.ceil(file.size / 1e6), initial=have // 10**6, desc=file.name, unit="MB") as progress,
        ):
            while have < file.size:
                try:
                    chunk = response.read1(min(CHUNK, file.size - have))  # what is there: a hang costs no bytes
                except (OSError, http.client.HTTPException) as error:
                    return _words(error)
                if not chunk:
                    return f"stopped after {have} of {file.size} bytes"
                stream.write(chunk)
                have += len(chunk)
                progress.update(have // 10**6 - progress.n)
    return ""


@contextlib.contextmanager
def _open(path: Path, mode: str):
    """`open` for writing, with a clear sentence where the disk will not take it."""
    try:
        with open(path, mode) as stream:
            yield stream
    except OSError as error:
        raise cannot_write(path, error) from error


def _starts_at(response: http.client.HTTPResponse) -> int | None:
    """Where the bytes of a partial answer belong: 100 for `Content-Range: bytes 100-199/200`."""
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    start = span.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdigit() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return "no answer in time" if isinstance(reason, TimeoutError) else str(reason) or type(reason).__name__
