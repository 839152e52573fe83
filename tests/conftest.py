"""What holds for every test: no network, no data of the user's, no window, and the same random draws in any order."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
REAL_DATA = os.environ.get("COURSE_DATA")


def pytest_runtest_setup(item):
    torch.manual_seed(0)


@pytest.fixture(scope="module", autouse=True)
def apart_from_the_world(tmp_path_factory):
    """The smoke profile, empty data and cache folders, and no connection to any machine but this one."""
    connect = socket.socket.connect

    def connect_to_this_machine(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test wanted to reach {address[0]}: tests use no network, serve the bytes from 127.0.0.1")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_to_this_machine)
        patch.setenv("COURSE_PROFILE", "smoke")
        patch.setenv("COURSE_DATA", str(tmp_path_factory.mktemp("data")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real CIFAR-10, for the few tests that need it: `cl.load("cifar10", root=real_data)`."""
    if not REAL_DATA:
        pytest.skip("needs the real CIFAR-10: set COURSE_DATA to the folder that has it")
    return Path(REAL_DATA)
