"""Count the operations of one forward pass, per clip: multiply-accumulates, accumulates, neuron updates.

What is counted: every matrix product, convolution, attention product, recurrent cell and ``cdist`` that PyTorch runs,
by shape, zeros and padding included (``dense_ops``). From these, the products of ``nn.Linear`` layers whose input is
spikes or events become accumulates, one for each non-zero input and output feature. Not counted: biases, element-wise
arithmetic (normalisation, activations, softmax), memory traffic; no zero weight is skipped. Products outside
``nn.Linear``, convolutions among them, stay multiply-accumulates even where an operand is spikes.

Tools differ by a factor of 17 on the same network fed with signed events, so the rule is part of the result:

========== ============================================================================================
``binary`` an input costs accumulates if every value is exactly 0 or 1: spikes
``event``  an input costs accumulates if every value is a whole number: spikes, polarities, event counts
========== ============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from neuroav.checks import check_choice, check_range, fail
from neuroav.neurons.lif import LIFLayer

Rule = Literal["binary", "event"]


@dataclass(frozen=True)
class ProductCount:
    """What one ``nn.Linear`` costs per clip.

    Attributes:
        name: Its name in the module.
        dense_ops: Multiply-accumulates with zeros included.
        macs: ``dense_ops`` of the calls that are not accumulates under the rule.
        acs: Accumulates.
        density: Share of input values that are not zero.
    """

    name: str
    dense_ops: float
    macs: float
    acs: float
    density: float


@dataclass(frozen=True)
class NeuronCount:
    """What one layer of neurons costs per clip.

    Attributes:
        name: Its name in the module.
        updates: Neuron updates: steps times neurons.
        spikes: Spikes.
        rate: Spikes per update.
    """

    name: str
    updates: float
    spikes: float
    rate: float


@dataclass(frozen=True)
class OpCount:
    """What one forward pass costs per clip; see the module's docstring for what is counted.

    Attributes:
        rule: ``"binary"`` or ``"event"``: which products are accumulates.
        clips: Number of clips in the pass.
        dense_ops: Multiply-accumulates with zeros included, of everything.
        macs: Multiply-accumulates that remain.
        acs: Accumulates.
        neuron_updates: Steps times neurons, over all layers of neurons.
        products: The ``nn.Linear`` layers, in the order of first use.
        neurons: The layers of neurons, in the order of first use.
    """

    rule: Rule
    clips: int
    dense_ops: float
    macs: float
    acs: float
    neuron_updates: float
    products: tuple[ProductCount, ...]
    neurons: tuple[NeuronCount, ...]

    @property
    def spike_rate(self) -> float | None:
        """Spikes per neuron update over all layers; ``None`` without neurons."""
        if not self.neurons:
            return None
        return sum(each.spikes for each in self.neurons) / self.neuron_updates


def count(module: nn.Module, call: Callable[..., Any], clips: int, *args: Any, rule: Rule = "binary") -> OpCount:
    """Run ``call(*args)`` once without gradients and count what ``module`` does in it.

    Args:
        module: The network whose layers are watched, in evaluation mode.
        call: What to run, such as the module itself or one of its methods.
        clips: Number of clips in that pass; every figure is divided by it.
        *args: Arguments of ``call``.
        rule: ``"binary"`` or ``"event"``, see the module's docstring.

    Returns:
        The counts per clip. Neurons are those of :class:`neuroav.neurons.lif.LIFLayer` and its kinds.

    Raises:
        InputError: If ``module`` is in training mode, ``clips`` is below 1, or ``rule`` is unknown.

    Example:
        >>> layer = nn.Linear(4, 3).eval()
        >>> spikes = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 1]])
        >>> cost = count(layer, layer, 2, spikes)
        >>> cost.dense_ops, cost.macs, cost.acs
        (12.0, 0.0, 4.5)
    """
    check_choice("count", "rule", rule, ("binary", "event"))
    check_range("count", "clips", clips, 1)
    if module.training:
        raise fail("count", "a module in evaluation mode", "training mode", "Call module.eval() first.")
    tally = _Tally(rule)
    with _frozen(module), torch.no_grad(), tally.watching(module), _nothing_hidden(), _flop_counter() as flops:
        call(*args)
    products = tuple(row.per_clip(clips) for row in tally.products.values())
    neurons = tuple(row.per_clip(clips) for row in tally.neurons.values())
    dense_ops = flops.get_total_flops() / 2 / clips
    return OpCount(
        rule=rule,
        clips=clips,
        dense_ops=dense_ops,
        macs=dense_ops - sum(each.dense_ops - each.macs for each in products),
        acs=sum(each.acs for each in products),
        neuron_updates=sum(each.updates for each in neurons),
        products=products,
        neurons=neurons,
    )


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Parameters that ask for no gradient: the counter's module tracker can't place a view of one that does."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    for p in trainable:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trainable:
            p.requires_grad_(True)


class _ProductRow:
    def __init__(self, name: str) -> None:
        self.name, self.dense_ops, self.macs, self.acs, self.values, self.nonzero = name, 0, 0, 0, 0, 0

    def per_clip(self, clips: int) -> ProductCount:
        density = self.nonzero / self.values
        return ProductCount(self.name, self.dense_ops / clips, self.macs / clips, self.acs / clips, density)


class _NeuronRow:
    def __init__(self, name: str) -> None:
        self.name, self.updates, self.spikes = name, 0, 0

    def per_clip(self, clips: int) -> NeuronCount:
        return NeuronCount(self.name, self.updates / clips, self.spikes / clips, self.spikes / self.updates)


class _Tally:
    """Sums what the hooks see, by layer name."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.products: dict[str, _ProductRow] = {}
        self.neurons: dict[str, _NeuronRow] = {}

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        with ExitStack() as stack:
            for name, layer in module.named_modules():
                if isinstance(layer, nn.Linear):
                    stack.enter_context(layer.register_forward_pre_hook(self._linear_hook(name), with_kwargs=True))
                elif isinstance(layer, LIFLayer):
                    stack.enter_context(layer.register_forward_hook(self._neuron_hook(name)))
            yield

    def _linear_hook(self, name: str) -> Callable[..., None]:
        def hook(layer: nn.Linear, args: tuple, kwargs: dict) -> None:
            x = args[0] if args else kwargs["input"]
            row = self.products.setdefault(name, _ProductRow(name))
            nonzero = int(torch.count_nonzero(x))
            row.values += x.numel()
            row.nonzero += nonzero
            row.dense_ops += x.numel() * layer.out_features
            if _is_event_like(x, self.rule):
                row.acs += nonzero * layer.out_features
            else:
                row.macs += x.numel() * layer.out_features

        return hook

    def _neuron_hook(self, name: str) -> Callable[..., None]:
        def hook(layer: LIFLayer, args: tuple, output: tuple) -> None:
            row = self.neurons.setdefault(name, _NeuronRow(name))
            row.updates += output[0].numel()
            row.spikes += int(torch.count_nonzero(output[0]))

        return hook


def _is_event_like(x: Tensor, rule: Rule) -> bool:
    whole = (x == 0) | (x == 1) if rule == "binary" else x == x.round()
    return bool(whole.all())


@contextmanager
def _nothing_hidden() -> Iterator[None]:
    """Switch off the fused transformer inference path, whose products the dispatcher does not show."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's recurrent cells do not show either
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _flop_counter() -> FlopCounterMode:
    """PyTorch's counter, taught the products it overlooks on a CPU."""
    aten = torch.ops.aten
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
            aten.mkldnn_rnn_layer: lambda x, w_in, w_state, *_, **__: 2 * x[0] * x[1] * (prod(w_in) + prod(w_state)),
            aten._cdist_forward: lambda a, b, *_, out_shape, **__: 2 * prod(out_shape) * a[-1],
            aten.mv: lambda a, *_, **__: 2 * prod(a),
            aten.dot: lambda a, *_, **__: 2 * prod(a),
        },
    )
