"""APN: the entries of the class vector are predicted, by regression and by classification."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.baselines.base import Card, joined_averages, known_classes
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.bilinear import AsGiven, UnitLength, behind_best
from neuroav.nn.losses import Terms, prototype_distances

INITIAL = 2e-4  # weights begin uniformly between 0 and this, as released


@dataclass(frozen=True)
class AsPublished:
    """Cross-entropy of the scores, and classes ranked by them."""

    def logits(self, scores: Tensor) -> Tensor:
        """What cross-entropy is taken of, from ``scores (B, K)``."""
        return scores

    def distances(self, predicted: Tensor, vectors: Tensor) -> Tensor:
        """Distances ``(B, K)`` of ``predicted (B, D_text)`` to class ``vectors (K, D_text)``."""
        return behind_best(predicted @ vectors.t())


@dataclass(frozen=True)
class AsReleased:
    """Cross-entropy of probabilities, taken for logits; classes ranked by Euclidean distance."""

    def logits(self, scores: Tensor) -> Tensor:
        """See :meth:`AsPublished.logits`."""
        return scores.softmax(1)

    def distances(self, predicted: Tensor, vectors: Tensor) -> Tensor:
        """See :meth:`AsPublished.distances`."""
        return prototype_distances(predicted, vectors)


@dataclass(frozen=True, kw_only=True)
class APNConfig:
    """Choices of the model; its sizes are those of the data.

    Attributes:
        scale: ``AsGiven()``, or ``UnitLength()`` as released for VGGish and C3D features.
        reading: the paper's description, or the released code with its errors.
    """

    scale: AsGiven | UnitLength = field(default_factory=AsGiven)
    reading: AsPublished | AsReleased = field(default_factory=AsPublished)


class APN(nn.Module):
    """Two linear maps onto class vectors: a global one that classifies, and one of attribute prototypes.

    The base module and the prototype module of [apn] as the code of [avca] has them for audio and video, averaged over
    the clip, side by side. Differs from the paper: there are no maps of features over an image, so a prototype is
    compared with one vector and neither the decorrelation of groups of attributes nor the compactness of attention
    maps is left; word vectors are the attributes; both modules classify and regress with weight 1. The prototypes of
    the paper shape the features that both modules read; here features stay as they are, so they change no prediction.

    The released code does otherwise in two points, both of them in ``reading=AsReleased()``, which wants raw features
    (``Experiment(inputs=AsStored())``):

    * Its cross-entropy takes probabilities for logits, a softmax twice, whose gradient all but vanishes.
    * The nearest class is that with the smallest Euclidean distance to the prediction; here that with the highest
      score, which is what is trained.
    """

    Config = APNConfig
    CARD = Card(
        title="APN", paper="apn", year=2020, inputs="averaged", rows=("mdft.table1", "sacma.table2", "tsart.table1")
    )

    def __init__(self, spec: DataSpec, config: APNConfig | None = None):
        super().__init__()
        self.config = APNConfig() if config is None else config
        dim = spec.audio_dim + spec.video_dim
        self.whole = nn.Parameter(INITIAL * torch.rand(spec.text_dim, dim))
        self.prototypes = nn.Parameter(INITIAL * torch.rand(spec.text_dim, dim))

    def predict(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Class vectors ``(B, D_text)`` as the whole input and as the prototypes predict them."""
        x = self.config.scale(joined_averages(batch))
        return x @ self.whole.t(), x @ self.prototypes.t()

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Cross-entropy and squared error of both predictions; ``negatives`` are not used.

        Raises:
            InputError: If the batch does not say which classes there are.
        """
        vectors, target = known_classes("APN.loss", batch)
        terms: Terms = {}
        for name, predicted in zip(("whole", "prototypes"), self.predict(batch), strict=True):
            terms[f"class_{name}"] = F.cross_entropy(self.config.reading.logits(predicted @ vectors.t()), target)
            terms[f"regression_{name}"] = F.mse_loss(predicted, batch.text)
        return terms

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Distances ``(B, K)`` to ``class_vectors (K, D_text)``, by the reading."""
        return self.config.reading.distances(self.predict(batch)[0], class_vectors)
