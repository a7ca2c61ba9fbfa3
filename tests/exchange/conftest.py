"""Peers: imported quietly, since their own warnings are not ours; a test without its peer says so."""

import importlib
import warnings

import pytest
import torch

INSTALL = {
    "spikingjelly.activation_based": "SpikingJelly 2",
    "snntorch": "snnTorch 1",
    "norse.torch": "norse",
    "nir": "nir (the extra 'exchange')",
    "neurobench": "NeuroBench 2",
}


def _import(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{INSTALL[name]} is not installed: {error}")


@pytest.fixture(scope="session")
def sj():
    """``spikingjelly.activation_based`` with its submodules."""
    package = _import("spikingjelly.activation_based")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("base", "functional", "monitor", "neuron", "op_counter", "surrogate"):
            importlib.import_module(f"spikingjelly.activation_based.{name}")
    return package


@pytest.fixture(scope="session")
def snn():
    """``snntorch`` with its utilities."""
    package = _import("snntorch")
    importlib.import_module("snntorch.utils")
    return package


@pytest.fixture(scope="session")
def norse():
    """``norse.torch``."""
    return _import("norse.torch")


@pytest.fixture(scope="session")
def nir():
    """``nir``."""
    return _import("nir")


@pytest.fixture(scope="session")
def nb():
    """``neurobench`` with its metrics."""
    package = _import("neurobench")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("neurobench.metrics.workload")
    return package


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@pytest.fixture
def noise():
    """``noise(*shape)`` draws normal numbers, the same in every run."""
    generator = torch.Generator().manual_seed(7)
    return lambda *shape: torch.randn(*shape, generator=generator)
