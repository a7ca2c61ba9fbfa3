"""The op ``neuroav::sparse_linear_lif``: a linear layer and its spiking neurons in one pass, for spikes in, on a CPU.

Only the weights of inputs that fired are read, so the time falls with the spike rate. Inference only: no gradient.
Shapes: spikes in ``(T, B, M)``; columns ``(ceil(N / TILE), M, TILE)`` as :func:`pack_columns` makes them, the last tile
filled up with zeros; bias ``(N,)``; theta three-dimensional and broadcastable to ``(T, B, N)``; v0 ``(B, N)``; decay
``(N,)`` or ``(1,)``. Types: float32, spikes also bool. Determinism: the same bits for every number of threads and every
instruction set. Parity: currents equal a matrix product up to the order of summation.
CPU tensors use the C++ extension where it was built, everything else the reference below.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from neuroav.checks import fail
from neuroav.kernels import cpu, reference

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
    "(Tensor spikes, Tensor columns, Tensor bias, Tensor theta, Tensor v0, Tensor decay, float v_rest, bool hard_reset)"
    " -> (Tensor, Tensor)",
)


def sparse_linear_lif(
    spikes: Tensor, columns: Tensor, bias: Tensor, theta: Tensor, v0: Tensor, decay: Tensor, v_rest: float,
    hard_reset: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the spikes ``(T, B, N)`` and the last membrane ``(B, N)``.

    The arguments must fit: :class:`neuroav.neurons.sparse.SparseLinearLIF` is the checked way in.

    Raises:
        InputError: If an input is neither 0 nor 1.
    """
    return torch.ops.neuroav.sparse_linear_lif(spikes, columns, bias, theta, v0, decay, v_rest, hard_reset)


@torch.library.register_fake("neuroav::sparse_linear_lif")
def _(spikes, columns, bias, theta, v0, decay, v_rest, hard_reset):
    return bias.new_empty(*spikes.shape[:2], bias.shape[0]), bias.new_empty(v0.shape)


def _reference(spikes, columns, bias, theta, v0, decay, v_rest, hard_reset):
    if not ((spikes == 0) | (spikes == 1)).all():
        _refuse()
    weight = columns.transpose(1, 2).flatten(0, 1)[: bias.shape[0]]
    current = F.linear(spikes.to(weight.dtype), weight, bias)
    return reference.lif_forward(current, theta, v0, decay, None, v_rest, hard_reset, False, False, 0, 0)[:2]


def _refuse() -> None:
    raise fail(
        _WHERE, "spikes of 0 and 1", "other values", "Give other input to the Linear and the neurons themselves."
    )


def _sparse_linear_lif_cpu(spikes, columns, bias, theta, v0, decay, v_rest, hard_reset):
    spikes, columns, bias, theta, v0, decay = (each.contiguous() for each in (spikes, columns, bias, theta, v0, decay))
    size = (*spikes.shape, bias.shape[0])
    out, v = bias.new_empty(*size[:2], size[3]), torch.empty_like(v0)
    theta_stride = [stride if length > 1 else 0 for length, stride in zip(theta.shape, theta.stride(), strict=True)]
    binary = cpu.module.sparse_linear_lif(
        size, spikes.data_ptr(), spikes.dtype == torch.float32, columns.data_ptr(), bias.data_ptr(), theta.data_ptr(),
        theta_stride, v0.data_ptr(), decay.data_ptr(), len(decay), v_rest, hard_reset, out.data_ptr(), v.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    if not binary:
        _refuse()
    return out, v


torch.library.impl("neuroav::sparse_linear_lif", "default", _reference)
if cpu.available():
    torch.library.impl("neuroav::sparse_linear_lif", "cpu", _sparse_linear_lif_cpu)
