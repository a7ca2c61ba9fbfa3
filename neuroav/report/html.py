"""One self-contained page of a run: reads ``results.json`` and ``arrays.npz``, writes ``report.html``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from neuroav.checks import NeuroavError, fail
from neuroav.files import save_text
from neuroav.report import plots, tables
from neuroav.report.classes import classes_section, gains_section
from neuroav.report.embedding import embedding_section
from neuroav.report.energy_page import section_html
from neuroav.report.page import Section, callout, figure_html, grid, page, table_html
from neuroav.report.player import clip_section
from neuroav.report.saved import Array, Run, read_run
from neuroav.report.tables import Quantity

SEEDS = " Lines are means over seeds; the shaded area reaches from the lowest to the highest."
LOGGED = {"loss": ("Training loss", 1), "val_hm": ("Validation HM (percent)", 100)}  # title and scale of what runs log


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run directory from the files that lie there.

    Args:
        run_dir: Holds ``results.json`` and usually ``arrays.npz``; whatever is missing leaves its part of the page out.

    Returns:
        The path of the page: one file, no reference outside itself.

    Raises:
        InputError: If a file is missing, unreadable, or its arrays do not fit each other.
    """
    run_dir = Path(run_dir)
    page = render(read_run(run_dir))
    target = run_dir / "report.html"
    save_text(target, page)
    return target


def render(run: Run) -> str:
    """Return the whole page of a run as text."""
    note = str(run.results.get("note") or "")
    return page(
        str(run.results.get("title") or "neuroav run"),
        tables.summary_sentence(run.rows),
        [section for make in SECTIONS if (section := make(run)) is not None],
        note=f'<p class="note">{escape(note)}</p>' if note else "",
        made="from the files of this run; rebuild with <code>python -m neuroav.report.html RUN_DIR</code>",
    )


def results_section(run: Run) -> Section:
    """The one table, any warning about a layer, and HM and ZSL at a glance."""
    table = tables.results_table(run.rows)
    parts = [table_html(table, "Generalised zero-shot scores, spikes and operations")]
    if any(row.get("interval95") for row in run.rows):
        parts.append(table_html(tables.seeds_table(run.rows), "Every seed"))
    if not run.arrays:
        parts.append(
            callout("This run directory has no arrays.npz, so figures of the clip and the models are left out.")
        )
    warnings = tables.layer_warnings(run.rows)
    if warnings:
        parts.append(
            callout("These layers need attention; their model's scores may not come from its spikes:", warnings)
        )
    chance = tables.aggregate(row.get("chance_zsl") for row in run.rows)
    known_chance = None if chance is None else chance.mean
    overviews = (("hm", "Harmonic mean (HM)", None), ("zsl", "Zero-shot accuracy (ZSL)", known_chance))
    figures = []
    models, spread = tables.models_in(run.rows), any(q is not None and q.sd for q in _hms(run))
    for key, title, level in overviews if len(models) > 1 else ():
        scores = {m: {t: _score(run, m, t, key) for t in tables.sets_in(run.rows)} for m in models}
        bars = "bars are ± one s.d. over seeds" if spread else "one seed, so no spread"
        figures.append(figure_html(plots.overview(scores, title, level), f"{title}; {bars}."))
    parts.append(grid(figures, "24rem"))
    return Section("results", "Results", "\n".join(parts))


def _hms(run: Run) -> list[Quantity | None]:
    return [_score(run, m, t, "hm") for m in tables.models_in(run.rows) for t in tables.sets_in(run.rows)]


def _score(run: Run, model: str, test_set: str, key: str) -> Quantity | None:
    return tables.quantity(run.rows, model, test_set, key)


def beta_section(run: Run) -> Section | None:
    """S, U and HM against beta, and HM at the validated beside HM at the best beta."""
    keys = run.names("curve.", ".beta")
    measured = any(row.get("hm_oracle") is not None for row in run.rows)
    if not keys and not measured:
        return None
    curves = {m: {name: _beta_curve(run, m, name) for name in sets} for m, sets in run.by_model(keys).items()}
    figures = [
        figure_html(plots.beta_curves(each, model), f"{model}: S, U and HM against β.", wide=True)
        for model, each in curves.items()
    ]
    seeds = any(curve.hm_range is not None for each in curves.values() for curve in each.values())
    intro = (
        "<p>β is a handicap on the scores of seen classes: a larger β favours unseen classes. It was chosen on "
        f"validation clips and never on the test clips drawn here.{SEEDS if seeds else ''}</p>"
    )
    table = table_html(tables.calibration_table(run.rows), "Validated and oracle β, HM in percent") if measured else ""
    return Section("calibration", "Calibration", f"{intro}{grid(figures, '30rem')}\n{table}")


def _beta_curve(run: Run, model: str, test_set: str) -> plots.BetaCurve:
    """Mean over seeds, and the range of HM where there are several."""
    prefix, names = f"curve.{model}|{test_set}", ("beta", "seen", "unseen", "hm")
    values = {name: np.atleast_2d(run.arrays.get(f"{prefix}.{name}", ())) for name in names}
    if len({v.shape[1] for v in values.values()}) != 1:
        lengths = {name: v.shape[1] for name, v in values.items()}
        raise fail("arrays.npz", f"{prefix}.beta, seen, unseen and hm of one length", str(lengths))
    chosen, hm = _score(run, model, test_set, "beta"), values["hm"]
    return plots.BetaCurve(
        **{name: v.mean(0) for name, v in values.items()},
        chosen=None if chosen is None else chosen.mean,
        hm_range=np.stack([hm.min(0), hm.max(0)]) if len(hm) > 1 else None,
    )


def training_section(run: Run) -> Section | None:
    """Every logged quantity over the training steps, and how long training took."""
    models = run.listed(run.names("log.", ".step"))
    quantities: dict[str, dict[str, tuple[Array, Array]]] = {}
    for model in models:
        step = run.arrays[f"log.{model}.step"]
        for name in run.names(f"log.{model}.", ""):
            if "." in name:  # of a model whose name begins like this one's
                continue
            value = run.arrays[f"log.{model}.{name}"]
            if value.shape[-1:] != step.shape:
                raise fail("arrays.npz", f"log.{model}.{name} as long as log.{model}.step", f"{value.shape}")
            if name != "step":
                title, scale = LOGGED.get(name, (name, 1))
                quantities.setdefault(title, {})[model] = (step, scale * value)
    figures = [
        figure_html(plots.training_curves(curves, name), f"{name} of {'every' if len(curves) > 1 else 'the'} model.")
        for name, curves in quantities.items()
    ]
    times = {
        m: tables.aggregate(r.get("train_s") for r in run.rows if r["model"] == m) for m in tables.models_in(run.rows)
    }
    known = [f"{m} {q.mean:.0f} s" for m, q in times.items() if q is not None]
    if not figures and not known:
        return None
    spent = f"<p>Training took, per seed: {escape(', '.join(known))}.</p>" if known else ""
    smoothed = any(len(step) >= plots.SMOOTHED_FROM for curves in quantities.values() for step, _ in curves.values())
    caption = "<p>Faint lines are single steps, strong ones a running mean.</p>" if smoothed else ""
    if any(value.ndim > 1 for curves in quantities.values() for _, value in curves.values()):
        caption += f"<p>{SEEDS.strip()}</p>"
    return Section("training", "Training", caption + grid(figures, "24rem") + spent)


def layers_section(run: Run) -> Section | None:
    """Spike rate, dead share and threshold spread of every layer."""
    table = tables.layers_table(run.rows)
    if not table.rows:
        return None
    return Section("layers", "Spiking layers", table_html(table, "Spiking layers over the test clips"))


def energy_section(run: Run) -> Section | None:
    """What ``neuroav energy`` found: accuracy against energy, counts, limits, conditions."""
    return None if run.energy is None else Section("energy", "Energy", section_html(run.energy))


def settings_section(run: Run) -> Section | None:
    """Settings and versions, nested names joined by dots."""
    parts = []
    for key in ("settings", "versions"):
        values = run.results.get(key) or {}
        entries = list(flatten(values["experiment"] if [*values] == ["experiment"] else values))
        if entries:
            body = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in entries)
            parts.append(f"<h3>{key.capitalize()}</h3><div class=settings><table>{body}</table></div>")
    return Section("settings", "Settings and versions", "\n".join(parts)) if parts else None


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted name, text) for every leaf of nested mappings; a ``type`` stands under its owner's name.

    Example:
        >>> list(flatten({"train": {"type": "a.loop:Train", "steps": 300, "lr": None}}))
        [('train', 'Train'), ('train.steps', '300'), ('train.lr', 'none')]
    """
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif key == "type" and prefix:
            yield prefix.removesuffix("."), str(value).rpartition(":")[2]
        else:
            yield name, "none" if value is None else value if isinstance(value, str) else json.dumps(value)


SECTIONS: tuple[Callable[[Run], Section | None], ...] = (
    results_section,
    clip_section,
    classes_section,
    gains_section,
    embedding_section,
    beta_section,
    training_section,
    layers_section,
    energy_section,
    settings_section,
)


def main(arguments: Sequence[str]) -> int:
    """Rebuild the page of one run directory; returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m neuroav.report.html RUN_DIR\n")
        return 2
    try:
        sys.stdout.write(f"{write_report(Path(arguments[0]))}\n")
    except NeuroavError as error:
        sys.stderr.write(f"neuroav.report.html: error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
