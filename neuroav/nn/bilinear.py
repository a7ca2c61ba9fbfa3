"""The bilinear map of classical zero-shot learning: inputs are ranked against class vectors by one matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.checks import check_range
from neuroav.nn.losses import prototype_distances


def behind_best(scores: Tensor) -> Tensor:
    """How far each class is behind the clip's best one, ``(B, K)`` from ``scores (B, K)``: scores as distances.

    Example:
        >>> behind_best(torch.tensor([[1.0, 3.0, 2.5]]))
        tensor([[2.0000, 0.0000, 0.5000]])
    """
    return scores.amax(1, keepdim=True) - scores


def hinges(scores: Tensor, target: Tensor, margin: float) -> Tensor:
    """By how much each wrong class comes within ``margin`` of the right one.

    Args:
        scores: ``(B, K)``, higher is nearer.
        target: ``(B,)`` the right class of each clip.
        margin: by which the right class shall win.

    Returns:
        ``max(0, margin + score - score of target)``, ``(B, K)``; 0 for the right class.

    Example:
        >>> hinges(torch.tensor([[2.0, 1.0, 1.75]]), torch.tensor([0]), 0.5)
        tensor([[0.0000, 0.0000, 0.2500]])
    """
    right = target[:, None]
    return torch.relu(margin + scores - scores.gather(1, right)).scatter(1, right, 0.0)


@dataclass(frozen=True)
class AsGiven:
    """Inputs as they come."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x (B, D)``."""
        return x


@dataclass(frozen=True)
class UnitLength:
    """Each clip's input divided by its L2 norm."""

    def __call__(self, x: Tensor) -> Tensor:
        """Scale the rows of ``x (B, D)``."""
        return F.normalize(x)


@dataclass(frozen=True)
class AsPublished:
    """Classes are ranked by the score that is trained; dropout on inputs alone."""

    def words(self, vectors: Tensor, dropout: Callable[[Tensor], Tensor]) -> Tensor:
        """Class vectors ``(K, D_text)`` as they enter the training loss."""
        return vectors

    def distances(self, projected: Tensor, vectors: Tensor) -> Tensor:
        """Distances ``(B, K)`` of ``projected (B, D_text)`` to class ``vectors (K, D_text)``."""
        return behind_best(projected @ vectors.t())


@dataclass(frozen=True)
class AsReleased:
    """Classes are ranked by Euclidean distance; dropout on class vectors too, the same for all clips of a batch."""

    def words(self, vectors: Tensor, dropout: Callable[[Tensor], Tensor]) -> Tensor:
        """See :meth:`AsPublished.words`."""
        return dropout(vectors)

    def distances(self, projected: Tensor, vectors: Tensor) -> Tensor:
        """See :meth:`AsPublished.distances`."""
        return prototype_distances(projected, vectors)


@dataclass(frozen=True, kw_only=True)
class BilinearConfig:
    """What the rankings by one matrix share; defaults are those of the released code of [avca] for UCF-GZSL.

    Attributes:
        margin: by which the right class shall win.
        dropout: on the inputs; 0.2 as released (0 for VGGSound).
        scale: ``AsGiven()``, or ``UnitLength()`` as released for VGGish and C3D features.
        reading: the papers' ranking by score, or the released code's by distance.
    """

    margin: float = 0.1
    dropout: float = 0.2
    scale: AsGiven | UnitLength = field(default_factory=AsGiven)
    reading: AsPublished | AsReleased = field(default_factory=AsPublished)

    def __post_init__(self) -> None:
        check_range("BilinearConfig", "margin", self.margin, 0)
        check_range("BilinearConfig", "dropout", self.dropout, 0, 1)


class Bilinear(nn.Module):
    """One matrix between inputs and class vectors, without a bias.

    Args:
        dim: width of an input, ``D``.
        text_dim: width of a class vector, ``D_text``.
        config: margin, dropout, scale, reading.
    """

    def __init__(self, dim: int, text_dim: int, config: BilinearConfig):
        super().__init__()
        self.config = config
        self.linear = nn.Linear(dim, text_dim, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def project(self, x: Tensor) -> Tensor:
        """``(B, D_text)`` of inputs ``x (B, D)``."""
        return self.linear(self.dropout(self.config.scale(x)))

    def scores(self, x: Tensor, vectors: Tensor) -> Tensor:
        """Scores ``(B, K)`` of inputs ``x (B, D)`` for class ``vectors (K, D_text)``, as trained."""
        return self.project(x) @ self.config.reading.words(vectors, self.dropout).t()

    def hinges(self, x: Tensor, vectors: Tensor, target: Tensor) -> Tensor:
        """See :func:`hinges`, of the scores of ``x (B, D)`` for ``vectors (K, D_text)``."""
        return hinges(self.scores(x, vectors), target, self.config.margin)

    def distances(self, x: Tensor, vectors: Tensor) -> Tensor:
        """Distances ``(B, K)`` of inputs ``x (B, D)`` to class ``vectors (K, D_text)``, by the reading."""
        return self.config.reading.distances(self.project(x), vectors)
