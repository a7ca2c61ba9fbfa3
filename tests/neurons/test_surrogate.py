"""Surrogate derivatives are the derivatives of their primitives, and bumps around the threshold."""

import pytest
import torch

from neuroav.neurons import ATan, FastSigmoid, Sigmoid, Triangle

SURROGATES = (ATan(2.0), ATan(5.0), Sigmoid(4.0), Sigmoid(0.5), FastSigmoid(25.0), Triangle(1.0), Triangle(0.3))


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_gradient_is_the_finite_difference_of_the_primitive(surrogate):
    u = torch.linspace(-3, 3, 1201, dtype=torch.float64) + 1e-3
    step = 1e-6
    difference = (surrogate.primitive(u + step) - surrogate.primitive(u - step)) / (2 * step)
    torch.testing.assert_close(surrogate.grad(u), difference, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_gradient_is_symmetric_highest_at_the_threshold_and_vanishes_far_away(surrogate):
    u = torch.linspace(0, 5, 101, dtype=torch.float64)
    grad = surrogate.grad(u)
    assert torch.equal(grad, surrogate.grad(-u))
    assert (grad.diff() <= 0).all()
    assert surrogate.grad(torch.tensor([-torch.inf, torch.inf])).tolist() == [0, 0]


@pytest.mark.parametrize("surrogate", [each for each in SURROGATES if not isinstance(each, FastSigmoid)], ids=repr)
def test_primitive_runs_from_zero_to_one(surrogate):
    ends = surrogate.primitive(torch.tensor([-1e6, 0.0, 1e6], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0, 0.5, 1], dtype=torch.float64), rtol=0, atol=1e-6)


def test_surrogates_are_values():
    assert ATan(2.0) == ATan()
    assert ATan(2.0) != Sigmoid(2.0)
    assert len({type(each).code for each in SURROGATES}) == 4
    assert (FastSigmoid(slope=3.0).alpha, Triangle(width=0.5).alpha) == (3.0, 0.5)
