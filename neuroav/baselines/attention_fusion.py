"""Attention Fusion: each modality makes a prediction of its own, and learnt weights say how much each counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuroav.baselines.base import Card, known_classes
from neuroav.checks import check_range
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.attention import masked_mean
from neuroav.nn.heads import WordHeads, WordHeadsConfig
from neuroav.nn.losses import Terms, prototype_distances
from neuroav.nn.project import MLP


@dataclass(frozen=True, kw_only=True)
class AttentionFusionConfig(WordHeadsConfig):
    """Parts of Attention Fusion; sizes, dropouts and loss weights of the heads as in the class it extends, all TCaF's.

    Attributes:
        dim: width of an encoded modality.
        encoder_hidden: hidden width of the two encoders.
        dropout_encoder: in the encoders.
    """

    dim: int = 300
    encoder_hidden: int = 512
    dropout_encoder: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dim", "encoder_hidden"):
            check_range("AttentionFusionConfig", name, getattr(self, name), 1)
        check_range("AttentionFusionConfig", "dropout_encoder", self.dropout_encoder, 0, 1)


class Predictions(NamedTuple):
    """Embeddings of some clips.

    Attributes:
        fused: ``(B, D)`` weighted sum of the other two.
        audio: ``(B, D)``.
        video: ``(B, D)``.
        weights: ``(B, 2)`` of audio and video, of sum 1.
    """

    fused: Tensor
    audio: Tensor
    video: Tensor
    weights: Tensor


class AttentionFusion(nn.Module):
    """Audio and video, encoded and averaged over time, are embedded one by one and added with learnt weights.

    The baseline of section 4.2 of [tcaf], an adaptation of [fayek] with the inputs, encoders and losses of TCaF. There
    is no code of it; what is left open is read so:

    * What a modality predicts is an embedding in the space of the projected class vectors, by a projection of its own.
    * The weights are the softmax of a linear map of both embeddings, one weight per modality and clip.
    * The modalities are trained to predict alone as well: each term of the loss is the sum over both of them and the
      weighted sum. The decoder to class vectors is shared.
    """

    Config = AttentionFusionConfig
    CARD = Card(
        title="Attention Fusion",
        paper="fayek",
        year=2020,
        inputs="averaged",
        rows=("tcaf.table1", "ez_avgzl.table1", "ez_avgzl.table2", "ez_avgzl.table3"),
    )

    def __init__(self, spec: DataSpec, config: AttentionFusionConfig | None = None):
        super().__init__()
        c = AttentionFusionConfig() if config is None else config
        widths = {"audio": spec.audio_dim, "video": spec.video_dim}
        encoders = {m: MLP(width, c.encoder_hidden, c.dim, dropout=c.dropout_encoder) for m, width in widths.items()}
        self.encoder = nn.ModuleDict(encoders)
        self.clip = nn.ModuleDict({m: MLP(c.dim, c.hidden, c.shared, dropout=c.dropout_output) for m in widths})
        self.weigh = nn.Linear(2 * c.shared, 2)
        self.heads = WordHeads(spec.text_dim, c)

    def predict(self, batch: Batch) -> Predictions:
        """Embed clips by each modality and by both."""
        found = {}
        for name, encoder in self.encoder.items():
            sequence = getattr(batch, name)
            encoded = encoder(sequence.values, sequence.valid, sequence.valid)
            found[name] = self.clip[name](masked_mean(encoded, sequence.valid))
        audio, video = found["audio"], found["video"]
        weights = self.weigh(torch.cat([audio, video], -1)).softmax(-1)
        return Predictions(weights[:, :1] * audio + weights[:, 1:] * video, audio, video, weights)

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """See :meth:`~neuroav.nn.heads.WordHeads.loss`; ``negatives`` are not used.

        Raises:
            InputError: If the batch does not say which classes there are.
        """
        class_text, target = known_classes("AttentionFusion.loss", batch)
        embeddings = self.predict(batch)[:3]
        return self.heads.loss(embeddings, batch.text, class_text, target)

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` of the weighted sums to the projected ``class_vectors (K, D_text)``."""
        return prototype_distances(*self.embeddings(batch, class_vectors))

    def embeddings(self, batch: Batch, class_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Clips ``(B, D)`` and classes ``(K, D)`` in the space where distances are taken."""
        return self.predict(batch).fused, self.heads.word(class_vectors)
