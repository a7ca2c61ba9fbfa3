"""Pieces of a self-contained page: sections, figures, tables, notes, and the frame around them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from html import escape
from importlib.resources import files
from string import Template

from neuroav import __version__
from neuroav.report import tables
from neuroav.report.plots import Plot
from neuroav.report.tables import Quantity, Table

NOT_MEASURED = '<span class="missing">not measured</span>'


@dataclass(frozen=True)
class Section:
    """A heading with its anchor and finished HTML."""

    anchor: str
    title: str
    body: str


def page(title: str, summary: str, sections: Sequence[Section], *, note: str = "", made: str) -> str:
    """Return a self-contained page: one text, no reference outside itself.

    Args:
        title: Heading, plain text.
        summary: A sentence below it, plain text.
        sections: What follows, in order.
        note: HTML below the summary.
        made: HTML of what the page was made from and how to make it again, for its last line.
    """
    assets = files("neuroav.report") / "assets"
    return Template((assets / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        summary=escape(summary),
        note=note,
        contents="\n".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections),
        body="\n".join(_section_html(section) for section in sections),
        css=(assets / "report.css").read_text(encoding="utf-8"),
        script=(assets / "report.js").read_text(encoding="utf-8"),
        version=__version__,
        made=made,
    )


def _section_html(section: Section) -> str:
    label = f"h-{section.anchor}"
    heading = f'<h2 id="{label}">{escape(section.title)}</h2>'
    return f'<section id="{section.anchor}" aria-labelledby="{label}">\n{heading}\n{section.body}\n</section>'


def grid(figures: Sequence[str], cell: str) -> str:
    """Lay figures out in columns at least ``cell`` wide, a CSS length."""
    return f'<div class="grid" style="--cell: {cell}">\n' + "\n".join(figures) + "\n</div>" if figures else ""


def callout(text: str, lines: Sequence[str] = ()) -> str:
    """Return a note that stands out, with a list below it."""
    items = f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""
    return f'<div class="warning" role="note"><strong>Note.</strong> {escape(text)}{items}</div>'


def figure_html(
    plot: Plot, caption: str, wide: bool = False, steps: Mapping[str, Sequence[float]] | None = None
) -> str:
    """Wrap a plot; ``wide`` lets it scroll instead of shrink on a narrow screen.

    ``steps`` are the numbers at each step of its time axis, which the player says as it passes them.
    """
    time = ""
    if plot.time is not None:
        time = f' data-time="{" ".join(f"{value:g}" for value in astuple(plot.time))}"'
    if steps is not None:
        time += f' data-steps="{escape(json.dumps(steps, separators=(",", ":")))}"'
    label = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    inner = f'<div class="plot"{time} style="--natural: {6.4 * plot.width_in:.1f}rem">{plot.svg}</div>'
    if wide:
        inner = f'<div class="wide" tabindex="0" role="group" aria-label="{escape(plot.alt)}">{inner}</div>'
    return f"<figure>{inner}{label}</figure>"


def table_html(table: Table, caption: str, headed: bool = False) -> str:
    """Return a table with grouped headings and its notes below; ``headed``: the heading above says the caption."""
    groups = tables.column_groups(table.columns)
    edges = {start for _, start, _ in groups[1:]} if any(name for name, _, _ in groups) else set()
    head = ""
    if edges:
        cells = (
            f'<th class="group{" edge" * (a in edges)}" colspan="{b - a}" scope="colgroup">{escape(name)}</th>'
            if name
            else f'<td colspan="{b - a}"></td>'
            for name, a, b in groups
        )
        head = f"<tr>{''.join(cells)}</tr>"
    warnings = {i for i, column in enumerate(table.columns) if column.title == "warning"}
    words = {i for i, cells in enumerate(zip(*table.rows)) if all(isinstance(cell, str) for cell in cells)}
    titles = "".join(
        f'<th scope="col"{_class("edge" * (i in edges), "text" * (i in words))}>{escape(c.title)}</th>'
        for i, c in enumerate(table.columns)
    )
    body = "".join(f"<tr>{_row_html(row, edges, warnings)}</tr>\n" for row in table.rows)
    marked = (re.sub("`([^`]+)`", r"<code>\1</code>", escape(note)) for note in table.notes if note)
    notes = "".join(f"<li>{note}</li>" for note in marked)
    above = "" if headed else f"<caption>{escape(caption)}</caption>\n"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>\n'
        f"{above}<thead>{head}<tr>{titles}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
    )


def _class(*names: str) -> str:
    text = " ".join(filter(None, names))
    return f' class="{text}"' if text else ""


def _row_html(row: Sequence[tables.Cell], edges: set[int], warnings: set[int]) -> str:
    cells = [f'<th scope="row">{escape(tables.cell_text(row[0]))}</th>']
    for i, cell in enumerate(row[1:], start=1):
        edge = "edge" * (i in edges)
        if cell in (tables.NONE, tables.MISSING):
            cells.append(f'<td{_class(edge)}><span class="missing">{cell}</span></td>')
        elif isinstance(cell, str):
            cells.append(f'<td class="{"warn" if i in warnings else "text"}">{escape(cell)}</td>')
        else:
            cells.append(f"<td{_class(edge)}>{NOT_MEASURED if cell is None else _figure_text(cell)}</td>")
    return "".join(cells)


def _figure_text(figure: Quantity) -> str:
    mean, mark, spread = figure.text().partition("±")
    return mean + (f'<span class="sd">{mark}{spread}</span>' if mark else "")
