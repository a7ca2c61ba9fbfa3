"""The report of ``neuroav energy`` as a whole: Markdown, a page of its own, and a section of a run's page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from neuroav.energy.curve import Curve, estimate_curves, measured_curves
from neuroav.energy.report import Row, checklist
from neuroav.report.energy import (
    _name,
    break_even_table,
    bytes_table,
    count_table,
    ends_table,
    estimate_table,
    layer_table,
    measured_table,
    neuron_table,
    price_table,
    spike_driven_table,
    uncounted_lines,
)
from neuroav.report.page import Section, callout, figure_html, page, table_html
from neuroav.report.tables import format_markdown
from neuroav.report.tradeoff import break_even_plot, curve_plot, equal_table, points_table, ranges_of, verdicts

Report = dict[str, Any]
NO_CURVE = "No curve: it needs at least one trained model, whose accuracy is known."
FIRST = "Of the first seed of each model; every seed is in <code>energy.json</code>."
MADE = "from <code>energy.json</code>; make it again with <code>neuroav energy</code>"


# ------------------------------------------------------------------------------------------------------------ Markdown


def markdown(report: dict[str, Any]) -> str:
    """Return the whole report as Markdown.

    Args:
        report: ``rows`` and ``versions`` as ``neuroav energy`` writes them.
    """
    rows = report["rows"]
    once = _once(rows)
    versions = ", ".join(f"{key} {value}" for key, value in report["versions"].items())
    blocks = ["# Energy", versions, *_curve_blocks(rows), "## Counted", format_markdown(count_table(rows))]
    blocks += ["### Bytes moved", format_markdown(bytes_table(rows))]
    for row in _first_seeds(rows):
        blocks += [f"### Layers of {_name(row)}", format_markdown(layer_table(row))]
        blocks += [format_markdown(neuron_table(row))] if row["neurons"] else []
        blocks += ["Not counted:", "\n".join(uncounted_lines(row)) or "- nothing"]
        blocks += ["\n".join(f"- {each['part']}: {each['figure']}" for each in row["front_end"] if "figure" in each)]
    blocks += ["## Estimated", format_markdown(ends_table(once))]
    for row in _first_seeds(rows):
        both = [each for each in rows if _name(each) == _name(row)]
        blocks += [f"### Estimate for {_name(row)}", format_markdown(estimate_table(both))]
    blocks += [
        "### Prices",
        format_markdown(price_table()),
        "### Break-even limits",
        format_markdown(break_even_table(once)),
    ]
    blocks += ["## Measured", format_markdown(measured_table(once))]
    if (driven := spike_driven_table(once)).rows:
        blocks += ["## Latency, spike-driven against dense", format_markdown(driven)]
    blocks += ["## Which conditions of a fair claim hold", "\n".join(map(_condition_line, checklist(rows)))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _once(rows: Sequence[Row]) -> list[Row]:
    """One row for each model and seed."""
    return [row for row in rows if row["rule"] == "binary"]


def _first_seeds(rows: Sequence[Row]) -> list[Row]:
    """One row for each model and data, of its first seed: layers and prices of the others are in the JSON."""
    return list({(row["model"], row["task"]): row for row in reversed(_once(rows))}.values())[::-1]


def _condition_line(one: Row) -> str:
    return f"- [{'x' if one['holds'] else ' '}] {one['condition']} ({one['note']})"


def _curve_blocks(rows: Sequence[Row]) -> list[str]:
    """The curves as Markdown: points, what equal accuracy costs, and the same in sentences."""
    blocks = ["## Accuracy against energy"]
    for curve in _curves(rows):
        blocks += [f"### {_heading(curve)}", format_markdown(points_table(curve))]
        blocks += ["At equal accuracy:", format_markdown(equal_table(curve, ranges_of(rows, curve)))]
        blocks += ["\n".join(f"- {line}" for line in verdicts(curve))]
    return blocks if len(blocks) > 1 else [*blocks, NO_CURVE]


def headlines(rows: Sequence[Row]) -> list[str]:
    """What each curve says of equal accuracy, a line for each spiking model; nothing where none is trained."""
    return [f"{_heading(curve)}: {line}" for curve in _curves(rows) for line in verdicts(curve)]


def _curves(rows: Sequence[Row]) -> list[Curve]:
    return [*estimate_curves(rows), *measured_curves(rows)]


def _heading(curve: Curve) -> str:
    return f"{'By estimate' if curve.kind == 'estimate' else 'As measured'}, {curve.title}"


# ---------------------------------------------------------------------------------------------------------------- HTML


def energy_page(report: Report) -> str:
    """Return the page of its own, self-contained.

    Args:
        report: ``rows``, ``checklist`` and ``versions`` as ``neuroav energy`` writes them.
    """
    rows = report["rows"]
    once = _once(rows)
    sections = [
        Section("curve", "Accuracy against energy", curve_html(rows)),
        Section("counted", "Counted", _counted_html(rows)),
        Section("estimated", "Estimated", _estimated_html(rows)),
        Section("measured", "Measured", _measured_html(once)),
        Section("conditions", "Which conditions of a fair claim hold", conditions_html(report)),
    ]
    trained = sum(row["trained"] for row in once)
    versions = ", ".join(f"{key} {value}" for key, value in report["versions"].items())
    summary = f"{len(once)} models and seeds, {trained} of them trained; energy of a clip."
    return page("Energy", summary, sections, note=f'<p class="note">{escape(versions)}</p>', made=MADE)


def section_html(report: Report) -> str:
    """Return the section of a run's page: curves, counts, limits and conditions."""
    rows = report["rows"]
    note = "<p>Every table of prices, layer by layer, is in <code>energy.html</code> of this directory.</p>"
    counts = _folded("Operations of a clip", [table_html(count_table(rows), "Operations of a clip")])
    parts = [note, curve_html(rows), counts, _missing_html(rows), _limits_html(rows)]
    parts += [_measured_html(_once(rows))]
    return "\n".join([*parts, "<h3>Which conditions of a fair claim hold</h3>", conditions_html(report)])


def curve_html(rows: Sequence[Row]) -> str:
    """Return every curve with its points and what equal accuracy costs."""
    parts = []
    for number, curve in enumerate(_curves(rows)):
        title = _heading(curve)
        caption = f"{title}: HM against energy. Thin bars: s.d. over seeds; the dashed line is the Pareto front."
        inner = [figure_html(curve_plot(curve, f"curve-{number}"), caption, wide=True)]
        inner += [f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in verdicts(curve))}</ul>"]
        inner += [
            table_html(equal_table(curve, ranges_of(rows, curve)), f"At equal accuracy: {curve.axis}, {curve.title}")
        ]
        inner += [table_html(points_table(curve), f"Points: {curve.axis}, {curve.title}")]
        parts.append(f"<h3>{escape(title)}</h3>\n" + "\n".join(inner))
    return "\n".join(parts) or f"<p>{NO_CURVE}</p>"


def _counted_html(rows: Sequence[Row]) -> str:
    parts = [table_html(count_table(rows), "Operations of a clip"), table_html(bytes_table(rows), "Bytes moved")]
    parts += [_missing_html(rows), f"<p>{FIRST}</p>"]
    for row in _first_seeds(rows):
        inner = [table_html(layer_table(row), f"Layers of {_name(row)}")]
        inner += [table_html(neuron_table(row), f"Neurons of {_name(row)}")] if row["neurons"] else []
        lines = [f"{each['part']}: {each['figure']}" for each in row["front_end"] if "figure" in each]
        parts.append(_folded(_name(row), [*inner, _list(lines)]))
    return "\n".join(parts)


def _missing_html(rows: Sequence[Row]) -> str:
    """What is in no figure, each entry with the models that it concerns."""
    models: dict[str, list[str]] = {}
    for row in _first_seeds(rows):
        for line in uncounted_lines(row):
            models.setdefault(line.removeprefix("- "), []).append(row["model"])
    lines = [f"{line} ({', '.join(dict.fromkeys(names))})" for line, names in models.items()]
    return callout("These are in none of the figures:", lines) if lines else ""


def _estimated_html(rows: Sequence[Row]) -> str:
    parts = [f"<p>Every figure here is an estimate: counted operations times published prices. {FIRST}</p>"]
    for row in _first_seeds(rows):
        both = [each for each in rows if _name(each) == _name(row)]
        parts.append(_folded(_name(row), [table_html(estimate_table(both), f"Estimate for {_name(row)}")]))
    parts += [_limits_html(rows), _folded("What the ends contain", [table_html(ends_table(rows), "Ends")])]
    return "\n".join([*parts, _folded("Prices", [table_html(price_table(), "Prices")])])


def _measured_html(once: Sequence[Row]) -> str:
    parts = [table_html(measured_table(once), "Measured time and energy")]
    if (driven := spike_driven_table(once)).rows:
        parts.append(table_html(driven, "Latency, spike-driven against dense"))
    return "\n".join(parts)


def _limits_html(rows: Sequence[Row]) -> str:
    """Break-even limits: the plot where there are spikes, and the table."""
    plot = break_even_plot(_once(rows), "break-even")
    figure = "" if plot is None else figure_html(plot, "Spikes per synapse beside the published limits.")
    return figure + table_html(break_even_table(_once(rows)), "Break-even limits")


def conditions_html(report: Report) -> str:
    """Return the checklist: what the literature asks of an energy claim, and whether this report does it."""
    lines = []
    for one in checklist(report["rows"]):
        mark = '<span class="pass">✓</span>' if one["holds"] else '<span class="fail">✗</span>'
        lines.append(f"<li>{mark} {escape(one['condition'])} ({escape(one['note'])})</li>")
    return f'<ul class="conditions">{"".join(lines)}</ul>'


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _folded(title: str, inner: Sequence[str]) -> str:
    return f"<details><summary>{escape(title)}</summary>\n" + "\n".join(inner) + "\n</details>"
