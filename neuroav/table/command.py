"""The verb: run what is missing of a table, print it beside the published one, write it in every form."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from neuroav.checks import InputError, check_choice, fail, nearest
from neuroav.config import Comparison, MotionScenesData
from neuroav.processes import num_cores
from neuroav.report.beside import Line, beside_table, format_long_csv, lines, order, records, scenes_table
from neuroav.report.html import Section, page, table_html, write_report
from neuroav.report.latex import format_latex
from neuroav.report.published import PublishedTable, published, published_keys
from neuroav.report.tables import TEST_SETS, Table, format_markdown, format_text, sets_in
from neuroav.run import checked_workers, finished, made, run_comparison, versions
from neuroav.table.plan import comparison, expected_seconds, experiments_folder, experiments_of, makers_of
from neuroav.table.size import SIZES
from neuroav.table.source import Source, choose_sources
from neuroav.train.checkpoint import load_json, replacing, save_json

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
    workers, chosen, printed = checked_workers("table", workers), _seeds(seeds), published(key)
    makers = makers_of(printed)
    sources = choose_sources(printed, size, data, stores, datasets)
    folder = Path(out or f"runs/table/{key}-{'+'.join(source.name for source in sources)}-{size}")
    _check_folder(folder, key)
    plans = []
    for source in sources:
        rows = experiments_of(makers, source, size, overrides)
        plans.append(comparison(key, source, rows, chosen, f"{source.sentence} {SIZES[size].sentence()}"))
    _announce(printed, makers, plans, chosen, folder)
    with made(folder):
        for source, plan in zip(sources, plans, strict=True):
            _announce_time(plan, folder / source.name, workers)
        results = [run_comparison(p, folder / s.name, workers) for s, p in zip(sources, plans, strict=True)]
    return _show(printed, sources, plans, results, size, chosen, folder, json_path)


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise fail("--seeds", "different whole numbers such as 0,1,2", repr(text))
    return tuple(map(int, parts))


def _check_folder(folder: Path, key: str) -> None:
    if (folder / "results.json").exists():
        raise fail(str(folder), "the directory of a table", "that of a run or a comparison", "Choose another --out.")
    if (folder / "table.json").exists() and (there := load_json(folder / "table.json").get("key")) != key:
        raise fail(str(folder), f"the directory of {key}", f"that of {there}", "Choose another --out.")


def _announce(
    printed: PublishedTable, makers: dict[str, Any], plans: Sequence[Comparison], seeds: Sequence[int], folder: Path
) -> None:
    default = " (the default; --seeds has others)" if seeds == _seeds(SEEDS) else ""
    runs = sum(len(plan.runs) for plan in plans)
    numbers = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}{default}"
    lines = [
        f"{printed.key}: {printed.caption}",
        *(plan.note for plan in plans),
        f"{len(makers)} of {len(printed.rows)} printed rows, {numbers}: {runs} runs in {folder}",
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


# ------------------------------------------------------------------------------------------------ results


class Block(NamedTuple):
    """One printed data set beside one test set of ours: a title, the rows, what they mean."""

    data_set: str
    test_set: str
    title: str
    joined: list[Line]
    table: Table
    sentence: str


def _blocks(printed: PublishedTable, source: Source, rows: Sequence[dict[str, Any]]) -> list[Block]:
    blocks = []
    for test_set in sets_in(rows):
        found = lines(printed, source.data_set, rows, test_set)
        meaning = TEST_SETS.get(test_set)
        where = f"{test_set} ({meaning})" if meaning else test_set
        title = f"{printed.key}: printed {source.data_set}, ours {source.name}, {where}"
        table = beside_table(found, rows, source.data_set)
        blocks.append(Block(source.data_set, test_set, title, found, table, order(found).sentence()))
    return blocks


def _show(
    printed: PublishedTable,
    sources: Sequence[Source],
    plans: Sequence[Comparison],
    results: Sequence[dict[str, Any]],
    size: str,
    seeds: Sequence[int],
    folder: Path,
    json_path: str | None,
) -> int:
    """Write the table in every form, and print it."""
    blocks: list[Block] = []
    scenes: list[tuple[str, Table]] = []
    for source, result in zip(sources, results, strict=True):
        blocks += _blocks(printed, source, result["rows"])
        if isinstance(source.data, MotionScenesData):
            scenes.append((f"{printed.key}: scenes, calibration and spikes", scenes_table(result["rows"])))
        write_report(folder / source.name)
    tables = [(block.title, block.table, block.sentence) for block in blocks] + [(*each, "") for each in scenes]
    said = [*(plan.note for plan in plans), *printed.notes]
    report = {
        "key": printed.key,
        "caption": printed.caption,
        "notes": list(printed.notes),
        "size": size,
        "seeds": list(seeds),
        "sources": [{"name": s.name, "printed": s.data_set, "note": p.note} for s, p in zip(sources, plans)],
        "tables": [
            {"printed": b.data_set, "test_set": b.test_set, "order": b.sentence, "rows": records(b.joined)}
            for b in blocks
        ],
        "versions": versions(),
    }
    _write(folder, printed, tables, said, blocks, [source.name for source in sources])
    save_json(folder / "table.json", report)
    if json_path is not None:
        save_json(Path(json_path), report)
    shown = [f"{title}\n{format_text(table)}\n{sentence}".rstrip() for title, table, sentence in tables]
    text = "\n\n".join(["", *shown, "\n".join(said)])
    sys.stdout.write(f"{text}\nwritten: {folder}/table.md, .csv, .tex, .json and report.html\n")
    return 0


def _write(
    folder: Path,
    printed: PublishedTable,
    tables: Sequence[tuple[str, Table, str]],
    said: Sequence[str],
    blocks: Sequence[Block],
    names: Sequence[str],
) -> None:
    title = f"{printed.key}: {printed.caption}"
    parts = [f"## {name}\n\n{format_markdown(table)}\n\n{sentence}".rstrip() for name, table, sentence in tables]
    label = f"tab:{printed.key}"
    latex = [format_latex(table, name, f"{label}-{i}") for i, (name, table, _) in enumerate(tables)]
    sections = [
        Section(f"table-{i}", name, f"{table_html(table, name)}<p>{escape(sentence)}</p>")
        for i, (name, table, sentence) in enumerate(tables)
    ]
    links = ", ".join(f'<a href="{escape(name)}/report.html">{escape(name)}</a>' for name in names)
    sections.append(Section("runs", "The runs", f"<p>Curves, classes and layers of every row: {links}.</p>"))
    command = f"neuroav table {printed.key}"
    pages = {
        "table.md": "\n\n".join([f"# {title}", f"`{command}`. {' '.join(said)}", *parts]) + "\n",
        "table.csv": format_long_csv((block.data_set, block.test_set, block.joined) for block in blocks),
        "table.tex": "\n".join(latex),
        "report.html": page(
            title,
            " ".join(block.sentence for block in blocks),
            sections,
            note=f'<p class="note">{escape(" ".join(said))}</p>',
            made=f"by <code>{command}</code>",
        ),
    }
    for name, content in pages.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")


# ------------------------------------------------------------------------------------------------ the list

# Of one run at size small on a quiet core: 300 steps and what goes with them.
RUN_S = {"mdft": 70, "perceiver": 300, "ez_avgzl": 200, "sacma": 150, "tcaf": 90, "avmst": 70, "tsart": 45}
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
