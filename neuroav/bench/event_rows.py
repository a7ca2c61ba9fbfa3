"""From timings of events to what is printed: rows, the floor of each case, ratios, and the table.

The ``floor`` of a case is the time in which this machine, copying memory in the same turns, moves the bytes that the
case can't avoid:

=====================  ==============================================================================================
frames to a list       ``F H W + 16 H W + 13 E``: each frame read once, the pixel state (8 bytes) read and written
                       once, an event written once (t int64, x and y int16, p uint8)
frames to bins         ``F H W + 16 H W + b``, ``b`` the bytes of the bins
a list to bins         ``13 E + b``
a file to HDF5         none: it stands beside the bare decoder instead
=====================  ==============================================================================================

A clip that fits in the processor's cache can be faster than this floor, which is measured in main memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neuroav.bench.clips import Frames
from neuroav.bench.page import figure, head, left_out, mebibytes, table, timed_row
from neuroav.bench.timing import Job, Timed

LIST, FUSED, GATHERED, FILE = "list", "fused", "gathered", "file to HDF5"
COLUMNS = ("case", "impl", "median ms", "IQR ms", "throughput", "Mevent/s", "peak MiB")


@dataclass(frozen=True)
class Entry:
    """One row to be: ``family`` ties a peer to the run of ours that it is checked against; ``kind`` sets the floor."""

    case: str
    family: str
    kind: str
    job: Job


def rows_of(clip: Frames, entries: Sequence[Entry], timed: Sequence[Timed]) -> list[dict[str, Any]]:
    """Return the rows of one group: what was timed, and a floor for each case of ours that has one."""
    decoded = next((one.figures["pixels"] for one in timed if "pixels" in one.figures), clip.frames.size)
    copies = {one.job.threads: one for one in timed if one.job.impl == "floor" and one.samples_s}
    rows: dict[str, list[dict[str, Any]]] = {}
    floors: dict[str, dict[str, Any]] = {}
    for entry, one in zip(entries, timed, strict=True):
        if one.job.impl == "floor" or one.skipped:
            continue
        row = _row(clip, entry, one, decoded)
        rows.setdefault(entry.case, []).append(row)
        if one.job.impl == "neuroav" and entry.kind != FILE and one.job.threads in copies:
            needed = bytes_needed(clip, entry.kind, one.figures)
            floors[entry.case] = _floor_row(row, needed, copies[one.job.threads])
    for case, floor in floors.items():
        rows[case].append(floor)
    return [row for group in rows.values() for row in group]


def _row(clip: Frames, entry: Entry, one: Timed, pixels: int) -> dict[str, Any]:
    figures, unit = one.figures, "Mevent/s" if entry.kind == GATHERED else "Mpixel/s"
    work = figures["events"] if unit == "Mevent/s" else pixels
    row = timed_row("events", f"{entry.case}, {clip.name}", one, work, unit)
    if "events" in figures:
        row |= {"events": figures["events"], "mevent_per_s": figures["events"] / one.median_s / 1e6}
    if "same_places" in figures:
        row |= {"same_places": figures["same_places"]}
    return row


def bytes_needed(clip: Frames, kind: str, figures: dict[str, Any]) -> int:
    """Return the bytes that a case can't avoid to move; the formulas are at the top of this file."""
    height, width = clip.size
    through = 0 if kind == GATHERED else clip.frames.size + 16 * height * width
    events = 13 * figures["events"] if kind in (LIST, GATHERED) else 0
    return through + events + figures.get("bytes", 0)


def _floor_row(row: dict[str, Any], needed: int, copy: Timed) -> dict[str, Any]:
    share = needed / copy.figures["bytes"]
    seconds = copy.median_s * share
    figures = {
        "impl": "floor",
        "median_s": seconds,
        "iqr_s": None if copy.iqr_s is None else copy.iqr_s * share,
        "throughput": row["throughput"] * row["median_s"] / seconds,
        "max_rss_bytes": copy.max_rss_bytes,
        "base_rss_bytes": copy.base_rss_bytes,
        "samples": len(copy.samples_s),
        "bytes": needed,
        "copy_gb_per_s": copy.figures["bytes"] / copy.median_s / 1e9,
    }
    kept = {key: value for key, value in row.items() if key not in ("mevent_per_s", "same_places")}
    return kept | figures


def ratios(rows: Sequence[dict[str, Any]], clip: str) -> list[dict[str, Any]]:
    """Return the ratios of throughput that matter for one clip, of rows that were timed side by side."""
    by = {
        (row["case"].removesuffix(f", {clip}"), row["impl"]): row["throughput"] for row in rows if clip in row["case"]
    }
    found = []

    def add(what: str, above: tuple[str, str], below: tuple[str, str]) -> None:
        if above in by and below in by:
            found.append({"clip": clip, "what": what, "ratio": by[above] / by[below]})

    for case in dict.fromkeys(case for case, impl in by if impl == "neuroav"):
        for impl in [impl for other, impl in by if other == case and impl != "neuroav"]:
            add(f"{case}: neuroav / {impl}", (case, "neuroav"), (case, impl))
    for case in [case for case, _ in by if case.endswith("threads")]:
        if (case, "neuroav") in by:
            add(f"{case} / one thread", (case, "neuroav"), (case.rsplit(",", 1)[0], "neuroav"))
    for bins in ("counts", "voxels"):
        add(f"fused {bins} / list", (f"ideal {bins}", "neuroav"), ("ideal list", "neuroav"))
    return list({one["what"]: one for one in found}.values())


def markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown: machine, one table per clip, ratios, what was left out and why."""
    lines = head("events", report["machine"])
    for clip in report["clips"]:
        name = clip["clip"]
        rows = [_cells(row, name) for row in report["rows"] if row["case"].endswith(name)]
        lines += ["", f"## {name}, {clip['frames']} frames", "", *table(COLUMNS, rows)]
        lines += [""] + [f"* {one['what']}: {one['ratio']:.2f}" for one in report["ratios"] if one["clip"] == name]
    lines += left_out(report["skipped"])
    notes = (
        "Wall time; every implementation in its own process, in turns. `floor`: the time to copy the bytes that the "
        "case can't avoid, at the speed of memory measured in the same turns. Peak memory is that of the whole "
        "process, interpreter, libraries and the decoded clip included."
    )
    return "\n".join([*lines, "", notes, ""])


def _cells(row: dict[str, Any], clip: str) -> list[str]:
    times = [figure(row, key, ".2f", 1e3) for key in ("median_s", "iqr_s")]
    speeds = [f"{row['throughput']:.1f} {row['unit']}", figure(row, "mevent_per_s", ".1f")]
    return [row["case"].removesuffix(f", {clip}"), row["impl"], *times, *speeds, mebibytes(row)]
