"""The op ``neuroav::dynamic_lif``: a whole sequence of leaky integrate-and-fire steps whose threshold is an input.

Shapes: x ``(T, B, N)``; theta three-dimensional and broadcastable to x, never expanded in memory; state ``(B, N)``;
decay ``(N,)`` or ``(1,)``. Layout: any strides in, contiguous out. Types: float32 and float64; bfloat16 and float16
with a float32 state, threshold and decay.
Determinism: the same bits for every number of threads. Parity: CPU spikes and membranes equal the reference bit for
bit; gradients agree to 1e-6 of the largest.
CPU tensors use the C++ extension where it was built, CUDA tensors :mod:`neuroav.kernels.cuda_neurons` where there is
CuPy, everything else :mod:`neuroav.kernels.reference`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from neuroav.checks import fail
from neuroav.kernels import cpu, cuda, cuda_neurons, reference

_WHERE = "dynamic_lif"
_STATE_TYPES = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
}
_LARGE = 1 << 21  # bytes, from which on fresh memory costs more than what is done with it
_OPTIONS = "float v_rest, bool hard_reset, bool strict, bool unit_gain, int refractory, "

# Defined through torch.library's lower layer: `custom_op` would import torch's compiler (a second) at the first call.
torch.library.define(
    "neuroav::dynamic_lif",
    f"(Tensor x, Tensor theta, Tensor? v0, Tensor decay, Tensor? left, {_OPTIONS}bool detach_reset, int surrogate, "
    "float alpha, float scale, int keep)"
    " -> (Tensor spikes, Tensor v, Tensor left_after, Tensor kept, Tensor kept_left)",
)
torch.library.define(
    "neuroav::dynamic_lif_backward",
    "(Tensor? grad_spikes, Tensor? grad_v, Tensor? grad_membrane, Tensor? x, Tensor kept, Tensor kept_left, Tensor "
    f"theta, Tensor? v0, Tensor decay, Tensor? left, {_OPTIONS}bool detach_reset, int surrogate, float alpha, "
    "float scale, int keep, ScalarType dtype, bool need_theta, bool need_v0, bool need_decay)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)


def _no_outputs(x, theta, refractory, keep, new):
    """Return the outputs of the op, their contents undefined; ``new(like, shape, dtype)`` makes the large ones."""
    _, batch, neurons = x.shape
    state, resting = (batch, neurons), (batch if refractory else 0, neurons)
    return (
        new(x, x.shape, x.dtype),
        theta.new_empty(state),
        x.new_empty(resting, dtype=torch.int32),
        new(x, _kept_shape(x, state, keep), theta.dtype),
        x.new_empty(_kept_shape(x, resting, keep), dtype=torch.int32),
    )


def _kept_shape(x: Tensor, state: tuple, keep: int) -> tuple:
    """Every step, nothing, or some steps, flat: so that no number of steps is a special case to a compiler."""
    if keep <= 1:
        return (x.shape[0], *state) if keep else (0,)
    return (torch.sym_max((x.shape[0] - 1) // keep, 1) * math.prod(state),)


def _outputs(x, theta, refractory, keep, new):
    """Return the outputs of the op; those of which a kernel writes nothing are zeros."""
    outputs = _no_outputs(x, theta, refractory, keep, new)
    if keep > 1 and x.shape[0] <= keep:  # nothing is kept
        for each in outputs[3:]:
            each.zero_()
    return outputs


def _new(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return like.new_empty(shape, dtype=dtype)


@torch.library.register_fake("neuroav::dynamic_lif")
def _(x, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory, detach, code, alpha, scale, keep):
    return _no_outputs(x, theta, refractory, keep, _new)


def _no_gradients(x, kept, theta, decay, dtype, need_theta, need_v0, need_decay, new):
    shape = kept.shape if x is None else x.shape
    return (
        new(kept, shape, dtype),
        theta.new_empty(theta.shape if need_theta else 0),
        theta.new_empty(shape[1:] if need_v0 else 0),
        decay.new_empty(decay.shape if need_decay else 0),
    )


@torch.library.register_fake("neuroav::dynamic_lif_backward")
def _(grad_spikes, grad_v, grad_membrane, x, kept, kept_left, theta, v0, decay, left, *options):
    dtype, need_theta, need_v0, need_decay = options[-4:]
    return _no_gradients(x, kept, theta, decay, dtype, need_theta, need_v0, need_decay, _new)


def _dynamic_lif(
    x, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory, detach, code, alpha, scale, keep
):
    return reference.lif_forward(
        x, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory, keep
    )  # fmt: skip


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.numel() == 0 else tensor.data_ptr()


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if each is None else each.contiguous() for each in tensors]


def _strides(theta: Tensor) -> tuple[Tensor, list[int]]:
    """Return theta with a step of 0 or 1 from neuron to neuron, and its strides with 0 wherever it is broadcast."""
    if theta.shape[2] > 1 and theta.stride(2) not in (0, 1):
        theta = theta.contiguous()
    return theta, [stride if size > 1 else 0 for size, stride in zip(theta.shape, theta.stride(), strict=True)]


def _pooled(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return an empty tensor; a large one in memory that was used before, which the system need not clear first."""
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE:
        return like.new_empty(shape, dtype=dtype)
    return torch.from_numpy(cpu.module.pooled_bytes(size)).view(dtype).view(shape)


def _dynamic_lif_cpu(
    x, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory, detach, code, alpha, scale, keep
):
    x, v0, decay, left = _contiguous(x, v0, decay, left)
    theta, theta_stride = _strides(theta)
    outputs = _outputs(x, theta, refractory, keep, _pooled)
    spikes, v, left_after, kept, kept_left = map(_address, outputs)
    getattr(cpu.module, f"lif_forward_{_name(x.dtype)}")(
        x.shape, _address(x), _address(theta), theta_stride, _address(v0), _address(decay), len(decay), _address(left),
        v_rest, hard_reset, strict, unit_gain, refractory, keep, spikes, v, left_after, kept, kept_left,
        torch.get_num_threads(),
    )  # fmt: skip
    return outputs


def _dynamic_lif_backward_cpu(
    grad_spikes, grad_v, grad_membrane, x, kept, kept_left, theta, v0, decay, left, v_rest, hard_reset, strict,
    unit_gain, refractory, detach, code, alpha, scale, keep, dtype, need_theta, need_v0, need_decay,
):  # fmt: skip
    grad_v, grad_membrane, x, kept, kept_left, v0, decay, left = _contiguous(
        grad_v, grad_membrane, x, kept, kept_left, v0, decay, left
    )
    theta, theta_stride = _strides(theta)
    grad_spikes, grad_stride = (None, [0, 0, 0]) if grad_spikes is None else _strides(grad_spikes)
    outputs = _no_gradients(x, kept, theta, decay, dtype, need_theta, need_v0, need_decay, _pooled)
    grad_x, grad_theta, grad_v0, grad_decay = map(_address, outputs)
    getattr(cpu.module, f"lif_backward_{_name(dtype)}")(
        outputs[0].shape, _address(grad_spikes), grad_stride, _address(grad_v), _address(grad_membrane), _address(x),
        _address(kept), _address(kept_left), _address(theta), theta.shape, theta_stride, _address(v0), _address(decay),
        len(decay), _address(left), v_rest, hard_reset, strict, unit_gain, refractory, detach, code, alpha, scale, keep,
        grad_x, grad_theta, grad_v0, grad_decay, torch.get_num_threads(),
    )  # fmt: skip
    return outputs


def _dynamic_lif_cuda(
    x, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory, detach, code, alpha, scale, keep
):
    x, v0, decay, left = _contiguous(x, v0, decay, left)
    theta, theta_stride = _strides(theta)
    outputs = _outputs(x, theta, refractory, keep, _new)
    rules = (v_rest, hard_reset, strict, unit_gain, refractory)
    cuda_neurons.forward(x, theta, theta_stride, v0, decay, left, rules, keep, outputs)
    return outputs


def _dynamic_lif_backward_cuda(
    grad_spikes, grad_v, grad_membrane, x, kept, kept_left, theta, v0, decay, left, v_rest, hard_reset, strict,
    unit_gain, refractory, detach, code, alpha, scale, keep, dtype, need_theta, need_v0, need_decay,
):  # fmt: skip
    grad_v, grad_membrane, x, kept, kept_left, v0, decay, left = _contiguous(
        grad_v, grad_membrane, x, kept, kept_left, v0, decay, left
    )
    theta, theta_stride = _strides(theta)
    grad_spikes, grad_stride = (None, [0, 0, 0]) if grad_spikes is None else _strides(grad_spikes)
    needs = need_theta, need_v0, need_decay
    outputs = _no_gradients(x, kept, theta, decay, dtype, *needs, _new)
    cuda_neurons.backward(
        grad_spikes, grad_stride, grad_v, grad_membrane, x, kept, kept_left, theta, theta_stride, v0, decay, left,
        (v_rest, hard_reset, strict, unit_gain, refractory), (detach, code, alpha, scale), keep, needs, outputs,
    )  # fmt: skip
    return outputs


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


torch.library.impl("neuroav::dynamic_lif", "default", _dynamic_lif)
torch.library.impl("neuroav::dynamic_lif_backward", "default", reference.lif_backward)
cuda.register("neuroav::dynamic_lif", _dynamic_lif_cuda, _dynamic_lif)
cuda.register("neuroav::dynamic_lif_backward", _dynamic_lif_backward_cuda, reference.lif_backward)
if cpu.available():
    torch.library.impl("neuroav::dynamic_lif", "cpu", _dynamic_lif_cpu)
    torch.library.impl("neuroav::dynamic_lif_backward", "cpu", _dynamic_lif_backward_cpu)


class _DynamicLIF(torch.autograd.Function):
    """The op with its gradients.

    Registered by hand: ``torch.library.register_autograd`` looks up the defaults of all arguments at every call, which
    of these fifteen takes longer than a small layer.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        output = _below_autograd(*inputs)
        x, theta, v0, decay, left, *ctx.options, keep = inputs
        if not keep:
            raise fail(_WHERE, "keep of 1 or more where a gradient is wanted", "0")
        ctx.set_materialize_grads(False)
        ctx.keep, ctx.dtype = keep, x.dtype
        ctx.save_for_backward(x if keep > 1 or ctx.needs_input_grad[3] else None, *output[3:], theta, v0, decay, left)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        grad_spikes, grad_v, _, grad_membrane, _ = grads
        _, need_theta, need_v0, need_decay, *_ = ctx.needs_input_grad
        grad_x, grad_theta, grad_v0, grad_decay = torch.ops.neuroav.dynamic_lif_backward(
            grad_spikes, grad_v, grad_membrane if ctx.keep == 1 else None, *ctx.saved_tensors, *ctx.options, ctx.keep,
            ctx.dtype, need_theta, need_v0, need_decay,
        )  # fmt: skip
        found: tuple[Tensor | None, ...] = (
            grad_x,
            grad_theta if need_theta else None,
            grad_v0 if need_v0 else None,
            grad_decay if need_decay else None,
        )
        if torch.is_grad_enabled():  # with create_graph
            anchor = torch.zeros((), requires_grad=True)
            found = tuple(None if one is None else _FirstOnly.apply(one, anchor) for one in found)
        return *found, *(11 * [None])


def _below_autograd(*inputs: Any) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.neuroav.dynamic_lif.default(*inputs)


def _autograd(*inputs: Any) -> Any:
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in inputs[:4]):
        return _DynamicLIF.apply(*inputs)
    return _below_autograd(*inputs)


class _FirstOnly(torch.autograd.Function):
    """A gradient as it is, of which no derivative can be had; without this it would count as a constant."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, anchor: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        remedy = "Detach the gradient, or leave such a term out."
        raise fail(_WHERE, "a first derivative", "one of second order through the surrogate", remedy)


_FRAGMENT = torch.library.Library("neuroav", "FRAGMENT")
_FRAGMENT.impl("dynamic_lif", _autograd, "Autograd")


def dynamic_lif(
    x: Tensor,
    theta: Tensor | float,
    v0: Tensor | None = None,
    decay: Tensor | float = 0.5,
    left: Tensor | None = None,
    *,
    v_rest: float = 0.0,
    hard_reset: bool = True,
    strict: bool = False,
    unit_gain: bool = False,
    refractory: int = 0,
    detach_reset: bool = True,
    surrogate: int = reference.ATAN,
    alpha: float = 2.0,
    scale: float = 1.0,
    every: int = 1,
    return_membrane: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    r"""Run leaky integrate-and-fire neurons over a sequence, with a threshold for every step, sample and neuron.

    .. math::
        h_t = v_{t-1} + d\,(x_t - (v_{t-1} - v_{rest})), \quad s_t = [h_t \ge \theta_t], \quad
        v_t = (1 - s_t) h_t + s_t v_{rest} \;\text{(hard)} \quad\text{or}\quad h_t - s_t \theta_t \;\text{(soft)}

    Implements Eq. (8)-(9) of [mdft]. Differs from the paper: discrete time (one Euler step per input, :math:`d = 1 /
    \tau`, resistance 1), since the paper prints the differential equation only; hard or soft reset; with ``unit_gain``
    the input is not scaled, :math:`h_t = v_{t-1} - d\,(v_{t-1} - v_{rest}) + x_t`.

    Args:
        x: Input current, ``(T, B, *)``, float32, float64, bfloat16 or float16, dimensionless.
        theta: Threshold, a number or a tensor that broadcasts to x; infinity silences. Values are not checked. Never
            expanded along ``T`` or ``B``.
        v0: Membrane before the first step, ``(B, *)``; ``None`` for ``v_rest``.
        decay: Share of the distance to rest that is lost in a step, 1 / tau; a number, or a tensor that broadcasts to
            ``*``.
        left: Refractory steps that are left before the first step, ``(B, *)`` int32; ``None`` for none.
        v_rest: Resting potential, the target of the leak and of the hard reset.
        hard_reset: Reset to ``v_rest``, otherwise by subtracting theta.
        strict: Fire above theta only, otherwise at theta as well.
        unit_gain: Whether the input is added as it is, otherwise times the decay.
        refractory: Steps after a spike in which a neuron neither charges nor fires.
        detach_reset: Whether the reset treats the spike as a constant in the backward pass.
        surrogate: Code of the surrogate derivative, see :class:`neuroav.neurons.surrogate.Surrogate`.
        alpha: Its steepness or width.
        scale: What it is multiplied by.
        every: 1 keeps all membranes for the backward pass, k > 1 those of every k-th step, and the backward pass
            computes the others again from x.
        return_membrane: Whether to return the membrane before reset, which keeps it.

    Returns:
        Spikes like x in {0, 1}; the membrane after the last step ``(B, *)``; the refractory steps left ``(B, *)`` or,
        with ``refractory=0``, ``None``; the membrane before reset like x, or ``None``. Membranes are float32 where x
        is bfloat16 or float16, else of x's type. All but the steps carry gradients to x, theta, v0 and decay.

    Raises:
        InputError: If shapes or devices don't fit together.
        TypeError: If ``x`` is of another type.

    Example:
        >>> spikes, v, *_ = dynamic_lif(torch.ones(3, 1, 1), theta=0.7)
        >>> spikes.flatten().tolist(), v.item()
        ([0.0, 1.0, 0.0], 0.5)
    """
    if x.dtype not in _STATE_TYPES:
        known = ", ".join(str(each).removeprefix("torch.") for each in _STATE_TYPES)
        raise fail(_WHERE, f"x of dtype {known}", str(x.dtype), "Call x.float() first.", TypeError)
    if x.dim() < 2:
        raise fail(_WHERE, "x of shape (T, B, *)", str(tuple(x.shape)))
    rest = tuple(x.shape[2:])
    neurons = math.prod(rest)
    flat = _shaped(x, (x.shape[0], x.shape[1], neurons))
    state = flat.shape[1:]
    theta = _like(x, "theta", theta)
    theta = _threshold(x, theta)
    decay = _decay(x, _like(x, "decay", decay))
    if v0 is not None:
        v0 = _state(x, "v0", _like(x, "v0", v0)).reshape(state)
    if not refractory:
        left = None
    elif left is not None:
        left = _state(x, "left", _like(x, "left", left, torch.int32)).reshape(state)
    inputs = (x, theta, v0, decay)
    wants_grad = torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in inputs)
    keep = 1 if return_membrane else every if wants_grad else 0
    spikes, v, left, kept, _ = torch.ops.neuroav.dynamic_lif(
        flat, theta, v0, decay, left, v_rest, hard_reset, strict, unit_gain, refractory, detach_reset, surrogate,
        alpha, scale, keep,
    )  # fmt: skip
    own = tuple(x.shape[1:])
    return (
        _shaped(spikes, x.shape),
        _shaped(v, own),
        _shaped(left, own) if refractory else None,
        _shaped(kept, x.shape) if return_membrane else None,
    )


def _shaped(values: Tensor, shape: tuple) -> Tensor:
    """Reshape what has another shape; what has it already needs no node in the graph of gradients."""
    return values if values.shape == shape else values.reshape(shape)


def _like(x: Tensor, name: str, value: Tensor | float, dtype: torch.dtype | None = None) -> Tensor:
    dtype = dtype or _STATE_TYPES[x.dtype]
    if not isinstance(value, Tensor):
        return torch.full((1,), value, dtype=dtype, device=x.device)
    if value.device != x.device:
        raise fail(
            _WHERE, f"{name} on the device of x ({x.device})", str(value.device), f"Move it with {name}.to(...)."
        )
    return value.to(dtype)


def _state(x: Tensor, name: str, value: Tensor) -> Tensor:
    if value.shape != x.shape[1:]:
        raise fail(_WHERE, f"{name} of shape {tuple(x.shape[1:])}", str(tuple(value.shape)))
    return value


def _threshold(x: Tensor, theta: Tensor) -> Tensor:
    """Return theta as ``(T or 1, B or 1, N or 1)``; expanded along ``*`` only, and only where it varies along some."""
    shape = (1,) * (x.dim() - theta.dim()) + tuple(theta.shape)
    if not _broadcasts(shape, x.shape):
        raise fail(_WHERE, f"theta that broadcasts to x {tuple(x.shape)}", str(tuple(theta.shape)))
    steps, batch, *rest = shape
    return _neurons(_shaped(theta, shape), (steps, batch), tuple(rest), tuple(x.shape[2:]))


def _decay(x: Tensor, decay: Tensor) -> Tensor:
    """Return the decay as ``(N,)`` or ``(1,)``."""
    rest = tuple(x.shape[2:])
    shape = (1,) * (len(rest) - decay.dim()) + tuple(decay.shape)
    if decay.numel() == 1:
        return _shaped(decay, (1,))
    if not _broadcasts(shape, rest):
        raise fail(_WHERE, f"decay that broadcasts to the neurons {rest}", str(tuple(decay.shape)))
    return _neurons(_shaped(decay, shape), (), shape, rest)


def _broadcasts(shape: tuple, full: tuple) -> bool:
    return len(shape) == len(full) and all(
        size in (1, whole) for size, whole in zip(shape, full, strict=True)
    )  # fmt: skip


def _neurons(values: Tensor, lead: tuple, rest: tuple, full: tuple) -> Tensor:
    """Flatten the axes ``rest`` of values, all of size 1 or all full, to one; a mixture is expanded."""
    if all(size == 1 for size in rest):
        return _shaped(values, (*lead, 1))
    return _shaped(values.expand(*lead, *full), (*lead, math.prod(full)))
