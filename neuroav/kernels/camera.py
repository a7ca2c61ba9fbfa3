"""The ops of the full camera model: frames, sensor and pixel state in; sorted events, or bins, and new state out.

``neuroav::camera_events`` makes the list, ``neuroav::camera_bins`` fills bins without ever making it.
Shapes: those of :class:`Clip`, :class:`Sensor` and :class:`State`; a tensor with no element is not there.
Layout: contiguous row-major (other layouts are copied). Determinism: exact, for any thread count and device.
Parity tolerance: none; every implementation gives identical arrays. Memory: the events or bins, and the state.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neuroav.kernels import cpu, cuda, reference_bins, reference_camera


class Clip(NamedTuple):
    """Frames and what is known of them before any pixel is looked at."""

    greys: Tensor  #: ``(F, H, W)`` uint8; ``(0,)`` for float frames whose grey levels nothing needs
    levels: Tensor  #: ``(F, H, W)`` int32 brightness of float frames in 2^-24 nat; ``(0,)``: looked up by grey level
    edges_us: Tensor  #: ``(F + 1,)`` int64; frame ``k`` spans ``(edges_us[k], edges_us[k + 1]]``
    shares: Tensor  #: ``(F, 256)`` int32 share of the low pass by grey level in 2^-24; ``(0,)``: no limit
    steps: Tensor  #: ``(F, 2)`` int32 share and gain of the photoreceptor noise in 2^-24; ``(0,)``: none


class Sensor(NamedTuple):
    """The fixed pattern of the pixels, and tables that they share."""

    table: Tensor  #: ``(256,)`` int32 brightness of the grey levels in 2^-24 nat
    on: Tensor  #: ``(H, W)`` int32 thresholds in 2^-24 nat; 2^31 - 1: a dead pixel
    off: Tensor  #: ``(H, W)`` int32
    leak: Tensor  #: ``(H, W)`` int32 in 2^-44 nat per microsecond; ``(0,)``: none
    period: Tensor  #: ``(H, W)`` int64 between candidates for shot noise in 2^-6 microseconds; ``(0,)``: no shot noise
    accept: Tensor  #: ``(256,)`` int32 share of the shot noise by grey level in 2^-20; ``(0,)``: no shot noise
    normal: Tensor  #: ``(1024,)`` int32, see csrc/common/random.h
    exponential: Tensor  #: ``(1025,)`` int32


class Numbers(NamedTuple):
    """What all pixels have in common."""

    nominal_on: int  #: 2^-24 nat
    nominal_off: int
    rule: int  #: of the refractory period: 0 advance, 1 hold, 2 blind
    refractory_us: int
    leak_jitter: int  #: 2^-16
    seed: int
    frame: int  #: number of the first frame since the start of the clip
    top: int  #: place of the first pixel in the sensor
    left: int


class State(NamedTuple):
    """What pixels remember; ``(0,)`` where nothing needs it. See ``neuroav.events.types.EventState``."""

    reference: Tensor  #: ``(H, W)`` int32, 2^-24 nat
    last: Tensor  #: ``(H, W)`` int32
    stage: Tensor  #: ``(H, W)`` int32
    voltage: Tensor  #: ``(H, W)`` int32
    next_us: Tensor  #: ``(H, W)`` int64
    fired_us: Tensor  #: ``(H, W)`` int64


torch.library.define(
    "neuroav::camera_events",
    "(Tensor[] clip, Tensor[] sensor, int[] numbers, Tensor[] state, bool labels)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor[])",
)

torch.library.define(
    "neuroav::camera_bins",
    "(Tensor[] clip, Tensor[] sensor, int[] numbers, Tensor[] state, int kind, Tensor bin_edges_us, int rows,"
    " int columns) -> (Tensor, Tensor[])",
)


def camera_events(
    clip: Clip, sensor: Sensor, numbers: Numbers, state: State, labels: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, State]:
    """Return ``t_us, x, y, p`` and noise flags (``(0,)`` without ``labels``) of the events, and the new state.

    The arguments must be valid: ``neuroav.events.generate.frames_to_events`` is the checked way in.
    """
    *columns, tensors = torch.ops.neuroav.camera_events(list(clip), list(sensor), list(numbers), list(state), labels)
    return *columns, State(*tensors)


def camera_bins(
    clip: Clip, sensor: Sensor, numbers: Numbers, state: State, kind: int, bin_edges_us: Tensor, rows: int, columns: int
) -> tuple[Tensor, State]:
    """Return the bins ``(T, P, rows, columns)`` of those events and the new state; ``top`` and ``left`` must be 0."""
    values, tensors = torch.ops.neuroav.camera_bins(
        list(clip), list(sensor), list(numbers), list(state), kind, bin_edges_us, rows, columns
    )
    return values, State(*tensors)


@torch.library.register_fake("neuroav::camera_events")
def _(clip, sensor, numbers, state, labels):
    count = torch.library.get_ctx().new_dynamic_size()
    t_us, places = sensor[0].new_empty(count, dtype=torch.int64), [torch.int16, torch.int16, torch.uint8]
    noise = sensor[0].new_empty(count if labels else 0, dtype=torch.uint8)
    columns = [sensor[0].new_empty(count, dtype=dtype) for dtype in places]
    return t_us, *columns, noise, [torch.empty_like(tensor) for tensor in state]


@torch.library.register_fake("neuroav::camera_bins")
def _(clip, sensor, numbers, state, kind, bin_edges_us, rows, columns):
    return reference_bins.no_values(bin_edges_us, kind, bin_edges_us, rows, columns), [
        torch.empty_like(tensor) for tensor in state
    ]


def _camera_events_cpu(clip, sensor, numbers, state, labels):
    view, _keep, state = _clip_cpu(clip, sensor, numbers, state)
    columns = cpu.module.camera_events(view, labels, torch.get_num_threads())
    return *(torch.from_numpy(column) for column in columns), state


def _camera_bins_cpu(clip, sensor, numbers, state, kind, bin_edges_us, rows, columns):
    view, _keep, state = _clip_cpu(clip, sensor, numbers, state)
    edges = bin_edges_us.contiguous()
    values = cpu.module.camera_bins(view, kind, edges.data_ptr(), len(edges), rows, columns, torch.get_num_threads())
    return torch.from_numpy(values).view(-1, 2, rows, columns), state


def _clip_cpu(clip, sensor, numbers, state):
    """Return the extension's view of a clip, the tensors whose memory it reads, and the copy of the state it moves."""
    state = [tensor.clone(memory_format=torch.contiguous_format) for tensor in state]
    keep = [tensor.contiguous() for tensor in (*clip, *sensor)]
    addresses = [tensor.data_ptr() if tensor.numel() else 0 for tensor in (*keep, *state)]
    size = (len(clip[2]) - 1, *state[0].shape)
    return cpu.module.CameraClip(addresses, [*size, *numbers]), keep, state


torch.library.impl("neuroav::camera_events", "default", reference_camera.camera_events)
torch.library.impl("neuroav::camera_bins", "default", reference_camera.camera_bins)
if cpu.available():
    torch.library.impl("neuroav::camera_events", "cpu", _camera_events_cpu)
    torch.library.impl("neuroav::camera_bins", "cpu", _camera_bins_cpu)
cuda.register("neuroav::camera_events", cuda.camera_events, reference_camera.camera_events)
cuda.register("neuroav::camera_bins", cuda.camera_bins, reference_camera.camera_bins)
