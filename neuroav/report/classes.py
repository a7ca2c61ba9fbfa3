"""Class by class: recall, confusions, and what one model gains over another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from neuroav.checks import fail
from neuroav.report import plots, tables
from neuroav.report.page import Section, figure_html
from neuroav.report.plots import INKS, Plot
from neuroav.report.saved import Array, Run
from neuroav.report.tables import Quantity, Row

MOST_CONTROLS = 8  # that gains are drawn over


def classes_section(run: Run) -> Section | None:
    """Recall per class and confusion matrix of every model, the first one open."""
    keys = [key for key in run.names("confusion.", "") if key not in ("classes", "seen")]
    if not keys or "confusion.classes" not in run.arrays or "confusion.seen" not in run.arrays:
        return None
    parts = ["<p>Decisions among all classes at the validated β. Seen classes come first, unseen ones are hatched.</p>"]
    for i, (model, test_sets) in enumerate(run.by_model(keys).items()):
        inner = "\n".join(_class_figures(run, model, test_set) for test_set in test_sets)
        parts.append(f"<details{' open' * (i == 0)}><summary>{escape(model)}</summary>\n{inner}\n</details>")
    absent = [model for model in tables.models_in(run.rows) if model not in run.by_model(keys)]
    if absent:
        parts.append(f'<p class="note">Tested on other classes, so not drawn: {escape(", ".join(absent))}.</p>')
    return Section("classes", "Class by class", "\n".join(parts))


def _class_figures(run: Run, model: str, test_set: str) -> str:
    confusion = run.arrays[f"confusion.{model}|{test_set}"]
    classes = [str(name) for name in run.arrays["confusion.classes"]]
    seen = run.arrays["confusion.seen"].astype(bool)
    if confusion.shape != (len(classes), len(classes)) or seen.shape != (len(classes),):
        expected = f"confusion.{model}|{test_set} of shape ({len(classes)}, {len(classes)}) and confusion.seen to match"
        raise fail("arrays.npz", expected, f"{confusion.shape} and {seen.shape}")
    name = f"{model} on {test_set} clips"
    bars = figure_html(plots.class_bars(confusion, classes, seen, name), f"Recall per class, {name}.", wide=True)
    matrix = plots.confusion_matrix(confusion, classes, seen, name)
    caption = f"Which class was taken for which, {name}; the dashed line parts seen from unseen."
    return (
        f"<h3>{escape(test_set)}</h3>\n{bars}\n<details><summary>Confusion matrix, {escape(test_set)}</summary>\n"
        f"{figure_html(matrix, caption, wide=True)}\n{_confused_pairs(confusion, classes)}\n</details>"
    )


def _confused_pairs(confusion: Array, classes: Sequence[str], num_pairs: int = 8) -> str:
    """List the most frequent mistakes in words."""
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:num_pairs]
    pairs = [(int(k) // len(classes), int(k) % len(classes)) for k in order if wrong.flat[k] > 0]
    items = (
        f"<li>{escape(classes[i])} taken for {escape(classes[j])}: {wrong[i, j]} of {confusion[i].sum()} clips</li>"
        for i, j in pairs
    )
    return f"<p>Most frequent mistakes:</p><ul>{''.join(items)}</ul>" if pairs else "<p>No mistakes.</p>"


def gains_section(run: Run) -> Section | None:
    """Recall of each class by the first model of a comparison, less that of each of the others."""
    model, *controls = tables.models_in(run.rows) or [""]
    needed = ("confusion.classes", "confusion.seen")
    if not controls or any(name not in run.arrays for name in needed):
        return None
    classes, seen = (run.arrays[name].tolist() for name in needed)
    is_seen = dict(zip(classes, seen, strict=True))
    parts: list[str] = []
    for control in controls[:MOST_CONTROLS]:
        figures = []
        for test_set in tables.sets_in(run.rows):
            found = class_gains(run.rows, model, control, test_set)
            gains = {name: found[name] for name in classes if name in found}
            if gains:
                plot = gain_bars(gains, [is_seen[name] for name in gains], f"{model} over {control}, {test_set}")
                figures.append(figure_html(plot, f"{plot.alt}", wide=True))
        if figures:
            inside = "\n".join(figures)
            parts.append(
                f"<details{' open' * (not parts)}><summary>over {escape(control)}</summary>\n{inside}\n</details>"
            )
    if not parts:
        return None
    left = len(controls) - MOST_CONTROLS
    rest = f" The first {MOST_CONTROLS} of {len(controls)} other rows are drawn." if left > 0 else ""
    intro = (
        f"<p>Recall of {escape(model)} less that of another row, in percentage points, seed by seed on the same clips; "
        f"bars are the mean, lines ± one s.d. over seeds where there are several.{rest}</p>"
    )
    return Section("gains", "Gains per class", intro + "\n".join(parts))


def class_gains(rows: Sequence[Row], model: str, control: str, test_set: str) -> dict[str, Quantity]:
    """Recall of ``model`` less that of ``control`` in each class that both were tested on, over their common seeds.

    Example:
        >>> recall = {"a": {"run": 0.75}, "b": {"run": 0.5}}
        >>> rows = [{"model": m, "test_set": "test", "seed": 0, "recall": recall[m]} for m in recall]
        >>> class_gains(rows, "a", "b", "test")["run"].mean
        0.25
    """
    ours, theirs = (_recalls(rows, name, test_set) for name in (model, control))
    differences: dict[str, list[float]] = {}
    for key in ours.keys() & theirs.keys():
        for name in ours[key].keys() & theirs[key].keys():
            differences.setdefault(name, []).append(ours[key][name] - theirs[key][name])
    found = {name: tables.aggregate(sorted(values)) for name, values in differences.items()}
    return {name: quantity for name, quantity in found.items() if quantity is not None}


def _recalls(rows: Sequence[Row], model: str, test_set: str) -> dict[tuple[object, int], dict[str, float]]:
    """Recall of each class by seed, and by how many rows of that seed came before (of other data)."""
    found: dict[tuple[object, int], dict[str, float]] = {}
    for row in rows:
        if row["model"] == model and row["test_set"] == test_set and row.get("recall"):
            seed = row.get("seed")
            found[seed, sum(key[0] == seed for key in found)] = row["recall"]
    return found


def gain_bars(gains: Mapping[str, Quantity], seen: Sequence[bool], name: str) -> Plot:
    """Draw the gain of each class, seen before unseen, the largest first.

    Args:
        gains: class -> difference of recalls as a fraction.
        seen: of each of them.
        name: Unique on the page; ends up in the figure's ids and description.
    """
    pairs = zip(gains.items(), seen, strict=True)
    bars = sorted(((not is_seen, -gain.mean, label, gain) for (label, gain), is_seen in pairs), key=lambda bar: bar[:3])
    where, means = np.arange(len(bars)), np.array([100 * gain.mean for *_, gain in bars])
    spread, unseen = [100 * (gain.sd or 0.0) for *_, gain in bars], np.array([is_unseen for is_unseen, *_ in bars])
    words = [f"better in {(means > 0).sum()}, worse in {(means < 0).sum()} of {len(bars)} classes"]
    with plots._style():
        figure, ax = plots.class_axes([label for _, _, label, _ in bars])
        for group, part, ink, hatch in (("seen", ~unseen, "blue", ""), ("unseen", unseen, "orange", "////")):
            if not part.any():
                continue
            words.append(f"{group} {means[part].mean():+.1f}")
            face = "none" if hatch else INKS[ink]
            label = f"{group}, mean {means[part].mean():+.1f}"
            ax.bar(where[part], means[part], 0.74, color=face, edgecolor=INKS[ink], hatch=hatch, label=label)
        if any(spread):
            ax.errorbar(where, means, yerr=spread, fmt="none", ecolor=INKS["ink"], elinewidth=0.9)
        ax.axhline(0, color=INKS["ink"], linewidth=1)
        ax.set_ylabel("gain (points)")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
        return plots._plot(figure, f"gains-{name}", f"Gain in recall per class of {name}: {', '.join(words)}.")
