"""The protocol that every model keeps, and the card that says what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from neuroav.checks import fail
from neuroav.data.types import Batch
from neuroav.nn.attention import masked_mean


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model is, for lists and tables; ``CARD`` of each model class.

    Attributes:
        title: what papers call it.
        paper: its entry in ``references.bib``; empty for a control of this package.
        year: of that paper; 0 for a control.
        inputs: ``"temporal"`` if the order of a clip's steps can change its answer, else ``"averaged"``.
        spiking: whether any of its neurons spike.
        rows: results tables with a row of it, ``PAPER.TABLE`` as in ``tcaf.table1``.
    """

    title: str
    paper: str = ""
    year: int = 0
    inputs: Literal["averaged", "temporal"]
    spiking: bool = False
    rows: tuple[str, ...] = ()


@runtime_checkable
class AVModel(Protocol):
    """What training and evaluation ask of a model (an ``nn.Module``).

    A model may also have ``after_step(batch, negatives)``: called in training mode after each step of the optimiser, to
    move running statistics as released code does. It may change buffers, not parameters.

    A generative model also has ``fit_extra(batches, classes, seen)``, which fits what it classifies with: ``batches``
    are the training clips in order, ``classes`` those that compete, and ``seen (K,)`` says which of these have clips.
    It is called in evaluation mode without gradients, after training, on the chosen weights: once with the classes of
    validation before beta is chosen, once with those of the test. It draws from torch's generators, which are seeded
    before, and leaves what it fits in buffers, so that it is saved. ``distances`` are taken before it, too: after each
    epoch, to choose one.

    A model whose distances are Euclidean ones in one space also has ``embeddings(batch, class_vectors)``: the clips
    ``(B, D)`` and the classes ``(K, D)`` there, for pictures of that space. ``distances`` is then the distance of each
    of the first to each of the second.
    """

    def loss(self, batch: Batch, negatives: Tensor) -> dict[str, Tensor]:
        """Named loss terms, already weighted; their sum is minimised.

        ``negatives (B,)`` int64 names, for each clip, a clip of another class in the same batch.
        """
        ...

    def distances(self, batch: Batch, class_vectors: Tensor) -> Tensor:
        """``(B, K)`` distances to classes given by ``class_vectors (K, D_text)``; lower is nearer."""
        ...


def averages(batch: Batch) -> tuple[Tensor, Tensor]:
    """Audio ``(B, D_audio)`` and video ``(B, D_video)`` averaged over each clip's steps, for models without time."""
    return masked_mean(batch.audio.values, batch.audio.valid), masked_mean(batch.video.values, batch.video.valid)


def joined_averages(batch: Batch) -> Tensor:
    """Averages of audio and video side by side, ``(B, D_audio + D_video)``."""
    return torch.cat(averages(batch), -1)


def known_classes(where: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """Vectors ``(K, D_text)`` of all training classes, and which of them each clip's is, ``(B,)``.

    Raises:
        InputError: If the batch does not say which classes there are.
    """
    if batch.classes is None:
        raise fail(where, "a batch with classes", "None", "Batches of ClipData have them.")
    return batch.classes.text, torch.searchsorted(batch.classes.label, batch.label)
