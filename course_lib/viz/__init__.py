"""Figures: what an encoder has learned, to look at. Each function returns a matplotlib Figure and trains nothing."""

from course_lib.viz.curves import curves
from course_lib.viz.dashboards import bars, side_by_side, spectrum
from course_lib.viz.maps import scatter2d, umap, umap_grid
from course_lib.viz.neighbours import neighbours
from course_lib.viz.pictures import grid, rows, views
from course_lib.viz.ranges import differences, gains, ranges

__all__ = ["bars", "curves", "differences", "gains", "grid", "neighbours", "ranges", "rows", "scatter2d",
           "side_by_side", "spectrum", "umap", "umap_grid", "views"]
