"""Class by class: recall, confusions, and what one model gains over another."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from neuroav.checks import fail
from neuroav.report import plots
from neuroav.report.page import Section, figure_html
from neuroav.report.saved import Array, Run


def classes_section(run: Run) -> Section | None:
    """Recall per class and confusion matrix of every model, the first one open."""
    keys = [key for key in run.names("confusion.", "") if key not in ("classes", "seen")]
    if not keys or "confusion.classes" not in run.arrays or "confusion.seen" not in run.arrays:
        return None
    parts = ["<p>Decisions among all classes at the validated β. Seen classes come first, unseen ones are hatched.</p>"]
    for i, (model, test_sets) in enumerate(run.by_model(keys).items()):
        inner = "\n".join(_class_figures(run, model, test_set) for test_set in test_sets)
        parts.append(f"<details{' open' * (i == 0)}><summary>{escape(model)}</summary>\n{inner}\n</details>")
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
