"""Every measure gives the same numbers, bit for bit, whatever settings of torch surround the call."""

import contextlib
import dataclasses

import pytest
import torch
from torch import nn

from course_lib.data.types import Dataset, Images
from course_lib.evaluate import (
    alignment,
    contour_accuracy,
    evaluate,
    evaluate_clips,
    factor_probe,
    feature_std,
    features,
    few_label,
    fit_probe,
    knn,
    knn_scores,
    layerwise,
    linear_probe,
    nearest,
    paired,
    quick,
    rankme,
    region_similarity,
    retrieval,
    uniformity,
)
from course_lib.nets import convnet


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "float64 by default": lambda: default_dtype(torch.float64),
    "float16 by default": lambda: default_dtype(torch.float16),
}


class Scaled(nn.Module):
    """Makes tensors of the default dtype while it runs, as an encoder may."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = convnet((4, 8), 16)

    def stages(self, x):
        return [m * torch.full((1,), 0.1) for m in self.net.stages(x)]

    def forward(self, x):
        return self.net(x) * torch.full((1,), 0.1)


ENCODER = Scaled()


def inputs():
    """Everything that is measured below, made anew: in inference mode its tensors are those of inference mode."""
    draw = torch.Generator().manual_seed(0)

    def part(n):
        y = torch.randint(3, (n,), generator=draw)
        x = torch.randint(200, (n, 3, 16, 16), generator=draw) + 20 * y[:, None, None, None]
        return Images(x.to(torch.uint8), y, tuple("abc"))

    parts = part(120), part(60), part(60)
    data = Dataset("noise", parts[0].without_labels(), *parts)
    z = [torch.randn(len(p), 8, generator=draw, dtype=torch.float32) + p.y[:, None].float() for p in parts]
    masks = torch.rand(2, 5, 12, 12, generator=draw, dtype=torch.float32)
    return data, z, masks


@dataclasses.dataclass
class FakeClips:
    x: torch.Tensor
    masks: torch.Tensor

    def __len__(self):
        return len(self.x)


def measures(data, z, masks):
    encoder, y = ENCODER, [data.train.y, data.val.y, data.test.y]
    everything = [t for pair in zip(z, y, strict=True) for t in pair]
    probe = fit_probe(z[0], y[0], l2=1e-2)
    factors = [{"class": y[i], "size": z[i][:, 0] ** 2} for i in (0, 2)]
    clips = FakeClips(masks, masks > 0.6)
    linear = linear_probe(*everything, strengths=(1e-1, 1e-3))
    report = evaluate(encoder, data)
    found = retrieval(z[0], z[2], y[0], y[2])
    return {
        "features": features(encoder, data.test), "of floats": features(encoder, data.test.x.float() / 255),
        "evaluate": report.measures, "right": dict(report.right), "quick": quick(encoder, data),
        "few labels": few_label(encoder, data, (2,), 2).right,
        "paired": dataclasses.astuple(paired(report.right["knn_val"], report.right["linear_val"])),
        "layerwise": layerwise(encoder, data, numbers=8),
        "layerwise on val": layerwise(encoder, data, on="val", numbers=8),
        "nearest": nearest(z[0], z[1], k=3), "knn_scores": knn_scores(z[0], y[0], z[1], classes=3),
        "knn": knn(z[0], y[0], z[1], y[1]),
        "retrieval": (found.similarity, found.precision, found.by_class),
        "fit_probe": (probe.weight, probe.bias, probe.mean, probe.std, probe.gradient),
        "started": fit_probe(z[1], y[1], l2=1e-3, start=probe).weight, "scores": probe.scores(z[2]),
        "linear_probe": (linear.top1, linear.probe.weight, linear.val_top1),
        "factor_probe": factor_probe(z[0], factors[0], z[2], factors[1]),
        "rankme": rankme(z[0]), "alignment": alignment(z[1], z[2]), "uniformity": uniformity(z[0]),
        "feature_std": feature_std(z[0]),
        "J": region_similarity(masks[0], masks[1]), "F": contour_accuracy(masks[0], masks[1]),
        "clips": evaluate_clips(lambda x, first: x * torch.full((1,), 1.1), clips),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture(scope="module")
def wanted():
    return measures(*inputs())


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.filterwarnings("ignore:the probe of")
def test_the_same_numbers_bit_for_bit(name, wanted):
    default = torch.get_default_dtype()
    with SETTINGS[name]():
        inside = torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()
        got = measures(*inputs())
        after = torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()
        assert after == inside, "a measure must leave the settings as they were"
    assert torch.get_default_dtype() == default
    different = [key for key in wanted if not same(got[key], wanted[key])]
    assert not different, f"under {name} these came out otherwise: {different}"


def test_settings_are_restored_after_an_error():
    with default_dtype(torch.float64), torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(ValueError, match="NaN"):
            rankme(torch.full((2, 2), torch.nan))
        assert torch.get_default_dtype() == torch.float64 and torch.is_autocast_enabled("cpu")


def test_features_of_inference_mode_can_be_used_after_it():
    with torch.inference_mode():
        z = features(ENCODER, inputs()[0].test)
    nn.Linear(z.shape[1], 2)(z).sum().backward()  # a tensor of inference mode would refuse
