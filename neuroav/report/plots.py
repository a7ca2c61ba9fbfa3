"""Figures of the report as SVG that inherits its colours from the page, so one drawing serves light, dark and print.

Every figure is drawn with stand-in colours that are then replaced by CSS variables (``INKS``); images inside a figure
use colours that read on white and on near-black. Lines and marks follow the Okabe-Ito palette and differ in shape too.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuroav.checks import check_range, check_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from neuroav.report.tables import Quantity

Array = NDArray[Any]

INKS = {
    "ink": "#1b1f25",
    "muted": "#5a6471",
    "grid": "#d4dae1",
    "paper": "#fefefe",
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "green": "#009e73",
    "purple": "#cc79a7",
    "orange": "#e69f00",
    "sky": "#56b4e9",
}
SERIES = ("blue", "vermillion", "green", "purple", "orange", "sky", "ink")
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "D", "s", "^", "v", "P", "X")
IMAGE_RGB = (0.18, 0.55, 0.82)  # reads on white and on near-black
SPIKE_RGB = (0.42, 0.50, 0.60)
SMOOTHED_FROM = 50  # points of a training curve
LABEL = 32  # characters of a class on an axis

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "neuroav",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.edgecolor": INKS["muted"],
    "axes.labelcolor": INKS["ink"],
    "axes.titlecolor": INKS["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": INKS["grid"],
    "grid.linewidth": 0.6,
    "text.color": INKS["ink"],
    "xtick.color": INKS["muted"],
    "ytick.color": INKS["muted"],
    "xtick.labelcolor": INKS["ink"],
    "ytick.labelcolor": INKS["ink"],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.8,
}


@dataclass(frozen=True)
class TimeAxis:
    """Where a figure's time axis lies: fractions of its width and height from the top left, seconds at both ends."""

    left: float
    right: float
    top: float
    bottom: float
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Plot:
    """A finished figure: SVG text, what it shows in words, its natural width in inches, its time axis if any."""

    svg: str
    alt: str
    width_in: float
    time: TimeAxis | None = None


def _style() -> Any:
    import matplotlib

    return matplotlib.rc_context(STYLE)


def _figure(width_in: float, height_in: float, **layout: Any) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), facecolor="none", **layout)


def _plot(figure: Figure, name: str, alt: str, time: TimeAxis | None = None) -> Plot:
    """Render ``figure``; ``name`` is unique on the page and keeps the ids of several drawings apart."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Plot(themed_svg(out.getvalue(), name, alt), alt, float(figure.get_figwidth()), time)


def themed_svg(svg: str, name: str, alt: str) -> str:
    """Turn matplotlib's SVG into one that can be inlined: CSS colours, page font, own ids, a label for screen readers.

    Args:
        svg: A whole SVG document.
        name: Prefix for every id, unique on the page.
        alt: What the figure shows.

    Example:
        >>> themed_svg('<?xml version="1.0"?><svg width="9pt" viewBox="0 0 1 1"><g id="a"/></svg>', "n", "A & B")
        '<svg role="img" aria-label="A &amp; B" viewBox="0 0 1 1"><g id="n-a"/></svg>'
    """
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    head = head.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1)
    prefix = re.sub(r"[^A-Za-z0-9_-]+", "-", name)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = body.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans, sans-serif)", body)
    for ink, stand_in in INKS.items():
        body = re.sub(f'{stand_in}(?=[;"])', f"var(--{ink}, {stand_in})", body, flags=re.I)
    return f"{head}>{body}"


def overview(scores: Mapping[str, Mapping[str, Quantity | None]], title: str, chance: float | None = None) -> Plot:
    """Draw one score of every model on every test set as points with their spread.

    Args:
        scores: model -> test set -> fraction over seeds.
        title: The score's name.
        chance: Its chance level as a fraction, or ``None``.
    """
    models = list(scores)
    test_sets = list(dict.fromkeys(name for row in scores.values() for name in row))
    with _style():
        figure = _figure(5.6, 1.2 + 0.36 * len(models), layout="constrained")
        ax = figure.subplots()
        for j, test_set in enumerate(test_sets):
            _score_points(ax, [scores[model].get(test_set) for model in models], j, test_set)
        if chance is not None:
            ax.axvline(100 * chance, color=INKS["muted"], linestyle=":", label="chance")
        highest = max((q.mean for row in scores.values() for q in row.values() if q is not None), default=0.0)
        ax.set(title=title, xlabel="percent", ylim=(len(models) - 0.5, -0.5))
        ax.set_xlim(0, None if highest > 0 else 100)
        ax.set_yticks(range(len(models)), models)
        ax.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=len(test_sets) + 1)
        alt = f"{title} of {len(models)} models on {', '.join(test_sets)} clips; the table holds the figures."
        return _plot(figure, f"overview-{title}", alt)


def _score_points(ax: Axes, figures: Sequence[Quantity | None], j: int, label: str) -> None:
    known = [(i, 100 * q.mean, 100 * (q.sd or 0.0)) for i, q in enumerate(figures) if q is not None]
    ax.errorbar(
        [mean for _, mean, _ in known],
        [i + 0.16 * (j - 0.5) for i, _, _ in known],
        xerr=([min(mean, sd) for _, mean, sd in known], [sd for *_, sd in known]),  # no score is below 0
        fmt=MARKERS[j % len(MARKERS)],
        color=INKS[SERIES[j % len(SERIES)]],
        markersize=6,
        label=label,
        clip_on=False,
    )


def spike_raster(spikes: Array, theta: Array | None, t_s: Array, layer: str) -> Plot:
    """Draw which neuron spiked when, with the layer's dynamic threshold over it.

    Args:
        spikes: ``(T, N)``, non-zero where a neuron spiked.
        theta: ``(T,)`` threshold averaged over the layer, dimensionless; ``None`` leaves the curve out.
        t_s: ``(T,)`` start of each step in seconds, increasing.
        layer: Its name, such as ``video.0``.

    Raises:
        InputError: If the lengths differ.
    """
    check_shape("spike_raster", "spikes", spikes, (len(t_s), None))
    step = float(np.median(np.diff(t_s))) if len(t_s) > 1 else 1.0
    start, end, num_neurons = float(t_s[0]), float(t_s[-1]) + step, spikes.shape[1]
    active = np.asarray(spikes).astype(bool)
    pixels = np.zeros((num_neurons, len(t_s), 4))
    pixels[active.T] = (*SPIKE_RGB, 1.0)
    rate, silent = float(active.mean()), int((~active.any(axis=0)).sum())
    width, left, right = 4.3, 0.13, 0.86
    with _style():
        figure = _figure(width, 2.7)
        ax = figure.add_axes((left, 0.17, right - left, 0.7))
        ax.imshow(
            pixels,
            extent=(start, end, num_neurons - 0.5, -0.5),
            aspect="auto",
            interpolation="none",
            interpolation_stage="rgba",
        )
        ax.grid(visible=False)
        ax.set(
            title=f"{layer}: rate {100 * rate:.1f} %, {silent} of {num_neurons} silent", ylim=(-0.5, num_neurons - 0.5)
        )
        ax.set(xlabel="time in the clip (s)", ylabel="neuron")
        alt = f"Spikes of {num_neurons} neurons of layer {layer} over {len(t_s)} steps, rate {100 * rate:.1f} percent"
        if theta is not None:
            check_shape("spike_raster", "theta", theta, (len(t_s),))
            _draw_threshold(ax, theta, np.append(t_s, end))
            alt += f"; threshold from {theta.min():.3g} to {theta.max():.3g}"
        return _plot(figure, f"raster-{layer}", f"{alt}.", TimeAxis(left, right, 0.13, 0.83, start, end))


def _draw_threshold(ax: Axes, theta: Array, edges: Array) -> None:
    """Draw ``theta (T,)``, held between ``edges (T + 1,)``, on an axis of its own."""
    from matplotlib.patheffects import Normal, Stroke

    twin = ax.twinx()
    halo = [Stroke(linewidth=3.6, foreground=INKS["paper"]), Normal()]
    held = np.append(theta, theta[-1])
    twin.plot(edges, held, drawstyle="steps-post", color=INKS["vermillion"], linewidth=1.6, path_effects=halo)
    margin = max(0.15 * float(np.ptp(theta)), 0.02 * float(np.abs(theta).max()), 1e-3)
    twin.set_ylim(float(theta.min()) - margin, float(theta.max()) + margin)
    twin.set_ylabel("threshold θ", color=INKS["vermillion"])
    twin.tick_params(axis="y", labelcolor=INKS["vermillion"], color=INKS["vermillion"])
    twin.grid(visible=False)


def spectrogram(audio: Array, rate_hz: int, width_in: float = 9.5) -> Plot:
    """Draw the short-time spectrum of a sound in dB on a logarithmic frequency axis.

    Frames of 32 ms (Hann) every 8 ms; 0 dB is the loudest bin, the scale ends at -70 dB.

    Args:
        audio: ``(S,)`` samples.
        rate_hz: Sampling rate in Hz.
        width_in: Natural width of the figure in inches.

    Raises:
        InputError: If ``rate_hz`` is below 1,000 or there is less than one frame of sound.
    """
    check_range("spectrogram", "rate_hz", rate_hz, 1_000)
    window = int(rate_hz * 0.032)
    check_range("spectrogram", "samples", len(audio), window)
    hop = max(1, window // 4)
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(audio, np.float32), window)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)) ** 2
    level_db = 10 * np.log10(np.maximum(power / max(float(power.max()), 1e-20), 1e-7))
    lowest, highest = 50.0, rate_hz / 2
    rows = np.geomspace(lowest, highest, 160)
    picked = np.clip(np.round(rows * window / rate_hz).astype(int), 0, level_db.shape[1] - 1)
    duration, left, right = len(audio) / rate_hz, 0.075, 0.90
    with _style():
        figure = _figure(width_in, 2.6)
        ax = figure.add_axes((left, 0.17, right - left, 0.76))
        extent = (0.0, duration, float(np.log2(lowest)), float(np.log2(highest)))
        image = ax.imshow(
            level_db[:, picked].T, extent=extent, aspect="auto", origin="lower", cmap="cividis", interpolation="nearest"
        )
        ticks = [f for f in (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000) if f <= highest]
        ax.set_yticks([float(np.log2(f)) for f in ticks], [f"{f / 1000:g}k" if f >= 1000 else str(f) for f in ticks])
        ax.set(xlabel="time in the clip (s)", ylabel="frequency (Hz)")
        ax.grid(visible=False)
        _colour_key(figure, (right + 0.015, 0.17, 0.015, 0.76), image.get_cmap(), "level (dB)", (-70, 0))
        alt = f"Spectrogram of {duration:.1f} seconds of sound, {lowest:.0f} to {highest:.0f} Hz, level in decibels."
        return _plot(figure, "spectrogram", alt, TimeAxis(left, right, 0.07, 0.83, 0.0, duration))


def _colour_key(
    figure: Figure, place: tuple[float, float, float, float], cmap: Any, label: str, ends: tuple[float, float]
) -> None:
    """Draw a colour scale as one small image (matplotlib's own is hundreds of paths)."""
    ax = figure.add_axes(place)
    ramp = np.linspace(0, 1, 128)[:, None]
    ax.imshow(cmap(ramp), extent=(0, 1, *ends), aspect="auto", origin="lower")
    ax.set_xticks([])
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    ax.set_ylabel(label)
    ax.grid(visible=False)


def class_order(seen: Array) -> Array:
    """Return the indices ``(K,)`` that put seen classes first and keep their order otherwise.

    Example:
        >>> class_order(np.array([False, True, True])).tolist()
        [1, 2, 0]
    """
    return np.argsort(~np.asarray(seen, bool), kind="stable")


def class_recall(confusion: Array) -> Array:
    """Return the recall of every class ``(K,)`` as a fraction, NaN where a class has no clip.

    Args:
        confusion: ``(K, K)`` counts, rows are the truth.

    Example:
        >>> class_recall(np.array([[3, 1], [0, 0]])).tolist()
        [0.75, nan]
    """
    total = confusion.sum(axis=1)
    return np.where(total > 0, np.diag(confusion) / np.maximum(total, 1), np.nan)


def labels_of(classes: Iterable[str]) -> tuple[list[str], float]:
    """Return the names as an axis shows them, long ones without their middle, and the inches that the longest takes.

    Example:
        >>> labels_of(["archery", "playing the " + "very " * 9 + "long flute"])[0]
        ['archery', 'playing the ver… very long flute']
    """
    half = LABEL // 2
    found = [name if len(name) <= LABEL else f"{name[: half - 1]}…{name[-half:]}" for name in classes]
    return found, 0.07 * max(map(len, found), default=0)


def class_axes(classes: Sequence[str]) -> tuple[Figure, Axes]:
    """Return a figure with a place for a bar of each class, at 0, 1 and so on, and room for the names below."""
    names, space = labels_of(classes)
    figure = _figure(max(4.5, 1.2 + 0.17 * len(names)), max(3.1, 1.9 + space), layout="constrained")
    ax = figure.subplots()
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=7 if len(names) > 30 else 8)
    ax.set_xlim(-0.8, len(names) - 0.2)
    ax.grid(axis="x", visible=False)
    return figure, ax


def class_bars(confusion: Array, classes: Sequence[str], seen: Array, name: str) -> Plot:
    """Draw the recall of every class, seen (filled) before unseen (hatched), with both means.

    Args:
        confusion: ``(K, K)`` counts, rows are the truth.
        classes: ``K`` names.
        seen: ``(K,)`` bool.
        name: Unique on the page; ends up in the figure's ids and description.
    """
    order = class_order(seen)
    recall, is_seen = 100 * class_recall(confusion)[order], np.asarray(seen, bool)[order]
    where = np.arange(len(order))
    with _style():
        figure, ax = class_axes([classes[i] for i in order])
        means = []
        for group, part, ink, hatch in (("seen", is_seen, "blue", ""), ("unseen", ~is_seen, "orange", "////")):
            known = part & ~np.isnan(recall)
            if not known.any():
                continue
            mean = float(recall[known].mean())
            means.append(f"{group} {mean:.1f}")
            face, edge = (INKS[ink], INKS[ink]) if not hatch else ("none", INKS[ink])
            label = f"{group}, mean {mean:.1f} %"
            ax.bar(where[known], recall[known], 0.74, color=face, edgecolor=edge, hatch=hatch, label=label)
            ends = (where[part].min() - 0.5, where[part].max() + 0.5)
            ax.plot(ends, (mean, mean), color=INKS["ink"], linestyle="--", linewidth=1.2)
        missing = np.isnan(recall)
        if missing.any():
            ax.plot(where[missing], np.full(missing.sum(), 3.0), "x", color=INKS["muted"], ms=4, label="no clip tested")
        ax.set(ylabel="recall (%)", ylim=(0, 100))
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
        alt = f"Recall of each of {len(order)} classes, {name}; mean in percent: {', '.join(means) or 'not measured'}."
        return _plot(figure, f"bars-{name}", alt)


def confusion_matrix(confusion: Array, classes: Sequence[str], seen: Array, name: str) -> Plot:
    """Draw a confusion matrix as shares of each true class, seen and unseen parted by a line.

    Args:
        confusion: ``(K, K)`` counts, rows are the truth.
        classes: ``K`` names.
        seen: ``(K,)`` bool.
        name: Unique on the page; ends up in the figure's ids and description.
    """
    from matplotlib.colors import LinearSegmentedColormap

    order = class_order(seen)
    counts = confusion[np.ix_(order, order)]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cmap = LinearSegmentedColormap.from_list("fade", [(*IMAGE_RGB, alpha) for alpha in (0.0, 0.5, 0.75, 0.9, 1.0)])
    num_classes, num_seen = len(order), int(np.asarray(seen, bool).sum())
    font = 8.5 if num_classes <= 20 else 6.5
    names, space = labels_of(classes[i] for i in order)
    size = max(2.4, 1.2 + space) + num_classes * font * 1.75 / 72
    with _style():
        figure = _figure(size + 0.5, size, layout="constrained")
        ax = figure.subplots()
        ax.imshow(cmap(share), interpolation="none", interpolation_stage="rgba")
        ax.set_xticks(range(num_classes), names, rotation=90, fontsize=font)
        ax.set_yticks(range(num_classes), names, fontsize=font)
        ax.set(xlabel="predicted class", ylabel="true class")
        ax.spines[:].set_visible(True)
        ax.grid(visible=False)
        if 0 < num_seen < num_classes:
            line: dict[str, Any] = {"color": INKS["vermillion"], "linewidth": 1.4, "linestyle": "--"}
            ax.axhline(num_seen - 0.5, **line)
            ax.axvline(num_seen - 0.5, **line)
            for middle, word in ((num_seen / 2 - 0.5, "seen"), ((num_seen + num_classes) / 2 - 0.5, "unseen")):
                ax.annotate(word, (middle, -0.8), ha="center", color=INKS["vermillion"], annotation_clip=False)
        _colour_key_beside(ax, cmap)
        right = 100 * np.diag(counts).sum() / max(1, counts.sum())
        alt = f"Confusion matrix over {num_classes} classes, {name}; {right:.1f} percent of the clips on the diagonal."
        return _plot(figure, f"confusion-{name}", alt)


def _colour_key_beside(ax: Axes, cmap: Any) -> None:
    key = ax.inset_axes((1.02, 0.0, 0.02, 0.3))
    key.imshow(cmap(np.linspace(0, 1, 64)[:, None]), extent=(0, 1, 0, 100), aspect="auto", origin="lower")
    key.set_xticks([])
    key.yaxis.tick_right()
    key.yaxis.set_label_position("right")
    key.set_ylabel("% of the true class")
    key.grid(visible=False)


@dataclass(frozen=True)
class BetaCurve:
    """S, U and HM (fractions) against the calibration ``beta``, each ``(n,)``, and the beta that validation chose.

    ``hm_range (2, n)`` are the lowest and highest HM of several seeds, of which the others are means.
    """

    beta: Array
    seen: Array
    unseen: Array
    hm: Array
    chosen: float | None = None
    hm_range: Array | None = None


def beta_curves(curves: Mapping[str, BetaCurve], model: str) -> Plot:
    """Draw S, U and HM against beta, one panel per test set, with the chosen and the best beta marked.

    Args:
        curves: test set -> curve.
        model: Its name.
    """
    with _style():
        figure = _figure(1.0 + 2.9 * len(curves), 2.7, layout="constrained")
        panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
        for ax, (test_set, curve) in zip(panels, curves.items(), strict=True):
            lines = (
                ("S", curve.seen, "blue", "-."),
                ("U", curve.unseen, "orange", "--"),
                ("HM", curve.hm, "green", "-"),
            )
            for label, values, ink, dash in lines:
                ax.plot(
                    curve.beta,
                    100 * values,
                    dash,
                    color=INKS[ink],
                    linewidth=2.2 if label == "HM" else 1.6,
                    label=label,
                    marker=".",  # the betas tried
                    markersize=5,
                )
            if curve.hm_range is not None:
                ax.fill_between(curve.beta, *(100 * curve.hm_range), color=INKS["green"], alpha=0.2, linewidth=0)
            best = int(np.nanargmax(curve.hm))
            mark: dict[str, Any] = {"color": INKS["green"], "markersize": 6, "clip_on": False}
            ax.plot(curve.beta[best], 100 * curve.hm[best], "D", label="best HM (oracle)", **mark)
            if curve.chosen is not None:
                ax.axvline(curve.chosen, color=INKS["ink"], linestyle=":", linewidth=1.5, label="chosen β")
            ax.set(title=test_set, xlabel="calibration β")
        highest = max(float(np.nanmax([c.seen, c.unseen])) for c in curves.values())
        panels[0].set(ylabel="percent", ylim=(0, None if highest > 0 else 100))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, columnspacing=1.0, handlelength=1.6)
        best_text = ", ".join(f"{name} {100 * np.nanmax(c.hm):.1f}" for name, c in curves.items())
        return _plot(
            figure, f"beta-{model}", f"S, U and HM of {model} against beta; highest HM in percent: {best_text}."
        )


def training_curves(curves: Mapping[str, tuple[Array, Array]], name: str) -> Plot:
    """Draw one logged quantity of every model against the training step; long noisy curves get a running mean.

    Args:
        curves: model -> (step ``(n,)``, value ``(n,)``, or ``(S, n)`` of several seeds, drawn as mean and range).
        name: The quantity.
    """
    with _style():
        figure = _figure(4.6, 2.5 + 0.2 * math.ceil(len(curves) / 2), layout="constrained")  # room for the legend
        ax = figure.subplots()
        for i, (model, (step, value)) in enumerate(curves.items()):
            known = np.isfinite(value) if value.ndim == 1 else np.isfinite(value).all(0)
            step, seeds = step[known], np.atleast_2d(value)[:, known]
            value = seeds.mean(0)
            width = len(value) // (SMOOTHED_FROM // 2)
            colour, dash = INKS[SERIES[i % len(SERIES)]], DASHES[i % len(DASHES)]
            if len(seeds) > 1:
                ax.fill_between(step, seeds.min(0), seeds.max(0), color=colour, alpha=0.15, linewidth=0)
            if width > 1:
                ax.plot(step, value, color=colour, linewidth=0.7, alpha=0.35)
                smooth = np.convolve(value, np.full(width, 1 / width), mode="valid")
                step, value = step[width // 2 : width // 2 + len(smooth)], smooth
            ax.plot(step, value, dash, color=colour, linewidth=1.8, label=model)
        ax.set(title=name, xlabel="training step")
        if not any(np.nanmax(np.abs(value), initial=0.0) > 0 for _, value in curves.values()):
            ax.set_ylim(-0.05, 1.0)
        figure.legend(loc="outside lower center", ncols=2, handlelength=2.4)
        return _plot(figure, f"log-{name}", f"{name} against the training step for {', '.join(curves)}.")
