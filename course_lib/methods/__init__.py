"""Every method of the course, one file each."""

from course_lib.methods.base import Batch, Method
from course_lib.methods.cca.vicreg import VICReg
from course_lib.methods.contrastive.clip import CLIP
from course_lib.methods.contrastive.cmc import CMC
from course_lib.methods.contrastive.cpc import CPC, SequenceCPC
from course_lib.methods.contrastive.densecl import DenseCL
from course_lib.methods.contrastive.instdisc import InstDisc
from course_lib.methods.contrastive.meanshift import MeanShift
from course_lib.methods.contrastive.moco import MoCo
from course_lib.methods.contrastive.nnclr import NNCLR
from course_lib.methods.contrastive.pirl import PIRL
from course_lib.methods.contrastive.simclr import SimCLR
from course_lib.methods.contrastive.word2vec import SkipGram
from course_lib.methods.distillation.byol import BYOL
from course_lib.methods.masked.mae import MAE
from course_lib.methods.metric.siamese import Siamese
from course_lib.methods.metric.supcon import SupCon
from course_lib.methods.metric.triplet import Triplet
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

__all__ = ["BYOL", "CLIP", "CMC", "CPC", "MAE", "NNCLR", "PIRL", "Autoencoder", "Batch", "Colorizer", "ContextEncoder",
           "DenoisingAutoencoder", "DenseCL", "InstDisc", "Jigsaw", "MeanShift", "Method", "MoCo", "RelativePatch",
           "RotNet", "SequenceCPC", "Siamese", "SimCLR", "SkipGram", "SplitBrain", "SupCon", "Supervised", "Triplet",
           "VICReg", "VideoColorizer"]
