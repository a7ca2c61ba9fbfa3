"""From predictions to figures: per-class recall, the harmonic mean, confusions, and scene following."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroav.checks import check_shape, fail

Array = NDArray[Any]


def per_class_recall(prediction: Array, label: Array, num_classes: int) -> Array:
    """Share of each class's clips that were assigned to it.

    Args:
        prediction: ``(B,)`` predicted column.
        label: ``(B,)`` true column.
        num_classes: Number of classes ``K``.

    Returns:
        ``(K,)`` float64 fractions, NaN for a class without clips.

    Raises:
        InputError: If the lengths differ or an index is outside ``0 .. K-1``.

    Example:
        >>> per_class_recall(np.array([0, 1, 1]), np.array([0, 0, 1]), num_classes=3)
        array([0.5, 1. , nan])
    """
    prediction, label = _checked_indices("per_class_recall", prediction, label, num_classes)
    right = np.bincount(label[prediction == label], minlength=num_classes)
    clips = np.bincount(label, minlength=num_classes)
    return np.divide(right, clips, out=np.full(num_classes, np.nan), where=clips > 0)


def harmonic_mean(seen: Array | float, unseen: Array | float) -> Array:
    """Harmonic mean ``2SU / (S + U)`` of two fractions, elementwise; 0 where both are 0, NaN where either is NaN.

    Two float32 arrays give float32, everything else float64.

    Example:
        >>> harmonic_mean(np.array([0.5, 1.0, 0.0]), np.array([0.5, 0.0, 0.0])).tolist()
        [0.5, 0.0, 0.0]
    """
    seen, unseen = np.asarray(seen), np.asarray(unseen)
    dtype = np.result_type(seen, unseen, np.float32)
    seen, unseen = seen.astype(dtype), unseen.astype(dtype)
    total = seen + unseen
    return 2.0 * seen * unseen / np.where(total == 0.0, dtype.type(1.0), total)


def confusion_matrix(label: Array, prediction: Array, num_classes: int) -> Array:
    """Count clips by true class (rows) and predicted class (columns).

    Args:
        label: ``(B,)`` true column.
        prediction: ``(B,)`` predicted column.
        num_classes: Number of classes ``K``.

    Returns:
        ``(K, K)`` int64 counts.

    Raises:
        InputError: If the lengths differ or an index is outside ``0 .. K-1``.

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), num_classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    prediction, label = _checked_indices("confusion_matrix", prediction, label, num_classes)
    cells = np.bincount(label * num_classes + prediction, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def follows_scene_share(prediction: Array, shown_scene: Array, preferred_scene_of_class: Array) -> float:
    """Share of clips given a class whose preferred training scene is the scene they show.

    With scenes shuffled this is the bias itself: a model that ignores the scene lands near one over the number of
    scenes, one that follows it near 1.

    Args:
        prediction: ``(B,)`` predicted column.
        shown_scene: ``(B,)`` scene of each clip, 0 or more.
        preferred_scene_of_class: ``(K,)`` scene each class preferred in training, -1 where it preferred none.

    Returns:
        A fraction.

    Raises:
        InputError: If there is no clip, the lengths differ, or an index is out of range.

    Example:
        >>> follows_scene_share(np.array([0, 1, 2]), np.array([5, 3, 3]), np.array([5, 7, -1]))
        0.3333333333333333
    """
    where = "follows_scene_share"
    preferred, shown = np.asarray(preferred_scene_of_class), np.asarray(shown_scene)
    check_shape(where, "preferred_scene_of_class", preferred, ("K",))
    prediction = checked_index(where, "prediction", prediction, preferred.size)
    check_shape(where, "shown_scene", shown, prediction.shape)
    if prediction.size == 0:
        raise fail(where, "at least one clip", "none")
    if shown.min() < 0:
        raise fail(where, "shown_scene of 0 or more", str(shown.min()), "-1 stands for no preference of a class only.")
    return float((preferred[prediction] == shown).mean())


def checked_index(where: str, name: str, value: Array, num_classes: int) -> Array:
    """Return ``value (B,)`` as int64, or raise an error that names ``where`` unless all are in ``0 .. K-1``."""
    value = np.asarray(value)
    check_shape(where, name, value, ("B",))
    if value.size and not np.issubdtype(value.dtype, np.integer):
        raise fail(where, f"{name} of an integer dtype", str(value.dtype))
    outside = np.flatnonzero((value < 0) | (value >= num_classes))
    if outside.size:
        actual = f"{value[outside[0]]} at index {outside[0]}"
        raise fail(where, f"{name} in 0 .. {num_classes - 1}", actual, "Number classes by their column of distances.")
    return value.astype(np.int64)


def _checked_indices(where: str, prediction: Array, label: Array, num_classes: int) -> tuple[Array, Array]:
    prediction = checked_index(where, "prediction", prediction, num_classes)
    label = checked_index(where, "label", label, num_classes)
    check_shape(where, "prediction", prediction, label.shape)
    return prediction, label
