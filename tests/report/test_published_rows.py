"""Rows of SACMA, EZ-AVGZL and TSART: digits are those of the papers, functions those of the rows, slips those found."""

import re
import runpy
from itertools import pairwise
from pathlib import Path

import pytest

from neuroav.config import Experiment
from neuroav.models import cards
from neuroav.report.published import published, published_keys

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ("sacma", "ez_avgzl", "tsart")
NO_RESULTS = {"sacma": {"table1"}, "ez_avgzl": {"table8"}, "tsart": set()}  # data sets; examples of nearest classes
WITHOUT_FUNCTION = {  # class vectors and features of other networks
    ("sacma.table4", "w_clip"),
    ("sacma.table4", "w_clip + only SA"),
    *(
        ("ez_avgzl.table7", f"{encoders}{optimised}")
        for encoders in ("LLaMa, AudioMAE, DINO", "CLAP, CLAP, X-CLIP", "ImageBind, ImageBind, ImageBind")
        for optimised in ("", ", CEP")
    ),
}
SLIPS = {
    ("sacma.table2", "ALE"),
    ("sacma.table2", "TCAF"),
    ("sacma.table7", "phi_v"),
    ("ez_avgzl.table5", "neither"),
    ("ez_avgzl.table9", "alpha 0.5, m 0"),
    ("ez_avgzl.table10", "l2"),
    ("tsart.table3", "W/O A_TEM"),
}
TABLES = {paper: runpy.run_path(str(ROOT / "experiments" / f"{paper}.py"))["TABLES"] for paper in PAPERS}
MADE = [(f"{paper}.{table}", rows) for paper, tables in TABLES.items() for table, rows in tables.items()]
PRINTED = [published(key) for key in published_keys() if key.split(".")[0] in PAPERS]


def contains(line, figures):
    """Whether ``figures`` follow each other in the numbers of ``line``."""
    numbers = [float(number) for number in re.findall(r"(?<![\w.])\d+\.\d+", line)]
    return any(numbers[i : i + len(figures)] == figures for i in range(len(numbers) - len(figures) + 1))


def scores(row):
    """Scores of each data set of a row, by name."""
    found = {}
    for column, figure in row.values.items():
        data, _, score = column.partition(".")
        found.setdefault(data, {})[score] = figure
    return list(found.values())


def contradictory(row):
    """Whether no S and U that round to the printed ones have the printed HM, or leaving out seen classes hurts."""
    for found in scores(row):
        if "seen" not in found:
            continue
        seen, unseen, hm = (found[name] for name in ("seen", "unseen", "hm"))
        low, high = (2 / (1 / (seen + by) + 1 / (unseen + by)) + by for by in (-0.005, 0.005))
        if not low - 1e-9 <= hm <= high + 1e-9 or found["zsl"] < unseen:
            return True
    return False


@pytest.fixture(params=PAPERS)
def paper(request, paper_text):
    return request.param, paper_text(request.param)


def test_figures_stand_on_one_line_of_the_paper(paper):
    name, text = paper
    lines = text.splitlines()
    rows = [row for table in PRINTED if table.key.startswith(f"{name}.") for row in table.rows if row.values]
    assert len(rows) >= 20
    missing = [row.name for row in rows if not any(contains(line, list(row.values.values())) for line in lines)]
    assert missing == []


def test_every_results_table_is_there_and_has_experiments(paper):
    name, text = paper
    captions = {f"table{number}" for number in re.findall(r"Table (\d+)\b", text)} - NO_RESULTS[name]
    printed = {table.key.split(".")[1] for table in PRINTED if table.key.startswith(f"{name}.")}
    assert {key for key in printed if key.startswith("table")} == captions
    assert set(TABLES[name]) == printed


def test_slips_are_the_rows_whose_scores_contradict_each_other():
    rows = [(table.key, row) for table in PRINTED for row in table.rows]
    assert {(key, row.name) for key, row in rows if contradictory(row)} == SLIPS
    assert {(key, row.name) for key, row in rows if row.note.startswith("slip:")} == SLIPS


@pytest.mark.parametrize(("key", "rows"), MADE, ids=[key for key, _ in MADE])
def test_functions_are_those_of_the_rows_in_their_order(key, rows):
    assert list(rows) == [row.name for row in published(key).rows if (key, row.name) not in WITHOUT_FUNCTION]
    assert all(isinstance(make(), Experiment) for make in rows.values())


def test_docstrings_have_the_published_results():
    """Those of one data set; a row that stands in several tables has those of the first."""
    done = set()
    for key, rows in MADE:
        for row in published(key).rows:
            make = rows.get(row.name)
            if make is not None and row.values and make not in done:
                done.add(make)
                text = make.__doc__.replace("/", " ")
                assert any(contains(text, list(found.values())) for found in scores(row)), make.__name__
    assert len(done) > 60


@pytest.mark.parametrize(
    "key", ["sacma.table2", "ez_avgzl.table1", "ez_avgzl.table2", "ez_avgzl.table3", "tsart.table1"]
)
def test_systems_of_a_table_are_those_that_claim_a_row(key):
    models = [make().model for make in dict(MADE)[key].values()]
    assert sorted(models) == sorted(name for name, card in cards().items() if key in card.rows)


def test_rows_named_by_a_value_have_it():
    tables = dict(MADE)
    for name, make in tables["tsart.table2"].items():
        config = make().config
        found = (config.dropout_decoder, config.dropout_encoder, config.dropout_projection)
        assert ", ".join(map(str, found)) == name
    assert [str(make().train.lr) for make in tables["tsart.table4"].values()] == list(tables["tsart.table4"])
    for name, make in tables["ez_avgzl.table9"].items():
        vectors = make().class_vectors
        assert f"alpha {vectors.separation:g}, m {vectors.preservation.margin:g}" == name
    for figure, weight in (("sacma.fig4a", "temperature"), ("sacma.fig4b", "cosine")):
        points = {name: vars(make().config.loss) for name, make in tables[figure].items()}
        assert [str(loss[weight]) for loss in points.values()] == list(points)
        assert all({k for k in one if one[k] != other[k]} == {weight} for one, other in pairwise(points.values()))


def test_ablations_differ_from_the_method_in_one_choice():
    """In what is named here, and in nothing else."""
    rows = {key: list(tables.values()) for key, tables in MADE}
    methods = {"sacma": rows["sacma.table2"][-1](), "tsart": rows["tsart.table1"][-1]()}
    changed = {
        "sacma.table3": [{"audio"}, {"video"}, {"audio", "video"}, {"joint"}, set()],
        "sacma.table5": [{"loss"}, {"loss"}, {"loss"}, {"loss"}, set()],
        "sacma.table6": [{"audio", "video"}, {"video"}, {"audio"}, set()],
        "sacma.table7": [{"output"}, {"output"}, set()],
        "tsart.table3": [{"audio"}, {"video"}, set()],
        "tsart.table5": [{"loss"}, {"loss"}, {"loss"}, set()],
    }
    for key, parts in changed.items():
        method = methods[key.split(".")[0]]
        for make, part in zip(rows[key], parts, strict=True):
            ours, theirs = vars(make().config), vars(method.config)
            assert {name for name in ours if ours[name] != theirs[name]} == part
            assert make().train == method.train


def test_the_same_system_has_one_setting_for_one_benchmark():
    """UCF-GZSL with SeLaVi features stands in the tables of two papers."""
    pair = (dict(MADE)["sacma.table2"], dict(MADE)["tsart.table1"])
    first, second = ({make().model: make() for make in rows.values()} for rows in pair)
    assert len(first.keys() & second.keys()) == 5
    for model in first.keys() & second.keys():
        assert first[model].config == second[model].config
        assert first[model].train == second[model].train
