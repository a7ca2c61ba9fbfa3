"""Worker processes: whose code they run, in which order results come, and what becomes of those that die."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


INTERRUPTED = """
import math, sys
from neuroav import interrupts
from neuroav.processes import map_processes

try:
    with interrupts.never_lost():
        print("go", flush=True)
        for _ in map_processes(math.sqrt, range(10**9), 2, preload=["neuroav.data.classic"]):
            pass
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.2, 1.0])
def test_ctrl_c_is_for_the_parent_while_workers_start_too(tmp_path, delay_s):
    (tmp_path / "work.py").write_text(INTERRUPTED)
    work = subprocess.Popen(
        [sys.executable, str(tmp_path / "work.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert work.stdout.readline() == "go\n"
    time.sleep(delay_s)
    os.killpg(work.pid, signal.SIGINT)  # as a terminal does: all of them
    said, complaints = work.communicate(timeout=120)
    assert (said, complaints, work.returncode) == ("interrupted\n", "", 0)


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
