"""Views of one picture against views of others."""

from course_lib import methods
from course_lib.recipes.base import Recipe, Variant

# Each variant is a tenth as long as the recipe, and so is the one that changes nothing: only the idea differs.
simclr = Recipe(
    "SimCLR", methods.SimCLR, options={"temperature": 0.2}, views={"preset": "simclr"},
    fit={"laptop": {"epochs": 10, "lr": 2e-3}, "gpu": {"epochs": 100, "lr": 2e-3}},
    variants={
        "short": Variant("SimCLR, short", share=0.1),
        "no_color": Variant("no colour jitter, no grey", views={"p_jitter": 0.0, "p_gray": 0.0}, share=0.1),
        "no_crop": Variant("no crop", views={"crop": [1.0, 1.0], "ratio": [1.0, 1.0]}, share=0.1),
        "linear": Variant("linear projector", options={"projector": "linear"}, share=0.1),
        "no_projector": Variant("no projector", options={"projector": "none"}, share=0.1),
        "cold": Variant("temperature 0.05", options={"temperature": 0.05}, share=0.1),
        "warm": Variant("temperature 2", options={"temperature": 2.0}, share=0.1),
        "few_negatives": Variant("batch of 32", fit={"batch_size": 32, "lr": 1e-3}, share=0.1),
    })
simclr_15min = Recipe("SimCLR, 15 minutes", methods.SimCLR, options={"temperature": 0.2}, views={"preset": "simclr"},
                      ships=(),
                      fit={"laptop": {"epochs": 17, "lr": 2e-3}, "gpu": {"epochs": 200, "lr": 2e-3}})
