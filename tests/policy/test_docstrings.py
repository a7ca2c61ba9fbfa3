"""Docstrings that cite a paper can be followed: the key is in references.bib, and deviations are stated."""

import ast
import re

import pytest

EQUATION = re.compile(r"\b(?:Eqs?\.|Equations?)\s*\(?\d")
TABLE = re.compile(r"\b(?:Tables?|Tab\.)\s*\(?\d")
KEY = re.compile(r"(?<![\w\])])\[([a-z][a-z0-9_-]*)\]")
NOT_PROSE = re.compile(r"``.*?``|:math:`.*?`|^\s*(?:>>>|\.\.\.).*$", re.DOTALL | re.MULTILINE)
DEVIATION = "Differs from the paper"


def bib_keys(text):
    """Keys of the entries of a BibTeX file."""
    return set(re.findall(r"^@\w+\{\s*([^,\s]+)\s*,", text, re.MULTILINE))


def docstrings(tree):
    """Yield ``(line, docstring)`` of a module and all its classes and functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def citation_problems(texts, known):
    """List what is wrong with the citations in the docstrings of one file.

    ``Eq. 7 of [key]`` is a citation: it resolves, and its docstring states the deviation. A bare ``Eq. 7`` is a
    pointer, good where another docstring of the file names the paper.
    """
    proses = [(line, re.sub(NOT_PROSE, " ", text)) for line, text in texts]
    paper_is_named = any(KEY.search(prose) for _, prose in proses)
    problems = []
    for line, prose in proses:
        keys = set(KEY.findall(prose))
        problems += [f"{line}: [{key}] is not in references.bib" for key in sorted(keys - known)]
        numbered = EQUATION.search(prose) or TABLE.search(prose)
        if numbered and not keys and (not paper_is_named or "Implements" in prose):
            problems.append(f"{line}: an equation or table is cited without its [key]")
        if keys and EQUATION.search(prose) and DEVIATION not in prose:
            problems.append(f'{line}: an equation is cited without "{DEVIATION}: ..."')
    return problems


def test_every_citation_can_be_followed(root, modules):
    known = bib_keys((root / "neuroav" / "references.bib").read_text(encoding="utf-8"))
    problems = [
        f"{module.name}:{problem}"
        for module in modules
        for problem in citation_problems(docstrings(module.tree), known)
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Implements Eq. (3) of [mdfd]. Differs from the paper: nothing.", "[mdfd] is not in references.bib"),
        ("As in [other].", "[other] is not in references.bib"),
        ("Sums Eqs. 3-5. Differs from the paper: nothing.", "without its [key]"),
        ("Constants of Table 2.", "without its [key]"),
        ("Implements Eq. 8 of [mdft].", 'without "Differs from the paper'),
        ("Implements Equation 8 of [mdft].", 'without "Differs from the paper'),
    ],
)
def test_the_check_can_fail(text, problem):
    problems = citation_problems([(1, text)], known={"mdft"})
    assert len(problems) == 1
    assert problem in problems[0]


def test_a_pointer_is_no_implementation():
    module = (1, "The motion stream of [mdft].")
    assert citation_problems([module, (9, "The threshold, Eq. 7.")], known={"mdft"}) == []
    assert citation_problems([module, (9, "Implements Eq. 7.")], known={"mdft"}) == [
        "9: an equation or table is cited without its [key]"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Implements Eqs. 8-9 of [mdft]. Differs from the paper: the threshold is an input.",
        "Constants of Table 2 of [mdft].",
        "A mask ``x[mask]`` or ``[other]``, x[i], a range [0, 1].\n\n>>> x[[other]]",
        "Equal to what was asked.",
    ],
)
def test_the_check_lets_good_docstrings_pass(text):
    assert citation_problems([(1, text)], known={"mdft"}) == []


def test_docstrings_of_methods_and_modules_are_seen():
    tree = ast.parse('"""Module."""\nclass A:\n    """Class."""\n    def f(self):\n        """Method."""\n')
    assert [text for _, text in docstrings(tree)] == ["Module.", "Class.", "Method."]
    assert bib_keys("@article{one,\n title={}}\n@misc{ two ,\n}") == {"one", "two"}
