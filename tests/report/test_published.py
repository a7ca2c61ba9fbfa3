"""Printed results against the papers' own texts, and against the arithmetic that every results table obeys."""

import re
import runpy
from pathlib import Path

import pytest

from neuroav.checks import InputError
from neuroav.config import Experiment
from neuroav.models import cards
from neuroav.report.published import published, published_keys

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ("mdft", "tcaf")
SCORES = ("seen", "unseen", "hm", "zsl")
TABLES = [published(key) for key in published_keys()]
RESULTS = [table for table in TABLES if table.kind == "results"]


def harmonic(seen, unseen):
    return 2 * seen * unseen / (seen + unseen) if seen + unseen > 0 else 0.0


def groups(row):
    """S, U, HM, ZSL of each data set that has all four."""
    sets = dict.fromkeys(column.partition(".")[0] for column in row.values)
    scores = ([row.values.get(f"{name}.{score}") for score in SCORES] for name in sets)
    return [four for four in scores if None not in four]


def wrong_hm(row):
    """Whether a printed HM can't come from S and U, each of them rounded to two digits."""
    low = [harmonic(s - 0.005, u - 0.005) - 0.005 - 1e-9 <= hm for s, u, hm, _ in groups(row)]
    high = [hm <= harmonic(s + 0.005, u + 0.005) + 0.005 + 1e-9 for s, u, hm, _ in groups(row)]
    return not all(low + high)


def rows_of(*tests):
    """Names of the rows of results tables that pass all tests."""
    return {(table.key, row.name) for table in RESULTS for row in table.rows if all(test(row) for test in tests)}


def test_every_wrong_hm_is_annotated_and_no_other():
    noted = rows_of(lambda row: re.search(r"\bgives? ", row.note))  # "S and U give 26.28", "gives HM 8.67"
    assert rows_of(wrong_hm) == noted
    assert {("mdft.table3", "W/o MIM"), ("tcaf.table3", "A_x")} <= noted


def test_every_zsl_below_u_is_annotated_and_no_other():
    """A clip of an unseen class that wins among all classes wins among the unseen ones as well."""
    below = rows_of(lambda row: any(unseen > zsl for _, unseen, _, zsl in groups(row)))
    assert below == rows_of(lambda row: "is below U" in row.note)
    assert ("mdft.table2", "MLP") in below


@pytest.mark.parametrize("table", TABLES, ids=[table.key for table in TABLES])
def test_tables_are_complete(table):
    assert table.caption
    assert len(set(table.columns)) == len(table.columns)
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names) > 0
    assert table.kind == "curve" or all(row.values for row in table.rows)
    scores = [v for row in table.rows for c, v in row.values.items() if c.rpartition(".")[2] in SCORES]
    assert all(0 <= score <= 100 for score in scores)


@pytest.fixture(params=PAPERS)
def paper(request, paper_text):
    return request.param, paper_text(request.param)


def test_every_results_table_of_the_paper_has_an_entry(paper):
    name, text = paper
    captions = re.findall(r"^\s*Table (\d+)[.:]", text, re.MULTILINE)
    tables = {key for key in published_keys() if key.startswith(f"{name}.table")}
    assert tables == {f"{name}.table{number}" for number in captions}


def test_figures_are_those_of_the_text(paper):
    """Each row's figures stand on one line of the paper, in this order."""
    name, text = paper
    lines = {tuple(map(float, re.findall(r"(?<![\w.])\d+\.\d\d(?!\d)", line))) for line in text.splitlines()}
    rows = [row for table in RESULTS if table.key.startswith(f"{name}.") for row in table.rows]
    missing = [row.name for row in rows if tuple(row.values.values()) not in lines]
    assert missing == []


def test_a_figure_that_is_not_printed_is_not_there():
    assert all(row.values == {} for row in published("mdft.fig5").rows)


@pytest.fixture(params=["mdft", "tcaf"])
def experiments(request):
    """A paper's experiments: tables -> rows -> functions."""
    module = runpy.run_path(str(ROOT / "experiments" / f"{request.param}.py"))
    return request.param, module


def test_every_table_has_experiments_and_every_row_of_theirs_is_printed(experiments):
    paper, module = experiments
    tables = {f"{paper}.{table}": rows for table, rows in module["TABLES"].items()}
    assert set(tables) == {key for key in published_keys() if key.startswith(f"{paper}.")}
    for key, rows in tables.items():
        assert list(rows) == [row.name for row in published(key).rows]


def test_a_row_is_made_by_a_function_that_can_be_run_alone(experiments):
    _, module = experiments
    for rows in module["TABLES"].values():
        for function in rows.values():
            assert module[function.__name__] is function
            assert isinstance(function(), Experiment)


def test_docstrings_have_the_published_figures(experiments):
    """S/U/HM/ZSL on UCF-GZSL; a row that stands in several tables is that of the first."""
    paper, module = experiments
    done = set()
    for table, rows in module["TABLES"].items():
        for row in published(f"{paper}.{table}").rows:
            if row.values and rows[row.name] not in done:
                figures = "/".join(f"{row.values[f'ucf.{score}']:.2f}" for score in SCORES)
                assert figures in rows[row.name].__doc__
                done.add(rows[row.name])
    assert len(done) > 10


def test_the_systems_of_a_table_are_those_whose_cards_say_so(experiments):
    paper, module = experiments
    models = {make().model for make in module["TABLES"]["table1"].values()}
    assert models == {name for name, card in cards().items() if f"{paper}.table1" in card.rows}


def test_an_unknown_table_is_named_with_its_neighbour():
    with pytest.raises(InputError, match=r"a table of mdft \(mdft.table1, .*, got 'mdft.table9'. Did you mean 'mdft"):
        published("mdft.table9")
    with pytest.raises(InputError, match=r"PAPER.TABLE of .*mdft.*, got 'nothing'"):
        published("nothing")
