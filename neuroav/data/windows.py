"""Which steps of its clips a batch holds: all of them, or a window that is drawn in training and central at evaluation.

A window restarts the clock: its first step is at 0 s in either modality, as in the released code of [tcaf].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import check_range


class Rows(NamedTuple):
    """Steps of a modality that a batch holds: ``first (B,)`` row and ``length (B,)`` of each clip, and its time 0."""

    first: Tensor
    length: Tensor
    zero_s: Tensor


class Clock(NamedTuple):
    """Steps of all clips in one modality.

    Attributes:
        t_s: ``(R,)`` start of each step in seconds.
        offsets: ``(n + 1,)`` int64; clip ``i`` owns rows ``offsets[i]:offsets[i + 1]``.
        step_s: median seconds from the first step of a clip to its second; 1 where no clip has two.
    """

    t_s: Tensor
    offsets: Tensor
    step_s: float

    def agrees_with(self, other: Clock) -> bool:
        """Whether both have the same steps, at times that differ by less than a millisecond."""
        return torch.equal(self.offsets, other.offsets) and torch.allclose(self.t_s, other.t_s, rtol=0, atol=1e-3)

    @classmethod
    def of(cls, t_s: np.ndarray, offsets: np.ndarray) -> Clock:
        """Measure the step of some clips."""
        first = offsets[:-1][np.diff(offsets) > 1]
        step_s = float(np.median(t_s[first + 1] - t_s[first])) if len(first) else 1.0
        return cls(torch.from_numpy(t_s), torch.from_numpy(offsets), step_s)

    def clips(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """First row and number of steps of clips ``indices (B,)``, ``(B,)`` each."""
        first = self.offsets[indices]
        return first, self.offsets[indices + 1] - first

    def window(self, start: Tensor, first: Tensor, length: Tensor) -> Rows:
        """``length (B,)`` steps from step ``start (B,)`` of the clips that begin at row ``first (B,)``."""
        return Rows(first + start, length, self.t_s[first + start])


@dataclass(frozen=True)
class AsPublished:
    """Section 4.1 of [tcaf], which speaks of one length and of a random place: any place, audio of the same span."""

    def audio_steps(self, steps: int, step_s: float, audio_step_s: float) -> int:
        """Audio steps of ``audio_step_s`` seconds in a window of ``steps`` video steps of ``step_s`` seconds."""
        return max(1, round(steps * step_s / audio_step_s))

    def places(self, surplus: Tensor) -> Tensor:
        """Places ``(B,)`` of a window in clips that are longer by ``surplus (B,)``."""
        return surplus + 1


@dataclass(frozen=True)
class AsReleased:
    """The released collation of [tcaf], where audio is shorter than its video and the last place is never drawn."""

    def audio_steps(self, steps: int, step_s: float, audio_step_s: float) -> int:
        """Multiply where the same span asks for a division: 37 steps in place of 40 for 60 of C3D beside VGGish."""
        return max(1, round(steps * step_s * audio_step_s))

    def places(self, surplus: Tensor) -> Tensor:
        """Places ``(B,)`` of a window in clips that are longer by ``surplus (B,)``, less the last."""
        return surplus.clamp(min=1)


class Places(Protocol):
    """Where in a clip its window begins."""

    def starts(self, surplus: Tensor, indices: Tensor) -> Tensor:
        """Start ``(B,)`` of the windows of clips ``indices (B,)``, which are longer by ``surplus (B,)`` steps."""
        ...


@dataclass(frozen=True)
class Drawn:
    """Uniform over the places of ``reading``.

    The draw depends on ``seed`` and on the clips of the batch alone, which training draws from its own seed: a batch is
    the same in whichever process, ahead of its turn or again after an interruption.
    """

    seed: int
    reading: AsPublished | AsReleased

    def starts(self, surplus: Tensor, indices: Tensor) -> Tensor:
        """Start ``(B,)`` of each window."""
        share = np.random.default_rng([self.seed, *indices.tolist()]).random(len(indices))
        return (torch.from_numpy(share) * self.reading.places(surplus)).long()


@dataclass(frozen=True)
class Central:
    """As many steps left out before the window as after it, or one fewer."""

    def starts(self, surplus: Tensor, indices: Tensor) -> Tensor:
        """Start ``(B,)`` of each window."""
        return surplus // 2


@dataclass(frozen=True)
class WholeClips:
    """Every step of a clip, at the times of the store."""

    def training(self, seed: int) -> WholeClips:
        """All steps in training."""
        return self

    def evaluation(self) -> WholeClips:
        """All steps at evaluation."""
        return self

    def rows(self, video: Clock, audio: Clock, indices: Tensor) -> tuple[Rows, Rows]:
        """Steps of video and audio of clips ``indices (B,)``."""
        zero = torch.zeros(len(indices))
        seen, heard = (Rows(*clock.clips(indices), zero) for clock in (video, audio))
        return seen, heard


@dataclass(frozen=True)
class Window:
    """At most ``steps`` of the video of a clip, and the audio that goes with them.

    Audio that shares the video's steps has the same window. Audio with steps of its own begins with the step nearest
    to the window's beginning, earlier if the clip's audio ends too early for a whole window.
    """

    steps: int
    place: Places
    reading: AsPublished | AsReleased

    def rows(self, video: Clock, audio: Clock, indices: Tensor) -> tuple[Rows, Rows]:
        """Steps of video and audio of clips ``indices (B,)``; ``audio is video`` where they share their steps."""
        first, length = video.clips(indices)
        surplus = (length - self.steps).clamp(min=0)
        start = self.place.starts(surplus, indices)
        seen = video.window(start, first, length - surplus)
        if audio is video:
            return seen, seen
        first, length = audio.clips(indices)
        surplus = (length - self.reading.audio_steps(self.steps, video.step_s, audio.step_s)).clamp(min=0)
        nearest = (start.double() * video.step_s / audio.step_s).round().long()
        return seen, audio.window(torch.minimum(nearest, surplus), first, length - surplus)


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Windows of limited length, as [tcaf] reads ActivityNet: drawn anew in each training batch, central at evaluation.

    Steps are the video's; shorter clips stay whole. Differs from the paper: a batch is padded to its longest window,
    in the released code always to the full number of steps, which only batch normalisation over padding could tell.

    Attributes:
        train: most steps in training.
        test: most steps at validation and test.
        reading: the paper's, or that of the released code.

    Example:
        >>> crops = Crops(train=60, test=300)
        >>> crops.training(seed=0).steps, crops.evaluation().place
        (60, Central())
    """

    train: int = 60
    test: int = 300
    reading: AsPublished | AsReleased = field(default_factory=AsPublished)

    def __post_init__(self) -> None:
        check_range("Crops", "train", self.train, 1)
        check_range("Crops", "test", self.test, 1)

    def training(self, seed: int) -> Window:
        """Windows of training batches."""
        return Window(self.train, Drawn(seed, self.reading), self.reading)

    def evaluation(self) -> Window:
        """Windows of validation and test."""
        return Window(self.test, Central(), self.reading)
