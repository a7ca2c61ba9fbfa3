"""The one table of models: name -> ``module:Class``, loaded on use."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Any

from neuroav.checks import check_choice, fail

if TYPE_CHECKING:
    from torch import nn

    from neuroav.baselines.base import Card
    from neuroav.data.types import DataSpec

MODELS = {
    "ale": "neuroav.baselines.ale:ALE",
    "apn": "neuroav.baselines.apn:APN",
    "attention_fusion": "neuroav.baselines.attention_fusion:AttentionFusion",
    "avca": "neuroav.baselines.avca:AVCA",
    "avfs": "neuroav.baselines.avfs:AVFS",
    "avgzslnet": "neuroav.baselines.avgzslnet:AVGZSLNet",
    "avmst": "neuroav.baselines.avmst:AVMST",
    "cjme": "neuroav.baselines.cjme:CJME",
    "devise": "neuroav.baselines.devise:DeViSE",
    "ez_avgzl": "neuroav.baselines.ez_avgzl:EZAVGZL",
    "fvaegan_d2": "neuroav.baselines.fvaegan_d2:FVAEGAND2",
    "hyper_alignment": "neuroav.baselines.hyper:HyperAlignment",
    "hyper_multiple": "neuroav.baselines.hyper:HyperMultiple",
    "hyper_single": "neuroav.baselines.hyper:HyperSingle",
    "mdft": "neuroav.mdft.model:MDFT",
    "perceiver": "neuroav.baselines.perceiver:Perceiver",
    "pooled": "neuroav.baselines.pooled:PooledMLP",
    "sacma": "neuroav.baselines.sacma:SACMA",
    "sje": "neuroav.baselines.sje:SJE",
    "tcaf": "neuroav.baselines.tcaf:TCAF",
    "tsart": "neuroav.baselines.tsart:TSART",
}


def model_class(name: str) -> Any:
    """The class behind a name of the table."""
    check_choice("model", "name", name, MODELS)
    module, _, attribute = MODELS[name].partition(":")
    return getattr(import_module(module), attribute)


def build(name: str, spec: DataSpec, config: Any = None) -> nn.Module:
    """Make the model; ``config=None`` takes the class's default configuration."""
    kind = model_class(name)
    if config is not None and not isinstance(config, kind.Config):
        raise fail(f"model {name!r}", f"config of type {kind.Config.__name__}", type(config).__name__)
    return kind(spec, config)


def cards() -> dict[str, Card]:
    """What each model is: title, paper, year, kind of input, spiking or not, tables with published results of it."""
    return {name: model_class(name).CARD for name in MODELS}


def _listing() -> str:
    head = f"{'name':20} {'title':22} {'paper':12} {'year':5} {'inputs':9} {'spiking':8} published in\n"
    rows = (
        f"{name:20} {card.title:22} {card.paper or '-':12} {card.year or '-':<5} {card.inputs:9} "
        f"{'yes' if card.spiking else 'no':8} {', '.join(card.rows) or '-'}\n"
        for name, card in cards().items()
    )
    return head + "".join(rows)


if __name__ == "__main__":
    if "--json" in sys.argv[1:]:
        entries = [{"name": name, "class": MODELS[name], **asdict(card)} for name, card in cards().items()]
        sys.stdout.write(json.dumps(entries, indent=1) + "\n")
    else:
        sys.stdout.write(_listing())
