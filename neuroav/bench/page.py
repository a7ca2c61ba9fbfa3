"""What every bench has: options, a report to fill, the row of a timing, and the page that it prints and writes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroav.bench.machine import machine
from neuroav.bench.timing import Timed
from neuroav.checks import check_range
from neuroav.files import check_output, save_json, save_text


@dataclass(frozen=True)
class Options:
    """What every bench can be asked for.

    Args:
        with_peers: Also time other libraries that are installed, and released code that is on PYTHONPATH.
        threads: Threads of torch in each process; the bench says how many without.
        repeats: Turns of everybody.
        json_path: Also write machine, settings, rows, ratios and what was left out here.
        out: Also write the page here, as Markdown.
    """

    with_peers: bool = False
    threads: int | None = None
    repeats: int = 7
    json_path: str | None = None
    out: str | None = None

    def begin(self, bench: str, threads: int = 1, **settings: Any) -> tuple[int, dict[str, Any]]:
        """Return the threads, ``threads`` unless asked for, and a report to fill that has the settings.

        Raises:
            InputError: If an option is out of range or an output can't be written, before any work is done.
        """
        where = f"neuroav bench {bench}".rstrip()
        threads = threads if self.threads is None else self.threads
        check_range(where, "--threads", threads, 1, 1024)
        check_range(where, "--repeats", self.repeats, 1, 1000)
        check_output("--json", self.json_path)
        check_output("--out", self.out)
        settings = {"threads": threads, "repeats": self.repeats, "peers": self.with_peers} | settings
        return threads, {"machine": machine(), "rows": [], "ratios": [], "skipped": [], "settings": settings}

    def finish(self, report: dict[str, Any], page: str) -> None:
        """Print the page; write it and the report where asked to."""
        sys.stdout.write(page)
        if self.json_path is not None:
            save_json(Path(self.json_path), report)
        if self.out is not None:
            save_text(Path(self.out), page)


def timed_row(bench: str, case: str, one: Timed, work: float, unit: str) -> dict[str, Any]:
    """Return what every row of every bench has; ``work`` is done by one run, ``unit`` is a million of it per second."""
    return {
        "bench": bench,
        "case": case,
        "impl": one.job.impl,
        "median_s": one.median_s,
        "iqr_s": one.iqr_s,
        "throughput": work / one.median_s / 1e6,
        "unit": unit,
        "max_rss_bytes": one.max_rss_bytes,
        "base_rss_bytes": one.base_rss_bytes,
        "threads": one.job.threads,
        "samples": len(one.samples_s),
    }


def skipped(case: str, timed: Sequence[Timed]) -> list[dict[str, Any]]:
    """What of a case was not timed, and why."""
    return [{"case": case, "impl": one.job.impl, "reason": one.skipped} for one in timed if one.skipped]


def head(bench: str, machine: dict[str, Any]) -> list[str]:
    """Return the first lines of a page: what was timed, when, and on what."""
    found = [f"* {key}: {value}" for key, value in machine.items() if key != "date"]
    return [f"# {f'neuroav bench {bench}'.rstrip()}, {machine['date']}", "", *found]


def left_out(skipped: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines that say what was left out and why, the cases of one reason together."""
    cases: dict[tuple[str, str], list[str]] = {}
    for one in skipped:
        cases.setdefault((one["impl"], one["reason"]), []).append(one["case"])
    found = [f"* {impl}: {reason} ({'; '.join(names)})" for (impl, reason), names in cases.items()]
    return ["", "## Left out", "", *found] if found else []


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table of two columns of names and some of figures."""
    head, *body = (f"| {' | '.join(cells)} |" for cells in (columns, *rows))
    return [head, "|---|---|" + "--:|" * (len(columns) - 2), *body]


def figure(row: dict[str, Any], key: str, form: str, scale: float = 1.0) -> str:
    """Return a figure of a row as text; nothing where it is unknown.

    Example:
        >>> figure({"median_s": 0.01234}, "median_s", ".2f", 1e3), figure({"iqr_s": None}, "iqr_s", ".2f")
        ('12.34', '')
    """
    return "" if row.get(key) is None else format(row[key] * scale, form)


def mebibytes(row: dict[str, Any]) -> str:
    """Return the most memory that a row's process held, as text."""
    return figure(row, "max_rss_bytes", ".0f", 2**-20)
