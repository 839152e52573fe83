"""Train in a child that is killed again and again, and once without a kill; print whether the weights are equal.

Run by test_train.py in a process of its own, since it forks. The children inherit the imports, so that a child dies
while it trains or saves, and not while it is still importing.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"

import torch

import course_lib as cl

KILLS = 20


def train(resume: Path) -> cl.methods.BYOL:
    """BYOL has all that a run must remember: weights, a teacher, running statistics, a schedule for its momentum."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randint(0, 256, (96, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    method = cl.methods.BYOL(cl.nets.convnet((8, 8), 16), hidden=16, dim=8, views=cl.augment.byol(16))
    cl.fit(method, cl.Images(x), epochs=40, batch_size=16, resume=resume, save_every=0.0, seed=3)
    return method


def main(folder: Path) -> None:
    rng = random.Random(0)
    start = time.monotonic()
    whole = train(folder / "whole.pt")
    duration = time.monotonic() - start
    kills = 0
    while kills < KILLS:
        child = os.fork()
        if child == 0:
            train(folder / "killed.pt")
            os._exit(0)
        time.sleep(rng.uniform(0, 1.8 * duration / KILLS))
        if os.waitpid(child, os.WNOHANG)[0]:
            break  # it reached the end
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
    resumed = train(folder / "killed.pt").state_dict()
    equal = all(torch.equal(v, resumed[k]) for k, v in whole.state_dict().items())
    left = sorted(p.name for p in folder.iterdir() if p.suffix == ".pt")
    print(f"kills={kills} equal={equal} files={left}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
