"""A short run of the fuzzer of data files, and that it sees readers that are careless, greedy, slow or deceived."""

import os
import time

import fuzz_data
import numpy as np
import pytest
import rounds

from neuroav.checks import InputError
from neuroav.data import extract, intact, readers, unpickle


def test_damaged_data_files_give_an_input_error_or_sound_data(tmp_path):
    done, refused = rounds.damaged(fuzz_data.run_case, 0, range(300), tmp_path)
    assert set(done) == set(fuzz_data.KINDS)
    assert all(refused[name] > count / 12 for name, count in done.items())
    assert done.total() - refused.total() > 30


def test_before_the_damage_every_file_is_sound(tmp_path):
    (tmp_path / "a.mp4").touch()
    for name, (file, content, check) in fuzz_data.KINDS.items():
        for seed in range(4):
            for old in tmp_path.glob("s.h5*"):
                old.unlink()
            (tmp_path / file).write_bytes(content(seed))
            if name == "list of a split" and seed != 5:  # it is put into each place in turn, and fits in the last only
                continue
            check(tmp_path / file, seed)


def test_cases_repeat(tmp_path):
    once, again = (rounds.damaged(fuzz_data.run_case, 7, range(20, 40), tmp_path) for _ in range(2))
    assert once == again


def _careless(*args):
    raise ArithmeticError("x")


def _greedy(*args):
    return np.zeros(9 << 20)


def _slow(*args):
    begin = time.process_time()
    while time.process_time() - begin < 0.2:
        pass
    raise InputError("x")


@pytest.mark.parametrize(
    ("module", "name", "broken", "match"),
    [
        (readers, "_text", _careless, "ArithmeticError"),
        (readers, "_steps", _greedy, "bytes taken"),
        (unpickle, "_mapped", _slow, "s taken"),
        (intact, "_compare_crc", lambda dataset, crc: None, "other"),
        (extract, "_check_parts", lambda where, rows: [].pop(), "IndexError"),
        (readers, "fail", lambda where, *_: InputError("no"), "an error like this: no"),
        (readers, "fail", lambda where, *_: InputError(f"{where}: expected a\nb"), "several lines"),
    ],
)
def test_a_broken_reader_is_seen(tmp_path, monkeypatch, module, name, broken, match):
    monkeypatch.setattr(module, name, broken)
    if broken is _slow:
        monkeypatch.setattr(fuzz_data, "MOST_SECONDS", 0.1)
    if module is intact:
        monkeypatch.setattr(fuzz_data, "KINDS", {"store": fuzz_data.KINDS["store"]})
    with pytest.raises(AssertionError, match=f"case .* of seed 0: .*{match}"):
        rounds.damaged(fuzz_data.run_case, 0, range(1500), tmp_path)


def test_a_program_that_is_started_or_much_memory_is_seen(tmp_path):
    with pytest.raises((AssertionError, RuntimeError), match=r"forbidden|os\.system"):
        fuzz_data.refused(tmp_path, lambda: os.system("true"))
    fuzz_data.WATCH.seen.clear()
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(AssertionError, match="bytes taken"):
        fuzz_data.refused(tmp_path, lambda: np.zeros(9 << 20))
    tracemalloc.stop()
