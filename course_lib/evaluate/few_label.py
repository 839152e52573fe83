"""Few labels: what an encoder is worth where only a handful of pictures has a label, which is what it is all for."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from course_lib.data.types import Dataset
from course_lib.evaluate.checks import PATIENCE, check_dataset, check_encoder, undisturbed
from course_lib.evaluate.features import features, measuring_device
from course_lib.evaluate.knn import is_right
from course_lib.evaluate.probe import fit_probe, standardizer
from course_lib.progress import bar

PER_CLASS = (1, 10, 100, 1000)
PENALTY = 100.0  # l2 = PENALTY / number of labels


@dataclasses.dataclass(frozen=True)
class FewLabels:
    """How well the classes are told apart with so many labels a class.

    per_class: the numbers of labels a class. right: for each of them and each draw of labelled pictures, which of the n
    pictures were classified rightly; `right[i]`, `[draws, n]`, is what `paired` takes, a draw standing for a seed.
    """

    per_class: tuple[int, ...]
    right: Bool[Tensor, "budgets draws n"]

    @property
    def accuracy(self) -> Float[Tensor, "budgets draws"]:
        """In percent."""
        return 100 * self.right.double().mean(dim=2)

    def __str__(self) -> str:
        lines = []
        for labels, some in zip(self.per_class, self.accuracy, strict=True):
            spread = f" ± {some.std():.1f}" if len(some) > 1 else ""
            lines.append(f"{labels:5,} a class: {some.mean():.1f}{spread} %")
        return "\n".join(lines)

    __repr__ = __str__


def draw_labels(y: Int64[Tensor, " n"], per_class: int, draw: int = 0) -> Int64[Tensor, " m"]:
    """The numbers of `per_class` pictures of each class, m in all: those that have a label in this draw.

    A draw is nested: its ten pictures of a class hold its one. Other draws are drawn anew, and each is always the same.

    Raises ValueError where a class has fewer pictures.
    """
    y = y.cpu()
    smallest = int(torch.bincount(y).min())
    if not 1 <= per_class <= smallest:
        raise ValueError(f"labels a class must be from 1 to {smallest}, the pictures of the smallest class, got "
                         f"{per_class}: ask for fewer")
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(draw))
    return torch.cat([order[y[order] == label][:per_class] for label in range(int(y.max()) + 1)])


@undisturbed()
def few_label(encoder: nn.Module, dataset: Dataset, per_class: Sequence[int] = PER_CLASS,
              draws: int | Sequence[int] = 5, *, on: str = "val", batch_size: int = 512) -> FewLabels:
    """A linear probe on frozen features with few labels, for each number of labels a class and each draw of them.

    per_class: numbers of labels a class. draws: how many, or their numbers; every encoder gets the same pictures, see
    `draw_labels`. on: the part on which it is scored, "val" or "test".

    The probe is `fit_probe` with l2 = 100 / number of labels, one rule for every encoder and every draw: the sum of the
    cross-entropies plus 50·|W|², which is the same prior belief about W however many labels there are. Nothing is
    chosen with other labels, since labels used for choosing are labels too; an encoder may do better with a strength of
    its own. Features are standardised by mean and deviation of all of train, which takes no labels.

    Warns where a probe did not converge. Raises as `features` and `draw_labels`, and ValueError for no draws or another
    `on`.
    """
    check_encoder(encoder)
    check_dataset(dataset)
    draws = range(draws) if isinstance(draws, int) else tuple(draws)
    if not len(draws) or not len(per_class):
        raise ValueError("few labels need at least one draw and one number of labels a class, got none: 5 draws of "
                         "1, 10, 100 and 1,000 are usual")
    if on not in ("val", "test"):
        raise ValueError(f'on must be "val", for choosing and comparing, or "test", to report, got {on!r}')
    chosen = {(n, draw): draw_labels(dataset.train.y, n, draw) for n in per_class for draw in draws}
    device, classes, part = measuring_device(encoder), len(dataset.classes), getattr(dataset, on)
    train_z, z = (features(encoder, images, batch_size=batch_size, device=device) for images in (dataset.train, part))
    train_y, y = dataset.train.y.to(device), part.y.to(device)
    standard = standardizer(train_z)
    right = torch.empty(len(per_class), len(draws), len(y), dtype=torch.bool)
    for i, (which, index) in enumerate(bar(chosen.items(), desc="few labels", unit="fit", delay=PATIENCE)):
        index = index.to(device)
        probe = fit_probe(train_z[index], train_y[index], l2=PENALTY / len(index), classes=classes, standard=standard)
        if not probe.converged:
            # 3: past the decorator, at the line that called
            warnings.warn(f"the probe of {which[0]} labels a class, draw {which[1]}, stopped before its gradient was "
                          "within the tolerance", stacklevel=3)
        right[divmod(i, len(draws))] = is_right(probe.scores(z), y).cpu()
    return FewLabels(tuple(per_class), right)
