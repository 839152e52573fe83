"""Several processes that meet, as `torchrun` starts them, for tests of what holds over all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from torch.distributed import TCPStore

ROOT = Path(__file__).parents[2]

# What each process does after the script: it waits for the others, since a process that leaves breaks a connection that
# another one may still be reading from.
LEAVE_TOGETHER = """

import os as _os
from torch.distributed import TCPStore as _TCPStore
_store = _TCPStore(_os.environ["MASTER_ADDR"], int(_os.environ["MASTER_PORT"]), is_master=False)
_store.set("processes.py: done " + _os.environ["RANK"], "")
_store.wait(["processes.py: done " + str(_rank) for _rank in range(int(_os.environ["WORLD_SIZE"]))])
"""


def run_processes(script: str, arguments: Sequence[object] = (), world: int = 2,
                  timeout: float = 120) -> list[subprocess.CompletedProcess]:
    """Run a script in `world` fresh processes that can meet, and return what each wrote, in the order of the ranks.

    script: Python's text. It meets the others with `torch.distributed.init_process_group("gloo")`, or inside `fit`; on
    a machine with GPUs it sees none. It runs to its end: a process that exits before leaves the others waiting.
    arguments: its `sys.argv[1:]`, the same in every process. timeout: seconds for all.

    Raises AssertionError, with what every process wrote to stderr, where one fails (the others are then ended: they
    might wait for it for ever) or where they take too long. No process is left.
    """
    # The meeting point is here and not in the first process: it is there before all of them and after all of them, and
    # its port is one that is free, not one that was free a moment ago.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(world),
        # With these, the first process looks for a meeting point that is there instead of making one.
        "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
        "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.py"
        path.write_text(script + LEAVE_TOGETHER, encoding="utf-8")
        command = [sys.executable, str(path), *map(str, arguments)]
        # Files, not pipes: a pipe that nobody reads stops its writer when it is full.
        outputs = [(Path(folder) / f"{rank}.out", Path(folder) / f"{rank}.err") for rank in range(world)]
        processes = []
        try:
            for rank, (out, err) in enumerate(outputs):
                with open(out, "wb") as stdout, open(err, "wb") as stderr:
                    own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                    processes.append(subprocess.Popen(command, env=shared | own, stdin=subprocess.DEVNULL,
                                                      stdout=stdout, stderr=stderr))
            trouble = wait_for_all(processes, timeout)
        finally:
            for process in processes:
                process.kill()
            codes = [process.wait() for process in processes]
        texts = [[file.read_text(encoding="utf-8", errors="replace") for file in files] for files in outputs]
    if trouble:
        stderr = "\n".join(f"--- stderr of process {rank}:\n{err}" for rank, (_, err) in enumerate(texts))
        raise AssertionError(f"{trouble}\n{stderr}")
    return [subprocess.CompletedProcess(command, code, out, err)
            for code, (out, err) in zip(codes, texts, strict=True)]


def wait_for_all(processes: Sequence[subprocess.Popen], timeout: float) -> str:
    """Wait until all are done, one fails or time is up. Returns what went wrong, in one line, or nothing."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        codes = [process.poll() for process in processes]
        for rank, code in enumerate(codes):
            if code not in (None, 0):
                return f"process {rank} of {len(processes)} failed with exit code {code}"
        if all(code == 0 for code in codes):
            return ""
        time.sleep(0.02)
    running = [str(rank) for rank, process in enumerate(processes) if process.poll() is None]
    return f"after {timeout:g} seconds these processes still ran: {', '.join(running)}"
