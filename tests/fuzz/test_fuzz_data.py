"""A short run of the fuzzer of data files, and that it sees readers that are careless, greedy, slow or deceived."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from neuroav.checks import InputError
from neuroav.data import extract, intact, readers, unpickle

SCRIPT = Path(__file__).with_name("fuzz_data.py")


def test_damaged_data_files_give_an_input_error_or_sound_data(fuzzer, tmp_path):
    done, refused = fuzzer.fuzz(seed=0, first=0, cases=300, folder=tmp_path)
    assert set(done) == set(fuzzer.KINDS)
    assert all(refused[name] > count / 12 for name, count in done.items())
    assert done.total() - refused.total() > 30


def test_before_the_damage_every_file_is_sound(fuzzer, tmp_path):
    (tmp_path / "a.mp4").touch()
    for name, (file, content, check) in fuzzer.KINDS.items():
        for seed in range(4):
            for old in tmp_path.glob("s.h5*"):
                old.unlink()
            (tmp_path / file).write_bytes(content(seed))
            if name == "list of a split" and seed != 5:  # it is put into each place in turn, and fits in the last only
                continue
            check(tmp_path / file, seed)


def test_cases_repeat(fuzzer, tmp_path):
    once, again = (fuzzer.fuzz(seed=7, first=20, cases=20, folder=tmp_path) for _ in range(2))
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
def test_a_broken_reader_is_seen(fuzzer, tmp_path, monkeypatch, module, name, broken, match):
    monkeypatch.setattr(module, name, broken)
    if broken is _slow:
        monkeypatch.setattr(fuzzer, "MOST_SECONDS", 0.1)
    if module is intact:
        monkeypatch.setattr(fuzzer, "KINDS", {"store": fuzzer.KINDS["store"]})
    with pytest.raises(AssertionError, match=f"case .* of seed 0: .*{match}"):
        fuzzer.fuzz(seed=0, first=0, cases=1500, folder=tmp_path)


def test_a_program_that_is_started_or_much_memory_is_seen(fuzzer, tmp_path):
    with pytest.raises((AssertionError, RuntimeError), match=r"forbidden|os\.system"):
        fuzzer.refused(tmp_path, lambda: os.system("true"))
    fuzzer.WATCH.seen.clear()
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(AssertionError, match="bytes taken"):
        fuzzer.refused(tmp_path, lambda: np.zeros(9 << 20))
    tracemalloc.stop()
