"""Oracles 10 to 12: the refractory period, noise, bandwidth, and the extremes of the input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuroav.checks import InputError
from neuroav.events.camera import Log
from neuroav.events.oracles.cases import (
    Bars,
    Check,
    Finding,
    Generator,
    Trace,
    by_pixel,
    check_between,
    check_equal,
    check_same,
    check_times,
    moving_clip,
    one_pixel,
    pixel_events,
    ramp_times,
    rows,
    same_state,
)
from neuroav.events.types import Events


def _climb() -> tuple[Tensor, Tensor]:
    """One pixel whose brightness rises by a threshold of 0.25 every 20 ms for 400 ms, then rests for 300 ms."""
    t_us = torch.tensor([0, 130_000, 250_000, 400_000, 500_000, 700_000])
    return one_pixel(-1 + t_us.clamp(max=400_000).double() / 80_000, torch.float64), t_us


def refractory(generator: Generator) -> Finding:
    """Oracle 10: spacing 20 ms, period 50 ms: the three rules by hand, and no two events closer than the period."""
    frames, t_us = _climb()
    by_rule = {
        "advance": [20_000 + 60_000 * k for k in range(7)],  # every third crossing is the first at least 50 ms later
        "hold": [20_000 + 50_000 * k for k in range(14)],  # the backlog follows, also at rest
        "blind": [20_000 + 70_000 * k for k in range(6)],  # 50 ms blind, then one threshold from there
    }
    settings: dict[str, Any] = {"contrast_on": 0.25, "contrast_off": 0.25, "refractory_us": 50_000}
    clip, clip_us = moving_clip()
    checks = []
    for rule, expected in by_rule.items():
        events, _ = generator.convert(frames, t_us, refractory=rule, **settings)
        checks.append(check_times(rule, [float(t) for t in expected], 1, events))
        if rule == "advance":
            got = pixel_events(events)
        many, _ = generator.convert(clip, clip_us, refractory=rule, refractory_us=30_000)
        pixel = by_pixel(rows(many))
        gaps = (pixel[1:, 0] - pixel[:-1, 0])[(pixel[1:, 1:3] == pixel[:-1, 1:3]).all(dim=1)]
        least = float(gaps.min()) if len(gaps) else math.nan
        checks.append(check_between(f"{rule}, a clip, period 30 ms: shortest gap in us", 30_000, math.inf, least))
    wanted = np.array([by_rule["advance"], [1] * 7])
    levels = -1 + 0.25 * np.arange(1, 21)
    title = "rule advance: 20 ms between thresholds, period 50 ms"
    return Finding(checks, Trace(title, t_us.numpy(), frames.flatten().numpy(), levels, wanted, got))


def leak(generator: Generator) -> Finding:
    """Oracle 11: a static pixel that leaks at 1 Hz fires ON once a second."""
    frames, t_us = torch.full((264, 3, 4), 90, dtype=torch.uint8), 40_000 * torch.arange(264)
    settings: dict[str, Any] = {"leak_hz": 1.0, "leak_jitter": 0.0, "leak_spread": 0.0, "contrast_off": 0.1}
    events, _ = generator.convert(frames, t_us, **settings)
    expected = [1e6 * k for k in range(1, 11)]
    counts = torch.bincount(events.y.long() * 4 + events.x.long(), minlength=12)
    checks = [
        check_equal(
            "ON and OFF events of 12 pixels in 10.5 s", (120, 0), (int(events.p.sum()), int((events.p == 0).sum()))
        ),
        check_equal("fewest and most of one pixel", (10, 10), (int(counts.min()), int(counts.max()))),
    ]
    late = [abs(t - 1e6 * round(t / 1e6)) for t in events.t_us.tolist()]
    checks.append(check_between("largest distance from a whole second, us", 0, 10, max(late, default=math.nan)))
    picture = Trace(
        "reference of a static pixel that leaks", np.array([0, 10.5e6]), np.array([0, 2.1]), 0.2 * np.arange(1, 11),
        np.array([expected, [1] * 10]), pixel_events(events),
    )  # fmt: skip
    return Finding(checks, picture)


def mismatch(generator: Generator) -> Finding:
    """Oracle 11: thresholds recovered from the first crossing of a slow step have the mean and spread asked for."""
    side, span_us, height, spread = 48, 1_000_000, math.log(256), 0.03
    frames = one_pixel([0, 255, 0]).expand(3, side, side).contiguous()
    t_us, pixels = torch.tensor([0, span_us, 2 * span_us]), side * side

    def convert(**settings: Any) -> Events:
        return generator.convert(frames, t_us, **({"contrast_on": 0.3, "contrast_off": 0.2} | settings))[0]

    events = convert(mismatch=spread)
    found = [_thresholds(events, p, span_us, height) for p in (1, 0)]
    figures = []
    for name, mean, values in (("ON", 0.3, found[0]), ("OFF", 0.2, found[1])):
        se = spread / math.sqrt(pixels)
        figures.append((f"mean C of {name}", mean, 5 * se, float(values.mean())))
        figures.append((f"s.d. of C of {name}", spread, 5 * se / math.sqrt(2), float(values.std())))
    checks = [check_between(what, want - most, want + most, value) for what, want, most, value in figures]
    correlation = float(np.corrcoef(found[0], found[1])[0, 1])
    checks.append(check_between("correlation of ON and OFF thresholds", -5 / side, 5 / side, correlation))
    alike = [torch.equal(rows(events), rows(convert(mismatch=spread, seed=seed))) for seed in (0, 1)]
    checks.append(check_equal("same list with the same seed, with another seed", [True, False], alike))
    least = _thresholds(convert(mismatch=0.05, contrast_on=0.05), 1, span_us, height)
    share = 0.5 * math.erfc(0.8 / math.sqrt(2))  # of a Gaussian below 0.01
    most, clamped = 5 * math.sqrt(share * (1 - share) / pixels), float((least < 0.01002).mean())
    checks.append(check_between("C of 0.05, s.d. 0.05: smallest", 0.00998, 0.01002, float(least.min())))
    checks.append(check_between("and share at the smallest", share - most, share + most, clamped))
    return Finding(checks, _bars(f"thresholds of {pixels:,} pixels", "nat", figures))


def _bars(title: str, unit: str, figures: Sequence[tuple[str, float, float, float]]) -> Bars:
    """Bars from rows of label, expectation, distance allowed and figure."""
    labels, expected, allowed, got = (list(one) for one in zip(*figures, strict=True))
    low = [want - most for want, most in zip(expected, allowed, strict=True)]
    high = [want + most for want, most in zip(expected, allowed, strict=True)]
    return Bars(title, unit, labels, expected, low, high, got)


def _thresholds(events: Events, p: int, span_us: int, height: float) -> np.ndarray:
    """Threshold of every pixel from the first event of polarity ``p`` of a step of this height per ``span_us``."""
    rows_, columns = events.sensor_size
    first = np.full(rows_ * columns, np.iinfo(np.int64).max)
    mine = (events.p == p).numpy()
    np.minimum.at(first, (events.y.long() * columns + events.x.long()).numpy()[mine], events.t_us.numpy()[mine])
    if p == 1:
        return first * height / span_us
    second = np.full(rows_ * columns, np.iinfo(np.int64).max)  # the first one also depends on what ON events left over
    late = mine & (events.t_us.numpy() > first[(events.y.long() * columns + events.x.long()).numpy()])
    np.minimum.at(second, (events.y.long() * columns + events.x.long()).numpy()[late], events.t_us.numpy()[late])
    return (second - first) * height / span_us


def shot(generator: Generator) -> Finding:
    """Oracle 11: shot noise of a static scene: rate by intensity, polarities, gaps between events."""
    rate_hz, seconds, side, greys = 5.0, 20, 20, (0, 128, 255)
    frame = torch.tensor(greys, dtype=torch.uint8).repeat_interleave(side)[None].expand(side, -1)
    checks, figures, exposure = [], [], side * side * seconds
    for fps in (1, 5):
        t_us = torch.arange(seconds * fps + 1) * (1_000_000 // fps)
        events, _ = generator.convert(frame.expand(len(t_us), -1, -1).contiguous(), t_us, shot_hz=rate_hz)
        for index, grey in enumerate(greys):
            here = (events.x.long() // side) == index
            law, count = rate_hz * (1 - 0.75 * (grey + 20) / 275), int(here.sum())
            ups, most = int(events.p[here].sum()), 5 * math.sqrt(law / exposure)
            half = 2.5 / math.sqrt(count + 1)
            name = f"grey {grey}, {fps} frame{'s' * (fps > 1)} per s"
            figures.append((name, law, most, count / exposure))
            checks += [
                check_between(f"{name}: events per pixel and s", law - most, law + most, count / exposure),
                check_between(f"{name}: share of ON", 0.5 - half, 0.5 + half, ups / max(count, 1)),
                check_between(
                    f"{name}: gaps, chi-square of 19 degrees",
                    0.0, 19 + 5 * math.sqrt(38), _gap_chi2(rows(events)[here], law, 15),
                ),
            ]  # fmt: skip
    return Finding(checks, _bars("shot noise of a static scene", "events per pixel and s", figures))


def _gap_chi2(table: Tensor, rate_hz: float, first: int) -> float:
    """Chi-square of the first gaps of every pixel against an exponential law, in 20 bins of equal probability."""
    pixel = by_pixel(table)
    place = pixel[:, 1] * (1 << 16) + pixel[:, 2]
    gaps = []
    for times in pixel[:, 0].split(place.unique_consecutive(return_counts=True)[1].tolist()):
        if len(times) >= first:
            gaps.append(torch.cat([times[:1], times[:first].diff()]))
    if not gaps:
        return math.inf
    share = 1 - torch.exp(-rate_hz * torch.cat(gaps).double() / 1e6)
    counts = torch.histc(share, 20, 0, 1)
    return float(((counts - len(share) / 20) ** 2 / (len(share) / 20)).sum())


def low_pass(generator: Generator) -> Finding:
    """Oracle 11: a log step through one or two low-pass stages, read off the events frame by frame."""
    dt_us, contrast, cutoff_hz, frames_after = 1_000, 1 / 64, 20.0, 60
    frames = one_pixel([20] + [200] * frames_after)
    t_us, height = dt_us * torch.arange(frames_after + 1), math.log(201 / 21)
    share = min(1.0, 2 * math.pi * cutoff_hz * dt_us * 1e-6 * (200 + 20) / 275)
    n = np.arange(frames_after + 1)
    checks = []
    for poles, path in (
        (2, height * (1 - (1 - share) ** n * (1 + n * share))),
        (1, height * (1 - (1 - share) ** n)),
    ):
        events, _ = generator.convert(
            frames, t_us, contrast_on=contrast, contrast_off=contrast, cutoff_hz=cutoff_hz, poles=poles
        )
        count = torch.searchsorted(events.t_us, t_us, right=True).numpy()
        rest = path - contrast * count
        stages = f"{poles} stage{'s' if poles > 1 else ''}"
        what = f"{stages}: least and most of brightness by formula minus events times C"
        passed = bool((rest > -2e-5).all() and (rest < contrast + 2e-5).all())
        checks.append(
            Check(what, f"0 to {contrast:g} (rounding 2e-5)", f"{rest.min():.6f} to {rest.max():.6f}", passed)
        )
        checks.append(check_equal(f"{stages}: OFF events", 0, int((events.p == 0).sum())))
    clip, clip_us = moving_clip()
    wide, _ = generator.convert(clip, clip_us, cutoff_hz=10_000.0)
    checks.append(
        check_same(
            "a cutoff far above the frame rate: as without", rows(generator.convert(clip, clip_us)[0]), rows(wide)
        )
    )
    ticks = pixel_events(events)
    times = [np.interp(k * contrast, path, t_us.numpy()) for k in range(1, int(path[-1] / contrast) + 1)]
    expected = np.array([times, [1] * len(times)])
    picture = Trace(
        "one stage, every fifth event",
        t_us.numpy(),
        path,
        contrast * np.arange(5, 145, 5),
        expected[:, 4::5],
        ticks[:, 4::5],
    )
    return Finding(checks, picture)


def extremes(generator: Generator) -> Finding:
    """Oracle 12: late times, smallest and oddest sizes, black to white, and what must be refused."""
    frames, t_us = moving_clip()
    early, last = generator.convert(frames, t_us)
    checks = []
    for hours in (1, 24 * 365):
        shift = torch.tensor([hours * 3_600_000_000, 0, 0, 0])
        late, _ = generator.convert(frames, t_us + shift[0])
        checks.append(
            check_same(f"{hours:,} h later: times later by that, to the microsecond", rows(early) + shift, rows(late))
        )
    for eps in (1.0, 1e-3):
        events, _ = generator.convert(one_pixel([0, 255]), torch.tensor([0, 40_000]), brightness=Log(eps))
        checks.append(
            check_equal(f"0 to 255 with eps = {eps:g}: events", math.floor(math.log(255 / eps + 1) / 0.2), len(events))
        )
    for height, width in ((1, 1), (1, 23), (17, 1), (13, 7)):
        part, _ = generator.convert(frames[:, :height, :width].contiguous(), t_us)
        inside = rows(early)[(rows(early)[:, 1] < height) & (rows(early)[:, 2] < width)]
        checks.append(check_same(f"{height} x {width} pixels", inside, rows(part)))
    one, _ = generator.convert(frames[:1], t_us[:1])
    none, same = generator.convert(frames[:0], t_us[:0], state=last)
    checks.append(check_equal("one frame; no frame and a state: events", (0, 0), (len(one), len(none))))
    checks.append(check_equal("no frame leaves the state", True, same_state(same, last)))
    for what, times in (("repeated", [0, 5, 5]), ("decreasing", [0, 5, 4])):
        checks.append(_refused(f"{what} frame times", generator, frames[:3], torch.tensor(times)))
    checks.append(_refused("no frame at the start of a clip", generator, frames[:0], t_us[:0]))
    levels = 0.2 * np.arange(1, 28)
    step, _ = generator.convert(one_pixel([0, 255]), torch.tensor([0, 40_000]))
    expected = np.array([ramp_times(0.2, math.log(256), 40_000), [1] * 27])
    path = np.array([0, math.log(256)])
    return Finding(checks, Trace("0 to 255", np.array([0, 40_000]), path, levels, expected, pixel_events(step)))


def float_extremes(generator: Generator) -> Finding:
    """Oracle 12 on float frames: not-a-number and infinity are refused; float32 and float64 agree where they can."""
    t_us = torch.arange(4) * 10_000
    good = torch.linspace(-2, 2, 4, dtype=torch.float64)[:, None, None].expand(4, 2, 3).clone()
    events, _ = generator.convert(good, t_us)
    checks = [check_equal("4 nat in three frames: events of 6 pixels", 6 * 20, len(events))]
    for name, value in (("NaN", math.nan), ("infinity", math.inf)):
        bad = good.clone()
        bad[2, 1, 1] = value
        checks.append(_refused(f"{name} in one pixel", generator, bad, t_us))
    halves = (good * 8).round() / 8
    pair = [rows(generator.convert(halves.to(dtype), t_us)[0]) for dtype in (torch.float64, torch.float32)]
    checks.append(check_same("float32 as float64, values exact in both", *pair))
    levels = -2 + 0.2 * np.arange(1, 21)
    times = np.array([[1500.0 * k for k in range(1, 21)], [1] * 20])
    trace = Trace("4 nat in 30 ms", t_us.numpy(), good[:, 0, 0].numpy(), levels, times, pixel_events(events))
    return Finding(checks, trace)


def _refused(what: str, generator: Generator, frames: Tensor, t_us: Tensor) -> Check:
    try:
        generator.convert(frames, t_us)
    except InputError as error:
        return Check(what, "an error that says so", str(error), True)
    return Check(what, "an error that says so", "accepted", False)
