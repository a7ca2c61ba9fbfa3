"""Every beta at once: the betas at which clips go from their nearest seen class to their nearest unseen one.

``beta`` is added to all seen distances alike, so each clip has two candidates only, its nearest seen and its nearest
unseen class, and goes over from one to the other at one beta: the difference of the two distances, its *margin*.
Sorting margins therefore gives the figures of every beta, of a grid or of the whole line, in one pass.

>>> distances = np.array([[1.0, 1.5], [2.0, 1.0]])
>>> margins_of(distances, np.array([True, False])).beta
array([ 0.5, -1. ])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroav.gzsl.scores import calibrated_prediction

Array = NDArray[Any]


@dataclass(frozen=True)
class Margins:
    """The two candidates of each clip, and where it goes over.

    Attributes:
        seen_class: ``(B,)`` column of the nearest seen class, the lowest of equals.
        unseen_class: ``(B,)`` column of the nearest unseen class, the lowest of equals; the prediction of ZSL.
        beta: ``(B,)`` float64, the unseen distance minus the seen one.
        above: ``(B,)`` bool, true where the clip goes over only above ``beta``: at ``beta`` itself both distances are
            equal, and the lower column wins.
    """

    seen_class: Array
    unseen_class: Array
    beta: Array
    above: Array


def margins_of(distances: Array, seen: Array) -> Margins:
    """Find the margins of ``distances (B, K)``, checked and without NaN, with ``seen (K,)`` bool of both kinds."""
    seen_class, seen_distance = _nearest(distances, np.flatnonzero(seen))
    unseen_class, unseen_distance = _nearest(distances, np.flatnonzero(~seen))
    above = seen_class < unseen_class
    with np.errstate(invalid="ignore"):
        beta = unseen_distance - seen_distance
    both_infinite = np.isnan(beta)  # no beta changes that; the lower column wins
    beta[both_infinite] = np.where(above[both_infinite], np.inf, -np.inf)
    return Margins(seen_class, unseen_class, beta, above)


def _nearest(distances: Array, columns: Array) -> tuple[Array, Array]:
    """Return the nearest of some columns and its distance in float64, each ``(B,)``."""
    block = distances.take(columns, axis=1)
    best = block.argmin(axis=1)
    return columns[best], block[np.arange(len(block)), best].astype(np.float64)


def hits_by_beta(distances: Array, label: Array, seen: Array, betas: Array, margins: Margins) -> Array:
    """Count the clips of each class that are recalled at each beta, exactly as ``calibrated_prediction`` would.

    That one adds ``beta`` in the precision of the distances, so next to a tie rounding decides. The few clips whose
    margin, or whose second nearest seen class, comes that close at some beta are predicted one beta at a time.

    Args:
        distances: ``(B, K)``, checked.
        label: ``(B,)`` true columns.
        seen: ``(K,)`` bool.
        betas: ``(n,)`` finite, in any order.
        margins: Those of ``distances``.

    Returns:
        ``(n, K)`` int64 counts.
    """
    num_classes = seen.size
    order = np.argsort(betas, kind="stable")
    ascending = betas[order].astype(np.float64)
    first = np.searchsorted(ascending, margins.beta)  # the first beta at which the clip has gone over
    close = _rounding_decides(distances, seen, ascending, first, margins)

    # +1 where a clip becomes right, -1 where it becomes wrong; the running sum over betas counts the right ones.
    step = np.zeros((betas.size + 1, num_classes), np.int64)
    right_before = ~close & (margins.seen_class == label)
    right_after = ~close & (margins.unseen_class == label)
    step[0] = np.bincount(label[right_before], minlength=num_classes)
    cell = first * num_classes + label
    gained = np.bincount(cell[right_after], minlength=step.size) - np.bincount(cell[right_before], minlength=step.size)
    step += gained.reshape(step.shape)
    hits = np.empty((betas.size, num_classes), np.int64)
    hits[order] = np.cumsum(step, axis=0)[:-1]

    rows, rows_label = distances[close], label[close]
    for i, beta in enumerate(betas if len(rows) else ()):
        right = calibrated_prediction(rows, seen, beta) == rows_label
        hits[i] += np.bincount(rows_label[right], minlength=num_classes)
    return hits


def _rounding_decides(distances: Array, seen: Array, ascending: Array, first: Array, margins: Margins) -> Array:
    """Mark the clips ``(B,)`` at which rounding of ``distance + beta`` may choose another class than exact sums.

    ``first (B,)`` is the place of each margin among the ``ascending`` betas.
    """
    rows = np.arange(len(distances))
    nearest = np.abs(distances[rows, margins.seen_class].astype(np.float64))
    unseen = np.abs(distances[rows, margins.unseen_class].astype(np.float64))
    slack = 4 * np.finfo(distances.dtype).eps * (nearest + unseen + np.abs(ascending[[0, -1]]).max())
    infinite = ~np.isfinite(slack)
    slack[infinite] = 0.0
    walled = np.concatenate([[-np.inf], ascending, [np.inf]])
    at_a_beta = (walled[first] >= margins.beta - slack) | (walled[first + 1] <= margins.beta + slack)
    limit = (distances[rows, margins.seen_class] + slack).astype(distances.dtype)
    within = np.flatnonzero((distances <= limit[:, None]) & seen) // seen.size
    rivals = np.bincount(within, minlength=len(rows)) > 1
    return at_a_beta | rivals | infinite
