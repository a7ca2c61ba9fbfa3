"""The pages under ``docs/`` hold: their Python and commands run as printed, top to bottom, and print what is shown;
their links lead somewhere; and what they are built with does what it says."""

import contextlib
import doctest
import importlib.util
import io
import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from by_path import load

from neuroav import __version__
from neuroav.cli import main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [DOCS / "a_threshold_is_a_signal.md", *sorted((DOCS / "tutorials").glob("*.md"))]
LINKED = [page for page in sorted(DOCS.rglob("*.md")) if page.stem != "changelog"]
ROOMS_WITHOUT_PAGE = {"bench", "table"}  # behind verbs
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```\n(?:\s*^```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\w+\.py)$", re.MULTILINE)
NEEDS = re.compile(r"# needs (\w+)$", re.MULTILINE)
CHECKER = doctest.OutputChecker()


def blocks(text):
    """Line number, language, source, and the output shown right below (or nothing) of a Markdown text's examples."""
    return [(text[: found.start(2)].count("\n"), found[1], found[2], found[3] or "") for found in BLOCK.finditer(text)]


def run(text, name):
    """Run a page's examples and compare what they print; ``...`` on a page stands for anything, as in a doctest.

    A block that begins with ``# FILE.py`` is written to that file; one that begins with ``# needs PACKAGE`` is left out
    where the package is not installed.
    """
    names = {"__name__": name}
    for line, language, source, shown in blocks(text):
        file, needed = FILE.match(source), NEEDS.match(source)
        if file:
            Path(file[1]).write_text(source, encoding="utf-8")
            continue
        if needed and importlib.util.find_spec(needed[1]) is None:
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if language == "python":
                exec(compile("\n" * line + source, name, "exec"), names)  # line numbers are the page's
            else:
                run_commands(source)
        if shown or language == "python":
            same = CHECKER.check_output(shown, printed.getvalue(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            assert same, f"{name}:{line} printed\n{printed.getvalue()}\nand the page shows\n{shown}"
    return names


def run_commands(source):
    for line in source.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "neuroav", f"a page runs {words[0]}"
            assert main(words[1:]) == 0, line


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, tiny_store):
    """An empty folder beside the experiments, as a user's."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    (tmp_path / "motionscenes-tiny.h5").symlink_to(tiny_store)  # as the first run would render it
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page):
    text = page.read_text(encoding="utf-8")
    assert blocks(text)
    run(text, str(page))


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_a_broken_example_fails():
    assert blocks("a\n```python\nx = 1\n```\n```text\ny\n```\n") == [(2, "python", "x = 1\n", "y\n")]
    assert blocks("```bash\nneuroav x\n```\nit says\n```text\ny\n```\n") == [(1, "bash", "neuroav x\n", "")]
    run("```python\nprint(0.25, [1])\n```\n\n```text\n0.2... [1]\n```\n", "page")
    with pytest.raises(AssertionError):
        run("```python\nx = 1\n```\ntext\n```python\nassert x == 2\n```\n", "page")
    with pytest.raises(AssertionError, match="page:1 printed"):
        run("```python\nprint(1)\n```\n\n```text\n2\n```\n", "page")
    with pytest.raises(AssertionError, match="page:1 printed"):
        run("```python\nprint(1)\n```\n", "page")
    with pytest.raises(AssertionError, match="neuroav eval nowhere"):
        run("```bash\nneuroav eval nowhere\n```\n", "page")
    with pytest.raises(AssertionError, match="a page runs rm"):
        run("```bash\nrm x\n```\n", "page")


def test_the_table_of_the_threshold_page_is_the_recorded_one():
    page = (DOCS / "a_threshold_is_a_signal.md").read_text(encoding="utf-8")
    recorded = json.loads((ROOT / "experiments" / "results" / "indexing_in_a_loop.json").read_text(encoding="utf-8"))
    for row in recorded["rows"]:
        assert f"| {row['T']} | " + " | ".join(f"{value:.1f}" for value in row["best_ms"].values()) + " |" in page


def test_every_room_has_its_page():
    shown = re.findall(r"^\.\. room:: (\S+)$", "\n".join(page.read_text() for page in DOCS.glob("api/*.rst")), re.M)
    rooms = {path.parent.name for path in (ROOT / "neuroav").glob("*/__init__.py")} - ROOMS_WITHOUT_PAGE
    assert sorted(shown) == sorted({"neuroav", *(f"neuroav.{room}" for room in rooms)})


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8").splitlines()
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*") if page.suffix in (".md", ".rst")}
    assert pages - {"index"} == pages & set(index)


# ------------------------------------------------------------------------------------------- what builds the pages


@pytest.fixture(scope="module")
def extension():
    return load(DOCS / "extension.py")


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ('<a href="https://example.org">x</a><img src="a.png"><link href="style.css">', []),
        ('<script src="https://cdn.example.org/x.js"></script>', ["https://cdn.example.org/x.js"]),
        ('<link rel="stylesheet" href="//fonts.example.org/a.css"/>', ["//fonts.example.org/a.css"]),
        ('<img srcset="http://example.org/a.png 2x">', ["http://example.org/a.png 2x"]),
        ('<p style="background: url(https://example.org/b.png)">', ["https://example.org/b.png"]),
        ('<svg xmlns="http://www.w3.org/2000/svg"><use href="#a"/></svg>', []),
    ],
)
def test_requests_to_elsewhere_are_seen(extension, tmp_path, page, found):
    path = tmp_path / "page.html"
    path.write_text(page)
    assert extension.requests(path) == found


def test_requests_of_style_sheets_end_the_build(extension, tmp_path):
    sheet = tmp_path / "a.css"
    sheet.write_text(
        "@import '//example.org/f.css'; a {background: url(data:image/png;base64,AA)} b {src: url(x.woff)}"
    )
    with pytest.raises(extension.ExtensionError, match=r"a\.css: //example\.org/f\.css"):
        extension.stay_here(SimpleNamespace(outdir=tmp_path), None)
    sheet.write_text("a {background: url(b.png)}")
    extension.stay_here(SimpleNamespace(outdir=tmp_path), None)


def test_known_keys_become_citations_and_nothing_else_does(extension):
    lines = ["Eq. (7) of [mdft], ``x[mdft]`` and [unknown].", "As in", "[plif]; rows[mdft] of :math:`a [mdft]`."]
    extension.cite(None, "function", "f", None, None, lines)
    assert lines == [
        "Eq. (7) of [mdft]_, ``x[mdft]`` and [unknown].",
        "As in",
        "[plif]_; rows[mdft] of :math:`a [mdft]`.",
    ]


def test_references_are_all_there_in_plain_words(extension):
    keys = re.findall(r"^@\w+\{\s*([^,\s]+)", extension.REFERENCES.read_text(encoding="utf-8"), re.MULTILINE)
    found = dict(extension.entries())
    assert list(found) == keys
    assert all(fields.get("title") and fields.get("year") for fields in found.values())
    assert not [key for key, fields in found.items() if re.search(r"[\\{}]", extension.described(fields))]
    assert (
        extension.plain(r"Novac, Lo{\"i}c and Ros{\'e} and {\v{C}}ech, {v2e}: A--B")
        == "Novac, Loïc and Rosé and Čech, v2e: A–B"
    )
    assert extension.described({"author": "A", "title": "B.", "journal": "C", "volume": "3", "year": "2020"}) == (
        "A. B. C 3. 2020."
    )


def test_a_room_lists_its_modules(extension):
    assert extension.modules_of("neuroav.neurons") == [
        "neuroav.neurons",
        *(f"neuroav.neurons.{path.stem}" for path in sorted((ROOT / "neuroav/neurons").glob("[a-z]*.py"))),
    ]
    assert "neuroav.models" in extension.modules_of("neuroav")
    assert not [
        name for name in extension.modules_of("neuroav") if name.count(".") > 1 or "_" in name.split(".")[-1][:1]
    ]


def test_the_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in citation
