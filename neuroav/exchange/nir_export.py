"""Our networks as NIR graphs: what can be said exactly, and what is refused."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from neuroav.checks import check_choice, check_range, fail
from neuroav.exchange.peers import check_plain, peer, span
from neuroav.files import replacing
from neuroav.neurons.lif import LIF, LIFLayer

Mode = Literal["exact", "normalised", "frozen"]

DT_S = 1e-4  # SpikingJelly's default and the only step snnTorch knows
_WHERE = "to_nir"


def nir_package() -> ModuleType:
    """The package ``nir``."""
    return peer("exchange.nir", "nir", "Install it: python -m pip install 'neuroav[exchange]'.")


def to_nir(
    model: nn.Module | Iterable[nn.Module],
    mode: Mode = "exact",
    *,
    theta: Tensor | float | Sequence[Tensor | float] | None = None,
    dt: float = DT_S,
) -> Any:
    r"""Write a network of linear layers and LIF neurons as a NIR graph, or say why it can't be.

    A neuron becomes ``nir.LIF`` with :math:`\tau = dt / d` (``d`` the share lost per step), :math:`r = 1` for
    ``gain="decay"`` and :math:`\tau / dt` for ``"unit"``, and ``v_leak = v_reset = v_rest``. NIR fires above the
    threshold; a layer that fires at it too (``strict=False``) is written with the next smaller floating-point number,
    which is the same. Batch normalisation in evaluation mode is folded into the linear layer before it, and synaptic
    delays become ``nir.Delay``; both are exact up to rounding. Refused, since NIR can't say it: soft reset, refractory
    steps, a threshold that moves.

    The modes differ in what they do with such a threshold:

    * ``"exact"`` takes one that is the same at every step and for every sample.
    * ``"normalised"`` also takes one per sample in the first layer: its threshold becomes 1, and **whoever runs the
      graph divides the input by theta**. The layer must have no bias and rest at 0; deeper thresholds must be fixed.
    * ``"frozen"`` takes the mean over steps and samples, and warns; :func:`neuroav.exchange.nir.verify` counts the
      spikes that this changes.

    Args:
        model: A motion stream (``MDFT.motion["video"]``), or a sequence of ``nn.Linear``, batch normalisation and
            ``LIF``, ``PLIF`` or ``DynamicLIF``. A motion stream with ``repeats=R`` is fed each step ``R`` times.
        mode: What to do with a threshold that moves.
        theta: Threshold of the ``DynamicLIF`` layers: a number or a tensor that broadcasts to ``(T, B, N)``, for all,
            or a list with one for each.
        dt: Length of a step in seconds. It is not part of a NIR graph; here it is kept as metadata.

    Returns:
        A ``nir.NIRGraph`` with the nodes ``input``, ``linear_0``, ``neurons_0``, ..., ``output``.

    Raises:
        InputError: If the graph would not be exact in the way that ``mode`` promises.
        ImportError: Without the package ``nir``.
    """
    check_choice(_WHERE, "mode", mode, ("exact", "normalised", "frozen"))
    check_range(_WHERE, "dt", dt, 1e-12)
    builder = _Builder(mode, dt)
    if _is_motion_stream(model):
        repeats = _add_motion_stream(builder, model, theta)
    else:
        repeats = 1
        _add_stack(builder, [model] if isinstance(model, LIFLayer) else list(_modules(model)), theta)
    return builder.graph({"dt": dt, "mode": mode, "repeats": repeats})


def write_nir(path: str | Path, graph: Any) -> None:
    """Write a graph with NIR's own writer, to a temporary name and then renamed.

    Raises:
        OutputError: If the file can't be written; nothing is left behind.
    """
    with replacing(Path(path)) as temporary:
        nir_package().write(temporary, graph)


class _Builder:
    """Nodes and edges so far; ``ends`` are the nodes that the next one reads, their outputs summed."""

    def __init__(self, mode: str, dt: float):
        self.nir, self.mode, self.dt = nir_package(), mode, dt
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.ends: list[str] = []
        self.width: int | None = None
        self.layers = 0

    def synapses(self, weight: Tensor, bias: Tensor | None, delays: tuple[int, ...] = (0,)) -> None:
        """Add ``weight (N, D * len(delays))``, whose columns come in one block per delay in steps."""
        sources, self.ends = self._sources(weight.shape[1] // len(delays)), []
        for index, (block, delay) in enumerate(zip(weight.chunk(len(delays), 1), delays)):
            suffix = f"{self.layers}" if len(delays) == 1 else f"{self.layers}_{delay}"
            starts = sources
            if delay:
                held = np.full(block.shape[1], delay * self.dt)
                starts = [self._node(f"delay_{suffix}", self.nir.Delay(delay=held), sources)]
            last = bias if index == 0 else None
            node = self.nir.Linear(_array(block)) if last is None else self.nir.Affine(_array(block), _array(last))
            self.ends.append(self._node(f"linear_{suffix}", node, starts))
        self.width = weight.shape[0]

    def neurons(self, layer: LIFLayer, theta: Tensor | float, scalable: bool) -> None:
        """Add a LIF layer; ``scalable`` says whether its input may be divided by theta."""
        _check_neurons(layer)
        size = self.width or layer.num_neurons
        if size is None:
            raise fail(_WHERE, "a layer of known size", "num_neurons=None", "Give the first layer its num_neurons.")
        sources = self._sources(size)
        threshold = _threshold(self.mode, theta, layer, scalable and self.layers == 0)
        decay = layer.decay.detach().double().cpu()
        values = {
            "tau": self.dt / decay,
            "r": 1 / decay if layer.unit_gain else 1.0,
            "v_leak": layer.v_rest,
            "v_reset": layer.v_rest,
            "v_threshold": threshold,
        }
        arrays = {name: _array(torch.as_tensor(each).double().expand(size)) for name, each in values.items()}
        self.ends = [self._node(f"neurons_{self.layers}", self.nir.LIF(**arrays), sources)]
        self.width, self.layers = size, self.layers + 1

    def graph(self, metadata: dict[str, Any]) -> Any:
        """Close the graph."""
        if not self.layers:
            raise fail(_WHERE, "a model with LIF, PLIF or DynamicLIF layers", "none")
        self._node("output", self.nir.Output({"output": np.array([self.width])}), self.ends)
        return self.nir.NIRGraph(self.nodes, self.edges, metadata=metadata)

    def _sources(self, width: int) -> list[str]:
        if not self.nodes:
            self._node("input", self.nir.Input({"input": np.array([width])}), [])
            self.ends = ["input"]
        return self.ends

    def _node(self, name: str, node: Any, sources: list[str]) -> str:
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name


def _is_motion_stream(model: Any) -> bool:
    parts = [getattr(model, name, None) for name in ("linear", "norm", "neuron")]
    return all(isinstance(part, nn.ModuleList) for part in parts)


def _add_motion_stream(builder: _Builder, model: Any, theta: Any) -> int:
    for linear, norm, neuron in zip(model.linear, model.norm, model.neuron, strict=True):
        weight, bias = linear.weight, linear.bias
        if isinstance(norm, nn.BatchNorm1d):
            weight, bias = _folded(weight, bias, norm)
        builder.synapses(weight, bias, tuple(delay * model.repeats for delay in model.delays))
        builder.neurons(neuron, _given(theta, builder.layers, len(model.neuron)), scalable=bias is None)
    return model.repeats


def _modules(model: Any) -> Iterable[nn.Module]:
    if isinstance(model, nn.Sequential | nn.ModuleList | list | tuple):
        return model
    raise fail(_WHERE, "a motion stream or a sequence of layers", type(model).__name__, _HINT)


_HINT = "Of an MDFT model, give model.motion['video'] or model.motion['audio']."


def _add_stack(builder: _Builder, modules: list[nn.Module], theta: Any) -> None:
    dynamic = [module for module in modules if isinstance(module, LIFLayer) and not isinstance(module, LIF)]
    pending: tuple[Tensor, Tensor | None] | None = None
    seen = 0
    for module in modules:
        if isinstance(module, nn.BatchNorm1d) and pending is not None:
            pending = _folded(*pending, module)
            continue
        if pending is not None and not _is_identity(module):
            builder.synapses(*pending)
        if isinstance(module, LIFLayer):
            own = module.v_th if isinstance(module, LIF) else _given(theta, seen, len(dynamic))
            seen += not isinstance(module, LIF)
            builder.neurons(module, own, scalable=pending is None or pending[1] is None)
            pending = None
        elif isinstance(module, nn.Linear):
            pending = (module.weight, module.bias)
        elif not _is_identity(module):
            known = "nn.Linear, LIF, PLIF, DynamicLIF, and batch normalisation right after nn.Linear"
            raise fail(_WHERE, known, type(module).__name__)
    if pending is not None:
        builder.synapses(*pending)


def _is_identity(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout) and not module.training)


def _given(theta: Any, index: int, count: int) -> Tensor | float:
    if isinstance(theta, list | tuple):
        if len(theta) != count:
            raise fail(_WHERE, f"one theta for each of {count} DynamicLIF layers", f"{len(theta)}")
        theta = theta[index]
    if theta is None:
        raise fail(_WHERE, "theta, the threshold of the DynamicLIF layers", "None", "Give to_nir(..., theta=...).")
    return theta


def _folded(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """The linear layer that does what linear layer and batch normalisation do with the running statistics."""
    if norm.training or norm.running_mean is None or norm.running_var is None:
        raise fail(_WHERE, "batch normalisation in evaluation mode", "training mode", "Call model.eval() first.")
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    gain = gain if norm.weight is None else gain * norm.weight.double()
    start = -norm.running_mean.double() if bias is None else bias.double() - norm.running_mean.double()
    shift = start * gain if norm.bias is None else start * gain + norm.bias.double()
    return (weight.double() * gain.unsqueeze(1)).to(weight.dtype), shift.to(weight.dtype)


def _check_neurons(layer: LIFLayer) -> None:
    check_plain(_WHERE, layer)
    if not layer.hard_reset:
        raise fail(
            _WHERE, "reset='hard'", "reset='soft'", "A NIR neuron resets to a value; no subtraction can be said."
        )
    if layer.refractory:
        raise fail(_WHERE, "refractory=0", f"refractory={layer.refractory}", "NIR has no refractory neuron.")
    if layer.decay.dim() > 1:
        raise fail(_WHERE, "one tau, or one for each of N neurons", f"tau of shape {tuple(layer.decay.shape)}")
    if not bool((layer.decay > 0).all()):
        raise fail(_WHERE, "neurons that leak", "a share of 0 lost per step", "nir.LIF needs a finite tau.")


def _threshold(mode: str, theta: Tensor | float, layer: LIFLayer, scalable: bool) -> Tensor:
    """``v_threshold`` as ``()`` or ``(N,)`` float64."""
    values = torch.as_tensor(theta, dtype=layer.decay.dtype).detach().cpu()
    signal = values.reshape((1,) * (3 - values.dim()) + tuple(values.shape))
    by_step, by_sample = bool((signal != signal[:1]).any()), bool((signal != signal[:, :1]).any())
    if mode == "normalised" and (scalable or by_step or by_sample):
        _check_normalised(signal, layer, by_step, scalable)
        fixed = signal.new_ones(1)
    elif by_step or by_sample:
        fixed = _fixed_or_fail(mode, signal, by_step)
    else:
        fixed = signal[0, 0]
    if not layer.strict:
        fixed = torch.nextafter(fixed, fixed.new_tensor(-math.inf))
    return fixed.double()


def _fixed_or_fail(mode: str, signal: Tensor, by_step: bool) -> Tensor:
    if mode == "exact":
        axis = "from step to step" if by_step else "from sample to sample"
        other = (
            "mode='frozen' takes the mean" if by_step else "mode='normalised' takes one per sample, 'frozen' the mean"
        )
        remedy = f"NIR's v_threshold is a number per neuron; {other}."
        raise fail(_WHERE, "the same theta at every step and for every sample", f"{span(signal)}, {axis}", remedy)
    mean = signal.mean((0, 1))
    text = (
        f"to_nir: theta frozen at its mean, {span(mean)}; it runs from {span(signal)} with a standard deviation of "
        f"{signal.std(unbiased=False):.3g}, so spikes will differ: verify(graph, x, spikes=...) says how many"
    )
    warnings.warn(text, stacklevel=2)
    return mean


def _check_normalised(signal: Tensor, layer: LIFLayer, by_step: bool, scalable: bool) -> None:
    if by_step:
        why = "The leak would need theta[t] / theta[t + 1]; mode='frozen' takes the mean."
        raise fail(_WHERE, "a theta that is constant in time", f"{span(signal)} from step to step", why)
    if not scalable:
        what = "a theta per sample in the first layer only, and no bias or batch normalisation before it"
        raise fail(_WHERE, what, f"{span(signal)} elsewhere", "Only the first layer's input can be divided by theta.")
    if layer.v_rest != 0:
        raise fail(_WHERE, "v_rest = 0, which division by theta leaves as it is", f"v_rest = {layer.v_rest:g}")
    if signal.shape[2] > 1 and bool((signal != signal[..., :1]).any()):
        raise fail(_WHERE, "one theta for all neurons of a sample", f"{span(signal)} from neuron to neuron")
    if not bool((signal > 0).all()):
        raise fail(_WHERE, "theta above 0", span(signal))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format).numpy()
