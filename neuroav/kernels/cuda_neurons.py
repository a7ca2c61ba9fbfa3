"""Launches ``csrc/cuda/neurons.cuh``, the kernels of :mod:`neuroav.kernels.neurons` on CUDA tensors.

Shapes: as there. Layout: what comes in is contiguous, but theta and the gradient of the spikes, which have strides.
Determinism: the same bits in every run; gradients that are sums are added in a fixed order, in double. Parity: spikes,
membranes and gradients of x and v0 equal the CPU's bit for bit, but gradients below the normal numbers, which are 0
here, and those of a sigmoid in double.
Nothing waits for the GPU or reads from it, so all of it can be captured in a CUDA graph once it ran. Memory: with
``keep`` = k > 1 the backward pass holds k membranes of at most 512 Ki neurons, which a large cache does as well; the
parts of a sum take at most 1/16 of a float32 x, but 1/4 for a theta ``(T, 1, N)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuroav.kernels import cuda

_WARP, _WARPS = 32, 8  # of a block, as in csrc/cuda/neurons.cuh
_TURNS = 512  # blocks that compute membranes again at once: two or more for each processor of a GPU


class _Call:
    """How many neurons a thread takes, and the arguments that all kernels share.

    ``signals`` are the tensors with strides, theta first, ``tensors`` all others that come in.
    """

    def __init__(
        self, size: Sequence[int], x: Tensor | None, signals: Sequence[tuple[Tensor, Sequence[int]]], v0: Tensor | None,
        decay: Tensor, left: Tensor | None, rules: Sequence[float], keep: int, *tensors: Tensor | None,
    ) -> None:  # fmt: skip
        self.steps, self.batch, self.neurons = size
        theta, strides = signals[0]
        width = 16 // theta.element_size()
        read = [each for each in (x, v0, decay, left, *tensors) if each is not None]
        self.wide = (
            self.neurons % width == 0
            and self.neurons >= _WARP * width  # fewer would leave most of a warp idle
            and all(_aligned(each, width) for each in read)
            and all(not along[2] or (_aligned(each, width, along[:2])) for each, along in signals)
        )
        self.width = width if self.wide else 1  # neurons of a thread
        self.chunks = -(-self.neurons // (_WARP * self.width))
        self.groups = -(-self.batch // _WARPS)
        self.arguments = (
            *size, x, theta.data_ptr(), *strides, v0, decay, int(len(decay) > 1), left, *rules,
            min(keep, max(self.steps, 2)),
        )  # fmt: skip

    def blocks(self, across: bool = False) -> int:
        """Return the blocks that give each row and chunk a warp, the warps of a block being rows if ``across``."""
        return self.chunks * self.groups if across else -(-self.chunks * self.batch // _WARPS)

    def launch(self, dtype: torch.dtype, kernel: str, blocks: int, *args: Tensor | float | None) -> None:
        """Run a kernel; nothing where there are no neurons."""
        name = str(dtype).removeprefix("torch.")
        if blocks:
            kernel = kernel.format(f"{name}_wide" if self.wide else name)
            cuda.launch(f"neurons_{name}", kernel, blocks, _WARP * _WARPS, *self.arguments, *args)


def _aligned(tensor: Tensor, width: int, strides: Sequence[int] = ()) -> bool:
    """Whether every run of ``width`` values begins at a multiple of its own size."""
    return tensor.data_ptr() % (width * tensor.element_size()) == 0 and all(each % width == 0 for each in strides)


def forward(
    x: Tensor, theta: Tensor, strides: Sequence[int], v0: Tensor | None, decay: Tensor, left: Tensor | None,
    rules: Sequence[float], keep: int, outputs: Sequence[Tensor],
) -> None:  # fmt: skip
    """Do what ``neuroav.kernels.reference.lif_forward`` does, into ``outputs``.

    ``strides`` are those of theta, 0 where it is broadcast, along N 0 or 1; ``rules`` v_rest, hard_reset, strict,
    unit_gain and refractory.
    """
    call = _Call(x.shape, x, [(theta, strides)], v0, decay, left, rules, keep)
    call.launch(x.dtype, "lif_forward_{}", call.blocks(), *outputs)


class _Sum:
    """A gradient of theta's or the decay's shape, which a kernel writes as a whole or in parts."""

    def __init__(self, grad: Tensor, shape: Sequence[int], wanted: bool, call: _Call) -> None:
        self.grad, self.parts, (steps, batch, neurons) = grad.view(shape if wanted else 0), None, shape
        self.over_b, self.over_n = wanted and batch != call.batch, wanted and neurons != call.neurons
        if self.over_b or self.over_n:
            size = (call.batch, call.chunks) if self.over_n else (call.groups, neurons)
            self.parts = grad.new_empty((steps, *size), dtype=torch.float64)
        self.across = self.over_b and not self.over_n

    @property
    def arguments(self) -> tuple:
        whole = self.grad if self.parts is None and self.grad.numel() else None
        return whole, self.parts, self.over_b, self.over_n

    def finish(self) -> None:
        if self.parts is not None:
            axes = [axis for axis, summed in ((1, self.over_b), (2, self.over_n)) if summed]
            self.grad.copy_(self.parts.sum(axes, keepdim=True))


def backward(
    grad_spikes: Tensor | None, grad_strides: Sequence[int], grad_v: Tensor | None, grad_h: Tensor | None,
    x: Tensor | None, kept: Tensor, kept_left: Tensor, theta: Tensor, strides: Sequence[int], v0: Tensor | None,
    decay: Tensor, left: Tensor | None, rules: Sequence[float], slope: Sequence[float], keep: int,
    needs: tuple[bool, bool, bool], outputs: Sequence[Tensor],
) -> None:  # fmt: skip
    """Do what ``neuroav.kernels.reference.lif_backward`` does, into ``outputs``.

    ``slope`` is detach_reset and the surrogate's code, alpha and scale; ``needs`` says which gradients of theta, v0 and
    decay are wanted.
    """
    grad_x, grad_theta, grad_v0, grad_decay = outputs
    need_theta, need_v0, need_decay = needs
    signals = [(theta, strides), *([] if grad_spikes is None else [(grad_spikes, grad_strides)])]
    call = _Call(
        grad_x.shape, x, signals, v0, decay, left, rules, keep, grad_v, grad_h, kept, kept_left
    )  # fmt: skip
    refractory = bool(rules[-1])
    to_theta = _Sum(grad_theta, theta.shape, need_theta, call)
    to_decay = _Sum(grad_decay, (1, 1, len(decay)), need_decay, call)
    across = to_theta.across or to_decay.across
    all_blocks = blocks = call.blocks(across)
    again = 0
    if keep > 1:
        blocks = min(blocks, _TURNS)
        again = min(keep, call.steps) * blocks * _WARPS * _WARP * call.width
    h, h_left = theta.new_empty(again), kept_left.new_empty(again if refractory else 0)
    lean = not (refractory or need_theta or need_decay or grad_h is not None)
    call.launch(
        grad_x.dtype, "lif_backward_{}" if lean else "lif_backward_{}_all", blocks,
        0 if grad_spikes is None else grad_spikes.data_ptr(), *grad_strides, grad_v, grad_h, kept, kept_left, *slope,
        across, all_blocks, grad_x, grad_v0 if need_v0 else None, h, h_left, *to_theta.arguments[:2],
        theta.shape[0] != 1, *to_theta.arguments[2:], *to_decay.arguments,
    )  # fmt: skip
    to_theta.finish()
    to_decay.finish()
