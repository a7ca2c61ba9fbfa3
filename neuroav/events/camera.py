"""The simulated event camera: every parameter of the sensor in one object, recorded with every file and run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from neuroav.checks import check_choice, check_range, fail

UNITS = 1 << 16  # units of brightness per nat in the tables of the laws
TIMESTAMPS = ("crossing", "v2e", "frame")
REFRACTORY = ("advance", "hold", "blind")  # in the order of their codes in csrc/common/camera.h


@dataclass(frozen=True)
class Log:
    """Brightness ``ln(I + eps)`` of the grey level ``I`` in 0..255, in nat.

    ``eps`` in [1e-6, 255] gives black a logarithm; the default of 1 (4e-3 of full scale) damps noise in the dark. A
    gain of the light leaves events unchanged only as ``eps`` tends to 0.

    Example:
        >>> Log().table()[:2].tolist()
        [0, 45426]
    """

    eps: float = 1.0
    name: ClassVar[str] = "log"

    def __post_init__(self) -> None:
        check_range("Log", "eps", self.eps, 1e-6, 255)

    def table(self) -> Tensor:
        """Return the brightness of the 256 grey levels in units of 2^-16 nat, ``(256,)`` int32, never decreasing."""
        return _table(self)

    def brightness(self, grey: int) -> float:
        """Return the brightness of one grey level in nat."""
        return math.log(grey + self.eps)


@dataclass(frozen=True)
class LinLog:
    """Brightness ``ln(I)`` above ``knee`` and linear from 0 to there, ``I ln(knee) / knee``, in nat: the law of [v2e].

    ``knee`` is a grey level in [2, 255]. Differs from the paper: nothing; 20 is the value of its program.

    Example:
        >>> LinLog().table()[[0, 20, 255]].tolist()
        [0, 196328, 363152]
    """

    knee: float = 20
    name: ClassVar[str] = "linlog"

    def __post_init__(self) -> None:
        check_range("LinLog", "knee", self.knee, 2, 255)

    def table(self) -> Tensor:
        """Return the brightness of the 256 grey levels in units of 2^-16 nat, ``(256,)`` int32, never decreasing."""
        return _table(self)

    def brightness(self, grey: int) -> float:
        """Return the brightness of one grey level in nat."""
        return math.log(grey) if grey > self.knee else grey * math.log(self.knee) / self.knee


@dataclass(frozen=True)
class Linear:
    """Brightness ``I / 255``: thresholds are then shares of full scale, not log contrast.

    Example:
        >>> Linear().table()[[0, 255]].tolist()
        [0, 65536]
    """

    name: ClassVar[str] = "linear"

    def table(self) -> Tensor:
        """Return the brightness of the 256 grey levels in units of 2^-16 of full scale, ``(256,)`` int32."""
        return _table(self)

    def brightness(self, grey: int) -> float:
        """Return the brightness of one grey level as a share of full scale."""
        return grey / 255


LAWS: dict[str, type[Log] | type[LinLog] | type[Linear]] = {law.name: law for law in (Log, LinLog, Linear)}


@lru_cache(maxsize=64)
def _table(law: Log | LinLog | Linear) -> Tensor:
    return torch.tensor([round(UNITS * law.brightness(grey)) for grey in range(256)], dtype=torch.int32)


@dataclass(frozen=True, kw_only=True)
class EventCamera:
    """Every parameter of the simulated sensor; ``frames_to_events`` says what the model does with them.

    The defaults are an ideal camera: no noise, no bandwidth limit, no refractory period, all pixels alike.

    Attributes:
        contrast_on: ON threshold in nat (of full scale with ``Linear``), in [0.01, 10]; every pixel's mean.
        contrast_off: OFF threshold, the same.
        brightness: Law from grey level to brightness: ``Log(eps)``, ``LinLog(knee)`` or ``Linear()``.
        timestamps: ``"crossing"``: when brightness, linear in time between two frames, reaches the threshold;
            ``"v2e"``: a grid shared by all pixels, as [v2e] stamps; ``"frame"``: the time of the frame.
        mismatch: Standard deviation of the thresholds from pixel to pixel, in nat, in [0, 1]: a fixed pattern, ON and
            OFF drawn independently, never below 0.01.
        refractory_us: Least time between two events of a pixel, in microseconds, in [0, 2^31].
        refractory: What a pixel does during that time. ``"advance"``: events are dropped and the reference moves as if
            they had been sent (ESIM, Prophesee's simulator). ``"hold"``: the reference stays, so what was held back
            follows once the period is over (v2e). ``"blind"``: the pixel sees nothing and takes its reference from
            the brightness at the end of the period (silicon, IEBCS).
        cutoff_hz: Bandwidth of the photoreceptor at full light; 0 is no limit. It falls with the light as in [v2e].
        poles: Low-pass stages, 1 ([v2e]) or 2 (Prophesee's simulator).
        leak_hz: Rate of the ON events that leakage causes in a pixel at rest.
        leak_jitter: Standard deviation of the leak from frame to frame, as a share of it, in [0, 1].
        leak_spread: Standard deviation of the leak from pixel to pixel, in decades (log-normal), in [0, 1].
        shot_hz: Rate of shot noise events of a pixel in the dark, ON and OFF together; 0 or in [0.001, 10000].
        shot_slope: Share of that rate which is gone at full light, in [0, 1].
        photoreceptor_hz: Strength of the photoreceptor's Gaussian noise, as the rate of noise events, ON and OFF
            together, that it causes in a pixel watched without gaps; needs ``cutoff_hz``. Frames miss some: as in
            [v2e], a third to two thirds come at ``60 cutoff_hz`` frames per second, a twentieth to a fifth at
            ``6 cutoff_hz`` (see ``neuroav.events.noise``).
        hot_fraction: Share of hot pixels, which leak at ``hot_hz`` instead of ``leak_hz``.
        hot_hz: Rate of the ON events of a hot pixel at rest.
        dead_fraction: Share of pixels that never fire.
        seed: Of the fixed pattern and the noise, in [0, 2^63).

    Raises:
        InputError: If a value lies outside its range, or two don't go together.

    Example:
        >>> EventCamera(contrast_on=0.3).is_ideal, EventCamera.preset("noisy").is_ideal
        (True, False)
    """

    contrast_on: float = 0.2
    contrast_off: float = 0.2
    brightness: Log | LinLog | Linear = field(default_factory=Log)
    timestamps: str = "crossing"
    mismatch: float = 0.0
    refractory_us: int = 0
    refractory: str = "advance"
    cutoff_hz: float = 0.0
    poles: int = 1
    leak_hz: float = 0.0
    leak_jitter: float = 0.1
    leak_spread: float = 0.1
    shot_hz: float = 0.0
    shot_slope: float = 0.75
    photoreceptor_hz: float = 0.0
    hot_fraction: float = 0.0
    hot_hz: float = 25.0
    dead_fraction: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        where = "EventCamera"
        for name, (low, high) in _RANGES.items():
            if not isinstance(getattr(self, name), Real):
                raise fail(where, f"{name} to be a number", repr(getattr(self, name)), kind=TypeError)
            check_range(where, name, getattr(self, name), low, high)
        check_choice(where, "timestamps", self.timestamps, TIMESTAMPS)
        check_choice(where, "refractory", self.refractory, REFRACTORY)
        if not isinstance(self.brightness, Log | LinLog | Linear):
            raise fail(where, "brightness to be Log(), LinLog() or Linear()", repr(self.brightness), kind=TypeError)
        for name in ("refractory_us", "poles", "seed"):
            if getattr(self, name) != int(getattr(self, name)):
                raise fail(where, f"{name} to be a whole number", f"{getattr(self, name)}")
        if 0 < self.shot_hz < 1e-3:
            raise fail(where, "shot_hz to be 0 or at least 0.001", f"{self.shot_hz:g}")
        if self.photoreceptor_hz > 0 and not self.photoreceptor_hz <= 2 * self.cutoff_hz:
            actual = f"{self.photoreceptor_hz:g} with cutoff_hz {self.cutoff_hz:g}"
            raise fail(where, "photoreceptor_hz of at most twice cutoff_hz", actual, "Set the bandwidth of the pixel.")
        if max(self.leak_hz, self.hot_hz * (self.hot_fraction > 0)) * self.contrast_on > 100:
            raise fail(where, "leak_hz and hot_hz of at most 100 nat per s", f"{self.leak_hz:g} and {self.hot_hz:g} Hz")

    @property
    def has_leak(self) -> bool:
        """Whether any pixel leaks."""
        return self.leak_hz > 0 or (self.hot_fraction > 0 and self.hot_hz > 0)

    @property
    def is_ideal(self) -> bool:
        """Whether all pixels are alike, free of noise, and limited neither in bandwidth nor in rate."""
        noise = self.has_leak or self.shot_hz > 0 or self.photoreceptor_hz > 0
        pattern = self.mismatch > 0 or self.dead_fraction > 0
        return not (noise or pattern or self.cutoff_hz > 0 or self.refractory_us > 0)

    def replace(self, **changes: Any) -> EventCamera:
        """Return a camera with some parameters changed; an unknown name is an error that says the nearest one."""
        for name in changes:
            check_choice("EventCamera", "every parameter", name, [f.name for f in dataclasses.fields(self)])
        return dataclasses.replace(self, **changes)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> EventCamera:
        """Return a camera by name, with some parameters changed.

        ``"ideal"``: the defaults. ``"clean"`` and ``"noisy"``: the two parameter sets of the program of [v2e], and
        ``"v2e"`` the defaults of its command line. Differs from the paper: times are crossing times unless
        ``timestamps="v2e"``, and shot noise has the rate asked for at any frame rate (see ``frames_to_events``).

        Example:
            >>> EventCamera.preset("noisy", shot_hz=1).shot_hz
            1
        """
        check_choice("EventCamera.preset", "name", name, PRESETS)
        return cls(**PRESETS[name]).replace(**changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as plain values that JSON can hold.

        Example:
            >>> EventCamera().to_dict()["brightness"]
            {'law': 'log', 'eps': 1.0}
        """
        values = dataclasses.asdict(self)
        return values | {"brightness": {"law": self.brightness.name} | dataclasses.asdict(self.brightness)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EventCamera:
        """Return the camera whose ``to_dict()`` this is.

        Raises:
            InputError: If a name is unknown or a value doesn't fit.

        Example:
            >>> EventCamera.from_dict(EventCamera.preset("v2e").to_dict()) == EventCamera.preset("v2e")
            True
        """
        values = dict(values)
        law = dict(values.pop("brightness", {"law": "log"}))
        check_choice("EventCamera", "brightness law", law.get("law", ""), LAWS)
        kind = LAWS[law.pop("law")]
        for name in law:
            check_choice("EventCamera", f"parameters of {kind.name}", name, [f.name for f in dataclasses.fields(kind)])
        return cls().replace(**values, brightness=kind(**law))


_RANGES = {
    "contrast_on": (0.01, 10),
    "contrast_off": (0.01, 10),
    "mismatch": (0, 1),
    "refractory_us": (0, 1 << 31),
    "cutoff_hz": (0, 1e6),
    "poles": (1, 2),
    "leak_hz": (0, 1e4),
    "leak_jitter": (0, 1),
    "leak_spread": (0, 1),
    "shot_hz": (0, 1e4),
    "shot_slope": (0, 1),
    "photoreceptor_hz": (0, 1e6),
    "hot_fraction": (0, 1),
    "hot_hz": (0, 1e4),
    "dead_fraction": (0, 1),
    "seed": (0, (1 << 63) - 1),
}

PRESETS: dict[str, dict[str, Any]] = {
    "ideal": {},
    "clean": {"brightness": LinLog(), "mismatch": 0.02},
    "noisy": {"brightness": LinLog(), "mismatch": 0.05, "cutoff_hz": 30.0, "leak_hz": 0.1, "shot_hz": 5.0},
    "v2e": {
        "brightness": LinLog(),
        "mismatch": 0.03,
        "cutoff_hz": 300.0,
        "leak_hz": 0.01,
        "shot_hz": 0.001,
        "refractory_us": 500,
        "refractory": "hold",
    },
}
