"""Accuracy against energy: one point for each model and setting, the Pareto front, and what equal accuracy costs.

Seeds of a model are one point. An estimate and a measurement never share an axis: a curve of estimates has the upper
end of one named table of prices (everything that the table prices) on its axis, and the range over all tables and both
rules as a bar; a curve of measurements has what one method of one meter saw at one batch size (the counter of NVML
where there is one; what other methods saw is in the table of measurements).
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import PurePath
from typing import Literal, NamedTuple, get_args

from neuroav.energy.count import RULES, Rule
from neuroav.energy.report import Row, estimate_range

Kind = Literal["estimate", "measured"]
End = Literal["low_j", "high_j"]
TABLE = "45 nm, int32, SRAM by size"  # of the axis: the one that prices memory by its size


class Spread(NamedTuple):
    """A figure over seeds.

    Attributes:
        mean: Over the seeds.
        sd: Sample standard deviation; ``None`` for one seed.
        n: Number of seeds.
    """

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value for each seed."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    @property
    def variance_of_mean(self) -> float:
        """``sd^2 / n``; 0 where there is no spread to know."""
        return 0.0 if self.sd is None else self.sd**2 / self.n


@dataclass(frozen=True)
class Point:
    """One model and setting.

    Attributes:
        name: Of the model.
        spiking: Whether it has spiking neurons.
        hm: Harmonic mean, a fraction.
        joules: Energy of a clip on the axis.
        low_j: Lower end of the bar: over tables and rules of an estimate, over the trials of a measurement.
        high_j: Its upper end.
    """

    name: str
    spiking: bool
    hm: Spread
    joules: Spread
    low_j: float
    high_j: float


@dataclass(frozen=True)
class Curve:
    """Points on one energy axis and one test set.

    Attributes:
        kind: Whether energies are estimates or were measured.
        axis: What the energies are.
        data: Name of the data where there are several, else empty.
        test_set: Whose clips the accuracy is of.
        points: In the order of the rows.
    """

    kind: Kind
    axis: str
    data: str
    test_set: str
    points: tuple[Point, ...]

    @property
    def title(self) -> str:
        """Data and test set."""
        return ", ".join(filter(None, (self.data, self.test_set)))

    @property
    def front(self) -> tuple[Point, ...]:
        """Points that no other beats in one figure without losing in the other, cheapest first; by means."""
        return pareto_front(self.points)


class Equal(NamedTuple):
    """A spiking point, and what equal accuracy costs without spikes.

    Attributes:
        spiking: The point.
        peer: The cheapest point without spikes that is at least as accurate within the spread; ``None`` if none is.
    """

    spiking: Point
    peer: Point | None

    @property
    def ratio(self) -> float | None:
        """Energy of the spiking model over that of its peer; below 1 spikes are cheaper."""
        if self.peer is None or not self.peer.joules.mean:
            return None
        return self.spiking.joules.mean / self.peer.joules.mean


def pareto_front(points: Sequence[Point]) -> tuple[Point, ...]:
    """Points that no other beats: none is as cheap and as accurate, and better in one of the two.

    Example:
        >>> def point(name, hm, joules):
        ...     return Point(name, False, Spread(hm, None, 1), Spread(joules, None, 1), joules, joules)
        >>> found = pareto_front([point("a", 0.5, 2.0), point("b", 0.4, 1.0), point("c", 0.4, 3.0)])
        >>> [each.name for each in found]
        ['b', 'a']
    """
    front: list[Point] = []
    for each in sorted(points, key=lambda one: (one.joules.mean, -one.hm.mean)):
        same = front and (front[-1].joules.mean, front[-1].hm.mean) == (each.joules.mean, each.hm.mean)
        if not front or each.hm.mean > front[-1].hm.mean or same:
            front.append(each)
    return tuple(front)


def as_accurate(peer: Spread, own: Spread) -> bool:
    """Whether a peer's accuracy is no lower within the spread over seeds.

    Its mean may be lower by one standard deviation of the difference of the means, ``sqrt(s1^2 / n1 + s2^2 / n2)``; by
    nothing where one seed leaves no spread to know.

    Example:
        >>> as_accurate(Spread(0.48, 0.03, 3), Spread(0.5, 0.03, 3))
        True
        >>> as_accurate(Spread(0.48, None, 1), Spread(0.5, None, 1))
        False
    """
    return peer.mean >= own.mean - math.sqrt(peer.variance_of_mean + own.variance_of_mean)


def at_equal_accuracy(points: Sequence[Point]) -> list[Equal]:
    """For each spiking point, the cheapest one without spikes that is at least as accurate; see :func:`as_accurate`.

    A point whose HM is 0 has learnt nothing to compare.
    """
    found = []
    for each in points:
        if each.spiking and each.hm.mean > 0:
            peers = [peer for peer in points if not peer.spiking and as_accurate(peer.hm, each.hm)]
            found.append(Equal(each, min(peers, key=lambda one: one.joules.mean, default=None)))
    return found


# -------------------------------------------------------------------------------------------------- curves of rows


class _Entry(NamedTuple):
    """What one run brings to an axis."""

    row: Row
    joules: float
    low_j: float
    high_j: float


def estimate_curves(rows: Sequence[Row], table: str = TABLE, rule: Rule = "binary", end: End = "high_j") -> list[Curve]:
    """One curve for each data and test set, its axis one end of one table: estimates.

    Args:
        rows: As ``neuroav energy`` writes them; untrained models have no accuracy and so no point.
        table: Name of the table on the axis; models that it does not price have no point.
        rule: Which products cost accumulates.
        end: ``high_j`` or ``low_j``.
    """
    ranges: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        ranges.setdefault(_run(row), []).extend(estimate_range(row))
    entries = [
        _Entry(row, each[end], min(ranges[_run(row)]), max(ranges[_run(row)]))
        for row in rows
        if row["rule"] == rule
        for each in row["estimates"]
        if each["table"] == table
    ]
    return _curves("estimate", f"{table}, {'upper' if end == 'high_j' else 'lower'} end, rule {rule}", entries)


def measured_curves(rows: Sequence[Row]) -> list[Curve]:
    """One curve for each device, batch size, data and test set: gross energy, measured by the first method there is."""
    axes: dict[str, list[_Entry]] = {}
    for row in rows:
        if row["rule"] == RULES[0]:
            for axis, each in _measurements(row):
                trials = each["gross_j_trials"]
                axes.setdefault(axis, []).append(_Entry(row, each["gross_j"], min(trials), max(trials)))
    return [curve for axis, entries in axes.items() for curve in _curves("measured", axis, entries)]


def ratio_range(rows: Sequence[Row], curve: Curve) -> dict[str, tuple[float, float]]:
    """Lowest and highest ratio at equal accuracy over all tables, rules and ends, by spiking model.

    In each of them a model is compared with what is cheapest there.
    """
    tables = dict.fromkeys(each["table"] for row in rows for each in row["estimates"])
    found: dict[str, list[float]] = {}
    for table, rule, end in product(tables, RULES, get_args(End)):
        for other in estimate_curves(rows, table, rule, end):
            if (other.data, other.test_set) == (curve.data, curve.test_set):
                for equal in at_equal_accuracy(other.points):
                    if equal.ratio is not None:
                        found.setdefault(equal.spiking.name, []).append(equal.ratio)
    return {name: (min(values), max(values)) for name, values in found.items()}


def curves_json(rows: Sequence[Row]) -> list[Row]:
    """Every curve of the rows as JSON: points, front, and what equal accuracy costs."""
    return [_curve_json(rows, curve) for curve in (*estimate_curves(rows), *measured_curves(rows))]


def _curve_json(rows: Sequence[Row], curve: Curve) -> Row:
    over = ratio_range(rows, curve) if curve.kind == "estimate" else {}
    equal = [
        {
            "spiking": each.spiking.name,
            "peer": None if each.peer is None else each.peer.name,
            "ratio": each.ratio,
            "over_tables": over.get(each.spiking.name),
        }
        for each in at_equal_accuracy(curve.points)
    ]
    head = {"kind": curve.kind, "axis": curve.axis, "data": curve.data, "test_set": curve.test_set}
    points = [asdict(each) | {"hm": each.hm._asdict(), "joules": each.joules._asdict()} for each in curve.points]
    return head | {"points": points, "front": [each.name for each in curve.front], "equal_accuracy": equal}


def _run(row: Row) -> tuple[str, ...]:
    return row["task"], row["model"], str(row["seed"])


def _measurements(row: Row) -> Iterator[tuple[str, Row]]:
    measured = row["measured"]
    for batch in measured.get("batches", ()):
        for each in batch["energy"][:1]:
            yield f"{measured['device']}, {each['meter']}, {each['method']}, batch {batch['batch']}, gross", each


def _curves(kind: Kind, axis: str, entries: Sequence[_Entry]) -> list[Curve]:
    """Group the runs that have a point by data, test set and model."""
    names = data_names(each.row for each in entries)
    boards: dict[tuple[str, str], dict[str, list[_Entry]]] = {}
    for each in entries:
        for test_set in each.row["scores"]:
            models = boards.setdefault((names[each.row["task"]], test_set), {})
            models.setdefault(each.row["model"], []).append(each)
    return [
        Curve(kind, axis, data, test_set, tuple(_point(group, test_set) for group in models.values()))
        for (data, test_set), models in boards.items()
    ]


def _point(group: Sequence[_Entry], test_set: str) -> Point:
    return Point(
        name=group[0].row["model"],
        spiking=group[0].row["spike_rate"] is not None,
        hm=Spread.of([each.row["scores"][test_set]["hm"] for each in group]),
        joules=Spread.of([each.joules for each in group]),
        low_j=min(each.low_j for each in group),
        high_j=max(each.high_j for each in group),
    )


def data_names(rows: Iterable[Row]) -> dict[str, str]:
    """A short name for each task of the rows: the name of its store, a number where two share it, empty for one alone.

    Example:
        >>> data_names([{"task": '{"store": "data/a.h5"}'}, {"task": '{"store": "b.h5"}'}])
        {'{"store": "data/a.h5"}': 'a', '{"store": "b.h5"}': 'b'}
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    if len(tasks) == 1:
        return {tasks[0]: ""}
    stems = [PurePath(str(json.loads(task).get("store"))).stem for task in tasks]
    return {
        task: stem if stems.count(stem) == 1 else f"{stem} ({number})"
        for number, (task, stem) in enumerate(zip(tasks, stems, strict=True), start=1)
    }
