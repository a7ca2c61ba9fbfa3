"""Frames to events: the event generation module of MDFT as a camera model in exact integers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import check_choice, check_dtype, check_shape, fail
from neuroav.events import noise
from neuroav.events.camera import UNITS, EventCamera
from neuroav.events.types import Bins, Events, EventState
from neuroav.kernels import camera as full
from neuroav.kernels import events as ideal
from neuroav.kernels import reference_camera
from neuroav.kernels.bins import bin_events
from neuroav.kernels.events import MAX_INTERVAL_US, MAX_SIDE

IDEAL = EventCamera()
MAX_TIME_US = 1 << 60
LIMIT = 32  # nat; float frames lie within
BACKENDS = ("neuroav", "v2e")
Region = tuple[int, int, int, int]


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
    clip = _prepare(where, frames, t_us, camera, state, roi)
    is_noise = None
    if clip.is_ideal:
        t, x, y, p, level, last = ideal.contrast_events(*clip.ideal_arguments())
        y, x = (axis + first if first else axis for axis, first in zip((y, x), clip.origin, strict=True))
        is_noise = torch.zeros_like(p) if labels else None
        end = clip.after_ideal(level, last)
    else:
        t, x, y, p, flags, moved = full.camera_events(*clip.arguments(), labels)
        is_noise = flags if labels else None
        end = clip.after(moved)
    events = Events(t, x, y, p, clip.sensor_size, is_noise)
    return (events if camera.timestamps == "crossing" else _restamped(events, clip)), end


def clips_to_events(
    clips: Sequence[tuple[Tensor | np.ndarray, Tensor | np.ndarray]],
    camera: EventCamera = IDEAL,
    *,
    states: Sequence[EventState | None] | None = None,
    labels: bool = False,
    **changes: Any,
) -> tuple[list[Events], list[EventState]]:
    """Do what :func:`frames_to_events` does for several clips of any length and size, in parallel on a CPU.

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

    def convert(index: int) -> tuple[Events, EventState]:
        return frames_to_events(*clips[index], camera, state=states[index], labels=labels)

    threads = torch.get_num_threads()
    workers = min(threads, len(clips))
    if workers <= 1:
        pairs = [convert(index) for index in range(len(clips))]
    else:
        try:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                pairs = list(pool.map(convert, range(len(clips))))
        finally:
            torch.set_num_threads(threads)  # of threads to come
    return [events for events, _ in pairs], [state for _, state in pairs]


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
    clip = _prepare("bin_frames", frames, t_us, camera, state, None)
    rows, columns = bins.grid or clip.sensor_size
    into = (bins.code, bins.edges_us.to(clip.frames.device), rows, columns)
    if clip.is_ideal:
        values, level, last = ideal.contrast_bins(*clip.ideal_arguments(), *into)
        return values, clip.after_ideal(level, last)
    values, moved = full.camera_bins(*clip.arguments(), *into)
    return values, clip.after(moved)


# ---------------------------------------------------------------------------------------------------------- preparation


@dataclass(frozen=True)
class _Clip:
    """A checked call: the frames of the region after the first, and the state before them."""

    where: str
    frames: Tensor
    edges_us: Tensor
    camera: EventCamera
    state: EventState
    sensor_size: tuple[int, int]

    @property
    def origin(self) -> tuple[int, int]:
        return self.state.origin

    @property
    def is_float(self) -> bool:
        return self.frames.dtype != torch.uint8

    @property
    def is_ideal(self) -> bool:
        return self.camera.is_ideal and not self.is_float

    def ideal_arguments(self) -> tuple[Tensor, Tensor, Tensor, int, int, Tensor, Tensor]:
        on, off = (n >> 8 for n in noise.fine(self.camera, False))
        table = self.camera.brightness.table().to(self.frames.device)
        return self.frames, self.edges_us, table, on, off, self.state.reference, self.state.last

    def arguments(self) -> tuple[full.Clip, full.Sensor, full.Numbers, full.State]:
        camera, frames, state = self.camera, self.frames, self.state
        window = (*self.origin, *frames.shape[1:])
        sensor = noise.sensor_of(camera, window, self.is_float, frames.device)
        noise.check_leak(self.where, sensor, self.edges_us)
        none = frames.new_empty(0, dtype=torch.int32)
        greys, levels = frames, none
        if self.is_float:
            needs_greys = camera.cutoff_hz > 0 or camera.shot_hz > 0
            levels = _levels(frames)
            greys = _greys(levels, sensor.table) if needs_greys else none.byte()
        clip = full.Clip(
            greys, levels, self.edges_us,
            noise.low_pass_shares(camera, self.edges_us) if camera.cutoff_hz > 0 else none,
            noise.voltage_steps(camera, self.edges_us) if camera.photoreceptor_hz > 0 else none,
        )  # fmt: skip
        pixels = (state.reference, state.last, state.stage, state.voltage, state.next_us, state.fired_us)
        numbers = noise.numbers_of(camera, self.is_float, state.frame + 1, self.origin)
        return clip, sensor, numbers, full.State(*(none if tensor is None else tensor for tensor in pixels))

    def after_ideal(self, reference: Tensor, last: Tensor) -> EventState:
        return self._moved(reference=reference, last=last)

    def after(self, moved: full.State) -> EventState:
        tensors = {name: tensor if tensor.numel() else None for name, tensor in moved._asdict().items()}
        return self._moved(**tensors)

    def _moved(self, **tensors: Any) -> EventState:
        frame = self.state.frame + len(self.frames)
        return dataclasses.replace(self.state, t_us=int(self.edges_us[-1]), frame=frame, **tensors)


def _prepare(
    where: str,
    frames: Tensor | np.ndarray,
    t_us: Tensor | np.ndarray,
    camera: EventCamera,
    state: EventState | None,
    roi: Region | None,
) -> _Clip:
    frames, t_us = torch.as_tensor(frames), torch.as_tensor(t_us)
    check_dtype(where, "frames", frames, torch.uint8, torch.float32, torch.float64)
    check_shape(where, "frames", frames, ("F", "H", "W"))
    check_dtype(where, "t_us", t_us, torch.int64)
    check_shape(where, "t_us", t_us, (frames.shape[0],))
    sensor_size = (frames.shape[1], frames.shape[2])
    if not all(1 <= side <= MAX_SIDE for side in sensor_size):
        raise fail(where, f"frames with sides in [1, {MAX_SIDE}]", str(sensor_size))
    top, left, height, width = _checked_region(where, roi, sensor_size)
    frames = frames[:, top : top + height, left : left + width]
    if frames.dtype != torch.uint8:
        _check_brightness(where, frames)
    if state is None:
        if frames.shape[0] == 0:
            raise fail(where, "at least one frame to start a clip", "none")
        _check_times(where, t_us)
        state = _first_state(frames[0], int(t_us[0]), camera, sensor_size, (top, left))
        frames, t_us = frames[1:], t_us[1:]
    edges_us = torch.cat([t_us.new_tensor([state.t_us]), t_us])
    clip = _Clip(where, frames, edges_us.to(frames.device), camera, state, sensor_size)
    _check_state(clip, (top, left))
    _check_times(where, edges_us)
    return clip


def _first_state(
    frame: Tensor, t_us: int, camera: EventCamera, sensor_size: tuple[int, int], origin: tuple[int, int]
) -> EventState:
    """Return the state of pixels that have seen the first frame for long."""
    is_float = frame.dtype != torch.uint8
    table = camera.brightness.table().to(frame.device)
    if camera.is_ideal and not is_float:
        first = table[frame.long()]
        return EventState(first, first, t_us, camera=camera, sensor_size=sensor_size, origin=origin)
    last = _levels(frame) if is_float else table[frame.long()] << 8
    window = (*origin, *frame.shape)
    voltage = noise.first_voltage(camera, window, frame.device) if camera.photoreceptor_hz > 0 else None
    gap_us = noise.first_gap_us(camera, window, is_float, frame.device) if camera.shot_hz > 0 else None
    fired_us = torch.full(frame.shape, -reference_camera.NEVER, device=frame.device)
    return EventState(
        reference=last if voltage is None else last + voltage,
        last=last,
        t_us=t_us,
        units=noise.FINE,
        stage=last if camera.cutoff_hz > 0 and camera.poles == 2 else None,
        voltage=voltage,
        next_us=None if gap_us is None else gap_us + t_us,
        fired_us=fired_us if camera.refractory_us > 0 else None,
        camera=camera,
        sensor_size=sensor_size,
        origin=origin,
    )


def _levels(frames: Tensor) -> Tensor:
    return (frames.double() * noise.FINE).round().to(torch.int32)


def _greys(levels: Tensor, table: Tensor) -> Tensor:
    """Return for each brightness the highest grey level that is not brighter, or 0."""
    return (torch.searchsorted(table, levels, right=True) - 1).clamp(min=0).to(torch.uint8)


# --------------------------------------------------------------------------------------------------------------- checks


def _checked_region(where: str, roi: Region | None, sensor_size: tuple[int, int]) -> Region:
    if roi is None:
        return 0, 0, *sensor_size
    if len(roi) != 4 or any(int(n) != n for n in roi):
        raise fail(where, "roi as whole numbers (top, left, height, width)", str(roi), kind=TypeError)
    top, left, height, width = (int(n) for n in roi)
    inside = 0 <= top < top + height <= sensor_size[0] and 0 <= left < left + width <= sensor_size[1]
    if not inside:
        raise fail(where, f"roi (top, left, height, width) within the frames of {sensor_size}", str(tuple(roi)))
    return top, left, height, width


def _check_brightness(where: str, frames: Tensor) -> None:
    if frames.numel():
        low, high = (float(bound) for bound in frames.aminmax())
        if not (-LIMIT <= low <= high <= LIMIT):
            actual = "NaN" if low != low or high != high else f"{low:g} to {high:g}"
            remedy = "Float frames are log intensity; give grey levels as uint8."
            raise fail(where, f"float frames within [-{LIMIT}, {LIMIT}] nat", actual, remedy)


def _check_times(where: str, edges_us: Tensor) -> None:
    if len(edges_us) and int(edges_us.abs().max()) > MAX_TIME_US:
        raise fail(where, f"t_us within +-{MAX_TIME_US} us", f"{int(edges_us.min())} to {int(edges_us.max())}")
    gaps = edges_us.diff()
    if gaps.numel() and int(gaps.min()) <= 0:
        index = int((gaps <= 0).nonzero()[0])
        pair = f"{int(edges_us[index])} followed by {int(edges_us[index + 1])}"
        raise fail(where, "t_us strictly increasing", pair, "Drop frames that share a time or run backwards.")
    if gaps.numel() and int(gaps.max()) > MAX_INTERVAL_US:
        raise fail(where, f"frames at most {MAX_INTERVAL_US} us (71 minutes) apart", f"{int(gaps.max())} us")


def _check_state(clip: _Clip, origin: tuple[int, int]) -> None:
    where, state, camera = clip.where, clip.state, clip.camera
    remedy = "Keep the camera, the kind of frames, their size and roi for the whole of a clip."
    if state.sensor_size not in (None, clip.sensor_size):
        raise fail(where, f"a state of a sensor of {clip.sensor_size}", f"one of {state.sensor_size}", remedy)
    size = tuple(clip.frames.shape[1:])
    for name, dtype in _tensors(camera, clip.is_float).items():
        tensor = getattr(state, name)
        if tensor is None:
            raise fail(where, f"a state from a call with the same camera: with {name}", "none", remedy)
        check_dtype(where, f"state.{name}", tensor, dtype)
        check_shape(where, f"state.{name}", tensor, size)
    if state.origin != origin:
        raise fail(where, f"a state of a region that begins at {origin}", f"{state.origin}", remedy)
    if state.camera not in (None, camera):
        raise fail(where, "a state from a call with the same camera", _difference(state.camera, camera), remedy)
    units = UNITS if clip.is_ideal else noise.FINE
    if state.units != units:
        raise fail(where, f"a state in units of 1 / {units} nat", f"1 / {state.units}", remedy)
    if clip.is_ideal:
        on, off = (n >> 8 for n in noise.fine(camera, False))
        low, high = (int(bound) for bound in (state.last - state.reference).aminmax())
        if not -off < low <= high < on:
            actual = f"a pixel {max(high, -low) / UNITS:.3f} away from its reference"
            raise fail(where, "a state from a call with the same thresholds", actual, remedy)


def _tensors(camera: EventCamera, is_float: bool) -> dict[str, torch.dtype]:
    """Return which parts a state needs, and their dtypes."""
    return {
        "reference": torch.int32,
        "last": torch.int32,
        **({"stage": torch.int32} if camera.cutoff_hz > 0 and camera.poles == 2 else {}),
        **({"voltage": torch.int32} if camera.photoreceptor_hz > 0 else {}),
        **({"next_us": torch.int64} if camera.shot_hz > 0 else {}),
        **({"fired_us": torch.int64} if camera.refractory_us > 0 else {}),
    }


def _difference(one: EventCamera | None, other: EventCamera) -> str:
    pairs = zip(dataclasses.asdict(one or other).items(), dataclasses.asdict(other).values(), strict=True)
    return ", ".join(f"{name} {value}" for (name, value), wanted in pairs if value != wanted)


# ---------------------------------------------------------------------------------------------------------- other times


def _restamped(events: Events, clip: _Clip) -> Events:
    """Return the events at the times that ``camera.timestamps`` names, in the documented order again."""
    edges_us = clip.edges_us
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

    _prepare("frames_to_events", frames, t_us, camera, None, None)
    state = _prepare("frames_to_events", frames[-1:], t_us[-1:], camera, None, None).state
    return v2e_events(frames, t_us, camera), state
