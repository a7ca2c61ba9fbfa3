"""``neuroav bench protocol``: one validation with its search for beta, beside the loop over betas that was released.

Numbers of clips and classes are those of the published validation parts; embeddings and labels are simulated. A run is
the whole evaluation, to S, U, HM, ZSL and beta, either from distances or from embeddings of clips and classes. The
loop does for each of 16 betas what the released evaluation does: distances in a table of all class names of the data
set, 1e14 where a class does not compete, ``beta`` on the seen columns, the nearest class with and without the seen
ones, recalls by counting, means. From embeddings it takes the distances anew for each beta, as released. With
``--peers`` the released evaluation itself is timed too, where a checkout of TCAF-GZSL is on PYTHONPATH. Before anything
is timed all figures are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neuroav.bench.page import Options, figure, head, left_out, mebibytes, skipped, table, timed_row
from neuroav.bench.peers import load
from neuroav.bench.timing import Crew, Job, Runner, Timed, time_side_by_side
from neuroav.gzsl.protocol import BETA_GRID, evaluate_gzsl
from neuroav.nn.losses import prototype_distances
from neuroav.progress import Progress

FIGURES = ("seen", "unseen", "hm", "zsl", "beta")
LOOP, RELEASED = "loop over betas", "TCAF-GZSL"
BAR = 20.0  # how many times faster than the loop a validation has to be
SAME = 1e-6  # the loop averages in float32
ABSENT = 1e14
COLUMNS = ("case", "impl", "median ms", "IQR ms", "best ms", "throughput", "x neuroav", "peak MiB")


@dataclass(frozen=True)
class Case:
    """A validation: ``benchmark`` names the part, ``start`` is ``distances`` or ``embeddings``.

    Attributes:
        benchmark: name in rows.
        clips: of the validation part, seen and unseen.
        seen: number of seen classes.
        unseen: number of unseen classes.
        names: number of class names of the whole data set.
        start: what is given.
    """

    benchmark: str
    clips: int
    seen: int
    unseen: int
    names: int
    start: str = "distances"
    unit: ClassVar[str] = "Mclip/s"

    @property
    def name(self) -> str:
        """How rows call it."""
        return f"{self.benchmark} validation, {self.clips} clips, {self.seen + self.unseen} classes, from {self.start}"

    def simulate(self) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
        """Embeddings ``(B, 64)`` and ``(K, 64)``, not negative as published; labels ``(B,)``; seen ``(K,)``."""
        rng = np.random.default_rng(0)
        seen = rng.permutation(self.seen + self.unseen) < self.seen
        label = rng.integers(seen.size, size=self.clips)
        prototypes = np.abs(rng.standard_normal((seen.size, 64)))
        pull = np.where(seen[label], 1.0, 0.75)[:, None]  # unseen classes are known less well
        clips = np.abs(pull * prototypes[label] + rng.standard_normal((self.clips, 64)))
        return torch.from_numpy(clips).float(), torch.from_numpy(prototypes).float(), label, seen


CASES = tuple(
    Case(*sizes, start=start)
    for sizes in (("UCF", 1820, 30, 12, 101), ("ActivityNet", 5330, 99, 51, 200), ("VGGSound", 10919, 138, 69, 309))
    for start in ("distances", "embeddings")
)


# -------------------------------------------------------------------------------------------- what each process does


def start_neuroav(case: Case) -> Runner:
    """One pass over the margins."""
    clips, prototypes, label, seen = case.simulate()
    given = prototype_distances(clips, prototypes)

    def run() -> list[float]:
        distances = given if case.start == "distances" else prototype_distances(clips, prototypes)
        result = evaluate_gzsl(distances.numpy(), label, seen)
        return [getattr(result, name) for name in FIGURES]

    return Runner(lambda: run, lambda figures: dict(zip(FIGURES, figures, strict=True)))


def start_loop(case: Case) -> Runner:
    """One beta after another."""
    clips, prototypes, label, seen = case.simulate()
    columns = columns_of(case)
    target, kinds = columns[torch.from_numpy(label)], torch.from_numpy(seen)
    known, new = columns[kinds], columns[~kinds]
    given = prototype_distances(clips, prototypes)

    def at(beta: Tensor) -> list[float]:
        table = torch.full((case.clips, case.names), ABSENT)
        table[:, columns] = given if case.start == "distances" else torch.cdist(clips, prototypes)
        handicap, closed = torch.zeros(2, case.names)
        handicap[known], closed[known] = beta, ABSENT
        recall = recalls((table + handicap).argmin(1), target, columns, case.names)
        zsl = recalls((table + closed).argmin(1), target, columns, case.names)[new].mean()
        s, u = recall[known].mean(), recall[new].mean()
        return [figure.item() for figure in (s, u, 2 * s * u / (s + u + 2.2e-16), zsl, beta)]

    def run() -> list[float]:
        tried = [at(beta) for beta in torch.from_numpy(BETA_GRID)]
        return tried[int(np.argmax([figures[2] for figures in tried]))]

    return Runner(lambda: run, lambda figures: dict(zip(FIGURES, figures, strict=True)))


def columns_of(case: Case) -> Tensor:
    """Columns of the classes ``(K,)``, ascending, in a table of all names of the data set."""
    chosen = np.random.default_rng(1).permutation(case.names)[: case.seen + case.unseen]
    return torch.from_numpy(np.sort(chosen))


def recalls(prediction: Tensor, target: Tensor, columns: Tensor, names: int) -> Tensor:
    """Recall of each class in a table of all names, ``(names,)``, 0 where a class does not compete."""
    right = torch.bincount(prediction[prediction == target], minlength=names)
    found = torch.zeros(names)
    found[columns] = (right / torch.bincount(target, minlength=names))[columns]
    return found


def start_released(case: Case) -> Runner:
    """The evaluation of a checkout of TCAF-GZSL, on one output."""
    released = load("src.utils").get_best_evaluation
    clips, prototypes, label, seen = case.simulate()
    columns = columns_of(case)
    ids = {"seen_class_ids": columns[seen].numpy(), "unseen_class_ids": columns[~seen].numpy()}
    data = SimpleNamespace(**ids, all_class_ids=range(case.names))
    target = columns[torch.from_numpy(label)]

    def run() -> dict[str, Any]:
        return released(data, target, clips, clips, prototypes, "video", torch.device("cpu"), None)

    return Runner(lambda: run, lambda found: {name: found[name] for name in FIGURES})


STARTS = {"neuroav": start_neuroav, LOOP: start_loop, RELEASED: start_released}


def jobs_of(case: Case, with_peers: bool, threads: int) -> list[Job]:
    """Return what is timed side by side; the released code can start from embeddings only."""
    impls = ["neuroav", LOOP] + [RELEASED] * (with_peers and case.start == "embeddings")
    return [Job(impl, STARTS[impl], (case,), threads) for impl in impls]


# --------------------------------------------------------------------------------------------------------------- rows


def verify(timed: list[Timed]) -> None:
    """Refuse what found other figures than ours."""
    ours = timed[0]
    for one in timed[1:]:
        if ours.skipped or one.skipped:
            continue
        off = {name: abs(one.figures[name] - ours.figures[name]) for name in FIGURES}
        worst = max(off, key=lambda name: off[name])
        if not off[worst] <= SAME:
            one.skipped = f"its {worst} is {one.figures[worst]:.6f}, ours {ours.figures[worst]:.6f}"


def rows_of(case: Case, timed: Sequence[Timed]) -> list[dict[str, Any]]:
    """Return one row for each implementation that was timed."""
    done = [one for one in timed if one.samples_s and not one.skipped]
    return [
        timed_row("protocol", case.name, one, case.clips, case.unit) | {"best_s": min(one.samples_s)} | one.figures
        for one in done
    ]


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how many times longer the others take than we do, of medians and of best times, per case."""
    ours = {row["case"]: row for row in rows if row["impl"] == "neuroav"}
    found = []
    for row in rows:
        if row["impl"] != "neuroav" and row["case"] in ours:
            ratio, best = (row[key] / ours[row["case"]][key] for key in ("median_s", "best_s"))
            what = f"{row['impl']} / neuroav"
            found.append({"case": row["case"], "what": what, "ratio": ratio, "best_ratio": best})
    return found


def markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown: machine, one table, ratios against the bar, what was left out and why."""
    ours = {row["case"]: row["median_s"] for row in report["rows"] if row["impl"] == "neuroav"}
    rows = [_cells(row, ours.get(row["case"])) for row in report["rows"]]
    lines = [*head("protocol", report["machine"]), "", *table(COLUMNS, rows), ""]
    for one in report["ratios"]:
        verdict = "reached" if one["ratio"] >= BAR else "missed"
        figures = f"{one['ratio']:.1f} (best times: {one['best_ratio']:.1f})"
        lines.append(f"* {one['case']}: {one['what']}: {figures}; bar {BAR:.0f}: {verdict}")
    notes = (
        "Simulated embeddings at the published numbers of clips and classes. Wall time of a whole evaluation with 16 "
        "betas, every implementation in its own process, in turns; all found the same figures."
    )
    return "\n".join([*lines, *left_out(report["skipped"]), "", notes, ""])


def _cells(row: dict[str, Any], ours: float | None) -> list[str]:
    times = [figure(row, key, ".3f", 1e3) for key in ("median_s", "iqr_s", "best_s")]
    beside = "" if ours is None else f"{row['median_s'] / ours:.2f}"
    return [row["case"], row["impl"], *times, f"{row['throughput']:.3f} {row['unit']}", beside, mebibytes(row)]


def protocol_bench_command(options: Options) -> int:
    """Time a validation and print a table; the verb ``neuroav bench protocol``.

    Returns:
        Exit status: 0, or 1 if we or the loop failed, or the two disagree; a peer that fails is left out.

    Raises:
        InputError: If an option is out of range or an output can't be written.
    """
    threads, report = options.begin("protocol")
    planned = [(case, jobs_of(case, options.with_peers, threads)) for case in CASES]
    total = options.repeats * sum(len(jobs) for _, jobs in planned)
    with Crew() as crew, Progress("bench protocol", total=total, unit="turn") as progress:
        for case, jobs in planned:
            timed = time_side_by_side(jobs, options.repeats, verify, lambda one: progress.update(), crew)
            report["rows"] += rows_of(case, timed)
            report["skipped"] += skipped(case.name, timed)
    report["ratios"] = ratios(report["rows"])
    options.finish(report, markdown(report))
    return 1 if any(one["impl"] != RELEASED for one in report["skipped"]) else 0
