"""Two views that agree, in dimensions that do not repeat each other."""

from course_lib import methods
from course_lib.recipes.base import Recipe, Variant

vicreg = Recipe("VICReg", methods.VICReg, views={"preset": "simclr", "size": 24}, ships=("encoder",), fit={
    "laptop": {"epochs": 20, "lr": 1.5e-3}, "gpu": {"epochs": 100, "lr": 2e-3}}, variants={"a": Variant("a", fit={"lr": 3e-3}), "b": Variant("b", fit={"lr": 4e-3}, share=1.2)})
