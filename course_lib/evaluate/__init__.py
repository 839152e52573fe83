"""How good is an encoder, and how do we know: frozen features, kNN, a linear probe, and signs of collapse."""

from course_lib.evaluate.collapse import alignment, feature_std, rankme, uniformity
from course_lib.evaluate.factors import factor_probe
from course_lib.evaluate.features import RawPixels, features
from course_lib.evaluate.knn import accuracy, knn, knn_scores, nearest
from course_lib.evaluate.layers import layerwise
from course_lib.evaluate.probe import Probe, ProbeResult, fit_probe, linear_probe
from course_lib.evaluate.report import Report, evaluate
from course_lib.evaluate.retrieval import Retrieval, retrieval
from course_lib.evaluate.video import contour_accuracy, evaluate_clips, region_similarity

__all__ = [
    "Probe", "ProbeResult", "RawPixels", "Report", "Retrieval", "accuracy", "alignment", "contour_accuracy",
    "evaluate", "evaluate_clips", "factor_probe", "feature_std", "features", "fit_probe", "knn", "knn_scores",
    "layerwise", "linear_probe", "nearest", "rankme", "region_similarity", "retrieval", "uniformity",
]
