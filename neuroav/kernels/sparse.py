"""The op ``neuroav::sparse_linear_lif``: a linear layer and its spiking neurons in one pass, for spikes in, on a CPU.

Only the weights of inputs that fired are read, so the time falls with the spike rate. Inference only: no gradient.
Shapes: spikes in ``(T, B, M)``; columns ``(ceil(N / TILE), M, TILE)`` as :func:`pack_columns` makes them, the last tile
filled up with zeros; bias ``(N,)``; theta three-dimensional and broadcastable to ``(T, B, N)``; v0 ``(B, N)``; decay
``(N,)`` or ``(1,)``; refractory steps left ``(B, N)`` int32. Options as in :mod:`neuroav.kernels.neurons`.
Types: float32, spikes also bool. Determinism: the same bits for every number of threads and every instruction set.
Parity: currents equal a matrix product up to the order of summation. Raises InputError for an input that is neither 0
nor 1; everything else is checked by :class:`neuroav.neurons.sparse.SparseLinearLIF`.
CPU tensors use the C++ extension where it was built, everything else the reference below.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from neuroav.checks import fail
from neuroav.kernels import cpu, reference
from neuroav.kernels.neurons import _strides

TILE = 32  # neurons whose weights lie together; kTile of csrc/cpu/sparse.cpp
_WHERE = "sparse_linear_lif"


def pack_columns(weight: Tensor) -> Tensor:
    """Lay out ``weight (N, M)`` for the kernel: ``(ceil(N / TILE), M, TILE)``, column after column within a tile.

    Example:
        >>> pack_columns(torch.ones(40, 3)).shape
        torch.Size([2, 3, 32])
    """
    padded = F.pad(weight, (0, 0, 0, -weight.shape[0] % TILE))
    return padded.unflatten(0, (-1, TILE)).transpose(1, 2).contiguous()


# Defined through torch.library's lower layer: `custom_op` would import torch's compiler (a second) at the first call.
torch.library.define(
    "neuroav::sparse_linear_lif",
    "(Tensor spikes, Tensor columns, Tensor bias, Tensor theta, Tensor v0, Tensor decay, Tensor? left, float v_rest, "
    "bool hard_reset, bool strict, bool unit_gain, int refractory) -> (Tensor spikes_out, Tensor v, Tensor left_after)",
)


@torch.library.register_fake("neuroav::sparse_linear_lif")
def _(spikes, columns, bias, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory):
    return bias.new_empty(*spikes.shape[:2], bias.shape[0]), bias.new_empty(v0.shape), _steps_left(v0, refractory)


def _steps_left(v0, refractory):
    return v0.new_empty(v0.shape if refractory else (0, v0.shape[1]), dtype=torch.int32)


def _reference(spikes, columns, bias, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory):
    if not ((spikes == 0) | (spikes == 1)).all():
        _refuse()
    weight = columns.transpose(1, 2).flatten(0, 1)[: bias.shape[0]]
    current = F.linear(spikes.to(weight.dtype), weight, bias)
    spikes, v, left_after, *_ = reference.lif_forward(
        current, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory, 0
    )
    return spikes, v, left_after


def _refuse() -> None:
    raise fail(
        _WHERE, "spikes of 0 and 1", "other values", "Give other input to the Linear and the neurons themselves."
    )


def _sparse_linear_lif_cpu(
    spikes, columns, bias, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory
):
    spikes, columns, bias, v0, decay = (each.contiguous() for each in (spikes, columns, bias, v0, decay))
    theta, theta_stride = _strides(theta)
    left = None if left is None else left.contiguous()
    size = (*spikes.shape, bias.shape[0])
    out, v, left_after = bias.new_empty(*size[:2], size[3]), torch.empty_like(v0), _steps_left(v0, refractory)
    binary = cpu.module.sparse_linear_lif(
        size, spikes.data_ptr(), spikes.dtype == torch.float32, columns.data_ptr(), bias.data_ptr(), theta.data_ptr(),
        theta_stride, v0.data_ptr(), decay.data_ptr(), len(decay), 0 if left is None else left.data_ptr(), v_rest,
        hard_reset, strict, unit_gain, refractory, out.data_ptr(), v.data_ptr(),
        left_after.data_ptr() if refractory else 0, torch.get_num_threads(),
    )  # fmt: skip
    if not binary:
        _refuse()
    return out, v, left_after


torch.library.impl("neuroav::sparse_linear_lif", "default", _reference)
if cpu.available():
    torch.library.impl("neuroav::sparse_linear_lif", "cpu", _sparse_linear_lif_cpu)
sparse_linear_lif = torch.ops.neuroav.sparse_linear_lif
