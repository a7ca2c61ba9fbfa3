"""Averaged audio and video as two tokens that attend to each other, heads and losses: [avca] and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.checks import check_range
from neuroav.nn.encoder import feed_forward
from neuroav.nn.losses import Terms, triplet
from neuroav.nn.negatives import Trio, rows
from neuroav.nn.project import MLP


class Pair(NamedTuple):
    """The same of both modalities, ``(B, N)`` each."""

    audio: Tensor
    video: Tensor


class Embedded(NamedTuple):
    """What the losses compare.

    Attributes:
        text: ``(B, D_text)`` class vectors.
        encoded_audio, encoded_video: ``(B, D)`` before attention.
        audio, video, word: ``(B, D_shared)`` where distances are taken.
        decoded_audio, decoded_video, decoded_word: ``(B, D_text)`` class vectors decoded from these.
    """

    text: Tensor
    encoded_audio: Tensor
    encoded_video: Tensor
    audio: Tensor
    video: Tensor
    word: Tensor
    decoded_audio: Tensor
    decoded_video: Tensor
    decoded_word: Tensor


@dataclass(frozen=True)
class AsPublished:
    """One pass over a batch, whose negatives are other rows of it; everything is trained."""

    extra_passes: ClassVar[bool] = False

    def register(self, network: PairNetwork, position: Tensor) -> None:
        """Make the embedding of the two places a parameter."""
        network.register_parameter("position", nn.Parameter(position))

    def with_momentum(self, norms: Any) -> Any:
        """Those of a network's normalisations that the configured momentum reaches: all."""
        return norms

    def embed(self, network: PairNetwork, clips: Trio, negatives: Tensor) -> tuple[Embedded, Embedded]:
        """Embed the clips; then the negatives are picked."""
        (positive,) = network.embed([clips])
        return positive, rows(positive, negatives)


@dataclass(frozen=True)
class AsReleased:
    """What the released code does besides; see :class:`PairNetwork`.

    Attributes:
        extra_passes: whether reconstructions, and each batch after its step, are embedded for nothing but their effect
            on running statistics.
    """

    extra_passes: bool = True

    def register(self, network: PairNetwork, position: Tensor) -> None:
        """Leave the embedding of the two places as drawn."""
        network.register_buffer("position", position)

    def with_momentum(self, norms: Any) -> Any:
        """All but the first; the others have 0.1."""
        return norms[1:]

    def embed(self, network: PairNetwork, clips: Trio, negatives: Tensor) -> tuple[Embedded, Embedded]:
        """Embed clips and negatives as batches of their own."""
        positive, negative = network.embed([clips, rows(clips, negatives)])
        return positive, negative


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """Sizes and dropouts; defaults are those of the released configuration of [avca] for UCF-GZSL, SeLaVi features.

    Attributes:
        dim: width of a token.
        encoder_hidden: hidden width of the two encoders.
        hidden: hidden width of the two projections.
        shared: width of the space where distances are taken.
        heads: attention heads.
        head_dim: width of a head.
        feed_forward: hidden width of the feed-forward block.
        dropout_encoder: ``r_enc``, in the encoders and the attention layer.
        dropout_projection: ``r_proj``, in the projections.
        dropout_decoder: ``r_dec``, in the word projection, the decoder and the reconstructions.
        momentum: share of a new batch in the running statistics of normalisations.
        reading: the paper's description, or the released code with its side effects.
    """

    dim: int = 300
    encoder_hidden: int = 512
    hidden: int = 512
    shared: int = 64
    heads: int = 3
    head_dim: int = 100
    feed_forward: int = 64
    dropout_encoder: float = 0.2
    dropout_projection: float = 0.3
    dropout_decoder: float = 0.5
    momentum: float = 0.1
    reading: AsPublished | AsReleased = field(default_factory=AsPublished)

    def __post_init__(self) -> None:
        where = type(self).__name__
        for name in ("dim", "encoder_hidden", "hidden", "shared", "heads", "head_dim", "feed_forward"):
            check_range(where, name, getattr(self, name), 1)
        for name in ("dropout_encoder", "dropout_projection", "dropout_decoder", "momentum"):
            check_range(where, name, getattr(self, name), 0, 1)


class PairLayer(nn.Module):
    """Self attention over a clip's two tokens and a feed-forward block, both residual, each behind its normalisation.

    Args:
        dim: width of a token, ``D``.
        heads: number of heads.
        head_dim: width of a head.
        hidden: hidden width of the feed-forward block.
        dropout: probability after each block and within the feed-forward block.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, hidden: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.output = nn.Sequential(nn.Linear(heads * head_dim, dim), nn.Dropout(dropout))
        self.feed_forward = feed_forward(dim, hidden, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``tokens (2, B, D)`` to ``(2, B, D)``."""
        projected = self.query_key_value(self.attention_norm(tokens)).unflatten(-1, (3, self.heads, -1))
        query, key, value = projected.permute(2, 1, 3, 0, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.output(mixed.permute(2, 0, 1, 3).flatten(2))
        return tokens + self.feed_forward(self.feed_forward_norm(tokens))


class PairNetwork(nn.Module):
    """Encoders, attention between the two modalities, projections, decoder, and the losses of [avca].

    The released code does otherwise than its paper in these points, all of them in ``reading=AsReleased()``:

    * Negatives are clips of their own, and pass each block as a second batch; here they are rows of the same batch.
    * The embedding of the two places is drawn and never trained.
    * ``momentum`` reaches the second normalisation of two-layer networks only.
    * Reconstructed tokens pass the projections, and after each step of the optimiser the batch is embedded again in
      training mode; neither enters the loss, but each moves running statistics.

    Args:
        audio_dim: width of audio features, ``D_audio``.
        video_dim: width of video features, ``D_video``.
        text_dim: width of class vectors, ``D_text``.
        config: sizes, dropouts and reading.
    """

    position: Tensor

    def __init__(self, audio_dim: int, video_dim: int, text_dim: int, config: PairConfig):
        super().__init__()
        self.config = c = config
        self.audio_encoder = MLP(audio_dim, c.encoder_hidden, c.dim, dropout=c.dropout_encoder)
        self.video_encoder = MLP(video_dim, c.encoder_hidden, c.dim, dropout=c.dropout_encoder)
        c.reading.register(self, torch.randn(2, c.dim))
        self.layer = PairLayer(c.dim, c.heads, c.head_dim, c.feed_forward, c.dropout_encoder)
        self.audio_projection, self.video_projection = (
            MLP(c.dim, c.hidden, c.shared, dropout=c.dropout_projection) for _ in range(2)
        )
        self.word_projection = MLP(text_dim, c.shared, dropout=c.dropout_decoder)
        self.decoder = MLP(c.shared, text_dim, dropout=c.dropout_decoder)
        self.rebuild_audio, self.rebuild_video = (MLP(c.shared, c.dim, dropout=c.dropout_decoder) for _ in range(2))
        for module in self.modules():
            if isinstance(module, MLP):
                for norm in c.reading.with_momentum(module.norm):
                    norm.momentum = c.momentum

    def encode(self, batches: Sequence[Trio]) -> list[Pair]:
        """Tokens before attention, ``(B, D)`` each, of batches that pass each block in turn."""
        return [Pair(self.audio_encoder(clips.audio), self.video_encoder(clips.video)) for clips in batches]

    def fuse(self, encoded: Pair) -> Pair:
        """Tokens after attention, ``(B, D)`` each."""
        return Pair(*(torch.stack(encoded) + self.attend(encoded)))

    def attend(self, pair: Pair) -> Tensor:
        """Let encoded modalities, each at its place, attend to each other: ``(2, B, D)``, audio first."""
        return self.layer(torch.stack(pair) + self.position[:, None])

    def project(self, batches: Sequence[Trio]) -> tuple[list[Pair], list[Pair]]:
        """Encoded ``(B, D)`` and projected modalities ``(B, D_shared)`` of batches that pass each block in turn."""
        encoded = self.encode(batches)
        fused = [self.fuse(pair) for pair in encoded]
        return encoded, [Pair(self.audio_projection(pair.audio), self.video_projection(pair.video)) for pair in fused]

    def embed(self, batches: Sequence[Trio]) -> list[Embedded]:
        """Everything the losses need of batches that pass each block in turn."""
        encoded, shared = self.project(batches)
        words = [self.word_projection(clips.text) for clips in batches]
        decoded_words = [self.decoder(word) for word in words]
        decoded_audio = [self.decoder(pair.audio) for pair in shared]
        decoded_video = [self.decoder(pair.video) for pair in shared]
        decoded = zip(decoded_audio, decoded_video, decoded_words, strict=True)
        parts = zip(batches, encoded, shared, words, decoded, strict=True)
        return [Embedded(clips.text, *tokens, *pair, word, *texts) for clips, tokens, pair, word, texts in parts]

    def terms(self, positive: Embedded, negative: Embedded) -> Terms:
        """Loss terms of clips ``positive`` and, row by row, of clips ``negative`` of other classes.

        ``reconstruction``: class vectors are decoded from all three embeddings. ``composite``: what is decoded from
        the word is nearer to what is decoded from its clip than from the other. ``word_triplet`` and
        ``crossed_triplet``: word and clip are nearer to each other than to the other clip, and than to the other word.
        ``regression``: tokens are rebuilt from embeddings, and embeddings lie at their word.
        """
        p, n = positive, negative
        rebuilt = self.rebuild(p)
        near = [triplet(p.word, p.audio, n.audio), triplet(p.word, p.video, n.video)]
        near += [triplet(p.audio, p.word, n.word), triplet(p.video, p.word, n.word)]
        crossed = [triplet(p.audio, p.word, n.audio), triplet(p.video, p.word, n.video)]
        crossed += [triplet(p.word, p.audio, n.word), triplet(p.word, p.video, n.word)]
        composite = [triplet(p.decoded_word, p.decoded_audio, n.decoded_audio)]
        composite += [triplet(p.decoded_word, p.decoded_video, n.decoded_video)]
        decoded = [F.mse_loss(x, p.text) for x in (p.decoded_audio, p.decoded_video, p.decoded_word)]
        regression = [F.mse_loss(rebuilt.audio, p.encoded_audio), F.mse_loss(rebuilt.video, p.encoded_video)]
        regression += [F.mse_loss(p.audio, p.word), F.mse_loss(p.video, p.word)]
        return {
            "reconstruction": _sum(decoded),
            "composite": _sum(composite),
            "word_triplet": _sum(near),
            "crossed_triplet": _sum(crossed),
            "regression": _sum(regression),
        }

    def rebuild(self, embedded: Embedded) -> Pair:
        """Tokens before attention, ``(B, D)`` each, from the shared space."""
        rebuilt = Pair(self.rebuild_audio(embedded.audio), self.rebuild_video(embedded.video))
        if self.training and self.config.reading.extra_passes:
            with torch.no_grad():
                self.audio_projection(rebuilt.audio)
                self.video_projection(rebuilt.video)
        return rebuilt

    def prototypes(self, clips: Trio, class_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The clips' *video* embedding ``(B, D)`` and ``class_vectors (K, D_text)`` projected, ``(K, D)``."""
        _, (shared,) = self.project([clips])
        return shared.video, self.word_projection(class_vectors)

    @torch.no_grad()
    def follow_step(self, clips: Trio) -> None:
        """Embed once more where the reading asks for it, as the released step does with the weights just moved."""
        if self.config.reading.extra_passes:
            self.project([clips])
            self.word_projection(clips.text)


def _sum(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum()
