"""From loaded clips to mini-batches: standardisation by training statistics, collation, balanced draws, negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import fail
from neuroav.data.store import LoadedClips
from neuroav.data.types import Batch, Classes, DataSpec, Sequence


@dataclass(frozen=True)
class Statistics:
    """Per-feature mean and standard deviation over the training steps, and the mean event count of a step.

    Attributes:
        audio_mean, audio_std: ``(D_audio,)`` float32.
        video_mean, video_std: ``(D_video,)`` float32.
        events_per_step: events in a mean training step; 1 for clips without motion.
    """

    audio_mean: Tensor
    audio_std: Tensor
    video_mean: Tensor
    video_std: Tensor
    events_per_step: float

    @classmethod
    def of(cls, clips: LoadedClips) -> Statistics:
        """Measure training clips; a constant feature gets a standard deviation of 1."""
        per_step = 1.0 if clips.motion is None else clips.motion.sum((1, 2, 3), dtype=np.int64).mean()
        (audio_mean, audio_std), (video_mean, video_std) = _moments(clips.audio), _moments(clips.video)
        return cls(audio_mean, audio_std, video_mean, video_std, float(per_step))


def _moments(values: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(D,)`` of ``values (R, D)``, taken in float64."""
    mean, std = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    std[std < 1e-6] = 1.0
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(std.astype(np.float32))


class ClipData:
    """Standardised clips in memory, ready to be batched.

    Args:
        clips: as loaded from a store.
        statistics: of the *training* clips.
        class_vectors: ``(K, D_text)`` float32, one row per label.
    """

    def __init__(self, clips: LoadedClips, statistics: Statistics, class_vectors: np.ndarray):
        if len(clips) == 0:
            raise fail("ClipData", "at least one clip", "none", "Check the parts and labels of the store.")
        self.audio = (torch.from_numpy(clips.audio) - statistics.audio_mean) / statistics.audio_std
        self.video = (torch.from_numpy(clips.video) - statistics.video_mean) / statistics.video_std
        self.motion = None if clips.motion is None else torch.from_numpy(clips.motion.astype(np.int32))
        self.t_s, self.offsets = torch.from_numpy(clips.t_s), torch.from_numpy(clips.offsets)
        self.audio_t_s, self.audio_offsets = torch.from_numpy(clips.audio_t_s), torch.from_numpy(clips.audio_offsets)
        self.labels = torch.from_numpy(clips.labels)
        self.class_vectors = torch.from_numpy(class_vectors)
        present = torch.unique(self.labels)
        self.classes = Classes(present, self.class_vectors[present])
        self.events_per_step = statistics.events_per_step

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def spec(self) -> DataSpec:
        """Sizes that a model is built from."""
        motion = None
        if self.motion is not None:
            polarities, height, width = self.motion.shape[1:]
            motion = (polarities, height, width)
        return DataSpec(
            audio_dim=self.audio.shape[1],
            video_dim=self.video.shape[1],
            text_dim=self.class_vectors.shape[1],
            motion_shape=motion,
            events_per_step=self.events_per_step,
        )

    def batch(self, indices: Tensor | np.ndarray) -> Batch:
        """Collate clips ``indices (B,)``, padded to the longest; padding is zero and marked invalid."""
        indices = torch.as_tensor(indices)
        rows, valid = _grid(self.offsets, indices)
        audio_rows, audio_valid = _grid(self.audio_offsets, indices)
        motion = None if self.motion is None else _collate(self.motion, self.t_s, rows, valid)
        label = self.labels[indices]
        return Batch(
            audio=_collate(self.audio, self.audio_t_s, audio_rows, audio_valid),
            video=_collate(self.video, self.t_s, rows, valid),
            motion=motion,
            label=label,
            text=self.class_vectors[label],
            classes=self.classes,
        )

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All clips in stored order, as for evaluation."""
        for start in range(0, len(self), batch_size):
            yield self.batch(torch.arange(start, min(start + batch_size, len(self))))


def _grid(offsets: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``(T, B)`` of the steps of some clips, and which of them are no padding."""
    start, length = offsets[indices], offsets[indices + 1] - offsets[indices]
    steps = torch.arange(int(length.max())).unsqueeze(1)
    valid = steps < length
    return torch.where(valid, start + steps, start), valid


def _collate(flat: Tensor, t_s: Tensor, rows: Tensor, valid: Tensor) -> Sequence:
    values = flat[rows].to(torch.float32)
    mask = valid.reshape(*valid.shape, *[1] * (values.ndim - 2))
    return Sequence(values * mask, t_s[rows], valid)


def class_balanced(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``size`` clip indices with replacement, every class equally likely, then every clip of the class.

    Example:
        >>> labels = np.array([0] * 99 + [1])
        >>> drawn = class_balanced(labels, 1000, np.random.default_rng(0))
        >>> bool(400 < (labels[drawn] == 1).sum() < 600)
        True
    """
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    chosen = rng.integers(len(classes), size=size)
    return order[first[chosen] + (rng.random(size) * counts[chosen]).astype(np.int64)]


def in_batch_negatives(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each item a uniformly drawn item of the batch with another label.

    Raises:
        InputError: If the batch holds one class only.

    Example:
        >>> in_batch_negatives(np.array([3, 3, 5]), np.random.default_rng(0)).tolist()[:2]
        [2, 2]
    """
    other = labels[:, None] != labels[None, :]
    if not other.any(1).all():
        raise fail(
            "in_batch_negatives", "at least two classes in a batch", "one", "Use larger batches or more classes."
        )
    return np.where(other, rng.random(other.shape), -1.0).argmax(1)
