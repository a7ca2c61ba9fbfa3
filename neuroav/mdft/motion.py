"""MDFT's motion stream: event inputs (Eq. 4-5), discrepancy block (6), dynamic threshold (7), spiking layers (8-9).

Every choice that the paper's ablations vary is an object: what the events are made from (:class:`FrameEvents`,
:class:`FeatureEvents`, :class:`NoEvents`), how the threshold moves (:class:`AnchoredThreshold`,
:class:`ProductThreshold`, :class:`PrintedThreshold`, :class:`FixedThreshold`), how audio differs from events
(:class:`ElementwiseDiscrepancy`, :class:`PrintedDiscrepancy`) and what reads them (:class:`SpikingLayers`,
:class:`MLPLayers`). Each is a frozen description whose ``build`` makes the module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.checks import check_range, fail
from neuroav.events.camera import EventCamera
from neuroav.events.generate import bin_frames
from neuroav.events.types import Bins
from neuroav.neurons.dynamic import DynamicLIF
from neuroav.neurons.lif import Reset
from neuroav.neurons.surrogate import ATan, Surrogate
from neuroav.neurons.threshold import anchored, event_factor, product, scene_level
from neuroav.nn.activation import GELU, Levels, ReLU
from neuroav.nn.project import StepBatchNorm
from neuroav.nn.spiking import HeldThreshold, LayerTrace


class EventInput(NamedTuple):
    """Events as the motion stream reads them.

    Attributes:
        values: ``(T, B, D)``, zero where nothing happened.
        magnitude: ``(T, B, 1)`` or ``(T, B, D)``, how much happened: the ``|E|`` of Eq. 7, about 1 on average.
    """

    values: Tensor
    magnitude: Tensor


# ------------------------------------------------------------------------------------------------ events, Eq. 4-5


@dataclass(frozen=True, kw_only=True)
class FrameEvents:
    """Events from pixels: binned counts of the contrast-threshold model, mapped linearly to ``D``.

    Implements Eq. (4)-(5) of [mdft]. Differs from the paper: it gives ``E_v`` the size of an encoded feature without
    saying how pixels get there; here counts per polarity and grid cell are compressed by ``log(1 + n)`` and mapped by a
    bias-free layer, so that no events give exactly zero.
    """

    def build(self, dim: int, motion_shape: tuple[int, int, int] | None, events_per_step: float) -> nn.Module:
        """Make the module for counts of shape ``(P, H, W)``."""
        if motion_shape is None:
            raise fail(
                "FrameEvents", "a data set with event counts", "features only", "Use FeatureEvents() for such data."
            )
        return _FrameEvents(dim, math.prod(motion_shape), events_per_step)


class _FrameEvents(nn.Module):
    events_per_step: Tensor

    def __init__(self, dim: int, cells: int, events_per_step: float):
        super().__init__()
        self.linear = nn.Linear(cells, dim, bias=False)
        self.register_buffer("events_per_step", torch.tensor(max(float(events_per_step), 1.0)))

    def forward(self, video: Tensor, valid: Tensor, counts: Tensor | None) -> EventInput:
        if counts is None:
            raise fail("FrameEvents", "a batch with motion counts", "None", "Extract the clips with events.")
        flat = counts.flatten(2).to(video.dtype)
        return EventInput(self.linear(flat.log1p()), flat.sum(-1, keepdim=True) / self.events_per_step)


@dataclass(frozen=True, kw_only=True)
class FeatureEvents:
    """Events from encoded video features: crossings of a contrast threshold by the feature sequence itself.

    Implements Eq. (4)-(5) of [mdft] on ``v^t``, which needs no pixels. Differs from the paper: the printed
    ``dL >= p C`` holds for almost everything at ``p = -1``; here ``p dL >= C``, with as many events as thresholds were
    crossed and the reference moved to the last one (ESIM semantics [esim]). ``C`` is relative to each clip's own
    standard deviation of ``dL``, because features have no unit. No gradient passes the threshold. The event camera of
    :mod:`neuroav.events.generate` does the crossing, so a tie fires, here within 4e-6 of a threshold.

    Attributes:
        contrast: threshold in standard deviations.
        log_eps: ``L = log(v + log_eps)``.
    """

    contrast: float = 1.0
    log_eps: float = 1.0

    def build(self, dim: int, motion_shape: tuple[int, int, int] | None, events_per_step: float) -> nn.Module:
        """Make the module; sizes do not matter here."""
        check_range("FeatureEvents", "contrast", self.contrast, low=1e-3)
        return _FeatureEvents(self)


class _FeatureEvents(nn.Module):
    def __init__(self, config: FeatureEvents):
        super().__init__()
        self.config = config

    def forward(self, video: Tensor, valid: Tensor, counts: Tensor | None) -> EventInput:
        events = feature_events(video.detach(), valid, self.config.contrast, self.config.log_eps)
        return EventInput(events, events.abs())


SENSOR_CONTRAST = 2.0**-6  # exact in the units of float frames
MOST_STEPS = 2000  # thresholds from the first step that float frames can hold
SENSOR = EventCamera(contrast_on=SENSOR_CONTRAST, contrast_off=SENSOR_CONTRAST)


def feature_events(features: Tensor, valid: Tensor, contrast: float, log_eps: float = 1.0) -> Tensor:
    """Signed threshold crossings of a feature sequence; the first step of a clip has none.

    Args:
        features: ``(T, B, D)``, not negative (after a ReLU).
        valid: ``(T, B)`` bool.
        contrast: threshold, in standard deviations of the clip's step-to-step change of ``log(x + log_eps)``.
        log_eps: positive, keeps the logarithm finite.

    Returns:
        Integer-valued ``(T, B, D)``.
    """
    if len(features) == 1:
        return torch.zeros_like(features)
    level = torch.log(features + log_eps)
    both = (valid[1:] & valid[:-1]).unsqueeze(-1).to(level.dtype)
    change = (level[1:] - level[:-1]) * both
    count = (both.sum(0) * level.shape[-1]).clamp_min(1.0).sum(-1, keepdim=True)
    std = (change.square().sum((0, 2)).unsqueeze(-1) / count).sqrt()
    step = (contrast * std).clamp_min(1e-6)
    # Clips are rows of a sensor, features its columns; a threshold of the clip is one of the sensor.
    brightness = ((level - level[0]) / step).clamp(-MOST_STEPS, MOST_STEPS) * SENSOR_CONTRAST
    t_us = torch.arange(len(level), device=level.device)
    counts, _ = bin_frames(brightness, t_us, Bins("counts", t_us), SENSOR)
    events = (counts[:, 1] - counts[:, 0]) * valid[1:].unsqueeze(-1)
    return torch.cat([torch.zeros_like(level[:1]), events.to(level.dtype)])


@dataclass(frozen=True, kw_only=True)
class NoEvents:
    """The rows "MLP" and "SNN" of Table 2 of [mdft]: the motion layers read the video features themselves."""

    def build(self, dim: int, motion_shape: tuple[int, int, int] | None, events_per_step: float) -> nn.Module:
        """Make the module."""
        return _NoEvents()


class _NoEvents(nn.Module):
    def forward(self, video: Tensor, valid: Tensor, counts: Tensor | None) -> EventInput:
        return EventInput(video, video.abs())


# ----------------------------------------------------------------------------------- discrepancy analysis, Eq. 6


@dataclass(frozen=True, kw_only=True)
class ElementwiseDiscrepancy:
    """DAB: ``E_a = a + (1 - exp(-((E_v - a) / beta)^2))`` with one learnt ``beta > 0``.

    Implements Eq. (6) of [mdft]. Differs from the paper: the printed squared norm is one scalar of several hundred
    summed squares, whose exponential is 0 in every digit, so that ``E_a = a + 1``; the text speaks of a discrepancy
    *matrix*, hence the element-wise square. :class:`PrintedDiscrepancy` is the literal form.
    """

    def build(self) -> nn.Module:
        """Make the module."""
        return _Discrepancy(elementwise=True)


@dataclass(frozen=True, kw_only=True)
class PrintedDiscrepancy:
    """DAB with the squared norm over features as printed.

    Implements Eq. (6) of [mdft]. Differs from the paper: nothing; the result carries no information beyond ``a + 1``
    at the published widths.
    """

    def build(self) -> nn.Module:
        """Make the module."""
        return _Discrepancy(elementwise=False)


class _Discrepancy(nn.Module):
    def __init__(self, elementwise: bool):
        super().__init__()
        self.elementwise = elementwise
        self.raw_beta = nn.Parameter(torch.tensor(math.log(math.expm1(1.0))))  # softplus(raw_beta) = 1

    def forward(self, audio: Tensor, video_events: Tensor) -> Tensor:
        square = ((video_events - audio) / F.softplus(self.raw_beta)).square()
        if not self.elementwise:
            square = square.sum(-1, keepdim=True)
        return audio + (1.0 - torch.exp(-square))


# ------------------------------------------------------------------------------------- dynamic threshold, Eq. 7


@dataclass(frozen=True, kw_only=True)
class AnchoredThreshold:
    """``theta^t = v0 * clamp(phi^t + omega^t, low, high)``: bounded, positive, follows what happens in the scene.

    ``phi = sigmoid(mean S)``, ``omega = mean_d N_d log(1 / N_d + |E_d|)``, ``N = sigmoid(LN(S))``.

    Implements Eq. (7) of [mdft]. Differs from the paper: (1) the printed ``omega`` has the opposite sign of what the
    text asks for; (2) with ``N`` a softmax over features, ``1 / N`` is about ``D`` and drowns ``E``: omega is then a
    constant (standard deviation over clips .001), hence the sigmoid; (3) the printed product over time vanishes or
    explodes, hence the anchor ``v0``; (4) ``|E|`` is used, since ``E = -1`` can give ``log 0``; (5) the reduction to
    one number per clip and step, a mean, is not printed. On MotionScenes a fixed threshold does as well
    (``experiments/results/motion_readings.md``); the printed forms do worse.

    Attributes:
        v0: threshold at a factor of 1, in the membrane's unit (dimensionless).
        low: least factor.
        high: greatest factor.
    """

    v0: float = 0.5
    low: float = 0.5
    high: float = 2.0

    def build(self, dim: int) -> nn.Module:
        """Make the module for ``S`` of width ``dim``."""
        check_range("AnchoredThreshold", "v0", self.v0, low=1e-6)
        return _AnchoredThreshold(self, dim)


class _AnchoredThreshold(nn.Module):
    def __init__(self, config: AnchoredThreshold, dim: int):
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(dim)

    def factor(self, joint: Tensor, magnitude: Tensor) -> Tensor:
        return event_factor(joint, magnitude, torch.sigmoid(self.norm(joint)))

    def forward(self, joint: Tensor, magnitude: Tensor) -> Tensor:
        return anchored(self.factor(joint, magnitude), self.config.v0, self.config.low, self.config.high)


@dataclass(frozen=True, kw_only=True)
class ProductThreshold:
    """``theta^t = clamp((phi^t + omega^t) theta^{t-1}, low v0, high v0)``: the printed recursion, kept in bounds.

    Implements Eq. (7) of [mdft]. Differs from the paper: ``phi`` and ``omega`` as in :class:`AnchoredThreshold`, and
    the clamp; without it the product grows by a constant factor a step.

    Attributes:
        v0: threshold before the first step, in the membrane's unit (dimensionless).
        low: least threshold, in ``v0``.
        high: greatest threshold, in ``v0``.
    """

    v0: float = 0.5
    low: float = 0.5
    high: float = 2.0

    def build(self, dim: int) -> nn.Module:
        """Make the module for ``S`` of width ``dim``."""
        check_range("ProductThreshold", "v0", self.v0, low=1e-6)
        return _ProductThreshold(self, dim)


class _ProductThreshold(nn.Module):
    def __init__(self, config: ProductThreshold, dim: int):
        super().__init__()
        self.config = config
        self.anchored = _AnchoredThreshold(AnchoredThreshold(), dim)

    def forward(self, joint: Tensor, magnitude: Tensor) -> Tensor:
        factor = self.anchored.factor(joint, magnitude)
        return product(factor, self.config.v0, self.config.low, self.config.high)


@dataclass(frozen=True, kw_only=True)
class PrintedThreshold:
    """``theta^t = (phi^t + omega^t) theta^{t-1}`` as printed.

    ``omega = -N log(1 / N + E)``, ``N = softmax(S)``, ``phi = sigmoid(mean S)``.

    Implements Eq. (7) of [mdft]. Differs from the paper: ``E`` is the magnitude of the events, not their sign; ``N`` is
    read as a softmax over features, and the reduction over them is left open there: ``reduction="mean"`` makes the
    threshold vanish (about half a step), ``"sum"`` makes it negative and explode. For figures and comparison only.

    Attributes:
        v0: threshold before the first step, in the membrane's unit (dimensionless).
        reduction: ``"mean"`` or ``"sum"`` over features.
    """

    v0: float = 1.0
    reduction: str = "mean"

    def build(self, dim: int) -> nn.Module:
        """Make the module."""
        return _PrintedThreshold(self)


class _PrintedThreshold(nn.Module):
    def __init__(self, config: PrintedThreshold):
        super().__init__()
        self.config = config

    def forward(self, joint: Tensor, magnitude: Tensor) -> Tensor:
        share = torch.softmax(joint, -1)
        omega = -share * torch.log(1.0 / share + magnitude)
        omega = getattr(omega, self.config.reduction)(-1, keepdim=True)
        return self.config.v0 * torch.cumprod(scene_level(joint) + omega, dim=0)


@dataclass(frozen=True, kw_only=True)
class FixedThreshold:
    """One threshold for every clip and step: the fixed-threshold points of Fig. 5 of [mdft].

    Attributes:
        v_th: the threshold, in the membrane's unit (dimensionless).
    """

    v_th: float = 0.5

    def build(self, dim: int) -> nn.Module:
        """Make the module."""
        check_range("FixedThreshold", "v_th", self.v_th, low=1e-6)
        return HeldThreshold(self.v_th)


# --------------------------------------------------------------------------------------- what reads the events


@dataclass(frozen=True, kw_only=True)
class SpikingLayers:
    """Linear - BN - dynamic-threshold LIF, ``layers`` times; all share the threshold of Eq. (7).

    Implements Eq. (8)-(9) of [mdft]. Differs from the paper:

    * batch normalisation before each LIF, without which every neuron is silent at every useful threshold and stays so;
    * each step is presented ``repeats`` times, as in the group's earlier work, so that a step is answered by a rate
      and the membrane's memory is short against the motion: with one presentation and the same ``tau``, HM of the
      events alone falls from 46.5 to 31.6 % on MotionScenes (``experiments/results/motion_readings.md``);
    * every synapse comes once for each of ``delays``: a layer without delays weighs its past by one decaying kernel,
      and training finds the order of two inputs less well (HM 46.5 to 40.8 %);
    * time constants start at ``tau``, which the paper does not print, and are learnt for each neuron ([plif]).

    ``SpikingLayers(repeats=1, delays=(0,), normalise=False, learn_tau=False)`` is the printed network.

    Attributes:
        layers: number of layers.
        normalise: batch normalisation before each LIF.
        repeats: presentations ``R`` of each step.
        delays: synaptic delays in steps.
        tau: initial membrane time constant in presentations.
        learn_tau: whether training moves it, neuron by neuron.
        v_rest: resting potential.
        reset: ``"hard"`` (to ``v_rest``) or ``"soft"`` (minus the threshold).
        surrogate: derivative used for the spike in training.
    """

    layers: int = 3
    normalise: bool = True
    repeats: int = 4
    delays: tuple[int, ...] = (0, 1)
    tau: float = 2.0
    learn_tau: bool = True
    v_rest: float = 0.0
    reset: Reset = "hard"
    surrogate: Surrogate = field(default_factory=lambda: ATan(2.0))

    def __post_init__(self) -> None:
        _check_layers("SpikingLayers", self.layers, self.delays)
        check_range("SpikingLayers", "repeats", self.repeats, 1)

    @property
    def levels(self) -> int:
        """How many rates a neuron can answer a step with."""
        return self.repeats + 1

    def twin(self, activation: ReLU | GELU | Levels) -> MLPLayers:
        """The same synapses without spikes; they are normalised even if these are not."""
        return MLPLayers(layers=self.layers, delays=self.delays, activation=activation)

    def build(self, dim: int) -> nn.Module:
        """Make the module of width ``dim``."""
        return _SpikingLayers(self, dim)


class _SpikingLayers(nn.Module):
    def __init__(self, config: SpikingLayers, dim: int):
        super().__init__()
        self.repeats, self.delays = config.repeats, config.delays
        self.linear = nn.ModuleList(nn.Linear(dim * len(config.delays), dim) for _ in range(config.layers))
        norm = partial(StepBatchNorm, dim) if config.normalise else _AsIs
        self.norm = nn.ModuleList(norm() for _ in range(config.layers))
        self.neuron = nn.ModuleList(
            DynamicLIF(
                dim,
                tau=torch.full((dim,), config.tau),
                learn_tau=config.learn_tau,
                v_rest=config.v_rest,
                reset=config.reset,
                surrogate=config.surrogate,
            )
            for _ in range(config.layers)
        )

    def forward(self, x: Tensor, theta: Tensor, valid: Tensor) -> list[LayerTrace]:
        """Run ``x (T, B, D)`` under ``theta (T, B, 1)``; membranes start at rest and live for the whole clip."""
        held, seen = theta.repeat_interleave(self.repeats, 0), valid.repeat_interleave(self.repeats, 0)
        late = tuple(d * self.repeats for d in self.delays)
        trace: list[LayerTrace] = []
        for linear, norm, neuron in zip(self.linear, self.norm, self.neuron, strict=True):
            if trace:
                current = norm(linear(delayed(x, late)), seen)
            else:  # the same current at every presentation of a step: computed once
                current = norm(linear(delayed(x, self.delays)), valid).repeat_interleave(self.repeats, 0)
            x, _ = neuron(current, held)
            trace.append(LayerTrace(x, theta))
        return trace


class _AsIs(nn.Module):
    """No normalisation: what the paper prints."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        return x


@dataclass(frozen=True, kw_only=True)
class MLPLayers:
    """The non-spiking twin: Linear - BN - ReLU, ``layers`` times (rows "MLP" and "EGM+MLP" of Table 2 of [mdft]).

    The same synapses as :class:`SpikingLayers`, so that the twins differ in their neurons alone. Differs from the
    paper: synapses have delays and layers are normalised, as those of the spiking network here; without delays
    (``delays=(0,)``) the network has no memory, and most of its lead over the spiking one goes with it
    (``experiments/results/motion_readings.md``).

    Attributes:
        layers: number of layers.
        delays: synaptic delays in steps.
        activation: what stands in the place of the neurons.
    """

    layers: int = 3
    delays: tuple[int, ...] = (0, 1)
    activation: ReLU | GELU | Levels = field(default_factory=ReLU)

    def __post_init__(self) -> None:
        _check_layers("MLPLayers", self.layers, self.delays)

    def build(self, dim: int) -> nn.Module:
        """Make the module of width ``dim``."""
        return _MLPLayers(self, dim)


class _MLPLayers(nn.Module):
    def __init__(self, config: MLPLayers, dim: int):
        super().__init__()
        self.delays = config.delays
        self.linear = nn.ModuleList(nn.Linear(dim * len(config.delays), dim) for _ in range(config.layers))
        self.norm = nn.ModuleList(StepBatchNorm(dim) for _ in range(config.layers))
        self.activation = config.activation.build()

    def forward(self, x: Tensor, theta: Tensor | None, valid: Tensor) -> list[LayerTrace]:
        """Run ``x (T, B, D)``; there is no threshold."""
        trace = []
        for linear, norm in zip(self.linear, self.norm, strict=True):
            x = self.activation(norm(linear(delayed(x, self.delays)), valid))
            trace.append(LayerTrace(x, None))
        return trace


def _check_layers(where: str, layers: int, delays: tuple[int, ...]) -> None:
    check_range(where, "layers", layers, 1)
    if not delays or min(delays) < 0:
        raise fail(where, "delays of 0 or more steps, at least one", str(delays))


def delayed(x: Tensor, delays: tuple[int, ...]) -> Tensor:
    """Copies of ``x (T, B, N)``, each ``delay`` steps late, side by side: ``(T, B, N * len(delays))``.

    Example:
        >>> delayed(torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1), (0, 1)).squeeze(1).tolist()
        [[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]]
    """
    if delays == (0,):
        return x
    return torch.cat([F.pad(x, (0, 0, 0, 0, d, 0))[: x.shape[0]] for d in delays], -1)


def running_mean(x: Tensor, valid: Tensor) -> Tensor:
    """The accumulation layer: mean of ``x (T, B, N)`` over the valid steps up to and including each step."""
    weight = valid.to(x.dtype).unsqueeze(-1)
    return (x * weight).cumsum(0) / weight.cumsum(0).clamp_min(1.0)
