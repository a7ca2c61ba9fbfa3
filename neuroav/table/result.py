"""A table that was run, printed and written in every form: text, Markdown, CSV, LaTeX, JSON and a page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from neuroav.config import Comparison, MotionScenesData, SimulatedData
from neuroav.files import save_json, save_text
from neuroav.report.beside import Line, beside_table, format_long_csv, lines, order, records, scenes_table
from neuroav.report.html import Section, page, table_html, write_report
from neuroav.report.latex import format_latex
from neuroav.report.published import PublishedTable
from neuroav.report.tables import TEST_SETS, Table, format_markdown, format_text, sets_in
from neuroav.run import versions
from neuroav.table.source import Source


@dataclass(frozen=True)
class Job:
    """What was asked for.

    Attributes:
        printed: the paper's table.
        sources: data it is run on.
        plans: the runs on each of them.
        size: of :data:`neuroav.table.size.SIZES`.
        seeds: of every row.
        folder: where all of it lies; runs in a folder for each source.
        command: that makes it again.
    """

    printed: PublishedTable
    sources: tuple[Source, ...]
    plans: tuple[Comparison, ...]
    size: str
    seeds: tuple[int, ...]
    folder: Path
    command: str

    @property
    def remarks(self) -> list[str]:
        """What a reader has to know: of data and size, then of the printed table."""
        return [*(plan.note for plan in self.plans), *(f"{note.removesuffix('.')}." for note in self.printed.notes)]


class Block(NamedTuple):
    """One table to show, and a sentence on it."""

    title: str
    table: Table
    sentence: str = ""


class Scored(NamedTuple):
    """Our rows on one test set of a source beside the printed ones."""

    source: Source
    test_set: str
    joined: list[Line]

    def sentence(self) -> str:
        """Whether the order of rows agrees."""
        if isinstance(self.source.data, SimulatedData):
            return "Order of rows: not compared, as the clips are simulated."
        return order(self.joined).sentence()


def show(job: Job, results: Sequence[Sequence[dict[str, Any]]], json_path: str | None) -> int:
    """Write a table in every form, and print it; returns the exit status.

    Args:
        job: what was asked for.
        results: ``results.json["rows"]`` of each source.
        json_path: also write its JSON there.
    """
    scored: list[Scored] = []
    blocks: list[Block] = []
    for source, rows in zip(job.sources, results, strict=True):
        for test_set in sets_in(rows):
            joined = lines(job.printed, source.data_set, rows, test_set)
            table = beside_table(joined, rows, source.data_set)
            one = Scored(source, test_set, joined)
            blocks.append(Block(_title(job, source, test_set), table, one.sentence()))
            scored.append(one)
        if isinstance(source.data, MotionScenesData):
            blocks.append(Block(f"{job.printed.key}: scenes, calibration and spikes", scenes_table(rows)))
    report = _report(job, scored)
    save_json(job.folder / "table.json", report)  # first: it says whose folder this is, should writing stop
    for name, content in _pages(job, blocks, scored).items():
        save_text(job.folder / name, content)
    if json_path is not None:
        save_json(Path(json_path), report)
    shown = [f"{block.title}\n{format_text(block.table)}\n{block.sentence}".rstrip() for block in blocks]
    text = "\n\n".join([*shown, "\n".join(job.remarks)])
    sys.stdout.write(f"{text}\nwritten: {job.folder}/table.md, .csv, .tex, .json and report.html\n")
    sys.stdout.flush()
    for source in job.sources:  # takes a while with many rows
        sys.stdout.write(f"report of the runs: {write_report(job.folder / source.name)}\n")
    return 0


def _title(job: Job, source: Source, test_set: str) -> str:
    meaning = TEST_SETS.get(test_set)
    where = f"{test_set} ({meaning})" if meaning else test_set
    return f"{job.printed.key}: printed {source.data_set}, ours {source.name}, {where}"


def _report(job: Job, scored: Sequence[Scored]) -> dict[str, Any]:
    return {
        "key": job.printed.key,
        "caption": job.printed.caption,
        "notes": list(job.printed.notes),
        "command": job.command,
        "size": job.size,
        "seeds": list(job.seeds),
        "sources": [
            {"name": source.name, "printed": source.data_set, "note": plan.note}
            for source, plan in zip(job.sources, job.plans, strict=True)
        ],
        "tables": [
            {
                "printed": each.source.data_set,
                "source": each.source.name,
                "test_set": each.test_set,
                "order": each.sentence(),
                "rows": records(each.joined),
            }
            for each in scored
        ],
        "versions": versions(),
    }


def _pages(job: Job, blocks: Sequence[Block], scored: Sequence[Scored]) -> dict[str, str]:
    """Name of each file and what it holds."""
    title, remarks = f"{job.printed.key}: {job.printed.caption}", " ".join(job.remarks)
    parts = [f"## {b.title}\n\n{format_markdown(b.table)}\n\n{b.sentence}".rstrip() for b in blocks]
    label = f"tab:{job.printed.key.replace('_', '-')}"
    latex = [f"% {job.command}\n", *(format_latex(b.table, b.title, f"{label}-{i}") for i, b in enumerate(blocks))]
    sections = [
        Section(f"table-{i}", b.title, f"{table_html(b.table, b.title, headed=True)}<p>{escape(b.sentence)}</p>")
        for i, b in enumerate(blocks)
    ]
    names = [escape(source.name) for source in job.sources]
    links = ", ".join(f'<a href="{name}/report.html">{name}</a>' for name in names)
    sections.append(Section("runs", "The runs", f"<p>Curves, classes and layers of every row: {links}.</p>"))
    return {
        "table.md": "\n\n".join([f"# {title}", f"`{job.command}`. {remarks}", *parts]) + "\n",
        "table.csv": format_long_csv((s.source.data_set, s.source.name, s.test_set, s.joined) for s in scored),
        "table.tex": "\n".join(latex),
        "report.html": page(
            title,
            " ".join(f"{each.source.name}, {each.test_set}. {each.sentence()}" for each in scored),
            sections,
            note=f'<p class="note">{escape(remarks)}</p>',
            made=f"by <code>{escape(job.command)}</code>",
        ),
    }
