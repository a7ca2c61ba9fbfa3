"""Beyond one beta and one figure: the whole seen-unseen curve, and intervals of confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroav.checks import check_range, fail
from neuroav.gzsl.margins import margins_of
from neuroav.gzsl.metrics import harmonic_mean
from neuroav.gzsl.protocol import checked_evaluation
from neuroav.gzsl.scores import calibrated_prediction, zsl_prediction

Array = NDArray[Any]


@dataclass(frozen=True)
class SeenUnseenCurve:
    """Every pair of seen and unseen recall that some beta gives.

    Attributes:
        beta: ``(n,)`` ascending: point ``i`` holds from ``beta[i]`` to ``beta[i + 1]``; the first is -inf. Where clips
            tie, a point may hold at ``beta[i]`` alone, and ``beta`` then has it twice.
        seen: ``(n,)`` mean per-class recall over seen classes, falling.
        unseen: ``(n,)`` mean per-class recall over unseen classes, rising.
    """

    beta: Array
    seen: Array
    unseen: Array

    @property
    def area(self) -> float:
        """Area under seen against unseen recall (AUSUC of [chao]), by trapezoids where clips go over together."""
        return float((np.diff(self.unseen) * (self.seen[1:] + self.seen[:-1]) / 2).sum())

    @property
    def best_hm(self) -> float:
        """Highest harmonic mean that any beta gives on these clips."""
        return float(harmonic_mean(self.seen, self.unseen).max())


def seen_unseen_curve(distances: Array, label: Array, seen: Array) -> SeenUnseenCurve:
    """Trace the curve from beta = -inf (no unseen class is predicted) to +inf (unseen classes only).

    Exact: a point for every beta at which a clip goes over, from one sort of the clips' margins; sums are those of
    real numbers, not of the distances' precision. Classes without clips are left out of the means.

    Args:
        distances: ``(B, K)`` distance of each clip to each class, lower is nearer.
        label: ``(B,)`` true column of each clip.
        seen: ``(K,)`` bool, true where the class was seen in training.

    Returns:
        The curve; its ``area`` is the AUSUC.

    Raises:
        InputError: As :func:`~neuroav.gzsl.protocol.evaluate_gzsl`, or if either kind has no clips at all.

    Example:
        >>> curve = seen_unseen_curve(np.array([[1.0, 2.0], [1.0, 1.5]]), np.array([0, 1]), np.array([True, False]))
        >>> curve.beta.tolist(), curve.seen.tolist(), curve.unseen.tolist(), curve.area
        ([-inf, 0.5, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0], 1.0)
    """
    where = "seen_unseen_curve"
    distances, seen, label = checked_evaluation(where, distances, label, seen)
    clips = np.bincount(label, minlength=seen.size)
    if not clips[seen].any() or not clips[~seen].any():
        raise fail(where, "clips of seen and of unseen classes", "one kind only")
    classes = np.where(seen, np.count_nonzero(clips[seen]), np.count_nonzero(clips[~seen]))
    weight = 1.0 / (clips * classes)[label]
    margins = margins_of(distances, seen)
    lost = np.where(margins.seen_class == label, weight, 0.0)
    won = np.where(margins.unseen_class == label, weight, 0.0)

    goes = np.flatnonzero((lost + won > 0) & (margins.beta < np.inf))
    goes = goes[np.lexsort((margins.above[goes], margins.beta[goes]))]
    beta, above = margins.beta[goes], margins.above[goes]
    last = np.append((np.diff(beta) > 0) | (above[1:] != above[:-1]), True)[: len(goes)]
    start = np.isneginf(beta)
    points = last & ~start  # what goes over at -inf has done so on all of the curve
    fell, rose = np.cumsum(lost[goes]), np.cumsum(won[goes])
    gone = np.count_nonzero(start)
    first = (lost.sum() - (fell[gone - 1] if gone else 0.0), rose[gone - 1] if gone else 0.0)
    return SeenUnseenCurve(
        beta=np.append(-np.inf, beta[points]),
        seen=np.append(first[0], np.maximum(lost.sum() - fell[points], 0.0)),
        unseen=np.append(first[1], rose[points]),
    )


@dataclass(frozen=True)
class Interval:
    """An interval of confidence of one figure."""

    low: float
    high: float


def bootstrap_intervals(
    distances: Array,
    label: Array,
    seen: Array,
    *,
    beta: float,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap of the four figures: clips are drawn again within their class, beta stays.

    At a given beta a clip is right or wrong with and without seen classes, so that drawing the clips of a class again
    draws the numbers of its four outcomes from a multinomial: that is what is done, for all classes and draws at once.
    The spread is that of the choice of test clips; training again with another seed is not in it.

    Args:
        distances: ``(B, K)`` distance of each clip to each class, lower is nearer.
        label: ``(B,)`` true column of each clip.
        seen: ``(K,)`` bool, true where the class was seen in training.
        beta: Calibration, as chosen on validation clips.
        draws: Number of resamples.
        level: Share of the resamples inside the interval.
        seed: Fixes the draws.

    Returns:
        ``seen``, ``unseen``, ``hm`` and ``zsl``; NaN where no class of the kind has clips.

    Raises:
        InputError: As :func:`~neuroav.gzsl.protocol.evaluate_gzsl`; if ``draws`` or ``level`` is out of range.

    Example:
        >>> clips = np.array([[0.0, 1.0]] * 50 + [[1.0, 0.0]] * 49 + [[0.0, 1.0]]), np.repeat([0, 1], 50)
        >>> bootstrap_intervals(*clips, np.array([True, False]), beta=0.0)["unseen"]
        Interval(low=0.94, high=1.0)
    """
    where = "bootstrap_intervals"
    check_range(where, "draws", draws, 1)
    check_range(where, "level", level, 0, 1)
    distances, seen, label = checked_evaluation(where, distances, label, seen)
    right = calibrated_prediction(distances, seen, beta) == label
    zsl_right = zsl_prediction(distances, seen) == label
    outcomes = np.zeros((seen.size, 4), np.int64)
    np.add.at(outcomes, (label, 2 * right + zsl_right), 1)
    clips = outcomes.sum(axis=1)
    present = clips > 0
    outcomes, clips, seen = outcomes[present], clips[present], seen[present]
    drawn = np.random.default_rng(seed).multinomial(clips, outcomes / clips[:, None], size=(draws, len(clips)))
    recall, zsl_recall = drawn[..., 2:].sum(axis=2) / clips, drawn[..., 1::2].sum(axis=2) / clips
    figures = {"seen": _mean(recall[:, seen]), "unseen": _mean(recall[:, ~seen])}
    figures |= {"hm": harmonic_mean(figures["seen"], figures["unseen"]), "zsl": _mean(zsl_recall[:, ~seen])}
    tails = (1 - level) / 2, (1 + level) / 2
    return {name: Interval(*np.quantile(values, tails).tolist()) for name, values in figures.items()}


def _mean(recall: Array) -> Array:
    """Mean over classes ``(draws, K) -> (draws,)``, NaN without classes."""
    return recall.mean(axis=1) if recall.shape[1] else np.full(len(recall), np.nan)
