"""Hide most of the picture."""

from course_lib import methods
from course_lib.recipes.base import Recipe

mae = Recipe("MAE", methods.MAE, backbone="vit", fit={
    "laptop": {"epochs": 14, "lr": 2e-3}, "gpu": {"epochs": 200, "lr": 1e-3}})
