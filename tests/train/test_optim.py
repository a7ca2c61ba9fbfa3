"""Optimiser coverage and schedules."""

import pytest
import torch
from torch import nn

from neuroav.checks import InputError
from neuroav.train.optim import Plateau, Step, adam


def test_adam_holds_every_parameter():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = adam(model, 1e-3, 1e-5)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (1e-3, 1e-5)


def test_adam_refuses_a_frozen_parameter_by_name():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[1].bias.requires_grad_(False)
    with pytest.raises(InputError, match=r"adam: expected every parameter to be trainable, got 1\.bias frozen"):
        adam(model, 1e-3, 0.0)


@pytest.mark.parametrize(("at", "epochs", "falls"), [(0.75, 12, 9), (0.5, 3, 2), (0.0, 4, 1), (1.0, 4, 4)])
def test_a_step_falls_once(at, epochs, falls):
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], 1.0)
    schedule = Step(factor=0.1, at=at).build(optimizer, epochs)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1.0] * falls + [0.1] * (epochs - falls))


@pytest.mark.parametrize(
    ("kind", "change"),
    [(Plateau, {"factor": 1.0}), (Plateau, {"patience": -1}), (Step, {"factor": 2.0}), (Step, {"at": 1.5})],
)
def test_impossible_schedules_are_refused(kind, change):
    with pytest.raises(InputError, match=f"{kind.__name__}: expected {next(iter(change))} in"):
        kind(**change)
