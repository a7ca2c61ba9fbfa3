"""Accuracy against energy on paper: the curve, its points, what equal accuracy costs, and the break-even limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from neuroav.energy.curve import Curve, Point, at_equal_accuracy, ratio_range
from neuroav.energy.report import Row
from neuroav.report import plots
from neuroav.report.energy import format_joules
from neuroav.report.plots import INKS, Plot
from neuroav.report.tables import NONE, Cell, Column, Quantity, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = {
    "estimate": "bars: all tables and both rules",
    "measured": "bars: lowest and highest trial",
}
EQUAL_NOTE = (
    "Equal accuracy: among the models without spikes whose mean HM is no lower than the spiking one's, less one "
    "standard deviation of the difference of the two means over the seeds, the cheapest on this axis. Ratio: energy of "
    "the spiking model over its peer's; below 1 spikes are cheaper."
)
STYLES = {True: ("blue", "o", "spiking"), False: ("vermillion", "D", "not spiking")}


# -------------------------------------------------------------------------------------------------------------- tables


def points_table(curve: Curve) -> Table:
    """Return the points of a curve, numbered as in its plot."""
    titles = ("model", "point", "neurons", f"{curve.kind}, J a clip", "lowest", "highest", "HM %", "Pareto front")
    front = curve.front
    body = [
        (
            each.name,
            str(number),
            "spiking" if each.spiking else "not spiking",
            *map(format_joules, (each.joules.mean, each.low_j, each.high_j)),
            Quantity(*each.hm),
            "yes" if each in front else "",
        )
        for number, each in enumerate(curve.points, start=1)
    ]
    spiking = sum(each.spiking for each in front)
    notes = (
        f"{_axis(curve)}; {BARS[curve.kind]}.",
        f"On the Pareto front: {len(front)} of {len(curve.points)} points, {spiking} of them spiking.",
    )
    return Table(tuple(map(Column, titles)), tuple(body), notes)


def _axis(curve: Curve) -> str:
    return f"Estimate by {curve.axis}" if curve.kind == "estimate" else f"Measured: {curve.axis}"


def equal_table(curve: Curve, ranges: Mapping[str, tuple[float, float]]) -> Table:
    """Return what equal accuracy costs: each spiking point beside the cheapest one without spikes that is as accurate.

    Args:
        curve: The points.
        ranges: Lowest and highest ratio over all tables, by spiking model; empty for measurements.
    """
    titles = ("spiking", f"{curve.kind}, J a clip", "HM %", "cheapest as accurate", "J a clip", "its HM %", "ratio")
    body: list[tuple[Cell, ...]] = []
    for each in at_equal_accuracy(curve.points):
        own, peer = each.spiking, each.peer
        other: tuple[Cell, ...] = (NONE, NONE, NONE)
        if peer is not None:
            other = (peer.name, format_joules(peer.joules.mean), Quantity(*peer.hm))
        over = ranges.get(own.name)
        cells = (own.name, format_joules(own.joules.mean), Quantity(*own.hm), *other, _ratio(each.ratio))
        body.append((*cells, "" if over is None else f"{_ratio(over[0])} to {_ratio(over[1])}"))
    return Table(tuple(map(Column, (*titles, "over tables"))), tuple(body), (EQUAL_NOTE,))


def _ratio(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"


def verdicts(curve: Curve) -> list[str]:
    """Say of a curve what equal accuracy costs, a sentence for each spiking point.

    Example:
        >>> from neuroav.energy.curve import Spread
        >>> def point(name, spiking, hm, joules):
        ...     return Point(name, spiking, Spread(hm, None, 1), Spread(joules, None, 1), joules, joules)
        >>> points = (point("SNN", True, 0.4, 2e-6), point("ANN", False, 0.4, 1e-6), point("top", True, 0.5, 2e-6))
        >>> for line in verdicts(Curve("estimate", "a table", "", "test", points)):
        ...     print(line)
        SNN: 2 times the energy of ANN, the cheapest without spikes as accurate (estimate).
        top: no model without spikes is as accurate.
    """
    spiking = [point for point in curve.points if point.spiking]
    if not spiking or len(spiking) == len(curve.points):
        kind = "No model without spikes" if spiking else "No spiking model"
        return [f"{kind} is among the points, so none are compared."]
    lines = []
    for each in at_equal_accuracy(curve.points):
        if each.peer is None:
            lines.append(f"{each.spiking.name}: no model without spikes is as accurate.")
        elif each.ratio is not None:
            times = f"{_ratio(each.ratio)} times the energy of {each.peer.name}"
            lines.append(f"{each.spiking.name}: {times}, the cheapest without spikes as accurate ({curve.kind}).")
    lines += [f"{one.name}: its HM is 0, nothing is compared." for one in spiking if one.hm.mean == 0]
    return lines


# --------------------------------------------------------------------------------------------------------------- plots


def curve_plot(curve: Curve, name: str) -> Plot:
    """Draw HM against energy, seeds as error bars, the range of the energies as pale ones, and the Pareto front.

    Args:
        curve: At least one point.
        name: Unique on the page.
    """
    from matplotlib.ticker import FuncFormatter

    with plots._style():
        figure = plots._figure(9.0, max(3.2, 1.4 + 0.2 * len(curve.points)), layout="constrained")
        ax = figure.subplots()
        ax.set_xscale("log")
        _draw_front(ax, curve)
        for number, each in enumerate(curve.points, start=1):
            _draw_point(ax, each, number)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_joules(value)))
        ax.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        word = "estimated" if curve.kind == "estimate" else "measured"
        ax.set(
            title=curve.title,
            ylabel="HM (percent)",
            xlabel=f"{word} energy of a clip\n{curve.axis}; {BARS[curve.kind]}",
        )
        figure.legend(loc="outside right upper", handlelength=1.2, fontsize=8)
        front = ", ".join(each.name for each in curve.front)
        alt = f"HM against {word} energy of {len(curve.points)} models, {curve.title}; on the Pareto front: {front}."
        return plots._plot(figure, name, alt)


def _draw_front(ax: Axes, curve: Curve) -> None:
    energies = [each.joules.mean for each in curve.front]
    scores = [100 * each.hm.mean for each in curve.front]
    ax.plot(
        energies, scores, "--", drawstyle="steps-post", color=INKS["ink"], linewidth=1.2, label="Pareto front", zorder=1
    )


def _draw_point(ax: Axes, point: Point, number: int) -> None:
    ink, marker, word = STYLES[point.spiking]
    x, y = point.joules.mean, 100 * point.hm.mean
    ax.plot((point.low_j, point.high_j), (y, y), color=INKS["grid"], linewidth=3, solid_capstyle="butt", zorder=0)
    ax.errorbar(
        x,
        y,
        yerr=100 * (point.hm.sd or 0.0),
        fmt=marker,
        color=INKS[ink],
        markerfacecolor=INKS[ink] if point.spiking else INKS["paper"],
        markersize=6,
        zorder=2,
        label=f"{number} {point.name}, {word}",
    )
    ax.annotate(str(number), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8, zorder=3)


def break_even_plot(rows: Sequence[Row], name: str) -> Plot | None:
    """Draw the spikes per synapse of every spiking model beside the limits of the literature; ``None`` without any.

    Args:
        rows: One for each model and seed.
        name: Unique on the page.
    """
    own: dict[str, list[float]] = {}
    for row in rows:
        if row["spike_rate"] is not None and row["spikes_per_synapse"] is not None:
            own.setdefault(row["model"], []).append(row["spikes_per_synapse"])
    limit = next((each for row in rows for each in row["break_even"] if each["quantity"] == "spikes_per_synapse"), None)
    if not own or limit is None:
        return None
    with plots._style():
        figure = plots._figure(5.6, 1.3 + 0.3 * len(own), layout="constrained")
        ax = figure.subplots()
        ax.axvspan(limit["low"], limit["high"], color=INKS["grid"], label="limits, by the other network's design")
        for i, values in enumerate(own.values()):
            ax.plot(values, [i] * len(values), "o", color=INKS["blue"], markersize=6, clip_on=False)
        ax.set_yticks(range(len(own)), list(own))
        ax.set(xlabel="spikes per synapse and clip; left of the band spikes are cheaper", ylim=(len(own) - 0.5, -0.5))
        ax.set_xlim(0, None)
        ax.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center")
        figures = ", ".join(f"{model} {max(values):.3g}" for model, values in own.items())
        alt = f"Spikes per synapse: {figures}; the limits of the literature are {limit['low']:g} to {limit['high']:g}."
        return plots._plot(figure, name, alt)


def ranges_of(rows: Sequence[Row], curve: Curve) -> dict[str, tuple[float, float]]:
    """Ratios over all tables where the curve is one of estimates; empty for measurements."""
    return ratio_range(rows, curve) if curve.kind == "estimate" else {}
