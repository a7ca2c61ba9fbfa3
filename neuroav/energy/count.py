"""Count the operations of one forward pass, per clip: products, spikes, neuron updates, bytes moved.

Every matrix product, convolution, attention product, recurrent cell and ``cdist`` that PyTorch runs is counted by
shape, zeros and padding included (``dense_ops``). An operand that is no weight is looked at: how many of its values
are not zero gives the synaptic operations (``synops``), and what they are decides between multiply-accumulates and
accumulates. Tools differ by a factor of 17 on one network fed with signed events, so both rules are always counted:

========== ============================================================================================
``binary`` a product costs accumulates if every value of an operand is exactly 0 or 1: spikes
``event``  a product costs accumulates if every value is a whole number: spikes, polarities, event counts
========== ============================================================================================

Products of float32, 16-bit and int8 numbers are kept apart, by the widest operand. The scale of int8 values does not
show: such an operand is spikes if its values are 0 and one other, else real numbers.

Accumulates are counted for values that are not zero only, once for each weight they meet; a multiply-accumulate is
counted for zeros as well, and no zero weight is skipped. A product of two activations (attention) costs accumulates if
either operand does, for the positions where both are not zero if both do. Everything between the products (biases,
normalisation, activations, softmax, threshold signals) is in ``elementwise_ops``: one for each value that an
element-wise operator writes, or that a reduction or normalisation reads. A step of a neuron is one neuron update,
whatever is added and multiplied in it. Neurons are ours, SpikingJelly's and snnTorch's; hand-written ones show as
element-wise operations. What is left is listed as not counted, never dropped.

Bytes: a weight is read once for each operation (no reuse; ``stored_bytes`` is the least that a pass can read); the
membranes of a neuron are read and written at each update; an input is read once, in full, or where its product costs
accumulates as a list of events: an address of 4 bytes each, and the value with it unless it is 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from neuroav.checks import check_range, fail
from neuroav.energy.products import Kind, Product, find_product, kind_of, number_of

Rule = Literal["binary", "event"]
RULES: tuple[Rule, ...] = ("binary", "event")
FOREIGN_NEURONS = (
    ("spikingjelly.activation_based.neuron.base_node", "SimpleBaseNode"),
    ("spikingjelly.activation_based.neuron.base_node", "BaseNode"),
    ("snntorch._neurons.neurons", "SpikingNeuron"),
    ("neuroav.exchange.spikingjelly", "FromSpikingJelly"),  # runs its node without calling it
)


@dataclass(frozen=True)
class Work:
    """What is done and moved under one rule, per clip.

    Attributes:
        macs: Multiply-accumulates.
        acs: Accumulates.
        weight_bytes: Bytes of weights read, one weight for each operation.
        input_bytes: Bytes of activations and events read.
    """

    macs: float
    acs: float
    weight_bytes: float
    input_bytes: float


@dataclass(frozen=True)
class ProductCount:
    """The products of one module in one kind of number, per clip.

    Attributes:
        name: The module's name; empty for the counted module itself.
        kind: Its type.
        weights: Whether one operand is a weight; else both are activations, as in attention.
        dense_ops: Multiply-accumulates with zeros included.
        synops: Those of them whose activations are not zero.
        binary: What they cost if only 0 and 1 are events.
        event: What they cost if every whole number is one.
        density: Share of the activations' values that are not zero.
        spikes_per_synapse: Values that are not zero, per synapse and clip; ``None`` without weights.
        stored_bytes: Bytes of the weights.
        number: What is multiplied, as PyTorch calls it: ``"float32"``, ``"bfloat16"``, ``"int8"``.
    """

    name: str
    kind: str
    weights: bool
    dense_ops: float
    synops: float
    binary: Work
    event: Work
    density: float
    spikes_per_synapse: float | None
    stored_bytes: int
    number: str = "float32"


@dataclass(frozen=True)
class NeuronCount:
    """One layer of neurons, per clip.

    Attributes:
        name: Its name in the module.
        kind: Its type.
        updates: Neuron updates: steps times neurons.
        spikes: Spikes.
        rate: Spikes per update.
        rate_per_step: The same step by step, in the order they ran.
        state_bytes: Bytes of state read and written.
    """

    name: str
    kind: str
    updates: float
    spikes: float
    rate: float
    rate_per_step: tuple[float, ...]
    state_bytes: float


@dataclass(frozen=True)
class Uncounted:
    """What no figure contains.

    Attributes:
        name: The module's name.
        kind: Its type.
        reason: The operator that is not known, or that the module's parameters were not used.
        parameters: How many parameters it concerns.
        share: Their share of all parameters.
    """

    name: str
    kind: str
    reason: str
    parameters: int
    share: float


@dataclass(frozen=True)
class OpCount:
    """What one forward pass costs per clip; see the module's docstring for what is counted.

    Attributes:
        clips: Number of clips in the pass.
        pixel_updates: Pixel values that event generation compared within the pass.
        stored_bytes: Bytes of parameters and buffers.
        products: Modules with products, in the order of first use.
        neurons: Layers of neurons, in the order of first use.
        elementwise: Element-wise operations of each module that has any.
        uncounted: What is in none of the figures.
    """

    clips: int
    pixel_updates: float
    stored_bytes: int
    products: tuple[ProductCount, ...]
    neurons: tuple[NeuronCount, ...]
    elementwise: tuple[tuple[str, float], ...]
    uncounted: tuple[Uncounted, ...]

    def under(self, rule: Rule) -> Work:
        """Sum of all products under one rule."""
        return _sum_of([getattr(each, rule) for each in self.products])

    def by_number(self, rule: Rule) -> dict[str, Work]:
        """The same for each kind of number that is multiplied."""
        numbers = dict.fromkeys(each.number for each in self.products)
        return {
            number: _sum_of([getattr(each, rule) for each in self.products if each.number == number])
            for number in numbers
        }

    @cached_property
    def binary(self) -> Work:
        """Everything if only 0 and 1 are events."""
        return self.under("binary")

    @cached_property
    def event(self) -> Work:
        """Everything if every whole number is an event."""
        return self.under("event")

    @property
    def dense_ops(self) -> float:
        """Multiply-accumulates with zeros included."""
        return float(sum(each.dense_ops for each in self.products))

    @property
    def synops(self) -> float:
        """Those of them whose activations are not zero."""
        return float(sum(each.synops for each in self.products))

    @property
    def elementwise_ops(self) -> float:
        """Element-wise operations of all modules."""
        return float(sum(ops for _, ops in self.elementwise))

    @property
    def neuron_updates(self) -> float:
        """Steps times neurons, over all layers of neurons."""
        return float(sum(each.updates for each in self.neurons))

    @property
    def state_bytes(self) -> float:
        """Bytes of state read and written, over all layers of neurons."""
        return float(sum(each.state_bytes for each in self.neurons))

    @property
    def spike_rate(self) -> float | None:
        """Spikes per neuron update over all layers; ``None`` without neurons."""
        return sum(each.spikes for each in self.neurons) / self.neuron_updates if self.neurons else None

    @property
    def spikes_per_synapse(self) -> float | None:
        """Events per synapse and clip over the weights that read events; ``None`` where none do."""
        read = [each for each in self.products if each.spikes_per_synapse and each.event.acs]
        synapses = sum(each.synops / each.spikes_per_synapse for each in read if each.spikes_per_synapse)
        return sum(each.synops for each in read) / synapses if read else None


def _sum_of(works: Sequence[Work]) -> Work:
    return Work(*(float(sum(getattr(work, each.name) for work in works)) for each in fields(Work)))


def count(module: nn.Module, inputs: Any = (), *, clips: int = 1, call: Callable[..., Any] | None = None) -> OpCount:
    """Run ``module(*inputs)`` once without gradients and count what it does.

    No output is changed, but for the rounding of PyTorch's own transformer layers and cuDNN's recurrent ones: their
    fused paths, which show nothing, are off meanwhile.

    Args:
        module: Any network, in evaluation mode.
        inputs: The argument, or a tuple of them.
        clips: Number of clips in the pass; every figure is divided by it.
        call: What to run in place of the module itself, such as one of its methods.

    Returns:
        The counts per clip.

    Raises:
        InputError: If ``module`` is in training mode, or ``clips`` is below 1.

    Example:
        >>> layer = nn.Linear(4, 3).eval()
        >>> spikes = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 1]])
        >>> cost = count(layer, spikes, clips=2)
        >>> cost.dense_ops, cost.binary.macs, cost.binary.acs
        (12.0, 0.0, 4.5)
    """
    check_range("count", "clips", clips, 1)
    if module.training:
        raise fail("count", "a module in evaluation mode", "training mode", "Call module.eval() first.")
    tally = _Tally(module)
    with torch.no_grad(), tally.watching(module), _nothing_hidden(), _Watch(tally):
        (module if call is None else call)(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    return tally.result(clips)


# ---------------------------------------------------------------------------------------------------------- watching


class _Watch(TorchDispatchMode):
    """Shows every operator that PyTorch runs to a tally."""

    def __init__(self, tally: _Tally):
        super().__init__()
        self.tally = tally

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch's compiler, which takes seconds to import, wraps every operator

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and find_product(func) is None:
            with self:  # where nothing tracks gradients, composite operators arrive whole
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        self.tally.see(func, args, result)
        return result


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


class _ProductRow:
    """Sums over the products of one module."""

    def __init__(self) -> None:
        self.dense = self.synops = self.values = self.nonzero = self.uses = 0
        self.work = {rule: [0, 0, 0, 0] for rule in RULES}
        self.stored: dict[int, int] = {}

    def add(self, product: Product) -> None:
        self.dense += product.dense
        self.synops += product.synops
        self.uses += product.uses
        for operand in product.activations:
            self.values += operand.size
            self.nonzero += operand.nonzero
        for rule in RULES:
            acs = product.accumulates(rule)
            done = (product.dense, 0) if acs is None else (0, acs)
            weights = 0 if product.weight_bytes is None else sum(done) * product.weight_bytes
            read = sum(operand.bytes_read(rule) for operand in product.activations)
            self.work[rule] = [a + b for a, b in zip(self.work[rule], (*done, weights, read), strict=True)]

    def per_clip(self, name: str, kind: str, weights: bool, number: str, clips: int) -> ProductCount:
        binary, event = (Work(*(value / clips for value in self.work[rule])) for rule in RULES)
        return ProductCount(
            name=name,
            kind=kind,
            weights=weights,
            dense_ops=self.dense / clips,
            synops=self.synops / clips,
            binary=binary,
            event=event,
            density=self.nonzero / self.values if self.values else 0.0,
            spikes_per_synapse=self.synops * self.uses / self.dense / clips if weights and self.dense else None,
            stored_bytes=sum(self.stored.values()),
            number=number,
        )


class _NeuronRow:
    """Sums over the calls of one layer of neurons."""

    def __init__(self) -> None:
        self.updates = self.spikes = self.state_bytes = 0
        self.steps: list[float] = []

    def add(self, spikes: Tensor, state_bytes: int) -> None:
        """Add spikes ``(T, ...)``."""
        fired = spikes.flatten(1).count_nonzero(1).tolist()
        self.updates += spikes.numel()
        self.spikes += sum(fired)
        self.steps += [n / (spikes[0].numel() or 1) for n in fired]
        self.state_bytes += state_bytes

    def per_clip(self, name: str, kind: str, clips: int) -> NeuronCount:
        rate = self.spikes / self.updates if self.updates else 0.0
        state_bytes = self.state_bytes / clips
        return NeuronCount(name, kind, self.updates / clips, self.spikes / clips, rate, tuple(self.steps), state_bytes)


class _Tally:
    """Sums what hooks and operators show, by the name of the innermost module that runs."""

    def __init__(self, module: nn.Module) -> None:
        self.kinds = {name: type(layer).__name__ for name, layer in module.named_modules()}
        self.running: list[tuple[str, bool]] = [("", False)]  # name, and whether it is a neuron of another library
        self.products: dict[tuple[str, bool, str], _ProductRow] = {}
        self.neurons: dict[str, _NeuronRow] = {}
        self.elementwise: dict[str, int] = {}
        self.unknown: dict[tuple[str, str], set[int]] = {}
        self.pixels = 0
        self.modules = dict(module.named_modules())
        constants = [*module.parameters(), *module.buffers()]
        self.stored_bytes = sum(each.numel() * each.element_size() for each in constants)
        self.constants = {pointer: each for each in constants if (pointer := _storage(each))}
        self.touched: set[int] = set()

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        foreign = _foreign_neurons()
        with ExitStack() as stack:
            for name, layer in module.named_modules():
                neuron = isinstance(layer, foreign)
                stack.enter_context(layer.register_forward_pre_hook(self._entering(name, neuron)))
                leaving = self._leaving(name, neuron)
                stack.enter_context(layer.register_forward_hook(leaving, always_call=True))
            yield

    def _entering(self, name: str, neuron: bool) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple) -> None:
            self.running.append((name, neuron or self.running[-1][1]))

        return hook

    def _leaving(self, name: str, neuron: bool) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple, output: Any) -> None:
            self.running.pop()
            if neuron and not self.running[-1][1] and output is not None:
                spikes = output[0] if isinstance(output, tuple) else output
                if getattr(getattr(layer, "node", layer), "step_mode", "s") != "m":
                    spikes = spikes.unsqueeze(0)
                states = _states(layer, output, spikes[0])
                moved = 2 * len(spikes) * sum(each.numel() * each.element_size() for each in states)
                self.neurons.setdefault(name, _NeuronRow()).add(spikes, moved)

        return hook

    # ------------------------------------------------------------------------------------------------- operators

    def see(self, func: Any, args: tuple, result: Any) -> None:
        """Take one operator that has run."""
        kind = kind_of(func)
        if kind is Kind.VIEW:
            return
        name, inside_neuron = self.running[-1]
        tensors = list(_tensors(args))
        pointers = [_storage(each) for each in tensors]
        constant = [pointer in self.constants for pointer in pointers]
        if True in constant:
            self.touched.update(pointer for pointer, known in zip(pointers, constant, strict=True) if known)
            if kind is not Kind.PRODUCT and False not in constant:
                self._keep(result)  # still a weight: cast, copied, normalised
        if kind is Kind.PRODUCT:
            self._see_product(func, name, args, result, tensors, pointers, constant)
        if func.namespace == "neuroav":
            self._see_ours(func, name, inside_neuron, args, result)
        elif tensors and not inside_neuron:
            self._see_other(func, kind, name, tensors, pointers, result)

    def _see_product(
        self,
        func: Any,
        name: str,
        args: tuple,
        result: Any,
        tensors: list[Tensor],
        pointers: list[int],
        constant: list[bool],
    ) -> None:
        find = find_product(func)
        assert find is not None
        for product in find(args, result, dict(zip(map(id, tensors), constant, strict=True))):
            weights = product.weight_bytes is not None
            row = self.products.setdefault((name, weights, number_of(tensors)), _ProductRow())
            row.add(product)
            if weights:
                matrices = zip(pointers, tensors, constant, strict=True)
                row.stored |= {p: x.untyped_storage().nbytes() for p, x, known in matrices if known and x.dim() > 1}

    def _keep(self, result: Any) -> None:
        for each in _tensors((result,)):
            if pointer := _storage(each):
                self.constants.setdefault(pointer, each)

    def _see_ours(self, func: Any, name: str, inside_neuron: bool, args: tuple, result: Any) -> None:
        if func.overloadpacket.__name__ in ("dynamic_lif", "sparse_linear_lif"):
            if not inside_neuron:
                spikes, v, left = result[:3]
                moved = v.numel() * v.element_size() + left.numel() * left.element_size()
                self.neurons.setdefault(name, _NeuronRow()).add(spikes, 2 * len(spikes) * moved)
        else:  # event generation: the first argument is frames, or the events to be binned
            self.pixels += sum(each.numel() for each in _tensors(args[:1]))

    def _see_other(
        self, func: Any, kind: Kind, name: str, tensors: list[Tensor], pointers: list[int], result: Any
    ) -> None:
        if kind is Kind.ELEMENTWISE:
            written = sum(each.numel() for each in _tensors((result,)))
            self.elementwise[name] = self.elementwise.get(name, 0) + written
        elif kind is Kind.READER:
            self.elementwise[name] = self.elementwise.get(name, 0) + tensors[0].numel()
        elif kind is Kind.UNKNOWN:
            known = {pointer for pointer in pointers if pointer in self.constants}
            self.unknown.setdefault((name, str(func.overloadpacket)), set()).update(known)

    # --------------------------------------------------------------------------------------------------- the sum

    def result(self, clips: int) -> OpCount:
        """Everything seen, divided by the number of clips."""
        products = (
            row.per_clip(name, self.kinds[name], weights, number, clips)
            for (name, weights, number), row in self.products.items()
        )
        neurons = (row.per_clip(name, self.kinds[name], clips) for name, row in self.neurons.items())
        return OpCount(
            clips=clips,
            pixel_updates=self.pixels / clips,
            stored_bytes=self.stored_bytes,
            products=tuple(products),
            neurons=tuple(neurons),
            elementwise=tuple((name, ops / clips) for name, ops in self.elementwise.items()),
            uncounted=(*self._unknown(), *self._unused()),
        )

    def _unknown(self) -> Iterator[Uncounted]:
        for (name, operator), pointers in self.unknown.items():
            size = sum(self.constants[pointer].numel() for pointer in pointers)
            yield Uncounted(name, self.kinds[name], f"operator {operator}", size, size / self._total())

    def _unused(self) -> Iterator[Uncounted]:
        for name, layer in self.modules.items():
            unused = [each for each in layer.parameters(recurse=False) if _storage(each) not in self.touched]
            if unused:
                size = sum(each.numel() for each in unused)
                yield Uncounted(name, self.kinds[name], "not used in this pass", size, size / self._total())

    def _total(self) -> int:
        return sum(each.numel() for each in self.modules[""].parameters()) or 1


def _storage(tensor: Tensor) -> int:
    """Where a tensor's values lie; a view has its base's."""
    return tensor.untyped_storage().data_ptr()


def _tensors(values: Any) -> Iterator[Tensor]:
    for each in values:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _tensors(each)


def _foreign_neurons() -> tuple[type, ...]:
    """Base classes of the neurons of other libraries, as far as these are loaded."""
    return tuple(getattr(sys.modules[module], name) for module, name in FOREIGN_NEURONS if module in sys.modules)


def _states(layer: nn.Module, output: Any, like: Tensor) -> list[Tensor]:
    """Tensors that a neuron of another library carries from step to step."""
    memories: Any = getattr(layer, "_memories", None)
    if memories is not None:  # SpikingJelly
        return [each for each in memories.values() if isinstance(each, Tensor) and each.shape == like.shape]
    if isinstance(output, tuple):  # snnTorch: spikes, then states
        return list(_tensors(output[1:]))
    return [each for each in layer.buffers(recurse=False) if each.shape == like.shape]
