"""Heads that hold a clip's embedding against the projected vectors of all training classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroav.checks import check_range, fail
from neuroav.nn.losses import Terms
from neuroav.nn.project import MLP


@dataclass(frozen=True, kw_only=True)
class WordLoss:
    """Cross-entropy, regression and reconstruction; a weight of 0 leaves a term out (Table 2 of [tcaf]).

    Differs from the paper: nothing in the weights, which are all 1.

    Attributes:
        cross_entropy: weight of Eq. (16).
        regression: weight of Eq. (17).
        reconstruction: weight of Eq. (18).
    """

    cross_entropy: float = 1.0
    regression: float = 1.0
    reconstruction: float = 1.0

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            check_range("WordLoss", name, weight, 0)
        if not (self.cross_entropy or self.regression):
            raise fail("WordLoss", "a weight of cross_entropy or regression above 0", "0", "They bind clips to words.")


@dataclass(frozen=True, kw_only=True)
class WordHeadsConfig:
    """Sizes, dropouts and loss of the heads; defaults are those of UCF-GZSL in section 4.1 of [tcaf].

    Attributes:
        hidden: hidden width of the clip's projection and of its decoder.
        shared: width of the space where distances are taken.
        dropout_output: in the clip's projection and decoder.
        dropout_word: in the word projection and decoder.
        loss: weights of the terms.
    """

    hidden: int = 512
    shared: int = 64
    dropout_output: float = 0.1
    dropout_word: float = 0.1
    loss: WordLoss = field(default_factory=WordLoss)

    def __post_init__(self) -> None:
        where = type(self).__name__
        for name in ("hidden", "shared"):
            check_range(where, name, getattr(self, name), 1)
        for name in ("dropout_output", "dropout_word"):
            check_range(where, name, getattr(self, name), 0, 1)


class WordHeads(nn.Module):
    """Projection of class vectors, and the way back from the shared space for clips and words.

    Args:
        text_dim: width of a class vector, ``D_text``.
        config: sizes, dropouts, loss.
    """

    def __init__(self, text_dim: int, config: WordHeadsConfig):
        super().__init__()
        self.weights = config.loss
        self.word = MLP(text_dim, config.shared, dropout=config.dropout_word)
        if self.weights.reconstruction:
            self.rebuild_clip = MLP(config.shared, config.hidden, text_dim, dropout=config.dropout_output)
            self.rebuild_word = MLP(config.shared, text_dim, dropout=config.dropout_word)

    def loss(self, embeddings: Sequence[Tensor], text: Tensor, class_text: Tensor, target: Tensor) -> Terms:
        """Weighted terms, each the sum over ``embeddings``.

        Implements Eq. (16)-(18) of [tcaf]. Differs from the paper: (17) and (18) print sums of vectors, taken as means
        over all elements as in the released code.

        Args:
            embeddings: of the same clips, ``(B, D)`` each.
            text: class vectors of the clips, ``(B, D_text)``.
            class_text: ``(K, D_text)`` vectors of the training classes.
            target: ``(B,)`` which of them each clip's is.
        """
        word, terms = self.word(text), {}
        if self.weights.cross_entropy:
            prototypes = self.word(class_text).t()
            errors = [F.cross_entropy(x @ prototypes, target) for x in embeddings]
            terms["cross_entropy"] = self.weights.cross_entropy * torch.stack(errors).sum()
        if self.weights.regression:
            errors = [F.mse_loss(x, word) for x in embeddings]
            terms["regression"] = self.weights.regression * torch.stack(errors).sum()
        if self.weights.reconstruction:
            errors = [F.mse_loss(self.rebuild_clip(x), text) for x in embeddings]
            errors.append(F.mse_loss(self.rebuild_word(word), text))
            terms["reconstruction"] = self.weights.reconstruction * torch.stack(errors).sum()
        return terms
