"""Every method of the course, one file each."""

from course_lib.methods.base import Batch, Method
from course_lib.methods.cca.vicreg import VICReg
from course_lib.methods.contrastive.simclr import SimCLR
from course_lib.methods.distillation.byol import BYOL
from course_lib.methods.masked.mae import MAE
from course_lib.methods.pretext.colorization import Colorizer
from course_lib.methods.pretext.inpainting import ContextEncoder
from course_lib.methods.pretext.jigsaw import Jigsaw
from course_lib.methods.pretext.relative_patch import RelativePatch
from course_lib.methods.pretext.rotation import RotNet
from course_lib.methods.pretext.split_brain import SplitBrain
from course_lib.methods.pretext.video_color import VideoColorizer
from course_lib.methods.reconstruction.autoencoder import Autoencoder
from course_lib.methods.reconstruction.denoising import DenoisingAutoencoder
from course_lib.methods.supervised import Supervised

__all__ = ["BYOL", "MAE", "Autoencoder", "Batch", "Colorizer", "ContextEncoder", "DenoisingAutoencoder", "Jigsaw",
           "Method", "RelativePatch", "RotNet", "SimCLR", "SplitBrain", "Supervised", "VICReg", "VideoColorizer"]
