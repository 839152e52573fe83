"""Which pictures belong together, said by labels."""

from course_lib import methods
from course_lib.recipes.base import Recipe, Variant

_gpu = {"epochs": 60, "lr": 2e-3}
siamese = Recipe("Siamese pairs (all labels)", methods.Siamese, ships=("encoder",),
                 fit={"laptop": {"epochs": 12, "lr": 2e-3}, "gpu": _gpu},
                 variants={"a": Variant("a", fit={"lr": 1e-3}), "b": Variant("b", fit={"lr": 4e-3}),
                           "c": Variant("c", options={"margin": 0.5}), "d": Variant("d", views={"preset": "simclr", "size": 24}, share=2)})
triplet = Recipe("triplets (all labels)", methods.Triplet, ships=("encoder",),
                 fit={"laptop": {"epochs": 12, "lr": 2e-3}, "gpu": _gpu},
                 variants={"a": Variant("a", fit={"lr": 1e-3}), "b": Variant("b", fit={"lr": 4e-3}),
                           "c": Variant("c", options={"margin": 0.5}), "d": Variant("d", views={"preset": "simclr", "size": 24}, share=2)})
supcon = Recipe("SupCon (all labels)", methods.SupCon, ships=("encoder",), views={"preset": "simclr", "size": 24},
                fit={"laptop": {"epochs": 24, "lr": 6e-3}, "gpu": _gpu},
                variants={"a": Variant("a", fit={"lr": 3e-3}), "b": Variant("b", options={"temperature": 0.2}),
                          "short": Variant("SupCon, short", share=0.25, seeds=3),
                          "inside": Variant("SupCon, mean inside the logarithm, short", options={"mean": "inside"}, share=0.25, seeds=3)})
