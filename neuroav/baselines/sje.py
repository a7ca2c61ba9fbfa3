"""SJE: inputs are mapped onto class vectors so that the right one wins against the strongest other by a margin."""

from __future__ import annotations

from torch import Tensor, nn

from neuroav.baselines.base import Card, joined_averages, known_classes
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.bilinear import Bilinear, BilinearConfig
from neuroav.nn.losses import Terms


class SJE(nn.Module):
    """One linear map into the space of class vectors, trained by the most violating wrong class of each clip.

    The structured SVM of [sje] for one kind of class vector, on audio and video averaged over the clip, side by side.
    Differs from the paper: the margin is 0.1 as in the released figures, where the paper has 1; Adam and dropout in
    place of plain steps with early stopping.

    The code of [avca], whose figures stand in its and later tables, does otherwise in two points, both of them in
    ``BilinearConfig(reading=AsReleased())``, which wants raw features (``Experiment(inputs=AsStored())``): the nearest
    class is that with the smallest Euclidean distance to the projection, not that with the highest score; dropout also
    falls on the class vectors.
    """

    Config = BilinearConfig
    CARD = Card(
        title="SJE", paper="sje", year=2015, inputs="averaged", rows=("mdft.table1", "sacma.table2", "tsart.table1")
    )

    def __init__(self, spec: DataSpec, config: BilinearConfig | None = None):
        super().__init__()
        config = BilinearConfig() if config is None else config
        self.bilinear = Bilinear(spec.audio_dim + spec.video_dim, spec.text_dim, config)

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Largest hinge over the wrong training classes, mean over clips; ``negatives`` are not used.

        Raises:
            InputError: If the batch does not say which classes there are.
        """
        vectors, target = known_classes("SJE.loss", batch)
        return {"ranking": self.bilinear.hinges(joined_averages(batch), vectors, target).amax(1).mean()}

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Distances ``(B, K)`` to ``class_vectors (K, D_text)``, by the reading."""
        return self.bilinear.distances(joined_averages(batch), class_vectors)
