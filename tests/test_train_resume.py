"""A run that was stopped, however it was stopped, goes on to the very same weights, and never as another run's."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from reference import outside
from reference.outside import SmallQueue, pictures
from torch import nn

import course_lib as cl

HERE = Path(__file__).parent
FIT = {"epochs": 2, "batch_size": 16, "device": "cpu"}


REMEMBER = {"MoCo": {"queue": 24}, "DenseCL": {"queue": 24}, "MeanShift": {"queue": 24, "hidden": 16},
            "InstDisc": {"pictures": 64, "negatives": 8}}


def simclr(seed=0, encoder=None, views=None, **options):
    torch.manual_seed(seed)
    return cl.methods.SimCLR(encoder or cl.nets.convnet((8, 16), 16), views=views or cl.augment.simclr(16),
                             **{"dim": 8, **options})


def build(name, seed=0):
    if name in REMEMBER:
        torch.manual_seed(seed)
        return getattr(cl.methods, name)(cl.nets.convnet((8, 16), 16), dim=8, views=cl.augment.simclr(16),
                                         **REMEMBER[name])
    return simclr(seed) if name == "SimCLR" else outside.build(name, seed)


def weights(method: nn.Module) -> torch.Tensor:
    return torch.cat([v.flatten().double() for v in method.state_dict().values()])


class Killed(Exception):
    """As if the process had been ended."""


def kill(method, step, error=Killed):
    """Let a training of this method end in the middle of its loop, after so many steps."""
    after_step, calls = method.after_step, iter(range(1000))

    def die(progress):
        after_step(progress)
        if next(calls) == step:
            raise error

    method.after_step = die
    return method


# --- to the very same weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SimCLR", "SmallDINO", "SmallQueue", *REMEMBER])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_run_equals_one_in_a_piece(tmp_path, name, precision):
    whole, settings = build(name), {**FIT, "precision": precision}
    expected = cl.fit(whole, pictures(), **settings)
    for step in (1, 3, 4, 7):  # inside an epoch, at its end, at the beginning of the next, before the last save
        path = tmp_path / f"{step}.pt"
        with pytest.raises(Killed):
            cl.fit(kill(build(name), step), pictures(), **settings, resume=path, save_every=0.0)
        resumed = build(name, seed=99)  # other weights: everything must come from the file
        history = cl.fit(resumed, pictures(), **settings, resume=path, save_every=0.0)
        assert torch.equal(weights(whole), weights(resumed)), f"{name}, stopped in step {step}"
        assert history["loss"] == expected["loss"] and history.pictures == expected.pictures


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, again = simclr(), simclr(seed=9)
    cl.fit(first, pictures(), **FIT, resume=tmp_path / "run.pt")
    history = cl.fit(again, pictures(), **FIT, resume=tmp_path / "run.pt")
    assert torch.equal(weights(first), weights(again)) and len(history.logs) == 8


def test_killed_at_random_moments_it_ends_with_the_same_weights(tmp_path):
    done = subprocess.run([sys.executable, HERE / "kill_and_resume.py", tmp_path], capture_output=True, text=True,
                          timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = dict(part.split("=", 1) for part in done.stdout.strip().split(" ", 2))
    assert result["equal"] == "True", done.stdout
    assert int(result["kills"]) >= 10, f"only {done.stdout}: the kills came too late to test anything"
    assert result["files"] == "['killed.pt', 'whole.pt']"


class Loud(cl.Method):
    """Its gradient is too large for a float16 at the scale that a scaler begins with, and fits at half of it."""

    def __init__(self):
        super().__init__(cl.evaluate.RawPixels(4), cl.augment.none(4))
        self.one = nn.Linear(1, 1)

    def loss(self, batch):
        out = self.one(torch.ones(1, 1))
        assert out.dtype == torch.float16
        return 1.5 * out.float().sum()


@pytest.mark.filterwarnings("ignore:float16 on a CPU")
def test_the_scale_of_float16_is_resumed(tmp_path):
    settings = {**FIT, "precision": "float16", "optimizer": "sgd"}
    whole, resumed = Loud(), Loud()
    start = {k: v.clone() for k, v in whole.state_dict().items()}
    cl.fit(whole, pictures(), **settings)
    broken = Loud()
    broken.load_state_dict(start)
    with pytest.raises(Killed):
        cl.fit(kill(broken, 3), pictures(), **settings, resume=tmp_path / "run.pt", save_every=0.0)
    cl.fit(resumed, pictures(), **settings, resume=tmp_path / "run.pt")
    assert torch.equal(weights(whole), weights(resumed)), "it went on with another scale and left out a step"


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cl.fit(simclr(), pictures(), **FIT, resume="~/run.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


# --- never as another run ---------------------------------------------------------------------------------------------


def labelled(x=None, y=None, captions=None):
    n = 64
    return cl.Images(pictures(n).x if x is None else x, torch.arange(n) % 2 if y is None else y, ("a", "b"),
                     captions=captions or tuple(f"picture {i}" for i in range(n)))


class Reads(cl.methods.SimCLR):
    """It asks for labels and captions."""

    needs = frozenset({"labels", "captions"})


def reads():
    torch.manual_seed(0)
    return Reads(cl.nets.convnet((8,), 8), dim=8, views=cl.augment.simclr(16))


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Runs that were begun, each in its file."""
    folder = tmp_path_factory.mktemp("runs")
    cl.fit(simclr(), pictures(), **FIT, resume=folder / "simclr.pt")
    cl.fit(SmallQueue(cl.nets.convnet((8,), 8)), pictures(), **FIT, resume=folder / "queue.pt")
    cl.fit(reads(), labelled(), **FIT, resume=folder / "reads.pt")
    return folder


def other_pictures():
    x = pictures().x.clone()
    x[5, 0, 3, 3] += 1
    return x


@pytest.mark.parametrize(("file", "method", "images", "changes", "message"), [
    ("simclr", simclr, pictures, {"lr": 2e-3}, r"lr=0\.001 \(now 0\.002\)"),
    ("simclr", simclr, pictures, {"seed": 1}, r"seed=0 \(now 1\)"),
    ("simclr", simclr, pictures, {"precision": "float16"}, r"precision=torch\.\w+ \(now torch\.float16\)"),
    ("simclr", lambda: simclr(temperature=5.0), pictures, {}, r"temperature=0\.5 \(now 5\.0\)"),
    ("simclr", lambda: simclr(views=cl.augment.byol(16)), pictures, {}, r"views\.jitter=\(.*ze=0\.0 \(now 0\.1\)"),
    ("simclr", lambda: simclr(views=cl.augment.multicrop(16)), pictures, {}, "views=Views"),
    ("simclr", lambda: simclr(encoder=cl.nets.convnet((8, 16, 16), 16)), pictures, {}, r"encoder\.\S+=\S+ \(now "),
    ("simclr", lambda: simclr(dim=4), pictures, {}, r"projector\.3\.out_features=8 \(now 4\)"),
    ("simclr", lambda: outside.build("SmallDINO"), pictures, {}, r"with method=SimCLR \(now SmallDINO\)"),
    ("simclr", simclr, lambda: cl.Images(other_pictures()), {}, r"pictures=\w+ \(now \w+\)"),
    ("queue", lambda: SmallQueue(cl.nets.convnet((8,), 8), size=32), pictures, {},
     r"the shape of queue=\[24, 8\] \(now \[32, 8\]\)"),
    ("reads", reads, lambda: labelled(y=torch.arange(64) // 32), {}, r"labels=\w+ \(now \w+\)"),
    ("reads", reads, lambda: labelled(captions=("x",) * 64), {}, r"captions=\w+ \(now \w+\)"),
])
@pytest.mark.filterwarnings("ignore:float16 on a CPU")
def test_another_run_is_refused_in_one_sentence(begun, file, method, images, changes, message):
    path = begun / f"{file}.pt"
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"belongs to another run, with .*go on with those settings or") as raised:
        cl.fit(method(), images(), **{**FIT, **changes}, resume=path)
    assert raised.match(message) and "\n" not in str(raised.value)
    assert path.read_bytes() == before


def test_the_same_run_is_gone_on_with(begun):
    for file, method, images in (("simclr", simclr, pictures()), ("reads", reads, labelled())):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(cl.fit(method(), images, **FIT, resume=begun / f"{file}.pt").logs) == 8


def test_what_no_method_reads_may_differ(begun):
    images = dataclasses.replace(labelled(), masks=torch.zeros(64, 16, 16, dtype=torch.uint8))
    cl.fit(reads(), images, **FIT, resume=begun / "reads.pt")
    cl.fit(simclr(), labelled(), **FIT, resume=begun / "simclr.pt")


def test_another_number_of_threads_is_said(begun):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(UserWarning, match=rf"begun on {threads} threads and goes on with {threads + 1}: the result"):
            cl.fit(simclr(), pictures(), **FIT, resume=begun / "simclr.pt")
    finally:
        torch.set_num_threads(threads)


# --- files that are no saved run --------------------------------------------------------------------------------------


class Hostile:
    """Whoever unpickles it without a care runs a command."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


BROKEN = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "an empty dict": lambda path: torch.save({}, path),
    "a list": lambda path: torch.save([1, 2], path),
    "a tensor": lambda path: torch.save(torch.zeros(3), path),
    "weights alone": lambda path: torch.save(simclr().state_dict(), path),
    "settings that are none": lambda path: torch.save({"settings": 3, "step": 1, "threads": 1}, path),
    "text": lambda path: path.write_text("not a run\n"),
    "a pickle that runs a command": lambda path: path.write_bytes(pickle.dumps(Hostile(path.parent / "proof"))),
    "a saved file that runs a command": lambda path: torch.save({"settings": Hostile(path.parent / "proof")}, path),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_is_no_run_is_one_sentence_and_nothing_in_it_runs(begun, tmp_path, what):
    path = tmp_path / "run.pt"
    path.write_bytes((begun / "simclr.pt").read_bytes())
    BROKEN[what](path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"run\.pt is not a whole saved run \(\w+\): delete it to begin") as raised:
        cl.fit(simclr(), pictures(), **FIT, resume=path)
    assert "weights_only" not in str(raised.value) and "\n" not in str(raised.value)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_the_hostile_files_are_hostile(tmp_path):
    BROKEN["a saved file that runs a command"](tmp_path / "run.pt")
    torch.load(tmp_path / "run.pt", weights_only=False)
    assert (tmp_path / "proof").exists()


# --- saving -----------------------------------------------------------------------------------------------------------


FULL = """
import resource, sys
sys.path[:0] = [sys.argv[2]]
import torch, course_lib as cl
from test_train_resume import FIT, pictures, simclr

torch.set_num_threads(1)
size = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
settings = {**FIT, "epochs": 40, "precision": "float32"}
try:
    cl.fit(simclr(), pictures(), **settings, resume=sys.argv[1], save_every=0.0)
except OSError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_last_save(tmp_path):
    path, settings = tmp_path / "run.pt", {**FIT, "epochs": 40, "precision": "float32"}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.raises(Killed):
        cl.fit(kill(simclr(), 2), pictures(), **settings, resume=path, save_every=0.0)
    torch.set_num_threads(threads)
    before = path.read_bytes()
    # What was logged makes each save a little longer than the last one, so the limit is met on the way.
    limit = len(before) + 500
    done = subprocess.run([sys.executable, "-c", FULL, path, HERE, str(limit)], capture_output=True, text=True,
                          timeout=200, check=False, env=os.environ | {"PYTHONPATH": str(HERE.parent)})
    assert done.returncode == 0, done.stderr
    assert f"cannot write {path}: the file is larger than may be written here: raise" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]
    assert torch.load(path, weights_only=True)["step"] >= 2 and path.stat().st_size <= limit


class Explodes(cl.methods.SimCLR):
    """After some steps its loss is no number, or its weights are none."""

    def __init__(self, at, what):
        super().__init__(cl.nets.convnet((8,), 8), dim=8, views=cl.augment.simclr(16))
        self.at, self.what = at, what
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def objective(self, z1, z2):
        loss = super().objective(z1, z2)
        return loss * torch.nan if self.what == "loss" and self.steps == self.at else loss

    def after_step(self, progress):
        if self.what == "weights" and self.steps == self.at:
            with torch.no_grad():
                self.projector[0].weight[0, 0] = torch.nan
        self.steps += 1


@pytest.mark.parametrize(("at", "what", "message"), [
    (2, "loss", r"Explodes: the loss is nan at step 2 with a learning rate of .*Usual causes"),
    (2, "weights", r"Explodes: projector\.0\.weight is not finite after the last step, so nothing is saved"),
    (7, "weights", r"Explodes: projector\.0\.weight is not finite after the last step, so nothing is saved"),
])
def test_what_is_not_finite_is_never_saved(tmp_path, at, what, message):
    path = tmp_path / "run.pt"
    with pytest.raises(FloatingPointError, match=message):
        cl.fit(Explodes(at, what), pictures(), **FIT, resume=path, save_every=0.0)
    state = torch.load(path, weights_only=True)
    assert state["step"] == at
    assert all(value.isfinite().all() for value in state["method"].values())


def test_weights_that_are_not_finite_at_the_end_are_no_result():
    with pytest.raises(FloatingPointError, match="not finite after the last step"):
        cl.fit(Explodes(7, "weights"), pictures(), **FIT)


def test_a_mask_with_infinities_is_no_broken_weight():
    method = simclr()
    method.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    cl.fit(method, pictures(), **FIT)


INTERRUPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts the tests may have it ignored
sys.path[:0] = [sys.argv[2]]
from test_train_resume import FIT, cl, pictures, simclr

method = simclr()
method.after_step = lambda progress: print("step", flush=True)
cl.fit(method, pictures(), **{**FIT, "epochs": 100_000}, resume=sys.argv[1], save_every=0.0)
"""


def test_ctrl_c_says_from_where_the_run_goes_on(tmp_path):
    path = tmp_path / "run.pt"
    child = subprocess.Popen([sys.executable, "-c", INTERRUPT, path, HERE], stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(HERE.parent)})
    for _ in range(3):
        child.stdout.readline()
    child.send_signal(signal.SIGINT)
    stderr = child.communicate(timeout=100)[1]
    step = torch.load(path, weights_only=True)["step"]
    assert step >= 2 and child.returncode != 0
    assert f"stopped: {path} holds the run up to step {step} of 400000, and the same call goes on from there" in stderr


def test_stopped_in_a_notebook_the_same_method_goes_on(tmp_path, capsys):
    """The very same object, whose views may know how far the training was."""
    views = cl.augment.simclr(16, early_size=8, early=0.5)
    whole, method = simclr(views=views), simclr(views=cl.augment.simclr(16, early_size=8, early=0.5))
    cl.fit(whole, pictures(), **FIT)
    with pytest.raises(KeyboardInterrupt):
        cl.fit(kill(method, 3, KeyboardInterrupt), pictures(), **FIT, resume=tmp_path / "run.pt", save_every=0.0)
    assert "up to step 3 of 8, and the same call goes on" in capsys.readouterr().err
    assert method.views.current_size == 16, "what is drawn after a training has the full size, also after a stop"
    cl.fit(method, pictures(), **FIT, resume=tmp_path / "run.pt")
    assert torch.equal(weights(whole), weights(method))


def test_stopped_before_anything_is_saved_nothing_is_promised(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        cl.fit(kill(simclr(), 2, KeyboardInterrupt), pictures(), **FIT, resume=tmp_path / "run.pt")
    assert "goes on" not in capsys.readouterr().err and not (tmp_path / "run.pt").exists()


def test_options_in_a_dict_or_a_list_are_options_too(tmp_path):
    x = torch.randint(256, (32, 3, 16, 16), dtype=torch.uint8)
    path = tmp_path / "run.pt"
    for weight, refused in ((25.0, False), (25.0, False), (1.0, True)):
        torch.manual_seed(0)
        method = cl.methods.VICReg(cl.nets.convnet((8,), 16), dim=8, variance=weight, views=cl.augment.weak(16))
        with pytest.raises(ValueError, match="belongs to another run, with weights=") if refused else (
                contextlib.nullcontext()):
            cl.fit(method, cl.Images(x), epochs=1, batch_size=16, resume=path)
