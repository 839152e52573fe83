"""`fit`: the only training loop. It knows no method by name.

Everything random in step s comes from a seed made of (seed, process, s), and the order of epoch e from (seed, e). So a
run that was killed needs nothing but its weights, its optimizer and the number of its step to go on as if nothing had
happened: on a CPU it ends with the same weights, bit for bit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import pickle
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from course_lib import augment, progress
from course_lib.data.types import Dataset, Examples
from course_lib.devices import autocast_dtype, channels_last, pick_device, plain_modes
from course_lib.files import save_torch
from course_lib.methods.base import Method
from course_lib.optim import build_optimizer, learning_rate

FLUSH_EVERY = 10  # steps between two looks at the losses: each look waits for a GPU to catch up


@dataclasses.dataclass
class History:
    """What a training logged: one dict a step with `step`, `epoch` (a fraction), `lr`, `loss` and what else came.

    seconds: time spent in training, over all resumed parts. pictures: how many were seen, repeats counted, by all
    processes together.
    """

    logs: list[dict[str, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    pictures: int = 0

    def __getitem__(self, key: str) -> list[float]:
        """All values of one logged number, in order; steps that did not log it are left out."""
        return [log[key] for log in self.logs if key in log]

    def __repr__(self) -> str:
        if not self.logs:
            return "History(nothing logged)"
        return (f"History({self.pictures:,} pictures in {self.seconds:.0f} s, loss {self.logs[0]['loss']:.3f} → "
                f"{self.logs[-1]['loss']:.3f})")


def fit(method: Method, images: Examples, *, epochs: float, batch_size: int = 256, lr: float = 1e-3,
        weight_decay: float = 0.05, optimizer: str = "adamw", warmup: float = 0.05, precision: str = "auto",
        device: str = "auto", resume: str | Path | None = None, save_every: float = 30.0, seed: int = 0,
        callbacks: Sequence[Callable[[Method, History], None]] = ()) -> History:
    """Train a method on pictures, in place, and return what was logged.

    epochs: passes over the pictures; may be a fraction. batch_size: pictures a step, over all processes; the last,
    smaller batch of an epoch is left out. warmup: the share of all steps in which the rate rises. precision: "auto",
    "float32", "bfloat16" or "float16". resume: a file in which the run saves itself every `save_every` seconds and at
    its end, and from which it goes on if the file is there. callbacks: called as `callback(method, history)` after each
    epoch. Under `torchrun` the same call trains on several processes, each with its share of every batch.

    Raises TypeError or ValueError where method, pictures, settings and the resumed run do not fit each other, and
    FloatingPointError when a loss or a weight is not finite.
    """
    rank, world = start_processes()
    device = pick_device(device)
    images = check_images(method, images)
    check_settings(lr=lr, weight_decay=weight_decay, warmup=warmup)
    steps_per_epoch, steps = count_steps(method, len(images), epochs, batch_size, world)
    dtype = autocast_dtype(precision, device)
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "seed": seed,
                "optimizer": optimizer, "warmup": warmup, "precision": str(dtype), "processes": world}
    resume = None if resume is None else Path(resume).expanduser()
    if resume is not None:
        settings |= fingerprint(images) | describe(method)
    devices = range(torch.cuda.device_count()) if device.type == "cuda" else []
    # From here on, since also weights that are moved inside another inference mode could not be trained afterwards.
    with plain_modes(grad=True), torch.random.fork_rng(devices):
        channels_last(method.to(device)).train()
        images = images.to(device)
        if world > 1 and device.type == "cuda":
            method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
        model = DistributedDataParallel(method) if world > 1 else method
        opt = build_optimizer(method, optimizer, lr, weight_decay, method.constant_lr)
        scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        history = History()
        start = load_run(resume, settings, method, opt, scaler, history)

        pending: list[dict] = []
        clock = saved = time.monotonic()
        saved_step = start

        def flush():
            nonlocal clock
            for log in pending:
                log.update({k: v.item() for k, v in log.items() if isinstance(v, Tensor)})
                check_finite(log, method)
            history.logs += pending
            pending.clear()
            now = time.monotonic()
            history.seconds, clock = history.seconds + now - clock, now

        def train_step(step: int, index: Tensor) -> dict[str, float | Tensor]:
            done = step / steps
            torch.manual_seed(mix(seed, step, rank + 1))
            augment.follow(method.views, done)
            method.before_step(done)
            rate = set_rates(opt, step, steps, lr, max(1, round(warmup * steps)))
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                out = model(images.batch(index))
            # Inside a caller's autocast, leaving does not forget the weights that were cast, and they now change.
            torch.clear_autocast_cache()
            check_gradient(out["loss"], method)
            opt.zero_grad(set_to_none=True)
            scaler.scale(out["loss"]).backward()
            scaler.unscale_(opt)
            method.before_update(opt, done)
            scaler.step(opt)
            scaler.update()
            method.after_step((step + 1) / steps)
            return {"step": step, "epoch": (step + 1) / steps_per_epoch, "lr": rate,
                    **{k: v.detach() for k, v in out.items()}}

        bar = progress.bar(total=steps, initial=start, desc=type(method).__name__, quiet=rank > 0)
        try:
            for step in range(start, steps):
                epoch, place = divmod(step, steps_per_epoch)
                if step == start or place == 0:
                    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(mix(seed, epoch)))
                share = order[place * batch_size : (place + 1) * batch_size][rank::world]
                pending.append(train_step(step, share))
                history.pictures += batch_size
                last, epoch_ends = step + 1 == steps, place + 1 == steps_per_epoch
                due = resume is not None and (last or time.monotonic() - saved >= save_every)
                if len(pending) >= FLUSH_EVERY or last or due or (epoch_ends and callbacks):
                    flush()
                    bar.set_postfix(loss=f"{history.logs[-1]['loss']:.3f}", refresh=False)
                if last or (epoch_ends and callbacks):
                    share_buffers(method, world)
                if last or due:
                    check_weights(method)
                if due:
                    if rank == 0:
                        save_run(resume, settings, step + 1, method, opt, scaler, history)
                    saved, saved_step = time.monotonic(), step + 1
                if epoch_ends and callbacks:
                    for callback in callbacks:
                        callback(method, history)
                    method.train()  # a callback that measures may have left it in eval mode
                    clock = time.monotonic()  # and its time is not the training's
                bar.update()
        except KeyboardInterrupt:
            if rank == 0 and resume is not None and saved_step:
                progress.say(f"stopped: {resume} holds the run up to step {saved_step} of {steps}, and the same call "
                             "goes on from there")
            raise
        finally:
            bar.close()
            augment.follow(method.views, 1.0)
    return history


def check_images(method: Method, images: Any) -> Examples:
    """The pictures with what the method needs and nothing else.

    Raises TypeError for what is no pictures, or a method that is none, ValueError where something needed is missing or
    the method cannot be trained.
    """
    if not isinstance(method, Method):
        raise TypeError(f"fit trains a Method, got {type(method).__name__}: give cl.methods.SimCLR(encoder), or a "
                        "subclass of cl.Method of your own")
    if any(tensor.is_inference() for tensor in (*method.parameters(), *method.buffers())):
        raise ValueError(f"{type(method).__name__} was built inside torch.inference_mode, and such weights cannot be "
                         "trained: build it outside")
    if not all(hasattr(images, name) for name in ("only", "batch", "to")):
        hint = {Dataset: "give one part of it, data.pretrain", Tensor: "wrap it, cl.Images(x)"}.get(
            type(images), "give data.pretrain of a loaded data set")
        raise TypeError(f"fit trains on Images or Clips, got {type(images).__name__}: {hint}")
    try:
        return images.only(method.needs)
    except ValueError as error:
        raise ValueError(f"{type(method).__name__}: {error}") from error


def check_settings(*, lr: float, weight_decay: float, warmup: float) -> None:
    """Raise ValueError for a setting that no training can have."""
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be a positive number, got {lr}: 1e-3 is usual")
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be 0 or more, got {weight_decay}: 0.05 is usual")
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup is a share of all steps and must lie in [0, 1], got {warmup}: 0.05 is usual")


def count_steps(method: Method, pictures: int, epochs: float, batch_size: int, world: int) -> tuple[int, int]:
    """Steps an epoch and steps in all, after a look at whether pictures and batch fit the method."""
    if int(batch_size) != batch_size or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of pictures, at least 1, got {batch_size}")
    if pictures < batch_size:
        raise ValueError(f"a batch of {batch_size} needs at least as many pictures, got {pictures}: lower batch_size")
    if batch_size % world:
        raise ValueError(f"batch_size {batch_size} does not split over {world} processes: use a multiple of {world}")
    if batch_size // world < method.smallest_batch:
        raise ValueError(f"{type(method).__name__} needs at least {method.smallest_batch} pictures in each process's "
                         f"batch, got {batch_size // world}: raise batch_size")
    if not 0 < epochs < math.inf:
        raise ValueError(f"epochs must be a positive number, got {epochs}")
    steps_per_epoch = pictures // batch_size
    return steps_per_epoch, max(1, round(epochs * steps_per_epoch))


def set_rates(opt: torch.optim.Optimizer, step: int, steps: int, peak: float, warmup: int) -> float:
    """Give every group its learning rate of this step; the one that follows the schedule is returned, to be logged."""
    rate = learning_rate(step, steps, peak, warmup)
    for group in opt.param_groups:
        group["lr"] = peak if group["constant_lr"] and step >= warmup else rate
    return rate


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


def check_gradient(loss: Tensor, method: Method) -> None:
    """Raise ValueError for a loss that no weight can lower."""
    if not loss.requires_grad:
        raise ValueError(f"{type(method).__name__}.loss does not depend on any weight that is trained: look for a "
                         "detach(), a no_grad or an item() on the way, and for weights that are all frozen")


def check_weights(module: nn.Module) -> None:
    """Raise FloatingPointError where a weight is NaN or infinite or a buffer NaN: a loss shows that a step too late.

    A buffer may be infinite by right, as a mask for attention is.
    """
    broken = [name for name, p in module.named_parameters() if not p.isfinite().all()]
    broken += [name for name, b in module.named_buffers() if b.isnan().any()]
    if broken:
        raise FloatingPointError(f"{type(module).__name__}: {broken[0]} is not finite after the last step, so nothing "
                                 "is saved. The learning rate is probably too high: try a third of it")


def share_buffers(method: Method, world: int) -> None:
    """Every process gets the first one's buffers: on a CPU each has kept BatchNorm statistics of its own share."""
    if world > 1:
        for buffer in method.buffers():
            dist.broadcast(buffer, 0)


def fingerprint(images: Examples) -> dict[str, str]:
    """A short hash each of pictures, labels and captions: another data set of the same size has other ones."""
    parts = {}
    for name, tensor in {"pictures": getattr(images, "x", None), "labels": getattr(images, "y", None)}.items():
        if isinstance(tensor, Tensor):
            parts[name] = str(list(tensor.shape)).encode() + tensor.cpu().numpy().tobytes()
    if captions := getattr(images, "captions", None):
        parts["captions"] = "\n".join(captions).encode()
    return {name: hashlib.sha256(part).hexdigest()[:12] for name, part in parts.items()}


def describe(method: Method) -> dict[str, str]:
    """Every class, option and shape in a method, by its place: two methods that train alike have equal descriptions."""
    found = {}
    for place, module in method.named_modules():
        found[place or "method"] = type(module).__qualname__
        for name, value in vars(module).items():
            if name.startswith("_") or name in ("training", "built_with"):
                continue
            if hasattr(value, "__qualname__"):  # a function or a class, unless it stands in for a method
                if not hasattr(type(module), name):
                    found[f"{place}.{name}".lstrip(".")] = value.__qualname__
            elif is_plain(value):
                found[f"{place}.{name}".lstrip(".")] = repr(value)
    return found | {f"the shape of {name}": str(list(value.shape)) for name, value in method.state_dict().items()}


def is_plain(value: Any) -> bool:
    """Whether a value is an option that reads the same in every process: a number, a word, or several of those."""
    if isinstance(value, dict):
        return all(map(is_plain, (*value, *value.values())))
    if isinstance(value, (tuple, list)):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def save_run(path, settings, step, method, opt, scaler, history) -> None:
    """Write the whole state beside `path`, then put it in place at once: a kill leaves the old file or the new one."""
    save_torch(path, {"settings": settings, "step": step, "method": method.state_dict(), "optimizer": opt.state_dict(),
                      "scaler": scaler.state_dict(), "history": dataclasses.asdict(history),
                      "threads": torch.get_num_threads()})


def load_run(path, settings, method, opt, scaler, history) -> int:
    """Fill everything from a saved run and return the step to go on with; 0 where there is nothing saved.

    Raises ValueError where the file is broken, no saved run, or that of another run.
    """
    if path is None or not path.exists():
        return 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own advice, for the authors of strange files
            state = dict(torch.load(path, map_location="cpu", weights_only=True))
        saved, step, threads = dict(state["settings"]), state["step"], state["threads"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, ValueError) as error:
        what = f"{path} is not a whole saved run ({type(error).__name__})"
        raise ValueError(f"{what}: delete it to begin anew") from error
    if differ := [k for k in {**saved, **settings} if settings.get(k) != saved.get(k)]:
        was = ", ".join(f"{k}={saved.get(k, 'nothing')} (now {settings.get(k, 'nothing')})" for k in differ[:3])
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise ValueError(f"{path} belongs to another run, with {was}{more}: go on with those settings or choose "
                         "another file")
    if threads != torch.get_num_threads():
        warnings.warn(f"{path} was begun on {threads} threads and goes on with {torch.get_num_threads()}: the result "
                      "will not be the same bit for bit", stacklevel=3)
    method.load_state_dict(state["method"])
    opt.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    for name, value in state["history"].items():
        setattr(history, name, value)
    return step


def start_processes() -> tuple[int, int]:
    """This process's rank and their number; joins the group that `torchrun` describes, once."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return 0, 1
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return dist.get_rank(), dist.get_world_size()
