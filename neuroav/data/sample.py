"""From loaded clips to mini-batches: standardisation by training statistics, collation, balanced draws, negatives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import fail
from neuroav.data.chunks import StoredRows
from neuroav.data.store import LoadedClips
from neuroav.data.types import Batch, Classes, DataSpec, Sequence
from neuroav.data.windows import Clock, Rows, WholeClips, Window

WHOLE_CLIPS = WholeClips()
_PIECE_BYTES = 2**28  # of float64 while moments are taken


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
        """Measure training clips, a piece at a time; a constant feature gets a standard deviation of 1."""
        (audio_mean, audio_std), (video_mean, video_std) = _moments(clips.audio), _moments(clips.video)
        return cls(audio_mean, audio_std, video_mean, video_std, _events_per_step(clips))


@dataclass(frozen=True)
class Standardised:
    """Each feature less its mean and over its standard deviation, both taken over the training steps."""

    def statistics(self, clips: LoadedClips) -> Statistics:
        """Measure training clips."""
        return Statistics.of(clips)


@dataclass(frozen=True)
class AsStored:
    """Features as the store has them, which is what the released code of the baselines reads."""

    def statistics(self, clips: LoadedClips) -> Statistics:
        """Mean 0 and standard deviation 1, whatever the clips; events per step are measured."""
        audio, video = clips.audio.shape[1], clips.video.shape[1]
        moments = torch.zeros(audio), torch.ones(audio), torch.zeros(video), torch.ones(video)
        return Statistics(*moments, _events_per_step(clips))


def _moments(values: np.ndarray | StoredRows) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(D,)`` of ``values (R, D)``, taken in float64."""
    rows = max(1, _PIECE_BYTES // (8 * values.shape[1]))
    mean, variance, seen = np.zeros(values.shape[1]), np.zeros(values.shape[1]), 0
    for start in range(0, len(values), rows):
        piece = values[start : start + rows]
        share = len(piece) / (seen + len(piece))
        own_mean, own_variance = piece.mean(0, dtype=np.float64), piece.var(0, dtype=np.float64)
        variance = (1 - share) * variance + share * own_variance + share * (1 - share) * (own_mean - mean) ** 2
        mean, seen = mean + share * (own_mean - mean), seen + len(piece)
    std = np.sqrt(variance)
    std[std < 1e-6] = 1.0
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(std.astype(np.float32))


def _events_per_step(clips: LoadedClips) -> float:
    return 1.0 if clips.motion is None else float(clips.motion.sum((1, 2, 3), dtype=np.int64).mean())


class ClipData:
    """Clips ready to be batched; each feature less ``statistics``' mean and over its standard deviation as they are.

    Batches that were announced by :meth:`expect` are read and put together in a thread of their own meanwhile.

    Args:
        clips: as loaded from a store.
        statistics: of the *training* clips.
        class_vectors: ``(K, D_text)`` float32, one row per label.
        steps: those of a clip that go into a batch.
    """

    def __init__(
        self,
        clips: LoadedClips,
        statistics: Statistics,
        class_vectors: np.ndarray,
        steps: WholeClips | Window = WHOLE_CLIPS,
    ):
        if len(clips) == 0:
            raise fail("ClipData", "at least one clip", "none", "Check the parts and labels of the store.")
        self._statistics, self._steps = statistics, steps
        self._audio, self._video = (
            torch.from_numpy(flat) if isinstance(flat, np.ndarray) else flat for flat in (clips.audio, clips.video)
        )
        self._motion = None if clips.motion is None else torch.from_numpy(clips.motion.astype(np.int32))
        self._clock = self._audio_clock = Clock.of(clips.t_s, clips.offsets)
        if clips.audio_t_s is not clips.t_s:
            self._audio_clock = Clock.of(clips.audio_t_s, clips.audio_offsets)
        self.labels = torch.from_numpy(clips.labels)
        self.class_vectors = torch.from_numpy(class_vectors)
        present = torch.unique(self.labels)
        self.classes = Classes(present, self.class_vectors[present])
        self.events_per_step = statistics.events_per_step
        self._reader: ThreadPoolExecutor | None = None
        self._expected: dict[bytes, Future[Batch]] = {}
        self._expected_before: dict[bytes, Future[Batch]] = {}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def spec(self) -> DataSpec:
        """Sizes that a model is built from."""
        motion = None
        if self._motion is not None:
            polarities, height, width = self._motion.shape[1:]
            motion = (polarities, height, width)
        return DataSpec(
            audio_dim=self._audio.shape[1],
            video_dim=self._video.shape[1],
            text_dim=self.class_vectors.shape[1],
            motion_shape=motion,
            events_per_step=self.events_per_step,
            shared_steps=self._clock.agrees_with(self._audio_clock),
        )

    def expect(self, batches: Iterable[np.ndarray]) -> None:
        """Begin to put together batches that :meth:`batch` will be asked for after those that it is asked for now.

        Those of the call before are kept, and forgotten by the next one.
        """
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, "neuroav-batches")
        for future in self._expected_before.values():
            future.cancel()
        self._expected_before = self._expected
        self._expected = {
            indices.tobytes(): self._reader.submit(self._collate, torch.from_numpy(indices)) for indices in batches
        }

    def batch(self, indices: Tensor | np.ndarray) -> Batch:
        """Collate clips ``indices (B,)``, padded to the longest; padding is zero and marked invalid."""
        indices = torch.as_tensor(indices)
        key = indices.numpy().tobytes()
        expected = self._expected_before.pop(key, None) or self._expected.pop(key, None)
        return self._collate(indices) if expected is None else expected.result()

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All clips in stored order, as for evaluation; the next batch is put together while one is used."""
        pieces = [np.arange(i, min(i + batch_size, len(self))) for i in range(0, len(self), batch_size)]
        for piece, following in zip_longest(pieces, pieces[1:]):
            if following is not None:
                self.expect([following])
            yield self.batch(piece)

    def _collate(self, indices: Tensor) -> Batch:
        statistics, label = self._statistics, self.labels[indices]
        seen, heard = self._steps.rows(self._clock, self._audio_clock, indices)
        grid, audio_grid = _Grid.of(seen), _Grid.of(heard)
        audio = (audio_grid.take(self._audio) - statistics.audio_mean) / statistics.audio_std
        video = (grid.take(self._video) - statistics.video_mean) / statistics.video_std
        return Batch(
            audio=audio_grid.sequence(audio, self._audio_clock.t_s),
            video=grid.sequence(video, self._clock.t_s),
            motion=None if self._motion is None else grid.sequence(grid.take(self._motion), self._clock.t_s),
            label=label,
            text=self.class_vectors[label],
            classes=self.classes,
        )


class _Grid(NamedTuple):
    """Where the steps of some clips lie: flat rows ``(T, B)``, which of them are no padding, and time 0 ``(B,)``."""

    rows: Tensor
    valid: Tensor
    zero_s: Tensor

    @classmethod
    def of(cls, rows: Rows) -> _Grid:
        steps = torch.arange(int(rows.length.max())).unsqueeze(1)
        valid = steps < rows.length
        return cls(torch.where(valid, rows.first + steps, rows.first), valid, rows.zero_s)

    def take(self, flat: Tensor | StoredRows) -> Tensor:
        """Values ``(T, B, ...)``, anything where not valid."""
        if isinstance(flat, Tensor):
            return flat[self.rows].to(torch.float32)
        values = torch.zeros(*self.rows.shape, *flat.shape[1:])
        for b, (first, length) in enumerate(zip(self.rows[0].tolist(), self.valid.sum(0).tolist(), strict=True)):
            values[:length, b] = torch.from_numpy(flat[first : first + length])
        return values

    def sequence(self, values: Tensor, t_s: Tensor) -> Sequence:
        mask = self.valid.reshape(*self.valid.shape, *[1] * (values.ndim - 2))
        return Sequence(values * mask, t_s[self.rows] - self.zero_s, self.valid)


def class_balanced(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``size`` clip indices with replacement, every class equally likely, then every clip of the class.

    Example:
        >>> labels = np.array([0] * 99 + [1])
        >>> drawn = class_balanced(labels, 1000, np.random.default_rng(0))
        >>> bool(400 < (labels[drawn] == 1).sum() < 600)
        True
    """
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    order = np.argsort(labels, kind="stable")
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    chosen = rng.integers(len(counts), size=size)
    return order[first[chosen] + (rng.random(size) * counts[chosen]).astype(np.int64)]


def in_batch_negatives(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each item a uniformly drawn item of the batch with another label.

    In a class-balanced batch each pair has the law that the code of [avca] and [tcaf] draws from (another class, then
    one of its clips, each uniformly); but there negatives are clips of their own, here pairs of a batch share clips,
    which saves the model half of its work.

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
