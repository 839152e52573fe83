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
_moco = {"temperature": 0.1}
_tenth = {"share": 0.15, "seeds": 3}
moco = Recipe(
    "MoCo v2", methods.MoCo, options=_moco, views=_views, ships=("encoder",),
    fit={"laptop": {"epochs": 30, "lr": 6e-3}, "gpu": {"epochs": 100, "lr": 2e-3}},
    variants={
        "a": Variant("a", fit={"lr": 3e-3}), "b": Variant("b", options={"temperature": 0.2}), "c": Variant("c", options={"momentum": 0.97}),
        "short": Variant("MoCo v2, short", **_tenth),
        "momentum_0": Variant("momentum 0", options={"momentum": 0.0}, **_tenth),
        "momentum_90": Variant("momentum 0.9", options={"momentum": 0.9}, **_tenth),
        "momentum_999": Variant("momentum 0.999", options={"momentum": 0.999}, **_tenth),
        "queue_256": Variant("a queue of 256", options={"queue": 256}, **_tenth),
        "queue_1024": Variant("a queue of 1,024", options={"queue": 1024}, **_tenth),
        "leak": Variant("keys not shuffled", options={"shuffle": False}, **_tenth),
        "v1": Variant("MoCo v1", options={"version": 1, "temperature": 0.07}, views={"preset": "weak", "size": 24}, **_tenth),
        "v1_head": Variant("v1 with a hidden layer", options={"version": 2, "temperature": 0.07}, views={"preset": "weak", "size": 24}, **_tenth),
        "v1_views": Variant("v1 with SimCLR's views", options={"version": 1, "temperature": 0.07}, **_tenth),
        "v1_both": Variant("v1 with both", options={"version": 2, "temperature": 0.07}, **_tenth),
    })
nnclr = Recipe("NNCLR", methods.NNCLR, views=_views, ships=("encoder",),
               fit={"laptop": {"epochs": 30, "lr": 4e-3}, "gpu": {"epochs": 100, "lr": 2e-3}},
               variants={"a": Variant("a", fit={"lr": 2e-3}), "b": Variant("b", fit={"lr": 6e-3}), "c": Variant("c", options={"temperature": 0.2}),
                         "d": Variant("d", options={"queue": 16384})})
meanshift = Recipe("MeanShift", methods.MeanShift, views=_views, ships=("encoder",), options={"momentum": 0.97},
                   fit={"laptop": {"epochs": 24, "lr": 2e-3}, "gpu": {"epochs": 100, "lr": 2e-3}},
                   variants={"a": Variant("a", fit={"lr": 4e-3}), "b": Variant("b", options={"momentum": 0.95}),
                             "c": Variant("c", options={"neighbours": 1}), "d": Variant("d", fit={"lr": 1e-3})})
instdisc = Recipe("instance discrimination", methods.InstDisc, views=_views, ships=("encoder",), options={"temperature": 0.1},
                  fit={"laptop": {"epochs": 40, "lr": 4e-3}, "gpu": {"epochs": 100, "lr": 2e-3}},
                  variants={"a": Variant("a", fit={"lr": 2e-3}), "b": Variant("b", options={"temperature": 0.07}),
                            "c": Variant("c", options={"negatives": 4096}), "d": Variant("d", options={"proximal": 1.0}),
                            "e": Variant("e", options={"temperature": 0.2}), "f": Variant("f", options={"negatives": None})})
pirl = Recipe("PIRL", methods.PIRL, ships=("encoder",), options={"temperature": 0.1},
              fit={"laptop": {"epochs": 12, "lr": 4e-3}, "gpu": {"epochs": 100, "lr": 2e-3}},
              variants={"a": Variant("a", fit={"lr": 2e-3}), "b": Variant("b", options={"negatives": 4096}),
                        "c": Variant("c", options={"temperature": 0.2}), "d": Variant("d", options={"weight": 0.25})})
cmc = Recipe("CMC", methods.CMC, ships=("encoder",), views={"preset": "simclr", "size": 24, "p_jitter": 0.0, "p_gray": 0.0},
             fit={"laptop": {"epochs": 24, "lr": 4e-3}, "gpu": {"epochs": 100, "lr": 2e-3}},
             variants={"a": Variant("a", fit={"lr": 2e-3}), "b": Variant("b", options={"temperature": 0.2}),
                       "c": Variant("c", views={"size": 32})})
densecl = Recipe("DenseCL", methods.DenseCL, ships=("encoder",), options={"temperature": 0.1}, views={"preset": "simclr"},
                 fit={"laptop": {"epochs": 20, "lr": 6e-3}, "gpu": {"epochs": 100, "lr": 2e-3}},
                 variants={"a": Variant("a", fit={"lr": 3e-3}), "b": Variant("b", options={"temperature": 0.2}),
                           "c": Variant("c", views={"size": 24}, share=1.5), "d": Variant("d", options={"weight": 0.25})})
cpc = Recipe("CPC", methods.CPC, ships=("encoder",),
             fit={"laptop": {"epochs": 4, "lr": 2e-3}, "gpu": {"epochs": 60, "lr": 2e-3}},
             variants={"a": Variant("a", fit={"lr": 1e-3}), "b": Variant("b", fit={"lr": 4e-3}),
                       "c": Variant("c", views={"preset": "simclr", "size": 48})})
clip = Recipe("CLIP", methods.CLIP, ships=("encoder", "heads"),
              fit={"laptop": {"epochs": 30, "lr": 2e-3}, "gpu": {"epochs": 60, "lr": 2e-3}},
              variants={"a": Variant("a", fit={"lr": 1e-3}), "b": Variant("b", fit={"lr": 4e-3})})
