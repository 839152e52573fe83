"""How good is an encoder, and how do we know: frozen features, kNN, a linear probe, and signs of collapse."""

from .collapse import alignment, feature_std, rankme, uniformity
from .factors import factor_probe
from .features import RawPixels, features
from .knn import accuracy, knn, knn_scores, nearest
from .probe import Probe, ProbeResult, fit_probe, linear_probe
from .report import Report, evaluate
from .retrieval import Retrieval, retrieval

__all__ = [
    "Probe", "ProbeResult", "RawPixels", "Report", "Retrieval", "accuracy", "alignment", "evaluate", "factor_probe",
    "feature_std", "features", "fit_probe", "knn", "knn_scores", "linear_probe", "nearest", "rankme", "retrieval",
    "uniformity",
]
