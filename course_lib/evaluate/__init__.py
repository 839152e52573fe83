"""How good is an encoder, and how do we know: frozen features, kNN, a linear probe, and signs of collapse.

The package can be called, and is then its function `evaluate`:

    report = cl.evaluate(encoder, data)        # every measure, with how each was come by
    top1 = cl.evaluate.quick(encoder, data)    # kNN on val alone, in seconds
    z = cl.evaluate.features(encoder, images)
    better = cl.evaluate.paired(report.right["linear_val"], other.right["linear_val"])  # with its interval
"""

import sys
import types

from torch import nn

from course_lib.data.types import Dataset
from course_lib.evaluate.collapse import alignment, feature_std, rankme, uniformity
from course_lib.evaluate.factors import factor_probe
from course_lib.evaluate.features import RawPixels, features
from course_lib.evaluate.few_label import FewLabels, draw_labels, few_label
from course_lib.evaluate.knn import accuracy, is_right, knn, knn_scores, nearest
from course_lib.evaluate.layers import Stage, layerwise, stages_right
from course_lib.evaluate.paired import Difference, claim, difference_in_differences, paired
from course_lib.evaluate.probe import Probe, ProbeResult, fit_probe, linear_probe
from course_lib.evaluate.report import Report, evaluate, quick
from course_lib.evaluate.retrieval import Retrieval, retrieval
from course_lib.evaluate.video import contour_accuracy, evaluate_clips, region_similarity

__all__ = [
    "Difference", "FewLabels", "Probe", "ProbeResult", "RawPixels", "Report", "Retrieval", "Stage", "accuracy",
    "alignment", "claim", "contour_accuracy", "difference_in_differences", "draw_labels", "evaluate",
    "evaluate_clips", "factor_probe", "feature_std", "features", "few_label", "fit_probe", "is_right", "knn",
    "knn_scores", "layerwise", "linear_probe", "nearest", "paired", "quick", "rankme", "region_similarity",
    "retrieval", "stages_right", "uniformity",
]


class _CallablePackage(types.ModuleType):
    """This package's class. Python looks up `__call__` in the class, so a function of that name here would not do."""

    def __call__(self, encoder: nn.Module, dataset: Dataset, *, name: str | None = None,
                 batch_size: int = 512) -> Report:
        """Every measure of a frozen encoder: see `course_lib.evaluate.evaluate`."""
        return evaluate(encoder, dataset, name=name, batch_size=batch_size)


sys.modules[__name__].__class__ = _CallablePackage
