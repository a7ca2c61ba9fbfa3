"""The full camera model in plain PyTorch: these functions define what the kernels of csrc/common/camera.h compute.

All arithmetic is int64; a shift to the right rounds down. Names and steps are those of csrc/common/{random,camera}.h.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuroav.kernels import reference_bins

DRAW_LEAK, DRAW_SHOT, DRAW_VOLTAGE = range(3)  # purposes of draws; neuroav.events.noise has more
ADVANCE, HOLD, BLIND = range(3)
DEAD, NEVER = (1 << 31) - 1, 1 << 62
MOST_VOLTAGE, MOST_LEAK, MOST_REFERENCE = 1 << 27, 1 << 28, 1 << 30
WORD = (1 << 32) - 1


def philox(place: Tensor, frame: int, purpose: int, draw: int | Tensor, seed: int) -> tuple[Tensor, ...]:
    """Return four words of 32 bits (int64) for every place: Philox-4x32-10 of [salmon2011]."""
    a, b, c, d = (torch.zeros_like(place) + word for word in (place, frame & WORD, purpose, draw))
    key_low, key_high = seed & WORD, seed >> 32
    for _ in range(10):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57  # may wrap; the bits are right
        a, b = ((right >> 32) & WORD) ^ b ^ key_low, right & WORD
        c, d = ((left >> 32) & WORD) ^ d ^ key_high, left & WORD
        key_low, key_high = (key_low + 0x9E3779B9) & WORD, (key_high + 0xBB67AE85) & WORD
    return a, b, c, d


def gaussian(normal: Tensor, word: Tensor) -> Tensor:
    """Return Gaussians of variance 1 in units of 2^-16."""
    return normal[word & 1023].long() + normal[(word >> 10) & 1023]


def waiting_time(exponential: Tensor, word: Tensor, fraction: Tensor) -> Tensor:
    """Return exponential waiting times of mean 1 in units of 2^-20."""
    zeros = 32 - torch.frexp(word.double()).exponent.long()  # of the 32 bits, before the first one
    table, i, between = exponential.long(), fraction >> 22, (fraction >> 6) & 0xFFFF
    return zeros * table[0] + table[i] + (((table[i + 1] - table[i]) * between) >> 16)


def gap_us(exponential: Tensor, words: Sequence[Tensor], period: Tensor) -> Tensor:
    """Return the microseconds to a pixel's next candidate for shot noise, at least 1."""
    return ((waiting_time(exponential, words[0], words[1]) * period + (1 << 25)) >> 26).clamp(min=1)


def rounded_shift(value: Tensor, bits: int) -> Tensor:
    """Return ``value`` times 2^-bits to the nearest integer, halves away from zero."""
    return (value + (1 << (bits - 1)) - (value < 0).long()) >> bits


def low_passed(state: Tensor, target: Tensor | int, share: Tensor | int) -> Tensor:
    """Return ``state`` after one step of a low pass towards ``target``, ``share`` in 2^-24."""
    return state + rounded_shift(share * (target - state), 24)


def leak_of(leak: Tensor, dt_us: int, jitter: int, gauss: Tensor | int, frame: int) -> Tensor:
    """Return by how much each reference leaks in an interval."""
    amount = ((leak * dt_us) >> 12).clamp(max=MOST_LEAK << 8)
    factor = (1 << 16) - ((jitter * gauss) >> 16)
    offset = ((frame * 0x9E3779B1) & WORD) >> 8
    return ((amount * factor + offset) >> 24).clamp(-MOST_LEAK, MOST_LEAK)


def camera_events(
    clip: Sequence[Tensor], sensor: Sequence[Tensor], numbers: Sequence[int], state: Sequence[Tensor], labels: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    """Turn frames into sorted events; arguments as in :mod:`neuroav.kernels.camera`, the model in events/noise.py."""
    height, width = state[0].shape
    top, left = numbers[7:9]
    y, x = torch.meshgrid(*(torch.arange(n, device=state[0].device) for n in (height, width)), indexing="ij")
    places = (((y + top) << 16) | ((x + left) << 1)).flatten()
    pixels = _Pixels(clip, sensor, numbers, state, places)
    parts = [torch.empty(4, 0, dtype=torch.int64, device=places.device)]
    parts += [pixels.interval(frame) for frame in range(len(clip[2]) - 1)]
    t_us, place, p, noise = torch.cat(parts, dim=1)
    moved = [tensor.reshape(old.shape).to(old.dtype) for tensor, old in zip(pixels.state, state, strict=True)]
    noise = noise.to(torch.uint8) if labels else noise.new_empty(0, dtype=torch.uint8)
    x, y = ((place & 0xFFFF) >> 1).to(torch.int16), (place >> 16).to(torch.int16)
    return t_us.clone(), x, y, p.to(torch.uint8), noise, moved


def camera_bins(
    clip: Sequence[Tensor], sensor: Sequence[Tensor], numbers: Sequence[int], state: Sequence[Tensor], kind: int,
    bin_edges_us: Tensor, rows: int, columns: int,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """Gather the events of :func:`camera_events` in bins; returns bins and new state."""
    t_us, x, y, p, _, state = camera_events(clip, sensor, numbers, state, False)
    height, width = state[0].shape
    return reference_bins.bin_events(t_us, x, y, p, height, width, kind, bin_edges_us, rows, columns), state


class _Pixels:
    """The pixels of a sensor, flat, and what they remember."""

    def __init__(self, clip, sensor, numbers, state, places):
        self.greys, self.levels, edges_us, self.shares, self.steps = clip
        self.edges_us = edges_us.tolist()
        self.table, on, off, leak, period, self.accept, self.normal, self.exponential = sensor
        self.on, self.off, self.leak = on.flatten().long(), off.flatten().long(), leak.flatten().long()
        self.period = period.flatten()
        self.nominal, (self.rule, self.refractory_us, self.jitter) = numbers[:2], numbers[2:5]
        self.seed, self.frame = numbers[5:7]
        self.state = [tensor.flatten().long() for tensor in state]
        self.places = places

    def interval(self, frame: int) -> Tensor:
        """Return rows ``t, place, p, noise`` ``(4, E)`` of one interval, sorted; moves the state."""
        a0, a1, rise, leak = self._see(frame)
        walk = _Walk(self, frame, a0, a1, rise)
        events = walk.run()
        self.state[0] = (self.state[0] - leak).clamp(-MOST_REFERENCE, MOST_REFERENCE)
        return events

    def _see(self, frame: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the brightness at both ends of the interval, how the scene moved, and the leak."""
        _, last, stage, voltage, *_ = self.state
        number, dt_us = (self.frame + frame) & WORD, self.edges_us[frame + 1] - self.edges_us[frame]
        grey = self.greys[frame].flatten().long() if len(self.greys) else None
        target = self.levels[frame].flatten().long() if len(self.levels) else self.table[grey].long()
        if len(self.shares):
            share = self.shares[frame].long()[grey]
            if len(stage):
                self.state[2] = target = low_passed(stage, target, share)
            target = low_passed(last, target, share)
        self.state[1] = target
        rise, a0, a1 = target - last, last, target
        if len(self.steps):
            share, gain = self.steps[frame].tolist()
            driven = low_passed(voltage, 0, share) + rounded_shift(gain * self._gaussian(DRAW_VOLTAGE, number), 16)
            self.state[3] = driven.clamp(-MOST_VOLTAGE, MOST_VOLTAGE)
            a0, a1 = a0 + voltage, a1 + self.state[3]
        leak = torch.zeros_like(last)
        if len(self.leak):
            gauss = self._gaussian(DRAW_LEAK, number) if self.jitter else 0
            leak = leak_of(self.leak, dt_us, self.jitter, gauss, number)
        return a0, a1 + leak, rise, leak

    def _gaussian(self, purpose: int, frame: int) -> Tensor:
        """Return one Gaussian per pixel; four frames share a draw."""
        return gaussian(self.normal, philox(self.places, frame >> 2, purpose, 0, self.seed)[frame & 3])


class _Walk:
    """Everything the pixels fire in one interval: each round of the loop does one thing per pixel that is not done."""

    def __init__(self, pixels: _Pixels, frame: int, a0: Tensor, a1: Tensor, rise: Tensor):
        self.pixels, self.a0, self.a1 = pixels, a0, a1
        self.start_us = pixels.edges_us[frame]
        self.dt = pixels.edges_us[frame + 1] - self.start_us
        self.frame = pixels.frame + frame
        self.reference, _, _, _, next_us, fired_us = pixels.state
        self.shot = (next_us if len(next_us) else torch.full_like(a0, NEVER)) - self.start_us
        fired_us = fired_us if len(fired_us) else torch.full_like(a0, -NEVER)
        self.ready = fired_us + pixels.refractory_us - self.start_us
        self.blind = (self.ready > 0) & (pixels.rule == BLIND)
        self.now = torch.ones_like(a0)
        self.accept = torch.zeros_like(a0)
        if len(pixels.accept):
            self.accept = pixels.accept[pixels.greys[frame].flatten().long()].long()
        has_voltage = len(pixels.steps) > 0
        self.noise_on = (rise <= 0) & (has_voltage or len(pixels.leak) > 0)
        self.noise_off = (rise >= 0) & has_voltage
        self.rows: list[Tensor] = []

    def run(self) -> Tensor:
        """Return the events; the reference and the times in the state of the pixels have moved."""
        who = (self.pixels.on != DEAD).nonzero()[:, 0]
        draw = torch.zeros_like(self.a0)
        while len(who):
            stop = self.shot[who].clamp(max=self.dt)
            crossed = self._cross(who, stop)
            who, rest = who[crossed], who[~crossed]
            rest = rest[self.shot[rest] <= self.dt]
            if len(rest):
                self._shoot(rest, draw[rest])
                draw[rest] += 1
            who = torch.cat([who, rest])
        state = self.pixels.state
        state[0] = self.reference
        if len(state[4]):
            state[4] = self.shot + self.start_us
        if len(state[5]):
            state[5] = self.ready - self.pixels.refractory_us + self.start_us
        return self._sorted()

    def _cross(self, who: Tensor, stop: Tensor) -> Tensor:
        """Do the next threshold crossing up to ``stop``; says which pixels had one."""
        pixels = self.pixels
        wakes = who[self.blind[who] & (self.ready[who] <= stop)]
        self.reference[wakes] = self._brightness(wakes, self.ready[wakes])
        self.now[wakes], self.blind[wakes] = self.ready[wakes], False
        since = torch.maximum(self.now, self.ready)[who] if pixels.rule == HOLD else self.now[who]
        rise, change = (self.a1 - self.a0)[who], (self.a0 - self.reference)[who]
        up = _first_reached(pixels.on[who] - change, rise, self.dt, since)
        down = _first_reached(pixels.off[who] + change, -rise, self.dt, since)
        t, is_on = torch.minimum(up, down), up < down
        crossed = ~self.blind[who] & (since <= stop) & (t <= stop)
        here, t, is_on = who[crossed], t[crossed], is_on[crossed]
        fires = (t >= self.ready[here]) | (pixels.rule != ADVANCE)
        noise = torch.where(is_on, self.noise_on[here], self.noise_off[here])
        self._fire(here[fires], t[fires], is_on[fires], noise[fires])
        if pixels.rule != BLIND:
            self.reference[here] += torch.where(is_on, pixels.on[here], -pixels.off[here])
        self.now[here] = t
        return crossed

    def _shoot(self, who: Tensor, draw: Tensor) -> None:
        """Take the next candidate for shot noise and set the time of the one after."""
        pixels = self.pixels
        words = philox(pixels.places[who], self.frame, DRAW_SHOT, draw, pixels.seed)
        t, on, off = self.shot[who], pixels.on[who], pixels.off[who]
        fires = (self.ready[who] <= t) & ((words[2] >> 12) < self.accept[who])
        weights = (pixels.nominal[0] >> 8) * (off >> 8), (pixels.nominal[1] >> 8) * (on >> 8)
        is_on = (words[3] >> 12) * (weights[0] + weights[1]) < weights[0] << 20
        here = who[fires]
        self._fire(here, t[fires], is_on[fires], torch.ones_like(here))
        self.reference[here] = self._brightness(here, t[fires])
        self.now[who] = t
        self.shot[who] = t + gap_us(pixels.exponential, words, pixels.period[who])

    def _fire(self, who: Tensor, t: Tensor, is_on: Tensor, noise: Tensor) -> None:
        self.rows.append(torch.stack([t + self.start_us, self.pixels.places[who], is_on.long(), noise.long()]))
        self.ready[who] = t + self.pixels.refractory_us
        self.blind[who] = self.pixels.rule == BLIND

    def _brightness(self, who: Tensor, t: Tensor) -> Tensor:
        """Return the brightness ``t`` after the start of the interval, rounded towards that at the start."""
        change = (self.a1 - self.a0)[who]
        return self.a0[who] + change.sign() * (change.abs() * t // self.dt)

    def _sorted(self) -> Tensor:
        """Return the rows by time, then place, then emission."""
        rows = torch.cat([*self.rows, torch.empty(4, 0, dtype=torch.int64, device=self.a0.device)], dim=1)
        rows = rows[:, rows[1].argsort(stable=True)]
        return rows[:, rows[0].argsort(stable=True)]


def _first_reached(way: Tensor, rise: Tensor, dt: int, since: Tensor) -> Tensor:
    """Return the first microsecond from ``since`` on at which what lacks ``way`` and rises by ``rise`` is there."""
    stays = (rise >= 0) | (way <= rise) | (-way * dt >= -rise * since)
    t = (way * dt + rise - 1) // rise.clamp(min=1)
    later = torch.where(way > rise, NEVER, torch.maximum(t, since))
    return torch.where(way <= 0, torch.where(stays, since, NEVER), later)
