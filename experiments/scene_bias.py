"""Does the motion stream free the model from scene bias? The claim of [mdft], where it can be tested and can fail.

Command:  ``python experiments/scene_bias.py FOLDER`` for all of it: five biases, three class splits, five seeds, with
          and without an ambience that gives the scene away; ``--splits 0 --seeds 0,1 --systems controls`` and so on
          for a part. Stopped at any time, it goes on. ``--collect`` runs nothing and writes the results of what is
          finished. ``--add`` goes on from the committed results and adds to them, so that a grid can grow in several
          places.
Device:   CPU. It says how long it takes before it begins: 14 hours or so on two cores for everything.
Settings: MotionScenes ``small``, width 128, one stage, 300 steps of 64 clips, Adam 1e-3 falling tenfold after three
          quarters, as in ``compare.py``; every system sees the same batches. SACMA and TCaF, the strongest systems
          there that read no events, have 2 layers.
Writes:   ``scene_bias_seed0.json`` and so on, ``scene_bias.md`` and ``.svg`` in FOLDER, or with ``--add`` in
          ``experiments/results``: HM at the validated and at the oracle beta, and the share of shuffled clips given a
          class whose preferred scene is the one shown; ``scene_bias_ablations.svg`` has MDFT beside its ablations.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from compare import SMALLER, TRAIN

from neuroav.checks import NeuroavError
from neuroav.config import Experiment, MotionScenesData
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.demo import DIM, controls, slug
from neuroav.files import load_json, save_text
from neuroav.interrupts import never_lost
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import FixedThreshold, NoEvents
from neuroav.models import cards
from neuroav.processes import num_cores
from neuroav.report.plots import DASHES, INKS, MARKERS, SERIES, STYLE
from neuroav.run import run_many

RESULTS = Path(__file__).parent / "results"
BIASES = (0.0, 0.25, 0.5, 0.75, 0.9)
SPLITS = (0, 1, 2)
SEEDS = (0, 1, 2, 3, 4)
AMBIENCES = (0.0, 1.0)
RUN = ("ambience", "split", "scene_bias", "seed", "model")  # which has a row for each test set
LAYERS = ("least_rate", "most_rate", "dead_share", "least_theta_sd", "most_theta_sd")
FIGURES = ("seen", "unseen", "hm", "zsl", "hm_oracle", "follows_scene")
COLUMNS = ("ambience", "split", "scene_bias", "seed", "test_set", "model", *FIGURES, "beta", "beta_oracle", *LAYERS)
CHANCE_SCENE = 1 / 8
ABLATIONS: dict[str, dict[str, Any]] = {
    "without RJLU": {"scene": None},
    "without CRM": {"fusion": None},
    "without events (SNN)": {"events": NoEvents()},
    "fixed threshold": {"threshold": FixedThreshold(v_th=0.5)},
}
BASELINES = ("sacma", "tcaf")
SYSTEMS = {
    "controls": ("MDFT (EGM+SNN)", "MLP twin (EGM+MLP)", "events only", "pooled events", "without motion stream"),
    "baselines": ("SACMA", "TCaF"),
    "ablations": tuple(ABLATIONS),
}
DRAWN = SYSTEMS["controls"] + SYSTEMS["baselines"]
CORE_SECONDS = {  # of a run on an idle core; other rows spike
    "MLP twin (EGM+MLP)": 50,
    "events only": 20,
    "pooled events": 6,
    "without motion stream": 40,
    "SACMA": 160,
    "TCaF": 105,
}
MDFT_SECONDS = 60


def systems(data: MotionScenesData, seed: int) -> dict[str, Experiment]:
    """MDFT and its controls, its ablations, and the strongest baselines, by row name."""
    found = controls(data, TRAIN, dim=DIM, seed=seed)
    whole = found["MDFT (EGM+SNN)"]
    assert isinstance(whole.config, MDFTConfig)
    for name, part in ABLATIONS.items():
        found[name] = replace(whole, name=name, config=replace(whole.config, **part))
    for model in BASELINES:
        title = cards()[model].title
        found[title] = replace(whole, name=title, model=model, config=SMALLER[model])
    return found


def jobs(folder: Path, cells: Sequence[tuple[float, int, int, float]]) -> Iterator[tuple[Experiment, Path]]:
    """Experiments of the cells (ambience, seed, split, scene bias) and the directories of their runs."""
    for ambience, seed, split, bias in cells:
        data = MotionScenesData(
            store=str(folder / f"split{split}-ambience{ambience:g}.h5"),
            scenes=MotionScenesConfig(size="small", split=split, scene_biases=BIASES, ambience_bias=ambience),
            scene_bias=bias,
        )
        where = folder / f"ambience{ambience:g}-split{split}-bias{bias:g}-seed{seed}"
        for name, experiment in systems(data, seed).items():
            yield experiment, where / slug(name)


def main(arguments: argparse.Namespace) -> None:
    """Run what is missing of the cells asked for, then write the results of all that is finished."""
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if not arguments.collect:
        grid = product(arguments.seeds, arguments.ambience, arguments.splits, arguments.biases)  # all points grow alike
        cells = [(ambience, seed, split, bias) for seed, ambience, split, bias in grid]
        found = list(jobs(folder, cells))
        wanted = [job for group in arguments.systems for job in found if job[0].name in SYSTEMS[group]]
        if arguments.add:
            there, _ = read_results()
            wanted = [(each, path) for each, path in wanted if place(each) not in there]
        left = [each for each, path in wanted if not (path / "results.json").exists()]
        hours = sum(CORE_SECONDS.get(each.name, MDFT_SECONDS) for each in left) / 3600 / arguments.workers
        sys.stderr.write(f"scene bias: {len(left)} of {len(wanted)} runs to do, about {hours:.1f} hours\n")
        run_many(wanted, arguments.workers, title="scene bias grid")
    collect(folder, arguments.add)


def place(experiment: Experiment) -> tuple[float, int, float, int, str]:
    """The values of ``RUN``."""
    data = experiment.data
    assert isinstance(data, MotionScenesData)
    return (data.scenes.ambience_bias, data.scenes.split, data.scene_bias, experiment.seed, experiment.name)


def read_results() -> tuple[dict[tuple, list[dict[str, Any]]], dict[int, dict[str, str]]]:
    """Rows of the results that are here already, by the place of their run, and by seed the versions that made them."""
    rows: dict[tuple, list[dict[str, Any]]] = {}
    versions: dict[int, dict[str, str]] = {}
    for seed in SEEDS:
        path = RESULTS / file_of(seed)
        if path.exists():
            found = load_json(path)
            versions[seed] = found["versions"]
            for values in found["rows"]:
                row = dict(zip(found["columns"], values, strict=True))
                rows.setdefault(tuple(row[key] for key in RUN), []).append(row)
    return rows, versions


def file_of(seed: int) -> str:
    return f"scene_bias_seed{seed}.json"


def collect(folder: Path, add: bool = False) -> None:
    """Write JSON, table and figures of every finished run in ``folder``; with ``add``, of those in the results too."""
    there, versions = read_results() if add else ({}, {})
    commits = {seed: [found["commit"]] for seed, found in versions.items()}
    rows: list[dict[str, Any]] = []
    for experiment, path in jobs(folder, list(product(AMBIENCES, SEEDS, SPLITS, BIASES))):
        where, seed = place(experiment), experiment.seed
        if (path / "results.json").exists():
            results = load_json(path / "results.json")
            versions[seed] = results["versions"]
            commits.setdefault(seed, []).append(versions[seed]["commit"])
            rows += [in_columns(row | dict(zip(RUN, where, strict=True))) for row in results["rows"]]
        else:
            rows += there.get(where, [])
    if not rows:
        sys.exit(f"no finished run in {folder}")
    fair = on_every_split(rows)
    text = markdown(fair)
    contents = {"scene_bias.md": text, "scene_bias.svg": figure(fair)}
    for seed, names in commits.items():
        made = versions[seed] | {"commit": ", ".join(dict.fromkeys(", ".join(names).split(", ")))}
        contents[file_of(seed)] = as_json([row for row in rows if row["seed"] == seed], made)
    ablated = {(row["ambience"], row["seed"]) for row in fair if row["model"] in ABLATIONS}
    if ablated:
        paired = [row for row in fair if (row["ambience"], row["seed"]) in ablated]  # with MDFT of the same seeds
        contents["scene_bias_ablations.svg"] = figure(paired, (DRAWN[0], *ABLATIONS))
    for name, content in contents.items():
        save_text((RESULTS if add else folder) / name, content)
    sys.stdout.write(text)


def on_every_split(rows: list[dict]) -> list[dict]:
    """Rows of those seeds of a point that are finished on all splits there are: some are harder than others."""
    point = itemgetter("ambience", "scene_bias", "seed", "test_set", "model")
    splits: dict[tuple, set[int]] = {}
    for row in rows:
        splits.setdefault(point(row), set()).add(row["split"])
    every = set().union(*splits.values())
    return [row for row in rows if splits[point(row)] == every]


def in_columns(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a run as the results have it: rounded, and of its layers the ranges."""
    ranges = dict.fromkeys(LAYERS)
    if layers := row["layers"]:
        rates, spreads = [layer["rate"] for layer in layers], [layer["theta_std"] for layer in layers]
        dead = max(layer["dead_share"] for layer in layers)
        ranges = dict(zip(LAYERS, (min(rates), max(rates), dead, min(spreads), max(spreads)), strict=True))
    values = {name: (row | ranges).get(name) for name in COLUMNS}
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in values.items()}


def as_json(rows: list[dict], versions: dict[str, str]) -> str:
    """Columns, and a line of values for each row."""
    body = ",\n".join(json.dumps(list(row.values()), separators=(",", ":")) for row in rows)
    return f'{{\n"versions": {json.dumps(versions)},\n"columns": {json.dumps(COLUMNS)},\n"rows": [\n{body}\n]\n}}\n'


# ------------------------------------------------------------------------------------------------------------ the table


def summary(rows: list[dict], bias: float, ambience: float = 0.0) -> list[str]:
    """Lines of a table of every system at one bias: HM, what it is beside MDFT's, and what shuffling costs.

    Differences are means of each run's own: from MDFT on the same split with the same seed, from itself unshuffled.
    """
    head = "| model | biased: HM | beside MDFT | shuffled: HM | beside MDFT | HM lost | follows the scene | n |"
    lines = [head, "|" + 8 * "---|"]
    at = itemgetter("test_set", "split", "seed")
    whole: dict[tuple, float] = {}
    for model in (name for group in ("controls", "ablations", "baselines") for name in SYSTEMS[group]):
        pair = [select(rows, ambience, bias, test_set, model) for test_set in ("biased", "shuffled")]
        if not all(pair):
            continue
        cells = []
        for same in pair:
            beside = [row["hm"] - whole[at(row)] for row in same if at(row) in whole]
            cells += [spread([row["hm"] for row in same]), signed(beside) if beside else "-"]
        lost = [before["hm"] - after["hm"] for before, after in zip(*pair, strict=True)]
        cells += [spread(lost), spread([row["follows_scene"] for row in pair[1]])]
        lines.append(f"| {model} | {' | '.join(cells)} | {len(pair[1])} |")
        if model == DRAWN[0]:
            whole = {at(row): row["hm"] for same in pair for row in same}
    return lines


def markdown(rows: list[dict]) -> str:
    """Percent, mean ± sample standard deviation over splits and seeds."""
    heads = ["S", "U", "HM", "ZSL", "HM at oracle beta", "follows scene"]
    lines = [
        "MotionScenes small: percent, mean ± s.d. over n runs: every split, and the seeds that are finished on each of "
        "them. Chance: ZSL 11.1, follows scene 12.5. "
        "Command: `python experiments/scene_bias.py FOLDER`.",
        "",
    ]
    for ambience, bias in product(AMBIENCES, (0.5, 0.9)):
        table = summary(rows, bias, ambience)
        if len(table) > 2:
            lines += [f"At scene bias {bias:g}, {sound(ambience)}:", "", *table, ""]
    lines += [
        "All points:",
        "",
        "| ambience bias | scene bias | test set | model | n | "
        + " | ".join(heads)
        + " | spike rate | dead | theta s.d. |",
        "|" + "---|" * (len(heads) + 8),
    ]
    for key in dict.fromkeys((r["ambience"], r["scene_bias"], r["test_set"], r["model"]) for r in rows):
        same = select(rows, *key)
        cells = [spread([r[f] for r in same]) for f in FIGURES]
        about = f"| {key[0]:g} | {key[1]:g} | {key[2]} | {key[3]} | {len(same)} | "
        lines.append(about + " | ".join([*cells, *layer_cells(same)]) + " |")
    return "\n".join(lines) + "\n"


def select(rows: list[dict], ambience: float, bias: float, test_set: str, model: str) -> list[dict]:
    """Rows of one point of the figure."""
    wanted = {"ambience": ambience, "scene_bias": bias, "test_set": test_set, "model": model}
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def sound(ambience: float) -> str:
    """What an ambience bias makes of the sound."""
    return "ambience: the scene's" if ambience else "ambience: any"


def spread(values: list[float]) -> str:
    """``mean ± s.d.`` in percent; one value has no spread."""
    sd = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{sd}"


def signed(values: list[float]) -> str:
    """:func:`spread` with the sign of the mean."""
    text = spread(values)
    return text if text.startswith("-") else f"+{text}"


def layer_cells(rows: list[dict]) -> list[str]:
    """Range of spike rates over layers, worst dead share, range of threshold spreads."""
    rows = [row for row in rows if row["least_rate"] is not None]
    if not rows:
        return ["-", "-", "-"]
    values = {name: [row[name] for row in rows] for name in LAYERS}
    rate = f"{100 * min(values['least_rate']):.0f}-{100 * max(values['most_rate']):.0f}"
    theta = f"{min(values['least_theta_sd']):.3f}-{max(values['most_theta_sd']):.3f}"
    return [rate, f"{100 * max(values['dead_share']):.0f}", theta]


# ----------------------------------------------------------------------------------------------------------- the figure


def figure(rows: list[dict], names: Sequence[str] = DRAWN) -> str:
    """HM and the follows-the-scene share against scene bias, a line a system, as SVG; a row of panels per ambience."""
    import io

    import matplotlib
    from matplotlib.figure import Figure

    ambiences = sorted({row["ambience"] for row in rows})
    panels = (("hm", "biased", "HM, scenes as in training"), ("hm", "shuffled", "HM, scenes shuffled"))
    panels += (("follows_scene", "shuffled", "follows the scene, shuffled"),)
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "path"}):
        drawing = Figure(figsize=(10.5, 0.9 + 2.7 * len(ambiences)), facecolor=INKS["paper"], layout="constrained")
        grid = drawing.subplots(len(ambiences), len(panels), squeeze=False, sharex=True, sharey="col")
        for row, ambience in zip(grid, ambiences, strict=True):
            for ax, (key, test_set, title) in zip(row, panels, strict=True):
                for i, model in enumerate(names):
                    draw_line(ax, rows, ambience, test_set, model, key, i)
                ax.set(title=title if ambience == ambiences[0] else "")
                if key == "follows_scene":
                    ax.axhline(100 * CHANCE_SCENE, color=INKS["muted"], linestyle=":", linewidth=1)
                    ax.text(
                        BIASES[-1],
                        100 * CHANCE_SCENE - 0.4,
                        "chance",
                        va="top",
                        ha="right",
                        fontsize=7.5,
                        color=INKS["muted"],
                    )
            row[0].set_ylabel(f"{sound(ambience)}\npercent" if len(ambiences) > 1 else "percent")
        for alike in (grid[:, :2], grid[:, 2:]):  # one scale for HM, and one for the share
            top = max(ax.get_ylim()[1] for ax in alike.flat)
            for ax in alike.flat:
                ax.set_ylim(0, top)
        for ax in grid[-1]:
            ax.set(xlabel="scene bias in training", xticks=BIASES)
        handles, labels = grid[0][0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=2.6)
        out = io.StringIO()
        drawing.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def draw_line(ax: Any, rows: list[dict], ambience: float, test_set: str, model: str, key: str, i: int) -> None:
    """The mean of a system against scene bias, a bar of one standard deviation, and a thin line at the oracle beta."""
    found = [(bias, select(rows, ambience, bias, test_set, model)) for bias in BIASES]
    found = [(bias, same) for bias, same in found if same]
    if not found:
        return
    x = np.array([bias for bias, _ in found]) + 0.004 * (i - 3)  # side by side
    values = [[100 * row[key] for row in same] for _, same in found]
    means = [statistics.mean(each) for each in values]
    bars = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in values]
    colour = INKS[SERIES[i % len(SERIES)]]
    style: dict[str, Any] = {"color": colour, "linestyle": DASHES[i % len(DASHES)], "marker": MARKERS[i % len(MARKERS)]}
    ax.errorbar(x, means, bars, label=model, linewidth=1.7, markersize=4.5, elinewidth=0.8, capsize=0, **style)
    if key == "hm":
        oracle = [100 * statistics.mean(row["hm_oracle"] for row in same) for _, same in found]
        ax.plot(x, oracle, color=colour, linewidth=0.6)


def some_of(kind: type, known: Sequence[Any]) -> Any:
    """A parser of ``1,2``, with values of ``known`` only."""

    def parse(text: str) -> list[Any]:
        try:
            values = [kind(each) for each in text.split(",")]
        except ValueError:
            values = []
        if not values or not set(values) <= set(known):
            raise argparse.ArgumentTypeError(f"expected some of {','.join(map(str, known))}, got {text!r}")
        return values

    return parse


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/scene-bias"), help="of the runs")
    for name, kind, values in (
        ("biases", float, BIASES),
        ("splits", int, SPLITS),
        ("seeds", int, SEEDS),
        ("ambience", float, AMBIENCES),
        ("systems", str, tuple(SYSTEMS)),
    ):
        known = ",".join(map(str, values))
        parser.add_argument(f"--{name}", type=some_of(kind, values), default=list(values), help=f"some of {known}")
    parser.add_argument("--workers", type=int, default=num_cores(), help="runs at a time (default: one a core)")
    parser.add_argument("--add", action="store_true", help="go on from the committed results, and add to them")
    parser.add_argument("--collect", action="store_true", help="run nothing, write what is finished")
    try:
        with never_lost():
            main(parser.parse_args())
    except KeyboardInterrupt:
        sys.exit("scene bias: interrupted; the same command goes on from here")
    except NeuroavError as error:
        sys.exit(f"scene bias: {error}")
