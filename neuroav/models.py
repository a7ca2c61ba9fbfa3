"""The one table of models: name -> ``module:Class``, loaded on use."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from neuroav.checks import check_choice, fail

if TYPE_CHECKING:
    from torch import nn

    from neuroav.data.types import DataSpec

MODELS = {
    "mdft": "neuroav.mdft.model:MDFT",
    "pooled": "neuroav.baselines.pooled:PooledMLP",
    "tcaf": "neuroav.baselines.tcaf:TCAF",
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


if __name__ == "__main__":
    if "--json" in sys.argv[1:]:
        text = json.dumps([{"name": name, "class": path} for name, path in MODELS.items()], indent=1) + "\n"
    else:
        text = "".join(f"{name:12} {path}\n" for name, path in MODELS.items())
    sys.stdout.write(text)
