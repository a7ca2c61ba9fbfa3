"""The adapter to v2e: what it hands over, what it makes of the answer, what it refuses; against a stand-in for v2e."""

import logging
import sys
import types

import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.events.camera import EventCamera, LinLog, Log
from neuroav.events.generate import frames_to_events
from neuroav.events.v2e import v2e_events

FRAMES = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)
T_US = torch.tensor([5_000_000, 5_010_000, 5_030_000])
CAMERA = EventCamera(brightness=LinLog(20), timestamps="v2e")


class StandIn:
    """Answers each frame after the first with rows that a test has laid out, and remembers what it was given."""

    rows: list = []  # noqa: RUF012
    made: list = []  # noqa: RUF012

    def __init__(self, **settings):
        self.settings, self.given, self.SHOT_NOISE_INTEN_FACTOR = settings, [], 0.25
        StandIn.made.append(self)

    def cleanup(self):
        pass

    def generate_events(self, frame, seconds):
        logging.getLogger("v2ecore.emulator").warning("no signal events generated")
        self.given.append((frame.copy(), seconds, torch.rand(1).item()))
        rows = StandIn.rows[len(self.given) - 1] if StandIn.rows else None
        return None if rows is None else np.array(rows, dtype=np.float32)


@pytest.fixture(autouse=True)
def v2ecore(monkeypatch):
    """A package ``v2ecore`` whose emulator is the stand-in."""
    names = ("v2ecore", "v2ecore.emulator", "v2ecore.emulator_utils")
    package, emulator, utilities = (types.ModuleType(name) for name in names)
    emulator.EventEmulator = StandIn
    utilities.compute_photoreceptor_noise_voltage = types.SimpleNamespace(last_sample_rate=100.0)
    package.emulator, package.emulator_utils = emulator, utilities
    for name, module in zip(names, (package, emulator, utilities), strict=True):
        monkeypatch.setitem(sys.modules, name, module)
    StandIn.rows, StandIn.made = [], []
    return package


def test_parameters_arrive_under_their_names_there():
    camera = EventCamera.preset("noisy", timestamps="v2e", contrast_off=0.3, refractory_us=500, refractory="hold")
    v2e_events(FRAMES, T_US, camera.replace(shot_slope=0.6))
    made = StandIn.made[0]
    assert made.settings == {
        "pos_thres": 0.2,
        "neg_thres": 0.3,
        "sigma_thres": 0.05,
        "cutoff_hz": 30.0,
        "leak_rate_hz": 0.1,
        "refractory_period_s": 0.0005,
        "shot_noise_rate_hz": 5.0,
        "photoreceptor_noise": False,
        "leak_jitter_fraction": 0.1,
        "noise_rate_cov_decades": 0.1,
        "device": "cpu",
        "hdr": False,
    }
    assert pytest.approx(0.4) == made.SHOT_NOISE_INTEN_FACTOR


def test_photoreceptor_noise_is_their_shot_noise_of_another_kind(v2ecore):
    v2e_events(FRAMES, T_US, CAMERA.replace(photoreceptor_hz=2.0, cutoff_hz=30.0))
    settings = StandIn.made[0].settings
    assert (settings["shot_noise_rate_hz"], settings["photoreceptor_noise"]) == (2.0, True)
    assert v2ecore.emulator_utils.compute_photoreceptor_noise_voltage.last_sample_rate is None


def test_frames_and_seconds_since_the_first_frame_are_handed_over():
    v2e_events(FRAMES, T_US, CAMERA)
    frames, seconds, _ = zip(*StandIn.made[0].given, strict=True)
    np.testing.assert_array_equal(np.stack(frames), FRAMES.numpy())
    assert seconds == (0.0, 0.01, 0.03)


def test_another_law_goes_as_log_frames_of_the_same_table():
    law = Log(5.0)
    v2e_events(FRAMES, T_US, CAMERA.replace(brightness=law))
    made = StandIn.made[0]
    assert made.settings["hdr"] is True
    np.testing.assert_allclose(made.given[2][0], np.log(FRAMES[2].numpy() + 5.0), atol=1e-5)


def test_float_frames_go_as_they_are():
    frames = FRAMES.float() / 60
    v2e_events(frames, T_US, CAMERA.replace(brightness=Log()))
    assert StandIn.made[0].settings["hdr"] is True
    np.testing.assert_array_equal(StandIn.made[0].given[1][0], frames[1].numpy())


def test_rows_become_sorted_columns_in_microseconds():
    StandIn.rows = [None, [[0.004, 3, 1, -1], [0.004, 2, 1, 1], [0.004, 4, 0, 1], [0.001, 0, 3, 1]], [[0.03, 1, 2, -1]]]
    events = v2e_events(FRAMES, T_US, CAMERA)
    assert events.t_us.tolist() == [5_001_000, 5_004_000, 5_004_000, 5_004_000, 5_030_000]
    assert events.y.tolist() == [3, 0, 1, 1, 2]
    assert events.x.tolist() == [0, 4, 2, 3, 1]
    assert events.p.tolist() == [1, 1, 1, 0, 0]
    assert [column.dtype for column in (events.t_us, events.x, events.y, events.p)] == [
        torch.int64,
        torch.int16,
        torch.int16,
        torch.uint8,
    ]
    assert events.sensor_size == (4, 5)


def test_a_rounded_time_stays_in_its_interval():
    StandIn.rows = [None, [[0.0100006, 0, 0, 1]], [[0.0099996, 1, 0, 1], [0.0299999, 2, 0, 1]]]
    assert v2e_events(FRAMES, T_US, CAMERA).t_us.tolist() == [5_010_000, 5_010_001, 5_030_000]


def test_no_events_are_an_empty_list():
    assert len(v2e_events(FRAMES, T_US, CAMERA)) == 0
    assert len(v2e_events(FRAMES[:1], T_US[:1], CAMERA)) == 0


def test_the_seed_rules_its_draws_and_leaves_ours_alone():
    torch.manual_seed(7)
    expected = torch.rand(1).item()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(7)
        v2e_events(FRAMES, T_US, CAMERA.replace(seed=seed))
        assert torch.rand(1).item() == expected
        draws.append([draw for *_, draw in StandIn.made[-1].given])
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_its_warnings_are_held_back_and_only_for_the_call(caplog):
    v2e_events(FRAMES, T_US, CAMERA)
    assert caplog.records == []
    logging.getLogger("v2ecore.emulator").warning("heard again")
    assert [record.message for record in caplog.records] == ["heard again"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"timestamps": "crossing"}, "timestamps 'v2e', as v2e has no crossing times, got 'crossing'"),
        ({"timestamps": "frame"}, "timestamps 'v2e'"),
        ({"refractory_us": 100, "refractory": "advance"}, "refractory 'hold', as v2e knows no other rule"),
        ({"refractory_us": 100, "refractory": "blind"}, "refractory 'hold'"),
        ({"poles": 2, "cutoff_hz": 30.0}, "poles 1, as v2e has a filter of one pole, got 2"),
        ({"hot_fraction": 0.1}, "hot_fraction 0, as v2e has no hot pixels"),
        ({"dead_fraction": 0.1}, "dead_fraction 0, as v2e has no dead pixels"),
        ({"photoreceptor_hz": 1.0, "cutoff_hz": 9.0, "shot_hz": 1.0}, "shot_hz 0 beside photoreceptor_hz"),
        ({"brightness": Log(), "cutoff_hz": 30.0}, "cutoff_hz 0 unless frames are uint8 and brightness is LinLog"),
        ({"brightness": LinLog(30), "shot_hz": 1.0}, "shot_hz 0 unless frames are uint8 and brightness is LinLog"),
    ],
)
def test_what_v2e_has_not_is_refused(changes, text):
    with pytest.raises(InputError, match=text.replace("(", r"\(")):
        v2e_events(FRAMES, T_US, CAMERA.replace(**changes))
    assert StandIn.made == []


def test_without_v2e_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "v2ecore", None)
    remedy = (
        r"an installed v2e \(v2ecore\), got .*\. Install it with: pip install git\+https://github\.com/SensorsINI/v2e"
    )
    with pytest.raises(InputError, match=remedy):
        frames_to_events(FRAMES, T_US, CAMERA, backend="v2e")
