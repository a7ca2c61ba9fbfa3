"""The op ``neuroav::dynamic_lif``: a whole sequence of leaky integrate-and-fire steps whose threshold is an input.

Shapes: x ``(T, B, N)``; theta three-dimensional and broadcastable to x, never expanded in memory; v0 ``(B, N)``; decay
``(N,)`` or ``(1,)``. Layout: any strides in, contiguous out. Types: float32 and float64.
Determinism: the same bits for every number of threads. Parity: CPU spikes and membranes equal the reference bit for
bit; gradients agree to 1e-6 of the largest.
CPU tensors use the C++ extension where it was built, everything else :mod:`neuroav.kernels.reference`.
"""

from typing import Any

import torch
from torch import Tensor

from neuroav.checks import check_shape, fail
from neuroav.kernels import cpu, reference

_WHERE = "dynamic_lif"


@torch.library.custom_op(
    "neuroav::dynamic_lif",
    mutates_args=(),
    schema="(Tensor x, Tensor theta, Tensor v0, Tensor decay, float v_rest, bool hard_reset, bool detach_reset, "
    "int surrogate, float alpha, bool keep_membrane) -> (Tensor, Tensor, Tensor)",
)
def _dynamic_lif(x, theta, v0, decay, v_rest, hard_reset, detach_reset, surrogate, alpha, keep_membrane):
    return reference.lif_forward(x, theta, v0, decay, v_rest, hard_reset, keep_membrane)


@_dynamic_lif.register_fake
def _(x, theta, v0, decay, v_rest, hard_reset, detach_reset, surrogate, alpha, keep_membrane):
    return x.new_empty(x.shape), v0.new_empty(v0.shape), x.new_empty(x.shape if keep_membrane else 0)


@torch.library.custom_op(
    "neuroav::dynamic_lif_backward",
    mutates_args=(),
    schema="(Tensor? grad_spikes, Tensor? grad_v, Tensor? grad_membrane, Tensor? x, Tensor membrane, Tensor theta, "
    "Tensor v0, Tensor decay, float v_rest, bool hard_reset, bool detach_reset, int surrogate, float alpha, "
    "bool need_theta) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _dynamic_lif_backward(*args):
    return reference.lif_backward(*args)


@_dynamic_lif_backward.register_fake
def _(grad_spikes, grad_v, grad_membrane, x, membrane, theta, v0, decay, *args):
    need_theta = args[-1]
    return (
        membrane.new_empty(membrane.shape),
        theta.new_empty(theta.shape if need_theta else 0),
        v0.new_empty(v0.shape),
        decay.new_empty(decay.shape if x is not None else 0),
    )


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.numel() == 0 else tensor.data_ptr()


def _strides(theta: Tensor) -> tuple[Tensor, list[int]]:
    """Return theta with a step of 0 or 1 from neuron to neuron, and its strides with 0 wherever it is broadcast."""
    if theta.shape[2] > 1 and theta.stride(2) not in (0, 1):
        theta = theta.contiguous()
    return theta, [stride if size > 1 else 0 for size, stride in zip(theta.shape, theta.stride(), strict=True)]


def _kernel(name: str, dtype: torch.dtype) -> Any:
    return getattr(cpu.module, f"{name}_{'f32' if dtype == torch.float32 else 'f64'}")


def _dynamic_lif_cpu(x, theta, v0, decay, v_rest, hard_reset, detach_reset, surrogate, alpha, keep_membrane):
    x, v0, decay = x.contiguous(), v0.contiguous(), decay.contiguous()
    theta, theta_stride = _strides(theta)
    spikes, v, membrane = torch.empty_like(x), torch.empty_like(v0), x.new_empty(x.shape if keep_membrane else 0)
    _kernel("lif_forward", x.dtype)(
        x.shape, _address(x), _address(theta), theta_stride, _address(v0), _address(decay), len(decay), v_rest,
        hard_reset, _address(spikes), _address(v), _address(membrane), torch.get_num_threads(),
    )  # fmt: skip
    return spikes, v, membrane


def _dynamic_lif_backward_cpu(
    grad_spikes, grad_v, grad_membrane, x, membrane, theta, v0, decay, v_rest, hard_reset, detach_reset, surrogate,
    alpha, need_theta,
):  # fmt: skip
    grad_spikes, grad_v, grad_membrane, x = (
        None if each is None else each.contiguous() for each in (grad_spikes, grad_v, grad_membrane, x)
    )
    membrane, v0, decay = membrane.contiguous(), v0.contiguous(), decay.contiguous()
    theta, theta_stride = _strides(theta)
    grad_x, grad_v0 = torch.empty_like(membrane), torch.empty_like(v0)
    grad_theta = theta.new_empty(theta.shape if need_theta else 0)
    grad_decay = decay.new_empty(0 if x is None else decay.shape)
    _kernel("lif_backward", membrane.dtype)(
        membrane.shape, _address(grad_spikes), _address(grad_v), _address(grad_membrane), _address(x),
        _address(membrane), _address(theta), theta.shape, theta_stride, _address(v0), _address(decay), len(decay),
        v_rest, hard_reset, detach_reset, surrogate, alpha, _address(grad_x), _address(grad_theta), _address(grad_v0),
        _address(grad_decay), torch.get_num_threads(),
    )  # fmt: skip
    return grad_x, grad_theta, grad_v0, grad_decay


if cpu.available():
    _dynamic_lif.register_kernel("cpu")(_dynamic_lif_cpu)
    _dynamic_lif_backward.register_kernel("cpu")(_dynamic_lif_backward_cpu)


def _save(ctx: Any, inputs: tuple, output: tuple) -> None:
    x, theta, v0, decay, *ctx.options, keep_membrane = inputs
    if not keep_membrane:
        raise fail(_WHERE, "keep_membrane=True where a gradient is wanted", "False")
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x if ctx.needs_input_grad[3] else None, output[2], theta, v0, decay)


def _gradients(ctx: Any, *grads: Tensor | None) -> tuple:
    need_theta, need_decay = ctx.needs_input_grad[1], ctx.needs_input_grad[3]
    grad_x, grad_theta, grad_v0, grad_decay = _dynamic_lif_backward(
        *grads, *ctx.saved_tensors, *ctx.options, need_theta
    )
    return grad_x, grad_theta if need_theta else None, grad_v0, grad_decay if need_decay else None, *(6 * [None])


_dynamic_lif.register_autograd(_gradients, setup_context=_save)


def dynamic_lif(
    x: Tensor,
    theta: Tensor | float,
    v0: Tensor | None = None,
    decay: Tensor | float = 0.5,
    *,
    v_rest: float = 0.0,
    hard_reset: bool = True,
    detach_reset: bool = True,
    surrogate: int = reference.ATAN,
    alpha: float = 2.0,
    return_membrane: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Run leaky integrate-and-fire neurons over a sequence, with a threshold for every step, sample and neuron.

    .. math::
        h_t = v_{t-1} + d\,(x_t - (v_{t-1} - v_{rest})), \quad s_t = [h_t \ge \theta_t], \quad
        v_t = (1 - s_t) h_t + s_t v_{rest} \;\text{(hard)} \quad\text{or}\quad h_t - s_t \theta_t \;\text{(soft)}

    Implements Eq. (8)-(9) of [mdft]. Differs from the paper: discrete time (one Euler step per input, :math:`d = 1 /
    \tau`, resistance 1), since the paper prints the differential equation only; hard or soft reset.

    Args:
        x: Input current, ``(T, B, N)``, float32 or float64, dimensionless.
        theta: Threshold, a number or a tensor that broadcasts to ``(T, B, N)``; infinity silences. Values are not
            checked.
        v0: Membrane before the first step, ``(B, N)``; ``None`` for ``v_rest``.
        decay: Share of the distance to rest that is lost in a step, 1 / tau; a number, ``()``, ``(1,)`` or ``(N,)``.
        v_rest: Resting potential, the target of the leak and of the hard reset.
        hard_reset: Reset to ``v_rest``, otherwise by subtracting theta.
        detach_reset: Whether the reset treats the spike as a constant in the backward pass.
        surrogate: Code of the surrogate derivative, see :class:`neuroav.neurons.surrogate.Surrogate`.
        alpha: Its one number.
        return_membrane: Whether to return the membrane before reset.

    Returns:
        Spikes ``(T, B, N)`` in {0, 1}; membrane after the last step ``(B, N)``; and the membrane before reset
        ``(T, B, N)`` (without ``return_membrane``: of no defined content). All carry gradients to x, theta, v0, decay.

    Raises:
        InputError: If shapes or devices don't fit together, or a size is 0.
        TypeError: If ``x`` is neither float32 nor float64.

    Example:
        >>> spikes, v, _ = dynamic_lif(torch.ones(3, 1, 1), theta=0.7)
        >>> spikes.flatten().tolist(), v.item()
        ([0.0, 1.0, 0.0], 0.5)
    """
    check_shape(_WHERE, "x", x, ("T", "B", "N"))
    if 0 in x.shape:
        raise fail(_WHERE, "x of shape (T, B, N) with every size at least 1", str(tuple(x.shape)))
    if x.dtype not in (torch.float32, torch.float64):
        raise fail(_WHERE, "x of dtype float32 or float64", str(x.dtype), "Call x.float() first.", TypeError)
    theta = _threshold(x, theta)
    decay = _like(x, "decay", decay).reshape(-1)
    if decay.shape[0] not in (1, x.shape[2]):
        raise fail(_WHERE, f"decay of one value or {x.shape[2]} (one per neuron)", f"{decay.shape[0]}")
    v0 = x.new_full(x.shape[1:], v_rest) if v0 is None else _like(x, "v0", v0)
    check_shape(_WHERE, "v0", v0, x.shape[1:])
    wants_grad = torch.is_grad_enabled() and any(each.requires_grad for each in (x, theta, v0, decay))
    keep = return_membrane or wants_grad
    return _dynamic_lif(x, theta, v0, decay, v_rest, hard_reset, detach_reset, surrogate, alpha, keep)


def _like(x: Tensor, name: str, value: Tensor | float) -> Tensor:
    if not isinstance(value, Tensor):
        return x.new_tensor(value)
    if value.device != x.device:
        raise fail(
            _WHERE, f"{name} on the device of x ({x.device})", str(value.device), f"Move it with {name}.to(...)."
        )
    return value.to(x.dtype)


def _threshold(x: Tensor, theta: Tensor | float) -> Tensor:
    theta = _like(x, "theta", theta)
    shape = (1,) * (3 - theta.dim()) + tuple(theta.shape)
    if len(shape) > 3 or any(size not in (1, full) for size, full in zip(shape, x.shape, strict=True)):
        raise fail(_WHERE, f"theta that broadcasts to x {tuple(x.shape)}", str(tuple(theta.shape)))
    return theta.reshape(shape)
