"""The list of models: every entry can be made, and its card agrees with the references and with the model."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import neuroav
from neuroav.models import MODELS, cards, model_class

ENTRY = re.compile(r"@\w+\{(\w+),.*?\n  year = \{(\d+)\}", re.DOTALL)
PAPERS = {"mdft", "tcaf", "sacma", "ez_avgzl", "tsart"}


@pytest.mark.parametrize("name", MODELS)
def test_a_card_names_its_paper_and_year(name):
    years = dict(ENTRY.findall((Path(neuroav.__file__).parent / "references.bib").read_text(encoding="utf-8")))
    card = cards()[name]
    assert card.title
    assert (card.year == int(years[card.paper])) if card.paper else (card.year == 0)
    assert all(row.split(".")[0] in PAPERS and re.fullmatch(r"table\d+", row.split(".")[1]) for row in card.rows)


def test_the_listing_as_text_and_as_json():
    command = [sys.executable, "-m", "neuroav.models"]
    text, found = (
        subprocess.run([*command, *more], capture_output=True, text=True, check=True).stdout
        for more in ([], ["--json"])
    )
    entries = {entry["name"]: entry for entry in json.loads(found)}
    assert list(entries) == list(MODELS)
    assert entries["mdft"] == {
        "name": "mdft",
        "class": "neuroav.mdft.model:MDFT",
        "title": "MDFT",
        "paper": "mdft",
        "year": 2023,
        "inputs": "temporal",
        "spiking": True,
        "rows": ["mdft.table1"],
    }
    assert [line.split()[0] for line in text.splitlines()[1:]] == list(MODELS)


def test_the_spiking_ones_are_those_with_neurons():
    assert [name for name, card in cards().items() if card.spiking] == [
        name for name in MODELS if hasattr(model_class(name), "activity")
    ]
