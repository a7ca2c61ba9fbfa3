"""AVCA: attention between averaged audio and video, and losses that use the class vector thrice."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from neuroav.baselines.base import Card, averages
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.negatives import Trio
from neuroav.nn.pair import PairConfig, PairNetwork


@dataclass(frozen=True, kw_only=True)
class AVCAConfig(PairConfig):
    """Sizes and dropouts of :class:`~neuroav.nn.pair.PairConfig`.

    Encoders, projections and decoders have dropouts 0.2, 0.3, 0.5 for UCF-GZSL (the default), 0.2, 0.2, 0.1 for
    ActivityNet-GZSL, 0, 0, 0.1 for VGGSound-GZSL and 0, 0, 0 for its VGGish and C3D features; ``momentum`` is 0.99 for
    VGGish and C3D features and for ActivityNet-GZSL, so that running statistics are those of the last batch (released
    configurations of [avca]).
    """


class AVCA(PairNetwork):
    """Audio and video, averaged over the clip, attend to each other; clips are compared by their video embedding.

    Follows the released code of [avca]: encoders, one attention layer over two tokens, projections of both modalities
    and of the class vector into one space, a decoder back to class vectors, four kinds of triplets, regression and
    reconstruction, all with weight 1 and margin 1. What is called cross-attention there is self-attention over the
    two tokens: each attends to both. Were each to attend to the other alone, its softmax over one key would be
    a constant.

    Differs from the paper: its text was not at hand, so both readings have the released network and losses. Those side
    effects of the released code that :class:`~neuroav.nn.pair.PairNetwork` lists are in ``reading=AsReleased()``, which
    wants raw features, ``Experiment(inputs=AsStored())``; the default leaves them out.
    """

    Config = AVCAConfig
    CARD = Card(
        title="AVCA",
        paper="avca",
        year=2022,
        inputs="averaged",
        rows=("mdft.table1", "sacma.table2", "tcaf.table1", "ez_avgzl.table1", "ez_avgzl.table2", "ez_avgzl.table3"),
    )

    def __init__(self, spec: DataSpec, config: AVCAConfig | None = None):
        super().__init__(spec.audio_dim, spec.video_dim, spec.text_dim, AVCAConfig() if config is None else config)

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """See :meth:`~neuroav.nn.pair.PairNetwork.terms`."""
        return self.terms(*self.config.reading.embed(self, Trio(*averages(batch), batch.text), negatives))

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` of video embeddings to the projected ``class_vectors (K, D_text)``."""
        return prototype_distances(*self.embeddings(batch, class_vectors))

    def embeddings(self, batch: Batch, class_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Clips ``(B, D)`` and classes ``(K, D)`` in the space where distances are taken."""
        return self.prototypes(Trio(*averages(batch), batch.text), class_vectors)

    def after_step(self, batch: Batch, negatives: Tensor) -> None:
        """See :meth:`~neuroav.nn.pair.PairNetwork.follow_step`."""
        self.follow_step(Trio(*averages(batch), batch.text))
