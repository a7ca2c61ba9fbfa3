"""DeViSE: inputs are mapped onto class vectors so that the right one wins against every other by a margin."""

from __future__ import annotations

from torch import Tensor, nn

from neuroav.baselines.base import Card, joined_averages, known_classes
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.bilinear import Bilinear, BilinearConfig
from neuroav.nn.losses import Terms


class DeViSE(nn.Module):
    """One linear map into the space of class vectors, trained by the sum of a ranking loss over all wrong classes.

    The hinge rank loss of [devise] on audio and video averaged over the clip, side by side. Differs from the paper:
    inputs are features of two networks that stay as they are, not of a network that is trained further; every wrong
    class counts, as in the formula, not the first found to violate the margin; class vectors come as the data have
    them, not scaled to unit length.

    The code of [avca], whose figures stand in its and later tables, does otherwise in these points, all of them in
    ``BilinearConfig(reading=AsReleased())``, which wants raw features (``Experiment(inputs=AsStored())``):

    * The nearest class is that with the smallest Euclidean distance to the projection; here that with the highest
      score, which is what is trained. With class vectors of unit length both order the classes alike, but distances
      between projections much longer than class vectors hardly differ, so that the grid of betas misses them.
    * Dropout also falls on the class vectors.
    """

    Config = BilinearConfig
    CARD = Card(title="DeViSE", paper="devise", year=2013, inputs="averaged", rows=("mdft.table1", "sacma.table2"))

    def __init__(self, spec: DataSpec, config: BilinearConfig | None = None):
        super().__init__()
        config = BilinearConfig() if config is None else config
        self.bilinear = Bilinear(spec.audio_dim + spec.video_dim, spec.text_dim, config)

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Sum of the hinges over all wrong training classes, mean over clips; ``negatives`` are not used.

        Raises:
            InputError: If the batch does not say which classes there are.
        """
        vectors, target = known_classes("DeViSE.loss", batch)
        return {"ranking": self.bilinear.hinges(joined_averages(batch), vectors, target).sum(1).mean()}

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Distances ``(B, K)`` to ``class_vectors (K, D_text)``, by the reading."""
        return self.bilinear.distances(joined_averages(batch), class_vectors)
