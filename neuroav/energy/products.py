"""The operators that multiply and add, and what each call costs: shapes, and which values of its operands are zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

ADDRESS_BYTES = 4
REAL, EVENTS, SPIKES = range(3)
CORNER = 8  # values along each axis that are looked at first

aten = torch.ops.aten


class Operand(NamedTuple):
    """An operand that is no weight.

    Attributes:
        grade: ``SPIKES`` if every value is 0 or 1, ``EVENTS`` if every value is whole, else ``REAL``.
        size: Number of values.
        nonzero: How many are not zero.
        item_bytes: Bytes of one.
    """

    grade: int
    size: int
    nonzero: int
    item_bytes: int

    @classmethod
    def of(cls, x: Tensor) -> Operand:
        """Look at one."""
        return cls(grade(x), x.numel(), int(torch.count_nonzero(x)), x.element_size())

    def is_event(self, rule: str) -> bool:
        """Whether a product with it costs accumulates."""
        return self.grade == SPIKES or (rule == "event" and self.grade == EVENTS)

    def bytes_read(self, rule: str) -> int:
        """Bytes of it as a list of events, or in full."""
        if not self.is_event(rule):
            return self.size * self.item_bytes
        return self.nonzero * (ADDRESS_BYTES + (self.item_bytes if self.grade == EVENTS else 0))


@dataclass(frozen=True)
class Product:
    """One product.

    Attributes:
        dense: Multiply-accumulates, zeros included.
        activations: The operands that are no weight.
        each: Of each activation, the positions where it is not zero.
        synops: The positions where none of them is zero.
        uses: How often each weight is used.
        weight_bytes: Bytes of one weight; ``None`` where both operands are activations.
    """

    dense: int
    activations: tuple[Operand, ...]
    each: tuple[int, ...]
    synops: int
    uses: int = 0
    weight_bytes: int | None = None

    def accumulates(self, rule: str) -> int | None:
        """Accumulates under a rule; ``None`` if these are multiply-accumulates."""
        events = [n for operand, n in zip(self.activations, self.each, strict=True) if operand.is_event(rule)]
        if not events:
            return None
        return self.synops if len(events) == len(self.each) else events[0]


Constant = dict[int, bool]  # whether the tensor of this id is a weight
Find = Callable[[tuple, Any, Constant], Iterator[Product]]


def number_of(operands: Sequence[Tensor]) -> str:
    """Name the numbers of a product by the widest of its operands.

    Example:
        >>> number_of([torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bool)])
        'bfloat16'
    """
    found = [each.dtype for each in operands]
    widest = max(found, key=lambda dtype: (dtype.is_floating_point, dtype.itemsize))
    return str(widest).removeprefix("torch.")


def grade(x: Tensor) -> int:
    """Say what a tensor holds: ``SPIKES``, ``EVENTS`` or ``REAL``.

    Example:
        >>> [grade(torch.tensor(values)) for values in ([0.0, 1.0], [-1.0, 3.0], [0.5, 1.0])] == [SPIKES, EVENTS, REAL]
        True
    """
    if x.dtype == torch.bool:
        return SPIKES
    floating = x.is_floating_point()
    corner = x[tuple(slice(CORNER) for _ in x.shape)]
    if floating and not bool((corner == corner.round()).all()):
        return REAL
    if not x.numel() or (torch.equal(x * x, x) and bool(x.amax() <= 1)):  # only 0, 1 and infinity are their own square
        return SPIKES
    return REAL if floating and not bool((x == x.round()).all()) else EVENTS


@cache
def find_product(func: Any) -> Find | None:
    """How to count an operator; ``None`` if it is no product."""
    packet = func.overloadpacket
    if packet in _PRODUCTS:
        return _PRODUCTS[packet]
    if packet.__name__.startswith("_scaled_dot_product_") and not packet.__name__.endswith("_backward"):
        return _attention
    if func.namespace == "neuroav" and packet.__name__ == "sparse_linear_lif":
        return _sparse_linear
    return None


# ---------------------------------------------------------------------------------------------------- matrix products


def _matrices(first: int, a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> Find:
    """Count a product of the arguments ``first`` and ``first + 1``, brought to ``(b, m, k)`` and ``(b, k, n)``."""

    def find(args: tuple, result: Any, constant: Constant) -> Iterator[Product]:
        a, b = args[first : first + 2]
        is_weight = constant[id(a)], constant[id(b)]
        a, b = (x.reshape(shape) if shape else x for x, shape in ((a, a_shape), (b, b_shape)))
        a, b = (x.unsqueeze(0) if x.dim() == 2 else x for x in (a, b))
        yield matrix_product(a, b, is_weight)

    return find


def matrix_product(a: Tensor, b: Tensor, is_weight: tuple[bool, bool]) -> Product:
    """Count ``a (b, m, k) @ b (b, k, n)``; of two weights the first is taken for an activation."""
    batch, m, k = a.shape
    n = b.shape[2]
    dense = batch * m * k * n
    if is_weight[1] or is_weight[0]:
        x, weight, fan_out = (a, b, n) if is_weight[1] else (b, a, m)
        operand = Operand.of(x)
        reached = operand.nonzero * fan_out
        uses = x.numel() // k if k else 0
        return Product(dense, (operand,), (reached,), reached, uses, weight.element_size())
    operands = Operand.of(a), Operand.of(b)
    each = operands[0].nonzero * n, operands[1].nonzero * m
    if dense in each:  # one of them has no zero
        return Product(dense, operands, each, min(each))
    return Product(dense, operands, each, int(((a != 0).sum(1) * (b != 0).sum(2)).sum()))


def _attention(args: tuple, result: Any, constant: Constant) -> Iterator[Product]:
    """Count ``softmax(q k') v``; what is masked is computed, and so counted. Probabilities are never zero here."""
    query, key, value = args[:3]
    q, k, v = (x.flatten(0, -3) for x in (query, key, value))
    if len(k) != len(q):  # queries that share keys and values
        k, v = (x.repeat_interleave(len(q) // len(x), 0) for x in (k, v))
    yield matrix_product(q, k.transpose(1, 2), (False, False))
    operand, queries = Operand.of(v), q.shape[1]
    reached = operand.nonzero * queries
    yield Product(v.numel() * queries, (operand,), (reached,), reached)


def _distance(args: tuple, result: Tensor, constant: Constant) -> Iterator[Product]:
    """Count a difference and a square per dimension as one operation, zeros or not."""
    dense = result.numel() * args[0].shape[-1]
    operands = tuple(Operand(REAL, x.numel(), int(torch.count_nonzero(x)), x.element_size()) for x in args[:2])
    yield Product(dense, operands, (dense, dense), dense)


def _recurrent(args: tuple, result: Any, constant: Constant) -> Iterator[Product]:
    """Count a layer of recurrent cells that PyTorch runs as one operator on a CPU; its states are real numbers."""
    x, w_in, w_state = args[:3]
    rows = x.shape[0] * x.shape[1]
    dense = rows * (w_in.numel() + w_state.numel())
    operand = Operand(REAL, x.numel(), int(torch.count_nonzero(x)), x.element_size())
    yield Product(dense, (operand,), (dense,), dense, rows, w_in.element_size())


def _sparse_linear(args: tuple, result: Any, constant: Constant) -> Iterator[Product]:
    """Count the linear part of :class:`neuroav.neurons.sparse.SparseLinearLIF`."""
    spikes, columns, fan_out = args[0], args[1], result[0].shape[-1]
    operand = Operand.of(spikes)
    reached = operand.nonzero * fan_out
    uses = spikes.shape[0] * spikes.shape[1]
    yield Product(spikes.numel() * fan_out, (operand,), (reached,), reached, uses, columns.element_size())


def _integers(args: tuple, result: Any, constant: Constant) -> Iterator[Product]:
    """Count a product of integers, each of which stands for a number times a scale that does not show.

    So an operand of 0 and one other value is spikes, and any other is real numbers.
    """
    (product,) = _matrices(0, (), ())(args, result, constant)
    weights = [constant[id(x)] for x in args[:2]]
    operands = args[:1] if weights[1] else args[1:2] if weights[0] else args[:2]
    spikes = [bool(((x == 0) | (x == x.amax())).all()) for x in operands]
    graded = (one._replace(grade=SPIKES if own else REAL) for one, own in zip(product.activations, spikes, strict=True))
    yield replace(product, activations=tuple(graded))


# --------------------------------------------------------------------------------------------------------- convolution


def _convolution(args: tuple, result: Tensor, constant: Constant) -> Iterator[Product]:
    """Count a convolution: dense by its output, padding included; an event by the outputs that it reaches."""
    x, weight, _, stride, padding, dilation, transposed, output_padding, groups = args[:9]
    area, channels = prod(weight.shape[2:]), (weight.shape[0] // groups, weight.shape[1])
    dense = (x.numel() * weight.shape[1] if transposed else result.numel() * weight.shape[1]) * area
    operand = Operand.of(x)
    active = (x != 0).to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    per_position = active.unflatten(1, (groups, -1)).sum(2)  # how many channels of a group are active
    ones = active.new_ones(groups, 1, *weight.shape[2:])
    fan_out = channels[1] if transposed else channels[0]
    reach = _reach(per_position, ones, stride, padding, dilation, transposed, output_padding, groups)
    reached = round(float(reach.sum(dtype=torch.float64))) * fan_out
    yield Product(dense, (operand,), (reached,), reached, x.shape[0], weight.element_size())


def _reach(
    x: Tensor,
    ones: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    return aten.convolution.default(x, ones, None, stride, padding, dilation, transposed, output_padding, groups)


_PRODUCTS: dict[Any, Find] = {
    aten.mm: _matrices(0, (), ()),
    aten.addmm: _matrices(1, (), ()),
    aten._int_mm: _integers,
    aten.bmm: _matrices(0, (), ()),
    aten.baddbmm: _matrices(1, (), ()),
    aten.mv: _matrices(0, (), (-1, 1)),
    aten.addmv: _matrices(1, (), (-1, 1)),
    aten.dot: _matrices(0, (1, -1), (-1, 1)),
    aten.convolution: _convolution,
    aten._cdist_forward: _distance,
    aten.mkldnn_rnn_layer: _recurrent,
}

# ----------------------------------------------------------------------------------------------- everything in between

_MOVE_NAMES = (
    "clone copy copy_ _to_copy fill fill_ zero_ detach alias lift_fresh _unsafe_view _reshape_alias cat stack index "
    "index_select index_put index_put_ _unsafe_index gather scatter scatter_ slice_scatter select_scatter index_copy "
    "index_copy_ index_fill masked_select masked_fill masked_fill_ take repeat repeat_interleave roll flip "
    "constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d embedding im2col col2im "
    "pixel_shuffle tril triu nonzero sort topk argsort unfold expand arange empty_like zeros_like ones_like full_like "
    "new_empty new_zeros new_ones new_full rand_like randn_like bernoulli bernoulli_ _local_scalar_dense "
    "native_dropout searchsorted bucketize unique_dim _unique2 split_with_sizes unbind resize_ set_ is_same_size "
    "equal item masked_scatter masked_scatter_ unsafe_split unsafe_split_with_sizes unsafe_chunk split chunk "
    "channel_shuffle _pin_memory scalar_tensor"
)
_READER_NAMES = (
    "sum mean prod amax amin max min argmax argmin any all var var_mean std std_mean aminmax norm "
    "linalg_vector_norm logsumexp "
    "cumsum cumprod cummax cummin _softmax _log_softmax native_layer_norm native_batch_norm native_group_norm "
    "_native_batch_norm_legit _native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update "
    "_fused_rms_norm avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d index_add index_add_ scatter_add scatter_add_ "
    "index_reduce scatter_reduce count_nonzero bincount upsample_nearest2d upsample_bilinear2d nll_loss_forward "
    "mse_loss smooth_l1_loss glu _embedding_bag renorm _weight_norm_interface"
)
_MOVES, _READERS = set(_MOVE_NAMES.split()), set(_READER_NAMES.split())


class Kind(Enum):
    """What an operator does, as far as counting goes."""

    VIEW = auto()
    MOVE = auto()
    ELEMENTWISE = auto()
    READER = auto()
    PRODUCT = auto()
    OURS = auto()
    UNKNOWN = auto()


@cache
def kind_of(func: Any) -> Kind:
    """Sort an operator.

    ``VIEW`` and ``MOVE`` only make, choose or order values; ``ELEMENTWISE`` computes each from those at its place;
    ``READER`` is a reduction, pooling or normalisation; ``OURS`` is one of this package's own without a product.
    """
    name = func.overloadpacket.__name__
    if find_product(func) is not None:
        return Kind.PRODUCT
    if func.namespace == "neuroav":
        return Kind.OURS
    if func.is_view:
        return Kind.VIEW
    if name in _MOVES:
        return Kind.MOVE
    if torch.Tag.pointwise in func.tags:
        return Kind.ELEMENTWISE
    return Kind.READER if name in _READERS else Kind.UNKNOWN
