"""Imports point one way: every room of the house may use the rooms listed for it and no other."""

import ast

import pytest

FOUNDATION = {"checks", "cluster", "files", "interrupts", "processes", "progress", "silence"}
NUMERICS = FOUNDATION | {"kernels", "events", "neurons", "nn"}
# Two files are contracts rather than rooms: what a model is given, and what a model must offer.
CONTRACTS = {"data.types", "baselines.base"}
LOWER = NUMERICS | {"data", "gzsl", "mdft", "baselines", "train", "energy", "exchange"}
TOP = {"models", "config", "report", "demo", "example", "task", "twins", "run", "footprint", "table", "classify"}

ALLOWED = {
    "checks": set(),
    "cluster": {"checks"},
    "files": {"checks"},
    "processes": {"interrupts"},
    "interrupts": set(),
    "progress": {"interrupts"},
    "silence": set(),
    "kernels": FOUNDATION | {"_cpu"},
    "events": FOUNDATION | {"kernels"},
    "neurons": FOUNDATION | {"kernels"},
    "nn": FOUNDATION | {"kernels", "events", "neurons"},
    "mdft": NUMERICS | CONTRACTS,
    "baselines": NUMERICS | CONTRACTS,
    "data": FOUNDATION | {"events"},
    "gzsl": {"checks"},
    "train": NUMERICS | CONTRACTS | {"data", "gzsl", "energy"},
    "energy": NUMERICS | CONTRACTS,
    "exchange": NUMERICS | CONTRACTS,
    "report": LOWER,
    "models": LOWER,
    "config": LOWER | {"models"},
    "demo": LOWER | TOP - {"table"},
    "example": LOWER | {"config"},
    "task": LOWER | {"config"},
    "twins": LOWER | {"models", "config"},
    "run": LOWER | TOP - {"footprint", "table", "classify", "twins"},
    "footprint": LOWER | TOP - {"footprint", "table", "classify"},
    "table": LOWER | TOP - {"footprint", "table", "classify"},
    "classify": LOWER | TOP - {"footprint", "table", "classify"},
    "follow": LOWER | {"classify"},
    "bench": LOWER | {"models", "report", "run"},
    "cli": LOWER | TOP | {"bench", "follow"},
    "__main__": {"cli"},
    "": set(),  # neuroav/__init__.py: names load on first use
}
# Compiled code and the compiler are named in one place each.
ONLY_IN = {"neuroav._cpu": "neuroav.kernels.cpu", "cupy": "neuroav.kernels.cuda", "pybind11": None}


def imported_names(tree):
    """Yield ``(line, dotted name)`` of every import, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (
                (node.lineno, f"{base}.{alias.name}".lstrip(".") if not node.level else base) for alias in node.names
            )


def room_of(name):
    """``neuroav.events.io`` is in room ``events``; ``neuroav`` itself is in room ``""``."""
    return name.split(".")[1] if "." in name else ""


def import_problems(name, tree):
    """List what is wrong with the imports of module ``name``."""
    room = room_of(name)
    if room not in ALLOWED:
        return [f"{name}: room {room!r} is not in the house; give it a line in ALLOWED"]
    problems = []
    for line, target in imported_names(tree):
        where = f"{name}:{line}"
        owner = next((ONLY_IN[one] for one in ONLY_IN if (target + ".").startswith(one + ".")), name)
        if target.startswith("."):
            problems.append(f"{where}: relative import; write it in full")
        elif owner != name:
            problems.append(f"{where}: only {owner or 'setup.py'} may import {target}")
        elif target.startswith("neuroav.") and not allowed(name, target):
            problems.append(f"{where}: {room or 'neuroav'} may not import {target}")
    return problems


def allowed(name, target):
    """Whether module ``name`` may import ``target`` (a module, or a name in one)."""
    room, other = room_of(name), room_of(target)
    if other == "__version__":
        return True
    if room == "baselines" and other == "baselines":
        return (target + ".").startswith(("neuroav.baselines.base.", name + "."))
    return other == room or any((target + ".").startswith(f"neuroav.{one}.") for one in ALLOWED[room])


def test_every_import_points_the_right_way(modules):
    assert [problem for module in modules for problem in import_problems(module.name, module.tree)] == []


def test_the_table_has_no_cycle():
    """A room that may use another may not be used by it, contracts and the two runners aside."""
    rooms = set(ALLOWED) - {"demo", "run"}
    assert [(a, b) for a in rooms for b in ALLOWED[a] & rooms if a in ALLOWED[b]] == []


@pytest.mark.parametrize(
    ("name", "source", "text"),
    [
        ("neuroav.checks", "from neuroav.progress import Progress", "checks may not import"),
        ("neuroav.kernels.events", "import neuroav.events.types", "kernels may not import"),
        ("neuroav.neurons.lif", "def f():\n    from neuroav.nn.project import Project", "neurons may not import"),
        ("neuroav.gzsl.scores", "from neuroav.data.types import Batch", "gzsl may not import"),
        ("neuroav.gzsl.scores", "from neuroav.progress import Progress", "gzsl may not import"),
        ("neuroav.data.store", "from neuroav.nn import losses", "data may not import"),
        ("neuroav.train.loop", "from neuroav.mdft.model import MDFT", "train may not import"),
        ("neuroav.train.loop", "from neuroav import models", "train may not import"),
        ("neuroav.train.loop", "from neuroav.baselines.avca import AVCA", "train may not import"),
        ("neuroav.mdft.model", "from neuroav.data.store import Store", "mdft may not import"),
        ("neuroav.baselines.avca", "from neuroav.baselines.tcaf import TCaF", "baselines may not import"),
        ("neuroav.baselines.avca", "from neuroav.baselines import tcaf", "baselines may not import"),
        ("neuroav.events.io", "from neuroav import Store", "events may not import"),
        ("neuroav.report.html", "from neuroav.cli import main", "report may not import"),
        ("neuroav.events.io", "from . import types", "relative import"),
        ("neuroav.events.io", "from neuroav import _cpu", "only neuroav.kernels.cpu may import"),
        ("neuroav.energy.count", "import cupy.cuda", "only neuroav.kernels.cuda may import"),
        ("neuroav.utils", "", "not in the house"),
    ],
)
def test_the_check_can_fail(name, source, text):
    problems = import_problems(name, ast.parse(source))
    assert len(problems) == 1
    assert text in problems[0]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("neuroav.mdft.model", "from neuroav.data.types import Batch\nfrom neuroav.neurons.lif import LIF"),
        ("neuroav.baselines.avca", "from neuroav.baselines.base import AVModel"),
        ("neuroav.train.loop", "from neuroav.baselines import base\nimport torch"),
        ("neuroav.report.html", "from neuroav import __version__"),
        ("neuroav.kernels.cpu", "from neuroav import _cpu"),
        ("neuroav.cli", "def f():\n    from neuroav.demo import demo_command"),
    ],
)
def test_the_check_lets_good_imports_pass(name, source):
    assert import_problems(name, ast.parse(source)) == []
