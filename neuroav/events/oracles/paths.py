"""Oracles 1 to 4: paths of brightness whose events follow from a formula."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from neuroav.events.oracles.cases import (
    LADDER,
    UNITS,
    Finding,
    Generator,
    Maps,
    Trace,
    check_between,
    check_equal,
    check_same,
    check_times,
    moving_clip,
    one_pixel,
    pixel_events,
    ramp_times,
    rows,
    signed_map,
    sort_rows,
)


def static_scene(generator: Generator) -> Finding:
    """Oracle 1: nothing moves, nothing fires; a clip that comes to rest stays silent."""
    frames, t_us = moving_clip()
    still = frames[:1].repeat(len(frames), 1, 1)
    silent, _ = generator.convert(still, t_us, contrast_on=0.01, contrast_off=0.01)
    moved, state = generator.convert(frames, t_us)
    rest = frames[-1:].repeat(5, 1, 1)
    after, _ = generator.convert(rest, t_us[-1] + 40_000 * torch.arange(1, 6), state=state)
    checks = [
        check_equal("events of 20 equal frames at a threshold of 0.01", 0, len(silent)),
        check_between("events of a clip that moves", 1, math.inf, len(moved)),
        check_equal("events of 5 repeats of its last frame", 0, len(after)),
    ]
    return Finding(checks, Maps(("the clip", "after it came to rest"), (signed_map(moved), signed_map(after))))


def log_ramp(generator: Generator) -> Finding:
    """Oracle 2: a log ramp fires at exactly k C / s, from whichever frames it is given."""
    contrast, span_us, height = 0.25, 80_000, 8 * math.log(2)
    expected = ramp_times(contrast, height, span_us)
    checks = []
    for steps in ([0, 8], [0, 4, 8], [0, 1, 5, 8], list(range(9))):
        for p, greys in ((1, LADDER), (0, LADDER[::-1])):
            frames, t_us = one_pixel([greys[k] for k in steps]), torch.tensor([10_000 * k for k in steps])
            events, _ = generator.convert(frames, t_us, contrast_on=contrast, contrast_off=contrast)
            way = "rising" if p else "falling"
            checks.append(check_times(f"{way}, given as {len(steps)} frames", expected, p, events))
    path = np.linspace(0, height, 9)
    picture = Trace(
        "falling ramp, 9 frames", 10_000.0 * np.arange(9), path[::-1], height - contrast * np.arange(1, 23),
        np.array([expected, [0] * len(expected)]), pixel_events(events),
    )  # fmt: skip
    return Finding(checks, picture)


def float_ramp(generator: Generator) -> Finding:
    """Oracle 2 on float frames: 2 frames and 200 frames at irregular times give one list."""
    contrast, height, span_us = 0.25, 3.1, 1_000_000
    inner = np.random.default_rng(1).choice(np.arange(1, span_us), 198, replace=False)
    checks = []
    for name, times in (("2 frames", []), ("200 frames at irregular times", sorted(inner.tolist()))):
        t_us = torch.tensor([0, *times, span_us])
        frames = one_pixel(-1.5 + height * t_us.double() / span_us, torch.float64)
        for way, p, path in (("rising", 1, frames), ("falling", 0, -frames)):
            events, _ = generator.convert(path, t_us, contrast_on=contrast, contrast_off=contrast)
            checks.append(check_times(f"{way}, given as {name}", ramp_times(contrast, height, span_us), p, events))
    expected = ramp_times(contrast, height, span_us)
    picture = Trace(
        "falling ramp, 200 frames", t_us.numpy(), -frames.flatten().numpy(), 1.5 - contrast * np.arange(1, 13),
        np.array([expected, [0] * len(expected)]), pixel_events(events),
    )  # fmt: skip
    return Finding(checks, picture)


def every_step(generator: Generator) -> Finding:
    """Oracle 3: all 65,536 steps between two grey levels, one per pixel, in one interval."""
    dt_us, contrast = 10_000, 0.5
    frames = torch.arange(256, dtype=torch.uint8)
    frames = torch.stack([frames[:, None].expand(256, 256), frames[None, :].expand(256, 256)])
    events, _ = generator.convert(frames, torch.tensor([0, dt_us]), contrast_on=contrast, contrast_off=contrast)
    checks = [check_same("events of every step, in the documented order", _step_rows(dt_us, contrast), rows(events))]
    jump = round(UNITS * math.log(121)) - round(UNITS * math.log(101))
    for more, count in ((0, 1), (1, 0)):
        threshold = (jump + more) / UNITS
        up, _ = generator.convert(one_pixel([100, 120]), torch.tensor([0, 9]), contrast_on=threshold)
        down, _ = generator.convert(one_pixel([120, 100]), torch.tensor([0, 9]), contrast_off=threshold)
        what = "a step exactly as high as its threshold" if more == 0 else "a threshold higher by 2^-16"
        checks.append(check_equal(f"{what}, up and down: events", (count, count), (len(up), len(down))))
    height = math.log(256)
    picture = Trace(
        "step from 0 to 255", np.array([0, dt_us]), np.array([0, height]), contrast * np.arange(1, 12),
        np.array([ramp_times(contrast, height, dt_us), [1] * 11]), pixel_events(events, 0, 255),
    )  # fmt: skip
    return Finding(checks, picture)


def _step_rows(dt_us: int, contrast: float) -> Tensor:
    """Rows of all steps: floor(|h| / C) events at ceil(k C dt / |h|), brightness and threshold rounded to 2^-16."""
    level = torch.tensor([round(UNITS * math.log(grey + 1)) for grey in range(256)])
    unit = round(UNITS * contrast)
    height = (level[None, :] - level[:, None]).flatten()
    count = height.abs() // unit
    pixel = torch.arange(65536).repeat_interleave(count)
    nth = torch.arange(len(pixel)) - (count.cumsum(0) - count)[pixel] + 1
    t_us = -(-nth * unit * dt_us // height.abs()[pixel])
    emitted = torch.stack([t_us, pixel // 256, pixel % 256, nth, (height[pixel] > 0).long()], dim=1)
    return sort_rows(emitted)[:, [0, 1, 2, 4]]


def grey_sine(generator: Generator) -> Finding:
    """Oracle 4 on 8-bit frames: rounding to grey levels moves a crossing by at most half a grey step."""
    return _sine(generator, grey=True)


def float_sine(generator: Generator) -> Finding:
    """Oracle 4 on float frames: linear interpolation between frames is the only error."""
    return _sine(generator, grey=False)


def _sine(generator: Generator, grey: bool) -> Finding:
    amplitude, contrast, dt_us, mid = 1.05, 0.2, 5_000, math.log(64)
    t_us = dt_us * torch.arange(651)
    starts = (0.0, 0.31)
    phases = torch.tensor([math.asin(start / amplitude) for start in starts], dtype=torch.float64)
    wave = mid + amplitude * torch.sin(2 * math.pi * t_us[:, None].double() / 1e6 + phases)
    frames = (torch.exp(wave) - 1).round().to(torch.uint8) if grey else wave
    events, _ = generator.convert(frames[:, None], t_us, contrast_on=contrast, contrast_off=contrast)
    checks = []
    for x, start in enumerate(starts):
        up, down = math.floor((amplitude - start) / contrast), math.floor((amplitude + start) / contrast)
        cycle = [*range(up - 1, -down - 1, -1), *range(1 - down, up + 1)]
        t, p = pixel_events(events, 0, x)
        level = np.cumsum(2 * p - 1)
        peak_us = 1e6 * (1.25 - float(phases[x]) / (2 * math.pi))
        steady = (t > peak_us) & (t <= peak_us + 2e6)
        checks.append(check_equal(f"from L = {start}: levels crossed in two cycles", cycle * 2, level[steady].tolist()))
        true = amplitude * np.sin(2 * math.pi * t / 1e6 + float(phases[x])) - amplitude * math.sin(float(phases[x]))
        allowed = amplitude * (2 * math.pi * dt_us / 1e6) ** 2 / 8 + 2 * math.pi * amplitude / 1e6
        if grey:  # both ends of a line and the first frame may be half a grey off
            allowed = allowed + 0.5 / (np.exp(mid + true) - 0.5) + (0.5 / 63 if start else 0)
        worst = float(np.max(np.abs(true - level * contrast) / allowed, initial=0))
        checks.append(
            check_between(f"from L = {start}: brightness at the events off by, of what is allowed", 0, 1, worst)
        )
    kept = t_us <= 2_000_000
    levels = contrast * np.arange(-5, 6)
    picture = Trace(
        "sine from 0, two cycles", t_us[kept].numpy(), (wave[kept, 0] - mid).numpy(), levels,
        _sine_events(amplitude, contrast, 2), pixel_events(events)[:, pixel_events(events)[0] <= 2_000_000],
    )  # fmt: skip
    return Finding(checks, picture)


def _sine_events(amplitude: float, contrast: float, cycles: int) -> np.ndarray:
    """Times and polarities of a sine that starts at 0: the levels of one cycle, one threshold of hysteresis."""
    top = math.floor(amplitude / contrast)
    found = [(n, 0.0, 1) for n in range(1, top + 1)]
    for cycle in range(cycles):
        found += [(n, cycle + 0.5, 0) for n in range(top - 1, -top - 1, -1)]
        found += [(n, cycle + 1.0, 1) for n in range(1 - top, top + 1)]
    times = []
    for n, centre, p in found:
        swing = math.asin(n * contrast / amplitude) / (2 * math.pi)
        times.append((1e6 * (centre + (swing if p else -swing)), p))
    return np.array([one for one in times if one[0] <= 1e6 * cycles]).T
