"""Where clips and classes lie before and after a model: t-SNE of the inputs and of each space of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from neuroav.checks import fail
from neuroav.report import plots, tables
from neuroav.report.page import Section, callout, figure_html, grid
from neuroav.report.plots import INKS, SERIES, Plot
from neuroav.report.saved import Array, Run

FEWEST = 8  # points that are worth a map
MOST_MODELS = 8
PERPLEXITY = 20.0
MISSING = (
    "Maps of inputs and embeddings need scikit-learn: pip install 'neuroav[report]', then "
    "python -m neuroav.report.html with this run's directory."
)


def embedding_section(run: Run) -> Section | None:
    """Maps of the inputs and of every model's space, with a key to the classes; or why there is none."""
    needed = ("embedding.inputs", "embedding.label", "embedding.classes", "embedding.seen")
    if any(name not in run.arrays for name in needed):
        return None
    title = "Inputs and embeddings"
    try:
        import sklearn.manifold  # noqa: F401
    except ImportError:
        return Section("embedding", title, callout(MISSING))
    inputs, label, classes, seen = (run.arrays[name] for name in needed)
    with_space = run.listed(run.names("embedding.", ".clips"))
    without = [model for model in tables.models_in(run.rows) if model not in with_space]
    figures = [_map("inputs", inputs, inputs[:0], label, seen)]
    for model in with_space[:MOST_MODELS]:
        clips, vectors = (run.arrays[f"embedding.{model}.{name}"] for name in ("clips", "classes"))
        figures.append(_map(model, clips, vectors, label, seen))
    first = " Of several seeds the first is drawn." if len({row.get("seed") for row in run.rows}) > 1 else ""
    intro = (
        f"<p>t-SNE of {len(label)} test clips of {seen.sum()} seen and {(~seen).sum()} unseen classes: neighbours stay "
        "neighbours, distances and sizes of groups mean little. Inputs are features averaged over each clip. Large "
        f"outlines are class vectors, embedded with the clips by the model.{first}</p>"
    )
    notes = [f"The first {MOST_MODELS} of {len(with_space)} models are drawn."] * (len(with_space) > MOST_MODELS)
    if without:
        names = ", ".join(without)
        notes.append(f"Without a map, for want of one space of clips and classes or of these clips: {names}.")
    said = f'<p class="note">{escape(" ".join(notes))}</p>' if notes else ""
    return Section("embedding", title, f"{intro}{_key(classes.tolist(), seen.tolist())}{grid(figures, '24rem')}{said}")


def _map(name: str, points: Array, vectors: Array, label: Array, seen: Array) -> str:
    if len(points) != len(label) or (len(vectors) not in (0, len(seen))):
        found = f"{len(points)} and {len(vectors)} rows"
        raise fail("arrays.npz", f"embedding.{name} of {len(label)} clips and {len(seen)} classes", found)
    both = np.concatenate([points, vectors])
    reason = why_no_map(both)
    if reason:
        return f'<figure><p class="note">No map of {escape(name)}: {reason}.</p></figure>'
    place = neighbour_map(both)
    plot = draw_map(place[: len(points)], place[len(points) :], label, seen, name)
    return figure_html(plot, "Features averaged over each clip." if name == "inputs" else f"Embeddings of {name}.")


def why_no_map(points: Array) -> str:
    """Return why ``points (n, D)`` can't be drawn, or an empty string.

    Example:
        >>> why_no_map(np.zeros((9, 2)))
        'all points coincide'
    """
    if len(points) < FEWEST:
        return f"{len(points)} points are too few"
    if not np.isfinite(points).all():
        return "some values are not finite"
    return "all points coincide" if (points == points[0]).all() else ""


def neighbour_map(points: Array) -> Array:
    """Return t-SNE coordinates ``(n, 2)`` of ``points (n, D)``; the same on every call.

    Starts from the first two principal components. On one thread: several wait for each other at each of a thousand
    steps, on a busy machine for minutes.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    centred = points.astype(np.float64) - points.mean(0, dtype=np.float64)
    rows, scale, _ = np.linalg.svd(centred, full_matrices=False)
    start = np.zeros((len(points), 2), np.float32)
    strongest = (rows * scale)[:, :2]
    start[:, : strongest.shape[1]] = 1e-4 * strongest / strongest[:, 0].std()
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    scaled = (centred / centred.std()).astype(np.float32)
    method = TSNE(perplexity=perplexity, init=start, learning_rate="auto", random_state=0, n_jobs=1)
    with threadpool_limits(limits=1):
        return method.fit_transform(scaled)


def _inks(seen: Sequence[bool]) -> list[str]:
    """A colour for each class, none twice among the seen or among the unseen as far as there are enough."""
    place = {True: 0, False: 0}
    inks = []
    for is_seen in seen:
        inks.append(SERIES[place[bool(is_seen)] % len(SERIES)])
        place[bool(is_seen)] += 1
    return inks


def draw_map(clips: Array, vectors: Array, label: Array, seen: Array, name: str) -> Plot:
    """Draw clips as dots (seen) and hollow diamonds (unseen), numbered classes as large outlines of the same shape.

    Args:
        clips: ``(n, 2)``.
        vectors: ``(k, 2)`` embedded class vectors, or ``(0, 2)``; then each number stands amid its clips.
        label: ``(n,)`` class of each clip.
        seen: ``(k,)`` bool.
        name: Unique on the page; ends up in the figure's ids and description.
    """
    from matplotlib.patheffects import withStroke

    with plots._style():
        figure = plots._figure(4.4, 3.9)
        ax = figure.add_axes((0.02, 0.02, 0.96, 0.9))
        halo = [withStroke(linewidth=2.5, foreground=INKS["paper"])]
        for k, ink in enumerate(_inks(seen.tolist())):
            own, colour = clips[label == k], INKS[ink]
            face, marker = (colour, "o") if seen[k] else ("none", "D")
            ax.plot(*own.T, marker, color=colour, markerfacecolor=face, markersize=4, markeredgewidth=1.1, alpha=0.85)
            at = vectors[k] if len(vectors) else np.median(own, 0)
            if len(vectors):
                ax.plot(*at, marker, color=colour, markerfacecolor="none", markersize=17, markeredgewidth=2)
            number: dict[str, Any] = {"ha": "center", "va": "center", "fontweight": "bold", "path_effects": halo}
            ax.annotate(str(k + 1), at, (9, 9) if len(vectors) else (0, 9), textcoords="offset points", **number)
        ax.set(title=name, xticks=[], yticks=[])
        ax.margins(0.06)
        ax.spines[:].set_visible(True)
        more = f" and {len(vectors)} class vectors" if len(vectors) else ""
        alt = f"Map of {len(clips)} clips{more} of {len(seen)} classes by t-SNE, {name}; seen dots, unseen diamonds."
        return plots._plot(figure, f"map-{name}", alt)


def _key(classes: Sequence[str], seen: Sequence[bool]) -> str:
    """What the colours, shapes and numbers of all maps mean."""
    shapes = {True: '<circle cx="8" cy="8" r="5"/>', False: '<path d="M8 2 14 8 8 14 2 8Z" fill="none"/>'}
    rows: dict[bool, list[str]] = {True: [], False: []}
    for k, (name, is_seen, ink) in enumerate(zip(classes, seen, _inks(seen), strict=True), start=1):
        colour = f"var(--{ink})"
        mark = f'<svg class="mark" viewBox="0 0 16 16" aria-hidden="true" style="stroke: {colour}; fill: {colour}">'
        rows[bool(is_seen)].append(f"<li>{mark}{shapes[bool(is_seen)]}</svg><b>{k}</b> {escape(name)}</li>")
    groups = (("Seen in training, dots", rows[True]), ("Unseen, hollow diamonds", rows[False]))
    return "".join(
        f'<p class="key-title">{title}</p><ul class="key">{"".join(items)}</ul>' for title, items in groups if items
    )
