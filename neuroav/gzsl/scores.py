"""From distances to predicted classes: calibrated stacking for the GZSL setting, unseen classes alone for ZSL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroav.checks import check_shape, fail

Array = NDArray[Any]


def calibrated_prediction(distances: Array, seen: Array, beta: float) -> Array:
    """Assign each clip to its nearest class after adding ``beta`` to the distance of every seen class.

    Calibrated stacking as released with [avca]. The sum is taken in the precision of ``distances`` (float32 in the
    released code, where rounding decides near-ties), and of equally near classes the lowest column wins.

    Args:
        distances: ``(B, K)`` distance of each clip to each class, lower is nearer; may hold ``inf`` but no NaN.
        seen: ``(K,)`` bool, true where the class was seen in training.
        beta: Calibration, in the unit of ``distances``.

    Returns:
        ``(B,)`` int64 predicted column.

    Raises:
        InputError: If shapes do not fit, a distance is NaN, or ``beta`` is not finite.

    Example:
        >>> distances, seen = np.array([[1.0, 1.5]]), np.array([True, False])
        >>> calibrated_prediction(distances, seen, beta=0.0), calibrated_prediction(distances, seen, beta=1.0)
        (array([0]), array([1]))
    """
    distances, seen = checked_distances("calibrated_prediction", distances, seen)
    if not np.isfinite(beta):
        raise fail("calibrated_prediction", "a finite beta", f"{beta:g}")
    return np.argmin(distances + np.where(seen, beta, 0.0).astype(distances.dtype), axis=1)


def zsl_prediction(distances: Array, seen: Array) -> Array:
    """Assign each clip to its nearest unseen class; seen classes do not compete.

    Args:
        distances: ``(B, K)`` distance of each clip to each class, lower is nearer.
        seen: ``(K,)`` bool, true where the class was seen in training.

    Returns:
        ``(B,)`` int64 predicted column, always an unseen one; the lowest wins a tie.

    Raises:
        InputError: If shapes do not fit, a distance is NaN, or every class is seen.

    Example:
        >>> zsl_prediction(np.array([[1.0, 3.0, 2.0]]), np.array([True, False, False]))
        array([2])
    """
    distances, seen = checked_distances("zsl_prediction", distances, seen)
    unseen = np.flatnonzero(~seen)
    if unseen.size == 0:
        raise fail("zsl_prediction", "at least one unseen class", f"{seen.size} seen classes only")
    return unseen[np.argmin(distances[:, unseen], axis=1)]


def euclidean_distances(x: Array, prototypes: Array) -> Array:
    """Euclidean distance of every row of ``x`` to every prototype, from differences (the direct form).

    The matrix-product form that ``torch.cdist`` takes above 25 rows gives float32 self-distances up to 0.04 at norms
    around 80; differences give exactly 0.

    Args:
        x: ``(B, D)`` embeddings.
        prototypes: ``(K, D)`` embedded classes.

    Returns:
        ``(B, K)`` distances in the precision of the inputs.

    Raises:
        InputError: If the widths differ.

    Example:
        >>> euclidean_distances(np.zeros((1, 2)), np.array([[3.0, 4.0], [0.0, 0.0]]))
        array([[5., 0.]])
    """
    x, prototypes = np.asarray(x), np.asarray(prototypes)
    check_shape("euclidean_distances", "x", x, ("B", "D"))
    check_shape("euclidean_distances", "prototypes", prototypes, ("K", x.shape[1]))
    columns = [np.sqrt(np.square(x - prototype).sum(axis=1)) for prototype in prototypes]
    return np.stack(columns, axis=1) if columns else np.empty((len(x), 0), x.dtype)


def checked_distances(where: str, distances: Array, seen: Array) -> tuple[Array, Array]:
    """Return ``distances (B, K)`` as floats and ``seen (K,)`` as bool, or raise an error that names ``where``."""
    distances, seen = np.asarray(distances), np.asarray(seen)
    check_shape(where, "distances", distances, ("B", "K"))
    check_shape(where, "seen", seen, (distances.shape[1],))
    if distances.shape[1] == 0:
        raise fail(where, "at least one class", f"distances of shape {distances.shape}")
    if seen.dtype != bool:
        raise fail(where, "seen of dtype bool", str(seen.dtype), "Pass a mask over the classes, not their indices.")
    if distances.dtype not in (np.float32, np.float64):
        distances = distances.astype(np.float64)
    if distances.size and np.isnan(distances.min()):
        rows = np.flatnonzero(np.isnan(distances).any(axis=1))
        actual = f"nan distances in {rows.size} of {len(distances)} clips, first in row {rows[0]}"
        raise fail(where, "distances without NaN", actual, "The model diverged? Look at its training losses.")
    return distances, seen
