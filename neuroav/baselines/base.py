"""The protocol that every model keeps."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from neuroav.data.types import Batch


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
