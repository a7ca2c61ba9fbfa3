"""Inference on a CPU whose time falls with the spike rate: a linear layer and its neurons in one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuroav.checks import check_dtype, check_shape, fail
from neuroav.kernels.sparse import pack_columns, sparse_linear_lif
from neuroav.neurons.lif import LIFLayer, LIFState


class SparseLinearLIF(nn.Module):
    """A trained ``Linear`` and the neurons behind it, for inference on a CPU: reads the weights of active inputs only.

    ``layer(s, theta, state)`` is ``neurons(linear(s), theta, state)`` for spikes ``s``, and does ``spike rate * M * N``
    additions a step in place of ``M * N`` multiplications. The sums are taken in another order, so a membrane may
    differ by their rounding (a few 1e-7 of the sum of the weights' sizes), and a spike only where the membrane is as
    near to the threshold as that. The weights are copied: change the layers, and this one has to be made anew. A
    batch normalisation between the two is folded into the linear layer first
    (``torch.nn.utils.fusion.fuse_linear_bn_eval``).

    Args:
        linear: ``M`` inputs, ``N`` outputs, float32.
        neurons: The layer behind it. Its surrogate doesn't matter, and a threshold of its own is not used.

    Raises:
        InputError: If the two don't fit together.
        TypeError: If the weights are not float32.

    Example:
        >>> from neuroav.neurons import DynamicLIF
        >>> linear, neurons = nn.Linear(64, 32), DynamicLIF(32)
        >>> s = (torch.rand(12, 1, 64) < 0.2).float()
        >>> spikes, state = SparseLinearLIF(linear, neurons)(s, 0.4)
        >>> spikes.shape, state.v.shape
        (torch.Size([12, 1, 32]), torch.Size([1, 32]))
    """

    columns: Tensor
    bias: Tensor
    decay: Tensor

    def __init__(self, linear: nn.Linear, neurons: LIFLayer):
        super().__init__()
        weight = linear.weight.detach()
        check_dtype("SparseLinearLIF", "linear.weight", weight, torch.float32)
        self.out_features, self.in_features = weight.shape
        if neurons.num_neurons not in (None, self.out_features):
            raise fail(
                "SparseLinearLIF", f"{self.out_features} neurons, as linear has outputs", f"{neurons.num_neurons}"
            )
        bias = weight.new_zeros(self.out_features) if linear.bias is None else linear.bias.detach().clone()
        self.register_buffer("columns", pack_columns(weight))
        self.register_buffer("bias", bias)
        self.register_buffer("decay", neurons.decay.detach().to(weight).reshape(-1).clone())
        if len(self.decay) not in (1, self.out_features):
            raise fail("SparseLinearLIF", f"tau of one value or {self.out_features}", f"{len(self.decay)}")
        self.v_rest, self.hard_reset, self.strict = neurons.v_rest, neurons.hard_reset, neurons.strict
        self.unit_gain, self.refractory = neurons.unit_gain, neurons.refractory

    def forward(self, s: Tensor, theta: Tensor | float, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        """Run a sequence; splitting it and passing the state on gives the same spikes.

        Args:
            s: Spikes ``(T, B, M)`` in {0, 1}, float32 or bool.
            theta: Threshold, a number or a tensor that broadcasts to ``(T, B, N)``; never expanded in memory.
            state: Membrane to start from; ``None`` for ``v_rest``. Not modified.

        Returns:
            Spikes ``(T, B, N)`` in {0, 1}, float32; and the state after step T. There is no gradient.

        Raises:
            InputError: If shapes don't fit, a value of ``s`` is neither 0 nor 1, or a gradient is wanted.
            TypeError: If ``s`` is neither float32 nor bool.
        """
        check_shape("SparseLinearLIF", "s", s, ("T", "B", self.in_features))
        check_dtype("SparseLinearLIF", "s", s, torch.float32, torch.bool)
        size = (*s.shape[:2], self.out_features)
        theta, (v0, left) = self._threshold(theta, size), self._start(state, size)
        if torch.is_grad_enabled() and any(each.requires_grad for each in (s, theta, v0)):
            raise fail(
                "SparseLinearLIF", "inputs without gradient", "one that requires it",
                "Train the Linear and its neurons; run this under torch.no_grad().",
            )  # fmt: skip
        spikes, v, left = sparse_linear_lif(
            s, self.columns, self.bias, theta, v0, self.decay, left, self.v_rest, self.hard_reset, self.strict,
            self.unit_gain, self.refractory,
        )  # fmt: skip
        return spikes, LIFState(v, left if self.refractory else None)

    def _threshold(self, theta: Tensor | float, size: tuple[int, ...]) -> Tensor:
        theta = torch.as_tensor(theta).to(self.bias)
        shape = (1,) * (3 - theta.dim()) + tuple(theta.shape)
        if len(shape) > 3 or any(length not in (1, full) for length, full in zip(shape, size, strict=True)):
            raise fail("SparseLinearLIF", f"theta that broadcasts to {size}", str(tuple(theta.shape)))
        return theta.reshape(shape)

    def _start(self, state: LIFState | None, size: tuple[int, ...]) -> LIFState:
        if state is None:
            return LIFState(self.bias.new_full(size[1:], self.v_rest))
        for name, value in (("state.v", state.v), ("state.refractory", state.refractory)):
            if value is not None:
                check_shape("SparseLinearLIF", name, value, size[1:])
        left = state.refractory.int() if self.refractory and state.refractory is not None else None
        return LIFState(state.v.to(self.bias), left)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        reset = "hard" if self.hard_reset else "soft"
        return f"{self.in_features}, {self.out_features}, reset={reset}"
