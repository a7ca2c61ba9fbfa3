"""Simulated benchmarks at true scale: as many clips, steps and features as the published sets, and nothing to download.

For judging speed, memory and the protocol at full size. The numbers of classes and of clips in every part, the split
and the names are those of [avca] (``lists/``); the features are drawn. No score reached on them says anything about
the real sets, and the store, the results and the tables made from them say that they are simulated.

A clip of class ``k`` has a latent vector ``z = W w_k + e`` of its class vector ``w_k`` and its own variation ``e``;
each modality adds noise that wanders from step to step and passes the sum through a network of two layers with fixed
random weights. So classes that are close in words are close in features, and what is learnt on seen classes tells
something of unseen ones.
"""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neuroav import __version__
from neuroav.checks import check_choice, check_range, fail
from neuroav.data.splits import PARTS
from neuroav.data.store import ClipRecord, Store, StoreWriter, settings_difference
from neuroav.data.word_vectors import find_vectors
from neuroav.files import save_json
from neuroav.progress import Progress

LISTS = Path(__file__).with_name("lists")
_LATENT, _HIDDEN, _WORDS = 64, 128, 300
_CLIP, _WANDER, _MEMORY = 1.5, 0.7, 0.9  # variation of a clip and within it, against a class's 1; its memory per second
_WORD_RANK = 40  # directions that carry most of what the simulated class vectors differ in


class Durations(NamedTuple):
    """Log-normal clip lengths in seconds, clipped to ``[low, high]``; ``spread`` is the s.d. of their logarithm."""

    mean: float
    spread: float
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """One length in seconds."""
        log = np.log(self.mean) - self.spread**2 / 2 + self.spread * rng.standard_normal()
        return float(np.clip(np.exp(log), self.low, self.high))


class Features(NamedTuple):
    """Widths and step lengths of one kind of published features."""

    audio_dim: int
    video_dim: int
    audio_step_s: float
    video_step_s: float


# UCF's mean and range are those of the data set's report. VGGSound's clips last 10 s. ActivityNet's are segments cut
# from videos; their mean and range are an assumption of this module.
BENCHMARKS = {
    "ucf": Durations(7.21, 0.5, 1.06, 71.04),
    "activitynet": Durations(50.0, 0.9, 2.0, 240.0),
    "vggsound": Durations(10.0, 0.0, 10.0, 10.0),
}
# SeLaVi: one vector a second. VGGish: windows of 0.96 s; C3D: 16 frames at 25 a second.
FEATURES = {"main": Features(512, 512, 1.0, 1.0), "cls": Features(128, 4096, 0.96, 0.64)}


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Which benchmark is simulated, and how.

    Attributes:
        benchmark: ``ucf``, ``activitynet`` or ``vggsound``.
        features: ``main`` (as SeLaVi: 512 and 512 wide, a step a second) or ``cls`` (as VGGish and C3D: 128 and 4096).
        seed: Another seed draws another network and other clips.
        share: Of the clips of each class and part that are made, in (0, 1]; at least one of each.
        stretch: Factor on the length of every clip.
        vectors: File of class or word vectors (:func:`neuroav.data.word_vectors.find_vectors`); empty: simulated.
    """

    benchmark: str = "ucf"
    features: str = "main"
    seed: int = 0
    share: float = 1.0
    stretch: float = 1.0
    vectors: str = ""

    def __post_init__(self) -> None:
        check_choice("SyntheticConfig", "benchmark", self.benchmark, BENCHMARKS)
        check_choice("SyntheticConfig", "features", self.features, FEATURES)
        check_range("SyntheticConfig", "seed", self.seed, 0)
        check_range("SyntheticConfig", "share", self.share, 1e-9, 1)
        check_range("SyntheticConfig", "stretch", self.stretch, 0.01, 100)


class ClassRow(NamedTuple):
    """One class of a benchmark.

    Attributes:
        name: As in the published lists.
        vector: Name of its class vector.
        counts: Clips in each of :data:`neuroav.data.splits.PARTS`.
        in_cls_split: Whether the split for ``cls`` features has it; of the unseen test classes it leaves some out.
    """

    name: str
    vector: str
    counts: tuple[int, ...]
    in_cls_split: bool


def class_list(benchmark: str) -> list[ClassRow]:
    """Return the classes of a benchmark with their clips per part, sorted by name.

    VGGSound's list of training clips is not published with the others: its counts per class are the published total
    shared out in proportion to the clips held out of each class, which the authors drew in proportion too.

    Example:
        >>> rows = class_list("vggsound")
        >>> len(rows), sum(sum(row.counts) for row in rows)
        (276, 93752)
    """
    check_choice("class_list", "benchmark", benchmark, BENCHMARKS)
    with open(LISTS / f"{benchmark}.csv", newline="", encoding="utf-8") as file:
        return [
            ClassRow(row["class"], row["vector"], tuple(int(row[part]) for part in PARTS), row["cls_split"] == "1")
            for row in csv.DictReader(file)
        ]


class Clip(NamedTuple):
    """One clip to draw: class, number within its class, part."""

    label: int
    number: int
    part: str


def list_clips(config: SyntheticConfig) -> list[Clip]:
    """List the clips of a store by part, class and number.

    Clips of classes that the ``cls`` split leaves out are there, as in the published files, in no part.
    """
    rows = class_list(config.benchmark)
    clips = []
    for p, part in enumerate(PARTS):
        for label, row in enumerate(rows):
            wanted = max(1, round(row.counts[p] * config.share)) if row.counts[p] else 0
            first = sum(row.counts[:p])
            given = part if row.in_cls_split or config.features == "main" else ""
            clips += [Clip(label, first + i, given) for i in range(wanted)]
    return clips


def simulated_vectors(num_classes: int, seed: int = 0) -> np.ndarray:
    """Return ``(K, 300)`` unit class vectors that share a mean and, mostly, 40 directions, as word vectors do.

    Example:
        >>> vectors = simulated_vectors(51)
        >>> vectors.shape, bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6))
        ((51, 300), True)
    """
    rng = np.random.default_rng([seed, 0])
    directions = rng.standard_normal((_WORD_RANK, _WORDS)) / np.sqrt(1 + np.arange(_WORD_RANK))[:, None]
    mean = rng.standard_normal(_WORDS)
    own = rng.standard_normal((num_classes, _WORDS))
    vectors = mean + rng.standard_normal((num_classes, _WORD_RANK)) @ directions + 0.3 * own
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class World:
    """The fixed random network between class vectors and features.

    Args:
        vectors: ``(K, D_text)`` class vectors, float32.
        config: benchmark, features and seed.

    Attributes:
        classes: ``(K, 64)`` latent vector of each class; over the classes each coordinate has mean 0 and variance 1.
    """

    def __init__(self, vectors: np.ndarray, config: SyntheticConfig):
        self.config, self.durations = config, BENCHMARKS[config.benchmark]
        self.features = FEATURES[config.features]
        rng = np.random.default_rng([config.seed, 1])
        latent = (vectors - vectors.mean(0)) @ rng.standard_normal((vectors.shape[1], _LATENT))
        self.classes = (latent / latent.std(0)).astype(np.float32)
        widths = (self.features.audio_dim, self.features.video_dim)
        self._audio, self._video = (
            (_weights(rng, _LATENT, _HIDDEN), _weights(rng, _HIDDEN, width)) for width in widths
        )

    def record(self, clip: Clip, name: str) -> ClipRecord:
        """Draw one clip of class ``name`` as the store takes it."""
        audio, video = self.draw(clip.label, clip.number)
        features = self.features
        audio_t_s, video_t_s = (
            (np.arange(len(values)) * step_s).astype(np.float32)
            for values, step_s in ((audio, features.audio_step_s), (video, features.video_step_s))
        )
        return ClipRecord(
            name=_name(name, clip),
            label=name,
            part=clip.part,
            t_s=video_t_s,
            video=video,
            audio=audio,
            audio_t_s=None if features.audio_step_s == features.video_step_s else audio_t_s,
        )

    def draw(self, label: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw one clip from its own stream.

        Returns:
            Audio ``(T_audio, D_audio)`` and video ``(T_video, D_video)``, float32. ``cls``: audio in whole numbers
            from 0 to 255 as VGGish gives, video mostly zeros and never negative as after C3D's last rectifier.
            ``main``: neither ever negative.
        """
        config, features = self.config, self.features
        rng = np.random.default_rng([config.seed, 2, label, number])
        seconds = self.durations.draw(rng) * config.stretch
        own = rng.standard_normal(_LATENT, np.float32)
        latent = (self.classes[label] + np.float32(_CLIP) * own) / np.float32(np.hypot(1, _CLIP))
        if config.features == "main":
            steps = max(1, int(seconds))
            audio = np.maximum(_pass(self._audio, latent + _wander(rng, steps, 1.0)), 0)
            return audio, np.maximum(_pass(self._video, latent + _wander(rng, steps, 1.0)), 0)
        audio_steps = max(1, int(seconds / features.audio_step_s + 1e-9))
        video_steps = max(1, int(np.ceil(seconds / features.video_step_s)))  # the last window is padded
        audio = _pass(self._audio, latent + _wander(rng, audio_steps, features.audio_step_s))
        video = _pass(self._video, latent + _wander(rng, video_steps, features.video_step_s))
        return np.clip(np.round(128 + 60 * audio), 0, 255), np.maximum(video - 0.6, 0)


def _weights(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return rng.standard_normal((rows, columns), np.float32) / np.float32(np.sqrt(rows))


def _wander(rng: np.random.Generator, steps: int, step_s: float) -> np.ndarray:
    """Noise ``(T, 64)`` of constant variance that forgets itself over seconds."""
    keep = np.float32(_MEMORY**step_s)
    noise = rng.standard_normal((steps, _LATENT), np.float32)
    noise[1:] *= np.sqrt(1 - keep**2)
    for t in range(1, steps):
        noise[t] += keep * noise[t - 1]
    return np.float32(_WANDER) * noise


def _pass(layers: tuple[np.ndarray, np.ndarray], latent: np.ndarray) -> np.ndarray:
    return np.float32(1.5) * (np.tanh(latent @ layers[0]) @ layers[1])


def _name(label: str, clip: Clip) -> str:
    return f"simulated/{label}/{clip.number:04d}"


def settings_of(config: SyntheticConfig) -> dict[str, Any]:
    """What a store of ``config`` says of itself (JSON values); ``simulated`` is the name under which results go."""
    return {"simulated": f"simulated {config.benchmark}, {config.features} features", **asdict(config)}


def generate(config: SyntheticConfig, path: str | os.PathLike[str], *, quiet: bool = False) -> None:
    """Draw every clip and write a feature store, one clip in memory at a time; an interrupted job goes on.

    Args:
        config: What is simulated.
        path: The store to write.
        quiet: Show no progress.

    Raises:
        InputError: If ``path`` exists, an unfinished store there has other settings, or ``config.vectors`` lacks a
            class.
    """
    rows, clips = class_list(config.benchmark), list_clips(config)
    if config.vectors:
        found = find_vectors(config.vectors, [row.vector for row in rows])
        vectors = np.stack([found[row.vector].values for row in rows])
    else:
        vectors = simulated_vectors(len(rows), config.seed)
    world, names = World(vectors, config), [row.name for row in rows]
    provenance = {
        "simulated": True,
        "generator": "neuroav.data.synthetic",
        "version": __version__,
        "class_vectors": config.vectors or "simulated",
    }
    settings = settings_of(config)
    writer = StoreWriter(path, class_names=names, class_vectors=vectors, settings=settings, provenance=provenance)
    left = [clip for clip in clips if _name(names[clip.label], clip) not in writer.done]
    bar = Progress(settings["simulated"], total=len(clips), unit="clip", quiet=quiet, done=len(clips) - len(left))
    with writer, bar:
        for clip in left:
            writer.write(world.record(clip, names[clip.label]))
            bar.update()


def synthetic_benchmark(
    benchmark: str,
    features: str = "main",
    *,
    path: str | os.PathLike[str],
    seed: int = 0,
    share: float = 1.0,
    vectors: str = "",
    quiet: bool = False,
) -> Store:
    """Open the store of a simulated benchmark at ``path``, making it first where it is not there yet.

    Args:
        benchmark: ``ucf``, ``activitynet`` or ``vggsound``.
        features: ``main`` or ``cls``.
        path: Where the store is or goes. At full size ``main`` takes 0.1, 2.6 and 2.4 GB, ``cls`` 0.6, 12 and 11 GB;
            while it is written, one and a half to two times as much besides.
        seed: Another seed draws another network and other clips.
        share: Of the clips of each class and part that are made.
        vectors: File of class vectors; empty: simulated ones.
        quiet: Show no progress.

    Raises:
        InputError: If a choice is unknown, or ``path`` holds something else.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "ucf.h5"
        >>> with synthetic_benchmark("ucf", "cls", path=path, share=0.001, quiet=True) as store:
        ...     len(store), store.clip(0).video.shape[1], store.settings["simulated"]
        (123, 4096, 'simulated ucf, cls features')
    """
    config = SyntheticConfig(benchmark=benchmark, features=features, seed=seed, share=share, vectors=vectors)
    return open_or_generate(config, path, quiet=quiet)


def open_or_generate(config: SyntheticConfig, path: str | os.PathLike[str], *, quiet: bool = False) -> Store:
    """Open the store of ``config`` at ``path``, making it first where it is not there yet.

    Raises:
        InputError: If ``path`` holds something else.
    """
    if not Path(path).exists():
        generate(config, path, quiet=quiet)
    store = Store(path)
    differing = settings_difference(store.settings, settings_of(config))
    if differing:
        store.close()
        remedy = "Delete it or choose another file."
        raise fail(str(path), "a store of the same settings", f"other {', '.join(differing)}", remedy)
    return store


def simulate_command(
    benchmark: str, features: str, out: str, *, vectors: str = "", json_path: str | None = None
) -> int:
    """Run ``neuroav extract --simulate``: write the store ``out``; an interrupted one goes on, a complete one stays.

    Args:
        benchmark: ``ucf``, ``activitynet`` or ``vggsound``.
        features: ``main`` or ``cls``.
        out: The store.
        vectors: File of class vectors; empty: simulated ones.
        json_path: Also write the printed figures as JSON.

    Returns:
        Exit status 0.

    Raises:
        InputError: If ``out`` is something else or in use, or ``vectors`` can't be used.
    """
    with synthetic_benchmark(benchmark, features, path=out, vectors=vectors) as store:
        figures = {
            "simulated": store.settings["simulated"],
            "clips": len(store),
            "classes": len(store.class_names),
            "video_steps": int(store.lengths.sum()),
            "audio_steps": int(store.audio_lengths.sum()),
            "class_vectors": store.provenance["class_vectors"],
            "bytes": Path(out).stat().st_size,
        }
    sys.stdout.write(
        "{out}: {simulated}: {clips} clips of {classes} classes, {video_steps} video and {audio_steps} audio steps, "
        "class vectors: {class_vectors}; {size:.2f} GB\n".format(out=out, size=figures["bytes"] / 1e9, **figures)
    )
    if json_path is not None:
        save_json(Path(json_path), figures)
    return 0
