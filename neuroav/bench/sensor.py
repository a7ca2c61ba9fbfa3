"""Simulated events beside those of a real camera that recorded frames and events on one clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuroav.checks import fail
from neuroav.events.camera import EventCamera, Log
from neuroav.events.generate import frames_to_events
from neuroav.events.represent import events_to_counts
from neuroav.events.types import Events

Array = NDArray[Any]
CONTRASTS = tuple(round(0.10 + 0.05 * step, 2) for step in range(15))  # tried for each polarity
EPS = (0.001, 1.0, 5.0, 10.0)  # tried for the plain difference of log intensity
COLUMNS = {"frames": 3, "frame_t": 1, "t": 1, "x": 1, "y": 1, "p": 1}


@dataclass(frozen=True)
class Recording:
    """Frames ``(F, H, W)`` uint8 at ``frame_t_us`` ``(F,)`` and the events of the same sensor."""

    frames: Array
    frame_t_us: Array
    events: Events

    @property
    def covered(self) -> int:
        """Number of leading frame gaps that end before the events do."""
        return int((self.frame_t_us[1:] <= int(self.events.t_us[-1])).sum())

    @property
    def edges_us(self) -> Array:
        """Edges of the covered gaps; the first one starts where the events do."""
        edges = self.frame_t_us[: self.covered + 1].copy()
        edges[0] = max(edges[0], int(self.events.t_us[0]) - 1)
        return edges


def read_recording(path: str | Path) -> Recording:
    """Read an ``.npz`` with ``frames (F, H, W)`` uint8, ``frame_t (F,)`` s and the columns ``t`` (s), ``x, y, p (E,)``.

    Raises:
        InputError: If the file is missing, not such an archive, or covers no gap between two frames.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            data = {name: stored[name] for name in COLUMNS}
    except (OSError, ValueError, KeyError) as error:
        raise fail(str(path), f"an .npz with {', '.join(COLUMNS)}", str(error)) from error
    wrong = {name: values.shape for name, values in data.items() if values.ndim != COLUMNS[name]}
    if wrong or len({len(data[name]) for name in "txyp"}) != 1 or len(data["frames"]) != len(data["frame_t"]):
        raise fail(
            str(path), "columns of one length and one time per frame", str({k: v.shape for k, v in data.items()})
        )
    t_us, frame_t_us = (np.round(data[name] * 1e6).astype(np.int64) for name in ("t", "frame_t"))
    x, y, p = (torch.from_numpy(data[name].astype(kind)) for name, kind in (("x", "i2"), ("y", "i2"), ("p", "u1")))
    size = (data["frames"].shape[1], data["frames"].shape[2])
    recording = Recording(data["frames"], frame_t_us, Events(torch.from_numpy(t_us), x, y, p, size))
    if len(t_us) == 0 or recording.covered == 0:
        raise fail(str(path), "events over at least one gap between frames", f"{len(t_us)} events")
    return recording


def gap_maps(events: Events, edges_us: Array) -> Array:
    """Count events per gap, polarity and pixel: ``(T, P, H, W)``, polarity in the order OFF, ON."""
    return events_to_counts(events, torch.from_numpy(edges_us), grid=None).numpy()


def signed(counts: Array) -> Array:
    """ON minus OFF, ``(T, H, W)``."""
    return counts[:, 1] - counts[:, 0]


def correlations(maps: Array, others: Array) -> list[float]:
    """Pearson's correlation of two maps of each gap, over all pixels; 0 where one of them is constant."""
    pairs = [(a.ravel(), b.ravel()) for a, b in zip(maps, others, strict=True)]
    return [float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0 for a, b in pairs]


def log_difference(recording: Recording, eps: float) -> Array:
    """Difference of log intensity of the covered gaps, ``(T, H, W)`` in nat."""
    greys = recording.frames[: recording.covered + 1].astype(np.float64)
    return np.diff(np.log(greys + eps), axis=0)


def simulate(recording: Recording, contrast_on: float, contrast_off: float, eps: float) -> Array:
    """Count the simulated events of the covered gaps, ``(T, P, H, W)``, over the time that was recorded."""
    part = slice(0, recording.covered + 1)
    camera = EventCamera(contrast_on=contrast_on, contrast_off=contrast_off, brightness=Log(eps))
    events, _ = frames_to_events(recording.frames[part], recording.frame_t_us[part], camera)
    return gap_maps(events, recording.edges_us)


@dataclass(frozen=True)
class Fit:
    """Both thresholds, and per covered gap the correlation of simulated with real maps."""

    contrast_on: float
    contrast_off: float
    correlation: list[float]
    events_on: int
    events_off: int


def try_thresholds(recording: Recording, eps: float, contrasts: Sequence[float] = CONTRASTS) -> list[Fit]:
    """Simulate every pair of thresholds."""
    real, fits = signed(gap_maps(recording.events, recording.edges_us)), []
    for on in contrasts:
        for off in contrasts:
            counts = simulate(recording, on, off, eps)
            events_off, events_on = (int(counts[:, p].sum()) for p in (0, 1))
            fits.append(Fit(on, off, correlations(signed(counts), real), events_on, events_off))
    return fits


def best(fits: Sequence[Fit], gaps: Sequence[int]) -> Fit:
    """Return the pair with the highest mean correlation over ``gaps``."""
    return max(fits, key=lambda fit: float(np.mean([fit.correlation[gap] for gap in gaps])))


def nearest_counts(fits: Sequence[Fit], real_on: int, real_off: int) -> Fit:
    """Return the pair whose numbers of ON and OFF events are nearest to the real ones, as ratios."""

    def far(fit: Fit) -> float:
        ratios = (max(fit.events_on, 1) / max(real_on, 1), max(fit.events_off, 1) / max(real_off, 1))
        return max(abs(math.log(ratio)) for ratio in ratios)

    return min(fits, key=far)


def compare(recording: Recording) -> dict[str, Any]:
    """Fit the thresholds and compare with the plain difference of log intensity; the figures as a JSON-able mapping.

    Both see the same frames and the same ``eps``: the one that serves the plain difference best. Thresholds are fitted
    over all covered gaps, and once more for each gap from the other gaps alone ("held out").
    """
    counts = gap_maps(recording.events, recording.edges_us)
    real, gaps = signed(counts), range(recording.covered)
    plain = {eps: correlations(log_difference(recording, eps), real) for eps in EPS}
    eps = max(EPS, key=lambda one: float(np.mean(plain[one])))
    fits = try_thresholds(recording, eps)
    fit = best(fits, gaps)
    held_out = [best(fits, [g for g in gaps if g != gap] or [gap]).correlation[gap] for gap in gaps]
    real_off, real_on = (int(counts[:, p].sum()) for p in (0, 1))
    matched = nearest_counts(fits, real_on, real_off)
    return {
        "gaps_ms": [[round(float(edge) / 1e3, 3) for edge in recording.edges_us[gap : gap + 2]] for gap in gaps],
        "real_events": {"on": real_on, "off": real_off},
        "plain_difference": {f"eps {one:g}": values for one, values in plain.items()},
        "eps": eps,
        "fitted": _row(fit, plain[eps]) | {"how": "highest mean correlation over the gaps, both thresholds on a grid"},
        "held_out": {"correlation": held_out, "ratio": _ratios(held_out, plain[eps])},
        "matched_counts": _row(matched, plain[eps]) | {"how": "numbers of ON and OFF events nearest to the real ones"},
        "contrasts_tried": list(CONTRASTS),
    }


def _row(fit: Fit, plain: Sequence[float]) -> dict[str, Any]:
    return {
        "contrast_on": fit.contrast_on,
        "contrast_off": fit.contrast_off,
        "events": {"on": fit.events_on, "off": fit.events_off},
        "correlation": fit.correlation,
        "ratio": _ratios(fit.correlation, plain),
    }


def _ratios(values: Sequence[float], plain: Sequence[float]) -> list[float]:
    return [value / base for value, base in zip(values, plain, strict=True)]
