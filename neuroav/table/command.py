"""The verb: say what a table takes, run what is missing of it; list all tables."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuroav.checks import InputError, check_choice, fail, nearest, some
from neuroav.config import Comparison
from neuroav.files import check_folder, load_json, save_json
from neuroav.processes import num_cores
from neuroav.report.published import published, published_keys
from neuroav.run import checked_workers, finished, made, run_comparison
from neuroav.table.plan import (
    comparison,
    expected_seconds,
    experiments_folder,
    experiments_of,
    makers_of,
    settings_of,
)
from neuroav.table.result import Job, show
from neuroav.table.size import SIZES
from neuroav.table.source import choose_sources

WHERE = "neuroav table"
SEEDS = "0,1,2,3,4"


def table_command(
    key: str | None,
    *,
    data: str | None = None,
    stores: Sequence[str] = (),
    datasets: Sequence[str] = (),
    size: str = "small",
    seeds: str = SEEDS,
    overrides: Sequence[str] = (),
    out: str | None = None,
    workers: int | None = None,
    json_path: str | None = None,
) -> int:
    """Run what is missing of a table, print it beside the published one, write it into a folder."""
    if key is None:
        return list_command(json_path)
    if key not in published_keys():
        raise fail(WHERE, "a key that neuroav table lists", repr(key), nearest(key, published_keys()))
    check_choice(WHERE, "size", size, SIZES)
    if any(assignment.partition("=")[0] == "seed" for assignment in overrides):
        raise fail("--set", "no seed", "one", "Say --seeds: a table has a run of each.")
    workers, chosen, printed = checked_workers("table", workers), _seeds(seeds), published(key)
    makers = makers_of(printed)
    sources = choose_sources(printed, size, data, stores, datasets)
    folder = Path(out or f"runs/table/{key}-{'+'.join(source.name for source in sources)}-{size}")
    _check_folder(folder, key, [source.name for source in sources])
    changed = f" Changed: {', '.join(overrides)}." if overrides else ""
    plans = []
    for source in sources:
        rows = experiments_of(makers, source, size, overrides, settings_of(printed, source.data_set))
        asked = replace(source, data=next(iter(rows.values())).data)
        note = f"{asked.sentence} {SIZES[size].sentence()}{changed}"
        plans.append(comparison(key, source, rows, chosen, note))
    options = {"--data": [data], "--store": stores, "--dataset": datasets, "--size": [size], "--seeds": [seeds]}
    command = _typed(key, options | {"--set": overrides})
    job = Job(printed, tuple(sources), tuple(plans), size, chosen, folder, command)
    _announce(job, len(makers))
    with made(folder):
        for source, plan in zip(sources, plans, strict=True):
            _announce_time(plan, folder / source.name, workers)
        results = [run_comparison(p, folder / s.name, workers) for s, p in zip(sources, plans, strict=True)]
    return show(job, [result["rows"] for result in results], json_path)


def _typed(key: str, options: Mapping[str, Sequence[str | None]]) -> str:
    """The command as it would be typed."""
    given = [word for name, values in options.items() for value in values if value for word in (name, value)]
    return shlex.join(["neuroav", "table", key, *given])


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise fail("--seeds", "different whole numbers such as 0,1,2", repr(text))
    return tuple(map(int, parts))


def _check_folder(folder: Path, key: str, sources: Sequence[str]) -> None:
    check_folder("--out", folder)
    if (folder / "results.json").exists():
        raise fail(str(folder), "the directory of a table", "that of a run or a comparison", "Choose another --out.")
    if (folder / "table.json").exists() and (there := load_json(folder / "table.json").get("key")) != key:
        raise fail(str(folder), f"the directory of {key}", f"that of {there}", "Choose another --out.")
    if folder.is_dir() and not (folder / "table.json").exists():
        others = sorted(path.name for path in folder.iterdir() if path.name not in sources)
        if others:
            raise fail(str(folder), "an empty directory or that of a table", some(others), "Choose another --out.")


def _announce(job: Job, ours: int) -> None:
    default = " (the default; --seeds has others)" if job.seeds == _seeds(SEEDS) else ""
    runs = sum(len(plan.runs) for plan in job.plans)
    numbers = f"seed{'s' * (len(job.seeds) > 1)} {', '.join(map(str, job.seeds))}{default}"
    lines = [
        f"{job.printed.key}: {job.printed.caption}",
        *(plan.note for plan in job.plans),
        f"{ours} of {len(job.printed.rows)} printed rows, {numbers}: {runs} runs in {job.folder}",
    ]
    sys.stderr.write("\n".join(lines) + "\n")


def _announce_time(plan: Comparison, out: Path, workers: int) -> None:
    seconds = expected_seconds(plan, out, workers)
    missing = sum(not finished(out / folder, run) for folder, run in plan.runs)
    if missing:
        many = f"{workers} processes" if workers > 1 else "one process"
        sys.stderr.write(f"{plan.name}: {missing} runs to do, about {duration(seconds)} on {many}\n")
    else:
        sys.stderr.write(f"{plan.name}: every run is there\n")


def duration(seconds: float) -> str:
    """Return a time in words.

    Example:
        >>> [duration(s) for s in (20, 400, 9000, 400000)]
        ['20 s', '7 min', '2.5 h', '4.6 days']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


# ------------------------------------------------------------------------------------------------ the list

# Of one run at size small on one core of two busy ones: 300 steps and what goes with them.
RUN_S = {"mdft": 80, "perceiver": 350, "ez_avgzl": 190, "sacma": 220, "tcaf": 130, "avmst": 90, "tsart": 60}
OTHER_S = 20


def list_command(json_path: str | None) -> int:
    """List every key, with how many rows we have and the time they take at size small."""
    workers, seeds = num_cores(), len(_seeds(SEEDS))
    experiments_folder()  # or nothing can be run at all
    entries: list[dict[str, Any]] = []
    for key in published_keys():
        printed = published(key)
        try:
            makers = makers_of(printed)
        except InputError:
            makers = {}  # the command for this table says why
        seconds = sum(RUN_S.get(maker().model, OTHER_S) for maker in makers.values()) * seeds / workers
        entries.append(
            {"key": key, "rows": len(printed.rows), "ours": len(makers), "seconds": seconds, "caption": printed.caption}
        )
    for entry in entries:
        ours = f"{entry['ours']} of {entry['rows']} rows"
        sys.stdout.write(f"{entry['key']:18} {ours:15} {duration(entry['seconds']):>8}  {entry['caption']}\n")
    sys.stdout.write(
        f"Times: --size small, {seeds} seeds, {workers} processes on quiet cores; --data motionscenes adds controls. "
        "Run one with neuroav table KEY; with published features: --store ucf=FILE.\n"
    )
    if json_path is not None:
        save_json(Path(json_path), {"tables": entries})
    return 0
