"""AVMST: a spiking branch beside each encoder gates what it encodes; the rest is AVCA's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from neuroav.baselines.base import Card, averages
from neuroav.checks import check_range, fail
from neuroav.data.types import Batch, DataSpec
from neuroav.neurons.dynamic import DynamicLIF
from neuroav.neurons.lif import LIFState
from neuroav.neurons.surrogate import ATan, Sigmoid, Surrogate
from neuroav.neurons.threshold import anchored
from neuroav.nn import pair
from neuroav.nn.activation import GELU, Levels, ReLU
from neuroav.nn.attention import masked_mean
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.pair import Pair, PairConfig, PairNetwork
from neuroav.nn.project import StepBatchNorm
from neuroav.nn.spiking import HeldThreshold, LayerTrace

States = tuple[LIFState | None, ...]
AT_REST: States = (None, None)


class Clips(NamedTuple):
    """What is known of ``B`` clips.

    Attributes:
        audio: ``(B, D_audio)`` averages.
        video: ``(B, D_video)`` averages.
        text: ``(B, D_text)`` class vectors.
        heard: ``(B, T, D_audio)``, what the spiking branch of audio is shown.
        seen: ``(B, T, D_video)``, what that of video is shown.
        valid: ``(B, T)`` bool.
    """

    audio: Tensor
    video: Tensor
    text: Tensor
    heard: Tensor
    seen: Tensor
    valid: Tensor


# ------------------------------------------------------------------------------------------------------------- neurons


@dataclass(frozen=True, kw_only=True)
class NoLeak:
    """Neurons that add up their input and forget nothing, those of the released code; hard reset to 0."""

    surrogate: Surrogate = field(default_factory=lambda: Sigmoid(4.0))
    detach_reset: bool = True

    def build(self, num_neurons: int) -> DynamicLIF:
        """Make a layer."""
        return DynamicLIF(num_neurons, beta=1.0, gain="unit", surrogate=self.surrogate, detach_reset=self.detach_reset)


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Neurons that forget with one time constant ``tau``, in presentations."""

    tau: float = 2.0
    surrogate: Surrogate = field(default_factory=lambda: ATan(2.0))

    def build(self, num_neurons: int) -> DynamicLIF:
        """Make a layer."""
        return DynamicLIF(num_neurons, tau=self.tau, surrogate=self.surrogate)


@dataclass(frozen=True, kw_only=True)
class LearntLeak:
    """Neurons that each learn how fast they forget, from ``tau`` on, in presentations [plif]."""

    tau: float = 2.0
    surrogate: Surrogate = field(default_factory=lambda: ATan(2.0))

    def build(self, num_neurons: int) -> DynamicLIF:
        """Make a layer."""
        return DynamicLIF(
            num_neurons, tau=torch.full((num_neurons,), self.tau), learn_tau=True, surrogate=self.surrogate
        )


@dataclass(frozen=True, kw_only=True)
class NoSpikes:
    """An activation in the place of neurons: the non-spiking twin. It has no state, and the threshold is not looked at.

    Attributes:
        activation: which.
    """

    activation: ReLU | GELU | Levels = field(default_factory=ReLU)

    def build(self, num_neurons: int) -> nn.Module:
        """Make a layer."""
        return _NoSpikes(self.activation.build())


class _NoSpikes(nn.Module):
    def __init__(self, activation: nn.Module):
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor, theta: Tensor, state: None) -> tuple[Tensor, None]:
        return self.activation(x), None


@dataclass(frozen=True, kw_only=True)
class SemanticThreshold:
    """``theta = v0 * clamp(2 sigmoid(w x + b), low, high)`` from what a clip's encoder says, ``x``; one per modality.

    The abstract of [avmst] says that semantic cues of the modalities move the threshold and its code has none of it;
    the form is ours, bounded as in :class:`~neuroav.mdft.motion.AnchoredThreshold`. It starts near ``v0``.
    """

    v0: float = 1.0
    low: float = 0.5
    high: float = 2.0

    def build(self, dim: int) -> nn.Module:
        """Make the module for encoded clips of width ``dim``."""
        check_range("SemanticThreshold", "v0", self.v0, low=1e-6)
        return _SemanticThreshold(self, dim)


class _SemanticThreshold(nn.Module):
    def __init__(self, config: SemanticThreshold, dim: int):
        super().__init__()
        self.config = config
        self.linear = nn.Linear(dim, 1)

    def forward(self, encoded: Tensor) -> Tensor:
        c = self.config
        return anchored(2 * torch.sigmoid(self.linear(encoded)), c.v0, c.low, c.high)


@dataclass(frozen=True, kw_only=True)
class FixedThreshold:
    """One threshold for every clip, as in the released code."""

    v_th: float = 1.0

    def build(self, dim: int) -> nn.Module:
        """Make the module."""
        check_range("FixedThreshold", "v_th", self.v_th, low=1e-6)
        return HeldThreshold(self.v_th)


# ------------------------------------------------------------------------------------------------------------ branches


class Branch(nn.Module):
    """Two layers, Linear and neurons, with a normalisation between that may be left out.

    Args:
        widths: of the input, of the hidden layer and of the output.
        neurons: kind of neuron.
        normalise: batch normalisation before the neurons.
    """

    def __init__(self, widths: tuple[int, int, int], neurons: NoLeak | Leak | LearntLeak | NoSpikes, normalise: bool):
        super().__init__()
        self.linear = nn.ModuleList([nn.Linear(widths[0], widths[1]), nn.Linear(widths[1], widths[2])])
        self.norm = nn.ModuleList([StepBatchNorm(width) for width in widths[1:]] if normalise else [])
        self.neuron = nn.ModuleList([neurons.build(width) for width in widths[1:]])

    def forward(
        self, x: Tensor, valid: Tensor, theta: Tensor, repeats: int, states: States
    ) -> tuple[list[Tensor], States]:
        """Spikes ``(T * R, B, N)`` of both layers, and their states in the end.

        Args:
            x: ``(T, B, D)``.
            valid: ``(T, B)`` bool, what normalisation counts.
            theta: ``(1, B, 1)``.
            repeats: presentations ``R`` of each step.
            states: of both layers.
        """
        spikes, after = [], []
        for i, (linear, neuron, state) in enumerate(zip(self.linear, self.neuron, states, strict=True)):
            x = linear(x)
            if self.norm:
                x = self.norm[i](x, valid)
            if i == 0:  # the same current at every presentation of a step: computed once
                x, valid = x.repeat_interleave(repeats, 0), valid.repeat_interleave(repeats, 0)
            x, state = neuron(x, theta, state)
            spikes.append(x)
            after.append(state)
        return spikes, tuple(after)


class Spikes(NamedTuple):
    """What the layers of both branches did."""

    audio: list[LayerTrace]
    video: list[LayerTrace]


class OwnBranches(nn.Module):
    """A branch for each modality, at rest before each clip, under a threshold of its own."""

    def __init__(self, spec: DataSpec, dim: int, reading: AsPublished):
        super().__init__()
        self.repeats = reading.repeats
        self.audio, self.video = (
            Branch((width, reading.hidden, dim), reading.neurons, reading.normalise)
            for width in (spec.audio_dim, spec.video_dim)
        )
        self.audio_threshold, self.video_threshold = (reading.threshold.build(dim) for _ in range(2))

    def forward(self, batches: Sequence[Clips], encoded: Sequence[Pair]) -> list[Spikes]:
        """Run batches in turn; ``encoded`` is what their thresholds follow."""
        return [
            Spikes(
                self._run(self.audio, clips.heard, clips.valid, self.audio_threshold(each.audio)),
                self._run(self.video, clips.seen, clips.valid, self.video_threshold(each.video)),
            )
            for clips, each in zip(batches, encoded, strict=True)
        ]

    def _run(self, branch: Branch, shown: Tensor, valid: Tensor, theta: Tensor) -> list[LayerTrace]:
        spikes, _ = branch(shown.transpose(0, 1), valid.t(), theta[None], self.repeats, AT_REST)
        return [LayerTrace(each, theta.expand(shown.shape[1], -1, -1)) for each in spikes]


class StraySteps(nn.Module):
    """The branches as the released code runs them; see :class:`AVMST`. Their weights are drawn and never trained."""

    def __init__(self, spec: DataSpec, dim: int, reading: AsReleased):
        super().__init__()
        if spec.audio_dim != spec.video_dim:
            raise fail(
                "AVMST", "audio and video of one width", f"{spec.audio_dim} and {spec.video_dim}",
                "As released, video passes the branch of audio; AsPublished() has one for each.",
            )  # fmt: skip
        self.repeats = reading.repeats
        neurons = NoLeak(detach_reset=False)
        self.audio, self.video = (Branch((spec.audio_dim, reading.hidden, dim), neurons, False) for _ in range(2))
        _freeze(self)

    def forward(self, batches: Sequence[Clips], encoded: Sequence[Pair]) -> list[Spikes]:
        """Run batches in turn, each from the membranes that the one before left."""
        found, hearing, seeing = [], AT_REST, AT_REST
        for clips in batches:
            theta = clips.audio.new_ones(1, len(clips.audio), 1)
            heard, seen, valid = clips.heard.transpose(0, 1), clips.seen.transpose(0, 1), clips.valid.t()
            spikes, hearing = self.audio(heard, valid, theta, self.repeats, hearing)
            first, seeing = self.video(seen, valid, theta, 1, seeing)
            stray, hearing = self.audio(seen, valid, theta, self.repeats - 1, hearing)
            both = [torch.cat(parts) for parts in zip(first, stray, strict=True)]
            found.append(Spikes(*([LayerTrace(each, theta) for each in layers] for layers in (spikes, both))))
        return found


def _freeze(module: nn.Module) -> None:
    """Turn parameters into buffers: saved with the model, never trained."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())


# ------------------------------------------------------------------------------------------------------------- readings


@dataclass(frozen=True, kw_only=True)
class AsPublished(pair.AsPublished):
    """What the abstract of the paper describes, in so far as it does; see :class:`AVMST`.

    Attributes:
        hidden: hidden width of the spiking branches.
        repeats: presentations of each step of a clip.
        neurons: kind of neuron.
        threshold: what their threshold follows.
        normalise: batch normalisation before the neurons.
    """

    hidden: int = 512
    repeats: int = 4
    neurons: NoLeak | Leak | LearntLeak | NoSpikes = field(default_factory=NoLeak)
    threshold: SemanticThreshold | FixedThreshold = field(default_factory=SemanticThreshold)
    normalise: bool = True
    kept: ClassVar[tuple[int, int]] = (0, 0)

    def __post_init__(self) -> None:
        for name in ("hidden", "repeats"):
            check_range("AsPublished", name, getattr(self, name), 1)
        if isinstance(self.neurons, NoSpikes) and (self.repeats > 1 or not isinstance(self.threshold, FixedThreshold)):
            what = "repeats=1 and FixedThreshold() with NoSpikes(), which answers every presentation alike"
            raise fail("AsPublished", what, f"repeats={self.repeats}, {type(self.threshold).__name__}", "See twin().")

    @property
    def levels(self) -> int:
        """How many rates a spiking neuron can answer a step with; 0 without spikes."""
        return 0 if isinstance(self.neurons, NoSpikes) else self.repeats + 1

    def twin(self, activation: ReLU | GELU | Levels) -> AsPublished:
        """The same branches without spikes: no threshold, and each step presented once.

        Raises:
            InputError: If they have no spikes to begin with.
        """
        if not self.levels:
            raise fail("AsPublished.twin", "branches of spiking neurons", type(self.neurons).__name__)
        return replace(self, neurons=NoSpikes(activation=activation), threshold=FixedThreshold(), repeats=1)

    def build(self, spec: DataSpec, dim: int) -> nn.Module:
        """Make the spiking branches.

        Raises:
            InputError: If audio and video have steps of their own.
        """
        spec.need_shared_steps("AVMST")
        return OwnBranches(spec, dim, self)

    def clips(self, batch: Batch) -> Clips:
        """The branches are shown a clip's steps."""
        steps = (batch.audio.values.transpose(0, 1), batch.video.values.transpose(0, 1), batch.video.valid.t())
        return Clips(*averages(batch), batch.text, *steps)

    def gate(self, rate: Tensor) -> Tensor:
        """What a rate ``(B, D)`` multiplies encoded features by: a softmax over features, 1 in the mean."""
        return rate.softmax(-1) * rate.shape[-1]


@dataclass(frozen=True, kw_only=True)
class AsReleased(pair.AsReleased):
    """The released code with its errors (``Experiment(inputs=AsStored())``); see :class:`AVMST`.

    Attributes:
        hidden: hidden width of the spiking branches.
        repeats: presentations of a clip's averages.
    """

    hidden: int = 512
    repeats: int = 10
    kept: ClassVar[tuple[int, int]] = (0, 1)

    def __post_init__(self) -> None:
        check_range("AsReleased", "hidden", self.hidden, 1)
        check_range("AsReleased", "repeats", self.repeats, 2)

    @property
    def levels(self) -> int:
        """How many rates a spiking neuron can answer a clip with."""
        return self.repeats + 1

    def twin(self, activation: ReLU | GELU | Levels) -> AsPublished:
        """There is none.

        Raises:
            InputError: Always.
        """
        remedy = "Take those of AsPublished()."
        raise fail("AsReleased.twin", "branches that are trained", "those of the released code, which are not", remedy)

    def build(self, spec: DataSpec, dim: int) -> nn.Module:
        """Make the spiking branches."""
        return StraySteps(spec, dim, self)

    def clips(self, batch: Batch) -> Clips:
        """The branches are shown a clip's averages."""
        audio, video = averages(batch)
        valid = torch.ones(len(audio), 1, dtype=torch.bool, device=audio.device)
        return Clips(audio, video, batch.text, audio[:, None], video[:, None], valid)

    def gate(self, rate: Tensor) -> Tensor:
        """Softmax over features, which is about ``1 / D`` each."""
        return rate.softmax(-1)


@dataclass(frozen=True, kw_only=True)
class AVMSTConfig(PairConfig):
    """Sizes and dropouts of AVCA, which the released run scripts use unchanged; the spiking part is the reading's.

    Attributes:
        reading: the paper's description, or the released code with its errors.
    """

    reading: AsPublished | AsReleased = field(default_factory=AsPublished)

    @property
    def levels(self) -> int:
        """How many rates a spiking neuron can answer a step with; 0 without spikes."""
        return self.reading.levels

    def twin(self, activation: ReLU | GELU | Levels) -> AVMSTConfig:
        """The same network without spikes.

        Raises:
            InputError: If it has none to begin with, or the reading has no twin.
        """
        return replace(self, reading=self.reading.twin(activation))


class AVMST(PairNetwork):
    """Each modality is encoded twice, by an MLP from its average and by a spiking branch from its steps.

    The rate of the branch gates what the encoder says; one attention layer takes both, ungated and gated, as two
    tokens, and what leaves it takes the place of the encoded modality in AVCA's network, with AVCA's losses, and
    distances by the video embedding.

    Only the abstract of [avmst] and facts of its released code were at hand: the default is what the abstract says,
    with the code's sizes. Differs from the paper: batch normalisation before the neurons, without which the second
    layer of leaky ones is silent at first (65 to 80 % of its neurons on MotionScenes; neurons without leak fire either
    way); steps presented four times; the form of the threshold (:class:`SemanticThreshold`); the gate has a mean of 1,
    so that it does not take the token away. ``neurons``, ``threshold`` and ``normalise`` of the reading choose others.

    The released code does otherwise in these points, all of them in ``reading=AsReleased()``, besides those that
    :class:`~neuroav.nn.pair.PairNetwork` lists:

    * Branches are shown the average of a clip ten times, so that there is no order of time; here its steps.
    * Of these ten, video's steps 2 to 10 pass the branch of *audio*. Widths have to be equal.
    * Membranes are carried on from audio to video to the negatives' audio to their video; here each begins at rest.
    * Branches are drawn and never trained.
    * The threshold is 1 throughout, there is no normalisation, and the reset is part of the gradient.
    * The gate is a softmax over 300 features, about 1/300.
    * Audio goes on with the ungated token, video with the gated one; here both with the ungated.
    """

    Config = AVMSTConfig
    CARD = Card(title="AVMST", paper="avmst", year=2023, inputs="temporal", spiking=True, rows=("sacma.table2",))

    config: AVMSTConfig

    def __init__(self, spec: DataSpec, config: AVMSTConfig | None = None):
        config = AVMSTConfig() if config is None else config
        super().__init__(spec.audio_dim, spec.video_dim, spec.text_dim, config)
        self.branches = config.reading.build(spec, config.dim)

    def encode(self, batches: Sequence[Any]) -> list[Pair]:
        """Tokens that spikes have gated, ``(B, D)`` each, of batches of :class:`Clips` that pass each block in turn."""
        encoded = super().encode(batches)
        spikes = self.branches(batches, encoded)
        return [self._gated(*each) for each in zip(encoded, spikes, batches, strict=True)]

    def _gated(self, encoded: Pair, spikes: Spikes, clips: Clips) -> Pair:
        valid, reading, tokens = clips.valid.t(), self.config.reading, []
        for i, (x, traces) in enumerate(zip(encoded, spikes, strict=True)):
            rate = masked_mean(traces[-1].per_step(len(valid)), valid)
            attended = self.layer(torch.stack([x, x * reading.gate(rate)]) + self.position[i])
            tokens.append(attended[reading.kept[i]])
        return Pair(*tokens)

    def activity(self, batch: Batch) -> tuple[dict[str, LayerTrace], Tensor]:
        """Spikes and threshold of every spiking layer, named ``video.0`` ...; and ``valid (T, B)``.

        As released, ``T`` is 1: the average of a clip, presented ten times.
        """
        clips: Any = self.config.reading.clips(batch)
        if not self.config.levels:
            return {}, clips.valid.t()
        (spikes,) = self.branches([clips], super().encode([clips]))
        layers = {"audio": spikes.audio, "video": spikes.video}
        return {f"{m}.{i}": trace for m, traces in layers.items() for i, trace in enumerate(traces)}, clips.valid.t()

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """See :meth:`~neuroav.nn.pair.PairNetwork.terms`."""
        clips: Any = self.config.reading.clips(batch)
        return self.terms(*self.config.reading.embed(self, clips, negatives))

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` of video embeddings to the projected ``class_vectors (K, D_text)``."""
        return prototype_distances(*self.embeddings(batch, class_vectors))

    def embeddings(self, batch: Batch, class_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Clips ``(B, D)`` and classes ``(K, D)`` in the space where distances are taken."""
        clips: Any = self.config.reading.clips(batch)
        return self.prototypes(clips, class_vectors)

    def after_step(self, batch: Batch, negatives: Tensor) -> None:
        """See :meth:`~neuroav.nn.pair.PairNetwork.follow_step`."""
        clips: Any = self.config.reading.clips(batch)
        self.follow_step(clips)
