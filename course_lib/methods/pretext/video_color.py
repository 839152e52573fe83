"""Video colourization: where was this a moment ago? (Vondrick et al. 2018, "Tracking emerges by colorizing videos")

A grey frame may only copy colours from the frames before it. To copy the right ones, it has to find for each place
where the same thing was then. So no one says how things move, and yet a mask on the first frame can be carried along.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.methods.base import Batch, Method
from course_lib.methods.pretext.colorization import Lightness, color_bins, nearest_bin, without_color
from course_lib.nets import Encoder
from course_lib.parts import full_precision
from course_lib.parts.lab import rgb_to_lab
from course_lib.parts.propagation import check_clips, propagate, similarity
from course_lib.pictures import as_float


@full_precision
def copy_loss(logits: Float[Tensor, "n p r"], right: Int64[Tensor, "n p"], colors: Int64[Tensor, "n r"]
              ) -> Float[Tensor, ""]:
    """Cross-entropy of the copied colour (equations 1 and 3): −log of the attention on references of the right colour.

    Mean over places. One whose colour no reference has is left out, since no attention could copy it.
    """
    same = right[:, :, None] == colors[:, None]
    cost = logits.logsumexp(2) - logits.masked_fill(~same, -torch.inf).logsumexp(2)
    known = same.any(2)
    return torch.where(known, cost, 0).sum() / known.sum().clamp(min=1)


class VideoColorizer(Method):
    """Frames in grey are embedded place by place, and the last of them copies its colours from the others.

    encoder: `Lightness(encoder)`, so that it turns pictures grey by itself where it is evaluated on colour.
    dim: of the embedding, a linear mix of all the encoder's stages on the grid of the first: early ones know where
        things are, late ones what they are, and so every stage is trained.
    references: how many frames to copy from, 3 in the paper. temperature: of the attention, in `track` too.
    grid: the side of a bin of ab. The paper clusters ab into 16 first; fixed bins, 23 for a side of 40, are the same
        for every data set and every run, and need no training.
    """

    needs = frozenset({"clips"})
    objective = staticmethod(copy_loss)  # the loss: a subclass may name another

    def __init__(self, encoder: Encoder, *, dim: int = 64, references: int = 3, temperature: float = 0.07,
                 grid: float = 40.0):
        super().__init__(encoder, nn.Identity())
        self.references, self.temperature = references, temperature
        self.register_buffer("bins", color_bins(grid))
        self.heads = nn.ModuleList(nn.Conv2d(channels, dim, 1, bias=False) for channels in encoder.channels)

    @staticmethod
    def default_encoder(backbone: Encoder) -> Lightness:
        return Lightness(backbone)

    def embed(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d p q"]:
        """One vector for each place of the first stage, from the grey picture alone, whatever the encoder."""
        stages = self.encoder.stages(without_color(self.encoder, x))
        maps = [head(stage) for head, stage in zip(self.heads, stages, strict=True)]
        return sum(F.interpolate(m, maps[0].shape[2:], mode="bilinear") for m in maps)

    def track(self, frames: Tensor, first: Tensor, **options) -> Tensor:
        """`propagate` with these embeddings, in eval mode."""
        mode = self.training
        self.eval()
        carried = propagate(self.embed, frames, first, **{"temperature": self.temperature, **options})
        self.train(mode)
        return carried

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        check_clips(batch.x, self.references + 1)
        # Some frames of each clip, in order: what is a step or many away must be found again.
        some = torch.randperm(batch.x.shape[1])[:self.references + 1].sort().values
        x = as_float(batch.x[:, some].flatten(0, 1))
        z = self.embed(x)
        ab = F.adaptive_avg_pool2d(rgb_to_lab(x)[:, 1:], z.shape[2:])
        colors = nearest_bin(ab, self.bins)

        # Frames of a clip together again, places in one row: z is [N, T, D, P] and colors [N, T, P].
        z = z.flatten(2).unflatten(0, (len(batch), -1))
        colors = colors.flatten(1).unflatten(0, (len(batch), -1))
        target, references = z[:, -1], z[:, :-1].transpose(1, 2).flatten(2)  # [N, D, P] and [N, D, R]
        right, known = colors[:, -1], colors[:, :-1].flatten(1)  # [N, P] and [N, R]

        logits = similarity(target, references, self.temperature)
        with torch.no_grad():
            copied = logits.softmax(2) @ F.one_hot(known, len(self.bins)).to(logits.dtype)
        return {"loss": self.objective(logits, right, known), "accuracy": (copied.argmax(2) == right).float().mean()}
