"""Pictures and sound of MotionScenes: one clip of a class, drawn from counter-based streams.

A sprite with its own texture moves over one of 8 scenes; a sound follows the motion's phase over an ambience. Each of
motion, sprite, sensor noise, sound, ambience and backdrop has its own stream, so that a clip keeps its motion, noise
and sound whichever scene is shown. What a class is, which clips there are and how they are stored: ``motionscenes.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuroav.checks import check_range

Array = NDArray[np.float32]

SIZE, NUM_FRAMES, FRAME_US = 64, 60, 40_000
AUDIO_RATE = 16_000
NUM_SAMPLES = 38_400
NOISE_LEVELS = 1.5  # standard deviation of the sensor noise, in grey levels of 255

TEMPOS = ("slow", "medium", "fast")
# A bin lasts 0.2 s, so directions are decidable below 2.5 cycles per second; the fastest clip has 1.5 x 1.08.
TEMPO_HZ = (0.6, 0.95, 1.5)
TEMPO_JITTER = 0.08
SOUNDS = ("siren", "whoosh", "hum", "rattle", "buzz", "drum", "chime")
SCENES = ("brick", "grass", "sand", "tiles", "planks", "water", "clouds", "lights")

# --- random streams ------------------------------------------------------------------------------------------------

STREAMS = ("words", "split", "preferred", "scene", "motion", "sprite", "noise", "sound", "ambience", "backdrop")


def stream(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A generator for one purpose of one clip (or class, or split), independent of every other draw."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, STREAMS.index(purpose), *counters])))


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


MOTION_TABLE = (
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
MOTIONS = tuple(motion.name for motion in MOTION_TABLE)
NUM_CLASSES = len(MOTIONS) * len(TEMPOS)


def motion_of(classes: Any) -> Any:
    """Return the motion index of each class index."""
    return np.asarray(classes) // len(TEMPOS)


def tempo_of(classes: Any) -> Any:
    """Return the tempo index of each class index."""
    return np.asarray(classes) % len(TEMPOS)


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
    rng = stream(0, "backdrop", scene)
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
    motion = MOTION_TABLE[motion_of(class_index)]
    stage, centre = _draw_stage(stream(seed, "motion", class_index, clip_index, 1))
    sprite = _draw_sprite(stream(seed, "sprite", class_index, clip_index))
    planes = np.broadcast_to(
        _backdrop(scene, stream(seed, "backdrop", class_index, clip_index, 1)), (3, NUM_FRAMES, SIZE, SIZE)
    ).copy()
    phase = np.mod(-cycles if motion.backwards else cycles, 1).astype(np.float32)
    shape = _DROP if motion.kind == "spin" else sprite.shape
    for pose in motion.path(phase, stage):
        cover, u = _cover(pose, centre, shape, sprite.angle)
        texture = 1 + np.float32(sprite.stripe_depth) * np.sin(u * np.float32(2 * np.pi / sprite.stripe_px))
        for plane, colour in zip(planes, sprite.colour, strict=True):
            plane += cover * (colour * texture - plane)
    noise = stream(seed, "noise", class_index, clip_index).standard_normal((NUM_FRAMES, SIZE, SIZE), dtype=np.float32)
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
    rng = stream(seed, "sound", class_index, clip_index)
    kind = MOTION_TABLE[motion_of(class_index)].sounds[rng.integers(2)]
    sound = _sound(kind, cycles, hz, rng)
    loudness = 0.1 * 10 ** (rng.uniform(-4, 4) / 20)
    rng = stream(seed, "ambience", class_index, clip_index)
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
    rng = stream(seed, "motion", class_index, clip_index)
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
