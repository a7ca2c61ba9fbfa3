"""The protocol that every model keeps, and what a model may know of the data before it is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from neuroav.data.types import Batch


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Sizes and one statistic of a training set, saved with each run.

    Attributes:
        audio_dim: width of the audio features.
        video_dim: width of the video features.
        text_dim: width of the class vectors.
        motion_shape: ``(P, H, W)`` of the event counts, or ``None`` without pixels.
        events_per_step: mean number of events per valid step of the training clips.
    """

    audio_dim: int
    video_dim: int
    text_dim: int
    motion_shape: tuple[int, int, int] | None = None
    events_per_step: float = 1.0


@runtime_checkable
class AVModel(Protocol):
    """What training and evaluation ask of a model (an ``nn.Module``)."""

    def loss(self, batch: Batch, negatives: Tensor) -> dict[str, Tensor]:
        """Named loss terms, already weighted; their sum is minimised.

        ``negatives (B,)`` int64 names, for each clip, a clip of another class in the same batch.
        """
        ...

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """``(B, K)`` distances to classes given by ``class_vectors (K, D_text)``; lower is nearer."""
        ...
