"""No silent death: after a little training on real descriptors every spiking layer is alive, and not all the time."""

import numpy as np
import pytest
import torch

from neuroav.example import spike_raster
from neuroav.run import layer_activity, warn_of_silence
from neuroav.train.optim import adam

NEGATIVES = torch.tensor([2, 3, 4, 5, 6, 7, 0, 1])
# The printed threshold vanishes within a clip, so its neurons fire at nearly every step: that is what it shows.
LITERAL = ("mdft printed threshold",)


def trained(world, variant):
    model = world.build(variant)
    batch = world.data.batch(np.arange(8))
    if not hasattr(model, "activity") or not model.activity(batch)[0]:
        pytest.skip(f"{variant} has no spiking layers")
    optimizer = adam(model.train(), 1e-3, 0.0)
    for _ in range(25):
        optimizer.zero_grad()
        torch.stack(list(model.loss(batch, NEGATIVES).values())).sum().backward()
        optimizer.step()
    return model.eval()


def test_layers_are_alive_after_training(world, variant, capsys):
    layers = layer_activity(trained(world, variant), world.data.in_order(8))
    assert layers
    for layer in layers:
        assert layer["dead_share"] <= 0.5, layer
        assert layer["rate"] > 0.01, layer
        if variant not in LITERAL:
            assert layer["rate"] < 0.5, layer
    warn_of_silence(variant, layers)
    assert capsys.readouterr().err == ""


def test_spikes_can_be_drawn(world, variant):
    model = world.build(variant).eval()
    if not hasattr(model, "activity") or not model.activity(world.data.batch([0]))[0]:
        pytest.skip(f"{variant} has no spiking layers")
    arrays = spike_raster(model, world.data)
    presentations = len(arrays["raster.t_s"])
    assert presentations > 1
    assert (np.diff(arrays["raster.t_s"]) > 0).all()
    for name in (name for name in arrays if name.endswith((".spikes", ".theta"))):
        assert len(arrays[name]) == presentations, name
