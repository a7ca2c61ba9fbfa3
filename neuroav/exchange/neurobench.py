"""NeuroBench: our networks under its harness, and its synaptic operations beside ours.

NeuroBench is imported when a function is first called; it is no requirement of this package. What its
``SynapticOperations`` counts, against :func:`neuroav.energy.count`, on networks without zero weights or padding:

=================== =============================================== ======================================
NeuroBench 2.3      here                                            for
=================== =============================================== ======================================
``Dense``           ``dense_ops``                                   ``Linear``, ``Conv``
``Effective_ACs``   ``synops`` where every input is -1, 0 or 1      the same
``Effective_MACs``  ``synops`` of the other layers                  the same; zeros are skipped there too
=================== =============================================== ======================================

It skips zero weights, and padding of convolutions even in ``Dense``; graded events are MACs to it, and products of two
activations (attention), functional calls and most recurrent layers are not counted. It sums in float32, whole numbers
up to 16 million. Its figures on neurons (``NeuronOperations``, ``MembraneUpdates``) know snnTorch's class names alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from neuroav.exchange.peers import peer
from neuroav.neurons.lif import LIFLayer


def _neurobench(module: str) -> ModuleType:
    remedy = "Install it: python -m pip install neurobench."
    return peer("exchange.neurobench", f"neurobench.{module}", remedy)


@cache
def _model_class() -> type:
    layer_hook: Any = _neurobench("hooks.layer").LayerHook
    neuron_hook: Any = _neurobench("hooks.neuron").NeuronHook
    base: Any = _neurobench("models").NeuroBenchModel

    class SpikesHook(neuron_hook):
        """Keeps the spikes of a layer that returns its state as well."""

        def hook_fn(self, layer: nn.Module, args: tuple, output: Any) -> None:
            self.activation_outputs.append(output[0] if isinstance(output, tuple) else output)

    class Model(base):
        """One of our networks as a ``NeuroBenchModel``."""

        def __init__(self, net: nn.Module, call: Callable[[Any], Any] | None):
            super().__init__()
            self.net, self.call = net.eval(), call
            self.add_activation_module(LIFLayer)

        def __call__(self, data: Any) -> Any:
            with torch.no_grad():
                return _time_first(self.net, data) if self.call is None else self.call(data)

        def __net__(self) -> nn.Module:
            return self.net

        def register_hooks(self) -> None:
            self.activation_hooks += [
                SpikesHook(each["layer"], each["layer_name"]) for each in self.activation_layers()
            ]
            self.connection_hooks += [layer_hook(layer) for layer in self.connection_layers()]

    return Model


def _time_first(net: nn.Module, data: Tensor) -> Tensor:
    output = net(data.transpose(0, 1))
    return (output[0] if isinstance(output, tuple) else output).transpose(0, 1)


def to_neurobench(module: nn.Module, call: Callable[[Any], Any] | None = None) -> Any:
    """Make a ``NeuroBenchModel`` for NeuroBench's ``Benchmark`` of a network of ours, put in evaluation mode.

    Args:
        module: The network; its ``Linear`` and ``Conv`` layers and neurons are watched.
        call: From what NeuroBench's data loader gives to predictions, such as a function of clip numbers that puts the
            batch together and returns ``-model.distances(batch, class_vectors)``. ``None``: ``module`` takes and gives
            ``(T, B, *)``, NeuroBench ``(B, T, *)``.

    Raises:
        ImportError: If NeuroBench is not installed.
    """
    return _model_class()(module, call)


def synaptic_operations(
    module: nn.Module, inputs: Any, *, clips: int = 1, call: Callable[..., Any] | None = None
) -> dict[str, float]:
    """NeuroBench's own count of one pass, per clip, with the arguments of :func:`neuroav.energy.count`.

    Returns:
        ``Effective_MACs``, ``Effective_ACs`` and ``Dense``.

    Raises:
        ImportError: If NeuroBench is not installed.
    """
    run = module if call is None else call
    model = to_neurobench(nn.ModuleList([module]), lambda data: run(*data))  # it looks below what it is given
    metric = _neurobench("metrics.workload").SynapticOperations()
    model.register_hooks()
    try:
        predictions = model(inputs if isinstance(inputs, tuple) else (inputs,))
        return dict(metric(model, predictions, (torch.empty(clips, 0), None)))
    finally:
        model.cleanup_hooks()
