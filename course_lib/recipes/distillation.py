"""A student that follows a teacher."""

from course_lib import methods
from course_lib.recipes.base import Recipe, Variant

byol = Recipe("BYOL", methods.BYOL, options={"momentum": 0.97}, views={"preset": "simclr", "size": 24},
              ships=("encoder",),
              fit={"laptop": {"epochs": 24, "lr": 2e-3}, "gpu": {"epochs": 100, "lr": 2e-3}}, variants={"a": Variant("a", fit={"lr": 4e-3}), "b": Variant("b", options={"momentum": 0.95})})
