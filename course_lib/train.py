"""`fit`: the only training loop. It knows no method by name.

Everything random in step s comes from a seed made of (seed, process, s), and the order of epoch e from (seed, e). So a
run that was killed needs nothing but its weights, its optimizer and the number of its step to go on as if nothing had
happened: on a CPU it ends with the same weights, bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from course_lib.data.types import Images
from course_lib.devices import autocast_dtype, pick_device
from course_lib.files import write_atomically
from course_lib.methods.base import Batch, Method
from course_lib.optim import build_optimizer, learning_rate

FLUSH_EVERY = 10  # steps between two looks at the losses: each look waits for a GPU to catch up


@dataclasses.dataclass
class History:
    """What a training logged: one dict a step with `step`, `epoch` (a fraction), `lr`, `loss` and what else came.

    seconds: time spent in training, over all resumed parts. pictures: how many were seen, repeats counted.
    """

    logs: list[dict[str, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    pictures: int = 0

    def __getitem__(self, key: str) -> list[float]:
        """All values of one logged number, in order."""
        return [log[key] for log in self.logs]

    def __repr__(self) -> str:
        if not self.logs:
            return "History(nothing logged)"
        return (f"History({self.pictures:,} pictures in {self.seconds:.0f} s, loss {self.logs[0]['loss']:.3f} → "
                f"{self.logs[-1]['loss']:.3f})")


def fit(method: Method, images: Images, *, epochs: float, batch_size: int = 256, lr: float = 1e-3,
        weight_decay: float = 0.05, optimizer: str = "adamw", warmup: float = 0.05, precision: str = "auto",
        device: str = "auto", resume: str | Path | None = None, save_every: float = 30.0, seed: int = 0,
        callbacks: Sequence[Callable[[Method, History], None]] = ()) -> History:
    """Train a method on pictures, in place, and return what was logged.

    epochs: passes over the pictures; may be a fraction. batch_size: pictures a step, over all processes; the last,
    smaller batch of an epoch is left out. warmup: the share of all steps in which the rate rises. precision: "auto",
    "float32", "bfloat16" or "float16". resume: a file in which the run saves itself every `save_every` seconds and at
    its end, and from which it goes on if the file is there. callbacks: called as `callback(method, history)` after each
    epoch. Under `torchrun` the same call trains on several processes, each with its share of every batch.

    Raises ValueError where pictures, labels or settings do not fit the method or the resumed run, and
    FloatingPointError when a loss is not finite.
    """
    rank, world = start_processes()
    device = pick_device(device)
    steps_per_epoch, steps = count_steps(method, images, epochs, batch_size, world)
    method.to(device, memory_format=torch.channels_last).train()
    images = images.to(device)
    if world > 1 and device.type == "cuda":
        method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
    model = DistributedDataParallel(method) if world > 1 else method

    opt = build_optimizer(method, optimizer, lr, weight_decay)
    dtype = autocast_dtype(precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    settings = {"method": type(method).__name__, "pictures": len(images), "epochs": epochs, "batch_size": batch_size,
                "lr": lr, "weight_decay": weight_decay, "optimizer": optimizer, "warmup": warmup, "seed": seed,
                "precision": str(dtype)}
    history = History()
    start = load_run(resume, settings, method, opt, scaler, history)

    pending: list[dict] = []
    clock = saved = time.monotonic()

    def flush():
        nonlocal clock
        for log in pending:
            log.update({k: v.item() for k, v in log.items() if isinstance(v, torch.Tensor)})
            check_finite(log, method)
        history.logs += pending
        pending.clear()
        now = time.monotonic()
        history.seconds, clock = history.seconds + now - clock, now

    with torch.random.fork_rng(range(torch.cuda.device_count()) if device.type == "cuda" else []):
        quiet = rank > 0 or bool(os.environ.get("TQDM_DISABLE"))  # tqdm itself does not ask for it in a notebook
        bar = tqdm(total=steps, initial=start, desc=type(method).__name__, unit="step", disable=quiet, mininterval=1)
        for step in range(start, steps):
            epoch, place = divmod(step, steps_per_epoch)
            if step == start or place == 0:
                order = torch.randperm(len(images), generator=torch.Generator().manual_seed(mix(seed, epoch)))
            torch.manual_seed(mix(seed, step, rank + 1))
            share = order[place * batch_size : (place + 1) * batch_size][rank::world].to(device)
            batch = Batch(images.x[share], share, images.y[share] if method.needs_labels else None)

            method.before_step(step / steps)
            rate = learning_rate(step, steps, lr, max(1, round(warmup * steps)))
            for group in opt.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                out = model(batch)
            out = out if isinstance(out, dict) else {"loss": out}
            opt.zero_grad(set_to_none=True)
            scaler.scale(out["loss"]).backward()
            scaler.step(opt)
            scaler.update()
            method.after_step((step + 1) / steps)

            history.pictures += batch_size
            pending.append({"step": step, "epoch": (step + 1) / steps_per_epoch, "lr": rate,
                            **{k: v.detach() for k, v in out.items()}})
            last = step + 1 == steps
            epoch_ends = place + 1 == steps_per_epoch
            due = resume is not None and (last or time.monotonic() - saved >= save_every)
            if len(pending) >= FLUSH_EVERY or last or due or (epoch_ends and callbacks):
                flush()
                bar.set_postfix(loss=f"{history.logs[-1]['loss']:.3f}", refresh=False)
            if due and rank == 0:
                save_run(resume, settings, step + 1, method, opt, scaler, history)
                saved = time.monotonic()
            if epoch_ends:
                for callback in callbacks:
                    callback(method, history)
            bar.update()
        bar.close()
    return history


def count_steps(method: Method, images: Images, epochs: float, batch_size: int, world: int) -> tuple[int, int]:
    """Steps an epoch and steps in all, after a look at whether pictures, labels and batch fit the method."""
    if len(images) < batch_size:
        raise ValueError(f"a batch of {batch_size} needs at least as many pictures, got {len(images)}: "
                         "lower batch_size")
    if batch_size % world:
        raise ValueError(f"batch_size {batch_size} does not split over {world} processes: use a multiple of {world}")
    if batch_size // world < method.smallest_batch:
        raise ValueError(f"{type(method).__name__} needs at least {method.smallest_batch} pictures in each process's "
                         f"batch, got {batch_size // world}: raise batch_size")
    if method.needs_labels and images.y is None:
        raise ValueError(f"{type(method).__name__} needs labels and these pictures have none: fit it on data.train, "
                         "not on data.pretrain")
    if not 0 < epochs < math.inf:
        raise ValueError(f"epochs must be a positive number, got {epochs}")
    steps_per_epoch = len(images) // batch_size
    return steps_per_epoch, max(1, round(epochs * steps_per_epoch))


def mix(*numbers: int) -> int:
    """One seed from several small numbers: different numbers, different seeds."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % 2**63
    return seed


def check_finite(log: dict[str, float], method: Method) -> None:
    """Stop a run whose loss is NaN or infinite, with what usually causes it."""
    if not math.isfinite(log["loss"]):
        raise FloatingPointError(
            f"{type(method).__name__}: the loss is {log['loss']} at step {log['step']} with a learning rate of "
            f"{log['lr']:.2g}. Usual causes: the rate is too high (try a third of it), a temperature or a deviation "
            "near zero, a logarithm or a division of zero in the loss, or pictures that are not in [0, 1].")


def save_run(path, settings, step, method, opt, scaler, history) -> None:
    """Write the whole state beside `path`, then put it in place at once: a kill leaves the old file or the new one."""
    state = {"settings": settings, "step": step, "method": method.state_dict(), "optimizer": opt.state_dict(),
             "scaler": scaler.state_dict(), "history": dataclasses.asdict(history)}
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def load_run(path, settings, method, opt, scaler, history) -> int:
    """Fill everything from a saved run and return the step to go on with; 0 where there is nothing saved."""
    if path is None or not Path(path).exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if differ := [k for k in settings if settings[k] != state["settings"].get(k)]:
        was = ", ".join(f"{k}={state['settings'].get(k)} (now {settings[k]})" for k in differ)
        raise ValueError(f"{path} belongs to another run, with {was}: go on with those settings or choose another file")
    method.load_state_dict(state["method"])
    opt.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    for name, value in state["history"].items():
        setattr(history, name, value)
    return state["step"]


def start_processes() -> tuple[int, int]:
    """This process's rank and their number; joins the group that `torchrun` describes, once."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return 0, 1
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return dist.get_rank(), dist.get_world_size()
