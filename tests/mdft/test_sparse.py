"""The spike-driven copy of a trained MDFT: the same spikes and distances, whatever its layers are made of."""

import numpy as np
import pytest
import torch

from neuroav.bench.train import Case
from neuroav.checks import InputError
from neuroav.mdft.model import MDFT, MDFTConfig
from neuroav.mdft.motion import MLPLayers, SpikingLayers
from neuroav.mdft.sparse import layer_pairs, spike_driven
from neuroav.nn.losses import HeadsConfig

LAYERS = {
    "default": SpikingLayers(),
    "soft reset, no delays": SpikingLayers(reset="soft", delays=(0,), v_rest=0.1),
    "printed": SpikingLayers(repeats=1, delays=(0,), normalise=False, learn_tau=False),
    "long delays": SpikingLayers(layers=2, repeats=2, delays=(0, 2)),
}


@pytest.fixture(scope="module")
def tiny_data():
    return Case(6, 12, 32, features=24, motion=(2, 4, 4), classes=4, clips=12).data()


@pytest.fixture(scope="module")
def batch(tiny_data):
    return tiny_data.batch(np.arange(12))


@pytest.fixture(scope="module", params=LAYERS)
def pair(request, tiny_data, batch):
    """A model whose normalisation has seen the clips, so that its neurons fire, and its copy."""
    torch.manual_seed(0)
    config = MDFTConfig(dim=32, heads=HeadsConfig(hidden=16), motion=LAYERS[request.param])
    model = MDFT(tiny_data.spec, config).train()
    with torch.no_grad():
        for _ in range(30):
            model.represent(batch)
    model.eval()
    return model, spike_driven(model)


def test_spikes_and_distances_are_those_of_the_trained_model(pair, batch, tiny_data):
    model, fast = pair
    with torch.no_grad():
        (dense, _), (sparse, _) = model.activity(batch), fast.activity(batch)
        distances = [each.distances(batch, tiny_data.class_vectors) for each in (model, fast)]
    assert list(dense) == list(sparse)
    for name, trace in dense.items():
        assert (trace.output != sparse[name].output).float().mean() < 1e-3  # rounding at the threshold
        assert torch.equal(trace.theta, sparse[name].theta)
    torch.testing.assert_close(*distances, rtol=1e-3, atol=1e-3)
    assert torch.equal(distances[0].argmin(1), distances[1].argmin(1))


def test_a_pair_runs_one_layer_on_the_spikes_that_it_reads(pair, batch):
    model, fast = pair
    traces = model.represent(batch).traces
    layers = model.config.motion.layers
    pairs = list(layer_pairs(model, fast, batch))
    assert [each.name for each in pairs] == [f"{name}.{i}" for name in traces for i in range(1, layers)]
    for each in pairs:
        name, i = each.name.split(".")
        assert each.spikes.unique().tolist() in ([0.0, 1.0], [0.0])
        with torch.no_grad():
            assert torch.equal(each.dense(), traces[name][int(i)].output)
            assert (each.dense() != each.sparse()).float().mean() < 1e-3
    assert any(each.spikes.any() for each in pairs)


def test_the_model_itself_is_left_as_it_was(pair, batch, tiny_data):
    model, fast = pair
    assert type(model.motion["video"]).__name__ == "_SpikingLayers"
    fast.motion["video"].linear.weight.data.zero_()
    assert model.motion["video"].linear[0].weight.abs().sum() > 0


def test_what_cannot_be_driven_by_spikes_is_refused(tiny_data):
    config = MDFTConfig(dim=32, heads=HeadsConfig(hidden=16))
    with pytest.raises(InputError, match="a model in evaluation mode, got training mode"):
        spike_driven(MDFT(tiny_data.spec, config))
    twin = MDFT(tiny_data.spec, MDFTConfig(dim=32, heads=HeadsConfig(hidden=16), motion=MLPLayers())).eval()
    with pytest.raises(InputError, match="an MDFT with SpikingLayers, got MLPLayers"):
        spike_driven(twin)
