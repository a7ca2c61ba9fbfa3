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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuroav import __version__
from neuroav.checks import check_choice, check_range, fail
from neuroav.data.classic import describe_clip
from neuroav.progress import Progress

if TYPE_CHECKING:
    from neuroav.data.store import ClipRecord, Store

Array = NDArray[np.float32]

SIZE, NUM_FRAMES, FRAME_US = 64, 60, 40_000
AUDIO_RATE = 16_000
NUM_SAMPLES = 38_400
VECTOR_SIZE = 300
NOISE_LEVELS = 1.5  # standard deviation of the sensor noise, in grey levels of 255

TEMPOS = ("slow", "medium", "fast")
# A bin lasts 0.2 s, so directions are decidable below 2.5 cycles per second; the fastest clip has 1.5 x 1.08.
TEMPO_HZ = (0.6, 0.95, 1.5)
TEMPO_JITTER = 0.08
SOUNDS = ("siren", "whoosh", "hum", "rattle", "buzz", "drum", "chime")
SCENES = ("brick", "grass", "sand", "tiles", "planks", "water", "clouds", "lights")


# --- motions -------------------------------------------------------------------------------------------------------


class Pose(NamedTuple):
    """One sprite over F frames: ``x``, ``y``, ``radius`` in pixels, ``angle`` in radians, ``alpha`` in [0, 1]."""

    x: Any = 0.0
    y: Any = 0.0
    radius: Any = 1.0
    angle: Any = 0.0
    alpha: Any = 1.0


class Stage(NamedTuple):
    """What varies beside tempo and phase: ``reach`` and ``radius`` in pixels, ``turn`` in quarters of a circle."""

    reach: float
    radius: float
    turn: int


def _circle(p: Array, s: Stage) -> list[Pose]:
    return [Pose(0.85 * s.reach * np.cos(2 * np.pi * p), 0.85 * s.reach * np.sin(2 * np.pi * p), s.radius)]


def _sweep_across(p: Array, s: Stage) -> list[Pose]:
    return [Pose(x=s.reach * (2 * p - 1), radius=s.radius)]


def _sweep_upright(p: Array, s: Stage) -> list[Pose]:
    return [Pose(y=s.reach * (1 - 2 * p), radius=s.radius)]


def _zoom(p: Array, s: Stage) -> list[Pose]:
    return [Pose(radius=2.5 + (0.85 * s.reach - 2.5) * p)]


def _spin(p: Array, s: Stage) -> list[Pose]:
    return [Pose(radius=1.7 * s.radius, angle=2 * np.pi * p)]


def _stroke(p: Array, s: Stage) -> list[Pose]:
    along = s.reach * (2 * p**2.5 - 1)
    return [Pose(along * (1, -1, -1, 1)[s.turn], along * (1, 1, -1, -1)[s.turn], s.radius)]


def _oscillate(p: Array, s: Stage) -> list[Pose]:
    return [Pose(y=s.reach * np.cos(2 * np.pi * p), radius=s.radius)]


def _hop(p: Array, s: Stage) -> list[Pose]:
    return [Pose(y=s.reach * np.cos(2 * np.pi * np.minimum(1, p / 0.4)), radius=s.radius)]


def _part(p: Array, s: Stage) -> list[Pose]:
    return [Pose(x=side * s.reach * p, radius=0.8 * s.radius) for side in (-1, 1)]


def _blink(p: Array, s: Stage) -> list[Pose]:
    return [Pose(radius=s.radius, alpha=(p < 0.5).astype(np.float32))]


class Motion(NamedTuple):
    """One motion: ``path`` of a phase in cycles, run forwards or backwards, and the sounds its clips draw from."""

    kind: str
    way: str
    path: Callable[[Array, Stage], list[Pose]]
    backwards: bool
    sounds: tuple[str, str]

    @property
    def name(self) -> str:
        return f"{self.kind} {self.way}".strip()


_MOTIONS = (
    Motion("circle", "clockwise", _circle, False, ("siren", "whoosh")),
    Motion("circle", "counter-clockwise", _circle, True, ("siren", "whoosh")),
    Motion("sweep", "right", _sweep_across, False, ("whoosh", "rattle")),
    Motion("sweep", "left", _sweep_across, True, ("whoosh", "rattle")),
    Motion("climb", "up", _sweep_upright, False, ("hum", "siren")),
    Motion("climb", "down", _sweep_upright, True, ("hum", "siren")),
    Motion("zoom", "in", _zoom, False, ("siren", "chime")),
    Motion("zoom", "out", _zoom, True, ("siren", "chime")),
    Motion("spin", "clockwise", _spin, False, ("rattle", "buzz")),
    Motion("spin", "counter-clockwise", _spin, True, ("rattle", "buzz")),
    Motion("stroke", "accelerating", _stroke, False, ("buzz", "whoosh")),
    Motion("stroke", "decelerating", _stroke, True, ("buzz", "whoosh")),
    Motion("bounce", "steady", _oscillate, False, ("drum", "chime")),
    Motion("bounce", "hopping", _hop, False, ("drum", "chime")),
    Motion("pair", "splitting", _part, False, ("chime", "hum")),
    Motion("pair", "merging", _part, True, ("chime", "hum")),
    Motion("blink", "", _blink, False, ("drum", "rattle")),
)
MOTIONS = tuple(motion.name for motion in _MOTIONS)
NUM_CLASSES = len(MOTIONS) * len(TEMPOS)


def class_names() -> list[str]:
    """Return the 51 class names; class ``3 * motion + tempo``.

    Example:
        >>> class_names()[:2]
        ['circle clockwise slow', 'circle clockwise medium']
    """
    return [f"{motion} {tempo}" for motion in MOTIONS for tempo in TEMPOS]


def motion_of(classes: Any) -> Any:
    """Return the motion index of each class index."""
    return np.asarray(classes) // len(TEMPOS)


def tempo_of(classes: Any) -> Any:
    """Return the tempo index of each class index."""
    return np.asarray(classes) % len(TEMPOS)


def class_vectors(seed: int = 0) -> Array:
    """Return the ``(51, 300)`` unit class vectors: weighted sums of fixed word directions.

    A class is its kind (0.7) + way (0.7) + tempo (0.7) + either sound (0.3 each), so that the members of a pair and the
    tempos of a motion are close but separable.

    Example:
        >>> vectors = class_vectors()
        >>> vectors.shape, bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[30])
        ((51, 300), True)
    """
    words = sorted({m.kind for m in _MOTIONS} | {f"way {m.way}" for m in _MOTIONS} | set(TEMPOS) | set(SOUNDS))
    directions = _stream(seed, "words").standard_normal((len(words), VECTOR_SIZE))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    word = dict(zip(words, directions, strict=True))
    vectors = np.stack(
        [
            0.7 * word[m.kind] + 0.7 * word[f"way {m.way}"] + 0.7 * word[tempo] + 0.3 * sum(word[k] for k in m.sounds)
            for m in _MOTIONS
            for tempo in TEMPOS
        ]
    )
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


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
    rng = _stream(split, "split")
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


PARTS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")
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
    return _stream(seed, "preferred").permutation(NUM_CLASSES) % len(SCENES)


def draw_scene(class_index: int, clip_index: int, seed: int = 0) -> SceneDraw:
    """Draw the scenes of one clip from its own stream; the alternative is uniform over all 8."""
    rng = _stream(seed, "scene", class_index, clip_index)
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


# --- random streams ------------------------------------------------------------------------------------------------

_STREAMS = ("words", "split", "preferred", "scene", "motion", "sprite", "noise", "sound", "ambience", "backdrop")


def _stream(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, _STREAMS.index(purpose), *counters])))


# --- pictures ------------------------------------------------------------------------------------------------------


class Scene(NamedTuple):
    """Base colour in grey levels, texture depth (standard deviation, relative), and drift in pixels per second."""

    colour: tuple[float, float, float]
    depth: float
    drift: float


_SCENE_LOOKS = {
    "brick": Scene((135, 80, 65), 0.16, 0.0),
    "grass": Scene((70, 115, 50), 0.18, 0.0),
    "sand": Scene((130, 105, 70), 0.10, 0.0),
    "tiles": Scene((95, 95, 100), 0.16, 0.0),
    "planks": Scene((115, 85, 45), 0.16, 0.0),
    "water": Scene((55, 95, 130), 0.14, 4.0),
    "clouds": Scene((105, 110, 125), 0.16, 3.0),
    "lights": Scene((100, 70, 115), 0.16, 2.0),
}


def _smooth_noise(rng: np.random.Generator, sigma_y: float, sigma_x: float, size: int) -> NDArray[np.float64]:
    """Return periodic Gaussian-filtered noise ``(size, size)``."""
    f = np.fft.fftfreq(size) * 2 * np.pi
    window = np.exp(-0.5 * ((f[:, None] * sigma_y) ** 2 + (f * sigma_x) ** 2))
    return np.fft.ifft2(np.fft.fft2(rng.standard_normal((size, size))) * window).real


@lru_cache(maxsize=len(SCENES))
def _texture(scene: int) -> Array:
    """Return the periodic relative texture ``(128, 128)`` of a scene, mean 1; the same for every seed."""
    size = 2 * SIZE
    rng = _stream(0, "backdrop", scene)
    y, x = np.mgrid[:size, :size]
    fine = _smooth_noise(rng, 0.8, 0.8, size)
    pattern = {
        "brick": lambda: -1.0 * ((y % 8 < 1) | ((x + 8 * (y // 8 % 2)) % 16 < 1)) + fine,
        "grass": lambda: _smooth_noise(rng, 3.0, 0.6, size),
        "sand": lambda: fine,
        "tiles": lambda: 1.0 * ((x // 16 + y // 16) % 2) + 0.3 * fine,
        "planks": lambda: 1.0 * (x // 8 % 3) - 2.0 * (x % 8 < 1) + _smooth_noise(rng, 8.0, 0.8, size) * 3,
        "water": lambda: np.sin(2 * np.pi * (y / 8 + 0.4 * np.sin(2 * np.pi * x / 32))) + 0.3 * fine,
        "clouds": lambda: _smooth_noise(rng, 6.0, 8.0, size),
        "lights": lambda: np.maximum(_smooth_noise(rng, 3.0, 3.0, size), 0.0),
    }[SCENES[scene]]()
    pattern = (pattern - pattern.mean()) / pattern.std()
    return (1 + _SCENE_LOOKS[SCENES[scene]].depth * np.clip(pattern, -2, 2)).astype(np.float32)


def _backdrop(scene: int, rng: np.random.Generator) -> Array:
    """Return the scene as colour planes ``(3, 1 or F, 64, 64)`` in grey levels; drifting scenes have F frames."""
    look = _SCENE_LOOKS[SCENES[scene]]
    top, left = rng.integers(2 * SIZE, size=2)
    gain, tint, direction = rng.uniform(0.88, 1.12), rng.uniform(0.95, 1.05, 3), rng.choice([-1, 1])
    rows = _texture(scene).take(np.arange(top, top + SIZE), axis=0, mode="wrap")
    shift = direction * look.drift * np.arange(NUM_FRAMES if look.drift else 1) * FRAME_US * 1e-6
    whole = np.floor(shift).astype(np.int64)
    part = (shift - whole).astype(np.float32)[:, None]
    columns = left + whole[:, None] + np.arange(SIZE)
    here, there = rows.take(columns, axis=1, mode="wrap"), rows.take(columns + 1, axis=1, mode="wrap")
    texture = ((1 - part) * here + part * there).transpose(1, 0, 2)
    colour = (np.asarray(look.colour) * gain * tint).astype(np.float32)
    return colour[:, None, None, None] * texture


class Sprite(NamedTuple):
    """What a clip's sprite looks like: colour in grey levels and the stripes of its texture."""

    colour: Array
    shape: int
    stripe_depth: float
    stripe_px: float
    angle: float


def _draw_sprite(rng: np.random.Generator) -> Sprite:
    level = rng.uniform(195, 230) if rng.random() < 0.5 else rng.uniform(22, 36)
    colour = np.clip(level * rng.uniform(0.85, 1.15, 3), 0, 245).astype(np.float32)
    return Sprite(colour, int(rng.integers(3)), rng.uniform(0.05, 0.15), rng.uniform(4, 7), rng.uniform(0, 2 * np.pi))


def _cover(pose: Pose, centre: tuple[float, float], shape: int, angle: float) -> tuple[Array, Array]:
    """Return how much of each pixel the sprite covers, and its own first coordinate, both ``(F, 64, 64)``."""
    frames = np.zeros((NUM_FRAMES, 1, 1), np.float32)
    x, y, radius, turn, alpha = (frames + np.asarray(v, np.float32).reshape(-1, 1, 1) for v in pose)
    pixel = np.arange(SIZE, dtype=np.float32)
    dx, dy = pixel - (x + np.float32(centre[0])), pixel[:, None] - (y + np.float32(centre[1]))
    cos, sin = np.cos(turn + np.float32(angle)), np.sin(turn + np.float32(angle))
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    if shape == 0:
        distance = np.sqrt(u * u + v * v)
    elif shape == 1:
        distance = np.maximum(np.abs(u), np.abs(v)) * np.float32(1.15)
    elif shape == 2:
        distance = (np.abs(u) + np.abs(v)) * np.float32(0.8)
    else:  # a drop: a disc of half the radius that sits to one side of the centre of rotation
        aside = u - radius * np.float32(0.5)
        distance = np.sqrt(aside * aside + v * v) + radius * np.float32(0.5)
    return np.clip(radius + np.float32(0.5) - distance, 0, 1) * alpha, u


_DROP = 3


def _draw_stage(rng: np.random.Generator) -> tuple[Stage, tuple[float, float]]:
    stage = Stage(reach=rng.uniform(16, 22), radius=rng.uniform(6, 9), turn=int(rng.integers(4)))
    middle = (SIZE - 1) / 2
    return stage, (middle + rng.uniform(-7, 7), middle + rng.uniform(-7, 7))


def _render_frames(class_index: int, clip_index: int, scene: int, seed: int, cycles: Array) -> NDArray[np.uint8]:
    motion = _MOTIONS[motion_of(class_index)]
    stage, centre = _draw_stage(_stream(seed, "motion", class_index, clip_index, 1))
    sprite = _draw_sprite(_stream(seed, "sprite", class_index, clip_index))
    planes = np.broadcast_to(
        _backdrop(scene, _stream(seed, "backdrop", class_index, clip_index, 1)), (3, NUM_FRAMES, SIZE, SIZE)
    ).copy()
    phase = np.mod(-cycles if motion.backwards else cycles, 1).astype(np.float32)
    shape = _DROP if motion.kind == "spin" else sprite.shape
    for pose in motion.path(phase, stage):
        cover, u = _cover(pose, centre, shape, sprite.angle)
        texture = 1 + np.float32(sprite.stripe_depth) * np.sin(u * np.float32(2 * np.pi / sprite.stripe_px))
        for plane, colour in zip(planes, sprite.colour, strict=True):
            plane += cover * (colour * texture - plane)
    noise = _stream(seed, "noise", class_index, clip_index).standard_normal((NUM_FRAMES, SIZE, SIZE), dtype=np.float32)
    planes += noise * np.float32(NOISE_LEVELS)
    return np.clip(planes + np.float32(0.5), 0, 255).astype(np.uint8).transpose(1, 2, 3, 0)


# --- sound ---------------------------------------------------------------------------------------------------------


def _tone(freq_hz: Any) -> NDArray[np.float64]:
    steps = np.broadcast_to(freq_hz, NUM_SAMPLES) / AUDIO_RATE
    return np.sin(2 * np.pi * np.cumsum(steps))


def _strikes(cycles: NDArray[np.float64], hz: float, per_cycle: int, decay_s: float) -> NDArray[np.float64]:
    """Return an envelope struck ``per_cycle`` times per cycle, decaying with ``decay_s``."""
    return np.exp(-np.mod(cycles * per_cycle, 1) / (per_cycle * hz * decay_s))


def _band_noise(rng: np.random.Generator, low_hz: float, high_hz: float, slope: float = 0.0) -> NDArray[np.float64]:
    """Return unit-variance noise between two frequencies; ``slope`` is the power of frequency its amplitude follows."""
    hz = np.fft.rfftfreq(NUM_SAMPLES, 1 / AUDIO_RATE)
    inside = slice(*np.searchsorted(hz, [low_hz, high_hz]))
    spectrum = np.zeros(len(hz), complex)
    draws = rng.standard_normal((2, inside.stop - inside.start))
    spectrum[inside] = (draws[0] + 1j * draws[1]) * hz[inside] ** slope
    noise = np.fft.irfft(spectrum, NUM_SAMPLES)
    return noise / noise.std()


def _sound(kind: str, cycles: NDArray[np.float64], hz: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return one of the 7 sounds, ``(S,)``, whose pitch, loudness or pulse follows the phase."""
    wave = np.cos(2 * np.pi * cycles)
    swell = 0.05 + 0.95 * (0.5 + 0.5 * wave) ** 2
    pitch = rng.uniform(0.75, 1.35)
    if kind == "siren":
        return _tone(500 * pitch * 2 ** (0.8 * wave))
    if kind == "whoosh":
        return swell * _band_noise(rng, 700 * pitch, 2500 * pitch)
    if kind == "hum":
        return swell * sum(_tone(140 * pitch * k) / k for k in range(1, 5))
    if kind == "rattle":
        return _strikes(cycles, hz, 4, 0.012) * _band_noise(rng, 2000 * pitch, 5000 * pitch)
    if kind == "buzz":
        return 1 / (1 + np.exp(-8 * wave)) * np.tanh(4 * _tone(220 * pitch))
    if kind == "drum":
        return _strikes(cycles, hz, 2, 0.08) * _tone(80 * pitch)
    return _strikes(cycles, hz, 2, 0.25) * sum(_tone(1100 * pitch * k) for k in (1.0, 2.76, 5.4))


_AMBIENCES = (
    (30, 7900, 0.0),
    (30, 7900, -0.5),
    (30, 7900, -1.0),
    (30, 400, 0.0),
    (400, 1200, 0.0),
    (1200, 3000, 0.0),
    (3000, 7900, 0.0),
    (95, 125, 0.0),
)


def _render_audio(
    class_index: int, clip_index: int, scene: int, seed: int, ambience_bias: float, start: float, hz: float
) -> Array:
    cycles = start + hz * np.arange(NUM_SAMPLES) / AUDIO_RATE
    rng = _stream(seed, "sound", class_index, clip_index)
    kind = _MOTIONS[motion_of(class_index)].sounds[rng.integers(2)]
    sound = _sound(kind, cycles, hz, rng)
    loudness = 0.1 * 10 ** (rng.uniform(-4, 4) / 20)
    rng = _stream(seed, "ambience", class_index, clip_index)
    below = 10 ** (-rng.uniform(8, 16) / 20)
    belongs, other = rng.random() < ambience_bias, int(rng.integers(len(_AMBIENCES)))
    ambience = _band_noise(rng, *_AMBIENCES[scene if belongs else other])
    return (loudness * (sound / sound.std() + below * ambience)).astype(np.float32)


# --- clips ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RenderedClip:
    """One clip as a camera and a microphone give it.

    Attributes:
        frames: ``(60, 64, 64, 3)`` uint8 RGB.
        t_us: ``(60,)`` int64 time of each frame in microseconds.
        audio: ``(38400,)`` float32 mono in about [-1, 1].
        audio_rate: Samples per second.
        scene: Index into ``SCENES``.
        cycles: ``(60,)`` float32 phase of the motion in cycles, increasing also where the motion runs backwards.
        tempo_hz: Cycles per second of this clip.
    """

    frames: NDArray[np.uint8]
    t_us: NDArray[np.int64]
    audio: Array
    audio_rate: int
    scene: int
    cycles: Array
    tempo_hz: float


def render_clip(
    class_index: int, clip_index: int, scene: int, *, seed: int = 0, ambience_bias: float = 0.0
) -> RenderedClip:
    """Render one clip of a class over a scene; motion, sprite, noise and sound do not depend on the scene.

    Args:
        class_index: Index into ``class_names()``.
        clip_index: Number of the clip within its class.
        scene: Index into ``SCENES``.
        seed: Seed of the data set.
        ambience_bias: How often the ambience is the one that belongs to ``scene``, in [0, 1].

    Raises:
        InputError: If an index is out of range.

    Example:
        >>> clip = render_clip(0, 0, scene=5)
        >>> clip.frames.shape, clip.audio.shape
        ((60, 64, 64, 3), (38400,))
    """
    check_range("render_clip", "class_index", class_index, 0, NUM_CLASSES - 1)
    check_range("render_clip", "clip_index", clip_index, 0)
    check_range("render_clip", "scene", scene, 0, len(SCENES) - 1)
    rng = _stream(seed, "motion", class_index, clip_index)
    start, jitter = rng.random(), rng.uniform(1 - TEMPO_JITTER, 1 + TEMPO_JITTER)
    tempo_hz = TEMPO_HZ[tempo_of(class_index)] * jitter
    t_us = np.arange(NUM_FRAMES, dtype=np.int64) * FRAME_US
    cycles = (start + tempo_hz * t_us * 1e-6).astype(np.float32)
    return RenderedClip(
        frames=_render_frames(class_index, clip_index, scene, seed, cycles),
        t_us=t_us,
        audio=_render_audio(class_index, clip_index, scene, seed, ambience_bias, start, tempo_hz),
        audio_rate=AUDIO_RATE,
        scene=scene,
        cycles=cycles,
        tempo_hz=tempo_hz,
    )


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

    workers = _available_cores() if workers is None else workers
    check_range("generate", "workers", workers, 1)
    jobs = list_jobs(config)
    with (
        StoreWriter(
            path,
            class_names=class_names(),
            class_vectors=class_vectors(config.seed),
            settings={"data_set": "motionscenes", **asdict(config)},
            provenance={"generator": "neuroav.data.motionscenes", "version": __version__},
        ) as writer,
        Progress("MotionScenes", total=len(jobs), unit="clip", quiet=quiet) as bar,
    ):
        left = [job for job in jobs if job.name not in writer.done]
        bar.update(len(jobs) - len(left))
        for record in _describe_all(left, workers):
            writer.write(record)
            bar.update()


def _describe_all(jobs: list[Job], workers: int) -> Iterator[ClipRecord]:
    """Yield the records in the order of the jobs, so that a store is the same however many workers made it."""
    from neuroav.data.extract import map_processes

    if workers == 1:
        yield from map(describe_job, jobs)
        return
    for job, record in map_processes(_describe_in_worker, jobs, workers):
        if isinstance(record, str):  # the reason why there is none
            raise fail("generate", f"a record of {job.name}", record, "Run the same command again; it will go on.")
        yield record


def _describe_in_worker(job: Job) -> ClipRecord:
    import torch

    torch.set_num_threads(1)  # a worker that imported the caller's script may have loaded torch with one per core
    return describe_job(job)


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
