"""A real process killed at random times and at every write of a file ends like one left alone."""

import random
import sys
from itertools import count
from pathlib import Path

import pytest
from by_path import load

SCRIPT = Path(__file__).with_name("kill.py")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of Unix")


@pytest.fixture(scope="module")
def kill():
    """The script, as a module that new processes can import by name."""
    sys.path.insert(0, str(SCRIPT.parent))
    yield load(SCRIPT)
    sys.path.remove(str(SCRIPT.parent))
    del sys.modules["kill"]


@pytest.fixture(scope="module")
def killer(kill, tiny_store, tmp_path_factory):
    return kill.Killer(tmp_path_factory.mktemp("killed"), tiny_store, page=False)


@pytest.fixture(scope="module")
def alone(kill, killer, tmp_path_factory):
    """What a run says that nobody touched, and the seconds it took."""
    out = tmp_path_factory.mktemp("alone")
    killer.finish(out / "first")  # starts the process that the others are copies of
    seconds = killer.finish(out / "run")
    return kill.outcome(out / "run"), seconds


def test_a_run_killed_at_random_times_ends_like_one_left_alone(kill, killer, alone, tmp_path):
    expected, seconds = alone
    assert killer.kill_at_random(tmp_path / "run", 4, random.Random(0), 0.3 * seconds) > 1
    killer.finish(tmp_path / "run")
    assert kill.outcome(tmp_path / "run") == expected


def test_a_run_killed_at_every_write_in_turn_ends_like_one_left_alone(kill, killer, alone, tmp_path):
    """Each process dies at a later write than the one before it; what the first has saved, the next goes on from."""
    out, deaths = tmp_path / "run", 0
    for number in count(1):
        process = killer.start(out, (number, "before" if number % 2 else "after"))
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -9
        deaths += 1
    assert deaths >= 5
    assert kill.outcome(out) == alone[0]
