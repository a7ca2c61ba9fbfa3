"""Frames to events: the event generation module of MDFT as a camera model in exact integers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import check_choice, fail
from neuroav.events.camera import EventCamera
from neuroav.events.prepare import Call, Region, prepare
from neuroav.events.types import Bins, Events, EventState
from neuroav.kernels import camera as full
from neuroav.kernels import clips as batched
from neuroav.kernels import events as ideal
from neuroav.kernels.bins import bin_events

IDEAL = EventCamera()
BACKENDS = ("neuroav", "v2e")
MOST_PIXELS = 1 << 30  # of the clips in one launch: their frames are copied side by side


def frames_to_events(
    frames: Tensor | np.ndarray,
    t_us: Tensor | np.ndarray,
    camera: EventCamera = IDEAL,
    *,
    state: EventState | None = None,
    roi: Region | None = None,
    labels: bool = False,
    backend: str = "neuroav",
    **changes: Any,
) -> tuple[Events, EventState]:
    r"""Turn frames into the events that an event camera would give.

    .. math:: L = \ln(I + \epsilon), \quad \text{ON at } L = R + C^+, \quad \text{OFF at } L = R - C^-

    Brightness ``L`` is linear in time between two frames, each event moves the pixel's reference ``R`` by exactly its
    threshold, and a pixel may fire several times in one interval. Everything is integer arithmetic, so the result is
    the same on every device, for any number of threads and for any way of cutting a clip into calls. A brightness that
    meets a threshold exactly fires. An event's time is the first whole microsecond at which its level has been
    reached: in ``(t_prev, t_frame]``. The first frame of a clip gives no event.

    8-bit frames become brightness by the camera's law in units of 2^-16 nat, thresholds too. Float frames *are*
    brightness in nat; they and their thresholds are rounded to 2^-24 nat, so a level is right to 6e-8 nat.

    Implements Eq. (4)-(5) of [mdft] with the crossing times of [esim]. Differs from the paper: [mdft] prints the
    condition as ``dL >= p C``, which nearly every pixel meets for ``p = -1``; meant and used here is ``p dL >= C``. It
    leaves open how the reference moves and when an event happens; both follow [esim]. Differs from [esim]: integers
    instead of float32; ``eps`` is 1 on the 0..255 scale (4e-3 on 0..1), which damps noise in black pixels, instead of
    the caller's choice. :mod:`neuroav.events.noise` describes what an ``EventCamera`` can add to the ideal pixel.

    Args:
        frames: ``(F, H, W)`` uint8 grey frames, or float32 or float64 brightness in nat within +-32; sides of at most
            32,768; ``F`` may be 0.
        t_us: ``(F,)`` int64 frame times in microseconds, strictly increasing, also past ``state.t_us``.
        camera: The sensor.
        state: What an earlier call with the same camera returned; ``None`` at the start of a clip.
        roi: ``(top, left, height, width)`` of the only pixels to simulate; coordinates and noise stay the sensor's.
        labels: Whether to say of each event if it is noise: 1 for shot noise, and where the pixel leaks or has
            photoreceptor noise for a crossing in an interval in which the scene (behind the low pass) does not move
            the same way.
        backend: ``"v2e"`` runs an installed v2e instead, for comparison (see ``neuroav.events.v2e``).
        **changes: Parameters of ``camera`` to replace, as in ``contrast_on=0.3``.

    Returns:
        The events, sorted by time, then row, column and order of emission; and the state after the last frame.

    Raises:
        InputError: If a value or shape doesn't fit, times don't increase, or ``state`` fits neither the frames nor
            the camera.
        TypeError: If ``frames`` or ``t_us`` has another dtype.

    Example:
        >>> frames = torch.tensor([10, 20, 20], dtype=torch.uint8).reshape(3, 1, 1)
        >>> events, state = frames_to_events(frames, torch.tensor([0, 1000, 2000]))
        >>> events.t_us.tolist(), events.p.tolist()  # ln(21 / 11) = 0.647 holds three thresholds of 0.2
        ([310, 619, 928], [1, 1, 1])
    """
    where = "frames_to_events"
    camera = camera.replace(**changes) if changes else camera
    check_choice(where, "backend", backend, BACKENDS)
    if backend == "v2e":
        if state is not None or roi is not None or labels:
            raise fail(where, "no state, roi or labels with backend='v2e'", "one of them")
        return _run_v2e(torch.as_tensor(frames), torch.as_tensor(t_us), camera)
    clip = prepare(where, frames, t_us, camera, state, roi)
    if clip.is_ideal:
        return _after_ideal(clip, ideal.contrast_events(*clip.ideal_arguments()), labels)
    t, x, y, p, flags, moved = full.camera_events(*clip.arguments(), labels)
    events = Events(t, x, y, p, clip.sensor_size, flags if labels else None)
    return _restamped(events, clip), clip.after(moved)


def clips_to_events(
    clips: Sequence[tuple[Tensor | np.ndarray, Tensor | np.ndarray]],
    camera: EventCamera = IDEAL,
    *,
    states: Sequence[EventState | None] | None = None,
    labels: bool = False,
    **changes: Any,
) -> tuple[list[Events], list[EventState]]:
    """Do what :func:`frames_to_events` does for several clips of any length and size, in parallel.

    On a CPU each thread takes a clip at a time. On a GPU, 8-bit clips of an ideal camera that have the same size and
    number of frames share one launch, and the memory of their events and states: a clip's columns are parts of its
    batch's. Whatever else is on a GPU is done clip after clip, on the caller's stream.

    Args:
        clips: One ``(frames, t_us)`` per clip.
        camera: The sensor of all of them.
        states: One per clip, or ``None`` where a clip starts; ``None`` if all do.
        labels: As in :func:`frames_to_events`.
        **changes: Parameters of ``camera`` to replace.

    Returns:
        Events and states, one per clip, equal to those of separate calls.

    Raises:
        InputError: As :func:`frames_to_events`; or if there is another number of states than of clips.

    Example:
        >>> clip = torch.tensor([10, 20], dtype=torch.uint8).reshape(2, 1, 1), torch.tensor([0, 1000])
        >>> [len(events) for events in clips_to_events([clip, clip])[0]]
        [3, 3]
    """
    camera = camera.replace(**changes) if changes else camera
    states = [None] * len(clips) if states is None else list(states)
    if len(states) != len(clips):
        raise fail("clips_to_events", f"{len(clips)} states, one per clip", f"{len(states)}")

    def convert(batch: list[int]) -> list[tuple[Events, EventState]]:
        if len(batch) > 1:
            calls = [prepare("frames_to_events", *clips[i], camera, states[i], None) for i in batch]
            return _in_one_launch(calls, labels)
        return [frames_to_events(*clips[i], camera, state=states[i], labels=labels) for i in batch]

    batches = _batches(clips, camera, states)
    threads = torch.get_num_threads()
    workers = 1 if any(_on_gpu(frames) for frames, _ in clips) else min(threads, len(clips))
    if workers <= 1:
        done = [convert(batch) for batch in batches]
    else:
        try:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                done = list(pool.map(convert, batches))
        finally:
            torch.set_num_threads(threads)  # of threads to come
    pairs = dict(zip(chain(*batches), chain(*done), strict=True))
    return [pairs[i][0] for i in range(len(clips))], [pairs[i][1] for i in range(len(clips))]


def bin_frames(
    frames: Tensor | np.ndarray,
    t_us: Tensor | np.ndarray,
    bins: Bins,
    camera: EventCamera = IDEAL,
    *,
    state: EventState | None = None,
    roi: Region | None = None,
    **changes: Any,
) -> tuple[Tensor, EventState]:
    """Gather the events of :func:`frames_to_events` in bins, without making the list where that is possible.

    It is for crossing times and without ``roi``; else the list is made and binned. The values are the same.

    Args:
        frames: As in :func:`frames_to_events`, like ``t_us``, ``camera``, ``state``, ``roi`` and ``changes``.
        t_us: Frame times.
        bins: What to make of the events; events outside the bins are lost.
        camera: The sensor.
        state: What an earlier call returned.
        roi: Region to simulate; cells stay those of the whole sensor.
        **changes: Parameters of ``camera`` to replace.

    Returns:
        Integers ``(T, P, h, w)`` as :class:`~neuroav.events.types.Bins` says; and the state after the last frame.

    Raises:
        InputError: As :func:`frames_to_events`.

    Example:
        >>> frames = torch.tensor([10, 20, 20], dtype=torch.uint8).reshape(3, 1, 1)
        >>> bin_frames(frames, torch.tensor([0, 1000, 2000]), Bins("counts", torch.tensor([0, 500, 1000])))[0].flatten()
        tensor([0, 1, 0, 2], dtype=torch.int32)
    """
    camera = camera.replace(**changes) if changes else camera
    if roi is not None or camera.timestamps != "crossing":
        events, end = frames_to_events(frames, t_us, camera, state=state, roi=roi)
        rows, columns = bins.grid or events.sensor_size
        edges_us = bins.edges_us.to(events.t_us.device)
        columns_of = (events.t_us, events.x, events.y, events.p)
        return bin_events(*columns_of, *events.sensor_size, bins.code, edges_us, rows, columns), end
    clip = prepare("bin_frames", frames, t_us, camera, state, None)
    rows, columns = bins.grid or clip.sensor_size
    into = (bins.code, bins.edges_us.to(clip.frames.device), rows, columns)
    if clip.is_ideal:
        values, level, last = ideal.contrast_bins(*clip.ideal_arguments(), *into)
        return values, clip.after_ideal(level, last)
    values, moved = full.camera_bins(*clip.arguments(), *into)
    return values, clip.after(moved)


def _after_ideal(clip: Call, found: Sequence[Tensor], labels: bool) -> tuple[Events, EventState]:
    """Return what a call gives, from what the kernel of the ideal camera gives."""
    t, x, y, p, level, last = found
    y, x = (axis + first if first else axis for axis, first in zip((y, x), clip.origin, strict=True))
    events = Events(t, x, y, p, clip.sensor_size, torch.zeros_like(p) if labels else None)
    return _restamped(events, clip), clip.after_ideal(level, last)


# --------------------------------------------------------------------------------------------------- batches on a GPU


def _on_gpu(frames: Tensor | np.ndarray) -> TypeGuard[Tensor]:
    return isinstance(frames, Tensor) and frames.is_cuda


def _batches(
    clips: Sequence[tuple[Tensor | np.ndarray, Any]], camera: EventCamera, states: Sequence[EventState | None]
) -> list[list[int]]:
    """Return the places of the clips, those together that can share a launch: on a CPU each is alone."""
    batches: dict[Any, list[list[int]]] = {}
    for index, ((frames, _), state) in enumerate(zip(clips, states, strict=True)):
        key, most = (index,), 1
        if camera.is_ideal and _on_gpu(frames) and frames.dtype == torch.uint8 and frames.ndim == 3:
            key = (frames.device, *frames.shape[1:], len(frames) - (state is None))  # a first frame becomes a state
            most = max(MOST_PIXELS // max(frames.numel(), 1), 1)
        parts = batches.setdefault(key, [[]])
        if len(parts[-1]) == most:
            parts.append([])
        parts[-1].append(index)
    return list(chain(*batches.values()))


def _in_one_launch(batch: list[Call], labels: bool) -> list[tuple[Events, EventState]]:
    """Return what one call per clip gives: clips of equal size and number of frames, of one ideal camera."""
    _, _, table, on, off, _, _ = batch[0].ideal_arguments()
    frames = torch.stack([clip.frames for clip in batch])
    edges_us = torch.stack([clip.edges_us for clip in batch])
    level = torch.stack([clip.state.reference.to(table.device) for clip in batch])
    last = torch.stack([clip.state.last.to(table.device) for clip in batch])
    *columns, number, level, last = batched.contrast_events_clips(frames, edges_us, table, on, off, level, last)
    parts = zip(*(column.split(number.tolist()) for column in columns), level, last, strict=True)
    return [_after_ideal(clip, part, labels) for clip, part in zip(batch, parts, strict=True)]


# ---------------------------------------------------------------------------------------------------------- other times


def _restamped(events: Events, clip: Call) -> Events:
    """Return the events at the times that ``camera.timestamps`` names, in the documented order again."""
    if clip.camera.timestamps == "crossing":
        return events
    edges_us = clip.edges_us.to(events.t_us.device)
    frame = torch.searchsorted(edges_us, events.t_us) - 1
    t_us = edges_us[frame + 1]
    width = events.sensor_size[1]
    pixel = events.y.long() * width + events.x.long()
    if clip.camera.timestamps == "v2e" and len(events):
        nth = _number_in_run(frame * (events.sensor_size[0] * width) + pixel)
        most = torch.zeros_like(edges_us).scatter_reduce(0, frame, nth, "amax")[frame]
        t_us = edges_us[frame] + (nth * edges_us.diff()[frame] + most - 1) // most
    order = pixel.argsort(stable=True)
    order = order[t_us[order].argsort(stable=True)]
    is_noise = None if events.is_noise is None else events.is_noise[order]
    return Events(t_us[order], events.x[order], events.y[order], events.p[order], events.sensor_size, is_noise)


def _number_in_run(key: Tensor) -> Tensor:
    """Return 1, 2, 3 ... for the first, second, third ... entry with the same key."""
    order = key.argsort(stable=True)
    counts = key[order].unique_consecutive(return_counts=True)[1]
    within = torch.arange(len(key), device=key.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return torch.empty_like(within).scatter_(0, order, within + 1)


def _run_v2e(frames: Tensor, t_us: Tensor, camera: EventCamera) -> tuple[Events, EventState]:
    """Return v2e's events; it keeps its state to itself, so ours is that of a clip that begins with the last frame."""
    from neuroav.events.v2e import v2e_events

    prepare("frames_to_events", frames, t_us, camera, None, None)
    state = prepare("frames_to_events", frames[-1:], t_us[-1:], camera, None, None).state
    return v2e_events(frames, t_us, camera), state
