"""Which pictures belong together, said by labels."""

from course_lib import methods
from course_lib.recipes.base import Recipe, Variant

# First settings, until they are chosen on val.
_gpu = {"epochs": 60, "lr": 2e-3}
_short = {"share": 0.25, "seeds": 3}
siamese = Recipe("Siamese pairs (all labels)", methods.Siamese, ships=("encoder",),
                 fit={"laptop": {"epochs": 12, "lr": 2e-3}, "gpu": _gpu})
triplet = Recipe("triplets (all labels)", methods.Triplet, ships=("encoder",),
                 fit={"laptop": {"epochs": 12, "lr": 2e-3}, "gpu": _gpu})
supcon = Recipe(
    "SupCon (all labels)", methods.SupCon, views={"preset": "simclr", "size": 24}, ships=("encoder",),
    fit={"laptop": {"epochs": 24, "lr": 6e-3}, "gpu": _gpu},
    variants={
        "short": Variant("SupCon, short", **_short),
        "inside": Variant("SupCon, mean inside the logarithm, short", options={"mean": "inside"}, **_short),
    })
