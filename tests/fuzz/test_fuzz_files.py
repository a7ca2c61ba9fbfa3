"""A short run of the fuzzer of event files, and that it sees readers that are careless, greedy, slow or rude."""

import time

import fuzz_files
import numpy as np
import pytest
import rounds

from neuroav.checks import InputError
from neuroav.events.formats import columns, nmnist, text
from neuroav.events.io import read_events


def test_damaged_files_of_every_format_give_an_input_error_or_sound_events(tmp_path):
    done, refused = rounds.damaged(fuzz_files.run_case, 0, range(500), tmp_path)
    assert set(done) == set(fuzz_files.SOUND)
    assert all(refused[name] > count / 8 for name, count in done.items())
    assert done.total() - refused.total() > 50


@pytest.mark.parametrize("count", [0, 1, 300])
def test_before_the_damage_every_file_is_sound(tmp_path, count):
    for name, (suffix, content) in fuzz_files.SOUND.items():
        path = tmp_path / f"sound{suffix}"
        path.write_bytes(content(count, 0))
        if count == 0 and name in ("nmnist", "text, commas"):  # nothing at all is left of these
            with pytest.raises(InputError):
                read_events(path)
            continue
        events = read_events(path, "b" if name == "neuroav, clips" else None)
        fuzz_files.require_sound(events)
        assert len(events) == count, name
        assert (events.is_noise is not None) == (name in ("neuroav, labels", "neuroav, clips", "npz, seconds"))


def test_cases_repeat(tmp_path):
    once, again = (rounds.damaged(fuzz_files.run_case, 7, range(20, 40), tmp_path) for _ in range(2))
    assert once == again


def _careless(*args):
    raise KeyError("x")


def _greedy(path, *args):
    return np.zeros(9 << 20)


def _slow(path, *args):
    begin = time.process_time()
    while time.process_time() < begin + 0.2:
        pass


@pytest.mark.parametrize(
    ("module", "name", "broken", "match"),
    [
        (nmnist, "read", _careless, "KeyError"),
        (text, "read", _greedy, "bytes taken"),
        (text, "read", _slow, "s taken"),
        (columns, "_time_order", lambda path, t_us: None, "times that fall"),
        (columns, "_sensor_size", lambda path, x, y, stated: stated or (1, 1), "outside the sensor"),
        (columns, "_polarity", lambda path, p: p.astype(np.uint8), "a polarity"),
        (columns, "fail", lambda where, *_: InputError("no"), "an error like this: no"),
    ],
)
def test_a_broken_reader_is_seen(tmp_path, monkeypatch, module, name, broken, match):
    monkeypatch.setattr(module, name, broken)
    if broken is _slow:
        monkeypatch.setattr(fuzz_files, "MOST_SECONDS", 0.1)
    with pytest.raises(AssertionError, match=f"case .* of seed 0: .*{match}"):
        rounds.damaged(fuzz_files.run_case, 0, range(400), tmp_path)
