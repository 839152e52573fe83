"""`fit`: it learns, repeats itself whatever stands around it, calls a method when it should, and says what is wrong."""

import contextlib
import time

import pytest
import torch
import torchvision
from reference.outside import build, pictures
from torch import nn

import course_lib as cl
from course_lib.data import toybox
from course_lib.optim import learning_rate
from course_lib.train import mix

IMAGES, CLIPS = pictures(), toybox.clips(4, frames=4, size=16)


@pytest.fixture
def images() -> cl.Images:
    return pictures()


def simclr(seed: int = 0) -> cl.methods.SimCLR:
    torch.manual_seed(seed)
    return cl.methods.SimCLR(cl.nets.convnet((8, 16), 16), dim=8, views=cl.augment.simclr(16))


def weights(method: nn.Module) -> torch.Tensor:
    return torch.cat([v.flatten().double() for v in method.state_dict().values()])


class One(nn.Linear):
    """One weight, as an encoder."""

    dim = 1


class Linear(cl.Method):
    """The smallest method: one weight that should become 3. It keeps what it saw."""

    def __init__(self):
        super().__init__(One(1, 1), cl.augment.none(16))
        self.seen, self.progress = [], []

    def loss(self, batch):
        self.seen.append(batch.index)
        return {"loss": (self.encoder.weight - 3).square().sum(), "twice": 2 * self.encoder.weight.sum()}

    def before_step(self, progress):
        self.progress.append(("before", progress))

    def after_step(self, progress):
        self.progress.append(("after", progress))


class Curious(Linear):
    """It keeps its batches."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def loss(self, batch):
        self.batches.append(batch)
        return super().loss(batch)


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


def test_views_follow_the_training_and_have_their_full_size_afterwards(images):
    method, sides = simclr(), []
    method.views = cl.augment.simclr(16, early_size=8, early=0.5)
    encode = method.encoder.forward
    method.encoder.forward = lambda x: sides.append(x.shape[2]) or encode(x)
    cl.fit(method, images, epochs=1, batch_size=16)
    assert sides == [8] * 4 + [16] * 4  # two views a step
    assert method.views.current_size == 16


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


class Explodes(Linear):
    """The third loss is none."""

    def loss(self, batch):
        broken = len(self.seen) == 2
        loss = super().loss(batch)["loss"]
        return loss * float("nan") if broken else loss


def test_a_loss_that_is_not_finite_stops_with_step_method_and_rate(images):
    message = r"Explodes: the loss is nan at step 2 with a learning rate of .*Usual causes"
    with pytest.raises(FloatingPointError, match=message):
        cl.fit(Explodes(), images, epochs=2, batch_size=16)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"batch_size": 65}, "a batch of 65 needs at least as many pictures, got 64"),
    ({"batch_size": 1}, "SimCLR needs at least 2 pictures in each process's batch, got 1"),
    ({"epochs": 0}, "epochs must be a positive number, got 0"),
    ({"epochs": float("nan")}, "epochs must be a positive number, got nan"),
    ({"optimizer": "adam"}, "optimizer must be 'adamw' or 'sgd', got 'adam'"),
    ({"precision": "half"}, "precision must be 'auto' or one of"),
    ({"epochs": float("inf")}, "epochs must be a positive number, got inf"),
    ({"batch_size": 0}, "batch_size must be a whole number of pictures, at least 1, got 0"),
    ({"batch_size": 2.5}, r"batch_size must be a whole number of pictures, at least 1, got 2\.5"),
    ({"warmup": 2}, r"warmup is a share of all steps and must lie in \[0, 1\], got 2: 0\.05 is usual"),
    ({"warmup": -0.1}, r"warmup is a share of all steps and must lie in \[0, 1\], got -0\.1"),
    ({"weight_decay": -1}, r"weight_decay must be 0 or more, got -1: 0\.05 is usual"),
    ({"weight_decay": float("inf")}, "weight_decay must be 0 or more, got inf"),
    ({"lr": 0}, "lr must be a positive number, got 0: 1e-3 is usual"),
    ({"lr": float("nan")}, "lr must be a positive number, got nan"),
    ({"lr": float("inf")}, "lr must be a positive number, got inf"),
])
def test_bad_settings_are_one_clear_sentence(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        cl.fit(simclr(), images, **{"epochs": 1, "batch_size": 16, **arguments})


@pytest.mark.parametrize(("needs", "images", "message"), [
    ({"labels"}, IMAGES.without_labels(),
     r"Curious: labels are needed, and these pictures have none: take data\.train, not data\.pre"),
    ({"captions"}, IMAGES, "Curious: captions are needed, and these pictures have none: take Toybox"),
    ({"clips"}, IMAGES, r"Curious: clips are needed, and these are single pictures: give toybox\.clips"),
    ({"captions"}, CLIPS, "Curious: captions are needed, and clips have none"),
    ({"label"}, IMAGES, "needs must be a set with some of labels, captions, clips, got {'label'}"),
])
def test_what_a_method_needs_and_the_pictures_lack_is_one_sentence(needs, images, message):
    method = Curious()
    method.needs = frozenset(needs) if len(needs) and "label" not in needs else needs
    with pytest.raises(ValueError, match=message):
        cl.fit(method, images, epochs=1, batch_size=2)


def test_a_method_sees_what_it_asks_for_and_nothing_else(images):
    labelled = cl.Images(images.x, torch.arange(64) % 2, ("a", "b"), captions=tuple(map(str, range(64))))
    for needs in (set(), {"labels"}, {"captions"}, {"labels", "captions"}):
        method = Curious()
        method.needs = frozenset(needs)
        cl.fit(method, labelled, epochs=1, batch_size=64)
        (batch,) = method.batches
        assert torch.equal(batch.x, images.x[batch.index])
        assert (batch.y is not None) == ("labels" in needs) and (batch.captions is not None) == ("captions" in needs)
        if "labels" in needs:
            assert torch.equal(batch.y, batch.index % 2)
        if "captions" in needs:
            assert batch.captions == tuple(map(str, batch.index.tolist()))


def test_float32_and_bfloat16_agree_roughly(images):
    losses = [cl.fit(simclr(), images, epochs=1, batch_size=16, precision=p)["loss"] for p in ("float32", "bfloat16")]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


def test_a_progress_bar_unless_it_is_unwanted(images, monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    cl.fit(simclr(), images, epochs=1, batch_size=32, device="cpu")
    assert "SimCLR" in capsys.readouterr().err
    monkeypatch.setenv("TQDM_DISABLE", "1")
    cl.fit(simclr(), images, epochs=1, batch_size=32, device="cpu")
    assert capsys.readouterr().err == ""


# --- what a loss may return -------------------------------------------------------------------------------------------


def returns(value):
    """A method whose loss returns this, made of the loss that it has."""
    method = Linear()
    loss = method.loss
    method.loss = lambda batch: value(loss(batch)["loss"])
    return method


@pytest.mark.parametrize(("value", "error", "message"), [
    (lambda loss: loss.item(), TypeError, "Linear.loss must be a tensor with one number, got float: return the tensor"),
    (lambda loss: None, TypeError, "Linear.loss must be a tensor with one number, got NoneType: end the function with"),
    (lambda loss: (loss, 1), TypeError, "Linear.loss must be a tensor with one number, got tuple"),
    (lambda loss: {"total": loss}, ValueError, 'Linear.loss returned a dict of total: put the number .* under "loss"'),
    (lambda loss: {}, ValueError, "Linear.loss returned a dict of nothing: put"),
    (lambda loss: loss.expand(3), ValueError, r"Linear.loss must be one number, got a tensor of shape \[3\]: take the"),
    (lambda loss: {"loss": loss, "parts": loss.expand(2)}, ValueError, r"Linear.loss's 'parts' must be one number"),
    (lambda loss: {"loss": loss, "accuracy": "high"}, TypeError, "Linear.loss's 'accuracy' must be a tensor .*got str"),
    (lambda loss: loss.detach(), ValueError, "Linear.loss does not depend on any weight that is trained: look for"),
])
def test_a_loss_that_is_none_is_one_sentence(images, value, error, message):
    with pytest.raises(error, match=message):
        cl.fit(returns(value), images, epochs=1, batch_size=16)


def test_a_bare_tensor_is_the_loss_and_plain_numbers_may_be_logged(images):
    assert cl.fit(returns(lambda loss: loss), images, epochs=1, batch_size=16)["loss"][0] > 0
    history = cl.fit(returns(lambda loss: {"loss": loss, "momentum": 0.5, "seen": 3}), images, epochs=1, batch_size=16)
    assert history["momentum"] == [0.5] * 4 and history["seen"] == [3] * 4


def test_what_is_logged_now_and_then_is_found(images):
    method = Linear()
    loss = method.loss
    method.loss = lambda batch: loss(batch) | ({"rare": torch.tensor(1.0)} if len(method.seen) == 2 else {})
    assert cl.fit(method, images, epochs=1, batch_size=16)["rare"] == [1.0]


# --- what is trained, and on what -------------------------------------------------------------------------------------


def dataset():
    labelled = cl.Images(IMAGES.x[:8], torch.zeros(8, dtype=torch.int64), ("a",))
    return cl.data.Dataset("small", labelled.without_labels(), labelled, labelled, labelled)


@pytest.mark.parametrize(("method", "data", "message"), [
    (Linear, dataset, r"fit trains on Images or Clips, got Dataset: give one part of it, data\.pretrain"),
    (Linear, lambda: IMAGES.x, r"fit trains on Images or Clips, got Tensor: wrap it, cl\.Images\(x\)"),
    (Linear, lambda: [IMAGES], r"fit trains on Images or Clips, got list: give data\.pretrain of a loaded data set"),
    (Linear, lambda: None, "fit trains on Images or Clips, got NoneType"),
    (lambda: nn.Linear(2, 2), lambda: IMAGES, r"fit trains a Method, got Linear: give cl\.methods\.SimCLR\(encoder\)"),
    (lambda: cl.methods.SimCLR, lambda: IMAGES, "fit trains a Method, got type: give"),
])
def test_what_cannot_be_trained_is_one_sentence(method, data, message):
    with pytest.raises(TypeError, match=message):
        cl.fit(method(), data(), epochs=1, batch_size=4)


def test_an_encoder_without_dim_is_one_sentence_and_with_one_trains(images):
    resnet = torchvision.models.resnet18()
    with pytest.raises(TypeError, match=r"an encoder has a `dim`, .* ResNet has none: set encoder\.dim .*\.fc = nn"):
        cl.methods.SimCLR(resnet)
    resnet.fc, resnet.dim = nn.Identity(), 512
    method = cl.methods.SimCLR(resnet, views=cl.augment.simclr(16))
    # In bfloat16, torch 2.15 now and then gives NaN for the gradient of a convolution of maps of one pixel on a CPU.
    assert cl.fit(method, images[:8], epochs=1, batch_size=4, precision="float32", device="cpu")["loss"]
    with pytest.raises(TypeError, match=r"SimCLR needs an encoder, got .*ConvNet.*: give cl\.nets\.convnet\(\)"):
        cl.methods.SimCLR(cl.nets.ConvNet)


def test_frozen_weights_alone_are_one_sentence(images):
    with pytest.raises(ValueError, match=r"does not depend on any weight that is trained: .* that are all frozen"):
        cl.fit(simclr().requires_grad_(False), images, epochs=1, batch_size=16)


# --- when a method is called ------------------------------------------------------------------------------------------


class Watches(Linear):
    """It keeps what it finds between backward and step."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(1, 1)
        self.found = []

    def loss(self, batch):
        # Small, so that a scaler's first scale of 65,536 does not overflow a float16.
        return 0.01 * (self.body(torch.ones(1, 1)).float() - 3).square().sum() + 0 * self.encoder.weight.sum()

    def before_update(self, optimizer, progress):
        with torch.no_grad():
            wanted = 0.02 * (self.body(torch.ones(1, 1)) - 3)
        self.found.append((progress, self.body.weight.grad.item(), wanted.item(), self.body.weight.item(), optimizer))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.filterwarnings("ignore:float16 on a CPU")
def test_before_update_sees_gradients_unscaled_and_weights_as_they_were(images, precision):
    method = Watches()
    before = method.body.weight.item()
    cl.fit(method, images, epochs=1, batch_size=16, optimizer="sgd", lr=1.0, precision=precision, device="cpu")
    assert [found[0] for found in method.found] == [0, 0.25, 0.5, 0.75]
    assert method.found[0][3] == before != method.found[1][3]
    for _, gradient, wanted, _, optimizer in method.found:
        assert gradient == pytest.approx(wanted, rel=0.01)
        assert isinstance(optimizer, torch.optim.SGD)


def test_before_update_freezes_clips_and_changes_the_decay(images):
    method, layers, decays = build("SmallDINO"), [], []
    before_update = method.before_update

    def watched(optimizer, progress):
        before_update(optimizer, progress)
        gradients = [p.grad for p in method.parameters() if p.grad is not None]
        assert torch.stack([g.norm() for g in gradients]).norm() < 0.5001
        layers.append(method.head[-1].weight.clone())
        decays.append(sorted({group["weight_decay"] for group in optimizer.param_groups}))

    method.before_update = watched
    cl.fit(method, images, epochs=2, batch_size=16, weight_decay=0.04)
    assert [torch.equal(layer, layers[0]) for layer in layers] == [True] * 3 + [False] * 5
    assert [decay[0] for decay in decays] == [0] * 8 and decays[0][1] == pytest.approx(0.04)
    assert [d[1] for d in decays] == sorted(d[1] for d in decays) and decays[-1][1] > 0.35


def test_a_centre_and_a_queue_change_after_their_use(images):
    dino, queue = build("SmallDINO"), build("SmallQueue", size=48)
    start = queue.queue.clone()
    cl.fit(dino, images, epochs=0.25, batch_size=16)
    assert dino.center.abs().max() > 0
    cl.fit(queue, images, epochs=0.5, batch_size=16)
    assert queue.place == 32
    assert not (queue.queue[:32] == start[:32]).all(1).any() and torch.equal(queue.queue[32:], start[32:])


class Pace(Linear):
    """It keeps the learning rates of its two weights."""

    constant_lr = ("steady",)

    def __init__(self):
        super().__init__()
        self.steady, self.rates = One(1, 1), []

    def loss(self, batch):
        return self.encoder.weight.sum() + self.steady.weight.sum()

    def before_update(self, optimizer, progress):
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        self.rates.append((rates[id(self.encoder.weight)], rates[id(self.steady.weight)]))


def test_a_constant_rate_rises_in_the_warm_up_and_then_stays(images):
    method = Pace()
    history = cl.fit(method, images, epochs=5, batch_size=16, lr=0.1, warmup=0.2)
    falling, steady = zip(*method.rates, strict=True)
    assert steady == pytest.approx([0.025, 0.05, 0.075] + [0.1] * 17)
    assert list(falling) == history["lr"] == pytest.approx([learning_rate(s, 20, 0.1, 4) for s in range(20)])


# --- whatever stands around it ----------------------------------------------------------------------------------------


AROUND = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "nothing": contextlib.nullcontext,
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_modes_of_the_caller_change_nothing(images, precision):
    found = {}
    for name, around in AROUND.items():
        method = build("SmallQueue")
        with around():
            cl.fit(method, images, epochs=1, batch_size=16, precision=precision, device="cpu")
        found[name] = weights(method)
        cl.fit(method, images, epochs=0.25, batch_size=16, device="cpu")  # and it can be trained again outside
    assert [name for name in AROUND if not torch.equal(found[name], found["nothing"])] == []


def test_weights_that_were_made_inside_inference_mode_are_one_sentence(images):
    with torch.inference_mode():
        method = simclr()
        with pytest.raises(ValueError, match=r"SimCLR was built inside torch\.inference_mode, .*: build it outside"):
            cl.fit(method, images, epochs=1, batch_size=16)


class Fits(Linear):
    """One weight again, and here a layer that multiplies in half precision uses it."""

    def loss(self, batch):
        return (self.encoder(torch.ones(1, 1)).float() - 3).square().sum()


def test_bfloat16_multiplies_by_the_weights_of_this_step(images):
    method = Fits()
    loss = cl.fit(method, images, epochs=50, batch_size=16, lr=0.1, weight_decay=0.0, precision="bfloat16")["loss"]
    assert loss[-1] < 0.01 < loss[0]
    assert (method.encoder.weight + method.encoder.bias).item() == pytest.approx(3, abs=0.1)


def test_float16_on_a_cpu_is_said_to_be_slow(images):
    with pytest.warns(UserWarning, match="float16 on a CPU is several times slower than float32: use 'auto'"):
        cl.fit(Linear(), images, epochs=0.25, batch_size=16, precision="float16", device="cpu")


class Films(cl.Method):
    """A convolution over time too, whose weights have five dimensions."""

    needs = frozenset({"clips"})

    def __init__(self):
        encoder = nn.Sequential(nn.Conv3d(3, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        encoder.dim = 4
        super().__init__(encoder, nn.Identity())
        self.register_buffer("mean", torch.zeros(1, 3, 4, 4))

    def loss(self, batch):
        return self.encoder(batch.x.transpose(1, 2) / 255).square().mean()


def test_weights_of_five_dimensions_train_and_buffers_stay_as_they_lie():
    method = Films()
    loss = cl.fit(method, CLIPS, epochs=20, batch_size=4, lr=0.01)["loss"]
    assert loss[-1] < loss[0] and method.mean.is_contiguous()


def test_a_callback_that_measures_leaves_training_as_it_was(images):
    modes = []

    class Watched(Linear):
        def loss(self, batch):
            modes.append(self.training)
            return super().loss(batch)

    cl.fit(Watched(), images, epochs=3, batch_size=32, callbacks=[lambda method, history: method.eval()])
    assert modes == [True] * 6


def test_seconds_are_those_of_training_and_not_of_callbacks(images):
    class Slow(Linear):
        def loss(self, batch):
            time.sleep(0.02)
            return super().loss(batch)

    history = cl.fit(Slow(), images, epochs=5, batch_size=16, callbacks=[lambda method, history: time.sleep(0.3)])
    assert 20 * 0.02 < history.seconds < 5 * 0.3


def test_a_buffer_that_is_no_number_stops_a_run(images):
    class Broken(Linear):
        def __init__(self):
            super().__init__()
            self.register_buffer("center", torch.zeros(1))

        def after_step(self, progress):
            self.center.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="center is not finite"):
        cl.fit(Broken(), images, epochs=1, batch_size=32)
