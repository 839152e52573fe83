"""What several methods share."""

from course_lib.parts.bank import MemoryBank, Queue
from course_lib.parts.ema import cosine_momentum, ema_update
from course_lib.parts.gather import gather
from course_lib.parts.info_nce import batch_info_nce, info_nce
from course_lib.parts.patches import grid_crops, patchify, random_masking, unpatchify
from course_lib.parts.precision import check_pair, check_temperature, full_precision

__all__ = ["MemoryBank", "Queue", "batch_info_nce", "check_pair", "check_temperature", "cosine_momentum", "ema_update",
           "full_precision", "gather", "grid_crops", "info_nce", "patchify", "random_masking", "unpatchify"]
