"""ALE: inputs are mapped onto class vectors so that the right one comes to the top of the ranking."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuroav.baselines.base import Card, joined_averages, known_classes
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.bilinear import Bilinear, BilinearConfig
from neuroav.nn.losses import Terms


def rank_weighted(hinges: Tensor) -> Tensor:
    """Sum of a clip's hinges, each weighted by ``(1 + 1/2 + ... + 1/R) / R`` for ``R`` hinges above 0.

    So violations near the top of the ranking count most, as in WSABIE.

    Args:
        hinges: ``(B, K)``, 0 for the right class.

    Returns:
        ``(B,)``; 0 without violations.

    Example:
        >>> rank_weighted(torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 0.5]]))
        tensor([0.7500, 0.5000])
    """
    rank = (hinges > 0).sum(1)
    places = torch.arange(1, hinges.shape[1] + 1, device=hinges.device, dtype=hinges.dtype)
    summed = torch.cat([places.new_zeros(1), places.reciprocal().cumsum(0)])
    return hinges.sum(1) * summed[rank] / rank.clamp_min(1)


class ALE(nn.Module):
    """One linear map into the space of class vectors, trained by a ranking loss weighted by the rank.

    The weighted approximate ranking objective of [ale], with all wrong classes in place of sampled ones, on audio and
    video averaged over the clip, side by side. Differs from the paper: the margin is 0.1 as in the released figures,
    where the paper has 1; class vectors are word vectors, not attributes; Adam and dropout in place of plain steps
    with early stopping.

    The code of [avca], whose figures stand in its and later tables, does otherwise in two points, both of them in
    ``BilinearConfig(reading=AsReleased())``, which wants raw features (``Experiment(inputs=AsStored())``): the nearest
    class is that with the smallest Euclidean distance to the projection, not that with the highest score; dropout also
    falls on the class vectors.
    """

    Config = BilinearConfig
    CARD = Card(title="ALE", paper="ale", year=2016, inputs="averaged", rows=("sacma.table2",))

    def __init__(self, spec: DataSpec, config: BilinearConfig | None = None):
        super().__init__()
        config = BilinearConfig() if config is None else config
        self.bilinear = Bilinear(spec.audio_dim + spec.video_dim, spec.text_dim, config)

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Rank-weighted hinges, mean over clips; ``negatives`` are not used.

        Raises:
            InputError: If the batch does not say which classes there are.
        """
        vectors, target = known_classes("ALE.loss", batch)
        hinges = self.bilinear.hinges(joined_averages(batch), vectors, target)
        return {"ranking": rank_weighted(hinges).mean()}

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Distances ``(B, K)`` to ``class_vectors (K, D_text)``, by the reading."""
        return self.bilinear.distances(joined_averages(batch), class_vectors)
