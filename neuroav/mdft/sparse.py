"""A trained MDFT whose spiking layers are driven by spikes: inference on a CPU that reads weights of spikes only."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from neuroav.checks import fail
from neuroav.data.types import Batch
from neuroav.mdft.model import MDFT
from neuroav.mdft.motion import SpikingLayers, delayed
from neuroav.neurons.sparse import SparseLinearLIF
from neuroav.nn.project import StepBatchNorm
from neuroav.nn.spiking import LayerTrace


class SparseLayers(nn.Module):
    """What :class:`~neuroav.mdft.motion.SpikingLayers` builds, once trained, driven by its spikes.

    The first layer reads real numbers and runs as it is. Every further one is a
    :class:`~neuroav.neurons.sparse.SparseLinearLIF` with its batch normalisation folded into the weights, so membranes
    differ by rounding and a spike only where a membrane is as near to the threshold as that. The weights are copied.

    Args:
        layers: The module that :meth:`SpikingLayers.build <neuroav.mdft.motion.SpikingLayers.build>` made, in
            evaluation mode.
    """

    def __init__(self, layers: Any):
        super().__init__()
        self.repeats, self.delays = layers.repeats, layers.delays
        self.linear, self.norm, self.neuron = layers.linear[0], layers.norm[0], layers.neuron[0]
        later = zip(layers.linear[1:], layers.norm[1:], layers.neuron[1:], strict=True)
        self.later = nn.ModuleList(SparseLinearLIF(_folded(linear, norm), neuron) for linear, norm, neuron in later)

    def forward(self, x: Tensor, theta: Tensor, valid: Tensor) -> list[LayerTrace]:
        """Run ``x (T, B, D)`` under ``theta (T, B, 1)``; membranes start at rest and live for the whole clip."""
        held = theta.repeat_interleave(self.repeats, 0)
        current = self.norm(self.linear(delayed(x, self.delays)), valid)
        spikes, _ = self.neuron(current.repeat_interleave(self.repeats, 0), held)
        trace = [LayerTrace(spikes, theta)]
        for layer in self.later:
            spikes, _ = layer(delayed(spikes, tuple(d * self.repeats for d in self.delays)), held)
            trace.append(LayerTrace(spikes, theta))
        return trace


def _folded(linear: nn.Module, norm: nn.Module) -> nn.Linear:
    assert isinstance(linear, nn.Linear)
    return fuse_linear_bn_eval(linear, norm) if isinstance(norm, StepBatchNorm) else linear


def spike_driven(model: MDFT) -> MDFT:
    """A copy of a trained model whose spiking layers are :class:`SparseLayers`; the rest of it is the same.

    Raises:
        InputError: If the model is in training mode, or its motion layers don't spike.
    """
    if model.training:
        raise fail("spike_driven", "a model in evaluation mode", "training mode", "Call model.eval() first.")
    if not isinstance(model.config.motion, SpikingLayers):
        raise fail("spike_driven", "an MDFT with SpikingLayers", repr(model.config.motion))
    fast = copy.deepcopy(model)
    fast.motion = nn.ModuleDict({name: SparseLayers(layers) for name, layers in fast.motion.items()})
    return fast.eval()


class LayerPair(NamedTuple):
    """One layer run both ways on the same spikes.

    Attributes:
        name: Such as ``video.1``.
        spikes: What it reads: spikes of the layer before it, once for each delay, ``(T * R, B, M)``.
        dense: Runs the layer as it was trained and returns its spikes.
        sparse: Runs it driven by spikes and returns them.
    """

    name: str
    spikes: Tensor
    dense: Callable[[], Tensor]
    sparse: Callable[[], Tensor]


@torch.no_grad()
def layer_pairs(model: MDFT, fast: MDFT, batch: Batch) -> Iterator[LayerPair]:
    """Every layer that reads spikes, on the spikes of a batch.

    Args:
        model: Trained.
        fast: Its :func:`spike_driven` copy.
        batch: Clips.
    """
    represented = model.represent(batch)
    for name, trace in represented.traces.items():
        layers: Any = model.motion[name]
        sparse: Any = fast.motion[name]
        seen = represented.valid.repeat_interleave(layers.repeats, 0)
        theta: Any = trace[0].theta
        held = theta.repeat_interleave(layers.repeats, 0)
        for i in range(1, len(trace)):
            spikes = delayed(trace[i - 1].output, tuple(d * layers.repeats for d in layers.delays))
            parts = (layers.linear[i], layers.norm[i], layers.neuron[i])
            dense = partial(_dense, *parts, spikes, seen, held)
            yield LayerPair(f"{name}.{i}", spikes, dense, partial(_driven, sparse.later[i - 1], spikes, held))


def _dense(linear: Any, norm: Any, neuron: Any, spikes: Tensor, seen: Tensor, theta: Tensor) -> Tensor:
    return neuron(norm(linear(spikes), seen), theta)[0]


def _driven(layer: Any, spikes: Tensor, theta: Tensor) -> Tensor:
    return layer(spikes, theta)[0]
