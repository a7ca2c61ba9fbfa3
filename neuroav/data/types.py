"""What a model is given: ragged audio, video and motion sequences of one mini-batch, time first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
class Batch:
    """A mini-batch of clips.

    Attributes:
        audio: ``values (T, B, D_audio)``.
        video: ``values (T, B, D_video)``.
        motion: ``values (T, B, P, H, W)`` event counts per step, or ``None`` where a data set has no pixels.
        label: ``(B,)`` int64 index into the data set's class list (and its class vectors ``(K, D_text)``).
        text: ``(B, D_text)`` class vector of each clip's label.
    """

    audio: Sequence
    video: Sequence
    motion: Sequence | None
    label: Tensor
    text: Tensor

    @property
    def size(self) -> int:
        """Number of clips ``B``."""
        return self.label.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor to ``device``."""
        motion = None if self.motion is None else self.motion.to(device)
        return Batch(self.audio.to(device), self.video.to(device), motion, self.label.to(device), self.text.to(device))
