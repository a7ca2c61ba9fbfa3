"""The fuzzers are scripts; their tests import them by path."""

import importlib.util
import sys

import pytest


@pytest.fixture(scope="module")
def fuzzer(request):
    """The script that the test module names ``SCRIPT``, as a module."""
    name = request.module.SCRIPT.stem
    spec = importlib.util.spec_from_file_location(name, request.module.SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]
