"""Every error text of the package is made here: ``{where}: expected {what}, got {actual}. {remedy}``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class NeuroavError(Exception):
    """Bad input that the user can mend; the command line prints it in one line and exits with status 2."""


class InputError(NeuroavError, ValueError):
    """A file, argument or configuration value that can't be used as it is."""


class OutputError(NeuroavError, OSError):
    """A file that can't be written."""


class KernelUnavailableError(NeuroavError, RuntimeError):
    """A compiled kernel was asked for by name and is not there."""


def message(where: str, expected: str, actual: str, remedy: str = "") -> str:
    """Return the one form of error text.

    Example:
        >>> message("voxel_grid", "t_us sorted", "a decrease at index 4", "Call events.sort().")
        'voxel_grid: expected t_us sorted, got a decrease at index 4. Call events.sort().'
    """
    stop = "" if actual.endswith("?") else "."
    return f"{where}: expected {expected}, got {actual}{stop}" + (f" {remedy}" if remedy else "")


def fail(where: str, expected: str, actual: str, remedy: str = "", kind: type[Exception] = InputError) -> Exception:
    """Build (not raise) an error, so that call sites read ``raise fail(...)``."""
    return kind(message(where, expected, actual, remedy))


def check_shape(where: str, name: str, value: Any, shape: Sequence[int | str | None]) -> None:
    """Raise unless ``value.shape`` fits ``shape``; a letter or ``None`` stands for any size, an int for itself.

    Example:
        >>> import numpy as np
        >>> check_shape("f", "x", np.zeros((3, 2)), ("T", 2))
    """
    actual = tuple(value.shape)
    letters: dict[str, int] = {}
    fits = len(actual) == len(shape)
    for size, want in zip(actual, shape, strict=False):
        if isinstance(want, str):
            fits = fits and letters.setdefault(want, size) == size
        elif want is not None:
            fits = fits and size == want
    if not fits:
        want_text = "(" + ", ".join("any" if s is None else str(s) for s in shape) + ")"
        raise fail(where, f"{name} of shape {want_text}", str(actual))


def check_dtype(where: str, name: str, value: Any, *dtypes: Any) -> None:
    """Raise unless ``value.dtype`` is one of ``dtypes`` (numpy or torch)."""
    if value.dtype not in dtypes:
        raise fail(where, f"{name} of dtype {' or '.join(map(str, dtypes))}", str(value.dtype), kind=TypeError)


def check_range(where: str, name: str, value: float, low: float | None = None, high: float | None = None) -> None:
    """Raise unless ``low <= value <= high`` (a bound of ``None`` is open; NaN never fits)."""
    if not ((low is None or value >= low) and (high is None or value <= high) and value == value):
        left = "-inf" if low is None else f"{low:g}"
        right = "inf" if high is None else f"{high:g}"
        raise fail(where, f"{name} in [{left}, {right}]", f"{value:g}")


def check_choice(where: str, name: str, value: str, known: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``known``; the error names the nearest."""
    known = list(known)
    if value not in known:
        raise fail(where, f"{name} to be one of {', '.join(known)}", repr(value), nearest(value, known))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?`` for the closest known name, or an empty string.

    Example:
        >>> nearest("audoi", ["audio", "video"])
        "Did you mean 'audio'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else ""


def some(names: Sequence[str], shown: int = 3) -> str:
    """Return the first few of ``names``, and how many more there are.

    Example:
        >>> some(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
