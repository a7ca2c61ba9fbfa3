"""One test clip for the page: its pictures, sound and events, and what the trained model's neurons did with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from neuroav.checks import InputError, fail
from neuroav.config import MotionScenesData, StoreData

if TYPE_CHECKING:
    from neuroav.data.sample import ClipData
    from neuroav.data.store import Store

Source = MotionScenesData | StoreData


class Shown(NamedTuple):
    """Pictures ``(F, H, W, 3)`` uint8, their times ``(F,)`` int64 us, mono sound ``(S,)`` float32, its rate in Hz."""

    frames: np.ndarray
    t_us: np.ndarray
    audio: np.ndarray
    audio_rate: int


def example_arrays(source: Source, store: Store, index: int, data: ClipData, model: Any) -> dict[str, np.ndarray]:
    """Arrays for ``arrays.npz``: the clip at ``index`` of ``store``; ``data`` holds that clip alone, standardised.

    A clip whose file has gone since it was described is left out; spikes are shown all the same.
    """
    arrays = spike_raster(model, data)
    try:
        clip = show(source, store, index)
    except InputError:
        return arrays
    from neuroav.data.classic import luma
    from neuroav.events.generate import frames_to_events

    events, _ = frames_to_events(luma(clip.frames), clip.t_us)
    arrays |= {f"clip.{key}": np.asarray(value) for key, value in clip._asdict().items()}
    arrays |= {f"clip.events.{key}": value for key, value in events.numpy().items()}
    label = store.class_names[int(store.labels[index])]
    return arrays | {"clip.title": np.array(f"{label} (a class unseen in training)")}


def show(source: Source, store: Store, index: int) -> Shown:
    """Pictures and sound of a stored clip: rendered again, or read again from its file."""
    extras = {key: values[index] for key, values in store.extras.items()}
    if isinstance(source, MotionScenesData):
        from neuroav.data.render import render_clip

        scenes = source.scenes
        clip: Any = render_clip(
            int(extras["class"]),
            int(extras["clip"]),
            int(extras["scene"]),
            seed=scenes.seed,
            ambience_bias=scenes.ambience_bias,
        )
    else:
        from neuroav.events.video import read_clip

        if "file" not in extras:
            raise fail(str(store.path), "the file of each clip among its extras", "none")
        clip = read_clip(Path(store.provenance.get("folder", ".")) / str(extras["file"]))
    return Shown(clip.frames, clip.t_us, clip.audio, clip.audio_rate)


def spike_raster(model: Any, data: ClipData) -> dict[str, np.ndarray]:
    """Spikes ``(T * R, N)`` and threshold ``(T * R,)`` of every spiking layer, ``R`` presentations a step."""
    if not hasattr(model, "activity"):
        return {}
    batch = data.batch(np.array([0]))
    with torch.no_grad():
        traces, _ = model.activity(batch)
    start = batch.video.t_s[:, 0].numpy()
    arrays: dict[str, np.ndarray] = {}
    for name, trace in traces.items():
        repeats = len(trace.output) // len(start)
        arrays[f"raster.{name}.spikes"] = trace.output[:, 0].numpy().astype(np.uint8)
        arrays[f"raster.{name}.theta"] = trace.theta[:, 0, 0].repeat_interleave(repeats).numpy()
        steps = np.arange(len(trace.output)) / repeats
        arrays["raster.t_s"] = np.interp(steps, np.arange(len(start)), start).astype(np.float32)
    return arrays
