"""Frames to events: the event generation module of MDFT with the semantics of the ESIM simulator, in exact integers."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import check_dtype, check_range, check_shape, fail
from neuroav.events.types import Events, EventState
from neuroav.kernels.events import MAX_INTERVAL_US, MAX_SIDE, contrast_events

LOG_UNITS = 1 << 16  # units of log intensity per nat


@lru_cache(maxsize=16)
def log_table(log_eps: float = 1.0) -> Tensor:
    """Return the log intensity of the 256 grey levels, ``round(2^16 ln(I + log_eps))``, ``(256,)`` int32.

    Args:
        log_eps: Added to the grey level (dimensionless, 0 to 255 scale), so that black has a logarithm.

    Example:
        >>> log_table()[:2].tolist()
        [0, 45426]
    """
    return torch.tensor([round(LOG_UNITS * math.log(grey + log_eps)) for grey in range(256)], dtype=torch.int32)


def frames_to_events(
    frames: Tensor | np.ndarray,
    t_us: Tensor | np.ndarray,
    *,
    contrast_on: float = 0.2,
    contrast_off: float = 0.2,
    log_eps: float = 1.0,
    state: EventState | None = None,
) -> tuple[Events, EventState]:
    r"""Turn grey frames into the events that an ideal event camera would give.

    .. math:: L = \ln(I + \epsilon), \quad \text{ON at } L = R + C^+, \quad \text{OFF at } L = R - C^-

    Brightness ``L`` is linear in time between two frames, each event moves the pixel's reference ``R`` by exactly its
    threshold, and a pixel may fire several times in one interval. Everything is integer arithmetic (``L``, ``R`` and
    ``C`` in units of 2^-16 nat), so the result is the same on every device, for any number of threads and for any way
    of cutting a clip into calls. A brightness that meets a threshold exactly fires. An event's time is the first whole
    microsecond at which its level has been reached: in ``(t_prev, t_frame]``. The first frame of a clip gives no event.

    Implements Eq. (4)-(5) of [mdft] with the crossing times of [esim]. Differs from the paper: [mdft] prints the
    condition as ``dL >= p C``, which nearly every pixel meets for ``p = -1``; meant and used here is ``p dL >= C``. It
    leaves open how the reference moves and when an event happens; both follow [esim]. Differs from [esim]: integers
    instead of float32; ``log_eps`` is 1 on the 0..255 scale (4e-3 on 0..1), which damps noise in black pixels, instead
    of the caller's choice; no refractory period, no noise.

    Args:
        frames: ``(F, H, W)`` uint8 grey frames; sides of at most 32,768; ``F`` may be 0.
        t_us: ``(F,)`` int64 frame times in microseconds, strictly increasing, also past ``state.t_us``.
        contrast_on: Threshold ``C+`` in log intensity, in [0.01, 10].
        contrast_off: Threshold ``C-`` in log intensity, in [0.01, 10].
        log_eps: Added to the 0..255 grey level before the logarithm, in [1e-6, 255].
        state: What an earlier call with the same thresholds returned; ``None`` at the start of a clip.

    Returns:
        The events, sorted by time, then row, column and order of emission; and the state after the last frame.

    Raises:
        InputError: If a value or shape doesn't fit, times don't increase, or ``state`` fits neither the frames nor
            the thresholds.
        TypeError: If ``frames`` is not uint8 or ``t_us`` not int64.

    Example:
        >>> frames = torch.tensor([10, 20, 20], dtype=torch.uint8).reshape(3, 1, 1)
        >>> events, state = frames_to_events(frames, torch.tensor([0, 1000, 2000]))
        >>> events.t_us.tolist(), events.p.tolist()  # ln(21 / 11) = 0.647 holds three thresholds of 0.2
        ([310, 619, 928], [1, 1, 1])
    """
    where = "frames_to_events"
    frames, t_us = torch.as_tensor(frames), torch.as_tensor(t_us)
    check_dtype(where, "frames", frames, torch.uint8)
    check_shape(where, "frames", frames, ("F", "H", "W"))
    check_dtype(where, "t_us", t_us, torch.int64)
    check_shape(where, "t_us", t_us, (frames.shape[0],))
    _check_size(where, frames)
    check_range(where, "contrast_on", contrast_on, 0.01, 10)
    check_range(where, "contrast_off", contrast_off, 0.01, 10)
    check_range(where, "log_eps", log_eps, 1e-6, 255)

    table = log_table(float(log_eps)).to(frames.device)
    on, off = round(LOG_UNITS * contrast_on), round(LOG_UNITS * contrast_off)
    if state is None:
        if frames.shape[0] == 0:
            raise fail(where, "at least one frame to start a clip", "none")
        first = table[frames[0].long()]
        state, frames, t_us = EventState(first, first, int(t_us[0])), frames[1:], t_us[1:]
    else:
        _check_state(where, state, frames, on, off)
    edges_us = torch.cat([t_us.new_tensor([state.t_us]), t_us])
    _check_times(where, edges_us)
    t, x, y, p, reference, last = contrast_events(frames, edges_us, table, on, off, state.reference, state.last)
    size = (frames.shape[1], frames.shape[2])
    return Events(t, x, y, p, size), EventState(reference, last, int(edges_us[-1]))


def _check_size(where: str, frames: Tensor) -> None:
    if not all(1 <= side <= MAX_SIDE for side in frames.shape[1:]):
        raise fail(where, f"frames with sides in [1, {MAX_SIDE}]", str(tuple(frames.shape[1:])))


def _check_times(where: str, edges_us: Tensor) -> None:
    gaps = edges_us.diff()
    if gaps.numel() and int(gaps.min()) <= 0:
        index = int((gaps <= 0).nonzero()[0])
        pair = f"{int(edges_us[index])} followed by {int(edges_us[index + 1])}"
        raise fail(where, "t_us strictly increasing", pair, "Drop frames that share a time or run backwards.")
    if gaps.numel() and int(gaps.max()) > MAX_INTERVAL_US:
        raise fail(where, f"frames at most {MAX_INTERVAL_US} us (71 minutes) apart", f"{int(gaps.max())} us")


def _check_state(where: str, state: EventState, frames: Tensor, on: int, off: int) -> None:
    size = tuple(frames.shape[1:])
    for name in ("reference", "last"):
        check_dtype(where, f"state.{name}", getattr(state, name), torch.int32)
        check_shape(where, f"state.{name}", getattr(state, name), size)
    low, high = (int(bound) for bound in (state.last - state.reference).aminmax())
    if not -off < low <= high < on:
        actual = f"a pixel {max(high, -low) / LOG_UNITS:.3f} away from its reference"
        raise fail(where, "state from a call with the same thresholds", actual, "Keep contrast and log_eps for a clip.")
