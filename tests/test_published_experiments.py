"""The experiments of the papers' rows: one function a printed row, with its results, and with what sets it apart."""

import re
import runpy
from itertools import pairwise
from pathlib import Path

import pytest

from neuroav.config import Experiment
from neuroav.models import cards
from neuroav.report.published import published, published_keys

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
MODULES = {
    paper: runpy.run_path(str(EXPERIMENTS / f"{paper}.py"))
    for paper in dict.fromkeys(k.split(".")[0] for k in published_keys())
}
TABLES = {f"{paper}.{table}": rows for paper, module in MODULES.items() for table, rows in module["TABLES"].items()}
WITHOUT_FUNCTION = {  # class vectors and features of other networks
    ("sacma.table4", "w_clip"),
    ("sacma.table4", "w_clip + only SA"),
    *(
        ("ez_avgzl.table7", f"{encoders}{optimised}")
        for encoders in ("LLaMa, AudioMAE, DINO", "CLAP, CLAP, X-CLIP", "ImageBind, ImageBind, ImageBind")
        for optimised in ("", ", CEP")
    ),
}


def test_every_table_has_experiments():
    assert set(TABLES) == set(published_keys())


@pytest.mark.parametrize("key", TABLES)
def test_functions_are_those_of_the_rows_in_their_order(key):
    printed = [row.name for row in published(key).rows if (key, row.name) not in WITHOUT_FUNCTION]
    assert list(TABLES[key]) == printed


@pytest.mark.parametrize("key", TABLES)
def test_a_row_is_made_by_a_function_that_can_be_run_alone(key):
    for make in TABLES[key].values():
        assert MODULES[key.split(".")[0]][make.__name__] is make
        assert isinstance(make(), Experiment)


@pytest.mark.parametrize("paper", MODULES)
def test_docstrings_have_the_published_results(paper):
    """S/U/HM/ZSL of one data set; a row that stands in several tables has those of the first."""
    done = set()
    for key in (key for key in TABLES if key.split(".")[0] == paper):
        for row in published(key).rows:
            make = TABLES[key].get(row.name)
            if make is not None and row.values and make not in done:
                done.add(make)
                written = [
                    tuple(map(float, each.split("/"))) for each in re.findall(r"[\d.]+\d(?:/[\d.]+\d)+", make.__doc__)
                ]
                sets = dict.fromkeys(column.partition(".")[0] for column in row.values)
                printed = [tuple(v for c, v in row.values.items() if c.startswith(f"{name}.")) for name in sets]
                assert set(written) & set(printed), make.__name__
    assert len(done) > 10


@pytest.mark.parametrize(
    "key",
    [
        "mdft.table1",
        "tcaf.table1",
        "sacma.table2",
        "ez_avgzl.table1",
        "ez_avgzl.table2",
        "ez_avgzl.table3",
        "tsart.table1",
    ],
)
def test_systems_of_a_table_are_those_that_claim_a_row(key):
    models = {make().model for make in TABLES[key].values()}
    assert models == {name for name, card in cards().items() if key in card.rows}


def test_rows_named_by_a_value_have_it():
    tables = TABLES
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
    rows = {key: list(tables.values()) for key, tables in TABLES.items()}
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
    pair = (TABLES["sacma.table2"], TABLES["tsart.table1"])
    first, second = ({make().model: make() for make in rows.values()} for rows in pair)
    assert len(first.keys() & second.keys()) == 5
    for model in first.keys() & second.keys():
        assert first[model].config == second[model].config
        assert first[model].train == second[model].train
