"""The validation page: every oracle in a sentence, what it expects, what came out, and a picture of the case."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroav.events.oracles import Bars, Maps, Trace
from neuroav.report import plots
from neuroav.report.plots import INKS, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def verdict(passed: bool | None, missing: str = "not measured") -> str:
    """Return a verdict as HTML, in words and colour, or ``missing`` where it is ``None``."""
    if passed is None:
        return f'<span class="missing">{escape(missing)}</span>'
    return '<span class="pass">✓ pass</span>' if passed else '<span class="fail">✗ FAIL</span>'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of words whose cells wrap; cells are HTML."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>\n' for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="checks">\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def checks_table(caption: str, checks: Sequence[dict[str, Any]]) -> str:
    """Return the checks of one oracle on one implementation: what, expected, got, verdict."""
    rows = [[escape(c["what"]), escape(c["expected"]), escape(c["got"]), verdict(c["passed"])] for c in checks]
    return table(caption, ("what", "expected", "got", ""), rows)


def picture(key: str, case: Trace | Bars | Maps) -> Plot:
    """Draw the case of an oracle; ``key`` is unique on the page."""
    draw = {Trace: _trace, Bars: _bars, Maps: _maps}[type(case)]
    return draw(f"oracle-{key}", case)  # type: ignore[operator]


def _trace(name: str, case: Trace) -> Plot:
    """Brightness over time with the levels at which the pixel fires; below, the events expected and got."""
    span = float(case.t_us[-1] - case.t_us[0])
    scale, unit = next(((s, u) for s, u in ((1e6, "s"), (1e3, "ms"), (1.0, "µs")) if span >= s), (1.0, "µs"))
    start = float(case.t_us[0])
    with plots._style():
        figure = plots._figure(6.4, 3.5, layout="constrained")
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        ax.hlines(case.levels, 0, span / scale, color=INKS["grid"], linewidth=0.8)
        ax.plot((case.t_us - start) / scale, case.brightness, color=INKS["ink"], linewidth=1.4)
        ax.set(title=case.title, ylabel="brightness (nat)")
        ax.grid(visible=False)
        for row, (label, events) in enumerate((("expected", case.expected), ("got", case.got))):
            _ticks(below, (events[0] - start) / scale, events[1], row)
            below.text(-0.012, 0.75 - 0.5 * row, label, transform=below.transAxes, ha="right", va="center")
        below.set(xlabel=f"time ({unit})", ylim=(-2, 2))
        below.set_yticks([])
        below.grid(visible=False)
        handles = [(INKS["blue"], "ON"), (INKS["vermillion"], "OFF"), (INKS["grid"], "threshold levels")]
        for colour, label in handles:
            ax.plot([], [], color=colour, label=label, linewidth=2)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        alt = f"{case.title}: {case.expected.shape[1]} events expected, {case.got.shape[1]} came out."
        return plots._plot(figure, name, alt)


def _ticks(ax: Axes, times: np.ndarray, polarity: np.ndarray, row: int) -> None:
    """Draw ON upwards and OFF downwards from the middle of a row."""
    middle = 1 - 2 * row
    for p, colour, way in ((1, "blue", 1), (0, "vermillion", -1)):
        mine = times[polarity == p]
        ax.vlines(mine, middle, middle + 0.8 * way, color=INKS[colour], linewidth=1.3)
    ax.axhline(middle, color=INKS["muted"], linewidth=0.6)


def _bars(name: str, case: Bars) -> Plot:
    """The band of each figure, its expectation, and what came out, as shares of the expectation."""
    count = len(case.labels)
    scale = np.asarray(case.expected, float)
    with plots._style():
        figure = plots._figure(6.4, 1.3 + 0.34 * count, layout="constrained")
        ax = figure.subplots()
        low, high, got = (np.asarray(values, float) / scale for values in (case.low, case.high, case.got))
        high = np.minimum(high, 1.15 * got.max())  # without an upper bound the band goes on
        ax.barh(range(count), high - low, left=low, height=0.55, color=INKS["grid"], label="allowed")
        ax.plot([1] * count, range(count), "|", color=INKS["ink"], markersize=13, label="expected")
        ax.plot(got, range(count), "o", color=INKS["blue"], markersize=6, label="got")
        figures = [f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" for value in case.got]
        labels = [f"{label}: {figure}" for label, figure in zip(case.labels, figures, strict=True)]
        ax.set_yticks(range(count), labels)
        ax.set(title=case.title, xlabel=f"share of what is expected ({case.unit})", ylim=(count - 0.4, -0.6))
        ax.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=3)
        return plots._plot(figure, name, f"{case.title}: {'; '.join(labels)}.")


def _maps(name: str, case: Maps) -> Plot:
    """Signed counts of every pixel: ON blue and OFF vermillion, as in films; none see-through."""
    largest = max(1, *(int(np.abs(image).max(initial=0)) for image in case.images))
    with plots._style():
        figure = plots._figure(6.4, 2.9, layout="constrained")
        for ax, title, image in zip(figure.subplots(1, len(case.images)), case.titles, case.images, strict=True):
            rgba = np.zeros((*image.shape, 4))
            rgba[image > 0, :3] = (0.0, 0.447, 0.698)
            rgba[image < 0, :3] = (0.835, 0.369, 0.0)
            rgba[..., 3] = np.sqrt(np.abs(image) / largest)
            ax.imshow(rgba, interpolation="nearest", interpolation_stage="rgba")
            ax.set_title(title)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(visible=False)
            for side in ax.spines.values():
                side.set_visible(True)
        alt = f"ON minus OFF events of every pixel: {', '.join(case.titles)}; the strongest pixel has {largest}."
        return plots._plot(figure, name, alt)
