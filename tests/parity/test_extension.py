"""An extension that was built from other sources is never called."""

import importlib
import sys
import types

import pytest

from neuroav.kernels import cpu


@pytest.mark.parametrize("interface", [{}, {"interface": cpu.INTERFACE - 1}])
def test_an_extension_of_other_sources_is_left_aside_and_said(monkeypatch, interface):
    monkeypatch.delenv("NEUROAV_KERNELS", raising=False)
    stale = types.SimpleNamespace(**interface)  # without any function: a call would fail
    monkeypatch.setitem(sys.modules, "neuroav._cpu", stale)
    with pytest.warns(UserWarning, match=r"PyTorch reference.*build_ext --inplace"):
        module, description = cpu._load()
    assert module is None
    assert "other sources" in description


@pytest.mark.skipif(not cpu.available(), reason="the C++ extension was not built")
def test_the_extension_in_use_is_of_these_sources():
    assert importlib.import_module("neuroav._cpu").interface == cpu.INTERFACE
