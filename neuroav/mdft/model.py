"""MDFT: a scene stream (encoders, RJLU), a motion stream (events, dynamic-threshold SNN), joined by the CRM."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuroav.baselines.base import Card
from neuroav.checks import check_range, fail
from neuroav.data.types import Batch, DataSpec
from neuroav.mdft.fusion import CRM, Late, MotionPath
from neuroav.mdft.motion import (
    AnchoredThreshold,
    ElementwiseDiscrepancy,
    FeatureEvents,
    FixedThreshold,
    FrameEvents,
    LayerTrace,
    MLPLayers,
    NoEvents,
    PrintedDiscrepancy,
    PrintedThreshold,
    ProductThreshold,
    SpikingLayers,
    running_mean,
)
from neuroav.mdft.scene import RJLU
from neuroav.nn.activation import GELU, Levels, ReLU
from neuroav.nn.attention import masked_mean
from neuroav.nn.losses import HeadsConfig, JointHeads
from neuroav.nn.project import MLP


@dataclass(frozen=True, kw_only=True)
class MDFTConfig:
    """Widths and parts of MDFT; every ablation of the paper is another object in one of these fields.

    Defaults are the paper's UCF settings (section 3.4 of [mdft]). ``None`` leaves a part out: ``motion=None`` is
    "w/o MIM", ``scene=None`` "w/o RJLN", ``fusion=None`` "w/o CRM" (Table 3). ``motion=MLPLayers()`` is "EGM+MLP",
    with ``events=NoEvents()`` "MLP" (Table 2). ``modalities=("audio",)`` and ``("video",)`` are the unimodal inputs of
    Fig. 5. ``context=False`` lets the motion stream alone make the embedding.

    Differs from the paper: see each part's own line.

    Attributes:
        dim: ``T_in = T_hid``; must be divisible by the attention heads and the RJLU's tokens.
        dropout: ``d_enc``.
        modalities: which inputs there are.
        context: whether the scene stream's features reach the embedding; ``False`` is the "events only" control.
        events: what the motion stream reads.
        discrepancy: the DAB.
        threshold: Eq. (7).
        motion: the layers that read the events.
        motion_path: how their output enters the CRM.
        scene: the RJLU.
        fusion: the CRM.
        heads: projections and losses, Eq. (12)-(15).
    """

    dim: int = 512
    dropout: float = 0.25
    modalities: tuple[str, ...] = ("audio", "video")
    context: bool = True
    events: FrameEvents | FeatureEvents | NoEvents = field(default_factory=FrameEvents)
    discrepancy: ElementwiseDiscrepancy | PrintedDiscrepancy = field(default_factory=ElementwiseDiscrepancy)
    threshold: AnchoredThreshold | ProductThreshold | PrintedThreshold | FixedThreshold = field(
        default_factory=AnchoredThreshold
    )
    motion: SpikingLayers | MLPLayers | None = field(default_factory=SpikingLayers)
    motion_path: MotionPath = field(default_factory=Late)
    scene: RJLU | None = field(default_factory=RJLU)
    fusion: CRM | None = field(default_factory=CRM)
    heads: HeadsConfig = field(default_factory=HeadsConfig)

    def __post_init__(self) -> None:
        check_range("MDFTConfig", "dim", self.dim, 1)
        check_range("MDFTConfig", "dropout", self.dropout, 0, 1)

    @property
    def levels(self) -> int:
        """How many rates a spiking neuron can answer a step with; 0 without spikes."""
        return self.motion.levels if isinstance(self.motion, SpikingLayers) else 0

    def twin(self, activation: ReLU | GELU | Levels) -> MDFTConfig:
        """The same network without spikes, and so without a threshold.

        Raises:
            InputError: If it has no spikes to begin with.
        """
        if not isinstance(self.motion, SpikingLayers):
            raise fail("MDFTConfig.twin", "a motion stream of SpikingLayers", type(self.motion).__name__)
        return replace(self, motion=self.motion.twin(activation), threshold=AnchoredThreshold())


class Represented(NamedTuple):
    """What a forward pass leaves behind.

    Attributes:
        clip: ``(B, D)``, what the projection head reads.
        traces: per modality the motion layers' outputs and thresholds; empty without a motion stream.
        valid: ``(T, B)`` bool.
    """

    clip: Tensor
    traces: dict[str, list[LayerTrace]]
    valid: Tensor


class MDFT(nn.Module):
    """Motion-decoupled spiking transformer [mdft].

    Audio and video steps must be aligned, as the DAB compares them step by step.

    Args:
        spec: sizes of the data.
        config: widths and parts.
    """

    Config = MDFTConfig
    CARD = Card(title="MDFT", paper="mdft", year=2023, inputs="temporal", spiking=True, rows=("mdft.table1",))

    def __init__(self, spec: DataSpec, config: MDFTConfig | None = None):
        super().__init__()
        self.config = config = MDFTConfig() if config is None else config
        dim, names = config.dim, config.modalities
        if not names or set(names) - {"audio", "video"}:
            raise fail("MDFT", "modalities out of 'audio', 'video'", repr(names))
        if not config.context and config.motion is None:
            raise fail("MDFT", "a scene or a motion stream", "context=False and motion=None")
        if len(names) > 1:
            spec.need_shared_steps("MDFT")
        widths = {"audio": spec.audio_dim, "video": spec.video_dim}
        self.encoder = nn.ModuleDict({m: MLP(widths[m], dim, dim, dropout=config.dropout) for m in self._encoded()})
        self.scene = None if config.scene is None else config.scene.build(dim, names)
        self.crm = None
        if config.fusion is not None and config.context:
            self.crm = config.fusion.build(dim, names, None if config.motion is None else config.motion_path)
        if config.motion is not None:
            self._build_motion(spec)
        self.heads = JointHeads(dim * self._num_pooled(), spec.text_dim, config.heads)

    def _encoded(self) -> tuple[str, ...]:
        """Modalities whose features something reads; events from pixels need no encoded video."""
        if self.config.context or self.config.scene is not None:
            return self.config.modalities
        needed = {"audio"} if isinstance(self.config.events, FrameEvents) else {"audio", "video"}
        return tuple(m for m in self.config.modalities if m in needed)

    def _build_motion(self, spec: DataSpec) -> None:
        config = self.config
        assert config.motion is not None
        if "video" in config.modalities:
            self.events = config.events.build(config.dim, spec.motion_shape, spec.events_per_step)
        if "audio" in config.modalities:
            self.discrepancy = config.discrepancy.build()
        self.motion = nn.ModuleDict({m: config.motion.build(config.dim) for m in config.modalities})
        if isinstance(config.motion, SpikingLayers):
            self.threshold = nn.ModuleDict({m: config.threshold.build(config.dim) for m in config.modalities})

    def _joins_motion(self) -> bool:
        """Whether the motion stream's mean output goes to the head directly."""
        return self.config.motion is not None and (self.crm is None or self.config.motion_path.joins_output)

    def _num_pooled(self) -> int:
        """How many ``D``-vectors the head reads; see :meth:`_pool`."""
        streams = len(self.config.modalities)
        context = 0 if not self.config.context else 1 if self.crm is not None else streams + (self.scene is not None)
        return context + streams * self._joins_motion()

    def represent(self, batch: Batch) -> Represented:
        """Everything up to the projection heads.

        Raises:
            InputError: If audio and video have different numbers of steps.
        """
        valid = getattr(batch, self.config.modalities[0]).valid
        inputs = {m: getattr(batch, m).values for m in self.encoder}
        features = {m: self.encoder[m](x, valid) for m, x in inputs.items()}
        summary, knowledge = self._scene(features, valid)
        traces = self._motion(batch, features, summary, valid)
        motion = {m: running_mean(trace[-1].per_step(len(valid)), valid) for m, trace in traces.items()}
        return Represented(torch.cat(self._pool(features, motion, knowledge, valid), -1), traces, valid)

    def _scene(self, features: dict[str, Tensor], valid: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """``S`` and ``h``; without the RJLU, ``S`` is the mean of the encoded features and there is no ``h``."""
        if self.scene is not None:
            return self.scene(features, valid)
        return (torch.stack(list(features.values())).mean(0) if features else None), None

    def _motion(
        self, batch: Batch, features: dict[str, Tensor], summary: Tensor | None, valid: Tensor
    ) -> dict[str, list[LayerTrace]]:
        if self.config.motion is None:
            return {}
        inputs: dict[str, tuple[Tensor, Tensor]] = {}
        if "video" in self.config.modalities:
            counts = None if batch.motion is None else batch.motion.values
            events = self.events(features.get("video", batch.video.values), valid, counts)
            inputs["video"] = tuple(events)
        if "audio" in self.config.modalities:
            audio = features["audio"]
            seen = inputs["video"][0] if "video" in inputs else torch.zeros_like(audio)
            differs = self.discrepancy(audio, seen)
            inputs["audio"] = (differs, differs.abs())
        traces = {}
        for name, (values, magnitude) in inputs.items():
            theta = None
            if isinstance(self.config.motion, SpikingLayers):
                theta = self.threshold[name](values if summary is None else summary, magnitude)
            traces[name] = self.motion[name](values, theta, valid)
        return traces

    def _pool(
        self, features: dict[str, Tensor], motion: dict[str, Tensor], knowledge: Tensor | None, valid: Tensor
    ) -> list[Tensor]:
        """``D``-vectors for the head: reasoned or averaged context, then the motion output at each clip's last step."""
        pooled = []
        if self.crm is not None:
            pooled.append(self.crm(features, motion, knowledge, valid))
        elif self.config.context:
            context = [*features.values()] if knowledge is None else [*features.values(), knowledge]
            pooled += [masked_mean(x, valid) for x in context]
        if self._joins_motion():
            last = (valid.sum(0) - 1).clamp_min(0)
            pooled += [m[last, torch.arange(m.shape[1], device=m.device)] for m in motion.values()]
        return pooled

    def activity(self, batch: Batch) -> tuple[dict[str, LayerTrace], Tensor]:
        """Output and threshold of every spiking layer, named ``video.0`` ...; and ``valid (T, B)``."""
        represented = self.represent(batch)
        spiking = isinstance(self.config.motion, SpikingLayers)
        traces = represented.traces.items() if spiking else ()
        return {f"{m}.{i}": layer for m, layers in traces for i, layer in enumerate(layers)}, represented.valid

    def loss(self, batch: Batch, negatives: Tensor) -> dict[str, Tensor]:
        """See :meth:`~neuroav.nn.losses.JointHeads.loss`."""
        return self.heads.loss(self.represent(batch).clip, batch.text, negatives)

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` between ``O_av`` and the projected ``class_vectors (K, D_text)``."""
        return self.heads.distances(self.represent(batch).clip, class_vectors)

    def embeddings(self, batch: Batch, class_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Clips ``(B, D)`` and classes ``(K, D)`` in the space where distances are taken."""
        return self.heads.embeddings(self.represent(batch).clip, class_vectors)
