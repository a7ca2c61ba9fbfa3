"""The pages under ``docs/`` hold: their Python runs as printed, top to bottom, and their links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def python_blocks(text):
    """Line number and source of the fenced Python blocks of a Markdown text."""
    return [
        (text[: found.start(1)].count("\n"), found[1])
        for found in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


def run(text, name):
    names = {}
    for line, source in python_blocks(text):
        exec(compile("\n" * line + source, name, "exec"), names)  # line numbers are the page's
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page):
    assert run(page.read_text(encoding="utf-8"), str(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_a_broken_example_fails():
    assert python_blocks("a\n```python\nx = 1\n```\n```text\ny\n```\n") == [(2, "x = 1\n")]
    with pytest.raises(AssertionError):
        run("```python\nx = 1\n```\ntext\n```python\nassert x == 2\n```\n", "page")


def test_the_table_of_the_threshold_page_is_the_recorded_one():
    page = (ROOT / "docs" / "a_threshold_is_a_signal.md").read_text(encoding="utf-8")
    recorded = json.loads((ROOT / "experiments" / "results" / "indexing_in_a_loop.json").read_text(encoding="utf-8"))
    for row in recorded["rows"]:
        assert f"| {row['T']} | " + " | ".join(f"{value:.1f}" for value in row["best_ms"].values()) + " |" in page
