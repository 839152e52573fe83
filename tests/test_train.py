"""`fit`: it learns, repeats itself, goes on after a kill, stops when something is wrong, and runs on two processes."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import course_lib as cl
from course_lib.optim import learning_rate
from course_lib.train import mix, save_run

HERE = Path(__file__).parent


@pytest.fixture
def images() -> cl.Images:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return cl.Images(x)


def simclr(seed: int = 0) -> cl.methods.SimCLR:
    torch.manual_seed(seed)
    return cl.methods.SimCLR(cl.nets.convnet((8, 16), 16), dim=8, views=cl.augment.simclr(16))


def weights(method: nn.Module) -> torch.Tensor:
    return torch.cat([v.flatten().double() for v in method.state_dict().values()])


class Linear(cl.Method):
    """The smallest method: one weight that should become 3. It keeps what it saw."""

    def __init__(self):
        super().__init__(nn.Linear(1, 1), cl.augment.none(16))
        self.seen, self.progress = [], []

    def loss(self, batch):
        self.seen.append(batch.index)
        return {"loss": (self.encoder.weight - 3).square().sum(), "twice": 2 * self.encoder.weight.sum()}

    def before_step(self, progress):
        self.progress.append(("before", progress))

    def after_step(self, progress):
        self.progress.append(("after", progress))


def test_reaches_the_minimum_and_logs_every_number(images):
    method = Linear()
    history = cl.fit(method, images, epochs=50, batch_size=16, lr=0.1, weight_decay=0.0)
    assert method.encoder.weight.item() == pytest.approx(3, abs=0.05)
    assert len(history.logs) == 200 and history.pictures == 200 * 16
    assert history["twice"][-1] == pytest.approx(6, abs=0.1)
    assert history["epoch"][-1] == pytest.approx(50)
    assert history["lr"] == pytest.approx([learning_rate(s, 200, 0.1, 10) for s in range(200)])


def test_every_picture_once_an_epoch_in_another_order_each_time(images):
    method = Linear()
    cl.fit(method, images, epochs=2, batch_size=16)
    first, second = torch.cat(method.seen[:4]), torch.cat(method.seen[4:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(64))
    assert first.tolist() != second.tolist()


def test_progress_runs_from_0_to_1(images):
    method = Linear()
    cl.fit(method, images, epochs=1, batch_size=32)
    assert method.progress == [("before", 0.0), ("after", 0.5), ("before", 0.5), ("after", 1.0)]


def test_part_of_an_epoch(images):
    assert len(cl.fit(Linear(), images, epochs=0.5, batch_size=16).logs) == 2


def test_callbacks_run_after_each_epoch_with_all_logs_so_far(images):
    lengths = []

    def callback(method, history):
        lengths.append(len(history.logs))

    cl.fit(Linear(), images, epochs=3, batch_size=32, callbacks=[callback])
    assert lengths == [2, 4, 6]


def test_same_seed_same_weights_and_another_seed_others(images):
    runs = []
    for seed in (1, 1, 2):
        method = simclr()
        cl.fit(method, images, epochs=1, batch_size=16, seed=seed)
        runs.append(weights(method))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_leaves_the_global_random_numbers_alone(images):
    torch.manual_seed(5)
    expected = torch.rand(3)
    method = simclr()
    torch.manual_seed(5)
    cl.fit(method, images, epochs=1, batch_size=16)
    assert torch.equal(torch.rand(3), expected)


def test_seeds_do_not_collide():
    seeds = {mix(a, b, c) for a in range(4) for b in range(200) for c in range(4)}
    assert len(seeds) == 4 * 200 * 4


@pytest.mark.parametrize("stop_after", [1, 3, 4, 7])
def test_resumed_run_equals_one_in_a_piece(images, tmp_path, stop_after):
    class Killed(Exception):
        pass

    whole = simclr()
    expected = cl.fit(whole, images, epochs=2, batch_size=16)

    broken = simclr()
    steps = iter(range(100))
    after_step = broken.after_step

    def die(progress):
        after_step(progress)
        if next(steps) == stop_after:
            raise Killed

    broken.after_step = die
    with pytest.raises(Killed):
        cl.fit(broken, images, epochs=2, batch_size=16, resume=tmp_path / "run.pt", save_every=0.0)
    resumed = simclr(seed=99)  # other weights: everything must come from the file
    history = cl.fit(resumed, images, epochs=2, batch_size=16, resume=tmp_path / "run.pt", save_every=0.0)
    assert torch.equal(weights(whole), weights(resumed))
    assert history["loss"] == expected["loss"] and history.pictures == expected.pictures


def test_a_finished_run_is_not_trained_again(images, tmp_path):
    first = simclr()
    cl.fit(first, images, epochs=1, batch_size=16, resume=tmp_path / "run.pt")
    again = simclr(seed=9)
    history = cl.fit(again, images, epochs=1, batch_size=16, resume=tmp_path / "run.pt")
    assert torch.equal(weights(first), weights(again)) and len(history.logs) == 4


def test_killed_at_twenty_random_moments_it_ends_with_the_same_weights(tmp_path):
    done = subprocess.run([sys.executable, HERE / "kill_and_resume.py", tmp_path], capture_output=True, text=True,
                          timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = dict(part.split("=", 1) for part in done.stdout.strip().split(" ", 2))
    assert result["equal"] == "True", done.stdout
    assert int(result["kills"]) >= 10, f"only {done.stdout}: the kills came too late to test anything"
    assert result["files"] == "['killed.pt', 'whole.pt']"


def test_resume_refuses_another_run(images, tmp_path):
    cl.fit(simclr(), images, epochs=1, batch_size=16, resume=tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"belongs to another run, with lr=0.001 \(now 0.002\)"):
        cl.fit(simclr(), images, epochs=1, batch_size=16, lr=0.002, resume=tmp_path / "run.pt")


def test_full_disk_while_saving_keeps_the_last_save(images, tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    cl.fit(simclr(), images, epochs=1, batch_size=16, resume=path)
    before = path.read_bytes()

    def full(state, temporary):
        Path(temporary).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    state = {"method": simclr(), "opt": torch.optim.SGD([torch.zeros(1)]), "scaler": torch.amp.GradScaler("cpu")}
    with pytest.raises(OSError, match="the disk is full"):
        save_run(path, {}, 5, history=cl.History(), **state)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.pt"]
    assert path.read_bytes() == before


class Explodes(Linear):
    def loss(self, batch):
        broken = len(self.seen) == 2
        loss = super().loss(batch)["loss"]
        return loss * float("nan") if broken else loss


def test_a_loss_that_is_not_finite_stops_with_step_method_and_rate(images):
    message = r"Explodes: the loss is nan at step 2 with a learning rate of .*Usual causes"
    with pytest.raises(FloatingPointError, match=message):
        cl.fit(Explodes(), images, epochs=2, batch_size=16)


def test_a_loss_that_is_not_finite_is_never_saved(images, tmp_path):
    with pytest.raises(FloatingPointError):
        cl.fit(Explodes(), images, epochs=2, batch_size=16, resume=tmp_path / "run.pt", save_every=0.0)
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] == 2


@pytest.mark.parametrize(("arguments", "message"), [
    ({"batch_size": 65}, "a batch of 65 needs at least as many pictures, got 64"),
    ({"batch_size": 1}, "SimCLR needs at least 2 pictures in each process's batch, got 1"),
    ({"epochs": 0}, "epochs must be a positive number, got 0"),
    ({"epochs": float("nan")}, "epochs must be a positive number, got nan"),
    ({"optimizer": "adam"}, "optimizer must be 'adamw' or 'sgd', got 'adam'"),
    ({"precision": "half"}, "precision must be 'auto' or one of"),
])
def test_bad_settings_are_one_clear_sentence(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        cl.fit(simclr(), images, **{"epochs": 1, "batch_size": 16, **arguments})


def test_a_method_that_needs_labels_says_so(images):
    method = cl.methods.Supervised(cl.nets.convnet((8,), 8), classes=2, views=cl.augment.none(16))
    with pytest.raises(ValueError, match=r"Supervised needs labels .* fit it on data.train"):
        cl.fit(method, images, epochs=1, batch_size=16)


def test_labels_reach_only_the_methods_that_ask(images):
    labelled = cl.Images(images.x, torch.arange(64) % 2, ("a", "b"))
    seen = []

    class Curious(Linear):
        def loss(self, batch):
            seen.append(batch.y)
            return super().loss(batch)

    cl.fit(Curious(), labelled, epochs=1, batch_size=64)
    Curious.needs_labels = True
    method = Curious()
    cl.fit(method, labelled, epochs=1, batch_size=64)
    assert seen[0] is None
    assert torch.equal(seen[1], method.seen[0] % 2)


def test_float32_and_bfloat16_agree_roughly(images):
    losses = [cl.fit(simclr(), images, epochs=1, batch_size=16, precision=p)["loss"] for p in ("float32", "bfloat16")]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


TWO_PROCESSES = """
import sys, torch, course_lib as cl
from torch import nn

class Small(nn.Module):  # no BatchNorm: on a CPU its statistics are each process's own
    def __init__(self):
        super().__init__()
        self.dim, self.body = 6, nn.Linear(3 * 16 * 16, 6)
    def forward(self, x):
        return self.body(x.flatten(1))

torch.manual_seed(0)
method = cl.methods.{method}
x = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
history = cl.fit(method, cl.Images(x), epochs=2, batch_size=16, lr=0.01, precision="float32", device="cpu")
if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
    torch.save({{"weights": method.state_dict(), "loss": history["loss"]}}, sys.argv[1])
"""


@pytest.mark.parametrize("method", [
    "SimCLR(Small(), dim=4, projector='linear', views=cl.augment.none(16))",
    "RotNet(Small(), views=cl.augment.none(16))",
])
def test_torchrun_with_two_processes_equals_one(tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES.format(method=method))
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
                "--rdzv-endpoint", "localhost:0"]
    for name, launcher in {"one": [], "two": torchrun}.items():
        done = subprocess.run([sys.executable, *launcher, script, tmp_path / f"{name}.pt"], capture_output=True,
                              text=True, timeout=200, check=False, cwd=HERE.parent)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    for name, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], value, rtol=1e-4, atol=1e-6, msg=f"{name} differs")
    if "SimCLR" in method:  # its loss sees both processes' pictures; a sum over pictures is each process's own
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)


def test_a_progress_bar_unless_it_is_unwanted(images, monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    cl.fit(simclr(), images, epochs=1, batch_size=32, device="cpu")
    assert "SimCLR" in capsys.readouterr().err
    monkeypatch.setenv("TQDM_DISABLE", "1")
    cl.fit(simclr(), images, epochs=1, batch_size=32, device="cpu")
    assert capsys.readouterr().err == ""
