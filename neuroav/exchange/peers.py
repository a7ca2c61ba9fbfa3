"""Other packages, imported when first used and missed with a remedy; and what can be handed over to them."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from neuroav.checks import fail
from neuroav.neurons.dynamic import DynamicLIF
from neuroav.neurons.lif import LIF, LIFLayer


def peer(where: str, module: str, remedy: str) -> ModuleType:
    """Import ``module``, or say what to install.

    Raises:
        ImportError: If the package can't be imported; its own error is the cause.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise fail(where, f"the package {package}", f"{type(error).__name__}: {error}", remedy, ImportError) from error


def check_plain(where: str, layer: LIFLayer) -> None:
    """Raise for a layer that does more than :meth:`~neuroav.neurons.lif.LIFLayer.integrate`, such as ``ALIF``.

    Example:
        >>> check_plain("f", DynamicLIF(3))
    """
    if not isinstance(layer, LIFLayer) or type(layer).forward not in (DynamicLIF.forward, LIF.forward):
        remedy = "A threshold that follows a layer's own spikes, or another step, would be lost."
        raise fail(where, "a DynamicLIF, LIF or PLIF", type(layer).__name__, remedy)


def check_fixed(where: str, theta: Tensor | float, own: Any, why: str) -> None:
    """Raise unless every value of ``theta`` is the neuron's ``own`` threshold; ``why`` says what keeps it fixed."""
    values = torch.as_tensor(theta).detach()
    fixed = torch.as_tensor(own, dtype=values.dtype, device=values.device).detach()
    if not bool((values == fixed).all()):
        expected = f"theta to be the neuron's own threshold {span(fixed)}, as {why}"
        raise fail(where, expected, span(values), "For a threshold signal use neuroav.neurons.DynamicLIF.")


def span(values: Tensor) -> str:
    """Say what values there are: one number, or the lowest and the highest.

    Example:
        >>> span(torch.tensor([0.5, 2.0]))
        '0.5 to 2'
    """
    low, high = values.min().item(), values.max().item()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
