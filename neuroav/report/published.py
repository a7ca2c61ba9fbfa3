"""Results that papers print, table by table: numbers as printed, and what is wrong with them said beside them.

``printed/<paper>.toml`` holds those of one paper, with every results table and every figure whose points are
hyper-parameters. Keys are ``<paper>.<table>`` as in ``mdft.table2``.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from neuroav.checks import fail, nearest

PRINTED = files("neuroav.report") / "printed"


@dataclass(frozen=True)
class PublishedRow:
    """One row of a table, or one point of a figure.

    Attributes:
        name: as printed.
        values: column -> figure as printed, scores in percent; a figure that is not printed is not in it.
        note: what is wrong or unclear in this row; errors begin with ``slip:``.
    """

    name: str
    values: dict[str, float]
    note: str = ""


@dataclass(frozen=True)
class PublishedTable:
    """One table or figure of a paper.

    Attributes:
        key: ``<paper>.<table>``.
        paper: its entry in ``references.bib``.
        caption: what is compared, in our words.
        columns: ``<data set>.<score>`` as in ``ucf.hm``, scores ``seen``, ``unseen``, ``hm`` and ``zsl``; other figures
            have names of their own.
        rows: in the order of the paper.
        notes: what is wrong or unclear in the whole table; errors begin with ``slip:``.
        kind: ``results``, or ``curve`` for a plot.
    """

    key: str
    paper: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]
    notes: tuple[str, ...] = ()
    kind: Literal["results", "curve"] = "results"


def published(key: str) -> PublishedTable:
    """The table ``key``.

    Raises:
        InputError: If no paper has it.

    Example:
        >>> table = published("mdft.table2")
        >>> {row.name: row.values["ucf.hm"] for row in table.rows}
        {'MLP': 23.29, 'EGM+MLP': 24.19, 'SNN': 27.23, 'EGM+SNN': 31.36}
    """
    paper, _, name = key.partition(".")
    known = published_keys()
    if key not in known:
        tables = [k for k in known if k.startswith(f"{paper}.")]
        what = f"a table of {paper} ({', '.join(tables)})" if tables else f"PAPER.TABLE of {', '.join(_papers())}"
        raise fail("published", what, repr(key), nearest(key, known))
    whole = _read(paper)
    table = whole[name]
    return PublishedTable(
        key=key,
        paper=whole["paper"],
        caption=table["caption"],
        columns=tuple(table["columns"]),
        rows=tuple(_row(row, table["columns"]) for row in table["rows"]),
        notes=tuple(table.get("notes", ())),
        kind=table["kind"],
    )


def published_keys() -> tuple[str, ...]:
    """Keys of all tables and figures, paper by paper in the order of their files."""
    return tuple(
        f"{paper}.{name}" for paper in _papers() for name, entry in _read(paper).items() if isinstance(entry, dict)
    )


def _papers() -> list[str]:
    return sorted(file.name.removesuffix(".toml") for file in PRINTED.iterdir() if file.name.endswith(".toml"))


def _read(paper: str) -> dict[str, Any]:
    return tomllib.loads((PRINTED / f"{paper}.toml").read_text(encoding="utf-8"))


def _row(row: dict[str, Any], columns: list[str]) -> PublishedRow:
    figures = {column: float(v) for column, v in zip(columns, row["values"], strict=True) if not math.isnan(v)}
    return PublishedRow(row["name"], figures, row.get("note", ""))
