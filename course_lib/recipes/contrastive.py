"""Views of one picture against views of others."""

from course_lib import methods
from course_lib.recipes.base import Recipe, Variant

# Views are smaller than the pictures: a third quicker, and no worse on val. Each variant is a tenth as long as the
# recipe, and so is the one that changes nothing: only the idea differs. Three seeds, since the differences are small.
_views = {"preset": "simclr", "size": 24}
_short = {"share": 0.1, "seeds": 3}
simclr = Recipe(
    "SimCLR", methods.SimCLR, options={"temperature": 0.1}, views=_views,
    fit={"laptop": {"epochs": 36, "lr": 6e-3}, "gpu": {"epochs": 100, "lr": 2e-3}},
    variants={
        "short": Variant("SimCLR, short", **_short),
        "no_color": Variant("no colour jitter, no grey", views={"p_jitter": 0.0, "p_gray": 0.0}, **_short),
        "no_crop": Variant("no crop", views={"crop": [1.0, 1.0], "ratio": [1.0, 1.0]}, **_short),
        "linear": Variant("linear projector", options={"projector": "linear"}, **_short),
        "no_projector": Variant("no projector", options={"projector": "none"}, **_short),
        "cold": Variant("temperature 0.02", options={"temperature": 0.02}, **_short),
        "warm": Variant("temperature 1", options={"temperature": 1.0}, **_short),
        "few_negatives": Variant("30 negatives", options={"group": 16}, **_short),
        "two_negatives": Variant("2 negatives", options={"group": 2}, **_short),
    })
simclr_15min = Recipe("SimCLR, 15 minutes", methods.SimCLR, options={"temperature": 0.1}, views=_views, ships=(),
                      fit={"laptop": {"epochs": 54, "lr": 6e-3}, "gpu": {"epochs": 200, "lr": 2e-3}})
