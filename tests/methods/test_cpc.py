"""CPC: its loss beside a loop, what a context may see, which rows are predicted, and signals."""

from __future__ import annotations

import math

import pytest
import torch
from reference import losses
from reference.compare import assert_full_precision, assert_same
from torch import nn

from course_lib import augment
from course_lib.methods import CPC, Batch, SequenceCPC
from course_lib.methods.contrastive.cpc import RowsAbove, SignalEncoder, cpc_loss
from course_lib.nets import convnet


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


EXAMPLE = torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("negatives", ["all", "same", "others"])
def test_beside_a_loop(negatives):
    assert_same(cpc_loss, losses.cpc, draw(6, 4), draw(6, 4), EXAMPLE, negatives=negatives)


def test_limits_by_hand():
    zero = torch.zeros(6, 4, dtype=torch.float64)
    for negatives, candidates in (("all", 6), ("same", 2), ("others", 5)):
        assert cpc_loss(zero, zero, EXAMPLE, negatives).item() == pytest.approx(math.log(candidates))
    sure = 5 * torch.eye(6, dtype=torch.float64)
    assert cpc_loss(sure, sure, EXAMPLE).item() == pytest.approx(math.log(1 + 5 * math.exp(-25)))
    assert_full_precision(cpc_loss, torch.randn(6, 8), torch.randn(6, 8), EXAMPLE)


def test_bad_input():
    with pytest.raises(ValueError, match=r"of one shape \[M, D\], .*, got \[6, 4\], \[5, 4\] and \[6\]"):
        cpc_loss(draw(6, 4), draw(5, 4), EXAMPLE)
    with pytest.raises(ValueError, match="negatives must be one of all, same, others, got 'some'"):
        cpc_loss(draw(6, 4), draw(6, 4), EXAMPLE, "some")
    with pytest.raises(ValueError, match="a prediction has no negative, with negatives='same': give more pictures"):
        cpc_loss(draw(6, 4), draw(6, 4), torch.arange(6), "same")
    with pytest.raises(ValueError, match="a prediction has no negative, with negatives='others'"):
        cpc_loss(draw(6, 4), draw(6, 4), torch.zeros(6, dtype=torch.int64), "others")


def test_a_context_never_sees_a_row_below_and_sees_all_it_may_above():
    context, z = RowsAbove(4), torch.randn(1, 4, 5, 5, requires_grad=True)
    for row in range(5):
        grad = torch.autograd.grad(context(z)[0, :, row, 2].square().sum(), z)[0][0].abs().sum((0, 2))
        assert (grad[row + 1 :] == 0).all(), f"row {row} sees one below it"
        assert (grad[max(0, row - 3) : row + 1] > 0).all()


@pytest.mark.parametrize(("size", "patch", "stride", "ahead"), [(48, 16, 8, [2, 3, 4]), (40, 16, 8, [2, 3]),
                                                                (48, 16, 16, [1, 2]), (32, 8, 4, [2, 3, 4, 5, 6])])
def test_rows_that_overlap_the_contexts_own_are_not_predicted(size, patch, stride, ahead):
    method = CPC(convnet((8,), 16), patch=patch, stride=stride, dim=8, views=augment.none(size))
    assert [int(k) for k in method.heads] == ahead
    assert min(ahead) * stride >= patch
    out = method(Batch(torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)))
    assert {f"loss_{k}" for k in ahead} < set(out)
    mean = sum(out[f"loss_{k}"] for k in ahead) / len(ahead)
    torch.testing.assert_close(out["loss"], mean)


def test_patches_lie_where_they_were_cut():
    class Mean(nn.Module):
        dim = 1

        def forward(self, x):
            assert x.shape[2:] == (16, 16)
            return x.mean((1, 2, 3))[:, None]

    method = CPC(Mean(), dim=1)
    with torch.no_grad():
        method.latent.weight.fill_(1.0)
        method.latent.bias.zero_()
    x = torch.rand(2, 3, 48, 48)
    z = method.latents(x)
    assert z.shape == (2, 5, 5, 1)
    for row in range(5):
        for column in range(5):
            patch = x[:, :, 8 * row : 8 * row + 16, 8 * column : 8 * column + 16]
            torch.testing.assert_close(z[:, row, column, 0], patch.mean((1, 2, 3)))


def test_each_step_predicts_its_own_row():
    method, seen = CPC(convnet((8,), 16), dim=8, views=augment.none(48)).eval(), []
    method.objective = lambda prediction, target, example, negatives: seen.append((prediction, target, example)) or (
        prediction.sum())
    x = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    method(Batch(x))
    z = method.latents(method.views(x))
    context = method.context(z.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    for k, (prediction, target, example) in zip((2, 3, 4), seen, strict=True):
        torch.testing.assert_close(target, z[:, k:].flatten(0, 2))
        torch.testing.assert_close(prediction, method.heads[str(k)](context[:, : 5 - k]).flatten(0, 2))
        assert example.tolist() == [0] * (5 * (5 - k)) + [1] * (5 * (5 - k))


def test_signals_are_predicted_from_what_came_before_alone():
    torch.manual_seed(0)
    method = SequenceCPC(SignalEncoder(2, 8), width=8, steps=3)
    x = torch.randn(4, 40, 2)
    c = method.contexts(x)
    assert c.shape == (4, 10, 8) and method.encoder(x).shape == (4, 10, 8)
    later = x.clone()
    later[:, 24:] += 1.0
    # An embedding reaches a few samples further than its own place, so the last ones before the change feel it.
    torch.testing.assert_close(method.contexts(later)[:, :4], c[:, :4])
    assert not torch.allclose(method.contexts(later)[:, 7:], c[:, 7:])
    out = method(Batch(x))
    assert {"loss_1", "loss_2", "loss_3"} < set(out) and out["loss"].isfinite()
    with pytest.raises(ValueError, match="3 steps ahead need more than 3 embeddings of a signal, got 2: give longer"):
        method(Batch(torch.randn(4, 8, 2)))
