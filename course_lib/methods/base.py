"""What a method is: an encoder that is kept, and a loss that trains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.data.types import Batch, Images

__all__ = ["Batch", "Method"]


class Method(nn.Module):
    """Base of every method. A subclass sets up its heads in `__init__` and says what it minimises in `loss`.

    encoder: the part that is kept and evaluated. views: uint8 pictures in, random views in [0, 1] out.

    What a subclass may say of itself:
    needs: what its batches hold besides pictures, of "labels", "captions" and "clips" (`x` is then `[N, T, 3, H, W]`).
    smallest_batch: how many pictures its loss makes sense of.
    constant_lr: names of submodules whose learning rate stays where it is instead of falling to 0.
    remembers_pictures: it keeps something for each picture of the training set, as a memory bank does, so its loss can
        be measured on those alone.
    not_shipped: beginnings of names in `state_dict()` that a checkpoint can do without, such as `("bank.",)`.

    Whatever it remembers from step to step (a teacher, a queue, a centre) is a module or a buffer, so that it is in
    `state_dict()` and a run resumes exactly. Numbers, words and lists of them that are plain attributes count as its
    options: `fit` resumes no run that was begun with others.

    Raises TypeError for an encoder that is no module or has no `dim`.
    """

    needs: frozenset[str] = frozenset()
    smallest_batch = 2
    constant_lr: tuple[str, ...] = ()
    remembers_pictures = False
    not_shipped: tuple[str, ...] = ()

    def __init__(self, encoder: nn.Module, views: nn.Module):
        super().__init__()
        if not isinstance(encoder, nn.Module):
            raise TypeError(f"{type(self).__name__} needs an encoder, got {encoder!r}: give cl.nets.convnet(), or a "
                            "module of your own")
        if not hasattr(encoder, "dim"):
            raise TypeError(f"an encoder has a `dim`, the length of the vector that it gives for a picture, and this "
                            f"{type(encoder).__name__} has none: set encoder.dim (and where a classifier ends it, as "
                            "in torchvision's ResNet, first encoder.fc = nn.Identity())")
        self.encoder, self.views = encoder, views

    @classmethod
    def build(cls, encoder: nn.Module, images: Images, **options: Any) -> Method:
        """The method for these pictures. A subclass adds the arguments that come from the data, and nothing else:

            return super().build(encoder, images, classes=len(images.classes), **options)

        `built_with` then holds them all, so that a run can save them and build the same method without the data.
        """
        method = cls(encoder, **options)
        method.built_with = options
        return method

    @staticmethod
    def default_encoder(backbone: nn.Module) -> nn.Module:
        """The encoder that suits this method, around a recipe's backbone."""
        return backbone

    def loss(self, batch: Batch) -> Tensor | dict[str, Tensor | float]:
        """A scalar, or a dict with `"loss"` and whatever other numbers are worth plotting."""
        raise NotImplementedError(f"{type(self).__name__} has no loss yet: define loss(self, batch)")

    def view(self, x: Tensor) -> Float[Tensor, "n 3 s s"]:
        """One random view of each picture. Raises TypeError where `views` makes several at a time, as multi-crop does.
        """
        view = self.views(x)
        if not isinstance(view, Tensor):
            raise TypeError(f"{type(self).__name__} takes one view of each picture at a time, and its views gave a "
                            f"{type(view).__name__} of {len(view)}: give it views=augment.simclr(), or other `Views`")
        return view

    def before_step(self, progress: float) -> None:
        """Called before each step, with the share of the training that is done, in [0, 1)."""

    def before_update(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        """Called when gradients are there and unscaled, before the optimizer's step: the place to clip them, to freeze
        a layer (`parameter.grad = None`) and to change `weight_decay` of the optimizer's groups."""

    def after_step(self, progress: float) -> None:
        """Called after each step of the optimizer: the place for momentum and queues."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss` as a dict, checked. Everything that trains or measures a method calls this, and so does
        DistributedDataParallel, which synchronises the gradients of what goes through `forward`."""
        return as_logs(self.loss(batch), type(self).__name__)


def as_logs(out: Any, name: str) -> dict[str, Tensor]:
    """What a loss returned, as a dict of scalar tensors with `"loss"`; the others may be plain numbers.

    Raises TypeError or ValueError for the rest.
    """
    logs = dict(out) if isinstance(out, Mapping) else {"loss": out}
    if "loss" not in logs:
        raise ValueError(f'{name}.loss returned a dict of {", ".join(map(str, logs)) or "nothing"}: '
                         'put the number that is minimised under "loss"')
    for key, value in logs.items():
        if key != "loss" and isinstance(value, (int, float)):
            logs[key] = value = torch.tensor(float(value))
        what = f"{name}.loss" if key == "loss" else f"{name}.loss's {key!r}"
        if not isinstance(value, Tensor):
            hint = "end the function with return" if value is None else "return the tensor that was computed"
            raise TypeError(f"{what} must be a tensor with one number, got {type(value).__name__}: {hint}")
        if value.ndim:
            raise ValueError(f"{what} must be one number, got a tensor of shape {list(value.shape)}: "
                             "take the mean over the batch")
    return logs
