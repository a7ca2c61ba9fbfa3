"""From a count to rows: what ``neuroav energy`` writes, one row for each model and rule, and the list of conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from neuroav.energy.cost import BREAK_EVEN, estimates
from neuroav.energy.count import RULES, OpCount, Rule

Row = dict[str, Any]
TOTALS = ("dense_ops", "synops", "elementwise_ops", "neuron_updates", "pixel_updates", "state_bytes", "stored_bytes")
LEAST_SEEDS = 3


def count_rows(cost: OpCount) -> list[Row]:
    """Rows of one counted network: figures per clip, estimates and break-even limits, once for each rule.

    Example:
        >>> import torch
        >>> from neuroav.energy import count
        >>> rows = count_rows(count(torch.nn.Linear(2, 3).eval(), torch.tensor([[1.0, -1.0]])))
        >>> [(row["rule"], row["macs"], row["acs"]) for row in rows]
        [('binary', 6.0, 0.0), ('event', 0.0, 6.0)]
    """
    return [_row(cost, rule) for rule in RULES]


def _row(cost: OpCount, rule: Rule) -> Row:
    work = cost.under(rule)
    return {
        "rule": rule,
        "clips_counted": cost.clips,
        **asdict(work),
        "by_number": {number: asdict(each) for number, each in cost.by_number(rule).items()},
        **{name: getattr(cost, name) for name in TOTALS},
        "spike_rate": cost.spike_rate,
        "spikes_per_synapse": cost.spikes_per_synapse,
        "layers": [_layer(each, rule) for each in cost.products],
        "neurons": [asdict(each) for each in cost.neurons],
        "elementwise": dict(cost.elementwise),
        "uncounted": [asdict(each) for each in cost.uncounted],
        "estimates": [each.to_json() for each in estimates(cost, rule)],
        "break_even": [each.against(cost) for each in BREAK_EVEN],
    }


def _layer(product: Any, rule: Rule) -> Row:
    values = asdict(product)
    values |= values.pop(rule)
    return {key: value for key, value in values.items() if key not in RULES}


def estimate_range(row: Row) -> tuple[float, float]:
    """Lowest and highest estimate of a row, in J."""
    return min(each["low_j"] for each in row["estimates"]), max(each["high_j"] for each in row["estimates"])


def checklist(rows: Sequence[Row]) -> list[Row]:
    """What the literature asks of an energy claim, and whether these rows do it.

    Args:
        rows: As written by ``neuroav energy``; looked at are ``trained``, ``scores``, ``twins``, ``front_end`` and
            ``measured``.

    Returns:
        ``condition``, ``holds`` and ``note``.
    """
    return [
        *_conditions_of_accuracy(rows),
        *_conditions_of_counting(rows),
        *_conditions_of_energy(rows),
    ]


def _condition(text: str, holds: bool, note: str) -> Row:
    return {"condition": text, "holds": holds, "note": note}


def _conditions_of_accuracy(rows: Sequence[Row]) -> list[Row]:
    models = {row["model"] for row in rows}
    seeds = {model: len({row["seed"] for row in rows if row["model"] == model}) for model in models}
    untrained = sorted({row["model"] for row in rows if not row["trained"]})
    fewest = min(seeds.values())
    return [
        _condition(
            "accuracy stands beside energy, on the same task",
            not untrained and len({row["task"] for row in rows}) == 1,
            f"untrained: {', '.join(untrained)}" if untrained else "harmonic mean of each run is in its row",
        ),
        _condition(f"at least {LEAST_SEEDS} seeds of each model", fewest >= LEAST_SEEDS, f"fewest: {fewest}"),
        _condition_of_twins(rows),
    ]


def _condition_of_twins(rows: Sequence[Row]) -> Row:
    text = "non-spiking twins in float32, 16 bits and int8, and one with as many levels as there are steps"
    spiking = [row for row in rows if row.get("twins") is not None]
    if not spiking:
        return _condition(text, False, "no spiking model")
    without = sorted({row["model"] for row in spiking if not row["twins"]})
    missing = sorted(
        {f"{key} of {row['model']}" for row in spiking for key, there in row["twins"].items() if not there}
    )
    note = "; ".join([*(f"none can be made of {name}" for name in without), *(f"no {each}" for each in missing)])
    return _condition(text, not note, note or "of every spiking model and seed, by neuroav.twins")


def _conditions_of_counting(rows: Sequence[Row]) -> list[Row]:
    uncounted = [each for row in rows for each in row["uncounted"] if each["reason"] != "not used in this pass"]
    outside = sorted({each["part"] for row in rows for each in row["front_end"] if "not_counted" in each})
    return [
        _condition("the rule for MAC and AC is named", True, "both rules in every table"),
        _condition("layers that read real numbers are multiply-accumulates", True, "by both rules"),
        _condition("zeros of non-spiking activations are shown", True, "SynOps skip them for every model"),
        _condition("steps, spikes per neuron and per synapse, by layer", True, "in the tables of layers"),
        _condition("neuron updates, weights, states and events moved", True, "in the counts"),
        _condition("readout, threshold and encoders are included", True, "all that runs from features to distances"),
        _condition(
            "the front end is included",
            not outside,
            f"not counted: {'; '.join(outside)}" if outside else "event generation is in the counts",
        ),
        _condition(
            "nothing that runs is left out",
            not uncounted,
            f"{len(uncounted)} entries are listed as not counted" if uncounted else "every operator was counted",
        ),
    ]


def _conditions_of_energy(rows: Sequence[Row]) -> list[Row]:
    measured = all("not_measured" not in row["measured"] for row in rows)
    flags = sum(len(each["flags"]) for row in rows for each in row["measured"].get("batches", ()))
    return [
        _condition(
            "estimate and measurement are apart", True, "in sections of their own, each estimate with its table"
        ),
        _condition("more than one table of prices", True, "a range over all of them"),
        _condition("break-even limits of the literature beside the own figures", True, "in the table of limits"),
        _condition("energy was measured, idle power apart", measured, "gross and net" if measured else "no"),
        _condition("what was measured carries no warning", measured and not flags, f"{flags} warnings"),
    ]
