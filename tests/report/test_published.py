"""Printed results against the papers' own texts, and against the arithmetic that every results table obeys."""

import re
from pathlib import Path

import pytest

from neuroav.checks import InputError
from neuroav.models import cards
from neuroav.report.published import published, published_keys

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ROOT.parent / "shared" / "papers"
TEXTS = {"mdft": "004_529e78027dd3e556.txt", "tcaf": "001_3326c402b4f55b93.txt"}
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
    noted = rows_of(lambda row: "S and U give" in row.note)
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


@pytest.fixture(params=TEXTS)
def paper(request):
    path = PAPERS / TEXTS[request.param]
    if not path.exists():
        pytest.skip("the papers' texts are not here")
    return request.param, path.read_text(encoding="utf-8")


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


@pytest.mark.parametrize("key", ["mdft.table1", "tcaf.table1"])
def test_systems_that_claim_a_row_have_one(key):
    claimed = [card.title for card in cards().values() if key in card.rows]
    names = {re.sub(r"\W", "", row.name).lower() for row in published(key).rows}
    assert len(claimed) == len(names)
    assert {re.sub(r"\W", "", title).lower() for title in claimed} == {
        {"vaegan": "fvaegand2"}.get(name, name) for name in names
    }


def test_an_unknown_table_is_named_with_its_neighbour():
    with pytest.raises(InputError, match=r"a table of mdft \(mdft.table1, .*, got 'mdft.table9'. Did you mean 'mdft"):
        published("mdft.table9")
    with pytest.raises(InputError, match=r"PAPER.TABLE of .*mdft.*, got 'nothing'"):
        published("nothing")
