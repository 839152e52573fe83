"""Figures: what an encoder has learned, to look at. Each function returns a matplotlib Figure and trains nothing."""

from .curves import curves
from .dashboards import bars, side_by_side, spectrum
from .maps import scatter2d, umap, umap_grid
from .neighbours import neighbours
from .pictures import grid, rows, views

__all__ = ["bars", "curves", "grid", "neighbours", "rows", "scatter2d", "side_by_side", "spectrum", "umap", "umap_grid",
           "views"]
