"""The data of an experiment, cut into the parts of the protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuroav.checks import fail, nearest, some
from neuroav.config import Data, MotionScenesData, SimulatedData, StoreData
from neuroav.data.class_vectors import AsGiven, Optimised
from neuroav.data.sample import WHOLE_CLIPS, ClipData, Statistics
from neuroav.data.splits import PARTS, assign_parts
from neuroav.data.store import LoadedClips, Store
from neuroav.data.windows import WholeClips, Window

KEPT_BYTES = 2 * 2**30  # of audio or video in memory: both of VGGSound's at 512 features, training and validation
AS_GIVEN = AsGiven()


@dataclass(frozen=True)
class Task:
    """A store cut into the parts of the protocol.

    Attributes:
        source: what the experiment said of its data.
        store: the open feature store.
        class_vectors: ``(K, D_text)`` vector of each label.
        parts: per test set (``biased`` and ``shuffled``; ``test``; or what was simulated) and part, the clip indices.
        scene: ``(N,)`` scene shown in each clip, or ``None`` where that is not known.
        preferred: ``(K,)`` preferred scene of each class, or ``None``.
    """

    source: Data
    store: Store
    class_vectors: np.ndarray
    parts: dict[str, dict[str, np.ndarray]]
    scene: np.ndarray | None = None
    preferred: np.ndarray | None = None

    def classes(self, *names: str) -> np.ndarray:
        """Sorted labels that occur in the named parts."""
        first = next(iter(self.parts.values()))
        return np.unique(self.store.labels[np.concatenate([first[name] for name in names])])

    def load(self, indices: np.ndarray) -> LoadedClips:
        """Read clips; what is larger than :data:`KEPT_BYTES` stays on disk and is read batch by batch.

        Raises:
            InputError: If a feature is NaN or infinite: no writer of this package stores one.
        """
        clips = self.store.load(indices, most_bytes=KEPT_BYTES)
        for modality in ("audio", "video"):
            values = getattr(clips, modality)
            if not isinstance(values, np.ndarray):
                continue  # looked at when it is read
            finite = np.isfinite(values.sum(1, dtype=np.float64))
            if not finite.all():
                first = np.searchsorted(clips.offsets, np.argmin(finite), side="right") - 1
                name = self.store.names[indices[first]]
                found = f"NaN or infinity in the {modality} of clip {name!r}"
                raise fail(str(self.store.path), "finite features", found, "Write the store again.")
        return clips

    def data(self, indices: np.ndarray, statistics: Statistics, steps: WholeClips | Window = WHOLE_CLIPS) -> ClipData:
        """Load and standardise clips, of which batches hold ``steps``."""
        return ClipData(self.load(indices), statistics, self.class_vectors, steps)


def prepare(data: Data, vectors: AsGiven | Optimised = AS_GIVEN, workers: int | None = None) -> Task:
    """Open the store of an experiment, rendering or simulating its clips first where it is not there yet.

    ``vectors`` says what becomes of its class vectors; ``workers`` processes render (default: one per core).
    """
    if isinstance(data, MotionScenesData):
        task = _prepare_scenes(data, workers)
    else:
        task = _prepare_simulated(data) if isinstance(data, SimulatedData) else _prepare_store(data)
    if not np.isfinite(task.store.class_vectors).all():
        raise fail(data.store, "finite class vectors", "NaN or infinity", "Write the store again.")
    return replace(task, class_vectors=vectors.of(task.store.class_vectors))


def _prepare_scenes(data: MotionScenesData, workers: int | None) -> Task:
    from neuroav.data.motionscenes import generate, preferred_scenes, view

    path = Path(data.store)
    if data.scene_bias not in data.scenes.scene_biases:
        biases = ", ".join(f"{bias:g}" for bias in data.scenes.scene_biases)
        remedy = f"--set data.scenes.scene_biases={data.scene_bias:g} --set data.store=FILE renders others."
        raise fail("data.scene_bias", f"one that is rendered ({biases})", f"{data.scene_bias:g}", remedy)
    if not path.exists():
        usual = MotionScenesData()
        if data.store == usual.store and data.scenes != usual.scenes:
            remedy = "--set data.store=FILE names another."
            raise fail("data.store", f"a file of their own for other scenes than {usual.scenes}", data.store, remedy)
        path.parent.mkdir(parents=True, exist_ok=True)
        generate(data.scenes, path, workers=workers)
    store = Store(path)
    wanted = json.loads(json.dumps(asdict(data.scenes)))
    if any(store.settings.get(key) != value for key, value in wanted.items()):
        raise fail(str(path), f"a store of MotionScenes {wanted}", str(store.settings), "Choose another data.store.")
    parts = {name: view(store, data.scene_bias, name) for name in ("biased", "shuffled")}
    preferred = preferred_scenes(data.scenes.seed)
    return Task(data, store, store.class_vectors, parts, scene=np.asarray(store.extras["scene"]), preferred=preferred)


def _prepare_simulated(data: SimulatedData) -> Task:
    from neuroav.data.synthetic import open_or_generate

    Path(data.store).parent.mkdir(parents=True, exist_ok=True)
    open_or_generate(data.simulate, data.store).close()
    return replace(_prepare_store(StoreData(store=data.store)), source=data)


def _prepare_store(data: StoreData) -> Task:
    store = Store(data.store)
    parts = np.asarray(store.parts)
    if data.val_unseen or data.test_unseen:
        _check_names(data, store.class_names)
        labels = [store.class_names[i] for i in store.labels]
        groups = store.extras.get("group")
        parts = assign_parts(
            labels, test_unseen=data.test_unseen, val_unseen=data.val_unseen, seed=data.seed, groups=groups
        )
    split = {name: np.flatnonzero(parts == name) for name in PARTS}
    missing = [name for name, indices in split.items() if len(indices) == 0]
    if missing:
        remedy = (
            "Name unseen classes in both data.val_unseen and data.test_unseen; of the others at least two need two "
            "clips. Or give labels.csv a column part."
        )
        raise fail(data.store, f"clips in each of {', '.join(PARTS)}", f"none in {', '.join(missing)}", remedy)
    task = Task(data, store, store.class_vectors, {_test_set(store.settings): split})
    for unseen, seen in {"val_unseen": ["train"], "test_unseen": ["train", "val_seen", "val_unseen"]}.items():
        both = np.intersect1d(task.classes(unseen), task.classes(*seen))
        if len(both):
            found = f"{store.class_names[both[0]]!r} also in {' or '.join(seen)}"
            raise fail(data.store, f"classes of {unseen} that are nowhere else", found, "Change its clips' parts.")
    return task


def _test_set(settings: dict[str, Any]) -> str:
    """Name a store's test set such that results that can't be compared have different names."""
    if "text_order" in settings:
        name = "{data_set}, {features} features, {split} split, class vectors {text_order}".format_map(settings)
        return f"{name}, sound on the video's steps" if settings.get("aligned") else name
    return settings.get("simulated", "test")


def _check_names(data: StoreData, known: Sequence[str]) -> None:
    for name in (*data.val_unseen, *data.test_unseen):
        if name not in known:
            remedy = nearest(name, known) or f"It has {some(known, 9)}."
            if any(other.startswith(f"{name},") for other in known):
                remedy += " Quote a name that holds a comma: --set 'data.test_unseen=one,\"two, three\"'."
            raise fail(data.store, "unseen classes that have clips", repr(name), remedy)
