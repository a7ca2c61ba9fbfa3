"""What the package never does: unpickle, reach the network, or need torchvision to be imported."""

import ast

import pytest

PICKLES = ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch.load")
NETWORK = (
    "urllib.request",
    "urllib3",
    "requests",
    "socket",
    "http.client",
    "ftplib",
    "smtplib",
    "aiohttp",
    "httpx",
    "websockets",
    "huggingface_hub",
    "torch.hub",
)
OPTIONAL = ("torchvision", "torchaudio")


def dotted(node):
    """``a.b.c`` of an attribute chain, or an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def names_used(node):
    """Dotted names that one node imports or reads."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Attribute):
        return [dotted(node)]
    return []


def uses(tree, forbidden, but=()):
    """List ``line: name`` for every import or attribute that is, or lies in, a forbidden module."""
    return [
        f"{node.lineno}: {name}"
        for node in ast.walk(tree)
        if node not in but
        for name in names_used(node)
        if any(f"{name}.".startswith(f"{one}.") for one in forbidden)
    ]


def unpickling(tree):
    """List ``line: name`` for every way to load a pickle."""
    allowed = [
        f"{node.lineno}: allow_pickle"
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle"
        if not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]
    return uses(tree, PICKLES, but=tensors_only(tree)) + allowed


def tensors_only(tree):
    """The ``torch.load`` of every call that says ``weights_only=True``: it builds tensors and plain values."""
    return [
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and dotted(node.func) == "torch.load"
        for keyword in node.keywords
        if keyword.arg == "weights_only" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
    ]


def imported_at_module_level(tree, forbidden):
    """List ``line: name`` for imports that run when the module is imported."""
    found, pending = [], list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += uses(ast.Module([node], []), forbidden)
        pending.extend(ast.iter_child_nodes(node))
    return found


def test_nothing_is_unpickled(modules):
    assert [f"{module.name}:{use}" for module in modules for use in unpickling(module.tree)] == []


def test_nothing_reaches_the_network(modules):
    assert [f"{module.name}:{use}" for module in modules for use in uses(module.tree, NETWORK)] == []


def test_torchvision_and_torchaudio_are_optional(modules):
    found = [f"{module.name}:{use}" for module in modules for use in imported_at_module_level(module.tree, OPTIONAL)]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib as j",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=flag)",
        "load = torch.load",
        "from torch import load",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=flag)",
    ],
)
def test_the_pickle_check_can_fail(source):
    assert len(unpickling(ast.parse(source))) == 1


def test_the_pickle_check_lets_good_code_pass():
    source = "import numpy as np\nnp.load(path, allow_pickle=False)\nmodel.load_state_dict(x)\ntorch.loads\n"
    source += "torch.load(path, weights_only=True)\n"
    assert unpickling(ast.parse(source)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import urllib.request",
        "from urllib import request",
        "from urllib.request import urlopen",
        "def f():\n    import requests",
        "import http.client as c",
        "from socket import create_connection",
        "import torch\ntorch.hub.load",
    ],
)
def test_the_network_check_can_fail(source):
    assert uses(ast.parse(source), NETWORK)


def test_the_network_check_lets_good_code_pass():
    assert uses(ast.parse("from urllib.parse import quote\nimport html\nself.requests\n"), NETWORK) == []


@pytest.mark.parametrize(
    "source",
    [
        "import torchvision",
        "from torchaudio.functional import resample",
        "try:\n    import torchvision.io\nexcept ImportError:\n    pass",
        "class A:\n    import torchvision",
    ],
)
def test_the_optional_check_can_fail(source):
    assert len(imported_at_module_level(ast.parse(source), OPTIONAL)) == 1


def test_the_optional_check_lets_lazy_imports_pass():
    assert imported_at_module_level(ast.parse("def f():\n    import torchvision\n"), OPTIONAL) == []
