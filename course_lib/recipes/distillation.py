"""A student that follows a teacher."""

from course_lib import methods
from course_lib.recipes.base import Recipe

byol = Recipe("BYOL", methods.BYOL, options={"momentum": 0.95}, views={"preset": "simclr"},
              fit={"laptop": {"epochs": 8, "lr": 1e-3}, "gpu": {"epochs": 100, "lr": 2e-3}})
