"""Hide most of the picture."""

from course_lib import methods
from course_lib.recipes.base import Recipe, Variant

mae = Recipe("MAE", methods.MAE, backbone="vit", fit={
    "laptop": {"epochs": 14, "lr": 2e-3}, "gpu": {"epochs": 200, "lr": 1e-3}}, variants={"a": Variant("a", fit={"lr": 3e-3}), "b": Variant("b", fit={"lr": 4e-3, "batch_size": 512}, share=2), "c": Variant("c", share=2)})
