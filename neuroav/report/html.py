"""One self-contained page of a run: reads ``results.json`` and ``arrays.npz``, writes ``report.html``."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroav import __version__
from neuroav.checks import NeuroavError, fail
from neuroav.report import clip, plots, tables
from neuroav.report.plots import Plot
from neuroav.report.tables import Quantity, Table
from neuroav.train.checkpoint import replacing

Array = NDArray[Any]
NOT_MEASURED = '<span class="missing">not measured</span>'
LOGGED = {"loss": ("Training loss", 1), "val_hm": ("Validation HM (percent)", 100)}  # title and scale of what runs log


@dataclass(frozen=True)
class Run:
    """What a run directory holds for the page: ``results.json`` and the arrays of ``arrays.npz`` by name."""

    results: Mapping[str, Any]
    arrays: Mapping[str, Array]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``results.json``."""
        return self.results.get("rows", [])

    def names(self, start: str, end: str) -> list[str]:
        """Return what stands between ``start`` and ``end`` in the array names that have both, in stored order.

        Example:
            >>> Run({}, {"raster.video.0.spikes": np.zeros(1), "raster.t_s": np.zeros(1)}).names("raster.", ".spikes")
            ['video.0']
        """
        return [
            name[len(start) : len(name) - len(end)]
            for name in self.arrays
            if name.startswith(start) and name.endswith(end) and len(name) > len(start) + len(end)
        ]


@dataclass(frozen=True)
class Section:
    """A heading with its anchor and finished HTML."""

    anchor: str
    title: str
    body: str


def read_run(run_dir: Path) -> Run:
    """Read the two files of a run directory; ``arrays.npz`` may be absent, the page then has no figures of a clip.

    Raises:
        InputError: If ``results.json`` is missing or not what a run writes, or ``arrays.npz`` can't be read.
    """
    path = run_dir / "results.json"
    remedy = "Give the directory that neuroav demo or neuroav run wrote."
    if not path.is_file():
        raise fail(str(run_dir), "a run directory with results.json", "none", remedy)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise fail(str(path), "JSON", str(error), remedy) from None
    if not isinstance(results, dict) or not isinstance(results.get("rows", []), list):
        raise fail(str(path), "an object with a list of rows", type(results).__name__, remedy)
    return Run(results, _read_arrays(run_dir / "arrays.npz"))


def _read_arrays(path: Path) -> dict[str, Array]:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise fail(str(path), "arrays without pickled objects", str(error), "Run the experiment again.") from None


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
    with replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
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


def page(title: str, summary: str, sections: Sequence[Section], *, note: str = "", made: str) -> str:
    """Return a self-contained page: one text, no reference outside itself.

    Args:
        title: Heading, plain text.
        summary: A sentence below it, plain text.
        sections: What follows, in order.
        note: HTML below the summary.
        made: HTML of what the page was made from and how to make it again, for its last line.
    """
    assets = files("neuroav.report") / "assets"
    return Template((assets / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        summary=escape(summary),
        note=note,
        contents="\n".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections),
        body="\n".join(
            f'<section id="{s.anchor}">\n<h2>{escape(s.title)}</h2>\n{s.body}\n</section>' for s in sections
        ),
        css=(assets / "report.css").read_text(encoding="utf-8"),
        script=(assets / "report.js").read_text(encoding="utf-8"),
        version=__version__,
        made=made,
    )


def results_section(run: Run) -> Section:
    """The one table, any warning about a layer, and HM and ZSL at a glance."""
    table = tables.results_table(run.rows)
    parts = [table_html(table, "Generalised zero-shot scores, spikes and operations")]
    if any(row.get("interval95") for row in run.rows):
        parts.append(table_html(tables.seeds_table(run.rows), "Every seed"))
    if not run.arrays:
        parts.append(
            _callout("This run directory has no arrays.npz, so figures of the clip and the models are left out.")
        )
    warnings = tables.layer_warnings(run.rows)
    if warnings:
        parts.append(
            _callout("These layers need attention; their model's scores may not come from its spikes:", warnings)
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
    parts.append(_grid(figures, "24rem"))
    return Section("results", "Results", "\n".join(parts))


def _hms(run: Run) -> list[Quantity | None]:
    return [_score(run, m, t, "hm") for m in tables.models_in(run.rows) for t in tables.sets_in(run.rows)]


def _score(run: Run, model: str, test_set: str, key: str) -> Quantity | None:
    return tables.quantity(run.rows, model, test_set, key)


def clip_section(run: Run) -> Section | None:
    """The moving picture beside its events."""
    arrays = run.arrays
    needed = ("clip.frames", "clip.t_us", *(f"clip.events.{name}" for name in ("t_us", "x", "y", "p")))
    if "clip.absent" in arrays:
        return Section("clip", "A clip and its events", _callout(f"No clip is shown: {arrays['clip.absent']}"))
    if any(name not in arrays for name in needed):
        return None
    sheets = clip.pack_clip(*(arrays[name] for name in needed))
    data = {k: getattr(sheets, k) for k in ("columns", "height", "width", "t_s", "counts")}
    title = str(arrays["clip.title"]) if "clip.title" in arrays else "one clip"
    thinned = f" Shown is {sheets.thinned}." if sheets.thinned else ""
    source = tuple(int(n) for n in arrays.get("clip.size", arrays["clip.frames"].shape[1:3]))
    small = arrays["clip.frames"].shape[1:3]
    seen = "" if source == small else f" The model sees {small[0]}x{small[1]} of {source[0]}x{source[1]} pixels."
    caption = f"{title}: {sum(sheets.counts):,} events beside the frames they come from.{seen}{thinned}"
    template = Template((files("neuroav.report") / "assets" / "player.html").read_text(encoding="utf-8"))
    body = template.substitute(
        width=sheets.width,
        height=sheets.height,
        aspect=f"{source[1]} / {source[0]}",
        last=len(sheets.t_s) - 1,
        frames=sheets.frames,
        events=sheets.events,
        caption=escape(caption),
        on="#{:02x}{:02x}{:02x}".format(*clip.EVENT_RGB[clip.ON]),
        off="#{:02x}{:02x}{:02x}".format(*clip.EVENT_RGB[clip.OFF]),
        data=json.dumps(data, separators=(",", ":")),
    )
    return Section("clip", "A clip and its events", body)


def sound_section(run: Run) -> Section | None:
    """The clip's sound: spectrogram and player."""
    if "clip.audio" not in run.arrays or "clip.audio_rate" not in run.arrays:
        return None
    audio, rate_hz = run.arrays["clip.audio"], int(run.arrays["clip.audio_rate"])
    if len(audio) < rate_hz * 0.032:
        return None
    caption = "Level of the clip's sound over time and frequency (32 ms frames); 0 dB is the loudest point."
    sound = clip.wav_uri(audio, rate_hz)
    player = f'<audio controls preload="metadata" src="{sound}" aria-label="Sound of the clip"></audio>'
    return Section("sound", "Its sound", figure_html(plots.spectrogram(audio, rate_hz), caption, wide=True) + player)


def raster_section(run: Run) -> Section | None:
    """Spikes of every layer with the dynamic threshold over them."""
    layers = run.names("raster.", ".spikes")
    if not layers or "raster.t_s" not in run.arrays:
        return None
    figures = []
    for layer in layers:
        theta = run.arrays.get(f"raster.{layer}.theta")
        plot = plots.spike_raster(run.arrays[f"raster.{layer}.spikes"], theta, run.arrays["raster.t_s"], layer)
        figures.append(figure_html(plot, f"Layer {layer}: spikes (marks) and threshold (line)."))
    repeats = int(run.arrays.get("raster.repeats", 1))
    times = (
        "" if repeats == 1 else f" Every step of the clip is presented {repeats} times, so it has {repeats} columns."
    )
    intro = (
        f"<p>Each mark is a spike of one neuron while the clip above runs through the trained model.{times} "
        "The line is the threshold θ that a membrane had to reach, one for all neurons of a layer.</p>"
    )
    return Section("spikes", "Spikes and thresholds", intro + _grid(figures, "20rem"))


def classes_section(run: Run) -> Section | None:
    """Recall per class and confusion matrix of every model, the first one open."""
    keys = [key for key in run.names("confusion.", "") if key not in ("classes", "seen")]
    if not keys or "confusion.classes" not in run.arrays or "confusion.seen" not in run.arrays:
        return None
    parts = ["<p>Decisions among all classes at the validated β. Seen classes come first, unseen ones are hatched.</p>"]
    for i, (model, test_sets) in enumerate(_by_model(keys, run.rows).items()):
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


def beta_section(run: Run) -> Section | None:
    """S, U and HM against beta, and HM at the validated beside HM at the best beta."""
    keys = run.names("curve.", ".beta")
    measured = any(row.get("hm_oracle") is not None for row in run.rows)
    if not keys and not measured:
        return None
    figures = []
    for model, test_sets in _by_model(keys, run.rows).items():
        curves = {test_set: _beta_curve(run, model, test_set) for test_set in test_sets}
        figures.append(figure_html(plots.beta_curves(curves, model), f"{model}: S, U and HM against β.", wide=True))
    intro = (
        "<p>β is a handicap on the scores of seen classes: a larger β favours unseen classes. It was chosen on "
        "validation clips and never on the test clips drawn here.</p>"
    )
    table = table_html(tables.calibration_table(run.rows), "Validated and oracle β, HM in percent") if measured else ""
    return Section("calibration", "Calibration", f"{intro}{_grid(figures, '30rem')}\n{table}")


def _beta_curve(run: Run, model: str, test_set: str) -> plots.BetaCurve:
    prefix = f"curve.{model}|{test_set}"
    values = {name: run.arrays.get(f"{prefix}.{name}") for name in ("beta", "seen", "unseen", "hm")}
    lengths = {name: None if v is None else v.shape for name, v in values.items()}
    if len(set(lengths.values())) != 1:
        raise fail("arrays.npz", f"{prefix}.beta, seen, unseen and hm of one length", str(lengths))
    chosen = _score(run, model, test_set, "beta")
    return plots.BetaCurve(**values, chosen=None if chosen is None else chosen.mean)  # type: ignore[arg-type]


def training_section(run: Run) -> Section | None:
    """Every logged quantity over the training steps, and how long training took."""
    models = _as_listed(run.names("log.", ".step"), run.rows)
    quantities: dict[str, dict[str, tuple[Array, Array]]] = {}
    for model in models:
        step = run.arrays[f"log.{model}.step"]
        for name in run.names(f"log.{model}.", ""):
            value = run.arrays[f"log.{model}.{name}"]
            if value.shape != step.shape:
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
    return Section("training", "Training", caption + _grid(figures, "24rem") + spent)


def layers_section(run: Run) -> Section | None:
    """Spike rate, dead share and threshold spread of every layer."""
    table = tables.layers_table(run.rows)
    if not table.rows:
        return None
    return Section("layers", "Spiking layers", table_html(table, "Spiking layers over the test clips"))


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


def _by_model(keys: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Group ``model|test set`` names by model, in the order of the table."""
    found: dict[str, list[str]] = {}
    for key in keys:
        model, _, test_set = key.rpartition("|")
        found.setdefault(model or test_set, []).append(test_set)
    return {model: found[model] for model in _as_listed(found, rows)}


def _as_listed(models: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sort models as the table lists them; any other comes last."""
    listed = tables.models_in(rows)
    return sorted(models, key=lambda model: listed.index(model) if model in listed else len(listed))


def _grid(figures: Sequence[str], cell: str) -> str:
    return f'<div class="grid" style="--cell: {cell}">\n' + "\n".join(figures) + "\n</div>" if figures else ""


def _callout(text: str, lines: Sequence[str] = ()) -> str:
    items = f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""
    return f'<div class="warning" role="note"><strong>Note.</strong> {escape(text)}{items}</div>'


def figure_html(plot: Plot, caption: str, wide: bool = False) -> str:
    """Wrap a plot; ``wide`` lets it scroll instead of shrink on a narrow screen."""
    time = ""
    if plot.time is not None:
        time = f' data-time="{" ".join(f"{value:g}" for value in astuple(plot.time))}"'
    label = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    inner = f'<div class="plot"{time} style="--natural: {6.4 * plot.width_in:.1f}rem">{plot.svg}</div>'
    if wide:
        inner = f'<div class="wide" tabindex="0" role="group" aria-label="{escape(plot.alt)}">{inner}</div>'
    return f"<figure>{inner}{label}</figure>"


def table_html(table: Table, caption: str) -> str:
    """Return a table with grouped headings and its notes below."""
    groups = tables.column_groups(table.columns)
    edges = {start for _, start, _ in groups[1:]} if any(name for name, _, _ in groups) else set()
    head = ""
    if edges:
        cells = (
            f'<th class="group{" edge" * (a in edges)}" colspan="{b - a}" scope="colgroup">{escape(name)}</th>'
            if name
            else f'<td colspan="{b - a}"></td>'
            for name, a, b in groups
        )
        head = f"<tr>{''.join(cells)}</tr>"
    words = {i for i, cells in enumerate(zip(*table.rows)) if all(isinstance(cell, str) for cell in cells)}
    titles = "".join(
        f'<th scope="col"{_class("edge" * (i in edges), "text" * (i in words))}>{escape(c.title)}</th>'
        for i, c in enumerate(table.columns)
    )
    body = "".join(f"<tr>{_row_html(row, edges)}</tr>\n" for row in table.rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>\n'
        f"<caption>{escape(caption)}</caption>\n<thead>{head}<tr>{titles}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
        f'<ul class="notes">{notes}</ul>'
    )


def _class(*names: str) -> str:
    text = " ".join(filter(None, names))
    return f' class="{text}"' if text else ""


def _row_html(row: Sequence[tables.Cell], edges: set[int]) -> str:
    cells = [f'<th scope="row">{escape(tables.cell_text(row[0]))}</th>']
    for i, cell in enumerate(row[1:], start=1):
        edge = "edge" * (i in edges)
        if cell == tables.NONE:
            cells.append(f'<td{_class(edge)}><span class="missing">{tables.NONE}</span></td>')
        elif isinstance(cell, str):
            cells.append(f'<td class="{"warn" if i == len(row) - 1 else "text"}">{escape(cell)}</td>')
        else:
            cells.append(f"<td{_class(edge)}>{NOT_MEASURED if cell is None else _figure_text(cell)}</td>")
    return "".join(cells)


def _figure_text(figure: Quantity) -> str:
    mean, mark, spread = figure.text().partition("±")
    return mean + (f'<span class="sd">{mark}{spread}</span>' if mark else "")


SECTIONS: tuple[Callable[[Run], Section | None], ...] = (
    results_section,
    clip_section,
    sound_section,
    raster_section,
    classes_section,
    beta_section,
    training_section,
    layers_section,
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
