"""What decays, what does not, and the one schedule at its ends and in between."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from course_lib.methods import MAE
from course_lib.nets import convnet, vit
from course_lib.optim import build_optimizer, learning_rate, parameter_groups


@pytest.mark.parametrize("build", [lambda: convnet((8, 12), 16), lambda: MAE(vit(dim=16, depth=1, heads=2))])
def test_biases_norms_and_tokens_do_not_decay_and_nothing_is_left_out(build):
    module = build()
    decay, rest = parameter_groups(module, 0.3)
    assert decay["weight_decay"] == 0.3 and rest["weight_decay"] == 0
    names = {id(p): name for name, p in module.named_parameters()}
    plain = {names[id(p)] for p in rest["params"]}
    norms = {f"{name}.{p}" for name, m in module.named_modules() if "Norm" in type(m).__name__
             for p, _ in m.named_parameters(recurse=False)}
    expected = norms | {name for name in names.values() if name.endswith(("bias", "token"))}
    assert plain == expected
    assert {names[id(p)] for p in decay["params"]} == set(names.values()) - expected


def test_frozen_weights_are_left_to_themselves():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2).requires_grad_(False))
    assert [p.shape for group in parameter_groups(net, 0.1) for p in group["params"]] == [(4, 3), (4,)]


def test_a_step_of_each_optimizer_by_hand():
    def moved(name):
        net = nn.Linear(2, 2)
        nn.init.ones_(net.weight)
        nn.init.ones_(net.bias)
        opt = build_optimizer(net, name, lr=0.1, weight_decay=0.5)
        net.weight.grad, net.bias.grad = torch.full((2, 2), 2.0), torch.full((2,), 2.0)
        opt.step()
        return opt, net.weight[0, 0].item(), net.bias[0].item()

    opt, weight, bias = moved("adamw")  # decays by lr·wd, then a step of lr whatever the gradient
    assert isinstance(opt, torch.optim.AdamW) and opt.param_groups[0]["betas"] == (0.9, 0.95)
    assert weight == pytest.approx(1 - 0.05 - 0.1) and bias == pytest.approx(1 - 0.1)
    opt, weight, bias = moved("sgd")  # Nesterov's first step is 1.9 times the gradient, to which the decay is added
    assert isinstance(opt, torch.optim.SGD) and opt.param_groups[0]["nesterov"]
    assert weight == pytest.approx(1 - 0.1 * 1.9 * 2.5) and bias == pytest.approx(1 - 0.1 * 1.9 * 2)


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="optimizer must be 'adamw' or 'sgd', got 'adam'"):
        build_optimizer(nn.Linear(2, 2), "adam", 0.1, 0.0)


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    rates = [learning_rate(s, 100, 0.4, 10) for s in range(100)]
    assert rates[:10] == pytest.approx([0.04 * (s + 1) for s in range(10)])
    assert rates[10] == max(rates) == pytest.approx(0.4)
    assert rates[55] == pytest.approx(0.2)  # half-way down
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0 < rates[-1] < 0.4 * 1e-3
    assert learning_rate(100, 100, 0.4, 10) == pytest.approx(0)
    assert rates[40] == pytest.approx(0.2 * (1 + math.cos(math.pi / 3)))


@pytest.mark.parametrize(("steps", "warmup"), [(1, 1), (1, 0), (5, 5), (3, 0)])
def test_short_trainings_have_rates_too(steps, warmup):
    rates = [learning_rate(s, steps, 1.0, warmup) for s in range(steps)]
    assert all(0 < r <= 1 for r in rates) and max(rates) == 1


def test_named_submodules_have_groups_of_their_own_that_ask_for_a_constant_rate():
    net = nn.ModuleDict({"body": nn.Linear(3, 4), "predictor": nn.Sequential(nn.Linear(4, 2))})
    groups = parameter_groups(net, 0.1, ["predictor"])
    found = [([tuple(p.shape) for p in g["params"]], g["weight_decay"], g["constant_lr"]) for g in groups]
    assert found == [([(4, 3)], 0.1, False), ([(4,)], 0.0, False), ([(2, 4)], 0.1, True), ([(2,)], 0.0, True)]
    assert [g["constant_lr"] for g in parameter_groups(net, 0.1)] == [False, False]
    inner = parameter_groups(net, 0.1, ["predictor.0"])
    assert [len(g["params"]) for g in inner] == [1, 1, 1, 1]


def test_a_constant_rate_for_nothing_is_one_sentence():
    with pytest.raises(ValueError, match=r"constant_lr names 'predictr', and Linear has no such submodule: give"):
        parameter_groups(nn.Linear(2, 2), 0.1, ["predictr"])
