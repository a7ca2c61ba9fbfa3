"""``neuroav bench`` without a name: every bench one after the other, and one page of ratios from their rows.

A ratio is of median times: another implementation over ours on the same case, so that above 1 we are faster; and ours
over the ``floor``, the least time that the case can take, so that 1 is the most to be had. Where a bench compares
models rather than implementations (``train``), each of them stands beside the first.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from neuroav.bench import neuron_peers, peers
from neuroav.bench.energy import energy_bench_command
from neuroav.bench.events import DECODING, events_bench_command
from neuroav.bench.neurons import neurons_bench_command
from neuroav.bench.page import Options, head, left_out
from neuroav.bench.protocol import protocol_bench_command
from neuroav.bench.train import train_bench_command
from neuroav.checks import NeuroavError
from neuroav.files import load_json

COMMANDS: dict[str, Callable[..., int]] = {
    "events": events_bench_command,
    "neurons": neurons_bench_command,
    "train": train_bench_command,
    "protocol": protocol_bench_command,
    "energy": energy_bench_command,
}
OURS, FLOOR = "neuroav", "floor"
FLOORS = (FLOOR, DECODING)


def every_bench_command(options: Options, **own: Mapping[str, Any]) -> int:
    """Run every bench, print what each prints, then the page of ratios; the verb ``neuroav bench``.

    Args:
        options: What every bench takes.
        **own: By the name of a bench, what it alone takes.

    Returns:
        Exit status: 0, or 1 if something of ours failed.

    Raises:
        InputError: If an option is out of range, a clip doesn't decode or an output can't be written.
    """
    _, report = options.begin("")
    report["settings"] = {}  # each bench has its own
    if options.with_peers:
        report["machine"]["peers"] = versions_of([*peers.PACKAGES.values(), *neuron_peers.PACKAGES.values()])
    failed = []
    with tempfile.TemporaryDirectory(prefix="neuroav-bench-") as folder:
        for name, command in COMMANDS.items():
            path = Path(folder) / f"{name}.json"
            try:
                status = command(replace(options, json_path=str(path), out=None), **own.get(name, {}))
            except NeuroavError as error:  # what the others found is kept
                if not report["rows"]:
                    raise
                status = 1
                report["skipped"].append({"case": "all", "impl": name, "reason": str(error)})
            failed += [name] if status else []
            if path.exists():
                _add(report, name, load_json(path))
    report["ratios"] = ratios(report["rows"])
    sys.stdout.write("\n")
    options.finish(report, markdown(report, failed))
    return 1 if failed else 0


def versions_of(packages: Iterable[str]) -> str:
    """Return the versions of those packages that are installed, by the names they are installed under.

    Example:
        >>> versions_of(["no_such_package"])
        'none installed'
    """
    names = metadata.packages_distributions()
    found = dict.fromkeys(name for package in packages for name in names.get(package, ()))
    return ", ".join(f"{name} {metadata.version(name)}" for name in found) or "none installed"


def _add(report: dict[str, Any], name: str, one: dict[str, Any]) -> None:
    report["rows"] += one["rows"]
    report["skipped"] += [each | {"case": f"{name}, {each['case']}"} for each in one["skipped"]]
    report["settings"][name] = one["settings"]


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the ratios of rows of any bench, as the top of this file says.

    Example:
        >>> times = {"neuroav": 2.0, "v2e": 10.0, "floor": 0.5}
        >>> rows = [{"bench": "events", "case": "a", "impl": impl, "median_s": s} for impl, s in times.items()]
        >>> [(each["what"], each["ratio"]) for each in ratios(rows)]
        [('v2e / neuroav', 5.0), ('neuroav / floor', 4.0)]
    """
    cases: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        cases.setdefault((row["bench"], row["case"]), {})[row["impl"]] = row["median_s"]
    found = []
    for (bench, case), times in cases.items():
        first = OURS if OURS in times else next((impl for impl in times if impl not in FLOORS), FLOOR)
        pairs = [(impl, first) for impl in times if impl not in (first, *FLOORS)]
        pairs += [(OURS, floor) for floor in FLOORS if OURS in times and floor in times]
        for above, below in pairs:
            what = f"{above} / {below}"
            found.append({"bench": bench, "case": case, "what": what, "ratio": times[above] / times[below]})
    return found


def markdown(report: dict[str, Any], failed: Sequence[str]) -> str:
    """Return the page: machine, each pair over all cases, every case, what failed or was left out."""
    lines = [*head("", report["machine"]), "", *(f"**Failed: {name}.**" for name in failed), ""]
    lines += ["## Over all cases", ""]
    lines += ["| bench | times | cases | geometric mean | lowest | highest |", "|---|---|--:|--:|--:|--:|"]
    pairs: dict[tuple[str, str], list[float]] = {}
    for one in report["ratios"]:
        pairs.setdefault((one["bench"], one["what"]), []).append(one["ratio"])
    for (bench, what), values in pairs.items():
        figures = " | ".join(f"{value:.2f}" for value in (geometric_mean(values), min(values), max(values)))
        lines.append(f"| {bench} | {what} | {len(values)} | {figures} |")
    lines += ["", "## Every case", "", "| bench | case | times | ratio |", "|---|---|---|--:|"]
    lines += [f"| {one['bench']} | {one['case']} | {one['what']} | {one['ratio']:.2f} |" for one in report["ratios"]]
    notes = (
        "Ratios of median wall times, of runs in turns. Another implementation / neuroav: above 1 neuroav is faster. "
        "neuroav / floor: how many times the least possible (of a file, decoding it); for energy, counting over a "
        "plain pass. A model / the first of them: below 1 its step takes less time."
    )
    return "\n".join([*lines, *left_out(report["skipped"]), "", notes, ""])
