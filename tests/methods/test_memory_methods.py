"""Methods that remember: MoCo, InstDisc, NNCLR, MeanShift, PIRL, DenseCL. Their losses, and what is pushed when."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from reference import losses
from reference.compare import assert_full_precision, assert_same
from torch import nn

from course_lib.data.types import Images
from course_lib.methods import BYOL, NNCLR, PIRL, Batch, DenseCL, InstDisc, MeanShift, MoCo
from course_lib.methods.contrastive.densecl import match
from course_lib.methods.contrastive.instdisc import estimate_log_z, instance_softmax_loss, nce_loss
from course_lib.methods.contrastive.meanshift import mean_shift_loss
from course_lib.methods.contrastive.nnclr import nearest
from course_lib.methods.distillation.byol import byol_loss
from course_lib.nets import convnet, vit
from course_lib.parts import batch_info_nce, info_nce


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def unit(*shape):
    return F.normalize(draw(*shape), dim=-1)


def small():
    return convnet((8, 8), 16)


class Plain(nn.Module):
    """Pictures as they are, as floats: without chance."""

    def forward(self, x):
        return x / 255


def batch(n=6, first=0):
    draw = torch.Generator().manual_seed(first)
    return Batch(torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=draw), torch.arange(first, first + n))


# --- the rule for all of them: read, compute the loss, and only then write

BUILD = {
    "MoCo": lambda: MoCo(small(), dim=8, queue=16, views=Plain()),
    "NNCLR": lambda: NNCLR(small(), hidden=16, dim=8, queue=16, views=Plain()),
    "DenseCL": lambda: DenseCL(small(), dim=8, queue=16, views=Plain()),
    "MeanShift": lambda: MeanShift(small(), hidden=16, dim=8, queue=16, neighbours=1, views=Plain()),
    "InstDisc": lambda: InstDisc(small(), dim=8, pictures=20, negatives=5, views=Plain()),
    "PIRL": lambda: PIRL(small(), dim=8, pictures=20, negatives=5),
}


def remembered(method):
    return {key: value.clone() for key, value in method.state_dict().items() if key.startswith(("queue", "bank",
                                                                                                 "place_queue"))}


@pytest.mark.parametrize("name", BUILD)
def test_a_loss_writes_nothing_and_a_step_does(name):
    """Else a method that is only measured would change, and a query would meet its own key among the negatives."""
    method = BUILD[name]()
    before = remembered(method)
    assert before
    for _ in range(2):
        method(batch())
    assert all(torch.equal(value, before[key]) for key, value in remembered(method).items())
    method.after_step(0.5)
    after = remembered(method)
    assert any(not torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("name", ["MoCo", "DenseCL"])
def test_no_query_meets_its_own_key_among_the_negatives(name):
    """Fails where the push comes before the loss."""
    method, seen = BUILD[name](), []
    objective = method.objective
    method.objective = lambda q, k, queue: seen.append((F.normalize(k, dim=-1), queue)) or objective(q, k, queue)
    for step in range(3):
        method(batch(4, first=4 * step))
        method.after_step(0.0)
    for k, queue in seen:
        assert (k @ queue.T).max() < 1 - 1e-5, "a key is its own negative"
    first, *_ = seen[0]
    if name == "MoCo":
        assert (first @ seen[-1][1].T).max(1).values.min() > 1 - 1e-5, "keys of earlier steps are there"


def test_nnclr_never_finds_itself():
    method, seen = BUILD["NNCLR"](), []
    method.objective = lambda p, found: seen.append((p, found)) or p.sum()
    method(batch())
    z = F.normalize(method.newest, dim=1)
    assert all((found * z).sum(1).max() < 1 - 1e-4 for _, found in seen)
    method.after_step(0.0)
    rows = method.queue.get()
    torch.testing.assert_close(rows[nearest(z, rows)[:, 0]], z)  # now it would


@pytest.mark.parametrize("name", BUILD)
def test_what_is_remembered_need_not_be_shipped(name):
    method = BUILD[name]()
    assert method.not_shipped and set(remembered(method)) == {
        key for key in method.state_dict() if key.startswith(method.not_shipped)}


# --- MoCo

def test_moco_is_info_nce_of_queries_keys_and_queue():
    method = MoCo(small(), dim=8, queue=16, temperature=0.3, shuffle=False, groups=1, views=Plain())
    x = batch()
    out = method(x)
    q = method.head(method.encoder(x.x / 255))
    k = method.teacher(x.x / 255)
    torch.testing.assert_close(out["loss"], info_nce(q, k, method.queue.get(), 0.3))


def test_shuffling_changes_statistics_and_not_which_key_is_whose():
    x = batch(8)
    plain = MoCo(small(), dim=8, queue=16, groups=4, shuffle=False, views=Plain())
    mixed = MoCo(small(), dim=8, queue=16, groups=4, shuffle=True, views=Plain())
    mixed.load_state_dict(plain.state_dict())
    keys = {}
    for name, method in (("plain", plain), ("mixed", mixed)):
        torch.manual_seed(1)
        method(x)
        keys[name] = method.newest
    assert not torch.allclose(keys["plain"], keys["mixed"], atol=1e-4), "other groups, other statistics"
    for name, method in (("plain", plain), ("mixed", mixed)):
        method.eval()  # statistics are fixed now, so that groups play no part
        torch.manual_seed(1)
        method(x)
        keys[name] = method.newest
    torch.testing.assert_close(keys["mixed"], mixed.teacher(x.x / 255))
    torch.testing.assert_close(keys["plain"], plain.teacher(x.x / 255))


def test_groups_have_batch_statistics_of_their_own():
    method, x = MoCo(small(), dim=8, queue=16, groups=2, views=Plain()), batch(8).x / 255
    network = nn.Sequential(method.encoder, method.head)
    torch.testing.assert_close(method.in_groups(network, x), torch.cat([network(x[:4]), network(x[4:])]))
    assert not torch.allclose(method.in_groups(network, x), network(x), atol=1e-4)


def test_moco_follows_slowly_and_its_keys_have_no_gradient():
    method = MoCo(small(), dim=8, queue=16, momentum=0.9, views=Plain())
    with torch.no_grad():
        for p in method.head.parameters():
            p.add_(1.0)
    before = method.teacher[1][0].weight.clone()
    method(batch())["loss"].backward()
    method.after_step(0.5)
    torch.testing.assert_close(method.teacher[1][0].weight, before + 0.1)
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_keys_network_keeps_its_own_sight_of_a_batch_and_copies_running_statistics():
    """In training its batch norm sees the keys of this batch; what it has learned to expect is the student's."""
    method = MoCo(small(), dim=8, queue=16, momentum=0.9, views=Plain())
    method(batch())
    method.after_step(0.5)
    stored = dict(method.student.named_buffers())
    means = [v for k, v in stored.items() if k.endswith("running_mean")]
    assert means and all(mean.abs().max() > 0 for mean in means), "the batch has left no trace"
    assert all(torch.equal(v, stored[k]) for k, v in method.teacher.named_buffers())


def test_heads_of_both_versions():
    def layers(version):
        return [type(m) for m in MoCo(small(), queue=8, version=version).head]

    assert layers(1) == [nn.Linear] and layers(2) == [nn.Linear, nn.ReLU, nn.Linear]


def test_a_queue_is_an_eighth_of_the_pictures_unless_it_is_given_and_too_long_a_one_is_warned_of():
    images = Images(torch.zeros(100, 3, 8, 8, dtype=torch.uint8))
    for kind in (MoCo, DenseCL):
        assert kind.build(small(), images).queue.size == 12
        assert kind.build(small(), images, queue=80).queue.size == 80
        with pytest.warns(UserWarning, match="a queue of 101 keys is longer than the 100 pictures, .*queue=12 one"):
            kind.build(small(), images, queue=101)
    assert MoCo.build(small(), Images(torch.zeros(40_000, 3, 1, 1, dtype=torch.uint8))).queue.size == 4096


# --- InstDisc

@pytest.mark.parametrize("log_z", [0.0, 3.0])
def test_nce_beside_a_loop(log_z):
    assert_same(nce_loss, losses.nce, draw(4, 5), unit(4, 5), unit(4, 6, 5), log_z=log_z, pictures=50, temperature=0.5)


def test_instance_softmax_beside_a_loop():
    bank, index = unit(7, 5), torch.tensor([3, 0, 6])
    assert_same(lambda v: instance_softmax_loss(v, bank, index, 0.5),
                lambda v: losses.instance_softmax(v, bank, index, 0.5), draw(3, 5))


def test_nce_at_limits_by_hand():
    v = unit(1, 6)
    # P = m/p for every slot: as likely to be a picture's as to be drawn, so h is one half everywhere.
    slots = v.expand(8, 6)[None]
    log_z = 1 / 0.5 - math.log(8 / 40)
    assert nce_loss(v, v, slots, log_z, 40, 0.5).item() == pytest.approx(9 * math.log(2))
    far = nce_loss(v, v, -slots, 1 / 0.07 - math.log(1e3), 40, 0.07)  # sure of the right one and of all wrong ones
    assert far.item() == pytest.approx(-math.log(1e3 / (1e3 + 8 / 40)), abs=1e-6)
    big = unit(3, 512)
    blind = instance_softmax_loss(big, unit(50, 512), torch.arange(3), 10.0)
    assert blind.item() == pytest.approx(math.log(50), abs=0.02)


def test_the_estimate_of_z_is_near_the_sum_over_all_slots():
    bank, v = unit(500, 64), unit(40, 64)
    exact = (v @ bank.T / 0.5).exp().sum(1).mean()
    drawn = bank[torch.randint(500, (40, 300))]
    assert estimate_log_z(v, drawn, 500, 0.5).exp().item() == pytest.approx(exact.item(), rel=0.02)
    assert_full_precision(nce_loss, torch.randn(4, 8), F.normalize(torch.randn(4, 8), dim=1),
                          F.normalize(torch.randn(4, 6, 8), dim=2), log_z=2.0, pictures=50)


def test_z_is_estimated_once_and_stays_and_never_by_a_measurement():
    method = BUILD["InstDisc"]()
    assert method.eval()(batch())["loss"].isfinite() and method.log_z == 0
    method.train()
    method(batch())
    first = method.log_z.clone()
    assert first != 0
    method.after_step(0.0)
    method(batch(first=6))
    assert method.log_z == first


def test_instdisc_is_what_its_parts_say():
    method = InstDisc(small(), dim=8, pictures=20, negatives=None, temperature=0.3, proximal=2.0, views=Plain())
    x = batch(first=3)
    out = method(x)
    v = F.normalize(method.head(method.encoder(x.x / 255)), dim=1)
    moved = (v - method.bank.rows[x.index]).square().sum(1).mean()
    torch.testing.assert_close(out["moved"], moved)
    torch.testing.assert_close(out["loss"], instance_softmax_loss(v, method.bank.rows, x.index, 0.3) + 2 * moved)
    before = method.bank.rows.clone()
    method.after_step(0.0)
    torch.testing.assert_close(method.bank.rows[x.index], F.normalize(before[x.index] + v, dim=1))
    untouched = [i for i in range(20) if i not in x.index]
    assert torch.equal(method.bank.rows[untouched], before[untouched])


# --- NNCLR and MeanShift

def test_nearest_first():
    rows = torch.eye(3)
    assert nearest(torch.tensor([[5.0, 2.0, 1.0], [0.0, 0.1, 0.2]]), rows, 2).tolist() == [[0, 1], [2, 1]]


def test_nnclr_asks_the_other_views_predictions_for_ones_neighbours():
    method = BUILD["NNCLR"]()
    x = batch().x / 255
    flips = iter([x, x.flip(3)])
    method.views = Turns(flips)
    out = method(batch())
    z1, z2 = (method.projector(method.encoder(v)) for v in (x, x.flip(3)))
    rows = method.queue.get()
    found1, found2 = (rows[nearest(z, rows)[:, 0]] for z in (z1, z2))
    p1, p2 = method.predictor(z1), method.predictor(z2)
    wanted = (batch_info_nce(found1, p2, 0.1) + batch_info_nce(found2, p1, 0.1)) / 2
    torch.testing.assert_close(out["loss"], wanted)
    torch.testing.assert_close(method.newest, z1)


class Turns(nn.Module):
    """One prepared view after another."""

    def __init__(self, views):
        super().__init__()
        self.prepared = views

    def forward(self, x):
        return next(self.prepared)


def test_mean_shift_beside_a_loop():
    assert_same(mean_shift_loss, losses.mean_shift, draw(4, 5), draw(4, 3, 5))


def test_with_its_own_target_as_the_only_neighbour_mean_shift_is_a_term_of_byol():
    p1, p2, z1, z2 = draw(4, 6, 5)
    both = mean_shift_loss(p1, z2[:, None]) + mean_shift_loss(p2, z1[:, None])
    torch.testing.assert_close(both, byol_loss(p1, p2, z1, z2))
    method = BUILD["MeanShift"]()
    torch.manual_seed(0)
    out = method(batch())
    x = batch().x / 255
    wanted = (2 - 2 * F.cosine_similarity(method.predictor(method.student(x)), method.teacher(x))).mean()
    torch.testing.assert_close(out["loss"], wanted)


def test_mean_shift_asks_the_first_view_for_the_second_ones_neighbours():
    method, x = BUILD["MeanShift"](), batch().x / 255
    method.views = Turns(iter([x, x.flip(3)]))
    out = method(batch())
    z = method.teacher(x.flip(3))
    torch.testing.assert_close(method.newest, z)
    torch.testing.assert_close(out["loss"], mean_shift_loss(method.predictor(method.student(x)), z[:, None]))


def test_mean_shifts_teacher_comes_to_rest():
    """Its momentum starts as given and is 1 at the end."""
    method = MeanShift(small(), hidden=16, dim=8, queue=16, momentum=0.6, views=Plain())
    with torch.no_grad():
        for p in method.projector.parameters():
            p.add_(1.0)
    weight, moved = method.teacher[1][0].weight, []
    method(batch())
    for progress in (0.0, 0.5, 1.0):
        before = weight.clone()
        method.after_step(progress)
        moved.append(((weight - before) / (method.projector[0].weight - before)).nan_to_num(0).max().item())
    assert moved == pytest.approx([0.4, 0.2, 0.0], abs=1e-5)


def test_mean_shift_finds_itself_first_and_others_after():
    method, seen = MeanShift(small(), hidden=16, dim=8, queue=16, neighbours=3, views=Plain()), []
    method.objective = lambda p, found: seen.append(found) or p.sum()
    method(batch())
    z = F.normalize(method.teacher(batch().x / 255), dim=1)
    torch.testing.assert_close(seen[0][:, 0], z)
    cosines = (seen[0] * z[:, None]).sum(2)
    assert (cosines[:, :-1] >= cosines[:, 1:] - 1e-6).all() and (cosines[:, 1] < 1).all()


def test_mean_shift_limits_and_bad_input():
    p = draw(4, 5)
    assert mean_shift_loss(p, 3 * p[:, None]).item() == pytest.approx(0, abs=1e-9)
    assert mean_shift_loss(p, -p[:, None].expand(4, 2, 5)).item() == pytest.approx(4)
    assert_full_precision(mean_shift_loss, torch.randn(4, 8), torch.randn(4, 3, 8))
    with pytest.raises(ValueError, match=r"\[N, D\] need neighbours \[N, K, D\], got \[4, 5\] and \[4, 5\]"):
        mean_shift_loss(p, p)


def test_mean_shift_has_byols_student_and_teacher():
    torch.manual_seed(0)
    ours = MeanShift(small(), hidden=16, dim=8, queue=8)
    torch.manual_seed(0)
    theirs = BYOL(small(), hidden=16, dim=8)
    shapes = [[tuple(p.shape) for p in method.parameters()] for method in (ours, theirs)]
    assert shapes[0] == shapes[1]


# --- PIRL

def test_pirl_compares_picture_and_tiles_with_the_same_slot():
    method, seen = BUILD["PIRL"](), []
    method.weight = 0.2
    method.objective = lambda z, slot, negatives: seen.append((z, slot, negatives)) or z.square().mean()
    x = batch(first=2)
    out = method(x)
    (z, slot, negatives), (tiles, same, others) = seen
    assert torch.equal(slot, method.bank.rows[x.index]) and torch.equal(slot, same) and torch.equal(negatives, others)
    torch.testing.assert_close(out["loss"], 0.2 * tiles.square().mean() + 0.8 * z.square().mean())
    torch.testing.assert_close(method.newest[1], z)  # the slot follows the picture, not its tiles


def test_tiles_are_seen_one_by_one_and_in_an_order_of_chance():
    method = PIRL(small(), dim=8, pictures=20, jitter=0).eval()
    x = torch.rand(2, 3, 36, 36)
    found = []
    for seed in range(3):
        torch.manual_seed(seed)
        found.append(method.embed_tiles(x))
    assert not torch.allclose(found[0], found[1]) and not torch.allclose(found[1], found[2])
    with torch.no_grad():  # a head for which the order does not matter
        method.order_head.weight.copy_(method.order_head.weight[:, :8].repeat(1, 9))
    torch.manual_seed(0)
    one = method.embed_tiles(x)
    torch.manual_seed(1)
    torch.testing.assert_close(method.embed_tiles(x), one)


def test_each_picture_has_an_order_of_tiles_of_its_own():
    method = PIRL(small(), dim=8, pictures=20, jitter=0).eval()
    twins = torch.rand(1, 3, 36, 36).expand(4, -1, -1, -1)
    found = method.embed_tiles(twins)
    assert not any(torch.allclose(found[0], other, atol=1e-4) for other in found[1:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_neighbours_and_places_are_found_in_full_precision(dtype):
    """As early in training, when all lie in a narrow cone: products in half precision cannot tell them apart."""
    rows = F.normalize(torch.randn(200, 64) + 20, dim=1)
    z = F.normalize(torch.randn(50, 64) + 20, dim=1)
    wanted, places = nearest(z, rows, 3), match(z[None], rows[None])
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(nearest(z, rows, 3), wanted) and torch.equal(match(z[None], rows[None]), places)


def test_a_batch_that_the_queue_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="a queue of 4 cannot hold a batch of 6, of which each is to find itself"):
        MeanShift(small(), hidden=16, dim=8, queue=4, neighbours=1, views=Plain())(batch())


# --- DenseCL

def test_places_are_matched_by_the_largest_cosine():
    a, b = torch.randn(3, 6, 5), torch.randn(3, 6, 5)
    found = match(a, b)
    for i in range(3):
        for j in range(6):
            cosines = [F.cosine_similarity(a[i, j], b[i, k], dim=0) for k in range(6)]
            assert found[i, j] == max(range(6), key=cosines.__getitem__)
    assert match(a, b[:, :4]).max() < 4
    lightly = pytest.importorskip("lightly.models.utils", reason="lightly is a dependency of development alone")
    theirs = lightly.select_most_similar(a, b, b)
    torch.testing.assert_close(b.gather(1, found[:, :, None].expand(-1, -1, 5)), theirs)


def test_densecl_is_what_its_parts_say():
    method, x = DenseCL(small(), dim=8, weight=0.3, queue=16, temperature=0.4), batch().x / 255
    other = x.flip(3).roll(5, 2)  # so that it matters whose places look for whose
    method.views = Turns(iter([x, other]))
    out = method(batch())
    maps = method.encoder.maps(x)
    places = maps.flatten(2).mT
    q, r = method.head(method.encoder.pool(maps)), method.place_head(places)
    teacher_maps = method.teacher[0].maps(other)
    k, t = method.teacher[1](method.teacher[0].pool(teacher_maps)), method.teacher[2](teacher_maps.flatten(2).mT)
    found, back = match(places, teacher_maps.flatten(2).mT), match(teacher_maps.flatten(2).mT, places)
    assert not torch.equal(found, back)
    t_found = torch.stack([t[i][found[i]] for i in range(6)])
    pictures = info_nce(q, k, method.queue.get(), 0.4)
    dense = info_nce(r.flatten(0, 1), t_found.flatten(0, 1), method.place_queue.get(), 0.4)
    torch.testing.assert_close(out["loss_pictures"], pictures)
    torch.testing.assert_close(out["loss_places"], dense)
    torch.testing.assert_close(out["loss"], 0.7 * pictures + 0.3 * dense)
    method.after_step(0.0)
    torch.testing.assert_close(method.place_queue.get()[:6], F.normalize(F.normalize(t, dim=2).mean(1), dim=1))
    torch.testing.assert_close(method.queue.get()[:6], F.normalize(k, dim=1))


def test_densecl_takes_any_encoder_with_maps_and_no_other():
    assert DenseCL(vit(dim=16, depth=1, heads=2), dim=8, queue=8)(batch())["loss"].isfinite()
    with pytest.raises(ValueError, match="its class token, which nothing would train: give vit"):
        DenseCL(vit(dim=16, depth=1, heads=2, pool="class"))
    other = nn.Sequential(nn.Flatten(), nn.Linear(3072, 16))
    other.dim = 16
    with pytest.raises(TypeError, match="needs an encoder with maps, got Sequential: give cl"):
        DenseCL(other)
