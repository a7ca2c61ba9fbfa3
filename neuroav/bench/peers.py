"""Other event simulators, run on the same frames where they are installed.

Each function starts one peer and returns its :class:`~neuroav.bench.timing.Runner`; what is timed is the peer's own
call or calls, from the frames it takes to the events it gives, and nothing of ours. A peer that can't be imported is
an :class:`~neuroav.checks.InputError` with the remedy, which the benchmark prints as the reason for leaving it out.

==============  =======================================================================  ==============================
peer            events it gives                                                          left out of the timing
==============  =======================================================================  ==============================
``v2e``         float32 rows, times on one grid per frame; sorted by time                nothing
``Prophesee``   sorted by time, frame by frame, as its ``get_events`` sorts all at once  nothing
``evlib``       all at their frame's time                                                nothing
==============  =======================================================================  ==============================

``Prophesee, unsorted`` leaves its events in the order in which its kernel writes them: less work than all others do.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np

from neuroav.bench.timing import Runner
from neuroav.checks import fail

REMEDIES = {
    "v2ecore": "Install it with: pip install git+https://github.com/SensorsINI/v2e",
    "metavision_core_ml": (
        "Install OpenEB, or put sdk/modules/core_ml/python/pypkg of github.com/prophesee-ai/openeb on PYTHONPATH "
        "(numba, kornia, scikit-video, scikit-image, metavision_sdk_base and metavision_sdk_core are needed)."
    ),
    "evlib": "Install it with: pip install evlib opencv-python-headless",
    "src": "Put a checkout of github.com/ExplainableML/TCAF-GZSL on PYTHONPATH, and install what it imports.",
}
UNSORTED = "Prophesee, unsorted"
PACKAGES = {"v2e": "v2ecore", "Prophesee": "metavision_core_ml", UNSORTED: "metavision_core_ml", "evlib": "evlib"}


def missing(impl: str) -> str:
    """Return why a peer can't be timed here, with the remedy; an empty string if its package is installed.

    Example:
        >>> missing("neuroav")
        ''
    """
    return missing_package(PACKAGES.get(impl))


def missing_package(package: str | None) -> str:
    """Return why a package can't be used, with the remedy; an empty string if it is installed or none is needed."""
    if package is None or find_spec(package) is not None:
        return ""
    return f"{package} is not installed. {_remedy(package)}"


def count_map(x: Any, y: Any, size: tuple[int, int]) -> np.ndarray:
    """Return the number of events per pixel ``(H, W)``; an event outside the sensor is an error."""
    height, width = size
    place = np.asarray(y).astype(np.int64) * width + np.asarray(x).astype(np.int64)
    if np.any(np.asarray(x) >= width) or np.any(place < 0):
        raise fail("bench", f"events inside {height}x{width}", "some outside")
    return np.bincount(place, minlength=height * width).reshape(height, width)


def figures(x: Any, y: Any, t_us: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Return what the benchmark checks of a list of events: number, place, first and last time."""
    times = np.asarray(t_us)
    ends = (float(times.min()), float(times.max())) if len(times) else None
    return {"events": len(times), "count_map": count_map(x, y, size), "t_us": ends}


def v2e(frames: np.ndarray, t_us: np.ndarray, camera: dict[str, Any]) -> Runner:
    """v2e's emulator with the parameters of ``camera`` (a dictionary), frame by frame, rows joined at the end."""
    load("v2ecore.emulator")
    from neuroav.events.camera import EventCamera
    from neuroav.events.v2e import forget, new_emulator

    settings = EventCamera.from_dict({**camera, "timestamps": "v2e"})
    seconds = (t_us - t_us[0]) / 1e6

    def prepare() -> Callable[[], np.ndarray]:
        emulator = new_emulator(settings)
        forget(emulator)

        def run() -> np.ndarray:
            parts = [emulator.generate_events(frame, t) for frame, t in zip(frames, seconds, strict=True)]
            return np.concatenate([part for part in parts if part is not None])

        return run

    def describe(rows: np.ndarray) -> dict[str, Any]:
        return figures(rows[:, 1], rows[:, 2], rows[:, 0] * 1e6 + t_us[0], frames.shape[1:])

    return Runner(prepare, describe)


def prophesee(
    frames: np.ndarray, t_us: np.ndarray, contrast: float, noise: dict[str, float], in_order: bool = True
) -> Runner:
    """OpenEB's numba simulator, one image after another; each frame's events are sorted, or all copied as they are.

    Its own ``get_events`` sorts all events at once, which takes longer than frame by frame.
    """
    module = load("metavision_core_ml.video_to_event.simulator")
    height, width = frames.shape[1:]
    times = (t_us - t_us[0]).tolist()

    def prepare() -> Callable[[], np.ndarray]:
        simulator = module.EventSimulator(height, width, contrast, contrast, 0, **noise)

        def run() -> np.ndarray:
            events, ends = simulator.event_maker.event_buffer, [0]
            for frame, t in zip(frames, times, strict=True):
                ends.append(simulator.image_callback(frame, t))
            if not in_order:
                return events[: ends[-1]].copy()
            parts = [events[start:end] for start, end in pairwise(ends)]
            return np.concatenate([part[np.argsort(part["t"])] for part in parts])

        return run

    def describe(events: np.ndarray) -> dict[str, Any]:
        return figures(events["x"], events["y"], events["t"] + t_us[0], frames.shape[1:])

    return Runner(prepare, describe)


def prophesee_voxels(frames: np.ndarray, t_us: np.ndarray, contrast: float, num_bins: int) -> Runner:
    """OpenEB's fused voxel grid, two polarities, on the CPU; the logarithm of the frames is part of it."""
    module = load("metavision_core_ml.video_to_event.gpu_simulator")
    import torch

    number, height, width = frames.shape
    images = torch.from_numpy(np.ascontiguousarray(frames.transpose(1, 2, 0)))
    length, first = torch.tensor([number], dtype=torch.int32), torch.ones(1)
    times = torch.from_numpy(t_us - t_us[0])[None].float()

    def prepare() -> Callable[[], Any]:
        simulator = module.GPUEventSimulator(1, height, width, c_mu=contrast, c_std=0.0, refractory_period=0)

        def run() -> Any:
            logs = simulator.log_images(images)
            return simulator.event_volume(logs, length, times, first, num_bins, "bilinear", split_channels=True)

        return run

    def describe(grid: Any) -> dict[str, Any]:
        counts = grid.double().abs().reshape(-1, height, width).sum(0).numpy()
        return {"events": int(counts.sum()), "count_map": counts, "t_us": None}

    return Runner(prepare, describe)


def evlib(frames: np.ndarray, t_us: np.ndarray, contrast: float) -> Runner:
    """evlib's ESIM, float32, without refractory period, frame by frame."""
    module = load("evlib.simulation")
    if not hasattr(module, "ESIMSimulator"):
        raise fail("peer evlib", "evlib.simulation with ESIMSimulator", "none", REMEDIES["evlib"])
    config = module.ESIMConfig(
        positive_threshold=contrast,
        negative_threshold=contrast,
        refractory_period_ms=0.0,
        device="cpu",
        dtype="float32",
    )
    seconds = (t_us - t_us[0]) / 1e6

    def prepare() -> Callable[[], list[np.ndarray]]:
        simulator = module.ESIMSimulator(config)

        def run() -> list[np.ndarray]:
            parts = [simulator.process_frame(frame, t) for frame, t in zip(frames, seconds, strict=True)]
            return [np.concatenate(column) for column in zip(*parts, strict=True)]

        return run

    def describe(columns: list[np.ndarray]) -> dict[str, Any]:
        x, y, t, _ = columns
        return figures(x, y, t * 1e6 + t_us[0], frames.shape[1:])

    return Runner(prepare, describe)


def load(name: str) -> Any:
    """Import a peer's module, or say what to install."""
    package = name.split(".")[0]
    try:
        return import_module(name)
    except ImportError as error:
        raise fail(f"peer {package}", f"module {name}", str(error), _remedy(package)) from error


def _remedy(package: str) -> str:
    return REMEDIES.get(package, f"Install it with: pip install {package}")
