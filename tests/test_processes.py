"""Worker processes: whose code they run, in which order results come, and what becomes of those that die."""

import math
import os
import subprocess
import sys
from pathlib import Path

import neuroav
from neuroav.processes import map_processes

PROGRAM = """
import os
from neuroav.processes import map_processes

print("once")
place = "(__import__('neuroav').__file__, __import__('os').environ.get('PYTHONSAFEPATH', 'not set'))"
print(*next(map_processes(eval, [place], 1, preload=["neuroav.processes"]))[1], os.environ.get("PYTHONSAFEPATH"))
print(os.path.basename(__file__), __spec__)
"""


def test_a_package_in_the_working_directory_is_not_taken_for_the_installed_one(tmp_path: Path):
    """As in a checkout: an installed release would run its own code in one process and the checkout's in others."""
    (tmp_path / "neuroav").mkdir()
    (tmp_path / "neuroav" / "__init__.py").write_text("raise RuntimeError('the one in the working directory')")
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "place.py").write_text(PROGRAM)
    root = Path(neuroav.__file__).parents[1]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "programs/place.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    first, place, script = done.stdout.splitlines() or [done.stderr, "", ""]
    assert first == "once"  # a script without a __main__ guard is not run by the workers too
    assert place.split() == [neuroav.__file__, "1", "None"]
    assert script == "place.py None"


def test_a_worker_that_dies_takes_no_other_item_with_it():
    slow, deadly = "__import__('time').sleep(0.5) or 'slow'", "__import__('os')._exit(1)"
    results = dict(map_processes(eval, [slow, deadly, "2", "3"], workers=2))
    assert "died" in results.pop(deadly)
    assert results == {slow: "slow", "2": 2, "3": 3}


def test_results_come_in_order_from_a_bounded_number_ahead():
    taken = []
    results = map_processes(math.sqrt, (taken.append(i) or i for i in range(40)), workers=2, ahead=3)
    assert next(results) == (0, 0.0)
    assert len(taken) == 6
    assert [value for _, value in results] == [math.sqrt(i) for i in range(1, 40)]
