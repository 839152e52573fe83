"""Servers that misbehave: after each, the right data or one clear sentence, and never a half-written cache."""

import dataclasses
import errno
import hashlib
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

from course_lib.data import fetch as fetching
from course_lib.data.fetch import DataUnavailable, RemoteFile, fetch
from course_lib.data.public import PublicSet, load_public

X = torch.randint(0, 256, (80, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
Y = torch.arange(80) % 2
BYTES = X.numpy().tobytes()
HALF = len(BYTES) // 2
WRONG = BYTES[::-1]
SILENT = ("hangs", "mute")


class Server(ThreadingHTTPServer):
    """Serves the same file under `/HOW/tiny.bin`, in the way that HOW says, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []  # (how, Range header or None)
        self.closing = threading.Event()

    def url(self, how):
        return f"http://127.0.0.1:{self.server_port}/{how}/tiny.bin"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self, data, start=0, length=None, status=None):
        """Headers, then bytes. `length` is what is announced, the length of `data` where it is None."""
        self.send_response(status or (206 if start else 200))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BYTES) - 1}/{len(BYTES)}")
        if length != "none":
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        how, asked = self.path.split("/")[1], self.headers["Range"]
        self.server.requests.append((how, asked))
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        rest = BYTES[start:]
        if how == "good":
            self.answer(rest, start)
        elif how == "slow":  # in small pieces, each well within the time allowed
            self.answer(rest[:1], start, len(rest))
            for i in range(1, len(rest), 50_000):
                self.server.closing.wait(0.01)
                self.wfile.write(rest[i : i + 50_000])
        elif how == "stops":  # half of what is left, and a little, every time
            self.answer(rest[: len(rest) // 2 + 30_000], start, len(rest))
        elif how == "ignores-range":
            self.answer(BYTES)
        elif how == "ignores-range-and-stops":
            self.answer(BYTES[:HALF], 0, len(BYTES))
        elif how == "breaks":  # half, and from then on nothing
            self.answer(b"" if start else BYTES[:HALF], start, len(rest))
        elif how == "no-length":
            self.answer(rest, start, "none")
        elif how == "endless":  # no length announced, and more bytes than there should be
            self.answer(rest + b"more", start, "none")
        elif how == "missing":
            self.send_error(404)
        elif how == "says-more":
            self.answer(rest, start, len(rest) + 1000)
        elif how == "says-less":
            self.answer(rest, start, len(rest) - 1000)
        elif how == "login-page":
            self.answer(b"<html>please log in</html>")
        elif how == "wrong-bytes":
            self.answer(WRONG[start:], start)
        elif how == "wrong-range":
            self.answer(BYTES[10:], 10, None, 206)
        elif how == "hangs":
            self.answer(rest[:HALF] if not start else b"", start, len(rest))
            self.server.closing.wait()
        elif how == "mute":
            self.server.closing.wait()
        elif how == "hangs-up":
            self.close_connection = True
        else:
            raise AssertionError(f"no test server behaves like {how}")


@pytest.fixture
def server(monkeypatch, tmp_path):
    connect = fetching._connect

    def impatient(url, file, part):
        """Waits for a server that never answers only shortly, and for the others as long as a busy machine takes."""
        monkeypatch.setattr(fetching, "TIMEOUT", 0.2 if any(f"/{how}/" in url for how in SILENT) else 60.0)
        return connect(url, file, part)

    monkeypatch.setattr(fetching, "_connect", impatient)
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


def remote(server, *ways):
    return RemoteFile("tiny.bin", len(BYTES), hashlib.sha256(BYTES).hexdigest(), tuple(map(server.url, ways)))


def read(paths, folder):
    assert list(folder.iterdir()) == [], "the folder to unpack into should be empty"
    x = torch.frombuffer(bytearray(paths["tiny.bin"].read_bytes()), dtype=torch.uint8).view(-1, 3, 32, 32)
    return {"train.x": x[:60], "train.y": Y[:60], "test.x": x[60:], "test.y": Y[60:]}


def tiny(server, *ways):
    return PublicSet("tiny", (remote(server, *ways),), ("even", "odd"), read)


def assert_right(pictures):
    assert torch.equal(torch.cat([pictures.train.x, pictures.test.x]), X)
    assert torch.equal(torch.cat([pictures.train.y, pictures.test.y]), Y)
    assert pictures.train.classes == ("even", "odd")


GIVES_IT = ["good", "slow", "stops", "ignores-range", "no-length", "endless"]
FAILS = {
    "missing": "HTTP 404 Not Found",
    "says-more": f"offered {len(BYTES) + 1000} bytes where {len(BYTES)} were wanted",
    "says-less": f"offered {len(BYTES) - 1000} bytes where {len(BYTES)} were wanted",
    "login-page": f"offered 26 bytes where {len(BYTES)} were wanted",
    "wrong-bytes": "wrong sha256, discarded",
    "wrong-range": "sent another part of the file than the one asked for",
    "ignores-range-and-stops": f"stopped after {HALF} of {len(BYTES)} bytes",
    "breaks": f"stopped after {HALF} of {len(BYTES)} bytes",
    "hangs": "no answer in time",
    "mute": "no answer in time",
    "hangs-up": "closed connection",
}


@pytest.mark.parametrize("how", GIVES_IT)
def test_a_server_that_gives_the_file_after_all(server, tmp_path, how):
    assert_right(load_public(tiny(server, how), tmp_path))
    server.requests.clear()
    assert_right(load_public(tiny(server, how), tmp_path))
    assert server.requests == [], "the second time it should come from the cache"
    assert not (tmp_path / "tiny-download").exists(), "the download is not needed beside the cache"


@pytest.mark.parametrize("how", FAILS)
def test_a_server_that_does_not_give_it(server, tmp_path, how):
    with pytest.raises(DataUnavailable) as caught:
        load_public(tiny(server, how), tmp_path)
    line = next(line for line in str(caught.value).splitlines() if server.url(how) in line)
    assert FAILS[how] in line
    assert list(tmp_path.glob("*.safetensors*")) == [], "no cache, not even half of one"
    assert not (tmp_path / "tiny-download" / "tiny.bin").exists(), "a file has its name only when its hash is right"


@pytest.mark.parametrize("how", FAILS)
def test_the_next_mirror_helps(server, tmp_path, how):
    assert_right(load_public(tiny(server, how, "good"), tmp_path))


def test_a_mirror_that_costs_time_is_named(server, tmp_path, capsys, monkeypatch):
    """A quick refusal is not, nor the last one, which the error names."""
    monkeypatch.setattr(fetching, "NOTICE", 0.1)
    load_public(tiny(server, "missing", "mute", "good"), tmp_path)
    said = capsys.readouterr().err
    assert said.count("asking the next mirror") == 1
    assert f"tiny.bin: {urlsplit(server.url('mute')).netloc} does not give it (no answer in time)" in said
    with pytest.raises(DataUnavailable):
        load_public(tiny(server, "mute"), tmp_path / "other")
    assert "asking" not in capsys.readouterr().err


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    (tmp_path / "tiny.bin.part").write_bytes(BYTES[:HALF])
    assert fetch(remote(server, "good"), tmp_path).read_bytes() == BYTES
    assert server.requests == [("good", f"bytes={HALF}-")]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.bin"]


def test_what_one_mirror_sent_is_not_asked_from_the_next(server, tmp_path):
    fetch(remote(server, "breaks", "good"), tmp_path)
    assert server.requests == [("breaks", None), ("breaks", f"bytes={HALF}-"), ("good", f"bytes={HALF}-")]


def test_a_complete_part_needs_no_server(server, tmp_path):
    (tmp_path / "tiny.bin.part").write_bytes(BYTES)
    assert fetch(remote(server, "missing"), tmp_path).read_bytes() == BYTES
    assert server.requests == []


@pytest.mark.parametrize("left", [WRONG[:HALF], WRONG, BYTES + b"more"], ids=["half", "whole", "too long"])
def test_wrong_bytes_of_an_earlier_run_are_not_held_against_a_good_mirror(server, tmp_path, left):
    (tmp_path / "tiny.bin.part").write_bytes(left)
    assert fetch(remote(server, "good"), tmp_path).read_bytes() == BYTES


def test_a_login_page_does_not_cost_what_has_come_so_far(server, tmp_path):
    (tmp_path / "tiny.bin.part").write_bytes(BYTES[:HALF])
    with pytest.raises(DataUnavailable, match="offered 26 bytes"):
        fetch(remote(server, "login-page"), tmp_path)
    assert (tmp_path / "tiny.bin.part").read_bytes() == BYTES[:HALF]


def test_no_server_at_all(server, tmp_path):
    file = dataclasses.replace(remote(server), urls=("http://127.0.0.1:9/tiny.bin",))
    with pytest.raises(DataUnavailable, match=r"127\.0\.0\.1:9/tiny\.bin: .*refused"):
        fetch(file, tmp_path)


def test_the_error_names_every_source_and_the_way_out(server, tmp_path):
    with pytest.raises(DataUnavailable) as caught:
        load_public(tiny(server, "missing", "wrong-bytes"), tmp_path)
    text = str(caught.value)
    for source in (tmp_path / "tiny.safetensors", tmp_path / "user" / "course_lib" / "tiny.safetensors",
                   tmp_path / "tiny-*.tar*", server.url("missing"), server.url("wrong-bytes")):
        assert f"{source}: " in text
    assert f"put tiny.bin, or an archive tiny-NAME.tar.xz of train/CLASS/* and test/CLASS/*, into {tmp_path}" in text
    assert "COURSE_DATA" in text and 'load("toybox")' in text


def test_a_file_put_there_by_hand_is_used_and_kept(server, tmp_path):
    (tmp_path / "tiny.bin").write_bytes(BYTES)
    assert_right(load_public(tiny(server, "missing"), tmp_path))
    assert server.requests == []
    assert (tmp_path / "tiny.bin").exists()


def test_two_at_once_download_once(server, tmp_path):
    results, barrier = [], threading.Barrier(2)

    def work():
        barrier.wait()
        results.append(load_public(tiny(server, "slow"), tmp_path))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    for pictures in results:
        assert_right(pictures)
    assert server.requests == [("slow", None)]


def test_too_little_room_is_said_before_anything_is_downloaded(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 0))
    with pytest.raises(OSError, match=r"cannot write .*tiny\.bin: the disk is full: free 1 MB or choose") as caught:
        fetch(remote(server, "good"), tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert server.requests == []


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs the device /dev/full")
def test_a_disk_that_fills_up_is_not_blamed_on_the_mirrors(server, tmp_path):
    (tmp_path / "tiny.bin.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="the disk is full: free some space"):
        fetch(remote(server, "good", "good"), tmp_path)
    assert len(server.requests) == 1


def test_a_disk_that_fills_up_while_unpacking(server, tmp_path):
    def unpack(paths, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="the disk is full: free some space"):
        load_public(dataclasses.replace(tiny(server, "good"), read=unpack), tmp_path)
    assert list(tmp_path.glob("*.safetensors*")) == []
    assert [path.name for path in (tmp_path / "tiny-download").iterdir()] == ["tiny.bin"]
