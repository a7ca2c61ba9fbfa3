r"""What a real pixel adds to the ideal one, in integers: bandwidth, leak, noise, fixed pattern, refractory period.

Each frame interval of each pixel goes through these steps. Brightness is in units of 2^-24 nat.

1. **Bandwidth** (``cutoff_hz``, ``poles``). One or two first-order low-pass stages, faster in brighter light:
   :math:`L \mathrel{+}= \varepsilon (L_{frame} - L)`, :math:`\varepsilon = \min(1, 2 \pi f_c \Delta t (I + 20) / 275)`
   with the grey level ``I`` of the frame; of float frames the grey level whose brightness by the camera's law is the
   highest not above theirs. The clip starts settled.
2. **Photoreceptor noise** (``photoreceptor_hz``). A Gaussian per pixel and frame, low-passed with
   :math:`\varepsilon_v = \min(1, 2 \pi f_c \Delta t)`, is added; it starts at 0, so the first reference is free of
   noise. Its standard deviation :math:`V_n` follows from the rate of noise events asked for,
   :math:`\log_{10}(C / V_n) = -0.0026 x^3 - 0.036 x^2 - 0.1949 x + 0.321`, :math:`x = \log_{10}(rate / 2 f_c)`, with
   ``C`` the mean of the smaller of a pixel's two thresholds. That is the rate of noise seen without gaps: what crosses
   a threshold and comes back between two frames fires nothing, so 30 to 65 % of it comes at
   :math:`\varepsilon_v = 0.1`, 10 to 35 % at 0.5 and 5 to 20 % at 1, least where it is rarest. What moves the
   reference off the middle of the noise (leak, unequal thresholds, shot noise, ``"blind"``) makes many times more, as
   less of a swing then crosses.
3. **Leak** (``leak_hz``). The reference falls by :math:`\Delta t \, r F (1 - j n) C^+`, evenly within the interval:
   ``r`` the rate, ``F`` log-normal from pixel to pixel, ``n`` Gaussian from frame to frame. A pixel at rest fires ON
   ``r`` times a second. Hot pixels leak at ``hot_hz``. At most 16 nat of leak may fall into an interval.
4. **Crossings**: brightness plus leak runs linearly through the interval, and events happen where it reaches the
   pixel's own thresholds (``mismatch``), as far as the refractory period lets them.
5. **Shot noise** (``shot_hz``). Candidates come as a Poisson process with the rate of a dark pixel, times the mean of
   nominal over actual threshold; one that comes outside the refractory period fires with the probability
   :math:`1 - s (I + 20) / 275`, ON or OFF in proportion to one over threshold, and the reference becomes the
   brightness of that instant.

The terms 1 to 3 and 5 implement the model of [v2e]; the second low-pass stage is that of Prophesee's simulator. Differs
from the paper: shot noise has the right rate at any frame rate and its events their own times (there, at most one event
per pixel and frame, at the frame's time); thresholds get a reference that leaks within the interval, not before it; the
variance of low-passed noise is a formula instead of a simulation, whose error of 2 % moves the rates there by tens of
percent from run to run; and :math:`\varepsilon_v` ends at 1 (beyond 2 the noise there vanishes).

Random numbers come from Philox-4x32-10 [salmon2011] by (seed, place in the sensor, frame, purpose), Gaussians and
waiting times from them through tables: the same on every device and for every way of cutting a clip.
"""

from __future__ import annotations

import math
import statistics
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from neuroav.checks import fail
from neuroav.events.camera import REFRACTORY, UNITS, EventCamera
from neuroav.kernels import reference_camera
from neuroav.kernels.camera import Numbers, Sensor

FINE = 1 << 24  # units of brightness per nat
DRAW_PATTERN, DRAW_DEFECT, DRAW_START = 3, 4, 5  # purposes; csrc/common/random.h has 0 to 2
LEAST_CONTRAST, MOST_CONTRAST = round(0.01 * FINE), (1 << 28) - 1
MOST_WORD = 1 << 32
Window = tuple[int, int, int, int]  # top, left, height, width


@lru_cache(maxsize=1)
def normal_table() -> Tensor:
    """Return 1024 values of a Gaussian of variance 1/2 in units of 2^-16, ``(1024,)`` int32: two make variance 1.

    Each stands for a 1024th of the distribution, as the mean of its exponential: ``2 / 3 ln mean(exp(3 / 2 q))`` of the
    values ``q`` above 0, mirrored below. That gives the sum the tail of a Gaussian, to 2 % out to 3.75 standard
    deviations and to 4 % at 4, where medians of the same parts lose a third; noise events hang on that tail.
    """
    law = statistics.NormalDist()
    edges = [law.inv_cdf(0.5 + i / 1024) for i in range(512)] + [math.inf]
    below = [law.cdf(edge - 1.5) for edge in edges]
    upper = [math.log(1024 * (high - low)) / 1.5 + 0.75 for low, high in pairwise(below)]
    scale = math.sqrt(0.5 / (math.fsum(q * q for q in upper) / 512))
    return torch.tensor([round(UNITS * scale * q) for q in (*(-q for q in reversed(upper)), *upper)], dtype=torch.int32)


@lru_cache(maxsize=1)
def exponential_table() -> Tensor:
    """Return ``ln 2 - ln(1 + i / 1024)`` in units of 2^-20, ``(1025,)`` int32."""
    return torch.tensor([round(2**20 * (math.log(2) - math.log1p(i / 1024))) for i in range(1025)], dtype=torch.int32)


def fine(camera: EventCamera, is_float: bool) -> tuple[int, int]:
    """Return the nominal thresholds in units of 2^-24 nat; those for 8-bit frames are whole units of 2^-16."""
    units, factor = (FINE, 1) if is_float else (UNITS, FINE // UNITS)
    return round(units * camera.contrast_on) * factor, round(units * camera.contrast_off) * factor


@lru_cache(maxsize=8)
def sensor_of(camera: EventCamera, window: Window, is_float: bool, device: torch.device) -> Sensor:
    """Return the fixed pattern of a window of the sensor and the tables of the pixels. They are shared: never write."""
    places = _places(window)
    nominal = fine(camera, is_float)
    words = reference_camera.philox(places, 0, DRAW_PATTERN, 0, camera.seed)
    on, off = (_contrast(n, camera.mismatch, word) for n, word in zip(nominal, words, strict=False))
    dead, hot = (
        word < round(MOST_WORD * share)
        for word, share in zip(
            reference_camera.philox(places, 0, DRAW_DEFECT, 0, camera.seed),
            (camera.dead_fraction, camera.hot_fraction),
            strict=False,
        )
    )
    leak = _leak(camera, on, words[2], hot).masked_fill(dead, 0) if camera.has_leak else on[:0]
    period = _shot_period(camera, nominal, on, off) if camera.shot_hz > 0 else on[:0]
    on = on.masked_fill(dead, reference_camera.DEAD)
    accept = [round(2**20 * (1 - camera.shot_slope * (grey + 20) / 275)) for grey in range(256)]
    tensors = (
        camera.brightness.table() << 8,
        *(pattern.reshape(window[2:]) if len(pattern) else pattern for pattern in (on, off, leak, period)),
        torch.tensor(accept if camera.shot_hz > 0 else []), normal_table(), exponential_table(),
    )  # fmt: skip
    sensor = Sensor(*(tensor.to(device, torch.int32) for tensor in tensors))
    return sensor._replace(period=tensors[4].to(device))


def _places(window: Window) -> Tensor:
    """Return the number of each pixel by which random numbers know it, ``(H * W,)`` int64."""
    top, left, height, width = window
    return (((torch.arange(height) + top)[:, None] << 16) | ((torch.arange(width) + left) << 1)).flatten()


def _contrast(nominal: int, mismatch: float, word: Tensor) -> Tensor:
    spread = round(FINE * mismatch) * reference_camera.gaussian(normal_table(), word)
    return (nominal + reference_camera.rounded_shift(spread, 16)).clamp(LEAST_CONTRAST, MOST_CONTRAST)


def _leak(camera: EventCamera, on: Tensor, word: Tensor, hot: Tensor) -> Tensor:
    """Return the leak of each pixel in units of 2^-44 nat per microsecond, at most 122 nat per second."""
    factors = [10 ** (camera.leak_spread * quantile / UNITS) for quantile in normal_table().tolist()]
    table = torch.tensor([round(UNITS * factor) for factor in factors])
    spread = (table[word & 1023] * table[(word >> 10) & 1023]) >> 16  # log-normal: a Gaussian is a sum of two entries
    return torch.where(hot, _per_microsecond(camera.hot_hz, on), _per_microsecond(camera.leak_hz, (on * spread) >> 16))


def _per_microsecond(rate_hz: float, step: Tensor) -> Tensor:
    rate = round(rate_hz * 1e-6 * 2**48)
    return ((step.clamp(max=(1 << 59) // max(rate, 1)) * rate) >> 28).clamp(max=(1 << 31) - 1)


def _shot_period(camera: EventCamera, nominal: tuple[int, int], on: Tensor, off: Tensor) -> Tensor:
    """Return the time between candidates for shot noise in 2^-6 microseconds, below 2^38."""
    rate = (nominal[0] << 16) // on + (nominal[1] << 16) // off  # in the dark, 2^17 for a nominal pixel
    return ((round(64e6 / camera.shot_hz) << 17) // rate).clamp(max=(1 << 38) - 1)


@lru_cache(maxsize=8)
def first_gap_us(camera: EventCamera, window: Window, is_float: bool, device: torch.device) -> Tensor:
    """Return the time from the start of a clip to each pixel's first candidate for shot noise, ``(H, W)`` int64."""
    sensor = sensor_of(camera, window, is_float, torch.device("cpu"))
    words = reference_camera.philox(_places(window), 0, DRAW_START, 0, camera.seed)
    gap_us = reference_camera.gap_us(sensor.exponential, words, sensor.period.flatten())
    return gap_us.reshape(window[2:]).masked_fill(sensor.on == reference_camera.DEAD, reference_camera.NEVER).to(device)


def photoreceptor_noise(camera: EventCamera) -> float:
    """Return the standard deviation of the photoreceptor noise behind its low pass, in nat.

    The formula is a fit in the program of [v2e]; the mean of the smaller threshold is that of two Gaussians. Differs
    from the paper: a mean in closed form instead of over 300 drawn thresholds.

    Example:
        >>> camera = EventCamera(photoreceptor_hz=2.0, cutoff_hz=100.0)
        >>> round(photoreceptor_noise(camera), 4)
        0.0517
    """
    if camera.photoreceptor_hz == 0:
        return 0.0
    x = math.log10(camera.photoreceptor_hz / (2 * camera.cutoff_hz))
    fit = -0.0026 * x**3 - 0.036 * x**2 - 0.1949 * x + 0.321
    on, off, spread = camera.contrast_on, camera.contrast_off, math.sqrt(2) * camera.mismatch
    smaller = min(on, off)
    if spread > 0:
        law, d = statistics.NormalDist(), (on - off) / spread
        smaller = on * law.cdf(-d) + off * law.cdf(d) - spread * law.pdf(d)
    return max(smaller, 0.01) / 10**fit


def low_pass_shares(camera: EventCamera, edges_us: Tensor) -> Tensor:
    """Return the share of each low-pass step by interval and grey level, ``(F, 256)`` int32 in 2^-24."""
    rates = [2 * math.pi * camera.cutoff_hz * 1e-6 * (grey + 20) / 275 for grey in range(256)]
    rate = torch.tensor([round(2**40 * r) for r in rates], device=edges_us.device)
    dt_us = edges_us.diff()[:, None]
    return ((torch.minimum(rate, (1 << 40) // dt_us + 1) * dt_us) >> 16).clamp(max=FINE).to(torch.int32)


def voltage_steps(camera: EventCamera, edges_us: Tensor) -> Tensor:
    """Return share and gain of the photoreceptor noise by interval, ``(F, 2)`` int32 in 2^-24."""
    noise, rows = photoreceptor_noise(camera), []
    for dt_us in edges_us.diff().tolist():
        share = min(1.0, 2 * math.pi * camera.cutoff_hz * 1e-6 * dt_us)
        rows.append([round(FINE * share), round(FINE * noise * math.sqrt(share * (2 - share)))])  # keeps the variance
    return torch.tensor(rows, dtype=torch.int32, device=edges_us.device).reshape(-1, 2)


def check_leak(where: str, sensor: Sensor, edges_us: Tensor) -> None:
    """Raise if a pixel may leak more than 16 nat between two frames."""
    if sensor.leak.numel() and len(edges_us) > 1:
        leak = int(sensor.leak.max()) * int(edges_us.diff().max()) / 2**44
        if leak > 16:
            remedy = "Lower leak_hz, hot_hz or leak_spread, or give more frames."
            raise fail(where, "at most 16 nat of leak between two frames", f"{leak:.0f}", remedy)


def numbers_of(camera: EventCamera, is_float: bool, frame: int, origin: tuple[int, int]) -> Numbers:
    """Return what all pixels have in common, for a call whose first interval is number ``frame`` of its clip."""
    rule = REFRACTORY.index(camera.refractory) if camera.refractory_us > 0 else 0
    jitter = round(UNITS * camera.leak_jitter) if camera.has_leak else 0
    return Numbers(
        *fine(camera, is_float), rule, int(camera.refractory_us), jitter, camera.seed, frame, *origin,
    )  # fmt: skip
