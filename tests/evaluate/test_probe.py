"""The linear probe beside scikit-learn's logistic regression, and its choices."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from course_lib.evaluate import accuracy, fit_probe, linear_probe


def problem(n, *, d=8, classes=4, spread=1.0, seed=0, dtype=torch.float64):
    """Features of very unequal and correlated dimensions, as encoders give, with overlapping classes."""
    world = torch.Generator().manual_seed(1)
    centers = spread * torch.randn(classes, d, generator=world, dtype=dtype)
    mix = torch.randn(d, d, generator=world, dtype=dtype) * torch.logspace(0, -2, d, dtype=dtype)
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=draw)
    return (torch.randn(n, d, generator=draw, dtype=dtype) + centers[y]) @ mix.T + 5, y


def objective(probe, z, y):
    return torch.nn.functional.cross_entropy(probe.scores(z), y) + probe.l2 / 2 * probe.weight.square().sum()


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_the_minimum_is_scikit_learns(l2):
    z, y = problem(200)
    probe = fit_probe(z, y, l2=l2, tolerance=1e-7)
    assert probe.converged and probe.gradient <= 1e-7
    x = ((z - z.mean(0)) / z.std(0, correction=0)).numpy()
    theirs = LogisticRegression(C=1 / (len(z) * l2), tol=1e-10, max_iter=10_000).fit(x, y.numpy())
    np.testing.assert_allclose(probe.weight.T.numpy(), theirs.coef_, rtol=1e-4, atol=1e-5)
    shift = theirs.intercept_ - probe.bias.numpy()  # cross-entropy leaves a constant added to every bias open
    np.testing.assert_allclose(shift, shift.mean(), atol=1e-4)
    np.testing.assert_allclose(probe.scores(z).softmax(1).numpy(), theirs.predict_proba(x), atol=1e-5)


def test_no_small_step_from_the_solution_lowers_the_objective():
    z, y = problem(200)
    probe = fit_probe(z, y, l2=1e-2, tolerance=1e-7)
    least, draw = objective(probe, z, y), torch.Generator().manual_seed(0)
    for _ in range(20):
        step = 1e-3 * torch.randn(probe.weight.shape, generator=draw, dtype=probe.weight.dtype)
        assert objective(dataclasses.replace(probe, weight=probe.weight + step), z, y) > least


def test_float32_reaches_the_default_tolerance_and_the_same_answer():
    z, y = problem(2000, d=64, dtype=torch.float64)
    exact = fit_probe(z, y, l2=1e-3, tolerance=1e-7)
    quick = fit_probe(z.float(), y, l2=1e-3)
    assert quick.converged and quick.weight.dtype == torch.float32
    assert (quick.scores(z.float()).argmax(1) == exact.scores(z).argmax(1)).double().mean() > 0.995


def test_starting_from_another_probe_changes_the_way_and_not_the_end():
    z, y = problem(200)
    first = fit_probe(z, y, l2=1.0)
    before = (first.weight.clone(), first.bias.clone())
    warm = fit_probe(z, y, l2=1e-2, start=first, tolerance=1e-7)
    cold = fit_probe(z, y, l2=1e-2, tolerance=1e-7)
    torch.testing.assert_close(warm.weight, cold.weight, rtol=1e-5, atol=1e-6)
    assert torch.equal(first.weight, before[0]) and torch.equal(first.bias, before[1])
    assert not first.bias.requires_grad and not warm.weight.requires_grad


def test_a_start_counts_with_the_features_it_was_standardized_by():
    z, y = problem(200)
    first = fit_probe(z, y, l2=1e-2, tolerance=1e-7)
    moved = fit_probe(3 * z + 7, y, l2=1e-2, start=first, max_iter=1, tolerance=1e9)
    torch.testing.assert_close(moved.scores(z), first.scores(z))


def test_fitting_works_where_gradients_are_off():
    z, y = problem(50)
    with torch.no_grad():
        assert fit_probe(z, y, l2=1e-2).converged


def test_a_fit_cut_short_says_so():
    z, y = problem(200)
    probe = fit_probe(z, y, l2=1e-4, max_iter=2)
    assert not probe.converged and probe.gradient > 3e-5
    parts = (*problem(200), *problem(50, seed=2), *problem(50, seed=3))
    assert not linear_probe(*parts, max_iter=2).converged
    assert linear_probe(*parts).converged


@pytest.mark.parametrize("max_iter", [5, 30])
def test_the_gradient_told_is_that_of_the_probe_returned(max_iter):
    """At the floor of rounding, after 30, the line search gives up, and the last point tried is not the one kept."""
    z, y = problem(200)
    l2 = 1e-2
    probe = fit_probe(z, y, l2=l2, max_iter=max_iter, tolerance=1e-10)
    assert not probe.converged
    x = (z - probe.mean) / probe.std
    root = torch.linalg.cholesky(x.T @ x / len(x) / 4 + l2 * torch.eye(8, dtype=x.dtype)).mT
    weight, bias = probe.weight.clone().requires_grad_(), probe.bias.clone().requires_grad_()
    (torch.nn.functional.cross_entropy(x @ weight + bias, y) + l2 / 2 * weight.square().sum()).backward()
    searched = torch.linalg.solve_triangular(root.mT, weight.grad, upper=False)  # in v = root @ weight
    wanted = max(searched.abs().max(), bias.grad.abs().max()).item()
    assert probe.gradient == pytest.approx(wanted, rel=1e-3)


def test_constant_dimensions_carry_nothing_and_break_nothing():
    z, y = problem(200, dtype=torch.float32)
    wanted = fit_probe(z, y, l2=1e-2)
    constant = torch.full((200, 1), 0.1)
    probe = fit_probe(torch.cat([z, constant, 0 * constant], dim=1), y, l2=1e-2)
    assert probe.converged
    assert probe.weight[-2:].abs().max() < 1e-3
    torch.testing.assert_close(probe.weight[:-2], wanted.weight, rtol=1e-2, atol=1e-2)


def test_strength_is_chosen_on_val_and_that_very_probe_scored_on_test():
    train, val, test = problem(60, d=40), problem(200, d=40, seed=2), problem(300, d=40, seed=3)
    result = linear_probe(*train, *val, *test, classes=4, tolerance=1e-6)
    fits = {l2: fit_probe(*train, l2=l2, classes=4, tolerance=1e-6) for l2 in result.val_top1}
    by_hand = {l2: accuracy(fit.scores(val[0]), val[1]) for l2, fit in fits.items()}
    assert result.val_top1 == pytest.approx(by_hand, abs=1)  # a probe that starts elsewhere may flip one in 200
    assert result.val_top1[result.l2] == max(result.val_top1.values())
    torch.testing.assert_close(result.probe.mean, train[0].mean(0))
    torch.testing.assert_close(result.probe.weight, fits[result.l2].weight, rtol=1e-2, atol=1e-3)
    assert accuracy(result.probe.scores(val[0]), val[1]) == result.val_top1[result.l2]
    assert result.top1 == accuracy(result.probe.scores(test[0]), test[1])
    assert result.top5 == 100  # four classes


def test_the_choice_reads_no_test_label():
    train, val, test = problem(60, d=40), problem(200, d=40, seed=2), problem(300, d=40, seed=3)
    honest = linear_probe(*train, *val, *test, classes=4)
    other = linear_probe(*train, *val, test[0], test[1].flip(0), classes=4)
    assert torch.equal(honest.probe.weight, other.probe.weight) and honest.l2 == other.l2
    assert honest.top1 != other.top1


def test_the_labels_of_val_do_nothing_but_choose():
    """With one strength there is nothing to choose, and a probe fitted on val too would be another one."""
    train, val, test = problem(60), problem(200, seed=2), problem(30, seed=3)
    probes = [linear_probe(*train, val[0], y, *test, classes=4, strengths=(1e-2,)).probe for y in (
        val[1], val[1].flip(0))]
    assert torch.equal(probes[0].weight, probes[1].weight) and torch.equal(probes[0].bias, probes[1].bias)
    assert torch.equal(probes[0].weight, fit_probe(*train, l2=1e-2, classes=4).weight)


def test_features_may_be_standardized_by_those_of_more_pictures():
    z, y = problem(200)
    standard = (z.mean(0), z.std(0, correction=0))
    few = fit_probe(z[:20], y[:20], l2=1e-2, classes=4, standard=standard, tolerance=1e-7)
    assert torch.equal(few.mean, standard[0]) and torch.equal(few.std, standard[1])
    x = ((z[:20] - standard[0]) / standard[1]).numpy()
    theirs = LogisticRegression(C=1 / (20 * 1e-2), tol=1e-10, max_iter=10_000).fit(x, y[:20].numpy())
    np.testing.assert_allclose(few.scores(z).softmax(1).numpy(),
                               theirs.predict_proba(((z - standard[0]) / standard[1]).numpy()), atol=1e-4)


def test_a_few_rows_far_out_do_not_keep_it_from_the_minimum():
    z, y = problem(30_000, d=16, dtype=torch.float32)
    z[1::3001] *= 300  # as an untrained encoder has: ten pictures with most of a feature's variance
    fits = [None]
    for l2 in (1e-1, 1e-3, 1e-5):
        fits.append(fit_probe(z, y, l2=l2, start=fits[-1]))
    assert all(fit.converged for fit in fits[1:]), [fit.gradient for fit in fits[1:]]


def test_an_end_of_the_grid_is_reported():
    noisy = [part for n, seed in ((150, 0), (500, 2), (20, 3)) for part in problem(n, d=30, spread=0.3, seed=seed)]
    assert linear_probe(*noisy, strengths=(1e-3, 1e-5)).at_end == "strongest"
    near = linear_probe(*noisy, strengths=(1e-3, 1e-4))
    assert near.at_end is None and near.val_top1[1e-3] > near.val_top1[1e-4], "an end that is better by chance alone"
    clean = (*problem(400), *problem(400, seed=2), *problem(20, seed=3))
    assert linear_probe(*clean, strengths=(1e4, 1e3, 1e-1)).at_end == "weakest"
    assert linear_probe(*clean, strengths=(1e3, 1e-1, 1e2)).at_end == "weakest"  # any order will do
    assert linear_probe(*noisy, strengths=(1.0, 1e-3, 1e-5)).at_end is None
    assert linear_probe(*clean, strengths=(1e-2,)).at_end is None


def test_strengths_that_only_overfit_more_are_not_tried():
    noisy = [part for n, seed in ((150, 0), (500, 2), (20, 3)) for part in problem(n, d=30, spread=0.3, seed=seed)]
    grid = (1e-3, 1e-5, 1e-6)
    every = {l2: accuracy(fit_probe(*noisy[:2], l2=l2).scores(noisy[2]), noisy[3]) for l2 in grid}
    best = max(every.values())
    below = [l2 for l2 in grid if every[l2] < best - (best * (100 - best) / 500) ** 0.5]
    assert below == [1e-5, 1e-6], f"the data should overfit at the second strength: {every}"
    assert list(linear_probe(*noisy, strengths=grid).val_top1) == [1e-3, 1e-5]


def test_of_equals_the_strongest_is_chosen_and_is_no_end_to_warn_of():
    easy = [part for seed in (0, 2, 3) for part in problem(200, classes=2, spread=20, seed=seed)]
    result = linear_probe(*easy)
    assert result.val_top1[1.0] == 100 and result.l2 == 1.0 and result.at_end is None


def test_bad_input():
    z, y = problem(40)
    with pytest.raises(ValueError, match="at least two classes, got class 3 alone"):
        fit_probe(z, torch.full_like(y, 3), l2=1)
    with pytest.raises(ValueError, match="l2 must be above 0, got 0"):
        fit_probe(z, y, l2=0)
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        fit_probe(z[:1], y[:1], l2=1)
    with pytest.raises(ValueError, match=r"one label a feature vector, \[40\], got \[39\]"):
        fit_probe(z, y[1:], l2=1)
    with pytest.raises(ValueError, match="labels must be 0 to 2, got 0 to 3"):
        fit_probe(z, y, l2=1, classes=3)
    with pytest.raises(ValueError, match="val features must have at least 1 row, got 0"):
        linear_probe(z, y, z[:0], y[:0], z, y)
    with pytest.raises(ValueError, match="train and test features must have the same dimension, got 8 and 7"):
        linear_probe(z, y, z, y, z[:, 1:], y)
    with pytest.raises(ValueError, match="test features must be finite, but 40 of 40"):
        linear_probe(z, y, z, y, z * torch.inf, y)
    with pytest.raises(ValueError, match="the features and the probe must have the same dimension, got 7 and 8"):
        fit_probe(z, y, l2=1).scores(z[:, 1:])


def test_fewer_pictures_than_dimensions_are_fitted_with_a_weak_penalty():
    torch.manual_seed(0)
    z = torch.relu(torch.randn(40, 2) @ torch.randn(2, 256) + torch.randn(256))  # rounding makes its covariance odd
    y = torch.arange(40) % 2
    probe = fit_probe(z, y, l2=1e-6)
    x = ((z - probe.mean) / probe.std).double()
    weight, bias = probe.weight.double().requires_grad_(), probe.bias.double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(x @ weight + bias, y) + 1e-6 / 2 * weight.square().sum()
    found = torch.autograd.grad(loss, (weight, bias))
    assert probe.converged and max(g.abs().max() for g in found) < 1e-2
