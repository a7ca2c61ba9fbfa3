"""EZ-AVGZL: one contrastive loss between clips and class vectors, through a similarity that is learnt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.baselines.base import Card
from neuroav.checks import check_range, fail
from neuroav.data.types import Batch, DataSpec
from neuroav.nn.encoder import CrossAttention, TokenTransformer
from neuroav.nn.losses import Terms
from neuroav.nn.tokens import ClipTokens, TokensConfig


class Clips(NamedTuple):
    """What the encoder makes of some clips.

    Attributes:
        token: ``(B, D)`` the class token.
        tokens: ``(L, B, D)`` all tokens, the class token among them.
        valid: ``(L, B)`` bool, which are no padding.
    """

    token: Tensor
    tokens: Tensor
    valid: Tensor


@dataclass(frozen=True)
class CosineSimilarity:
    """The dot product of the class token and the class vector: the first row of Table 6 of [ez].

    Section 4.3 of the paper calls it a cosine and describes a dot product. Differs from the paper: the class vector has
    unit length here and the class token has not, so that a clip's own length sets how sharply its classes are told
    apart. Nothing stands between the two, so both have the same width.
    """

    def build(self, config: EZConfig, text_dim: int) -> nn.Module:
        """Make it for class vectors ``(K, D_text)``."""
        if config.dim != text_dim:
            raise fail(
                "CosineSimilarity",
                f"EZConfig(dim={text_dim})",
                f"dim={config.dim}",
                "It is the width of class vectors.",
            )
        return _Dot()


class _Dot(nn.Module):
    def forward(self, clips: Clips, words: Tensor) -> Tensor:
        return clips.token @ F.normalize(words).t()


@dataclass(frozen=True)
class LinearSimilarity:
    """A linear map of the class token, then the dot product: the second row of Table 6 of [ez].

    Differs from the paper: it describes a linear layer of the two vectors side by side. That is the sum of a number
    from the clip and one from the class, so it ranks the classes of every clip alike and its loss gives the encoder no
    gradient; linear in each of the two is read here.
    """

    def build(self, config: EZConfig, text_dim: int) -> nn.Module:
        """Make it for class vectors ``(K, D_text)``."""
        return _Bilinear(config.dim, text_dim)


class _Bilinear(nn.Module):
    def __init__(self, dim: int, text_dim: int):
        super().__init__()
        self.linear = nn.Linear(dim, text_dim, bias=False)

    def forward(self, clips: Clips, words: Tensor) -> Tensor:
        return self.linear(clips.token) @ F.normalize(words).t()


@dataclass(frozen=True)
class MLPSimilarity:
    """Two layers over class token and class vector side by side: "MLP" in Table 6 of [ez].

    Attributes:
        hidden: width of the layer between, which the paper does not give.
    """

    hidden: int = 512

    def __post_init__(self) -> None:
        check_range("MLPSimilarity", "hidden", self.hidden, 1)

    def build(self, config: EZConfig, text_dim: int) -> nn.Module:
        """Make it for class vectors ``(K, D_text)``."""
        return _Perceptron(config.dim, text_dim, self.hidden)


class _Perceptron(nn.Module):
    """The first layer is applied to clips and classes apart and added, which is the same and costs ``B + K``."""

    def __init__(self, dim: int, text_dim: int, hidden: int):
        super().__init__()
        self.clip, self.word = nn.Linear(dim, hidden), nn.Linear(text_dim, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, clips: Clips, words: Tensor) -> Tensor:
        mixed = self.clip(clips.token)[:, None] + self.word(F.normalize(words))
        return self.score(F.relu(mixed)).squeeze(-1)


@dataclass(frozen=True)
class AttentionSimilarity:
    """Class vectors attend to the tokens of the clip: "Cross-Attention" in Table 6 of [ez], and the method.

    Heads as in the encoder, then a linear map to the score. Differs from the paper: it lets class vectors attend to the
    clip's representation; over a single vector a softmax is 1 whatever the query is, and every class would get the same
    score. So all tokens that leave the encoder are keys and values here, behind a layer normalisation.
    """

    def build(self, config: EZConfig, text_dim: int) -> nn.Module:
        """Make it for class vectors ``(K, D_text)``."""
        return _Attended(config, text_dim)


class _Attended(nn.Module):
    def __init__(self, config: EZConfig, text_dim: int):
        super().__init__()
        width = config.heads * config.head_dim
        self.heads = config.heads
        self.query = nn.Linear(text_dim, width, bias=False)
        self.key, self.value = (nn.Linear(config.dim, width, bias=False) for _ in range(2))
        self.norm = nn.LayerNorm(config.dim)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, clips: Clips, words: Tensor) -> Tensor:
        x = self.norm(clips.tokens)
        key, value = (w(x).unflatten(-1, (self.heads, -1)).permute(1, 2, 0, 3) for w in (self.key, self.value))
        query = self.query(F.normalize(words)).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        query = query.expand(len(key), -1, -1, -1)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=clips.valid.t()[:, None, None, :])
        return self.score(mixed.transpose(1, 2).flatten(2)).squeeze(-1)


@dataclass(frozen=True)
class AmongClasses:
    """A clip's class against the other classes of the batch, each once."""

    def log_total(self, scores: Tensor, count: Tensor) -> Tensor:
        """Logarithm ``(B,)`` of what stands below the fraction.

        Args:
            scores: ``(B, K)`` of clips and the classes of the batch.
            count: ``(K,)`` number of clips of each class in the batch.
        """
        return scores.logsumexp(-1)


@dataclass(frozen=True)
class AmongClips:
    """A clip's class against the class of every clip of the batch, its own included each time, as printed.

    Implements Eq. (5) of [ez]. Differs from the paper: nothing. Clips of the same class stand below the fraction too,
    so that even a perfect score leaves a loss of the logarithm of their number.
    """

    def log_total(self, scores: Tensor, count: Tensor) -> Tensor:
        """See :meth:`AmongClasses.log_total`."""
        return (scores + count.to(scores.dtype).log()).logsumexp(-1)


@dataclass(frozen=True, kw_only=True)
class EZConfig(TokensConfig):
    """Parts of EZ-AVGZL; sizes and dropouts of the encoder as in the class it extends, those of TCaF.

    Attributes:
        similarity: of clips and classes, the rows of Table 6 of [ez].
        contrast: what a clip's class is held against.
    """

    similarity: CosineSimilarity | LinearSimilarity | MLPSimilarity | AttentionSimilarity = field(
        default_factory=AttentionSimilarity
    )
    contrast: AmongClasses | AmongClips = field(default_factory=AmongClasses)


class EZAVGZL(nn.Module):
    """TCaF's encoder, a learnt similarity of clips and class vectors, and one contrastive loss.

    Implements Eq. (5) of [ez]. Eq. (1)-(4) make the class vectors, which are part of the experiment:
    ``Experiment(model="ez_avgzl", class_vectors=Optimised())``, see :mod:`neuroav.data.class_vectors`.

    Differs from the paper: a class that has several clips in the batch counts once (:class:`AmongClasses`). What the
    paper leaves open: layers and dropouts "follow" TCaF, so the defaults are TCaF's for UCF; class vectors are
    scaled to unit length, as the optimised ones are anyway. It does not say how seen classes are calibrated; the
    distance of a clip to a class is minus the logarithm of the class's share among those that compete, so that
    calibrated stacking takes from the score of seen classes what it adds to their distance.

    Ablations: Table 4 by model (``tcaf`` or this one) and ``class_vectors``, Tables 5, 9 and 10 by ``class_vectors``,
    Table 6 by ``similarity``; Table 7 is about features, which the store holds.
    """

    Config = EZConfig
    CARD = Card(
        title="EZ-AVGZL",
        paper="ez",
        year=2024,
        inputs="temporal",
        rows=("ez_avgzl.table1", "ez_avgzl.table2", "ez_avgzl.table3"),
    )

    def __init__(self, spec: DataSpec, config: EZConfig | None = None):
        super().__init__()
        self.config = c = EZConfig() if config is None else config
        self.tokens = ClipTokens({"audio": spec.audio_dim, "video": spec.video_dim}, c)
        self.token = nn.Parameter(torch.randn(c.dim))
        self.transformer = TokenTransformer(CrossAttention(), c.make_layers())
        self.similarity = c.similarity.build(c, spec.text_dim)

    def encode(self, batch: Batch) -> Clips:
        """Let the tokens of the clips attend to each other."""
        audio, video = batch.audio, batch.video
        heard, _ = self.tokens("audio", audio.values, audio.t_s, audio.valid, audio.valid)
        seen, _ = self.tokens("video", video.values, video.t_s, video.valid, video.valid)
        tokens, valid = self.transformer.tokens(heard, self.token, seen, audio.valid, video.valid)
        return Clips(tokens[len(heard)], tokens, valid)

    def scores(self, batch: Batch, words: Tensor) -> Tensor:
        """Similarities ``(B, K)`` of clips and class vectors ``words (K, D_text)``."""
        return self.similarity(self.encode(batch), words)

    def loss(self, batch: Batch, negatives: Tensor) -> Terms:
        """The contrastive loss, Eq. (5), over the classes of the batch; ``negatives`` are not used."""
        classes, place, count = batch.label.unique(return_inverse=True, return_counts=True)
        first = (place == torch.arange(len(classes), device=place.device)[:, None]).byte().argmax(1)
        scores = self.scores(batch, batch.text[first])
        own = scores.gather(1, place[:, None]).squeeze(1)
        return {"contrast": (self.config.contrast.log_total(scores, count) - own).mean()}

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """Minus the logarithm of each class's share ``(B, K)`` among ``class_vectors (K, D_text)``, in nats."""
        return -self.scores(batch, class_vectors).log_softmax(-1)
