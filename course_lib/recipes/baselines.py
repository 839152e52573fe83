"""What every method is compared with: pixels, encoders that were never trained, and one that saw every label."""

from course_lib import methods
from course_lib.recipes.base import Recipe

raw_pixels = Recipe("raw pixels", backbone="pixels")
untrained_convnet = Recipe("untrained convnet", seeds=3)
untrained_vit = Recipe("untrained ViT", methods.MAE, backbone="vit")
untrained_lightness = Recipe("untrained convnet, grey pictures", methods.Colorizer)
untrained_split = Recipe("untrained convnets, grey and colours", methods.SplitBrain)
untrained_enlarged = Recipe("untrained convnet, enlarged pictures", methods.Jigsaw, seeds=3)
supervised = Recipe("supervised (all labels)", methods.Supervised,
                    fit={"laptop": {"epochs": 12, "lr": 3e-3}, "gpu": {"epochs": 60, "lr": 2e-3}})
