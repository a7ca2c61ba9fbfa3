"""What a model is given: the sizes of the data before it is built, then batches of ragged sequences, time first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuroav.checks import fail


@dataclass(frozen=True)
class Sequence:
    """One modality of a batch.

    Attributes:
        values: ``(T, B, D)`` features, or ``(T, B, P, H, W)`` event counts for motion; zeros where not ``valid``.
        t_s: ``(T, B)`` start time of each step in seconds.
        valid: ``(T, B)`` bool; ``False`` marks padding, which never changes a result.
    """

    values: Tensor
    t_s: Tensor
    valid: Tensor

    def __len__(self) -> int:
        return self.values.shape[0]

    def to(self, device: torch.device | str) -> Sequence:
        """Move every tensor to ``device``."""
        return Sequence(self.values.to(device), self.t_s.to(device), self.valid.to(device))


@dataclass(frozen=True)
class Classes:
    """The classes that occur in a data set, for losses over all of them.

    Attributes:
        label: ``(K,)`` int64, ascending.
        text: ``(K, D_text)`` class vectors.
    """

    label: Tensor
    text: Tensor

    def to(self, device: torch.device | str) -> Classes:
        """Move both to ``device``."""
        return Classes(self.label.to(device), self.text.to(device))


@dataclass(frozen=True)
class Batch:
    """A mini-batch of clips.

    Attributes:
        audio: ``values (T, B, D_audio)``.
        video: ``values (T, B, D_video)``.
        motion: ``values (T, B, P, H, W)`` event counts per step, or ``None`` where a data set has no pixels.
        label: ``(B,)`` int64 index into the data set's class list (and its class vectors ``(K, D_text)``).
        text: ``(B, D_text)`` class vector of each clip's label.
        classes: all classes of the clips that the batch was drawn from, or ``None`` where that is not known.
    """

    audio: Sequence
    video: Sequence
    motion: Sequence | None
    label: Tensor
    text: Tensor
    classes: Classes | None = None

    @property
    def size(self) -> int:
        """Number of clips ``B``."""
        return self.label.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor to ``device``."""
        return Batch(
            audio=self.audio.to(device),
            video=self.video.to(device),
            motion=None if self.motion is None else self.motion.to(device),
            label=self.label.to(device),
            text=self.text.to(device),
            classes=None if self.classes is None else self.classes.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Sizes and one statistic of a training set, saved with each run.

    Attributes:
        audio_dim: width of the audio features.
        video_dim: width of the video features.
        text_dim: width of the class vectors.
        motion_shape: ``(P, H, W)`` of the event counts, or ``None`` without pixels.
        events_per_step: mean number of events per valid step of the training clips.
        shared_steps: whether audio and video of each clip have the same steps at the same times.
    """

    audio_dim: int
    video_dim: int
    text_dim: int
    motion_shape: tuple[int, int, int] | None = None
    events_per_step: float = 1.0
    shared_steps: bool = True

    def need_shared_steps(self, where: str) -> None:
        """Refuse data on which audio and video can't be compared step by step.

        Raises:
            InputError: If each has steps of its own.
        """
        if not self.shared_steps:
            remedy = "Extract or convert the clips with --align, or take features that share their steps."
            raise fail(where, "audio and video on the same steps", "steps of their own for each", remedy)
