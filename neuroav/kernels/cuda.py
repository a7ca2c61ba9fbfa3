"""Binds ``csrc/cuda`` through CuPy, which compiles it at first use, on torch's current stream and device.

Shapes: every op has a leading axis ``B`` of clips of equal size. Layout: contiguous (other layouts are copied).
Determinism: exact. Parity tolerance: none; the arrays equal those of the CPU. Memory: 21 bytes per event.
Nothing here is imported or compiled before a CUDA tensor arrives. Fused bins neither wait for the GPU nor read from it,
so they can be captured in a CUDA graph once they ran; a list of events needs its length, and waits once.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuroav.checks import KernelUnavailableError, fail

TILE, TILES_PER_BLOCK = 512, 8  # as in csrc/cuda/detect.cuh
_CELLS = 4096
_MAX_DIGIT_BITS = 9  # as in csrc/cuda/sort.cu
_MAX_FRAME_EVENTS = (1 << 31) - 1
_KINDS = ("counts", "voxels", "latest")  # by the codes of csrc/common/bins.h
_REMEDY = "Install CuPy for your CUDA version (pip install 'neuroav[cuda]'), or set NEUROAV_KERNELS=reference."


def describe() -> str:
    """Say which implementation CUDA tensors get, and why."""
    if not torch.cuda.is_available():
        return "not in use (PyTorch sees no CUDA device)"
    if _chosen_reference():
        return "PyTorch reference (NEUROAV_KERNELS=reference)"
    try:
        return f"CuPy {importlib.import_module('cupy').__version__}, compiled at first use"
    except ImportError as error:
        return f"PyTorch reference ({error}). {_REMEDY}"


def register(op: str, kernel: Callable, reference: Callable) -> None:
    """Let ``op`` run ``kernel`` on CUDA tensors, or ``reference`` where CuPy is missing (said once) or unwanted."""

    def implementation(*args):
        return (kernel if available() else reference)(*args)

    torch.library.impl(op, "cuda", implementation)


@cache
def available() -> bool:
    """True when CuPy can be imported; warns with the remedy, once, when not."""
    if _chosen_reference():
        return False
    try:
        importlib.import_module("cupy")
    except ImportError as error:
        warnings.warn(f"CUDA kernels: {error}; the slower PyTorch reference is used. {_REMEDY}", stacklevel=3)
        return False
    return True


def _chosen_reference() -> bool:
    return os.environ.get("NEUROAV_KERNELS", "") == "reference"


# -------------------------------------------------------------------------------------------------------------- launch


def _sources() -> Path:
    """Return the folder with ``common`` and ``cuda``: inside an installed package, or the repository's."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_csrc", package.parent / "csrc"):
        if (folder / "cuda").is_dir():
            return folder
    raise fail(
        "CUDA kernels", f"the CUDA sources in {package / '_csrc'}", "no such folder", _REMEDY, KernelUnavailableError
    )


@cache
def _module(name: str, device_index: int | None) -> Any:
    """Return the compiled source; called in the context of the device, which it is loaded to."""
    import cupy

    folder = _sources()
    headers = sorted([*folder.glob("common/*.h"), *folder.glob("cuda/*.cuh")])
    digest = hashlib.sha256(b"".join(header.read_bytes() for header in headers)).hexdigest()[:16]
    options = (
        "-std=c++17",
        f"-I{folder / 'common'}",
        f"-I{folder / 'cuda'}",
        "-fmad=false",  # as on a CPU: a multiplication and an addition are never fused
        f"-DNEUROAV_HEADERS=0x{digest}",  # CuPy's cache on disk knows the options and this file, not what it includes
    )
    return cupy.RawModule(code=(folder / "cuda" / f"{name}.cu").read_text(encoding="utf-8"), options=options)


@cache
def _kernel(source: str, name: str, device_index: int | None) -> Any:
    return _module(source, device_index).get_function(name)


class _Stream:
    """Torch's current stream, in the protocol by which CuPy adopts it."""

    def __init__(self, device: torch.device) -> None:
        self.address = torch.cuda.current_stream(device).cuda_stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


def launch(source: str, kernel: str, blocks: int, threads: int, *args: Tensor | float | None) -> None:
    """Run a kernel of ``csrc/cuda/<source>.cu`` on tensors of one device; every number is 64 bits wide."""
    import cupy
    import numpy as np

    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    device = tensors[0].device
    assert all(tensor.device == device and tensor.is_contiguous() for tensor in tensors)
    values = tuple(
        np.float64(arg) if isinstance(arg, float) else np.int64(arg if isinstance(arg, int) else _address(arg))
        for arg in args
    )
    with cupy.cuda.Device(device.index), cupy.cuda.Stream.from_external(_Stream(device)):
        _kernel(source, kernel, device.index)((blocks,), (threads,), values)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


# -------------------------------------------------------------------------------------------------------------- events


class _Clips:
    """A batch of clips as the kernels want it, and the arguments that all of them share."""

    def __init__(self, frames, edges_us, table, on, off, level, last) -> None:
        device = frames.device
        self.frames = frames.contiguous()
        self.edges_us, self.table, self.level, self.last = (
            tensor.to(device).contiguous() for tensor in (edges_us, table, level, last)
        )
        self.count, self.num_frames, height, self.width = frames.shape
        self.num_pixels = height * self.width
        self.tiles = -(-self.num_pixels // TILE)
        self.blocks = -(-self.count * self.tiles // TILES_PER_BLOCK)
        self.index = torch.empty(_CELLS, dtype=torch.uint8, device=device)
        self.thresholds = (on, off)
        launch("events", "index_greys", 1, 256, self.table, self.index)

    @property
    def state(self) -> tuple:
        return self.table, self.index, self.level, self.last, self.count, self.num_frames, self.num_pixels


def contrast_events(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, level: Tensor, last: Tensor
) -> tuple[Tensor, ...]:
    """Do what ``neuroav.kernels.reference.contrast_events`` does."""
    t_us, x, y, p, _, level, last = contrast_events_clips(
        frames[None], edges_us[None], table, on, off, level[None], last[None]
    )
    return t_us, x, y, p, level[0], last[0]


def contrast_events_clips(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, level: Tensor, last: Tensor
) -> tuple[Tensor, ...]:
    """Do what ``neuroav.kernels.clips.contrast_events_clips`` says: count, sum, write in raster order, sort by time."""
    clips = _Clips(frames, edges_us, table, on, off, level, last)
    counts = torch.empty(clips.count, clips.num_frames, clips.tiles, dtype=torch.int32, device=frames.device)
    level, last = torch.empty_like(clips.level), torch.empty_like(clips.last)
    if clips.blocks:
        launch(
            "events", "count_events", clips.blocks, 32 * TILES_PER_BLOCK, clips.frames, *clips.state, *clips.thresholds,
            counts, level, last,
        )  # fmt: skip
    ends = counts.flatten().cumsum(0, dtype=torch.int64)

    def write(records: Tensor) -> None:
        launch(
            "events", "write_events", clips.blocks, 32 * TILES_PER_BLOCK, clips.frames, clips.edges_us, *clips.state,
            clips.width, *clips.thresholds, ends, records,
        )  # fmt: skip

    t_us, x, y, p, _, number = _sorted_columns(clips.edges_us, ends, clips.tiles, write, labels=False)
    return t_us, x, y, p, number, level, last


def _sorted_columns(
    edges_us: Tensor, ends: Tensor, tiles: int, write: Callable[[Tensor], None], labels: bool
) -> tuple[Tensor, ...]:
    """Return the columns of a list, with noise flags or none, and the number of events of each clip, on the CPU.

    ``ends (B * F * tiles,)`` says where the events of each tile and frame end; ``write`` fills the records.
    """
    number, longest_us = _sizes(edges_us, ends, tiles)
    total, device = int(number.sum()), ends.device
    records, spare = (torch.empty(total, dtype=torch.int64, device=device) for _ in range(2))
    x, y = (torch.empty(total, dtype=torch.int16, device=device) for _ in range(2))
    p = torch.empty(total, dtype=torch.uint8, device=device)
    noise = torch.empty(total if labels else 0, dtype=torch.uint8, device=device)
    passes = max(1, -(-longest_us.bit_length() // _MAX_DIGIT_BITS))
    bits = -(-longest_us.bit_length() // passes)
    t_us = spare if passes % 2 else records  # where the last pass of the sort does not read
    if total:
        num_frames = edges_us.shape[-1] - 1
        write(records)
        launch(
            "sort", "sort_events", len(number) * num_frames, 512, records, spare, ends, edges_us, num_frames, tiles,
            passes, bits, t_us, x, y, p, _if_there(noise),
        )  # fmt: skip
    return t_us, x, y, p, noise, number


def _sizes(edges_us: Tensor, ends: Tensor, tiles: int) -> tuple[Tensor, int]:
    """Return the number of events of each clip, on the CPU, and the longest interval; the one wait for the GPU."""
    num_frames = edges_us.shape[-1] - 1
    if ends.numel() == 0:
        return torch.zeros(edges_us.shape[0], dtype=torch.int64), 0
    frame_ends = ends[tiles - 1 :: tiles]
    largest = frame_ends.diff(prepend=frame_ends.new_zeros(1)).max()
    limits = torch.stack([largest, edges_us.diff().max()])
    *clip_ends, most, longest_us = torch.cat([frame_ends[num_frames - 1 :: num_frames], limits]).tolist()
    if most > _MAX_FRAME_EVENTS:
        raise fail("frames_to_events", "at most 2^31 - 1 events between two frames", f"{most}", "Raise the thresholds.")
    return torch.tensor([0, *clip_ends]).diff(), longest_us


def _if_there(tensor: Tensor) -> Tensor | None:
    return tensor if tensor.numel() else None


# ---------------------------------------------------------------------------------------------------------------- bins


def contrast_bins(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, level: Tensor, last: Tensor, kind: int,
    bin_edges_us: Tensor, rows: int, columns: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Do what ``neuroav.kernels.reference.contrast_bins`` does."""
    values, level, last = contrast_bins_clips(
        frames[None], edges_us[None], table, on, off, level[None], last[None], kind, bin_edges_us[None], rows, columns
    )
    return values[0], level[0], last[0]


def contrast_bins_clips(
    frames: Tensor, edges_us: Tensor, table: Tensor, on: int, off: int, level: Tensor, last: Tensor, kind: int,
    bin_edges_us: Tensor, rows: int, columns: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Do what ``neuroav.kernels.clips.contrast_bins_clips`` says, without waiting for the GPU."""
    clips = _Clips(frames, edges_us, table, on, off, level, last)
    bin_edges_us = bin_edges_us.to(frames.device).contiguous()
    values = _empty_bins((clips.count,), kind, bin_edges_us, rows, columns)
    bin_of_frame = torch.empty(clips.count, clips.num_frames, dtype=torch.int64, device=frames.device)
    level, last = torch.empty_like(clips.level), torch.empty_like(clips.last)
    if clips.blocks:
        num_edges = bin_edges_us.shape[-1]
        if bin_of_frame.numel():
            launch(
                "bins", "locate_frames", -(-bin_of_frame.numel() // 256), 256, clips.edges_us, bin_edges_us,
                clips.count, clips.num_frames, num_edges, int(_KINDS[kind] == "voxels"), bin_of_frame,
            )  # fmt: skip
        launch(
            "bins", f"bin_frames_{_KINDS[kind]}", clips.blocks, 32 * TILES_PER_BLOCK, clips.frames, clips.edges_us,
            *clips.state, clips.width, *clips.thresholds, bin_edges_us, num_edges, rows, columns, bin_of_frame, values,
            level, last,
        )  # fmt: skip
    return values, level, last


def bin_events(
    t_us: Tensor, x: Tensor, y: Tensor, p: Tensor, height: int, width: int, kind: int, bin_edges_us: Tensor,
    rows: int, columns: int,
) -> Tensor:  # fmt: skip
    """Do what ``neuroav.kernels.reference_bins.bin_events`` does; events outside the sensor are left out."""
    t_us, x, y, p, bin_edges_us = (tensor.to(t_us.device).contiguous() for tensor in (t_us, x, y, p, bin_edges_us))
    values = _empty_bins((), kind, bin_edges_us, rows, columns)
    if len(t_us):
        launch(
            "bins", f"bin_list_{_KINDS[kind]}", min(-(-len(t_us) // 256), 1 << 16), 256, t_us, x, y, p, len(t_us),
            height, width, bin_edges_us, len(bin_edges_us), rows, columns, values,
        )  # fmt: skip
    return values


def _empty_bins(batch: tuple[int, ...], kind: int, bin_edges_us: Tensor, rows: int, columns: int) -> Tensor:
    name = _KINDS[kind]
    shape = (*batch, bin_edges_us.shape[-1] - (name != "voxels"), 2, rows, columns)
    dtype = torch.int32 if name == "counts" else torch.int64
    nothing = torch.iinfo(torch.int64).min if name == "latest" else 0
    return torch.full(shape, nothing, dtype=dtype, device=bin_edges_us.device)


# -------------------------------------------------------------------------------------------------------------- camera


class _Camera:
    """What the kernels of the full model want: arrays, sizes and numbers in the order of ``csrc/cuda/camera.cu``."""

    def __init__(self, clip, sensor, numbers, state) -> None:
        device = state[0].device
        tensors = [tensor.to(device).contiguous() for tensor in (*clip, *sensor, *state)]
        self.edges_us = tensors[2]
        self.num_frames = len(self.edges_us) - 1
        height, width = state[0].shape
        self.blocks, self.warps = -(-height * width // 256), -(-height * width // 32)
        self.arguments = (*map(_if_there, tensors), self.num_frames, height, width, *numbers)
        self.new_state = [torch.empty_like(tensor) for tensor in tensors[-len(state) :]]
        self.new_state_arguments = tuple(map(_if_there, self.new_state))


def camera_events(
    clip: Sequence[Tensor], sensor: Sequence[Tensor], numbers: Sequence[int], state: Sequence[Tensor], labels: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    """Do what ``neuroav.kernels.reference_camera.camera_events`` does."""
    camera = _Camera(clip, sensor, numbers, state)
    counts = torch.empty(camera.num_frames, camera.warps, dtype=torch.int32, device=state[0].device)
    launch(
        "camera", "camera_count", camera.blocks, 256, *camera.arguments, *camera.new_state_arguments, _if_there(counts)
    )
    ends = counts.flatten().cumsum(0, dtype=torch.int64)

    def write(records: Tensor) -> None:
        launch("camera", "camera_write", camera.blocks, 256, *camera.arguments, ends, records)

    *columns, _ = _sorted_columns(camera.edges_us[None], ends, camera.warps, write, labels)
    t_us, x, y, p, noise = columns
    return t_us, x, y, p, noise, camera.new_state


def camera_bins(
    clip: Sequence[Tensor], sensor: Sequence[Tensor], numbers: Sequence[int], state: Sequence[Tensor], kind: int,
    bin_edges_us: Tensor, rows: int, columns: int,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """Do what ``neuroav.kernels.reference_camera.camera_bins`` does, without waiting for the GPU."""
    camera = _Camera(clip, sensor, numbers, state)
    bin_edges_us = bin_edges_us.to(state[0].device).contiguous()
    values = _empty_bins((), kind, bin_edges_us, rows, columns)
    launch(
        "camera", f"camera_bins_{_KINDS[kind]}", camera.blocks, 256, *camera.arguments, *camera.new_state_arguments,
        bin_edges_us, len(bin_edges_us), rows, columns, values,
    )  # fmt: skip
    return values, camera.new_state
