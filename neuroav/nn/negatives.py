"""What is heard, seen and said of the clips of a batch, and where the embeddings of negative clips come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

Parts = TypeVar("Parts", bound=tuple[Any, ...])


class Trio(NamedTuple):
    """Features or embeddings of the same ``B`` clips.

    Attributes:
        audio: ``(B, D_audio)``.
        video: ``(B, D_video)``.
        text: ``(B, D_text)``.
    """

    audio: Tensor
    video: Tensor
    text: Tensor


def rows(parts: Parts, index: Tensor) -> Parts:
    """The rows ``index (B',)`` of each tensor ``(B, ...)`` of a named tuple, as the same kind of named tuple.

    Example:
        >>> import torch
        >>> rows(Trio(*torch.arange(6.0).reshape(3, 2, 1)), torch.tensor([1])).video.tolist()
        [[3.0]]
    """
    return type(parts)(*(each[index] for each in parts))


@dataclass(frozen=True)
class OnePass:
    """The batch is embedded once; the embedding of a negative is that of the clip it is."""

    def both(self, embed: Callable[[Any], Parts], clips: Any, negatives: Tensor) -> tuple[Parts, Parts]:
        """Embeddings of the clips and of their ``negatives (B,)``, clips of the same batch by number.

        Args:
            embed: the network, from a named tuple of ``(B, ...)`` to another.
            clips: what it reads.
            negatives: for each clip the number of a clip of another class.
        """
        positive = embed(clips)
        return positive, rows(positive, negatives)


@dataclass(frozen=True)
class TwoPasses:
    """Negatives pass the network as a batch of their own.

    As released code does: twice the work, dropout of their own, and running statistics that move twice.
    """

    def both(self, embed: Callable[[Any], Parts], clips: Any, negatives: Tensor) -> tuple[Parts, Parts]:
        """See :meth:`OnePass.both`."""
        return embed(clips), embed(rows(clips, negatives))
