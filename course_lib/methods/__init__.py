"""Every method of the course, one file each."""

from course_lib.methods.base import Batch, Method
from course_lib.methods.cca.vicreg import VICReg
from course_lib.methods.contrastive.simclr import SimCLR
from course_lib.methods.distillation.byol import BYOL
from course_lib.methods.masked.mae import MAE
from course_lib.methods.pretext.rotation import RotNet
from course_lib.methods.reconstruction.autoencoder import Autoencoder
from course_lib.methods.supervised import Supervised

__all__ = ["BYOL", "MAE", "Autoencoder", "Batch", "Method", "RotNet", "SimCLR", "Supervised", "VICReg"]
