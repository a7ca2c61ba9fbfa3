"""A published table and our runs in the same rows: printed, ours, difference; and whether the order of rows agrees."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from neuroav.report.published import PublishedTable
from neuroav.report.tables import (
    MISSING,
    NONE,
    SCORES,
    Column,
    Quantity,
    Row,
    Table,
    layers_table,
    models_in,
    quantity,
    seeds_note,
    sets_in,
)

TOLD_APART = 2.0  # standard errors between two means


class Printed(Quantity):
    """A score as a paper prints it, percent with two digits."""

    def text(self) -> str:
        """Return the figure as printed."""
        return f"{100 * self.mean:.2f}"


class Difference(Quantity):
    """Our mean less the printed score, in points of percent."""

    def text(self) -> str:
        """Return the figure with its sign."""
        return f"{100 * self.mean:+.1f}"


@dataclass(frozen=True)
class Line:
    """One row of a paper's table and what we have beside it.

    Attributes:
        name: as printed, or that of a control.
        printed: score -> fraction; a score that is not printed is not in it.
        ours: score -> mean and spread over seeds; empty where we have no such system.
        other: other printed columns, as printed.
        note: of the printed row.
    """

    name: str
    printed: dict[str, float]
    ours: dict[str, Quantity]
    other: dict[str, float]
    note: str = ""

    def difference(self, score: str) -> float | None:
        """Ours less the printed one, as a fraction; ``None`` where either is missing."""
        if score not in self.printed or score not in self.ours:
            return None
        return self.ours[score].mean - self.printed[score]


def lines(printed: PublishedTable, data_set: str, rows: Sequence[Row], test_set: str) -> list[Line]:
    """Join a table's columns of one data set with our rows on one test set, by name; rows of ours alone come last.

    Args:
        printed: the paper's table.
        data_set: whose columns are taken, ``ucf`` of ``ucf.hm``.
        rows: ``results.json["rows"]`` with the printed names as models.
        test_set: of them.
    """
    other = [c for c in printed.columns if "." not in c or (c.startswith(f"{data_set}.") and _score(c) not in SCORES)]
    found = [
        Line(
            row.name,
            {score: row.values[c] / 100 for score in SCORES if (c := f"{data_set}.{score}") in row.values},
            _ours(rows, row.name, test_set),
            {_score(column): row.values[column] for column in other if column in row.values},
            row.note,
        )
        for row in printed.rows
    ]
    names = {line.name for line in found}
    return found + [Line(m, {}, _ours(rows, m, test_set), {}) for m in models_in(rows) if m not in names]


def _score(column: str) -> str:
    return column.rpartition(".")[2]


def _ours(rows: Sequence[Row], model: str, test_set: str) -> dict[str, Quantity]:
    found = {score: quantity(rows, model, test_set, score) for score in SCORES}
    return {score: value for score, value in found.items() if value is not None}


def beside_table(joined: Sequence[Line], rows: Sequence[Row], data_set: str) -> Table:
    """Return printed | ours | difference for each score, other printed columns, and the notes of the rows.

    Args:
        joined: of :func:`lines`.
        rows: what they were joined with, for the seeds.
        data_set: the printed one.
    """
    others = list(dict.fromkeys(name for line in joined for name in line.other))
    columns = [Column("row")]
    columns += [Column(title, group) for group in SCORES.values() for title in ("printed", "ours", "diff.")]
    columns += [Column(name, "as printed") for name in others]
    body = []
    for line in joined:
        cells: list[str | Quantity | None] = [line.name]
        for score in SCORES:
            printed, difference = line.printed.get(score), line.difference(score)
            cells.append(MISSING if printed is None else Printed(printed, None, 1))
            cells.append(line.ours.get(score))
            cells.append(MISSING if difference is None else Difference(difference, None, 1))
        cells += [f"{line.other[name]:g}" if name in line.other else MISSING for name in others]
        body.append(tuple(cells))
    return Table(tuple(columns), tuple(body), tuple(_notes(joined, rows, data_set)))


def _notes(joined: Sequence[Line], rows: Sequence[Row], data_set: str) -> Iterator[str]:
    yield f"Percent; printed: {data_set}. {seeds_note(rows)} diff.: our mean less the printed score."
    missing = [line.name for line in joined if not line.ours]
    if missing:
        yield f"Not among neuroav's systems, as published: {', '.join(missing)}."
    yield from (f"{line.name}: {line.note}." for line in joined if line.note)


def scenes_table(rows: Sequence[Row]) -> Table:
    """Return what every MotionScenes table says of scene bias, calibration and spikes.

    Args:
        rows: ``results.json["rows"]``.
    """
    sets = sets_in(rows)
    columns = [Column("row")]
    columns += [Column(title, name) for name in sets for title in ("HM", "oracle HM")]
    columns += [Column("scene", "follows"), *(Column(title, "spikes") for title in ("rate", "dead")), Column("θ s.d.")]
    layers = layers_table(rows).rows
    body = []
    for model in models_in(rows):
        cells: list[str | Quantity | None] = [model]
        cells += [quantity(rows, model, name, key) for name in sets for key in ("hm", "hm_oracle")]
        cells.append(quantity(rows, model, "shuffled", "follows_scene"))
        own = [layer for layer in layers if layer[0] == model]
        rates, dead, theta = ([q for layer in own if isinstance(q := layer[i], Quantity)] for i in (2, 3, 5))
        cells.append(Quantity(fmean(q.mean for q in rates), None, 1) if rates else NONE)
        cells.append(Quantity(max(q.mean for q in dead), None, 1) if dead else NONE)
        cells.append(Quantity(fmean(q.mean for q in theta), None, 1, "plain") if theta else NONE)
        body.append(tuple(cells))
    notes = (
        f"Percent. {seeds_note(rows)} HM at the β chosen on validation; oracle: at the best on the test clips.",
        "follows scene: share of shuffled clips given a class whose preferred scene is the one shown.",
        "rate: spikes per neuron and step; θ s.d.: spread of the threshold; means over layers. "
        "dead: silent neurons in the worst layer.",
    )
    return Table(tuple(columns), tuple(body), notes)


# ------------------------------------------------------------------------------------------------- the order of rows


@dataclass(frozen=True)
class Order:
    """How our order of rows by HM compares with the printed one.

    Attributes:
        num_rows: rows with both.
        pairs: of them, less those whose printed HM are equal.
        agreeing: pairs in the printed order.
        opposed: pairs in the other order.
        apart: pairs whose means of ours are more than :data:`TOLD_APART` standard errors apart.
        apart_agreeing: those among them in the printed order.
        one_seed: whether a row has no spread.
    """

    num_rows: int
    pairs: int
    agreeing: int
    opposed: int
    apart: int
    apart_agreeing: int
    one_seed: bool

    @property
    def tau(self) -> float:
        """Kendall's rank correlation, -1 to 1: agreeing less opposed pairs, over all pairs."""
        return (self.agreeing - self.opposed) / self.pairs if self.pairs else math.nan

    def sentence(self) -> str:
        """Return what the order says, as far as the spread over seeds lets it.

        Example:
            >>> Order(3, 3, agreeing=2, opposed=1, apart=2, apart_agreeing=2, one_seed=False).sentence()
            'Order of 3 rows by HM: 2 of 3 pairs as printed (Kendall tau +0.33). 2 pairs are more than two standard \
errors apart over seeds, of these 2 as printed: as far as the spread tells, the order agrees.'
        """
        if not self.pairs:
            return "Order of rows: fewer than two rows have both a printed HM and one of ours."
        tied = self.pairs - self.agreeing - self.opposed
        text = f"Order of {self.num_rows} rows by HM: {self.agreeing} of {self.pairs} pairs as printed"
        text += f"{f', {tied} tied' if tied else ''} (Kendall tau {self.tau:+.2f}). "
        if self.one_seed:
            return text + "One seed has no spread, so no order is told from chance."
        if not self.apart:
            return text + "No pair is more than two standard errors apart over seeds: the order is open."
        text += f"{self.apart} pair{'s are' if self.apart > 1 else ' is'} more than two standard errors apart over "
        text += f"seeds, of these {self.apart_agreeing} as printed: "
        if self.apart_agreeing == self.apart:
            return text + "as far as the spread tells, the order agrees."
        return text + "the order does not agree."


def order(joined: Sequence[Line]) -> Order:
    """Compare the order of rows by HM with the printed one."""
    both = [(line.printed["hm"], line.ours["hm"]) for line in joined if line.difference("hm") is not None]
    pairs = [(a, b) for a, b in combinations(both, 2) if a[0] != b[0]]
    agreeing = [(b[1].mean - a[1].mean) * (b[0] - a[0]) > 0 for a, b in pairs]
    opposed = [(b[1].mean - a[1].mean) * (b[0] - a[0]) < 0 for a, b in pairs]
    apart = [_told_apart(a[1], b[1]) for a, b in pairs]
    return Order(
        len(both),
        len(pairs),
        sum(agreeing),
        sum(opposed),
        sum(apart),
        sum(x and y for x, y in zip(apart, agreeing, strict=True)),
        any(ours.sd is None for _, ours in both),
    )


def _told_apart(a: Quantity, b: Quantity) -> bool:
    """Whether two means over seeds are far apart for their spreads."""
    if a.sd is None or b.sd is None:
        return False
    return abs(a.mean - b.mean) > TOLD_APART * math.sqrt(a.sd**2 / a.n + b.sd**2 / b.n)


# --------------------------------------------------------------------------------------------- for other programs


def records(joined: Sequence[Line]) -> list[dict[str, Any]]:
    """Return each line as JSON values, scores as fractions."""
    return [
        {
            "row": line.name,
            "note": line.note,
            "printed": line.printed,
            "printed_other": line.other,
            "ours": {score: {"mean": q.mean, "sd": q.sd, "n": q.n} for score, q in line.ours.items()},
            "difference": {s: d for s in SCORES if (d := line.difference(s)) is not None},
        }
        for line in joined
    ]


def format_long_csv(blocks: Iterable[tuple[str, str, str, Sequence[Line]]]) -> str:
    """Return a line for each score of each row, in percent; empty where there is none.

    Args:
        blocks: printed data set, the data that ours are of, test set and lines.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("printed_on", "ours_on", "test_set", "row", "score", "printed", "ours", "sd", "n", "difference"))
    for *where, joined in blocks:
        for line in joined:
            for score in SCORES:
                mine = line.ours.get(score)
                figures = (line.printed.get(score), mine.mean if mine else None, mine.sd if mine else None)
                head = [*map(_percent, figures), mine.n if mine else ""]
                writer.writerow((*where, line.name, score, *head, _percent(line.difference(score))))
    return out.getvalue()


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.4g}"
