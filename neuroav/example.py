"""What the page shows of a trained model: one clip and what its neurons did with it, many clips in its space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from neuroav.baselines.base import joined_averages
from neuroav.checks import InputError, fail
from neuroav.config import Data, MotionScenesData

if TYPE_CHECKING:
    from neuroav.data.sample import ClipData
    from neuroav.data.store import Store


MOST_CLASSES, MOST_CLIPS = 6, 20  # of each kind, and of each class: 240 points that can be told apart
MOST_COMPONENTS = 50


class Competing(NamedTuple):
    """Labels ``classes (K,)``, in order, and which of them are ``seen (K,)``."""

    classes: np.ndarray
    seen: np.ndarray


class Shown(NamedTuple):
    """Pictures ``(F, H, W, 3)`` uint8, their times ``(F,)`` int64 us, mono sound ``(S,)`` float32, its rate in Hz.

    ``size`` is the ``(H, W)`` of the video before it was made as small as a model sees it.
    """

    frames: np.ndarray
    t_us: np.ndarray
    audio: np.ndarray
    audio_rate: int
    size: tuple[int, int]


def example_arrays(source: Data, store: Store, index: int, data: ClipData, model: Any) -> dict[str, np.ndarray]:
    """Arrays for ``arrays.npz``: the clip at ``index`` of ``store``; ``data`` holds that clip alone, standardised.

    A clip whose file has gone since it was described leaves the reason as ``clip.absent``; its spikes are shown.
    """
    arrays = spike_raster(model, data)
    try:
        clip = show(source, store, index)
    except InputError as error:
        return arrays | {"clip.absent": np.array(str(error))}
    from neuroav.data.classic import luma
    from neuroav.events.generate import frames_to_events

    events, _ = frames_to_events(luma(clip.frames), clip.t_us)
    arrays |= {f"clip.{key}": np.asarray(value) for key, value in clip._asdict().items()}
    arrays |= {f"clip.events.{key}": value for key, value in events.numpy().items()}
    label = store.class_names[int(store.labels[index])]
    return arrays | {"clip.title": np.array(f"{label} (a class unseen in training)")}


def show(source: Data, store: Store, index: int) -> Shown:
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
        size = clip.frames.shape[1:3]
    else:
        from neuroav.events.video import read_clip, video_info

        if "file" not in extras:
            raise fail(str(store.path), "the file of each clip among its extras", "none")
        path = Path(store.provenance.get("folder", ".")) / str(extras["file"])
        clip, size = read_clip(path), video_info(path).size
    return Shown(clip.frames, clip.t_us, clip.audio, clip.audio_rate, size)


def spike_raster(model: Any, data: ClipData) -> dict[str, np.ndarray]:
    """Spikes ``(T * R, N)`` and threshold ``(T * R,)`` of every spiking layer, ``R`` presentations a step.

    Also ``raster.t_s (T * R,)``, when each presentation begins if they share their step evenly, and ``raster.repeats``.
    """
    if not hasattr(model, "activity"):
        return {}
    batch = data.batch(np.array([0]))
    with torch.no_grad():
        traces, valid = model.activity(batch)
    start = batch.video.t_s[: len(valid), 0].numpy()  # of one step where a model is shown the average of a clip
    arrays: dict[str, np.ndarray] = {}
    for name, trace in traces.items():
        repeats = len(trace.output) // len(start)
        arrays[f"raster.{name}.spikes"] = trace.output[:, 0].numpy().astype(np.uint8)
        arrays[f"raster.{name}.theta"] = trace.theta[:, 0, 0].repeat_interleave(repeats).numpy()
        arrays["raster.t_s"] = presentation_times(start, repeats)
        arrays["raster.repeats"] = np.array(repeats)
    return arrays


def presentation_times(start: np.ndarray, repeats: int) -> np.ndarray:
    """Begin of each of ``repeats`` presentations of steps that begin at ``start (T,)`` seconds: ``(T * repeats,)``.

    Example:
        >>> presentation_times(np.array([0.0, 0.5, 1.0]), 2).tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
    """
    gap = float(np.median(np.diff(start))) if len(start) > 1 else 1.0
    ends = np.append(start, start[-1] + gap)
    return np.interp(np.arange(len(start) * repeats) / repeats, np.arange(len(ends)), ends).astype(np.float32)


@torch.no_grad()
def embedding_arrays(
    model: Any, row: str, data: ClipData, names: Sequence[str], competing: Competing, class_names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Some test clips as they come in, and where the model puts them and their classes.

    Args:
        model: trained, on the CPU.
        row: its name in the table.
        data: test clips, ``N`` in all.
        names: of these clips.
        competing: the classes.
        class_names: of every label.

    Returns:
        For ``k`` classes and ``n`` of their clips: ``embedding.classes (k,)``, ``embedding.seen (k,)``,
        ``embedding.names (n,)``, ``embedding.label (n,)`` place of each clip's class among them, ``embedding.inputs
        (n, 50)`` principal components of the averaged features; and, where the model has ``embeddings``,
        ``embedding.ROW.clips (n, D)`` and ``embedding.ROW.classes (k, D)``.
    """
    stored, labels, seen = data.labels.numpy(), competing.classes, competing.seen
    with_clips = np.isin(labels, stored)
    shown = np.concatenate([spread(labels[with_clips & group], MOST_CLASSES) for group in (seen, ~seen)])
    clips = np.concatenate([spread(np.flatnonzero(stored == label), MOST_CLIPS) for label in shown])
    batch = data.batch(clips)
    arrays = {
        "embedding.classes": np.array([class_names[label] for label in shown]),
        "embedding.seen": seen[np.searchsorted(labels, shown)],
        "embedding.names": np.array([names[i] for i in clips]),
        "embedding.label": np.argmax(stored[clips][:, None] == shown, 1),
        "embedding.inputs": principal_components(joined_averages(batch).numpy(), MOST_COMPONENTS),
    }
    if hasattr(model, "embeddings"):
        points, prototypes = model.embeddings(batch, data.class_vectors[torch.from_numpy(shown)])
        arrays |= {f"embedding.{row}.clips": points.numpy(), f"embedding.{row}.classes": prototypes.numpy()}
    return arrays


def spread(values: np.ndarray, most: int) -> np.ndarray:
    """At most so many of ``values``, evenly spread over them, in order.

    Example:
        >>> spread(np.arange(10), 4).tolist()
        [0, 3, 6, 9]
    """
    if len(values) <= most:
        return values
    return values[np.round(np.linspace(0, len(values) - 1, most)).astype(int)]


def principal_components(x: np.ndarray, most: int) -> np.ndarray:
    """Rows ``x (n, D)`` along their ``most`` strongest directions, ``(n, min(most, n, D))`` float32, centred.

    The sign of a direction is that of its largest weight, so that it does not depend on the machine.

    Example:
        >>> principal_components(np.array([[0.0, 0.0], [3.0, 4.0]]), 1).tolist()
        [[-2.5], [2.5]]
    """
    centred = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    rows, scale, directions = np.linalg.svd(centred, full_matrices=False)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)[:, 0]
    return (rows * scale * np.where(largest < 0, -1, 1))[:, :most].astype(np.float32)
