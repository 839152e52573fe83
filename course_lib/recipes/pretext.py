"""Tasks whose answer is in the picture: which way up, where, in which order, what was hidden, which colours."""

from course_lib import methods
from course_lib.recipes.base import Recipe, Variant

_WHOLE = ("encoder", "heads")  # what a lesson that looks at a variant loads

rotation = Recipe("rotation", methods.RotNet, fit={
    "laptop": {"epochs": 6, "lr": 2e-3, "batch_size": 128}, "gpu": {"epochs": 60, "lr": 1e-3}},
    variants={"a": Variant("a", fit={"lr": 4e-3}), "b": Variant("b", share=2), "c": Variant("c", fit={"batch_size": 256, "lr": 4e-3}, share=1.5)})

# These pictures are too small for a lens's fault to show, so there is nothing to drop their colours for. One epoch is
# better than four on val, for patches and tiles: a longer training makes a better puzzler and a worse encoder.
relative_patch = Recipe(
    "relative patches", methods.RelativePatch, options={"drop_color": False}, seeds=3,
    fit={"laptop": {"epochs": 1, "lr": 2e-3, "batch_size": 128}, "gpu": {"epochs": 20, "lr": 1e-3}},
    variants={
        "long": Variant("relative patches, four times as long", share=4, seeds=3),
        "gray": Variant("relative patches, one channel each", options={"drop_color": True}, seeds=3),
        "touching": Variant("relative patches that touch", options={"gap": False}, seeds=3),
        # Those of 8 pixels see a field of 24 where patches with gaps see 36; these touch and see all of it.
        "touching_wide": Variant("wider patches that touch", options={"gap": False, "patch": 12}, seeds=3,
                                 ships=_WHOLE),
        "still": Variant("relative patches that never move", options={"jitter": 0}, seeds=3),
    })
jigsaw = Recipe(
    "jigsaw", methods.Jigsaw, seeds=3,
    fit={"laptop": {"epochs": 1, "lr": 2e-3, "batch_size": 128}, "gpu": {"epochs": 20, "lr": 1e-3}},
    variants={
        "long": Variant("jigsaw, four times as long", share=4, seeds=3, ships=("encoder",)),
        "raw_tiles": Variant("jigsaw, tiles as they are", options={"normalize": False}, seeds=3, ships=("encoder",)),
        "few_permutations": Variant("jigsaw, 4 permutations", options={"permutations": 4}, seeds=3),
        "many_permutations": Variant("jigsaw, 256 permutations", options={"permutations": 256}, seeds=3),
    })
inpainting = Recipe(
    "context encoder", methods.ContextEncoder,
    fit={"laptop": {"epochs": 5, "lr": 2e-3}, "gpu": {"epochs": 60, "lr": 1e-3}},
    variants={
        "l2": Variant("context encoder, squared error alone", options={"adversarial": 0.0}, ships=_WHOLE),
        "center": Variant("context encoder, hole in the middle", options={"mask": "center"}, ships=_WHOLE),
        "short": Variant("context encoder, short", share=0.2, seeds=3),
        "short_l2": Variant("squared error alone, short", options={"adversarial": 0.0}, share=0.2, seeds=3),
        "short_center": Variant("hole in the middle, short", options={"mask": "center"}, share=0.2, seeds=3),
    })
colorization = Recipe(
    "colourization", methods.Colorizer,
    fit={"laptop": {"epochs": 10, "lr": 2e-3}, "gpu": {"epochs": 60, "lr": 1e-3}},
    variants={
        "regression": Variant("colourization by regression", options={"target": "regression"}, ships=_WHOLE),
        "short": Variant("colourization, short", share=0.2, seeds=3),
        "short_plain": Variant("no rebalancing, short", options={"uniform": 1.0}, share=0.2, seeds=3),
        "short_regression": Variant("regression, short", options={"target": "regression"}, share=0.2, seeds=3),
    })
split_brain = Recipe("split-brain", methods.SplitBrain, fit={
    "laptop": {"epochs": 7, "lr": 2e-3}, "gpu": {"epochs": 60, "lr": 1e-3}})
video_color = Recipe("video colourization", methods.VideoColorizer, fit={
    "laptop": {"epochs": 8, "lr": 2e-3, "batch_size": 32}, "gpu": {"epochs": 20, "lr": 1e-3, "batch_size": 64}})
