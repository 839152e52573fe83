"""Paint the picture again."""

from course_lib import methods
from course_lib.recipes.base import Recipe

autoencoder = Recipe("autoencoder", methods.Autoencoder,
                     fit={"laptop": {"epochs": 6, "lr": 2e-3}, "gpu": {"epochs": 60, "lr": 1e-3}})
denoising = Recipe("denoising autoencoder", methods.DenoisingAutoencoder, options={"noise": 0.5, "kind": "masking"},
                   fit={"laptop": {"epochs": 6, "lr": 2e-3}, "gpu": {"epochs": 60, "lr": 1e-3}})
