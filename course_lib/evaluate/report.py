"""`evaluate`: every measure of an encoder on a data set, and `Report`, the numbers with how each was come by."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping

from jaxtyping import Bool
from torch import Tensor, nn

from course_lib.data.types import Dataset
from course_lib.evaluate.checks import check_dataset, check_encoder, undisturbed
from course_lib.evaluate.collapse import feature_std, rankme, uniformity
from course_lib.evaluate.features import features, measuring_device, some
from course_lib.evaluate.knn import accuracy, is_right, knn, knn_scores
from course_lib.evaluate.probe import ProbeResult, linear_probe

K, TEMPERATURE = 20, 0.07

# measure -> (its name in a table, how it is written)
COLUMNS = {
    "knn_top1": ("kNN top-1", "{:.1f} %"),
    "knn_top5": ("kNN top-5", "{:.1f} %"),
    "knn_val": ("kNN on val", "{:.1f} %"),
    "linear_top1": ("linear top-1", "{:.1f} %"),
    "linear_top5": ("linear top-5", "{:.1f} %"),
    "linear_val": ("linear on val", "{:.1f} %"),
    "rankme": ("RankMe", "{:.1f}"),
    "uniformity": ("uniformity", "{:.2f}"),
    "feature_std": ("feature std", "{:.2f}"),
}


@dataclasses.dataclass(frozen=True)
class Report:
    """What an encoder is worth on a data set.

    name: what was measured, and on what.
    measures: knn_top1, knn_top5, linear_top1, linear_top5 (percent of the test pictures), knn_val, linear_val (top-1,
    percent of the val pictures, for every choice and comparison), rankme, uniformity, feature_std. protocol: how each
    was measured, in words.
    right: for each picture of val and of test whether kNN and probe were right, "knn_val", "knn_test", "linear_val" and
    "linear_test", bool `[n]` on the CPU in the order of the pictures: what `paired` compares.
    """

    name: str
    measures: Mapping[str, float]
    protocol: Mapping[str, str]
    right: Mapping[str, Bool[Tensor, " n"]] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def row(self) -> dict[str, str | float]:
        """The name and every measure: one row of a table."""
        return {"name": self.name, **self.measures}

    def __str__(self) -> str:
        lines = [f"{COLUMNS[key][0]:<14}{COLUMNS[key][1].format(value):>8}" for key, value in self.measures.items()]
        notes = [f"{key}: {words}" for key, words in self.protocol.items()]
        return "\n".join([self.name, *lines, "", *notes])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{COLUMNS[key][0]}</th>" for key in self.measures)
        cells = "".join(f"<td>{COLUMNS[key][1].format(value)}</td>" for key, value in self.measures.items())
        notes = "".join(f"<li><b>{html.escape(key)}</b>: {html.escape(words)}</li>"
                        for key, words in self.protocol.items())
        return (f"<table><tr><th></th>{head}</tr><tr><th>{html.escape(self.name)}</th>{cells}</tr></table>"
                f"<details><summary>how each was measured</summary><ul>{notes}</ul></details>")


@undisturbed()
def evaluate(encoder: nn.Module, dataset: Dataset, *, name: str | None = None, batch_size: int = 512) -> Report:
    """Every measure of a frozen encoder. Features are taken once for train, val and test; test chooses nothing.

    Probe and kNN learn from train alone. Val chooses the probe's strength, and what is measured on it is for choosing
    and comparing; test is for what is reported.

    name: what the report calls the encoder; its class by default.

    Raises as `features`, `knn` and `linear_probe`: TypeError for what is no encoder or no data set, RuntimeError where
    the encoder changes while it is measured, ValueError where pictures, features or labels do not fit.
    """
    check_encoder(encoder)
    check_dataset(dataset)
    device = measuring_device(encoder)
    z, y = {}, {}
    for part in ("train", "val", "test"):
        images = getattr(dataset, part)
        z[part] = features(encoder, images, batch_size=batch_size, device=device)
        y[part] = images.y.to(device)
    classes = len(dataset.classes)
    linear = linear_probe(z["train"], y["train"], z["val"], y["val"], z["test"], y["test"], classes=classes)
    scores = {("knn", part): knn_scores(z["train"], y["train"], z[part], classes=classes, k=K, temperature=TEMPERATURE)
              for part in ("val", "test")}
    scores |= {("linear", part): linear.probe.scores(z[part]) for part in ("val", "test")}
    right = {f"{by}_{part}": is_right(s, y[part]).cpu() for (by, part), s in scores.items()}
    measures = {
        "knn_top1": accuracy(scores["knn", "test"], y["test"]),
        "knn_top5": accuracy(scores["knn", "test"], y["test"], top=5),
        "knn_val": accuracy(scores["knn", "val"], y["val"]),
        "linear_top1": linear.top1,
        "linear_top5": linear.top5,
        "linear_val": accuracy(scores["linear", "val"], y["val"]),
        "rankme": rankme(z["test"]),
        "uniformity": uniformity(z["test"]),
        "feature_std": feature_std(z["test"]),
    }
    return Report(f"{name or type(encoder).__name__} on {dataset.name}", measures,
                  _protocol(dataset, z["test"].shape[1], linear), right)


@undisturbed()
def quick(encoder: nn.Module, dataset: Dataset, *, train: int = 10_000, val: int = 2_000,
          batch_size: int = 512) -> float:
    """A first look, in seconds: kNN top-1 in percent on pictures of val, with a bank of pictures of train.

    It is for choosing and for following training, so test is never read; `evaluate` gives the number to report.
    k = 20, or the whole bank where that is smaller, and votes weighted as in `evaluate`.

    train, val: how many pictures at most. They are drawn once and for all, so every encoder gets the same ones.

    Raises as `features` and `knn`, and ValueError for fewer than one picture.
    """
    check_encoder(encoder)
    check_dataset(dataset)
    if min(train, val) < 1:
        raise ValueError(f"a quick look needs pictures of train and of val, got train={train} and val={val}: "
                         "10,000 and 2,000 are the usual ones")
    device = measuring_device(encoder)
    bank, queries = (images[some(images, n)] for images, n in ((dataset.train, train), (dataset.val, val)))
    bank_z, queries_z = (features(encoder, images, batch_size=batch_size, device=device) for images in (bank, queries))
    return knn(bank_z, bank.y.to(device), queries_z, queries.y.to(device), classes=len(dataset.classes),
               k=min(K, len(bank)), temperature=TEMPERATURE)["top1"]


def _protocol(dataset: Dataset, dim: int, linear: ProbeResult) -> dict[str, str]:
    train, val, test = (f"{len(getattr(dataset, part)):,}" for part in ("train", "val", "test"))
    fit = (f"L2 strength {linear.l2:g} chosen on {val} val pictures, so linear_val is the best of "
           f"{len(linear.val_top1)}; no fit on val; test scored once")
    if linear.at_end:
        fit += f"; the strength is the {linear.at_end} of the grid, so a wider grid might do better"
    if not linear.converged:
        which = "the fit chosen" if not linear.probe.converged else "a fit of another strength"
        fit += f"; NOT CONVERGED: {which} stopped before its gradient was within the tolerance"
    words = {
        "features": f"{dim} dimensions, float32, encoder frozen and in eval mode, checked",
        "knn": f"cosine, k={K}, votes weighted exp(s/{TEMPERATURE}), bank of {train} train pictures, "
               f"on {test} test and {val} val pictures",
        "linear": f"multinomial logistic regression (L-BFGS) on standardised features of {train} train pictures, {fit}",
        "rankme": f"exp of the entropy of the singular values, test features not centred, from 1 to {dim}",
        "uniformity": "log mean exp(-2 d²) over all pairs of test features of length 1; lower is more even",
        "feature_std": f"mean std of test features of length 1, times √{dim}; 0 is collapse, 1 is even",
    }
    if len(dataset.classes) <= 5:
        words["top-5"] = f"100 by definition: there are {len(dataset.classes)} classes"
    return words
