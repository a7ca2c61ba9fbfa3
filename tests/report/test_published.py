"""Printed results against the papers' own texts, and against the arithmetic that every results table obeys."""

import re

import pytest

from neuroav.checks import InputError
from neuroav.report.published import published, published_keys

PAPERS = ("mdft", "tcaf", "sacma", "ez_avgzl", "tsart")
NO_RESULTS = {"sacma.table1", "ez_avgzl.table8"}  # data sets; examples of nearest classes
SCORES = ("seen", "unseen", "hm", "zsl")
TABLES = [published(key) for key in published_keys()]
WRONG_HM = {
    ("mdft.table3", "W/o MIM"),
    ("mdft.table3", "W/o RJLN"),
    ("mdft.table3", "W/o CRM"),
    ("tcaf.table3", "A_x"),
    ("sacma.table2", "ALE"),
    ("sacma.table2", "TCAF"),
    ("sacma.table7", "phi_v"),
    ("ez_avgzl.table5", "neither"),
    ("tsart.table3", "W/O A_TEM"),
}
ZSL_BELOW_U = {("mdft.table2", "MLP"), ("ez_avgzl.table9", "alpha 0.5, m 0"), ("ez_avgzl.table10", "l2")}


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


def rows_that(test):
    """Table and name of the rows of results that pass a test."""
    results = [table for table in TABLES if table.kind == "results"]
    return {(table.key, row.name) for table in results for row in table.rows if test(row)}


def is_slip(row):
    return row.note.startswith("slip:")


def test_every_wrong_hm_is_annotated_and_no_other():
    assert rows_that(wrong_hm) == WRONG_HM
    assert rows_that(lambda row: is_slip(row) and "S and U give " in row.note) == WRONG_HM


def test_every_zsl_below_u_is_annotated_and_no_other():
    """A clip of an unseen class that wins among all classes wins among the unseen ones as well."""
    assert rows_that(lambda row: any(unseen > zsl for _, unseen, _, zsl in groups(row))) == ZSL_BELOW_U
    assert rows_that(lambda row: is_slip(row) and "is below U" in row.note) == ZSL_BELOW_U


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
    captions = {f"{name}.table{number}" for number in re.findall(r"Table (\d+)\b", text)} - NO_RESULTS
    assert {table.key for table in TABLES if table.key.startswith(f"{name}.table")} == captions


def contains(line, figures):
    """Whether ``figures`` follow each other in the numbers of ``line``."""
    numbers = [float(number) for number in re.findall(r"(?<![\w.])\d+\.\d+", line)]
    return any(numbers[i : i + len(figures)] == figures for i in range(len(numbers) - len(figures) + 1))


def test_figures_are_those_of_the_text(paper):
    """Each row's figures stand on one line of the paper, in this order."""
    name, text = paper
    lines = text.splitlines()
    rows = [row for table in TABLES if table.key.startswith(f"{name}.") for row in table.rows if row.values]
    assert len(rows) >= 15
    missing = [row.name for row in rows if not any(contains(line, list(row.values.values())) for line in lines)]
    assert missing == []


def test_a_figure_that_is_not_printed_is_not_there():
    assert all(row.values == {} for row in published("mdft.fig5").rows)


def test_an_unknown_table_is_named_with_its_neighbour():
    with pytest.raises(InputError, match=r"a table of mdft \(mdft.table1, .*, got 'mdft.table9'. Did you mean 'mdft"):
        published("mdft.table9")
    with pytest.raises(InputError, match=r"PAPER.TABLE of .*mdft.*, got 'nothing'"):
        published("nothing")
