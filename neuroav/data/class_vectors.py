"""What becomes of class vectors before a model sees them: nothing, or the class embedding optimisation of [ez].

The optimised vectors belong to an experiment and not to a model. They need the whole list of classes at once, seen and
unseen, while a model is handed the classes of a batch or those that compete; and any model can be trained on them, as
[ez] does with TCaF in its Table 4. So ``Experiment.class_vectors`` names one of the objects below, which replaces the
vectors of the store as it is opened, in training and evaluation alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuroav.checks import check_range, fail


@dataclass(frozen=True)
class AsGiven:
    """The vectors of the store."""

    def of(self, vectors: np.ndarray) -> np.ndarray:
        """Return them."""
        return vectors


@dataclass(frozen=True)
class CosineDistance:
    """One minus the cosine: the best row of Table 10 of [ez]."""

    def between(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances ``(...)`` of unit vectors ``(..., D)``."""
        return 1 - (x * y).sum(-1)

    def pairs(self, x: Tensor) -> Tensor:
        """Distances ``(K, K)`` between the rows of ``x (K, D)``."""
        return 1 - x @ x.t()


@dataclass(frozen=True)
class EuclideanDistance:
    """The L2 distance, as Eq. (1)-(3) of [ez] print it.

    Differs from the paper: nothing.
    """

    def between(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances ``(...)`` of vectors ``(..., D)``; where they are equal the gradient is 0."""
        return torch.linalg.vector_norm(x - y, dim=-1)

    def pairs(self, x: Tensor) -> Tensor:
        """Distances ``(K, K)`` between the rows of ``x (K, D)``."""
        return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True)
class ManhattanDistance:
    """The L1 distance, the last row of Table 10 of [ez]."""

    def between(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances ``(...)`` of vectors ``(..., D)``."""
        return (x - y).abs().sum(-1)

    def pairs(self, x: Tensor) -> Tensor:
        """Distances ``(K, K)`` between the rows of ``x (K, D)``."""
        return torch.cdist(x, x, p=1.0)


Distance = CosineDistance | EuclideanDistance | ManhattanDistance


@dataclass(frozen=True)
class Proximity:
    """Optimised vectors stay near those that they began as.

    Implements Eq. (2) of [ez]. Differs from the paper: the mean over the classes in place of the sum.
    """

    def loss(self, vectors: Tensor, given: Tensor, distance: Distance, rng: torch.Generator) -> Tensor:
        """Mean distance of ``vectors (K, D)`` to ``given (K, D)``."""
        return distance.between(vectors, given).mean()


@dataclass(frozen=True)
class Ranking:
    """Of any two classes, the one that was nearer to a third stays nearer.

    Implements Eq. (3) of [ez]. Differs from the paper: the mean over the triples in place of the sum, so that the
    balance with Eq. (1) does not depend on the number of classes. Where there are more pairs than ``pairs``, as many
    are drawn anew at each step, which the paper suggests for large vocabularies.

    Attributes:
        margin: by how much nearer; the ``m`` of Table 9.
        pairs: of classes, compared as seen from every third at each step.
    """

    margin: float = 1.0
    pairs: int = 2048

    def __post_init__(self) -> None:
        check_range("Ranking", "margin", self.margin, 0)
        check_range("Ranking", "pairs", self.pairs, 1)

    def loss(self, vectors: Tensor, given: Tensor, distance: Distance, rng: torch.Generator) -> Tensor:
        """Mean hinge over triples of different classes of ``vectors (K, D)``, which began as ``given (K, D)``."""
        first, second = torch.triu_indices(len(vectors), len(vectors), 1)
        if len(first) > self.pairs:
            drawn = torch.randint(len(first), (self.pairs,), generator=rng)
            first, second = first[drawn], second[drawn]
        before, after = distance.pairs(given), distance.pairs(vectors)
        wanted = (before[:, first] - before[:, second]).sign()
        hinge = F.relu(self.margin - wanted * (after[:, first] - after[:, second]))
        third = torch.arange(len(vectors))[:, None]
        return hinge[(third != first) & (third != second)].mean()


@dataclass(frozen=True, kw_only=True)
class Optimised:
    """Class vectors moved apart on the unit sphere while they keep what they say about each other.

    Implements Eq. (1)-(4) of [ez]. Differs from the paper: means over classes and triples in place of sums. The paper
    leaves open how the objective is minimised: here by Adam, whose rate falls to 0 along half a cosine, with every
    vector put back on the sphere after each step. Its tables contradict each other: the method's results in Tables 1
    and 4 are those with :class:`Proximity` in Table 5, while Tables 5, 9 and 10 have better ones with :class:`Ranking`
    and the cosine, which are the default.

    The number of steps matters more than any weight. Run to its end, the default objective comes near the simplex, in
    which all classes are equally far and unseen ones say nothing about seen ones: the configuration that section 3.2
    warns of. Table 8 shows another picture: larger distances to the nearest class, none above 0.54, and similar nearest
    classes. The defaults stop there. On the published vectors of VGGSound (309 names) the mean distance to the nearest
    class goes from 0.30 to 0.45, on those of UCF (101 names) from 0.45 to 0.60, and the ranks of the distances from a
    class correlate with the given ones by 0.98.

    The vectors of *all* classes of the store take part, the unseen ones too: their names are known beforehand in this
    setting, their clips are not used. A class that is added later calls for another optimisation and another training.
    With a weight ``separation`` of 0 or 1 one term acts alone (Table 5); proximity alone leaves every vector in place.
    The result is in float32, of unit length, and repeats to the digit on the same machine.

    Attributes:
        preservation: ``Proximity()`` or ``Ranking()``.
        separation: weight of the distance to the nearest other class, the alpha of Eq. (4) and Table 9.
        distance: between vectors, in all terms (Table 10).
        steps: of Adam.
        lr: rate of the first step.
        seed: draws pairs for ``Ranking``.
    """

    preservation: Proximity | Ranking = field(default_factory=Ranking)
    separation: float = 0.5
    distance: Distance = field(default_factory=CosineDistance)
    steps: int = 25
    lr: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("Optimised", "separation", self.separation, 0, 1)
        check_range("Optimised", "steps", self.steps, 1)
        check_range("Optimised", "lr", self.lr, 0)

    def of(self, vectors: np.ndarray) -> np.ndarray:
        """Optimise ``vectors (K, D_text)``; returns unit vectors of the same shape.

        Raises:
            InputError: If there are fewer than three classes, or a vector is 0.
        """
        if len(vectors) < 3:
            raise fail("Optimised", "at least 3 classes", str(len(vectors)), "Take class_vectors=AsGiven().")
        given = torch.from_numpy(np.asarray(vectors, np.float64))
        if not given.any(1).all():
            raise fail("Optimised", "class vectors with a length", "a vector of zeros", "Take class_vectors=AsGiven().")
        given = F.normalize(given)
        found, rng = given.clone().requires_grad_(), torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam([found], lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in range(self.steps):
            optimizer.zero_grad()
            self.objective(F.normalize(found), given, rng).backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                found.copy_(F.normalize(found))
        return found.detach().to(torch.float32).numpy()

    def objective(self, vectors: Tensor, given: Tensor, rng: torch.Generator) -> Tensor:
        """Weighted sum of both terms for unit ``vectors (K, D)`` that began as ``given (K, D)``."""
        apart = self.distance.pairs(vectors)
        itself = torch.eye(len(vectors), dtype=torch.bool)
        nearest = apart.masked_fill(itself, torch.inf).amin(1)
        kept = self.preservation.loss(vectors, given, self.distance, rng)
        return (1 - self.separation) * kept - self.separation * nearest.mean()
