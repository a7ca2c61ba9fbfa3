"""What stands between caller and kernels: checks, the state of a clip that begins, and the arguments of the kernels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import check_dtype, check_shape, fail
from neuroav.events import noise
from neuroav.events.camera import UNITS, EventCamera
from neuroav.events.types import EventState
from neuroav.kernels import camera as full
from neuroav.kernels import reference_camera
from neuroav.kernels.events import MAX_INTERVAL_US, MAX_SIDE, brightness

MAX_TIME_US = 1 << 60
LIMIT = 32  # nat; float frames lie within
Region = tuple[int, int, int, int]  # top, left, height, width


@dataclass(frozen=True)
class Call:
    """Checked arguments: the frames of the region after the state, and that state."""

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


def prepare(
    where: str,
    frames: Tensor | np.ndarray,
    t_us: Tensor | np.ndarray,
    camera: EventCamera,
    state: EventState | None,
    roi: Region | None,
) -> Call:
    if not isinstance(camera, EventCamera):
        remedy = "Presets are EventCamera.preset(name)."
        raise fail(where, "camera to be an EventCamera", repr(camera), remedy, kind=TypeError)
    if not isinstance(state, EventState | None):
        raise fail(where, "state from an earlier call, or None", type(state).__name__, kind=TypeError)
    frames, t_us = _tensor(where, "frames", frames), _tensor(where, "t_us", t_us)
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
    begins = state is None
    if state is None:
        if frames.shape[0] == 0:
            raise fail(where, "at least one frame to start a clip", "none")
        _check_times(where, t_us)
        state = _first_state(frames[0], int(t_us[0]), camera, sensor_size, (top, left))
        frames, t_us = frames[1:], t_us[1:]
    edges_us = torch.cat([t_us.new_tensor([state.t_us]), t_us])
    clip = Call(where, frames, edges_us.to(frames.device), camera, state, sensor_size)
    if not begins:
        _check_state(clip, (top, left))  # reads from the tensors, for which a GPU is waited for
    _check_times(where, edges_us)
    return clip


def _tensor(where: str, name: str, value: Tensor | np.ndarray) -> Tensor:
    """Return a tensor that shares the memory of an array where it can."""
    if isinstance(value, np.ndarray) and (min(value.strides, default=0) < 0 or not value.flags.writeable):
        value = value.copy()
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        actual = f"{type(value).__name__} ({error})"
        raise fail(where, f"{name} as a tensor or an array of numbers", actual, kind=TypeError) from error


def _first_state(
    frame: Tensor, t_us: int, camera: EventCamera, sensor_size: tuple[int, int], origin: tuple[int, int]
) -> EventState:
    """Return the state of pixels that have seen the first frame for long."""
    is_float = frame.dtype != torch.uint8
    table = camera.brightness.table().to(frame.device)
    if camera.is_ideal and not is_float:
        first = brightness(frame, table)
        return EventState(first, first, t_us, camera=camera, sensor_size=sensor_size, origin=origin)
    last = _levels(frame) if is_float else brightness(frame, table) << 8
    window = (*origin, *frame.shape)
    gap_us = noise.first_gap_us(camera, window, is_float, frame.device) if camera.shot_hz > 0 else None
    fired_us = torch.full(frame.shape, -reference_camera.NEVER, device=frame.device)
    return EventState(
        reference=last,
        last=last,
        t_us=t_us,
        units=noise.FINE,
        stage=last if camera.cutoff_hz > 0 and camera.poles == 2 else None,
        voltage=torch.zeros_like(last) if camera.photoreceptor_hz > 0 else None,
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


def _check_state(clip: Call, origin: tuple[int, int]) -> None:
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
        if not clip.is_float:
            darkest, brightest = (int(bound) for bound in camera.brightness.table().aminmax())
            low, high = (int(bound) for bound in state.last.aminmax())
            if not darkest <= low <= high <= brightest:
                expected = f"a state with brightness of grey levels, {darkest} to {brightest} units"
                raise fail(where, expected, f"{low} to {high}", remedy)


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
