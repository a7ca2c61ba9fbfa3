"""Tables of results: seeds become mean and spread, fractions become percent, and nothing missing becomes zero."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from neuroav.checks import fail, some

Kind = Literal["percent", "count", "plain"]
Row = Mapping[str, Any]

MISSING = "-"
NONE = "none"  # what a model has not got, as against a figure that was not measured
TEST_SETS = {"biased": "scenes as in training", "shuffled": "scenes drawn at random", "test": ""}
COSTS = ("macs", "acs", "parameters", "train_s")
SCORES = {"seen": "S", "unseen": "U", "hm": "HM", "zsl": "ZSL"}
DEAD_LIMIT = 0.5
RATE_LIMITS = (0.01, 0.5)


@dataclass(frozen=True)
class Quantity:
    """A mean over seeds with its sample standard deviation (``None`` for one seed).

    Example:
        >>> Quantity(0.452, 0.021, n=3).text()
        '45.2±2.1'
        >>> Quantity(1_230_000.0, None, n=1, kind="count").text()
        '1.23M'
    """

    mean: float
    sd: float | None
    n: int
    kind: Kind = "percent"

    def text(self) -> str:
        """Return the figure as printed; counts are shown without their spread."""
        if self.kind == "count":
            return format_count(self.mean)
        scale, digits = (100, 1) if self.kind == "percent" else (1, 3)
        spread = "" if self.sd is None else f"±{scale * self.sd:.{digits}f}"
        return f"{scale * self.mean:.{digits}f}{spread}"


Cell = str | Quantity | None


@dataclass(frozen=True)
class Column:
    """One column; neighbours with the same ``group`` share a heading."""

    title: str
    group: str = ""


@dataclass(frozen=True)
class Table:
    """Columns, rows of cells (``None`` is not measured) and the notes that explain them."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = field(default=())


def format_count(value: float) -> str:
    """Return a count with three digits and a decimal prefix.

    Example:
        >>> [format_count(v) for v in (0, 950, 12_340, 2.5e9)]
        ['0', '950', '12.3k', '2.50G']
    """
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            scaled = value / limit
            digits = max(0, 2 - int(math.log10(abs(scaled))))
            return f"{scaled:.{digits}f}{letter}"
    return f"{value:.0f}"


def aggregate(values: Iterable[float | None], kind: Kind = "percent") -> Quantity | None:
    """Return mean and sample standard deviation over the seeds that have a value, ``None`` if none has.

    Example:
        >>> aggregate([0.25, None, 0.75]).text()
        '50.0±35.4'
    """
    known = [float(v) for v in values if v is not None and not math.isnan(v)]
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 else None
    return Quantity(statistics.fmean(known), sd, len(known), kind)


def models_in(rows: Sequence[Row]) -> list[str]:
    """Return the models in the order of their first row."""
    for i, row in enumerate(rows):
        if "model" not in row or "test_set" not in row:
            raise fail("results.json", f"rows[{i}] with model and test_set", f"keys {', '.join(sorted(row)) or 'none'}")
    return list(dict.fromkeys(str(row["model"]) for row in rows))


def sets_in(rows: Sequence[Row]) -> list[str]:
    """Return the test sets that occur: biased, shuffled, test, then any other in order of appearance."""
    found = dict.fromkeys(str(row["test_set"]) for row in rows)
    return [*(name for name in TEST_SETS if name in found), *(name for name in found if name not in TEST_SETS)]


def quantity(rows: Sequence[Row], model: str, test_set: str, key: str, kind: Kind = "percent") -> Quantity | None:
    """Aggregate ``key`` over the seeds of one model on one test set."""
    return aggregate((r.get(key) for r in rows if r["model"] == model and r["test_set"] == test_set), kind)


def results_table(rows: Sequence[Row]) -> Table:
    """Return the one table of a run: a row per model, scores per test set, spikes and operations.

    Args:
        rows: ``results.json["rows"]``: fractions, one row per (model, test set, seed); absent or ``None`` values
            stay missing.

    Returns:
        Percent for scores, rates and shares; counts for operations.

    Raises:
        InputError: If a row lacks ``model`` or ``test_set``.

    Example:
        >>> table = results_table([{"model": "m", "test_set": "test", "seed": 0, "seen": 0.5, "unseen": 0.25}])
        >>> [c if c is None or isinstance(c, str) else c.text() for c in table.rows[0]][:4]
        ['m', '50.0', '25.0', None]
    """
    models, test_sets = models_in(rows), sets_in(rows)
    columns = [Column("model")]
    columns += [Column(title, name) for name in test_sets for title in SCORES.values()]
    if "shuffled" in test_sets:
        columns.append(Column("scene", "follows"))
    columns += [Column("rate", "spikes"), Column("dead", "spikes"), Column("MAC", "ops/clip"), Column("AC", "ops/clip")]
    columns += [Column("weights"), Column("train s")]
    body: list[tuple[Cell, ...]] = []
    for model in models:
        cells: list[Cell] = [model]
        cells += [quantity(rows, model, name, key) for name in test_sets for key in SCORES]
        if "shuffled" in test_sets:
            cells.append(quantity(rows, model, "shuffled", "follows_scene"))
        cells += [*_spike_figures(rows, model), *(_first(rows, model, key) for key in COSTS)]
        body.append(tuple(cells))
    return Table(tuple(columns), tuple(body), _results_notes(rows, test_sets))


def _first(rows: Sequence[Row], model: str, key: str) -> Quantity | None:
    """Aggregate a count on the first test set that has it."""
    figures = (quantity(rows, model, name, key, "count") for name in sets_in(rows))
    return next((figure for figure in figures if figure is not None), None)


def _layer_rows(rows: Sequence[Row], model: str) -> list[Row]:
    """Return the rows with layer figures on the first test set that has any."""
    for name in sets_in(rows):
        found = [r for r in rows if r["model"] == model and r["test_set"] == name and r.get("layers")]
        if found:
            return found
    return []


def _spike_figures(rows: Sequence[Row], model: str) -> tuple[Cell, Cell]:
    """Return the spike rate averaged over layers and the dead share of the worst layer; no layers have neither."""
    if any(row.get("layers") == [] for row in rows if row["model"] == model):
        return NONE, NONE
    rates: list[float] = []
    worst: list[float] = []
    for row in _layer_rows(rows, model):
        if (rate := aggregate(layer.get("rate") for layer in row["layers"])) is not None:
            rates.append(rate.mean)
        if dead := [layer["dead_share"] for layer in row["layers"] if layer.get("dead_share") is not None]:
            worst.append(max(dead))
    return aggregate(rates), aggregate(worst)


def _results_notes(rows: Sequence[Row], test_sets: Sequence[str]) -> tuple[str, ...]:
    notes = [
        f"Percent. {seeds_note(rows)}",
        "S, U: mean recall of seen and unseen classes at the β chosen on validation; HM: harmonic mean; "
        f"ZSL: unseen classes only{_chance_note(rows)}.",
    ]
    if clips := _clips_note(rows, test_sets):
        notes.append(clips)
    notes += _empty_classes_notes(rows, test_sets)
    if "shuffled" in test_sets:
        notes.append("follows scene: share of shuffled clips given a class whose preferred scene is the one shown.")
    notes.append("rate: spikes per neuron and step, mean over layers; dead: silent neurons in the worst layer.")
    notes.append("MAC, AC: estimate, counted from the model and its spikes, not measured on a device.")
    notes.append("weights: parameters; train s: seconds of training and validation.")
    return tuple(notes)


def seeds_note(rows: Sequence[Row]) -> str:
    """Return the sentence that says over which seeds each figure is taken.

    Example:
        >>> seeds_note([{"model": "m", "test_set": "test", "seed": seed} for seed in (0, 1)])
        'Mean ± s.d. over n = 2 seeds (0, 1).'
    """
    seeds = {m: sorted({r["seed"] for r in rows if r["model"] == m and "seed" in r}) for m in models_in(rows)}
    counts = {m: max(1, len(found)) for m, found in seeds.items()}
    sizes = sorted(set(counts.values()))
    same = {", ".join(map(str, found)) for found in seeds.values()}
    names = f" ({same.pop()})" if len(same) == 1 and same != {""} else ""
    if sizes == [1]:
        return f"One seed{names}, so no spread: small differences are not findings."
    if len(sizes) == 1:
        return f"Mean ± s.d. over n = {sizes[0]} seeds{names}."
    return "Mean ± s.d. over seeds, n: " + ", ".join(f"{m} {n}" for m, n in counts.items()) + "."


def _clips_note(rows: Sequence[Row], test_sets: Sequence[str]) -> str:
    """Say how many clips each test set has, and what sets it apart."""
    parts = []
    for name in test_sets:
        if (clips := aggregate((r.get("num_clips") for r in rows if r["test_set"] == name), "count")) is not None:
            what = TEST_SETS.get(name)
            parts.append(f"{clips.mean:g}" if name == "test" else f"{name} {clips.mean:g}" + f" ({what})" * bool(what))
    return f"Clips tested: {', '.join(parts)}." if parts else ""


def _empty_classes_notes(rows: Sequence[Row], test_sets: Sequence[str]) -> list[str]:
    """Say which classes have no clip to recall."""
    notes = []
    for name in test_sets:
        own = [row.get("classes_without_clips") or () for row in rows if row["test_set"] == name]
        if empty := sorted({label for labels in own for label in labels}):
            notes.append(f"{name}: no clip of {some(empty)} ({len(empty)} in all), left out of the means.")
    return notes


def _chance_note(rows: Sequence[Row]) -> str:
    chance = aggregate(row.get("chance_zsl") for row in rows)
    return "" if chance is None else f" (chance {100 * chance.mean:.1f})"


def calibration_table(rows: Sequence[Row]) -> Table:
    """Return HM at the validated beta beside HM at each test set's own best beta, which no model may use.

    Example:
        >>> row = {"model": "m", "test_set": "test", "hm": 0.3, "beta": 1.2, "hm_oracle": 0.4, "beta_oracle": 0.8}
        >>> print(format_text(calibration_table([row])).splitlines()[2])
        m     | 1.200 30.0    0.800      40.0     -
    """
    fields: tuple[tuple[str, str, Kind], ...] = (
        ("beta", "β", "plain"),
        ("hm", "HM", "percent"),
        ("beta_oracle", "oracle β", "plain"),
        ("hm_oracle", "oracle HM", "percent"),
        ("ausuc", "AUSUC", "percent"),
    )
    test_sets = sets_in(rows)
    columns = [Column("model"), *(Column(title, name) for name in test_sets for _, title, _ in fields)]
    body = [
        (model, *(quantity(rows, model, name, key, kind) for name in test_sets for key, _, kind in fields))
        for model in models_in(rows)
    ]
    note = "β: chosen on validation; oracle β: best on the test set itself, shown for comparison only."
    area = "AUSUC: area under the curve of S against U over all β."
    return Table(tuple(columns), tuple(body), (note, area))


def seeds_table(rows: Sequence[Row]) -> Table:
    """Return the scores of every seed by itself, with the interval that the choice of test clips leaves to HM.

    Example:
        >>> row = {"model": "m", "test_set": "test", "seed": 3, "hm": 0.3, "interval95": {"hm": [0.25, 0.36]}}
        >>> print(format_text(seeds_table([row])).splitlines()[1])
        m         test    3 - - 30.0   - 25.0 to 36.0
    """
    columns = ("model", "test set", "seed", *SCORES.values(), "HM, 95 %")
    body: list[tuple[Cell, ...]] = []
    for model in models_in(rows):
        for name in sets_in(rows):
            for row in (r for r in rows if r["model"] == model and r["test_set"] == name):
                scores = (aggregate([row.get(key)]) for key in SCORES)
                body.append((model, name, str(row.get("seed", MISSING)), *scores, _interval_text(row, "hm")))
    note = "95 %: bootstrap over the test clips of each class at the validated β; another seed is not in it."
    return Table(tuple(map(Column, columns)), tuple(body), (note,))


def _interval_text(row: Row, key: str) -> str | None:
    low, high = (row.get("interval95") or {}).get(key, (None, None))
    return None if low is None or math.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}"


def layers_table(rows: Sequence[Row]) -> Table:
    """Return one row per model and spiking layer: rate, dead share, threshold, and a warning where one is due."""
    columns = ("model", "layer", "rate %", "dead %", "θ mean", "θ s.d.", "warning")
    fields: tuple[tuple[str, Kind], ...] = (
        ("rate", "percent"),
        ("dead_share", "percent"),
        ("theta_mean", "plain"),
        ("theta_std", "plain"),
    )
    body: list[tuple[Cell, ...]] = []
    for model in models_in(rows):
        found = _layer_rows(rows, model)
        for name in dict.fromkeys(layer["name"] for row in found for layer in row["layers"]):
            same = [(row.get("seed"), layer) for row in found for layer in row["layers"] if layer["name"] == name]
            figures = [aggregate((layer.get(key) for _, layer in same), kind) for key, kind in fields]
            body.append((model, name, *figures, layer_warning(same)))
    note = (
        f"A warning is shown where in any run more than {100 * DEAD_LIMIT:.0f} % of a layer never spikes, "
        f"or its rate lies outside {100 * RATE_LIMITS[0]:.0f}-{100 * RATE_LIMITS[1]:.0f} %; "
        "it names the seeds where some runs are well."
    )
    return Table(tuple(map(Column, columns)), tuple(body), (note,))


def layer_warning(runs: Sequence[tuple[int | None, Mapping[str, Any]]]) -> str:
    """Return what is wrong with a layer, or an empty string; where not in every run, in which seeds.

    Args:
        runs: seed and ``layers`` entry of each run.

    Example:
        >>> silent, well = {"rate": 0.004, "dead_share": 0.6}, {"rate": 0.1, "dead_share": 0.0}
        >>> layer_warning([(0, silent)]), layer_warning([(0, silent), (1, well)])
        ('mostly dead, hardly spikes', 'mostly dead (seed 0), hardly spikes (seed 0)')
    """
    found: dict[str, list[int | None]] = {}
    for seed, layer in runs:
        rate, dead = layer.get("rate"), layer.get("dead_share")
        if dead is not None and dead > DEAD_LIMIT:
            found.setdefault("mostly dead", []).append(seed)
        if rate is not None and rate < RATE_LIMITS[0]:
            found.setdefault("hardly spikes", []).append(seed)
        if rate is not None and rate > RATE_LIMITS[1]:
            found.setdefault("spikes nearly always", []).append(seed)
    return ", ".join(word + _in_seeds(seeds, len(runs)) for word, seeds in found.items())


def _in_seeds(seeds: Sequence[int | None], num_runs: int) -> str:
    if len(seeds) == num_runs:
        return ""
    numbers = dict.fromkeys(str(seed) for seed in seeds if seed is not None)
    if not numbers:
        return f" ({len(seeds)} of {num_runs} runs)"
    return f" (seed{'s' * (len(numbers) > 1)} {', '.join(numbers)})"


def layer_warnings(rows: Sequence[Row]) -> list[str]:
    """Return one line for every layer that deserves a warning."""
    return [f"{row[0]}, layer {row[1]}: {row[-1]}" for row in layers_table(rows).rows if row[-1]]


def _layers_block(rows: Sequence[Row]) -> Table:
    """Return rate/dead share with a row per model and a column per layer, to fit a terminal."""
    long = layers_table(rows).rows
    layers = list(dict.fromkeys(str(row[1]) for row in long))
    cells = {(row[0], row[1]): "/".join(map(_mean_text, row[2:4])) for row in long}
    body = [(m, *(cells.get((m, name)) for name in layers)) for m in dict.fromkeys(str(row[0]) for row in long)]
    columns = (Column("model"), *(Column(name, "spike rate/dead share per layer") for name in layers))
    return Table(columns, tuple(body))


def _mean_text(cell: Cell) -> str:
    return f"{100 * cell.mean:.1f}" if isinstance(cell, Quantity) else MISSING


def cell_text(cell: Cell, missing: str = MISSING) -> str:
    """Return a cell as plain text."""
    if cell is None:
        return missing
    return cell.text() if isinstance(cell, Quantity) else cell


def format_text(table: Table) -> str:
    """Return aligned plain text: group headings, titles, rows, notes.

    Example:
        >>> print(format_text(Table((Column("m"), Column("S", "test"), Column("U", "test")), (("a", "1", None),))))
          | test
        m | S  U
        a | 1  -
    """
    body = [[cell_text(cell) for cell in row] for row in table.rows]
    widths = [max(map(len, (c.title, *(row[i] for row in body)))) for i, c in enumerate(table.columns)]
    spans = column_groups(table.columns)
    for title, start, stop in spans:
        widths[stop - 1] += max(0, len(title) - sum(widths[start:stop]) - (stop - start - 1))

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return " | ".join(" ".join(padded[start:stop]) for _, start, stop in spans).rstrip()

    heads = []
    if any(c.group for c in table.columns):
        total = [sum(widths[a:b]) + b - a - 1 for _, a, b in spans]
        heads = [" | ".join(title.center(w) for (title, _, _), w in zip(spans, total, strict=True)).rstrip()]
    return "\n".join([*heads, line([c.title for c in table.columns]), *map(line, body), *table.notes])


def column_groups(columns: Sequence[Column]) -> list[tuple[str, int, int]]:
    """Return (group, first, last + 1) for each run of columns that share a group."""
    spans: list[tuple[str, int, int]] = []
    for i, column in enumerate(columns):
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1], i + 1)
        else:
            spans.append((column.group, i, i + 1))
    return spans


def _flat_titles(table: Table) -> list[str]:
    return [f"{c.group} {c.title}".strip() for c in table.columns]


def format_markdown(table: Table) -> str:
    """Return a Markdown table; groups go into the titles.

    Example:
        >>> print(format_markdown(Table((Column("m"), Column("S", "test")), (("a|b", None),))))
        | m | test S |
        |:--|--:|
        | a\\|b | - |
    """

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|:--|" + "--:|" * (len(table.columns) - 1)
    body = [line(map(cell_text, row)) for row in table.rows]
    notes = ["", *table.notes] if table.notes else []
    return "\n".join([line(_flat_titles(table)), rule, *body, *notes])


def format_csv(table: Table) -> str:
    """Return comma-separated values in percent or counts; a column with any spread is followed by its s.d.

    Example:
        >>> print(format_csv(Table((Column("m"), Column("S", "test")), (("a", Quantity(0.5, 0.1, 2)),))))
        m,test S,test S s.d.
        a,50,10
        <BLANKLINE>
    """
    spread = [any(isinstance(c, Quantity) and c.sd is not None for c in column) for column in zip(*table.rows)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    spread += [False] * (len(table.columns) - len(spread))
    titles = [[t, f"{t} s.d."] if s else [t] for t, s in zip(_flat_titles(table), spread)]
    writer.writerow([title for pair in titles for title in pair])
    for row in table.rows:
        writer.writerow([value for cell, s in zip(row, spread) for value in _csv_values(cell, s)])
    return out.getvalue()


def _csv_values(cell: Cell, spread: bool) -> list[str]:
    if not isinstance(cell, Quantity):
        return [cell or "", ""] if spread else [cell or ""]
    scale = 100 if cell.kind == "percent" else 1
    values = [f"{scale * cell.mean:.6g}" if cell.kind == "count" else f"{scale * cell.mean:.4g}"]
    if spread:
        values.append("" if cell.sd is None else f"{scale * cell.sd:.4g}")
    return values


def format_results(rows: Sequence[Row]) -> str:
    """Return what a command prints at its end: the table, the calibration, the layers, and any warning.

    Args:
        rows: ``results.json["rows"]``.
    """
    blocks = [format_text(results_table(rows))]
    if any(row.get("hm_oracle") is not None for row in rows):
        blocks.append(format_text(calibration_table(rows)))
    if any(row.get("interval95") for row in rows):
        blocks.append(format_text(seeds_table(rows)))
    layers = _layers_block(rows)
    if layers.rows:
        blocks.append(format_text(layers))
    warnings = layer_warnings(rows)
    if warnings:
        blocks.append("\n".join(f"warning: {line}" for line in warnings))
    return "\n\n".join(blocks)


def summary_sentence(rows: Sequence[Row]) -> str:
    """Return one sentence on the best model of the hardest test set present, with its runner-up.

    Example:
        >>> summary_sentence([{"model": "a", "test_set": "test", "seed": 0, "hm": 0.4}]).split(". ")[0]
        'a has a harmonic mean of 40.0 % on the test set'
    """
    test_sets = sets_in(rows)
    if not test_sets:
        return "No model has been evaluated."
    name = "shuffled" if "shuffled" in test_sets else test_sets[0]
    scored = [(q, m) for m in models_in(rows) if (q := quantity(rows, m, name, "hm")) is not None]
    if not scored:
        return "No harmonic mean has been measured."
    ranked = sorted(scored, key=lambda pair: -pair[0].mean)
    known = {"shuffled": "clips with shuffled scenes", "biased": "clips with the training scenes"}
    where = known.get(name, "the test set")
    best, model = ranked[0]
    zsl = quantity(rows, model, name, "zsl")
    text = f"The highest harmonic mean on {where} is {best.text()} %: {model}"
    if len(ranked) == 1:
        text = f"{model} has a harmonic mean of {best.text()} % on {where}"
    if zsl is not None:
        text += f" (ZSL {zsl.text()} %)"
    if len(ranked) > 1:
        text += f"; second: {ranked[1][1]}, {ranked[1][0].text()} %"
    return f"{text}. {seeds_note(rows)}"
