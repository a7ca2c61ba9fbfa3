"""Tables of ``neuroav energy``: counts, estimates and measurements, each in a section of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from neuroav.energy.cost import TABLES
from neuroav.energy.report import Row, estimate_range
from neuroav.report.tables import NONE, Column, Quantity, Table, format_text

RULE_NOTE = (
    "Rule: which products cost accumulates. `binary`: an operand is all 0 and 1, spikes. `event`: an operand is whole "
    "numbers, polarities and event counts too. Signed or graded events are dense multiply-accumulates by the first and "
    "sparse accumulates by the second; published counters take either, and differ by up to 17 times on such inputs."
)
COUNT_NOTE = (
    "Per clip, counted from shapes and from the values that ran, not measured. Dense: with zeros. SynOps: without zero "
    "activations. Weights, inputs, states: bytes moved, a weight for each operation; stored: bytes of the model. Every "
    "pass maps the class vectors anew: their share falls with the clips in a pass."
)

DRIVEN_NOTE = (
    "Dense: linear layer, normalisation and neurons one after the other, on all inputs. Spike-driven: in one pass that "
    "reads the weights of spikes only. The same trained weights and the true spikes of test clips; median ± distance "
    "of the quartiles, in turns, inference on a CPU. Differ: spikes that differ by rounding at the threshold; of a "
    "whole model, clips whose nearest class differs."
)


def format_joules(joules: float) -> str:
    """Return an energy with three digits and a prefix.

    Example:
        >>> [format_joules(value) for value in (3.2e-9, 1.5e-6, 0.0214, 12.0, 0.0, -2e-3)]
        ['3.20 nJ', '1.50 µJ', '21.4 mJ', '12.0 J', '0 J', '-2.00 mJ']
    """
    for limit, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p")):
        if abs(joules) >= limit:
            scaled = joules / limit
            return f"{scaled:.{max(0, 2 - int(math.log10(abs(scaled))))}f} {prefix}J"
    return f"{joules:g} J"


def _count(value: float | None) -> Quantity | None:
    return None if value is None else Quantity(value, None, 1, "count")


def _share(value: float | None) -> Quantity | None:
    return None if value is None else Quantity(value, None, 1)


def _plain(value: float | None) -> Quantity | None:
    return None if value is None else Quantity(value, None, 1, "plain")


def _name(row: Row) -> str:
    return f"{row['model']}, seed {row['seed']}" + ("" if row["trained"] else ", untrained")


def _accuracy(row: Row) -> float | None:
    """HM on the first test set."""
    return next((scores["hm"] for scores in row["scores"].values()), None)


def count_table(rows: Sequence[Row]) -> Table:
    """Return the operations of each model by each rule, with its accuracy beside them."""
    titles = ("MAC", "AC", "dense", "SynOps", "neuron updates", "element-wise")
    keys = ("macs", "acs", "dense_ops", "synops", "neuron_updates", "elementwise_ops")
    columns = [Column(title) for title in ("model", "rule", *titles, "spike rate %", "spikes per synapse", "HM %")]
    body = [
        (
            _name(row),
            row["rule"],
            *(_count(row[key]) for key in keys),
            _share(row["spike_rate"]) or NONE,
            _plain(row["spikes_per_synapse"]) or NONE,
            _share(_accuracy(row)),
        )
        for row in rows
    ]
    clips = ", ".join(str(number) for number in sorted({row["clips_counted"] for row in rows}))
    return Table(
        tuple(columns), tuple(body), (f"Counted on {clips} test clips in one pass. {COUNT_NOTE}", "", RULE_NOTE)
    )


def bytes_table(rows: Sequence[Row]) -> Table:
    """Return the bytes that each model moves."""
    keys = ("weight_bytes", "input_bytes", "state_bytes", "stored_bytes")
    columns = [Column(title) for title in ("model", "rule", "weights", "inputs", "states", "stored")]
    return Table(tuple(columns), tuple((_name(row), row["rule"], *(_count(row[key]) for key in keys)) for row in rows))


def layer_table(row: Row) -> Table:
    """Return the products of one model, layer by layer."""
    columns = [Column(title) for title in ("layer", "kind", "numbers", "MAC", "AC", "dense", "active %", "per synapse")]
    body = [
        (
            each["name"] or "(model)",
            each["kind"] if each["weights"] else f"{each['kind']}, activations",
            each["number"],
            *(_count(each[key]) for key in ("macs", "acs", "dense_ops")),
            _share(each["density"]),
            _plain(each["spikes_per_synapse"]) or NONE,
        )
        for each in row["layers"]
    ]
    note = f"Rule `{row['rule']}`. Active: values that are not zero. Per synapse: of these, per weight and clip."
    return Table(tuple(columns), tuple(body), (note,))


def neuron_table(row: Row) -> Table:
    """Return the neurons of one model: updates, and the spike rate from step to step."""
    columns = [Column(title) for title in ("neurons", "updates", "spikes", "rate %", "lowest step %", "highest step %")]
    body = [
        (
            each["name"],
            *(_count(each[key]) for key in ("updates", "spikes")),
            *(_share(value) for value in (each["rate"], min(each["rate_per_step"]), max(each["rate_per_step"]))),
        )
        for each in row["neurons"]
    ]
    return Table(tuple(columns), tuple(body))


def estimate_table(rows: Sequence[Row]) -> Table:
    """Return the estimates of one model by both rules; what the ends contain is in :func:`ends_table`."""
    ends = [Column(f"{end}, {row['rule']}", "estimate") for row in rows for end in ("low", "high")]
    body = []
    for entries in zip(*(row["estimates"] for row in rows), strict=True):
        values = (format_joules(each[key]) for each in entries for key in ("low_j", "high_j"))
        body.append((entries[0]["table"], entries[0]["node"], *values, entries[0].get("note", "")))
    notes = tuple(
        f"Estimate by rule `{row['rule']}`: {' to '.join(map(format_joules, estimate_range(row)))} a clip over "
        f"{len(row['estimates'])} tables."
        for row in rows
    )
    return Table((Column("table"), Column("node"), *ends, Column("priced as")), tuple(body), notes)


def ends_table(rows: Sequence[Row]) -> Table:
    """Return what the two ends of each table of prices contain."""
    means = {each["table"]: (each["low_means"], each["high_means"]) for row in rows for each in row["estimates"]}
    body = tuple((table, *ends) for table, ends in means.items())
    return Table((Column("table"), Column("low contains"), Column("high contains")), body)


def price_table() -> Table:
    """Return every price that the estimates use, what it contains and where it was printed."""
    columns = [Column(title) for title in ("price of one", "pJ", "node", "what is in it", "source")]
    prices = {price: None for table in TABLES for price in table.prices}
    body = [
        (each.operation, f"{each.value_pj:g}", each.node, each.definition, f"{each.source.text} ({each.source.doi})")
        for each in prices
    ]
    return Table(tuple(columns), tuple(body))


def break_even_table(rows: Sequence[Row]) -> Table:
    """Return the limits of the literature beside each model's own figure."""
    columns = [Column(title) for title in ("model", "figure", "own", "limit", "verdict", "found for", "source")]
    body = [
        (
            _name(row),
            each["quantity"].replace("_", " "),
            NONE if each["own"] is None else f"{each['own']:.3g}",
            f"{each['low']:g}" + ("" if each["low"] == each["high"] else f" to {each['high']:g}"),
            each["verdict"],
            each["condition"],
            each["source"],
        )
        for row in rows
        for each in row["break_even"]
    ]
    return Table(tuple(columns), tuple(body))


def measured_table(rows: Sequence[Row]) -> Table:
    """Return what was measured, or why nothing was."""
    columns = [
        Column(title) for title in ("model", "batch", "ms a pass", "clips/s", "meter", "gross", "net", "spread %")
    ]
    body: list[tuple[Any, ...]] = []
    for row in rows:
        reason = row["measured"].get("not_measured")
        for batch in row["measured"].get("batches", ()):
            times = (_name(row), str(batch["batch"]), f"{1e3 * batch['latency_s']:.3g}", f"{batch['clips_per_s']:.4g}")
            body += [(*times, *_energy_cells(each)) for each in batch.get("energy", ())]
            if reason is not None:
                body.append((*times, f"not measured ({reason})", None, None, None))
        if not row["measured"].get("batches"):
            body.append((_name(row), None, None, None, f"not measured ({reason})", None, None, None))
    return Table(tuple(columns), tuple(body), tuple(_measured_notes(rows)))


def _energy_cells(energy: Row) -> tuple[Any, ...]:
    spread = None if energy["gross_j_sd"] is None else f"{100 * energy['gross_j_sd'] / energy['gross_j']:.1f}"
    joules = (f"{format_joules(energy[key])}/clip" for key in ("gross_j", "net_j"))
    return f"{energy['meter']}, {energy['method']}", *joules, spread


def _measured_notes(rows: Sequence[Row]) -> list[str]:
    batches = [(row, batch) for row in rows for batch in row["measured"].get("batches", ())]
    notes = []
    if any(batch["energy"] for _, batch in batches):
        notes.append(
            "Gross: all the meter saw. Net: without the idle power before and after. Spread: s.d. of the trials."
        )
    return notes + [
        f"Warning: {_name(row)}, batch {batch['batch']}: {flag}." for row, batch in batches for flag in batch["flags"]
    ]


def spike_driven_table(rows: Sequence[Row]) -> Table:
    """Return the time of spiking layers driven by spikes and dense, where it was measured."""
    titles = (
        "model",
        "part",
        "batch",
        "input rate %",
        "dense ms",
        "spike-driven ms",
        "dense / spike-driven",
        "differ %",
    )
    body: list[tuple[Any, ...]] = []
    for row in rows:
        for each in row.get("spike_driven", {}).get("cases", ()):
            times = (f"{1e3 * each[f'{way}_s']:.3g} ± {1e3 * each[f'{way}_iqr_s']:.2g}" for way in ("dense", "sparse"))
            ratio = f"{each['dense_over_sparse']:.2f}"
            differ = each.get("spikes_differ", each.get("nearest_differ"))
            rate = _share(each["input_rate"]) if "input_rate" in each else ""
            body.append((_name(row), each["part"], str(each["batch"]), rate, *times, ratio, f"{100 * differ:.3g}"))
    return Table(tuple(map(Column, titles)), tuple(body), (DRIVEN_NOTE, *_driven_where(rows)))


def _driven_where(rows: Sequence[Row]) -> list[str]:
    entries = [row["spike_driven"] for row in rows if "cases" in row.get("spike_driven", {})]
    places = dict.fromkeys(f"{each['device']}, {each['threads']} threads" for each in entries)
    return [f"Measured on {place}." for place in places]


def uncounted_lines(row: Row) -> list[str]:
    """Say what is in none of a model's figures, with its share of the parameters."""
    lines = []
    for each in row["uncounted"]:
        share = (
            f"{each['share']:.1%} of the parameters" if each["parameters"] else "parameters that do not show, if any"
        )
        lines.append(f"- `{each['name'] or '(model)'}` ({each['kind']}): {each['reason']}; {share}")
    lines += [f"- {each['part']}: {each['not_counted']}" for each in row["front_end"] if "not_counted" in each]
    return lines


def summary(rows: Sequence[Row]) -> str:
    """Return what the command prints: counts, the range of the estimates, what was measured, as plain text."""
    table = count_table(rows)
    lines = [format_text(Table(table.columns, table.rows)), "Per clip; every estimate and all notes are in the report."]
    for row in rows:
        low, high = map(format_joules, estimate_range(row))
        lines.append(f"estimate, {_name(row)}, rule {row['rule']}: {low} to {high} over {len(row['estimates'])} tables")
    measured = measured_table([row for row in rows if row["rule"] == "binary"])
    return "\n".join([*lines, format_text(measured)])
