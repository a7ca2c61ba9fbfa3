"""PooledMLP: a control without time. Inputs are averaged over the clip, then projected by the same heads as MDFT's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from neuroav.baselines.base import Card
from neuroav.checks import check_range, fail
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.attention import masked_mean
from neuroav.nn.losses import HeadsConfig, JointHeads
from neuroav.nn.project import MLP


@dataclass(frozen=True, kw_only=True)
class PooledMLPConfig:
    """Parts of the control.

    Attributes:
        inputs: out of ``audio``, ``video``, ``motion``.
        dim: width of each input's encoder.
        dropout: in the encoders.
        heads: projections and loss.
    """

    inputs: tuple[str, ...] = ("audio", "video", "motion")
    dim: int = 512
    dropout: float = 0.25
    heads: HeadsConfig = field(default_factory=HeadsConfig)

    def __post_init__(self) -> None:
        check_range("PooledMLPConfig", "dim", self.dim, 1)
        check_range("PooledMLPConfig", "dropout", self.dropout, 0, 1)


class PooledMLP(nn.Module):
    """Time-averaged inputs, one encoder each, one joint embedding.

    The control that shows what a time-averaged event map alone gives away: a model with a motion stream has to beat it
    before its neurons or its recurrence deserve credit.
    """

    Config = PooledMLPConfig
    CARD = Card(title="Pooled MLP", inputs="averaged")

    def __init__(self, spec: DataSpec, config: PooledMLPConfig | None = None):
        super().__init__()
        config = PooledMLPConfig() if config is None else config
        widths = {"audio": spec.audio_dim, "video": spec.video_dim, "motion": math.prod(spec.motion_shape or (0,))}
        if not config.inputs or any(not widths.get(m) for m in config.inputs):
            raise fail("PooledMLP", "inputs out of 'audio', 'video', 'motion' that the data have", repr(config.inputs))
        self.encoder = nn.ModuleDict({m: MLP(widths[m], config.dim, dropout=config.dropout) for m in config.inputs})
        self.heads = JointHeads(config.dim * len(config.inputs), spec.text_dim, config.heads)

    def represent(self, batch: Batch) -> Tensor:
        """Encoded time averages side by side, ``(B, D)``."""
        parts = []
        for name, encoder in self.encoder.items():
            sequence = getattr(batch, name)
            values = sequence.values.flatten(2).log1p() if name == "motion" else sequence.values
            parts.append(encoder(masked_mean(values, sequence.valid)))
        return torch.cat(parts, -1)

    def loss(self, batch: Batch, negatives: Tensor) -> dict[str, Tensor]:
        """See :meth:`~neuroav.nn.losses.JointHeads.loss`."""
        return self.heads.loss(self.represent(batch), batch.text, negatives)

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` to the projected ``class_vectors (K, D_text)``."""
        return self.heads.distances(self.represent(batch), class_vectors)

    def embeddings(self, batch: Batch, class_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Clips ``(B, D)`` and classes ``(K, D)`` in the space where distances are taken."""
        return self.heads.embeddings(self.represent(batch), class_vectors)
