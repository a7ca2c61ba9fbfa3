"""AVGZSLNet: a decoder turns what is heard and seen back into the class vector."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.baselines.base import Card, averages
from neuroav.checks import check_range
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.losses import Terms, prototype_distances, triplet
from neuroav.nn.negatives import OnePass, Trio, TwoPasses
from neuroav.nn.project import MLP


@dataclass(frozen=True, kw_only=True)
class AsBenchmarked:
    """The re-implementation in the code of [avca], behind all results on the three benchmarks; see :class:`AVGZSLNet`.

    Attributes:
        hidden: hidden width of the audio and video networks.
        hidden_word: hidden width of the word network.
        hidden_decoder: hidden width of the decoder.
        dropout: in the three networks.
        dropout_decoder: in the decoder.
    """

    hidden: int = 1024
    hidden_word: int = 300
    hidden_decoder: int = 64
    dropout: float = 0.8
    dropout_decoder: float = 0.5

    def __post_init__(self) -> None:
        _check(self, ("hidden", "hidden_word", "hidden_decoder"), ("dropout", "dropout_decoder"))

    def features(self, width: int, shared: int) -> nn.Module:
        """Network of audio or video of ``width``."""
        return MLP(width, self.hidden, shared, dropout=self.dropout, linear_output=True)

    def word(self, text_dim: int, shared: int) -> nn.Module:
        """Network of class vectors."""
        return MLP(text_dim, self.hidden_word, shared, dropout=self.dropout, linear_output=True)

    def decoder(self, shared: int, text_dim: int) -> nn.Module:
        """From the shared space to class vectors of length 1."""
        decoder = MLP(shared, self.hidden_decoder, text_dim, dropout=self.dropout_decoder, linear_output=True)
        return nn.Sequential(decoder, UnitLength())

    def rebuilt(self, decoded: Tensor, text: Tensor) -> Tensor:
        """Mean Euclidean distance of ``decoded (B, D_text)`` to ``text (B, D_text)``."""
        return torch.linalg.vector_norm(decoded - text, dim=-1).mean()

    def composite(self, near: Trio, far: Trio, margin: float) -> Terms:
        """Two triplets for each modality, anchored in the clip's word and in the clip."""
        return {
            "audio_triplet": _anchored(near.text, near.audio, far.text, far.audio, margin),
            "video_triplet": _anchored(near.text, near.video, far.text, far.video, margin),
        }


@dataclass(frozen=True, kw_only=True)
class AsByAuthors:
    """The code of the authors of [avgzslnet], made for another benchmark; see :class:`AVGZSLNet`.

    Attributes:
        hidden: hidden width of the audio and video networks.
        hidden_decoder: hidden width of the decoder.
        dropout: in the audio and video networks.
    """

    hidden: int = 256
    hidden_decoder: int = 128
    dropout: float = 0.5

    def __post_init__(self) -> None:
        _check(self, ("hidden", "hidden_decoder"), ("dropout",))

    def features(self, width: int, shared: int) -> nn.Module:
        """Network of audio or video of ``width``."""
        first, last = nn.Linear(width, self.hidden), nn.Linear(self.hidden, shared)
        return nn.Sequential(first, nn.Dropout(self.dropout), nn.ReLU(), last)

    def word(self, text_dim: int, shared: int) -> nn.Module:
        """One linear layer."""
        return nn.Linear(text_dim, shared)

    def decoder(self, shared: int, text_dim: int) -> nn.Module:
        """From the shared space to class vectors."""
        return nn.Sequential(
            nn.Linear(shared, self.hidden_decoder), nn.ReLU(), nn.Linear(self.hidden_decoder, text_dim)
        )

    def rebuilt(self, decoded: Tensor, text: Tensor) -> Tensor:
        """Mean squared error of ``decoded (B, D_text)``."""
        return F.mse_loss(decoded, text)

    def composite(self, near: Trio, far: Trio, margin: float) -> Terms:
        """Four triplets for each modality: clip and negative in both roles."""
        return {
            f"{name}_triplet": _anchored(near.text, x, far.text, y, margin)
            + _anchored(far.text, y, near.text, x, margin)
            for name, x, y in (("audio", near.audio, far.audio), ("video", near.video, far.video))
        }


@dataclass(frozen=True, kw_only=True)
class AVGZSLNetConfig:
    """Width, margin and reading.

    Attributes:
        shared: width of the space where distances are taken.
        margin: of the triplets, dimensionless.
        reading: networks and terms, whose.
        negatives: how negative clips are embedded; ``TwoPasses()`` is what both released codes do.
    """

    shared: int = 64
    margin: float = 1.0
    reading: AsBenchmarked | AsByAuthors = field(default_factory=AsBenchmarked)
    negatives: OnePass | TwoPasses = field(default_factory=OnePass)

    def __post_init__(self) -> None:
        check_range("AVGZSLNetConfig", "shared", self.shared, 1)
        check_range("AVGZSLNetConfig", "margin", self.margin, 0)


class AVGZSLNet(nn.Module):
    """Triplets as in CJME, and a decoder that rebuilds the class vector from audio, video and word alike.

    There are two codes of it and they differ. The default, ``reading=AsBenchmarked()``, is the one in the repository of
    [avca]: it made every published result on the three benchmarks, under the name of [avgzslnet].
    ``reading=AsByAuthors()`` is the authors' own, which has these differences:

    * No batch normalisation; narrower audio and video networks, one linear layer for words, a wider decoder without
      dropout; dropout 0.5 in place of 0.8.
    * The decoder's output is not brought to length 1, and is compared by mean squared error in place of the mean
      Euclidean distance.
    * Each pair of a clip and its negative gives four triplets a modality: either class is the anchor. Two in the other
      code, which anchors the clip's class only.
    * Trained by gradient descent with momentum 0.9, learning rate 0.3 divided by ten at epochs 75, 125 and 175 of 200,
      batches of 4096 and a list of negative classes that never changes. Training here is that of the benchmark.

    With either reading both codes pass the negatives through the networks as a batch of their own
    (``negatives=TwoPasses()``), which moves running statistics twice; here the batch is embedded once. Both want
    features as stored (``Experiment(inputs=AsStored())``). Distances are the sum of audio's and video's, as in the
    benchmark's code.
    """

    Config = AVGZSLNetConfig
    CARD = Card(
        title="AVGZSLNet",
        paper="avgzslnet",
        year=2021,
        inputs="averaged",
        rows=(
            "mdft.table1",
            "tcaf.table1",
            "sacma.table2",
            "tsart.table1",
            "ez_avgzl.table1",
            "ez_avgzl.table2",
            "ez_avgzl.table3",
        ),
    )

    def __init__(self, spec: DataSpec, config: AVGZSLNetConfig | None = None):
        super().__init__()
        self.config = c = AVGZSLNetConfig() if config is None else config
        self.audio = c.reading.features(spec.audio_dim, c.shared)
        self.video = c.reading.features(spec.video_dim, c.shared)
        self.word = c.reading.word(spec.text_dim, c.shared)
        self.decoder = c.reading.decoder(c.shared, spec.text_dim)

    def embed(self, clips: Trio) -> Trio:
        """Averaged features and class vectors in the shared space, ``(B, D)`` each."""
        return Trio(self.audio(clips.audio), self.video(clips.video), self.word(clips.text))

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """Triplets in the shared space and among class vectors, and what the decoder rebuilds: :meth:`terms`."""
        clips = Trio(*averages(batch), batch.text)
        positive, negative = self.config.negatives.both(self.embed, clips, negatives)
        return self.terms(positive, negative, batch.text)

    def terms(self, positive: Trio, negative: Trio, text: Tensor) -> Terms:
        """Loss terms of embedded clips.

        Args:
            positive: the clips, ``(B, D)`` each.
            negative: for each a clip of another class, ``(B, D)`` each.
            text: class vectors ``(B, D_text)`` of the clips.
        """
        reading, margin = self.config.reading, self.config.margin
        decoded = Trio(*(self.decoder(x) for x in positive))
        not_heard, not_seen = self.decoder(negative.audio), self.decoder(negative.video)
        return {
            **reading.composite(positive, negative, margin),
            "decoded_audio_triplet": triplet(decoded.text, decoded.audio, not_heard, margin),
            "decoded_video_triplet": triplet(decoded.text, decoded.video, not_seen, margin),
            "reconstruction": torch.stack([reading.rebuilt(x, text) for x in decoded]).sum(),
        }

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Sum of the Euclidean distances ``(B, K)`` of audio and of video to embedded ``class_vectors (K, D_text)``."""
        audio, video = averages(batch)
        words = self.word(class_vectors)
        return prototype_distances(self.audio(audio), words) + prototype_distances(self.video(video), words)


class UnitLength(nn.Module):
    """``x (..., D)`` divided by its Euclidean length."""

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)``."""
        return F.normalize(x, dim=-1)


def _anchored(word: Tensor, clip: Tensor, other_word: Tensor, other_clip: Tensor, margin: float) -> Tensor:
    return triplet(word, clip, other_clip, margin) + triplet(clip, word, other_word, margin)


def _check(reading: AsBenchmarked | AsByAuthors, widths: tuple[str, ...], dropouts: tuple[str, ...]) -> None:
    where = type(reading).__name__
    for name in widths:
        check_range(where, name, getattr(reading, name), 1)
    for name in dropouts:
        check_range(where, name, getattr(reading, name), 0, 1)
