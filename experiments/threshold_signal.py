"""The picture and the timings of ``docs/a_threshold_is_a_signal.md``.

Command: ``python experiments/threshold_signal.py`` (half a minute, CPU, one thread). Writes
``experiments/results/threshold_signal.png`` and ``experiments/results/indexing_in_a_loop.json``.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from neuroav.bench.machine import machine
from neuroav.bench.neuron_peers import Spike
from neuroav.files import save_json
from neuroav.neurons import DynamicLIF
from neuroav.neurons.threshold import anchored, event_factor

RESULTS = Path(__file__).parent / "results"
BLUE, VERMILLION, GREY = "#0072b2", "#d55e00", "#5a6471"
STEPS, CALM, BUSY, FIXED = 120, 0.5, 6.0, 0.5


def scene() -> tuple[Tensor, Tensor]:
    """A scene that is busy in its middle third: its events ``(T, B, 1)`` and the current they drive ``(T, B, N)``."""
    generator = torch.Generator().manual_seed(4)
    busy = torch.zeros(STEPS).index_fill(0, torch.arange(STEPS // 3, 2 * STEPS // 3), 1.0)
    events = (CALM + (BUSY - CALM) * busy).view(STEPS, 1, 1)
    current = 0.32 * event_factor(torch.zeros(STEPS, 1, 1), events, torch.full((STEPS, 1, 1), 0.5))
    return events, current + 0.45 * torch.randn(STEPS, 1, 1, generator=generator) * current / current.min()


def threshold_of(events: Tensor) -> Tensor:
    """The threshold signal of Eq. 7 of [mdft] for a scene of which only the events are known."""
    unknown = torch.zeros_like(events)
    return anchored(event_factor(unknown, events, torch.full_like(events, 0.5)), 0.5, 0.5, 2.0)


def draw() -> None:
    """One neuron under a fixed threshold and under a threshold signal."""
    events, current = scene()
    theta, neuron = threshold_of(events), DynamicLIF(1)
    spikes, _, membrane = neuron(current, theta, return_membrane=True)
    fixed = neuron(current, FIXED)[0]
    figure = Figure(figsize=(8, 4.6), layout="constrained", dpi=110)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[2, 4, 1.3])
    top.plot(current.flatten(), color=GREY, lw=1)
    top.set_ylabel("current")
    middle.plot(membrane.flatten(), color=BLUE, lw=1.2, label="membrane before reset")
    middle.plot(theta.flatten(), color=VERMILLION, lw=2, drawstyle="steps-mid", label="threshold signal")
    middle.axhline(FIXED, color=GREY, lw=1, ls="--", label="fixed threshold")
    fired = spikes.flatten().nonzero().flatten()
    middle.plot(fired, membrane.flatten()[fired], "o", color=BLUE, ms=4)
    middle.legend(loc="upper left", frameon=False, ncols=3, fontsize=8)
    middle.set_ylim(top=1.35 * membrane.max().item())
    bottom.eventplot(
        [fired, fixed.flatten().nonzero().flatten()], colors=[VERMILLION, GREY], lineoffsets=[1, 0], linelengths=0.7
    )
    bottom.set_yticks([1, 0], ["signal", "fixed"])
    bottom.set_ylabel("spikes")
    bottom.set_xlabel("step")
    for axis in (top, middle, bottom):
        axis.axvspan(STEPS // 3, 2 * STEPS // 3, color="#f0e8dc", zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
    top.set_title("The scene is busy in the shaded part", loc="left", fontsize=9)
    figure.savefig(RESULTS / "threshold_signal.png")


def _loop(steps: Callable[[Tensor], list[Tensor]]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        v, spikes = torch.zeros(()), []
        for step in steps(x):
            h = v + (step - v) * 0.5
            s = Spike.apply(h - 1.0)
            v = h * (1 - s.detach())
            spikes.append(s)
        return torch.stack(spikes)

    return run


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "x[t]": _loop(lambda x: [x[t] for t in range(len(x))]),
    "x.unbind(0)": _loop(lambda x: list(x.unbind(0))),
    "DynamicLIF": lambda x: DynamicLIF()(x, 1.0)[0],
}


def training_s(run: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> float:
    """Seconds of a forward and a backward pass to ``x``."""
    leaf = x.clone().requires_grad_()
    begin = time.perf_counter()
    run(leaf).backward(grad)
    return time.perf_counter() - begin


def time_indexing(turns: int = 12) -> None:
    """The same neurons, looped over in two ways and fused, for growing T: taking turns, the first not counted."""
    torch.set_num_threads(1)
    rows = []
    for steps in (16, 32, 64, 128):
        x = torch.randn(steps, 64, 512, generator=torch.Generator().manual_seed(0)) + 0.5
        grad = torch.ones_like(x)
        samples = [{way: 1e3 * training_s(run, x, grad) for way, run in WAYS.items()} for _ in range(turns)][1:]
        median, best = (
            {way: round(pick(turn[way] for turn in samples), 2) for way in WAYS} for pick in (statistics.median, min)
        )
        rows.append({"T": steps, "median_ms": median, "best_ms": best})
    report = {"machine": machine(), "size": "(T, 64, 512), float32, one thread", "turns": turns - 1, "rows": rows}
    save_json(RESULTS / "indexing_in_a_loop.json", report)


if __name__ == "__main__":
    draw()
    time_indexing()
