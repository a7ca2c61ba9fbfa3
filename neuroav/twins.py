"""The networks without spikes that a spiking one has to be compared with, made from its experiment.

Same data, budget, seed and synapses; what differs is the neurons, or the numbers that the trained network multiplies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from neuroav import models
from neuroav.checks import fail
from neuroav.config import Experiment
from neuroav.nn.activation import GELU, Levels, ReLU
from neuroav.nn.numbers import BFloat16, Float32, Int8, Numbers


def twins(experiment: Experiment) -> dict[str, Experiment]:
    """Make every twin of the literature's fairness conditions from the experiment of a spiking model.

    Args:
        experiment: Of a model whose configuration has ``twin`` and ``levels``, as those of MDFT and AVMST have.

    Returns:
        ``relu`` and ``gelu``; ``relu-bfloat16`` and ``relu-int8``, which train as ``relu`` does and are evaluated in
        these numbers; ``levels`` and ``levels-int8``, with as many values as a neuron's answer to a step can have
        (:class:`~neuroav.nn.activation.Levels`). The spiking model itself in int8 is
        ``replace(experiment, numbers=Int8())``.

    Raises:
        InputError: If the model has no spikes, or no twin.

    Example:
        >>> from neuroav.config import StoreData
        >>> found = twins(Experiment(name="MDFT", data=StoreData(store="s.h5")))
        >>> [each.name for each in found.values()][2:5]
        ['MDFT, ReLU twin, bfloat16', 'MDFT, ReLU twin, int8', 'MDFT, twin of 5 levels']
        >>> found["gelu"].config.motion.activation
        GELU()
    """
    config = models.model_class(experiment.model).Config() if experiment.config is None else experiment.config
    levels = getattr(config, "levels", 0)
    if not levels:
        raise fail("twins", "the experiment of a spiking model that has twins", f"{experiment.name} without")
    relu, gelu, stepped = (config.twin(each) for each in (ReLU(), GELU(), Levels(levels=levels)))
    made: dict[str, tuple[str, Any, Numbers]] = {
        "relu": ("ReLU twin", relu, Float32()),
        "gelu": ("GELU twin", gelu, Float32()),
        "relu-bfloat16": ("ReLU twin, bfloat16", relu, BFloat16()),
        "relu-int8": ("ReLU twin, int8", relu, Int8()),
        "levels": (f"twin of {levels} levels", stepped, Float32()),
        "levels-int8": (f"twin of {levels} levels, int8", stepped, Int8()),
    }
    return {
        key: replace(experiment, name=f"{experiment.name}, {title}", config=config, numbers=numbers)
        for key, (title, config, numbers) in made.items()
    }
