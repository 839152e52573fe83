"""The piece that tests with several processes stand on: they meet, a failure is told, and nothing hangs."""

import time

import pytest
from reference.processes import run_processes

MEET = """
import sys
import torch
import torch.distributed as dist
from course_lib.train import start_processes

rank, world = start_processes()
found = [torch.zeros(1) for _ in range(world)]
dist.all_gather(found, torch.tensor([float(sys.argv[1]) + rank]))
print(rank, world, [x.item() for x in found], torch.get_num_threads())
"""


def test_two_processes_meet_and_see_each_other():
    done = run_processes(MEET, [5])
    assert [process.returncode for process in done] == [0, 0]
    assert [process.stdout for process in done] == ["0 2 [5.0, 6.0] 1\n", "1 2 [5.0, 6.0] 1\n"]


def test_none_leaves_before_all_are_done(tmp_path):
    script = """
import atexit, os, sys, time
from pathlib import Path
rank = os.environ["RANK"]
atexit.register(lambda: Path(sys.argv[1], rank).write_text(str(time.time())))
if rank == "0":
    time.sleep(1.5)
Path(sys.argv[1], "done" + rank).write_text(str(time.time()))
"""
    run_processes(script, [tmp_path])
    assert float((tmp_path / "1").read_text()) >= float((tmp_path / "done0").read_text())


def test_a_process_that_fails_is_reported_and_the_other_does_not_wait_for_it():
    script = MEET + """
if rank == 1:
    raise ValueError("this one " + "fails")
dist.barrier()
"""
    start = time.monotonic()
    with pytest.raises(AssertionError, match=r"(?s)process . of 2 failed .*stderr of process 1:.*this one fails"):
        run_processes(script, [0])
    assert time.monotonic() - start < 60


def test_processes_that_hang_are_ended():
    script = """
import os, sys, time
print("here is", os.environ["RANK"], file=sys.stderr, flush=True)
time.sleep(600)
"""
    with pytest.raises(AssertionError, match=r"(?s)after 2 seconds .*: 0, 1\n.*here is 0.*here is 1"):
        run_processes(script, timeout=2)
