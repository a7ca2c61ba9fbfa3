"""``neuroav bench neurons``: one LIF layer, forward and with gradients, beside peers and the speed of memory.

Everybody computes the neuron of :mod:`neuroav.bench.neuron_peers` on the same float32 numbers, each in a process of its
own, in turns; before anything is timed, spikes and gradients are compared with ours, and what computes something else
is left out with the reason. What the columns mean:

==================  ==================================================================================================
median, IQR, best   wall time of a call; inference: ``no_grad``; training: forward and the gradient to x
``floor``           the time in which this machine, in the same turns, copies the bytes that the case can't avoid,
                    from and to buffers of just that size: 8 bytes an element in inference (read x, write the spikes),
                    24 in training (read x, write spikes and membrane; read membrane and the spikes' gradient, write
                    that of x). Small cases live in the cache, and so does their floor
x floor, x neuroav  median over that of the floor, and over ours
tensors             resident memory at the peak of a process's first call, above that before it (see
                    :mod:`neuroav.bench.peaks`), in float32 tensors ``(T, B, N)``; x and the given gradient are not in
                    it, the result is. Measured with as many samples as make a tensor of 16 MiB
spikes differ       share of the spikes that are not ours
==================  ==================================================================================================
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from neuroav.bench import neuron_peers as peers
from neuroav.bench import sparse
from neuroav.bench.machine import memory_copy
from neuroav.bench.neuron_peers import Case
from neuroav.bench.page import Options, figure, head, left_out, mebibytes, table, timed_row
from neuroav.bench.peaks import start_peak
from neuroav.bench.sparse import SparseCase
from neuroav.bench.timing import Crew, Job, Runner, Timed, time_side_by_side
from neuroav.processes import num_cores
from neuroav.progress import Progress

SHAPES = ((4, 64, 512), (16, 64, 512), (16, 64, 4096), (64, 64, 512))
LARGE = 1 << 24  # bytes of a tensor whose peak memory is measured
COMPILED_STEPS = 16  # torch.compile unrolls the steps: more of them take minutes to compile
THREADS = re.compile(r", \d+ threads$")
DYNAMIC_OVER_FIXED, ONE_OVER_SEVERAL = ", theta (T,B,1) / fixed", ", one thread / several"
COLUMNS = (
    *("threshold", "impl", "median ms", "IQR ms", "best ms", "x floor", "x neuroav", "tensors", "spikes differ"),
    "peak MiB",
)
SAME_SPIKES, SAME_GRADIENT = 1e-4, 1e-3  # rounding may turn a spike over; gradients relative to the largest


# -------------------------------------------------------------------------------------------- what each process does


def start_neuroav(case: Case, recompute: bool = False) -> Runner:
    """Our layer."""
    from neuroav.neurons import DynamicLIF, Full, Recompute

    layer = DynamicLIF(tau=2.0, reset="soft", gain="unit", memory=Recompute() if recompute else Full())
    return peers.runner_of(case, lambda x, theta: layer(x, theta)[0])


def start_floor(case: Case) -> Runner:
    """Copy as many bytes as the case has to move."""
    run = memory_copy(bytes_needed(case) // 2)
    return Runner(lambda: run, lambda moved: {"bytes": moved})


def bytes_needed(case: Case) -> int:
    """Return the bytes that a case can't avoid to move; the top of this file says which.

    Example:
        >>> bytes_needed(Case((4, 64, 512), training=False)) // (4 * 64 * 512)
        8
    """
    return (24 if case.training else 8) * case.elements


# ----------------------------------------------------------------------------------------------------- what is timed


@dataclass(frozen=True)
class Plan:
    """An implementation, and where it can run.

    Attributes:
        impl: Its name in rows.
        start: Makes its runner of a case.
        inference: Whether inference is another thing than what is timed already.
        dynamic: Whether it can have a threshold per step and sample.
        threaded: Whether it is also timed on several threads.
        spikes_differ: Share of the spikes that may be others than ours.
        same_gradient: Whether its gradients must be ours.
        compiled: Whether it is compiled first, and only timed where that was asked for.
    """

    impl: str
    start: Callable[[Any], Runner]
    inference: bool = True
    dynamic: bool = True
    threaded: bool = False
    spikes_differ: float = SAME_SPIKES
    same_gradient: bool = True
    compiled: bool = False

    def left_out(self, case: Case) -> dict[str, str] | None:
        """Return where and why this implementation is not timed on this case; ``None`` if it is."""
        if reason := peers.missing(self.impl):
            return {"case": "all", "impl": self.impl, "reason": reason}
        if case.dynamic and not self.dynamic:
            return {"case": "theta (T,B,1)", "impl": self.impl, "reason": "its threshold is one number"}
        if self.compiled and case.shape[0] > COMPILED_STEPS:
            reason = "torch.compile unrolls the steps, and so many take minutes"
            return {"case": f"T={case.shape[0]}", "impl": self.impl, "reason": reason}
        return None


RECOMPUTE = "neuroav, Recompute"
OURS = (
    Plan("neuroav", start_neuroav, threaded=True),
    Plan(RECOMPUTE, partial(start_neuroav, recompute=True), inference=False),
)
PEERS = (
    Plan("torch loop", peers.torch_loop),
    Plan("torch function", peers.torch_function),
    Plan("torch compiled", peers.torch_compiled, compiled=True),
    Plan("SpikingJelly", peers.spikingjelly),
    Plan("SpikingJelly, compiled", peers.spikingjelly_compiled, dynamic=False, compiled=True),
    Plan("snnTorch", peers.snntorch, spikes_differ=0.1, same_gradient=False),
    Plan("norse", peers.norse, dynamic=False, same_gradient=False),
)


@dataclass(frozen=True)
class Entry:
    """One row to be."""

    case: Case | SparseCase
    plan: Plan
    threads: int = 1

    @property
    def name(self) -> str:
        """The case as rows call it."""
        return self.case.name + (f", {self.threads} threads" if self.threads > 1 else "")

    @property
    def job(self) -> Job:
        """What a process is given."""
        return Job(self.plan.impl, self.plan.start, (self.case,), self.threads)


FLOOR = Plan("floor", start_floor)
LAYERS = (
    Plan(sparse.SPARSE, sparse.start_sparse),
    Plan(sparse.DENSE, sparse.start_dense, spikes_differ=1e-3),  # its sums are taken in another order
)


def groups(threads: int, with_peers: bool, compiled: bool) -> tuple[list[list[Entry]], list[dict[str, Any]]]:
    """Return what is timed side by side, a shape and direction each, and what is left out beforehand."""
    plans = OURS + (tuple(plan for plan in PEERS if compiled or not plan.compiled) if with_peers else ())
    found: list[list[Entry]] = []
    skipped: list[dict[str, Any]] = []
    for shape in SHAPES:
        for training in (False, True):
            entries = []
            for case in (Case(shape, training), Case(shape, training, dynamic=True)):
                for plan in plans:
                    if not training and not plan.inference:
                        continue
                    if reason := plan.left_out(case):
                        skipped += [] if reason in skipped else [reason]
                        continue
                    numbers = sorted({1, threads} if plan.threaded else {1})
                    entries += [Entry(case, plan, number) for number in numbers]
            found.append(entries + [Entry(Case(shape, training), FLOOR, number) for number in sorted({1, threads})])
    return found, skipped


def layers() -> list[list[Entry]]:
    """Return the layers timed for the crossover, a spike rate each."""
    cases = [SparseCase(size, rate) for size in sparse.SIZES for rate in sparse.RATES]
    return [[Entry(case, plan) for plan in LAYERS] for case in cases]


def verify(entries: Sequence[Entry], timed: Sequence[Timed]) -> None:
    """Compare spikes and gradients with ours; refuse what computed something else."""
    ours = {
        entry.case: dict(one.figures)
        for entry, one in zip(entries, timed, strict=True)
        if entry.plan.impl == "neuroav" and entry.threads == 1 and not one.skipped
    }
    for entry, one in zip(entries, timed, strict=True):
        spikes, gradient = one.figures.pop("spikes", None), one.figures.pop("gradient", None)
        if one.skipped or spikes is None or entry.case not in ours:
            continue
        differ = float(np.bitwise_count(spikes ^ ours[entry.case]["spikes"]).sum()) / entry.case.num_spikes
        one.figures["spikes_differ"] = differ
        if differ > entry.plan.spikes_differ:
            one.skipped = f"{100 * differ:.2f} % of its spikes are not ours: another neuron"
        elif gradient is not None:
            truth = ours[entry.case]["gradient"]
            off = float(np.abs(gradient - truth).max() / np.abs(truth).max())
            one.figures["gradient_differs"] = off
            if entry.plan.same_gradient and differ == 0 and not off <= SAME_GRADIENT:
                one.skipped = f"its gradients are not ours: off by {off:.2g} of the largest"


def peaks(entries: Sequence[Entry], crew: Crew) -> dict[tuple[str, Any], float]:
    """Return the most memory that each implementation takes, in tensors of the case; one that can't tell is absent."""
    jobs, keys = [], []
    for entry in entries:
        key = (entry.plan.impl, entry.case)
        if isinstance(entry.case, Case) and entry.plan is not FLOOR and not entry.plan.compiled and key not in keys:
            steps, _, neurons = entry.case.shape
            large = replace(entry.case, shape=(steps, math.ceil(LARGE / (4 * steps * neurons)), neurons))
            tiny = replace(large, shape=(1, 1, 1), training=False), replace(large, shape=(1, 1, 1))
            jobs.append(Job(entry.plan.impl, start_peak, (entry.plan.start, large, tiny)))
            keys.append(key)
    done = time_side_by_side(jobs, 0, crew=crew)
    sizes = [4 * job.args[1].elements for job in jobs]
    found = [(key, one.figures.get("peak_bytes"), size) for key, one, size in zip(keys, done, sizes, strict=True)]
    return {key: peak / size for key, peak, size in found if peak is not None}


# --------------------------------------------------------------------------------------------------------------- rows


def rows_of(
    entries: Sequence[Entry], timed: Sequence[Timed], peak: dict[tuple[str, Any], float]
) -> list[dict[str, Any]]:
    """Return the rows of one group: what was timed, and the floor of each case; ``peak`` as from :func:`peaks`."""
    pairs = [(entry, one) for entry, one in zip(entries, timed, strict=True) if one.samples_s and not one.skipped]
    floors = {entry.threads: one for entry, one in pairs if entry.plan is FLOOR}
    rows = []
    for name in dict.fromkeys(entry.name for entry, _ in pairs if entry.plan is not FLOOR):
        mine = [(entry, one) for entry, one in pairs if entry.name == name and entry.plan is not FLOOR]
        threads = mine[0][0].threads
        if floor := floors.get(threads):
            mine.append((Entry(mine[0][0].case, FLOOR, threads), floor))
        rows += [_row(e, one, floor) | _tensors(peak.get((e.plan.impl, e.case))) for e, one in mine]
    return rows


def _row(entry: Entry, one: Timed, floor: Timed | None) -> dict[str, Any]:
    row = timed_row("neurons", entry.name, one, entry.case.elements, entry.case.unit)
    row["best_s"] = min(one.samples_s)
    if floor is not None:
        row["x_floor"] = one.median_s / floor.median_s
    if one is floor:
        return row | {"bytes": one.figures["bytes"], "copy_gb_per_s": one.figures["bytes"] / one.median_s / 1e9}
    return row | one.figures


def _tensors(peak: float | None) -> dict[str, float]:
    return {} if peak is None else {"peak_tensors": peak}


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the ratios that matter, of rows that were timed side by side: of medians, and of best times."""
    by = {(row["case"], row["impl"]): row for row in rows}
    found = []

    def add(case: str, what: str, above: tuple[str, str], below: tuple[str, str]) -> None:
        if above in by and below in by and above != below:
            ratio, best = (by[above][key] / by[below][key] for key in ("median_s", "best_s"))
            found.append({"case": case, "what": what, "ratio": ratio, "best_ratio": best})

    for case, impl in by:
        if impl in {plan.impl for plan in OURS}:
            add(case, f"{impl} / floor", (case, impl), (case, "floor"))
            add(case, f"{impl}{DYNAMIC_OVER_FIXED}", (case, impl), (case.replace("(T,B,1)", "fixed"), impl))
            add(case, f"{impl}{ONE_OVER_SEVERAL}", (THREADS.sub("", case), impl), (case, impl))
        elif impl != "floor":
            add(case, f"{impl} / neuroav", (case, impl), (case, "neuroav"))
    return found


def markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown: machine, a table and ratios per shape and direction, what was left out and why."""
    lines = head("neurons", report["machine"])
    of_neurons = [row["case"].partition(", theta ")[0] for row in report["rows"] if row["unit"] == Case.unit]
    for title in dict.fromkeys(of_neurons):
        rows = [row for row in report["rows"] if row["case"].startswith(f"{title}, ")]
        ours = {row["case"]: row["median_s"] for row in rows if row["impl"] == "neuroav"}
        cells = [_cells(row, title, ours.get(row["case"])) for row in rows]
        lines += ["", f"## {title}", "", *table(COLUMNS, cells)]
        lines += [""] + [
            f"* {one['case'].removeprefix(f'{title}, ')}: {one['what']}: "
            f"{one['ratio']:.2f} (best times: {one['best_ratio']:.2f})"
            for one in report["ratios"]
            if one["case"].startswith(f"{title}, ") and one["what"].endswith((DYNAMIC_OVER_FIXED, ONE_OVER_SEVERAL))
        ]
    lines += sparse.markdown(report["rows"], report["crossovers"])
    notes = (
        "Wall time, every implementation in its own process, in turns. `floor`: copying the bytes that the case can't "
        "avoid (8 an element in inference, 24 in training), in the same turns. Tensors: resident memory at the peak of "
        "a first call above that before it, in float32 tensors (T,B,N), x and the spikes' gradient not counted. Peak "
        "MiB: the whole process."
    )
    return "\n".join([*lines, *left_out(report["skipped"]), "", notes, ""])


def _cells(row: dict[str, Any], title: str, ours: float | None) -> list[str]:
    return [
        row["case"].removeprefix(f"{title}, theta "),
        row["impl"],
        *(figure(row, key, ".3f", 1e3) for key in ("median_s", "iqr_s", "best_s")),
        figure(row, "x_floor", ".2f"),
        "" if ours is None else f"{row['median_s'] / ours:.2f}",
        figure(row, "peak_tensors", ".2f"),
        f"{figure(row, 'spikes_differ', '.2g', 100)} %" if "spikes_differ" in row else "",
        mebibytes(row),
    ]


# ----------------------------------------------------------------------------------------------------------- command


def neurons_bench_command(options: Options, compiled: bool = False) -> int:
    """Time our LIF layer and print a table; the verb ``neuroav bench neurons``.

    Args:
        options: What every bench takes; peers are plain torch too; threads are those of the cases on several (2, or 1
            on a single core), the rest runs on one.
        compiled: With peers: also what ``torch.compile`` makes of them, up to 16 steps; compiling takes minutes.

    Returns:
        Exit status: 0, or 1 if something of ours failed; a peer that fails is left out with its reason.

    Raises:
        InputError: If an option is out of range or an output can't be written.
    """
    threads, report = options.begin("neurons", min(2, num_cores()), compiled=compiled)
    planned, report["skipped"] = groups(threads, options.with_peers, compiled)
    planned += layers()
    failed = 0
    total = options.repeats * sum(map(len, planned))
    with Crew() as crew, Crew() as fresh, Progress("bench neurons", total=total, unit="turn") as progress:
        for entries in planned:
            peak = peaks(entries, fresh)
            jobs = [entry.job for entry in entries]
            check = partial(verify, entries)
            timed = time_side_by_side(jobs, options.repeats, check, lambda one: progress.update(), crew)
            report["rows"] += rows_of(entries, timed, peak)
            lost = [(entry, one) for entry, one in zip(entries, timed, strict=True) if one.skipped]
            report["skipped"] += [{"case": e.name, "impl": e.plan.impl, "reason": one.skipped} for e, one in lost]
            failed += sum(entry.plan in OURS + LAYERS for entry, _ in lost)
    report["ratios"], report["crossovers"] = ratios(report["rows"]), sparse.crossovers(report["rows"])
    options.finish(report, markdown(report))
    return 1 if failed else 0
