"""Printed scores beside ours: figures, differences and the order of rows, by hand."""

import csv
import io
import math

import pytest

from neuroav.report.beside import beside_table, format_long_csv, lines, order, records, scenes_table
from neuroav.report.published import PublishedRow, PublishedTable
from neuroav.report.tables import format_markdown

PRINTED = PublishedTable(
    key="x.table1",
    paper="x",
    caption="three systems",
    columns=("ucf.seen", "ucf.unseen", "ucf.hm", "ucf.zsl", "ucf.gflops", "vgg.hm", "parameters"),
    rows=(
        PublishedRow("a", {"ucf.seen": 50.0, "ucf.hm": 20.1, "ucf.gflops": 1.5, "vgg.hm": 3.0, "parameters": 2.25}),
        PublishedRow("b", {"ucf.seen": 40.0, "ucf.hm": 30.0}, "slip: odd"),
        PublishedRow("c", {"ucf.hm": 40.0}),
    ),
)
SCORES = {"a": (0.50, 0.52), "b": (0.30, 0.10), "control: z": (0.9, 0.9)}
ROWS = [
    {"model": name, "test_set": test_set, "seed": seed, "seen": 0.4, "hm": hm + shift}
    for name, values in SCORES.items()
    for seed, hm in enumerate(values)
    for test_set, shift in (("biased", 0.0), ("shuffled", -0.05))
]


def test_printed_ours_and_difference_stand_side_by_side():
    joined = lines(PRINTED, "ucf", ROWS, "biased")
    assert [line.name for line in joined] == ["a", "b", "c", "control: z"]
    table = beside_table(joined, ROWS, "ucf")
    cells = {row.split("|")[1].strip(): row for row in format_markdown(table).splitlines()[2:6]}
    # S, then U, HM and ZSL: printed, mean and s.d. of two seeds (0.02 / sqrt 2 and 0.2 / sqrt 2), difference
    assert (
        cells["a"] == "| a | 50.00 | 40.0±0.0 | -10.0 | - | - | - | 20.10 | 51.0±1.4 | +30.9 | - | - | - | 1.5 | 2.25 |"
    )
    assert cells["b"] == "| b | 40.00 | 40.0±0.0 | +0.0 | - | - | - | 30.00 | 20.0±14.1 | -10.0 | - | - | - | - | - |"
    assert cells["c"] == "| c | - | - | - | - | - | - | 40.00 | - | - | - | - | - | - | - |"
    assert cells["control: z"] == "| control: z | - | 40.0±0.0 | - | - | - | - | - | 90.0±0.0 | - | - | - | - | - | - |"
    assert [column.title for column in table.columns[-2:]] == ["gflops", "parameters"]
    assert "n = 2 seeds (0, 1)" in table.notes[0]
    assert table.notes[1:] == ("Not among neuroav's systems, as published: c.", "b: slip: odd.")
    assert joined[0].ours["hm"].mean == pytest.approx(0.51)
    assert lines(PRINTED, "ucf", ROWS, "shuffled")[0].ours["hm"].mean == pytest.approx(0.46)
    assert lines(PRINTED, "vgg", ROWS, "biased")[0].printed == {"hm": 0.03}


def test_the_same_figures_for_other_programs():
    joined = lines(PRINTED, "ucf", ROWS, "biased")
    read = list(csv.DictReader(io.StringIO(format_long_csv([("ucf", "motionscenes", "biased", joined)]))))
    assert len(read) == 16
    (one,) = [r for r in read if (r["row"], r["score"]) == ("a", "hm")]
    assert one == {
        "printed_on": "ucf",
        "ours_on": "motionscenes",
        "test_set": "biased",
        "row": "a",
        "score": "hm",
        "printed": "20.1",
        "ours": "51",
        "sd": "1.414",
        "n": "2",
        "difference": "30.9",
    }
    (none,) = [r for r in read if (r["row"], r["score"]) == ("c", "hm")]
    assert (none["printed"], none["ours"], none["sd"], none["n"], none["difference"]) == ("40", "", "", "", "")
    saved = records(joined)[1]
    assert saved["ours"]["hm"] == {"mean": pytest.approx(0.2), "sd": pytest.approx(0.2 / math.sqrt(2)), "n": 2}
    assert saved["difference"] == {"seen": pytest.approx(0.0), "hm": pytest.approx(-0.1)}
    assert saved["printed"] == {"seen": 0.4, "hm": 0.3}


def compared(printed, ours):
    """Order of rows with these printed HM and, per row, HM of each seed."""
    rows = [PublishedRow(str(i), {"u.hm": value}) for i, value in enumerate(printed)]
    table = PublishedTable(key="k", paper="k", caption="", columns=("u.hm",), rows=tuple(rows))
    mine = [
        {"model": str(i), "test_set": "test", "seed": seed, "hm": hm}
        for i, values in enumerate(ours)
        for seed, hm in enumerate(values)
    ]
    return order(lines(table, "u", mine, "test"))


def test_the_order_of_rows_is_kendalls_tau():
    from scipy.stats import kendalltau

    printed, ours = [10.0, 40.0, 20.0, 30.0], [0.1, 0.2, 0.3, 0.25]
    found = compared(printed, [(x, x + 0.01) for x in ours])
    assert found.tau == pytest.approx(kendalltau(printed, ours).statistic)
    assert (found.num_rows, found.pairs, found.agreeing, found.opposed) == (4, 6, 3, 3)
    assert compared([1, 2, 3], [(0.1, 0.1), (0.2, 0.2), (0.3, 0.3)]).tau == 1
    assert compared([3, 2, 1], [(0.1, 0.1), (0.2, 0.2), (0.3, 0.3)]).tau == -1


@pytest.mark.parametrize(
    ("printed", "ours", "text"),
    [
        ([1, 2], [(0.10, 0.12), (0.30, 0.32)], "1 of 1 pairs as printed (Kendall tau +1.00). 1 pair is more than two"),
        ([1, 2], [(0.10, 0.12), (0.30, 0.32)], "as far as the spread tells, the order agrees."),
        ([2, 1], [(0.10, 0.12), (0.30, 0.32)], "of these 0 as printed: the order does not agree."),
        # standard error sqrt(2 * 0.1414**2 / 2) = 0.1414; the means are 0.2 apart
        ([1, 2], [(0.10, 0.30), (0.30, 0.50)], "No pair is more than two standard errors apart over seeds"),
        ([1, 2, 3], [(0.10,), (0.10,), (0.30,)], "2 of 3 pairs as printed, 1 tied (Kendall tau +0.67)"),
        ([1, 2], [(0.10,), (0.30,)], "One seed has no spread, so no order is told from chance."),
        ([1, 1], [(0.10,), (0.30,)], "fewer than two rows"),
        ([1], [(0.10,)], "fewer than two rows"),
    ],
)
def test_the_order_is_said_as_far_as_the_spread_allows(printed, ours, text):
    assert text in compared(printed, ours).sentence()


def test_every_motionscenes_table_says_what_the_controls_are_for():
    layers = [
        {"name": "video.0", "rate": 0.1, "dead_share": 0.2, "theta_mean": 1.0, "theta_std": 0.02},
        {"name": "audio.0", "rate": 0.3, "dead_share": 0.0, "theta_mean": 1.0, "theta_std": 0.04},
    ]
    shared = {"seed": 0, "hm": 0.25, "hm_oracle": 0.5}
    rows = [
        {"model": model, "test_set": test_set, "layers": own, "follows_scene": follows, **shared}
        for model, own in (("a", layers), ("b", []))
        for test_set, follows in (("biased", 0.9), ("shuffled", 0.125))
    ]
    body = format_markdown(scenes_table(rows)).splitlines()[2:4]
    assert body[0] == "| a | 25.0 | 50.0 | 25.0 | 50.0 | 12.5 | 20.0 | 20.0 | 0.030 |"
    assert body[1] == "| b | 25.0 | 50.0 | 25.0 | 50.0 | 12.5 | none | none | none |"
