"""The same neuron as norse's LIFBoxCell, whose threshold is fixed for a sequence and whose alpha does nothing (1.1)."""

import pytest
import torch

from neuroav.neurons import LIF, SuperSpike

DT = 1e-3


@pytest.mark.parametrize("tau", [1.5, 2.0, 20.0])
def test_spikes_and_gradients_are_those_of_lif_box(norse, noise, tau):
    x, weight = 3 * noise(15, 3, 7), noise(15, 3, 7)
    tau_inv = torch.tensor(1 / (tau * DT))
    cell = norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=tau_inv, v_th=torch.tensor(0.35)), dt=DT)
    layer = LIF(tau=tau, v_th=0.35, strict=True, detach_reset=False, surrogate=SuperSpike(1.0))
    results = []
    for run in (lambda x: loop(cell, x), lambda x: layer(x)[0]):
        current = x.clone().requires_grad_()
        spikes = run(current)
        (spikes * weight).sum().backward()
        results.append((spikes.detach(), current.grad))
    assert 0.02 < results[0][0].mean() < 0.6
    assert torch.equal(results[1][0], results[0][0])
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-4, atol=1e-5)


def loop(cell, x):
    state, spikes = None, []
    for step in x.unbind(0):
        out, state = cell(step, state)
        spikes.append(out)
    return torch.stack(spikes)
