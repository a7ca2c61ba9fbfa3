"""LaTeX without LaTeX: braces balance, environments close, nothing special is left unescaped."""

import re

import pytest
from latex import problems

from neuroav.report.latex import ESCAPES, format_latex, latex_text
from neuroav.report.tables import Column, Quantity, Table

NASTY = r"a\b & 5% of $x_1^2$ ~{tilde} #7 <|> [0.3] * é ± β 漢"


def test_a_table_of_nasty_names_is_sound():
    columns = (Column("row_"), Column("S%", "a & b"), Column("U", "a & b"), Column("x"))
    rows = tuple((name, Quantity(0.5, 0.1, 2), None, "{") for name in (NASTY, "[first]", "*", "plain"))
    text = format_latex(Table(columns, rows, ("50 % of_it",)), NASTY, "tab:x.table1-0")
    assert problems(text) == []
    assert r"plain & 50.0$\pm$10.0 & - & \{ \\" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 4
    assert all(len(re.findall(r"(?<!\\)&", line)) == 3 for line in body)
    assert r"\multicolumn{1}{c}{} & \multicolumn{2}{c}{a \& b} & \multicolumn{1}{c}{} \\" in text
    assert r"\cmidrule(lr){2-3}" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (r"\begin{table}", "no end of table"),
        (r"\end{table}", "end of table"),
        ("{", "a brace too few"),
        ("}{", "a brace too many"),
        ("5 % of", "bare %"),
        ("a_b", "bare _"),
        ("$x", "mathematics left open"),
        ("a \\\\\n[0.3]", "an option after the end of a line"),
        ("5 ± 1", "unknown ±"),
    ],
)
def test_the_check_can_fail(text, problem):
    assert problem in problems(text)


@pytest.mark.parametrize("character", [*ESCAPES, "é", "漢", "a", "\u2028"])
def test_each_character_is_sound_and_none_is_lost(character):
    text = latex_text(f"x{character}y")
    assert problems(text) == []
    assert len(text) >= 3
