"""In which numbers a trained network multiplies, as objects: :class:`Float32`, :class:`BFloat16`, :class:`Int8`.

Training, and the choice of its epoch, are in float32 throughout. From then on, the choice of beta included, it is the
copy that ``of`` makes that is evaluated: accuracy is that of these numbers. What is saved are the weights as trained;
loading makes the copy anew, to the digit.

Linear layers change, the rest (normalisation, activations, neurons, products of two activations) stays in float32,
as under PyTorch's autocast, but for attention. PyTorch's own quantisation is deprecated and warns, and is to go;
torchao holds weights as tensor subclasses, which neither safetensors nor a counter of operators sees into. Both rest on
``torch._int_mm``, the integer product of PyTorch that is used here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.checks import fail

MOST = 127  # int8 without -128, so that the range is symmetric
SMALLEST = 1e-30  # of a row's largest value: a row of zeros stays one
EIGHT, ROWS = 8, 32  # what PyTorch's integer product asks for on a GPU: widths in eights, more than 16 rows


@dataclass(frozen=True, kw_only=True)
class Float32:
    """As trained."""

    def of(self, model: nn.Module) -> nn.Module:
        """Return the model itself."""
        return model


@dataclass(frozen=True, kw_only=True)
class BFloat16:
    """Linear layers round weights, inputs and outputs to bfloat16 and add up in float32."""

    def of(self, model: nn.Module) -> nn.Module:
        """Return a copy in these numbers."""
        return _replaced(model, BFloat16Linear)


@dataclass(frozen=True, kw_only=True)
class Int8:
    """Linear layers multiply int8 by int8 and add up in int32, without calibration.

    Weights have one scale an output, inputs one a row, such that the largest value of each is 127. Biases stay in
    float32. Spikes are 0 and 127 then, and as exact as before.
    """

    def of(self, model: nn.Module) -> nn.Module:
        """Return a copy in these numbers."""
        return _replaced(model, Int8Linear)


Numbers = Float32 | BFloat16 | Int8


def _replaced(model: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Return a copy with other linear layers, in the mode of the model.

    Raises:
        InputError: If it has none, and so would be the model itself under another name.
    """
    whole = nn.ModuleList([copy.deepcopy(model)])
    everywhere = whole.named_modules(remove_duplicate=False)  # a layer may stand in several places
    found = [(name, layer) for name, layer in everywhere if type(layer) is nn.Linear]
    if not found:
        raise fail("numbers", "a model with linear layers", type(model).__name__, "Evaluate it in Float32().")
    made = {layer: make(layer) for _, layer in found}
    for name, layer in found:
        parent, _, own = name.rpartition(".")
        setattr(whole.get_submodule(parent), own, made[layer])
    return whole[0].train(model.training)


class BFloat16Linear(nn.Module):
    """:class:`BFloat16` of one layer.

    Args:
        linear: the layer as trained; not modified.
    """

    bias: Tensor | None

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight = _fixed(linear.weight.to(torch.bfloat16))
        self.register_parameter("bias", None if linear.bias is None else _fixed(linear.bias.to(torch.bfloat16)))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., N_in)`` to ``(..., N_out)``, float32."""
        return F.linear(x.to(torch.bfloat16), self.weight, self.bias).to(torch.float32)


class Int8Linear(nn.Module):
    """:class:`Int8` of one layer.

    Args:
        linear: the layer as trained; not modified.
    """

    bias: Tensor | None
    scale: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        values, scale = quantised_rows(linear.weight.detach())
        self.weight = _fixed(values)
        self.register_buffer("scale", scale.squeeze(-1))
        self.register_parameter("bias", None if linear.bias is None else _fixed(linear.bias.detach().clone()))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., N_in)`` to ``(..., N_out)``, float32."""
        values, scale = quantised_rows(x.reshape(-1, x.shape[-1]))
        sums = integer_product(values, self.weight.t()).to(torch.float32) * scale
        out = sums * self.scale if self.bias is None else torch.addcmul(self.bias, sums, self.scale)
        return out.reshape(*x.shape[:-1], out.shape[-1])


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach(), requires_grad=False)


def quantised_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to int8 with a scale of its own.

    Args:
        x: ``(B, N)``, finite.

    Returns:
        Values ``(B, N)`` int8 within 127 of 0, and the scale ``(B, 1)``: their product is within half a scale of
        ``x``.

    Example:
        >>> values, scale = quantised_rows(torch.tensor([[0.5, -0.25, 0.1], [0.0, 0.0, 0.0]]))
        >>> values.tolist(), round(1 / scale[0].item())
        ([[127, -64, 25], [0, 0, 0]], 254)
    """
    scale = torch.linalg.vector_norm(x, torch.inf, -1, keepdim=True).clamp_min(SMALLEST) / MOST
    return (x / scale).round().to(torch.int8), scale


def integer_product(a: Tensor, b: Tensor) -> Tensor:
    """``a (M, K) @ b (K, N)`` of int8 in int32, exactly; padded where PyTorch's kernel for GPUs asks for it."""
    if not a.is_cuda:
        return torch._int_mm(a, b)
    (m, k), n = a.shape, b.shape[1]
    a = F.pad(a, (0, -k % EIGHT, 0, max(0, ROWS - m)))
    b = F.pad(b.t(), (0, -k % EIGHT, 0, -n % EIGHT)).t()
    return torch._int_mm(a, b)[:m, :n]
