"""The generalised zero-shot protocol: calibrate on validation data, then evaluate once on test data.

Calibrated stacking adds ``beta`` to the distance of every seen class before the nearest class is taken. ``seen`` (S)
and ``unseen`` (U) are means of per-class recall over the classes of each kind, ``hm`` their harmonic mean, and ``zsl``
the mean recall over unseen classes when seen classes do not compete. The two stages are

>>> from neuroav.gzsl.protocol import calibrate, evaluate_gzsl
>>> val = np.array([[1.0, 1.3], [1.0, 2.0]]), np.array([1, 0]), np.array([True, False])
>>> beta = calibrate(*val)  # stage 1, on validation classes
>>> result = evaluate_gzsl(*val, beta=beta)  # stage 2, on test classes
>>> round(result.beta, 2), result.hm
(0.4, 1.0)

What the evaluators released with [avca] and [tcaf] do otherwise, and how to get it here:

==================================================  ==================================================
released                                            here
==================================================  ==================================================
a class without clips makes its mean NaN, and a     such a class is left out of the mean and named in
search that finds only NaN picks beta 0             ``empty_classes``; ``Quirks(empty_class_is_nan=True)``
``beta=0`` is falsy: the grid is searched on the    0 is used as it is, and ``beta=None`` searches;
data given, test data included                      ``Quirks(zero_beta_searches=True)``
recalls, means and HM are taken in float32           in float64; ``Quirks(float32_means=True)``
three betas (audio, video, both) make one, and      one output, one beta; ``released_beta`` combines three
1e-10 stands in for 0
distances are float32, from a matrix product        used in their own precision;
                                                    ``scores.euclidean_distances`` takes differences
distances are squared only when the loss is named   square them before the call
by the string ``"SquaredL2Loss"``
the entry "recall" holds recalls of ZSL             ``zsl_recall``; ``recall`` holds those of GZSL
HM divides by ``S + U + 2.2e-16``                   by ``S + U``; 0 where both are 0
==================================================  ==================================================

``RELEASED`` switches on the first three together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neuroav.checks import check_choice, fail
from neuroav.gzsl.margins import hits_by_beta, margins_of
from neuroav.gzsl.metrics import checked_index, harmonic_mean, per_class_recall
from neuroav.gzsl.scores import checked_distances

Array = NDArray[Any]

BETA_GRID = np.linspace(0, 3, 16, dtype=np.float32)
"""The released grid: 0 to 3 in steps of 0.2, in float32, dimensionless like the distances."""


@dataclass(frozen=True, kw_only=True)
class Quirks:
    """What the released evaluators do otherwise, each by its name; none by default.

    Attributes:
        empty_class_is_nan: A class without clips makes its mean NaN, in place of being left out.
        zero_beta_searches: ``beta=0`` searches the grid on the clips given.
        float32_means: Recalls, their means (in torch's order of summation) and ``hm`` are taken in float32.
    """

    empty_class_is_nan: bool = False
    zero_beta_searches: bool = False
    float32_means: bool = False

    def mean(self, recall: Array, classes: Array) -> Array:
        """Average recalls ``(n, K)`` over the classes of a mask ``(K,)``: ``(n,)``; NaN marks a class without clips."""
        chosen = recall[:, classes]
        if not self.empty_class_is_nan:
            chosen = chosen[:, ~np.isnan(chosen).any(axis=0)]
        if chosen.shape[1] == 0:
            return np.full(len(chosen), np.nan)
        if self.float32_means:
            import torch

            return np.array([torch.from_numpy(row).mean().numpy() for row in chosen.astype(np.float32)])
        return np.ascontiguousarray(chosen).mean(axis=1)


NO_QUIRKS = Quirks()
RELEASED = Quirks(empty_class_is_nan=True, zero_beta_searches=True, float32_means=True)
"""The released evaluators, quirk for quirk."""


@dataclass(frozen=True)
class GZSLResult:
    """Figures of one evaluation; all fractions in [0, 1].

    Attributes:
        seen: Mean per-class recall over seen classes (S).
        unseen: Mean per-class recall over unseen classes (U).
        hm: Harmonic mean of the two.
        zsl: Mean per-class recall over unseen classes when seen classes do not compete.
        beta: Calibration used, in the unit of the distances.
        empty_classes: Columns without a clip: left out of the means, or the reason for a NaN.
        recall: ``(K,)`` recall of each class at ``beta``, NaN for a class without clips.
        zsl_recall: ``(K,)`` recall of each unseen class when seen classes do not compete; NaN for seen classes.
        table: ``beta``, ``seen``, ``unseen``, ``hm``, ``zsl``, each ``(n,)``: one entry for each beta tried.
    """

    seen: float
    unseen: float
    hm: float
    zsl: float
    beta: float
    empty_classes: tuple[int, ...] = ()
    recall: Array = field(default_factory=lambda: np.empty(0), compare=False, repr=False)
    zsl_recall: Array = field(default_factory=lambda: np.empty(0), compare=False, repr=False)
    table: Mapping[str, Array] = field(default_factory=dict, compare=False, repr=False)

    @property
    def note(self) -> str:
        """One sentence on classes without clips; empty if every class has some."""
        count = len(self.empty_classes)
        return f"{count} class{'es have' if count > 1 else ' has'} no clip to recall." if count else ""


def evaluate_gzsl(
    distances: Array,
    label: Array,
    seen: Array,
    *,
    beta: float | None = None,
    grid: Array = BETA_GRID,
    quirks: Quirks = NO_QUIRKS,
) -> GZSLResult:
    """Evaluate one set of clips against seen and unseen classes together.

    All betas are tried in one pass over the clips' margins (:mod:`neuroav.gzsl.margins`), with the predictions of
    ``calibrated_prediction`` to the last tie.

    Args:
        distances: ``(B, K)`` distance of each clip to each class that competes, lower is nearer.
        label: ``(B,)`` true column of each clip.
        seen: ``(K,)`` bool, true where the class was seen in training.
        beta: Calibration to use, ``0.0`` included; ``None`` searches ``grid`` for the best ``hm`` *on these data*
            (validation, or an oracle), the first of equals.
        grid: ``(n,)`` betas to search.
        quirks: What to do as the released code does.

    Returns:
        Figures at the chosen beta, and those of every beta tried.

    Raises:
        InputError: If shapes do not fit, a distance is NaN, a beta is not finite, a label is out of range, seen or
            unseen classes are missing, or a search is asked for on clips of one kind only.

    Example:
        >>> distances = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [2.0, 2.0, 2.5]])
        >>> result = evaluate_gzsl(distances, np.array([0, 1, 2]), np.array([True, True, False]))
        >>> round(result.beta, 1), result.seen, result.unseen, result.zsl
        (0.6, 1.0, 1.0, 1.0)
    """
    where = "evaluate_gzsl"
    distances, seen, label = checked_evaluation(where, distances, label, seen)
    searching = beta is None or (beta == 0 and quirks.zero_beta_searches)
    betas = _checked_betas(where, grid if searching else [beta])
    clips = np.bincount(label, minlength=seen.size)
    margins = margins_of(distances, seen)

    hits = hits_by_beta(distances, label, seen, betas, margins)
    recall = np.divide(hits, clips, out=np.full(hits.shape, np.nan), where=clips > 0)
    zsl_recall = np.where(seen, np.nan, per_class_recall(margins.unseen_class, label, seen.size))
    seen_means, unseen_means = quirks.mean(recall, seen), quirks.mean(recall, ~seen)
    zsl = float(quirks.mean(zsl_recall[None], ~seen)[0])
    hm = harmonic_mean(seen_means, unseen_means)
    if searching and not quirks.empty_class_is_nan and np.isnan(hm).all():
        raise fail(where, "clips of seen and of unseen classes to search beta", "one kind only", "Pass beta.")
    best = int(np.argmax(hm))
    return GZSLResult(
        seen=float(seen_means[best]),
        unseen=float(unseen_means[best]),
        hm=float(hm[best]),
        zsl=zsl,
        beta=float(betas[best]),
        empty_classes=tuple(np.flatnonzero(clips == 0).tolist()),
        recall=recall[best],
        zsl_recall=zsl_recall,
        table={"beta": betas, "seen": seen_means, "unseen": unseen_means, "hm": hm, "zsl": np.full(betas.size, zsl)},
    )


def calibrate(
    val_distances: Array, val_label: Array, val_seen: Array, *, grid: Array = BETA_GRID, quirks: Quirks = NO_QUIRKS
) -> float:
    """Choose the calibration on validation clips; pass it to ``evaluate_gzsl(..., beta=...)`` on test clips.

    Args:
        val_distances: ``(B, K)`` distances of validation clips to the validation classes.
        val_label: ``(B,)`` true columns.
        val_seen: ``(K,)`` bool, true where the class was seen in training.
        grid: ``(n,)`` betas to search.
        quirks: As in ``evaluate_gzsl``.

    Returns:
        The first beta of the grid with the best harmonic mean.

    Raises:
        InputError: As ``evaluate_gzsl``.

    Example:
        >>> round(calibrate(np.array([[1.0, 1.3], [1.0, 2.0]]), np.array([1, 0]), np.array([True, False])), 2)
        0.4
    """
    return evaluate_gzsl(val_distances, val_label, val_seen, grid=grid, quirks=quirks).beta


def released_beta(audio: float, video: float, both: float, *, code: Literal["avca", "tcaf"]) -> float:
    """Combine three validation betas as the released test routines do, never giving the 0 that they would ignore.

    Args:
        audio: Best beta of the audio embedding alone.
        video: Best beta of the video embedding alone.
        both: Best beta of the joint output.
        code: ``"avca"`` takes the mean of the three, or 1e-10 where it is 0; ``"tcaf"`` has one output, so it takes
            ``(3 both + 1e-10) / 3``.

    Returns:
        The beta for the test stage.

    Raises:
        InputError: If ``code`` is not one of the two.

    Example:
        >>> released_beta(0.0, 0.0, 0.0, code="avca"), round(released_beta(0.0, 0.2, 0.4, code="avca"), 3)
        (1e-10, 0.2)
    """
    check_choice("released_beta", "code", code, ("avca", "tcaf"))
    if code == "tcaf":
        return (both + both + both + 1e-10) / 3
    return (audio + video + both) / 3 or 1e-10


def checked_evaluation(where: str, distances: Array, label: Array, seen: Array) -> tuple[Array, Array, Array]:
    """Return ``distances (B, K)``, ``seen (K,)`` and ``label (B,)`` fit to evaluate, or raise what is wrong."""
    distances, seen = checked_distances(where, distances, seen)
    label = checked_index(where, "label", label, seen.size)
    if len(label) != len(distances) or len(label) == 0:
        raise fail(where, "one label for each row of distances, and at least one", f"{len(label)} and {len(distances)}")
    if seen.all() or not seen.any():
        kind = "unseen" if seen.all() else "seen"
        raise fail(where, f"at least one {kind} class", "none", "Pass the distances to seen and unseen classes.")
    return distances, seen, label


def _checked_betas(where: str, betas: Any) -> Array:
    betas = np.asarray(betas)
    if betas.ndim != 1 or betas.size == 0:
        raise fail(where, "grid of at least one beta, shape (n,)", str(betas.shape))
    if not np.isfinite(betas).all():
        raise fail(where, "a finite beta", f"{betas[~np.isfinite(betas)][0]:g}")
    return betas
