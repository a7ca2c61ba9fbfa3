"""Loss terms and heads shared by models that embed clips and class vectors in one space."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.checks import check_range, fail
from neuroav.nn.project import MLP, StepBatchNorm

Terms = dict[str, Tensor]
DISTANCE_ROWS = 1024  # taken at a time, so that what lies between stays in the cache


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    """Mean of ``max(0, d(anchor, positive) - d(anchor, negative) + margin)``, ``d`` Euclidean; all ``(B, D)``.

    Example:
        >>> a = torch.zeros(1, 2)
        >>> triplet(a, a, a).item()
        1.0
    """
    return F.triplet_margin_loss(anchor, positive, negative, margin=margin)


def prototype_distances(embedding: Tensor, prototypes: Tensor) -> Tensor:
    """Euclidean distance of each row of ``embedding (B, D)`` to each of ``prototypes (K, D)``: ``(B, K)``.

    By a matrix product in float64, rounded to the type of ``embedding`` (float32 at least): several times faster than
    differences. In float32 that form, which ``torch.cdist`` takes, is off by up to 0.03 at norms around 80; here by
    less than 1e-5 next to 0, and by rounding elsewhere.

    Example:
        >>> prototype_distances(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
        tensor([[5.]])
    """
    y, dtype = prototypes.double(), torch.promote_types(embedding.dtype, torch.float32)
    norms, turned = y.square().sum(1), -2 * y.t()
    rows = []
    for part in embedding.split(DISTANCE_ROWS):
        x = part.double()
        squared = torch.addmm(norms, x, turned).add_(x.square().sum(1, keepdim=True))
        rows.append(squared.clamp_min(1e-30).to(dtype).sqrt_())
    return torch.cat(rows)


@dataclass(frozen=True, kw_only=True)
class JointLoss:
    """Joint triplet, projection and reconstruction loss; a weight of 0 leaves a term out (Table 4 of [mdft]).

    Differs from the paper: nothing in the weights, which are all 1; for the terms see :meth:`JointHeads.loss`.

    Attributes:
        joint_triplet: weight of Eq. (13).
        projection: weight of Eq. (14).
        reconstruction: weight of Eq. (15).
        margin: the gamma of Eq. (13), dimensionless.
    """

    joint_triplet: float = 1.0
    projection: float = 1.0
    reconstruction: float = 1.0
    margin: float = 1.0

    def terms(self, joint: Tensor, word: Tensor, rebuilt: list[Tensor], text: Tensor, negatives: Tensor) -> Terms:
        """Weighted terms, see :meth:`JointHeads.loss`; ``rebuilt`` is ``(B, D_text)`` from clip and word, or empty."""
        terms: Terms = {}
        if self.joint_triplet:
            pulled = triplet(word, joint, joint[negatives], self.margin)
            pushed = triplet(joint, word, word[negatives], self.margin)
            terms["joint_triplet"] = self.joint_triplet * (pulled + pushed)
        if self.projection:
            terms["projection"] = self.projection * F.mse_loss(joint, word)
        if self.reconstruction:
            errors = torch.stack([F.mse_loss(each, text) for each in rebuilt])
            terms["reconstruction"] = self.reconstruction * errors.sum()
        return terms


@dataclass(frozen=True, kw_only=True)
class PrintedLoss:
    """The three losses letter by letter: signed differences in place of distances.

    Implements Eq. (13)-(15) of [mdft]. Differs from the paper: nothing, element-wise and averaged. Needs a shared space
    as wide as a class vector (``HeadsConfig(shared=300)``), since (15) subtracts the two. Nothing in it brings a clip
    nearer to its own class than to another; for comparison only.
    """

    reconstruction: float = 1.0
    margin: float = 1.0

    def terms(self, joint: Tensor, word: Tensor, rebuilt: list[Tensor], text: Tensor, negatives: Tensor) -> Terms:
        """The printed terms of ``joint`` and ``word (B, D)``."""
        if word.shape[-1] != text.shape[-1]:
            raise fail("PrintedLoss", f"HeadsConfig(shared={text.shape[-1]})", f"shared={word.shape[-1]}")
        hinge = F.relu(self.margin + joint - word) + F.relu(self.margin + joint[negatives] - word)
        return {
            "joint_triplet": hinge.mean(),
            "projection": (joint - word).mean(),
            "reconstruction": self.reconstruction * (rebuilt[0] - word).mean(),
        }


@dataclass(frozen=True, kw_only=True)
class LinearWords:
    """One linear, normalised word projection; the clip's projection ends linearly too, so that both signs are reached.

    Differs from the paper: :class:`PrintedWords` is what Eq. (12) of [mdft] describes. Two layers fitted to the few
    training classes place an unseen combination of known words anywhere; a linear map places it where its words add
    up. On MotionScenes, events only: HM 46.5 against 35.5 %, ZSL 59.1 against 47.4 % for the printed form
    (``experiments/results/motion_readings.md``).
    """

    def build(self, text_dim: int, heads: HeadsConfig) -> tuple[nn.Module, bool]:
        """Make the word projection; and whether the clip's projection ends linearly."""
        return nn.Sequential(nn.Linear(text_dim, heads.shared), StepBatchNorm(heads.shared)), True


@dataclass(frozen=True, kw_only=True)
class PrintedWords:
    """Two layers, each with normalisation, ReLU and dropout, for words and clips alike.

    Implements Eq. (12) of [mdft]. Differs from the paper: nothing.
    """

    def build(self, text_dim: int, heads: HeadsConfig) -> tuple[nn.Module, bool]:
        """Make the word projection; and whether the clip's projection ends linearly."""
        return MLP(text_dim, heads.hidden, heads.shared, dropout=heads.dropout_word), False


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Widths and dropouts of :class:`JointHeads`; defaults are the UCF settings of section 3.4 of [mdft].

    Attributes:
        hidden: hidden width of the heads.
        shared: ``T_proj``, width of the space where distances are taken.
        dropout: ``d_dec``, also used for ``d_proj``, which is never given.
        dropout_word: ``d_wproj``, in a two-layer word projection.
        word: ``LinearWords()``, or ``PrintedWords()`` for the paper's two layers.
        loss: weights and margin.
    """

    hidden: int = 512
    shared: int = 64
    dropout: float = 0.20
    dropout_word: float = 0.10
    word: LinearWords | PrintedWords = field(default_factory=lambda: LinearWords())
    loss: JointLoss | PrintedLoss = field(default_factory=JointLoss)

    def __post_init__(self) -> None:
        for name in ("hidden", "shared"):
            check_range("HeadsConfig", name, getattr(self, name), 1)
        for name in ("dropout", "dropout_word"):
            check_range("HeadsConfig", name, getattr(self, name), 0, 1)


class JointHeads(nn.Module):
    """Projections of clip and class vector into one space, and the way back: Eq. (12)-(15) of [mdft].

    Differs from the paper: the shared space has ``T_proj`` dimensions, a number that is otherwise unused, and the
    reconstruction ``T_fin``, the size of a class vector. The last layer of the reconstruction is linear, because class
    vectors have both signs.

    Args:
        width: size of the clip's representation.
        text_dim: size of a class vector, ``D_text``.
        config: widths, dropouts, loss.
    """

    def __init__(self, width: int, text_dim: int, config: HeadsConfig):
        super().__init__()
        self.config = config
        self.word, linear = config.word.build(text_dim, config)
        self.clip = MLP(width, config.hidden, config.shared, dropout=config.dropout, linear_output=linear)
        if config.loss.reconstruction:
            self.rebuild = MLP(config.shared, config.hidden, text_dim, dropout=config.dropout, linear_output=True)

    def loss(self, x: Tensor, text: Tensor, negatives: Tensor) -> Terms:
        """Weighted loss terms by name.

        Implements Eq. (13)-(15) of [mdft]. Differs from the paper: (13) prints differences of embeddings without a
        distance and a second term that would pull negatives closer; read as two triplets with Euclidean distance, one
        anchored in the class vector, one in the clip. (14) prints a signed mean difference, which can be 0 at any
        distance; read as mean squared error. (15) compares a reconstruction with the projection; read as recovering
        the class vector itself, from both embeddings.

        Args:
            x: clip representations ``(B, D)``.
            text: class vectors ``(B, D_text)``.
            negatives: ``(B,)`` for each clip the index of a clip of another class.
        """
        joint, word = self.clip(x), self.word(text)
        rebuilt = [self.rebuild(joint), self.rebuild(word)] if self.config.loss.reconstruction else []
        return self.config.loss.terms(joint, word, rebuilt, text, negatives)

    def embeddings(self, x: Tensor, class_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Clips ``x (B, D)`` and ``class_vectors (K, D_text)`` in the shared space, rows of ``D_shared``."""
        return self.clip(x), self.word(class_vectors)

    def distances(self, x: Tensor, class_vectors: Tensor) -> Tensor:
        """Euclidean distances ``(B, K)`` of clips ``x (B, D)`` to ``class_vectors (K, D_text)``."""
        return prototype_distances(*self.embeddings(x, class_vectors))
