"""MotionScenes: a rendered audio-visual data set that can tell motion from scene, with nothing to download.

51 classes are 17 motions x 3 tempos. Eight pairs of motions share their footprint and differ only in their order in
time (in seven of them the phase runs backwards), so a time-averaged event map does not give the answer. A clip shows a
textured sprite moving over one of 8 scenes, with a sound whose pitch, loudness or pulse follows the motion's phase,
forwards in both members of a pair: audio tells the tempo and narrows the motion to a few, never the member.

Everything random about a clip is drawn from its own counter-based streams, one each for motion, sprite, sensor noise,
sound, ambience, backdrop and choice of scene. A clip therefore keeps its motion, noise and sound whichever scene is
shown, and every ``scene_bias`` shares its clips.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuroav import __version__
from neuroav.checks import check_choice, check_range, fail
from neuroav.data.classic import describe_clip
from neuroav.data.render import (
    MOTION_TABLE,
    MOTIONS,
    NUM_CLASSES,
    SCENES,
    SOUNDS,
    TEMPOS,
    Array,
    render_clip,
    stream,
    tempo_of,
)
from neuroav.data.splits import PARTS
from neuroav.processes import num_cores
from neuroav.progress import Progress

if TYPE_CHECKING:
    from neuroav.data.store import ClipRecord, Store

VECTOR_SIZE = 300


# --- classes ----------------------------------------------------------------------------------------------------------


def class_names() -> list[str]:
    """Return the 51 class names; class ``3 * motion + tempo``.

    Example:
        >>> class_names()[:2]
        ['circle clockwise slow', 'circle clockwise medium']
    """
    return [f"{motion} {tempo}" for motion in MOTIONS for tempo in TEMPOS]


def class_vectors(seed: int = 0) -> Array:
    """Return the ``(51, 300)`` unit class vectors: weighted sums of fixed word directions.

    A class is its kind (0.7) + way (0.7) + tempo (0.7) + either sound (0.3 each), so that the members of a pair and the
    tempos of a motion are close but separable.

    Example:
        >>> vectors = class_vectors()
        >>> vectors.shape, bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[30])
        ((51, 300), True)
    """
    word = word_directions(seed)
    vectors = np.stack(
        [
            0.7 * word[m.kind] + 0.7 * word[f"way {m.way}"] + 0.7 * word[tempo] + 0.3 * sum(word[k] for k in m.sounds)
            for m in MOTION_TABLE
            for tempo in TEMPOS
        ]
    )
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def word_directions(seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Return the unit direction ``(300,)`` of every word; those of ways are called ``"way left"`` and the like."""
    words = sorted({m.kind for m in MOTION_TABLE} | {f"way {m.way}" for m in MOTION_TABLE} | set(TEMPOS) | set(SOUNDS))
    directions = stream(seed, "words").standard_normal((len(words), VECTOR_SIZE))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return dict(zip(words, directions, strict=True))


def phrase_vector(phrase: str, seed: int = 0) -> Array:
    """Return the unit vector ``(300,)`` of any words of MotionScenes, weighed as in :func:`class_vectors`.

    Words come in any order, and none is needed. A kind brings its two sounds along unless the phrase names sounds, and
    its way if it has one alone; so the words of a class give the vector of that class.

    Raises:
        InputError: If a word is none of a kind, way, tempo or sound; the text names those that are nearest.

    Example:
        >>> bool(np.allclose(phrase_vector("slow circle, clockwise"), class_vectors()[0]))
        True
    """
    known = {word.removeprefix("way "): word for word in word_directions(seed)}
    words = [known[name] for name in _known_words(phrase, [name for name in known if name])]
    motions = [m for m in MOTION_TABLE if m.kind in words]
    ways = {f"way {m.way}" for m in motions}
    if len(ways) == 1 and not any(word.startswith("way ") for word in words):
        words += ways
    if not set(SOUNDS) & set(words):
        words += list(dict.fromkeys(sound for m in motions for sound in m.sounds))
    direction = word_directions(seed)
    vector = np.sum([(0.3 if word in SOUNDS else 0.7) * direction[word] for word in dict.fromkeys(words)], axis=0)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _known_words(phrase: str, names: list[str]) -> list[str]:
    """Split a phrase into words out of ``names``, whatever their case; a hyphen may be missing or a space."""
    bare, found = {name.replace("-", ""): name for name in names}, []
    parts = re.findall(r"[^\W_]+", phrase.lower())
    while parts:
        size = next((n for n in (2, 1) if "".join(parts[:n]) in bare and len(parts) >= n), 0)
        if not size:
            close = get_close_matches(parts[0], names, n=3, cutoff=0.5) or names
            raise fail(repr(phrase), "words of MotionScenes", repr(parts[0]), f"The nearest: {', '.join(close)}.")
        found.append(bare["".join(parts[:size])])
        parts = parts[size:]
    if not found:
        raise fail(repr(phrase), "words of MotionScenes", "none")
    return found


# --- class splits and clip lists -----------------------------------------------------------------------------------


def split_classes(split: int) -> dict[str, list[int]]:
    """Return class indices of ``train`` (30), ``val_unseen`` (12) and ``test_unseen`` (9); splits 0 to 2 are published.

    The two members of a pair go to the same part at each tempo: were only one of them seen there, the footprint and
    the tempo would give it away. Every motion occurs in train. Test-unseen holds one pair at two tempos, two pairs at
    one and ``blink`` at one; val-unseen holds one pair at two tempos and four at one. Tempos are balanced as far as
    these numbers allow.

    Example:
        >>> {part: len(classes) for part, classes in split_classes(0).items()}
        {'train': 30, 'val_unseen': 12, 'test_unseen': 9}
    """
    check_range("split_classes", "split", split, 0)
    rng = stream(split, "split")
    while True:
        pairs = rng.permutation(_NUM_PAIRS)
        test = [*_draw_pairs(rng, pairs[:1], pairs[1:3]), 3 * (len(MOTIONS) - 1) + int(rng.integers(len(TEMPOS)))]
        val = _draw_pairs(rng, pairs[3:4], pairs[4:])
        if _tempo_counts(test) == [2, 3, 4] and _tempo_counts(val) == [4, 4, 4]:
            train = sorted(set(range(NUM_CLASSES)) - set(test) - set(val))
            return {"train": train, "val_unseen": sorted(val), "test_unseen": sorted(test)}


_NUM_PAIRS = len(MOTIONS) // 2  # motions 2i and 2i + 1 are a pair; the last one is single


def _draw_pairs(rng: np.random.Generator, twice: NDArray[np.int64], once: NDArray[np.int64]) -> list[int]:
    counts = [(pair, 2) for pair in twice] + [(pair, 1) for pair in once]
    cells = [(int(pair), int(tempo)) for pair, n in counts for tempo in rng.permutation(len(TEMPOS))[:n]]
    return [3 * (2 * pair + member) + tempo for pair, tempo in cells for member in range(2)]


def _tempo_counts(classes: list[int]) -> list[int]:
    return sorted(np.bincount(tempo_of(classes), minlength=len(TEMPOS)).tolist())


CLIPS_PER_CLASS = {
    "tiny": (3, 1, 2, 1, 2),
    "small": (40, 8, 16, 8, 20),
    "full": (100, 16, 32, 16, 40),
}
_FIRST_CLIP = {"train": 0, "val_seen": 1000, "val_unseen": 2000, "test_seen": 3000, "test_unseen": 4000}


@dataclass(frozen=True, kw_only=True)
class MotionScenesConfig:
    """Which clips a store holds.

    Attributes:
        size: ``tiny`` (seconds, for tests), ``small`` (about a minute on 2 cores) or ``full``; see ``CLIPS_PER_CLASS``.
        split: Class split, 0 to 2 published.
        seed: Seed of every clip, of the preferred scenes and of the class vectors.
        scene_biases: How often a class shows its preferred scene, each in [0, 1]; one store serves all of them.
        ambience_bias: How often the ambience is the one that belongs to the scene shown, in [0, 1].
    """

    size: str = "small"
    split: int = 0
    seed: int = 0
    scene_biases: tuple[float, ...] = (0.5,)
    ambience_bias: float = 0.0

    def __post_init__(self) -> None:
        check_choice("MotionScenesConfig", "size", self.size, CLIPS_PER_CLASS)
        check_range("MotionScenesConfig", "split", self.split, 0)
        check_range("MotionScenesConfig", "seed", self.seed, 0)
        check_range("MotionScenesConfig", "ambience_bias", self.ambience_bias, 0, 1)
        if not self.scene_biases:
            raise fail("MotionScenesConfig", "at least one of scene_biases", "none")
        for bias in self.scene_biases:
            check_range("MotionScenesConfig", "scene_biases", bias, 0, 1)


class SceneDraw(NamedTuple):
    """The scenes a clip may show: ``preferred`` if ``u`` is below the scene bias, else ``alternative``."""

    preferred: int
    alternative: int
    u: float

    def shown(self, scene_bias: float) -> int:
        return self.preferred if self.u < scene_bias else self.alternative


def preferred_scenes(seed: int = 0) -> NDArray[np.int64]:
    """Return the preferred scene of each of the 51 classes, spread evenly over the 8 scenes."""
    return stream(seed, "preferred").permutation(NUM_CLASSES) % len(SCENES)


def draw_scene(class_index: int, clip_index: int, seed: int = 0) -> SceneDraw:
    """Draw the scenes of one clip from its own stream; the alternative is uniform over all 8."""
    rng = stream(seed, "scene", class_index, clip_index)
    return SceneDraw(int(preferred_scenes(seed)[class_index]), int(rng.integers(len(SCENES))), float(rng.random()))


def list_clips(config: MotionScenesConfig) -> Iterator[tuple[str, int, int]]:
    """Yield ``(part, class, clip)`` of every clip, ordered by part, class and clip.

    ``test_seen`` holds the train and the val-unseen classes: in the two-stage protocol both are seen by then.
    """
    split = split_classes(config.split)
    classes = {
        "train": split["train"],
        "val_seen": split["train"],
        "val_unseen": split["val_unseen"],
        "test_seen": sorted(split["train"] + split["val_unseen"]),
        "test_unseen": split["test_unseen"],
    }
    for part, num_clips in zip(PARTS, CLIPS_PER_CLASS[config.size], strict=True):
        for class_index in classes[part]:
            for clip in range(num_clips):
                yield part, class_index, _FIRST_CLIP[part] + clip


# --- the store -----------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """One record to make: a clip over a scene."""

    part: str
    class_index: int
    clip: int
    scene: int
    seed: int
    ambience_bias: float

    @property
    def name(self) -> str:
        return f"c{self.class_index:02d}-k{self.clip:04d}-s{self.scene}"


def list_jobs(config: MotionScenesConfig) -> list[Job]:
    """List every record a store needs; a clip appears once for each scene that some bias or test set shows it over."""
    jobs = []
    for part, class_index, clip in list_clips(config):
        draw = draw_scene(class_index, clip, config.seed)
        scenes = {draw.shown(bias) for bias in config.scene_biases}
        if part.startswith("test"):
            scenes.add(draw.alternative)
        jobs += [Job(part, class_index, clip, scene, config.seed, config.ambience_bias) for scene in sorted(scenes)]
    return jobs


def describe_job(job: Job) -> ClipRecord:
    """Render and describe one record."""
    from neuroav.data.store import ClipRecord

    clip = render_clip(job.class_index, job.clip, job.scene, seed=job.seed, ambience_bias=job.ambience_bias)
    description = describe_clip(clip.frames, clip.t_us, clip.audio, clip.audio_rate)
    draw = draw_scene(job.class_index, job.clip, job.seed)
    return ClipRecord(
        name=job.name,
        label=class_names()[job.class_index],
        part=job.part,
        t_s=description.t_s,
        video=description.video,
        audio=description.audio,
        motion=description.motion,
        extras={
            "class": job.class_index,
            "clip": job.clip,
            "scene": job.scene,
            "preferred": draw.preferred,
            "alternative": draw.alternative,
            "u": draw.u,
        },
    )


def generate(
    config: MotionScenesConfig, path: str | os.PathLike[str], *, workers: int | None = None, quiet: bool = False
) -> None:
    """Render and describe every clip in parallel processes and write a feature store; an interrupted job goes on.

    Args:
        config: Which clips.
        path: The store to write.
        workers: Processes; default one per core this process may use, 1 renders in this process.
        quiet: Show no progress.

    Raises:
        InputError: If ``workers`` is below 1, ``path`` exists, or an unfinished store there has other settings.
    """
    from neuroav.data.store import StoreWriter

    workers = num_cores() if workers is None else workers
    check_range("generate", "workers", workers, 1)
    jobs = list_jobs(config)
    writer = StoreWriter(
        path,
        class_names=class_names(),
        class_vectors=class_vectors(config.seed),
        settings={"data_set": "motionscenes", **asdict(config)},
        provenance={"generator": "neuroav.data.motionscenes", "version": __version__},
    )
    left = [job for job in jobs if job.name not in writer.done]
    bar = Progress("MotionScenes", total=len(jobs), unit="clip", quiet=quiet, done=len(jobs) - len(left))
    with writer, bar:
        for record in _describe_all(left, workers):
            writer.write(record)
            bar.update()


def _describe_all(jobs: list[Job], workers: int) -> Iterator[ClipRecord]:
    """Yield the records in the order of the jobs, so that a store is the same however many workers made it."""
    from neuroav.processes import map_processes

    if workers == 1:
        yield from map(describe_job, jobs)
        return
    for job, record in map_processes(_describe_in_worker, jobs, workers, preload=["neuroav.data.classic"]):
        if isinstance(record, str):  # the reason why there is none
            raise fail("generate", f"a record of {job.name}", record, "Run the same command again; it will go on.")
        yield record


def _describe_in_worker(job: Job) -> ClipRecord:
    import torch

    torch.set_num_threads(1)  # a worker that imported the caller's script may have loaded torch with one per core
    return describe_job(job)


TestSet = Literal["biased", "shuffled"]


def view(store: Store, scene_bias: float, test_set: TestSet = "biased") -> dict[str, NDArray[np.int64]]:
    """Choose one record per clip: the scenes that ``scene_bias`` shows.

    Train and val parts are always biased. The ``shuffled`` test set shows each clip over its alternative scene, which
    is drawn uniformly, whatever the class prefers.

    Returns:
        Record indices of each part, ordered by class and clip.

    Raises:
        InputError: If the store was not generated for this scene bias, or ``test_set`` is unknown.
    """
    check_choice("view", "test_set", test_set, ("biased", "shuffled"))
    check_range("view", "scene_bias", scene_bias, 0, 1)
    extras = store.extras
    biased = np.where(extras["u"] < scene_bias, extras["preferred"], extras["alternative"])
    is_test = np.char.startswith(store.parts.astype(str), "test")
    shown = np.where(is_test & (test_set == "shuffled"), extras["alternative"], biased)
    keep = np.flatnonzero(extras["scene"] == shown)
    clips = {(c, k) for c, k in zip(extras["class"].tolist(), extras["clip"].tolist(), strict=True)}
    if len(keep) != len(clips):
        known = store.settings.get("scene_biases")
        raise fail(
            "view",
            f"records for scene_bias {scene_bias:g}",
            f"a store with scene_biases {known}",
            "Generate it with this bias.",
        )
    order = keep[np.lexsort((extras["clip"][keep], extras["class"][keep]))]
    return {part: order[store.parts[order] == part] for part in PARTS}
