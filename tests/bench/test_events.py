"""``neuroav bench events``: what it plans, checks, computes and writes; without processes and with small clips."""

import json
import sys
import types

import numpy as np
import pytest
import torch

from neuroav.bench import events as bench
from neuroav.bench import peers
from neuroav.bench.clips import Frames, load, texture
from neuroav.bench.event_rows import FUSED, GATHERED, LIST, bytes_needed, ratios
from neuroav.bench.timing import Job, Timed
from neuroav.checks import InputError
from neuroav.cli import main
from neuroav.events.generate import frames_to_events

SMALL = texture(24, 32, 6)


@pytest.fixture
def quick(monkeypatch, in_this_process):
    monkeypatch.setattr(bench, "time_side_by_side", in_this_process)
    monkeypatch.setattr(bench, "SYNTHETIC", ((24, 32, 6),))
    copied = types.SimpleNamespace(run=lambda: 2_000_000_000)
    monkeypatch.setattr(bench, "memory_copy", lambda: copied.run)  # 2 GB/s, as a sample takes a second


# ------------------------------------------------------------------------------------------------------------- clips


def test_the_texture_moves_everywhere_and_is_always_the_same():
    clip = texture(240, 426, 10)
    assert clip.frames.shape == (10, 240, 426)
    assert clip.frames.dtype == np.uint8
    assert (np.diff(clip.t_us) > 0).all()
    np.testing.assert_array_equal(clip.frames, texture(240, 426, 10).frames)
    np.testing.assert_array_equal(clip.frames[:6], texture(240, 426, 6).frames)
    events, _ = frames_to_events(torch.from_numpy(clip.frames), torch.from_numpy(clip.t_us))
    assert 0.05 < len(events) / clip.frames.size < 0.5, "about as busy as real video"


def test_a_clip_is_read_from_a_file(video):
    clip = load(str(video), None)
    assert clip.name == f"{video.name} 64x48"
    assert clip.path == str(video)
    assert clip.frames.shape == (20, 48, 64)
    assert load(str(video), 5).frames.shape[0] == 5


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video file of 20 frames, 48 x 64."""
    import av

    path = tmp_path_factory.mktemp("video") / "small.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        for frame in texture(48, 64, 20).frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, 2), format="rgb24")))
        container.mux(stream.encode(None))
    return path


# ---------------------------------------------------------------------------------------------------------- planning


def test_without_peers_only_ours_and_the_floor_are_planned():
    found = [entry for group in bench.groups(SMALL, 2, with_peers=False) for entry in group]
    assert {entry.job.impl for entry in found} == {"neuroav", "floor"}
    cases = [entry.case for entry in found if entry.job.impl == "neuroav"]
    assert cases == [
        "ideal list",
        "ideal list, 2 threads",
        "ideal counts",
        "ideal voxels",
        "clean list",
        "noisy list",
        "noisy list, 2 threads",
        "v2e defaults list",
        "ideal counts from a list",
        "ideal voxels from a list",
    ]


def test_with_one_thread_nothing_runs_on_several():
    found = [entry for group in bench.groups(SMALL, 1, with_peers=False) for entry in group]
    assert {entry.job.threads for entry in found} == {1}


def test_peers_run_beside_ours_in_the_same_group(monkeypatch):
    monkeypatch.setattr(peers, "missing", lambda impl: "")
    for group in bench.groups(SMALL, 2, with_peers=True)[:2]:
        ours = {entry.case for entry in group if entry.job.impl == "neuroav"}
        theirs = {entry.case for entry in group if entry.job.impl not in ("neuroav", "floor")}
        assert theirs
        assert theirs <= ours
        assert {entry.job.threads for entry in group if entry.job.impl == "floor"} == {1, 2}


def test_every_job_can_be_sent_to_its_process(video):
    from multiprocessing.reduction import ForkingPickler

    for group in bench.groups(load(str(video), 3), 2, with_peers=False):
        for entry in group:
            assert len(bytes(ForkingPickler.dumps(entry.job))) > 0


# -------------------------------------------------------------------------------------------------------- verifying


def _verified(events, count_map):
    ours = bench.Plan("neuroav", bench.start_list, "ideal", LIST, ()).entry(SMALL, 1)
    theirs = bench.Plan("v2e", peers.v2e, "ideal", LIST, ()).entry(SMALL, 1)
    good = np.arange(12.0).reshape(3, 4)
    timed = [
        Timed(ours.job, {"events": 66, "count_map": good}),
        Timed(theirs.job, {"events": events, "count_map": count_map}),
    ]
    bench.verify([ours, theirs], timed)
    assert timed[0].skipped == ""
    return timed[1]


def test_a_peer_that_saw_the_same_frames_is_timed():
    timed = _verified(70, np.arange(12.0).reshape(3, 4) + 1)
    assert (timed.skipped, timed.figures["same_places"]) == ("", 1.0)


@pytest.mark.parametrize(
    ("events", "count_map", "text"),
    [
        (0, np.zeros((3, 4)), "made no event"),
        (66, np.arange(12.0)[::-1].reshape(3, 4), r"lie elsewhere than ours \(correlation -1.00\)"),
        (66, np.ones((3, 4)), "lie elsewhere"),
    ],
)
def test_a_peer_that_did_not_is_left_out(events, count_map, text):
    import re

    assert re.search(text, _verified(events, count_map).skipped)


def test_events_outside_the_sensor_are_an_error():
    with pytest.raises(InputError, match="expected events inside 3x4, got some outside"):
        peers.figures(np.array([4]), np.array([0]), np.array([1]), (3, 4))
    found = peers.figures(np.array([3, 3]), np.array([2, 2]), np.array([5, 9]), (3, 4))
    assert (found["events"], found["t_us"], found["count_map"][2, 3]) == (2, (5.0, 9.0), 2)


# -------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("kind", "figures", "expected"),
    [
        (LIST, {"events": 10}, 6 * 24 * 32 + 16 * 24 * 32 + 13 * 10),
        (FUSED, {"events": 10, "bytes": 400}, 6 * 24 * 32 + 16 * 24 * 32 + 400),
        (GATHERED, {"events": 10, "bytes": 400}, 13 * 10 + 400),
    ],
)
def test_the_bytes_that_can_not_be_avoided(kind, figures, expected):
    assert bytes_needed(SMALL, kind, figures) == expected


def test_ratios_are_of_throughput():
    def row(case, impl, throughput):
        return {"case": f"{case}, clip", "impl": impl, "throughput": throughput}

    rows = [
        row("ideal list", "neuroav", 100.0),
        row("ideal list", "v2e", 8.0),
        row("ideal list, 2 threads", "neuroav", 190.0),
        row("ideal counts", "neuroav", 150.0),
        row("ideal counts", "floor", 600.0),
    ]
    assert {one["what"]: one["ratio"] for one in ratios(rows, "clip")} == {
        "ideal list: neuroav / v2e": 12.5,
        "ideal counts: neuroav / floor": 0.25,
        "ideal list, 2 threads / one thread": 1.9,
        "fused counts / list": 1.5,
    }


# ----------------------------------------------------------------------------------------------------------- command


def test_the_command_writes_machine_rows_and_table(quick, tmp_path, capsys):
    out, figures = tmp_path / "table.md", tmp_path / "rows.json"
    assert main(["bench", "events", "--repeats", "3", "--json", str(figures), "--out", str(out)]) == 0
    report = json.loads(figures.read_text())
    assert set(report) == {"machine", "rows", "ratios", "skipped", "settings", "clips"}
    contract = {"bench", "case", "impl", "median_s", "iqr_s", "throughput", "unit", "max_rss_bytes"}
    assert all(contract <= set(row) for row in report["rows"])
    rows = {(row["case"].removesuffix(", texture 32x24"), row["impl"]): row for row in report["rows"]}
    ideal = rows["ideal list", "neuroav"]
    assert (ideal["median_s"], ideal["iqr_s"], ideal["unit"]) == (1.0, 0.0, "Mpixel/s")
    assert ideal["throughput"] == pytest.approx(6 * 24 * 32 / 1e6)
    floor = rows["ideal list", "floor"]
    needed = 6 * 24 * 32 + 16 * 24 * 32 + 13 * ideal["events"]
    assert floor["bytes"] == needed
    assert floor["median_s"] == pytest.approx(needed / 2e9)
    assert floor["throughput"] == pytest.approx(6 * 24 * 32 / 1e6 / floor["median_s"])
    gathered = rows["ideal counts from a list", "neuroav"]
    assert gathered["unit"] == "Mevent/s"
    assert gathered["events"] == ideal["events"] == rows["ideal counts", "neuroav"]["events"] > 0
    table = out.read_text()
    assert capsys.readouterr().out == table
    assert "| ideal list | neuroav | 1000.00 | 0.00 |" in table
    assert "* fused counts / list: 1.00" in table
    assert "* neuroav: no video file was given. Name one with --clip FILE. (file to HDF5, texture 32x24)" in table


def test_peers_that_are_not_here_are_named_with_the_remedy(quick, monkeypatch, capsys):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert main(["bench", "events", "--peers", "--repeats", "1", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    for package in ("v2ecore", "metavision_core_ml", "evlib"):
        assert f"{package} is not installed. {peers.REMEDIES[package]}" in said


def test_a_file_stands_beside_the_bare_decoder(quick, video, tmp_path):
    figures = tmp_path / "rows.json"
    command = ["bench", "events", "--clip", str(video), "--threads", "1", "--repeats", "1", "--json", str(figures)]
    assert main(command) == 0
    report = json.loads(figures.read_text())
    rows = [row for row in report["rows"] if row["case"].startswith("file to HDF5")]
    assert [row["impl"] for row in rows] == ["neuroav", "PyAV, decoding only"]
    assert rows[0]["throughput"] * rows[0]["median_s"] == pytest.approx(20 * 48 * 64 / 1e6)
    assert rows[0]["events"] > 0
    assert report["skipped"] == []


def test_a_failure_of_ours_is_no_success(quick, monkeypatch, capsys):
    def broken(jobs, turns, verify, on_turn):
        return [Timed(job, skipped="ValueError: broken") for job in jobs]

    monkeypatch.setattr(bench, "time_side_by_side", broken)
    assert main(["bench", "events", "--threads", "1"]) == 1
    assert "* neuroav: ValueError: broken (ideal list, texture 32x24; " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--threads", "0"], "expected --threads in [1, 1024], got 0"),
        (["--repeats", "0"], "expected --repeats in [1, 1000], got 0"),
        (["--frames", "1"], "expected --frames in [2, 100000], got 1"),
        (["--clip", "missing.mp4"], "missing.mp4: expected a video file that PyAV can decode, got no such file"),
        (["--out", "no/such/folder.md"], "expected a file in an existing folder, got no/such/folder.md"),
        (["--validate", "--peers", "--threads", "2"], "none of the options of a timing, got --peers, --threads"),
        (["--validate", "--frames", "0"], "none of the options of a timing, got --frames"),
    ],
)
def test_bad_arguments_are_refused(quick, arguments, text, capsys):
    assert main(["bench", "events", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_only_what_works_can_be_asked_for(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "nothing"])
    assert "events" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- peers, stood in for


def test_v2e_is_called_frame_by_frame(monkeypatch):
    package = sys.modules[__name__]
    monkeypatch.setattr(peers, "load", lambda name: package)
    given = []

    class Emulator:
        def generate_events(self, frame, seconds):
            given.append(seconds)
            return None if len(given) % 3 == 1 else np.array([[seconds, 2, 1, 1]], dtype=np.float32)

        def cleanup(self): ...

    cameras = []
    monkeypatch.setattr("neuroav.events.v2e.new_emulator", lambda camera: cameras.append(camera) or Emulator())
    clip = Frames("three", SMALL.frames[:3], SMALL.t_us[:3] + 10**6)
    runner = peers.v2e(clip.frames, clip.t_us, bench.CAMERAS["noisy"])
    found = runner.describe(runner.prepare()())
    assert given == pytest.approx([0.0, 0.033333, 0.066666])
    assert cameras[0].timestamps == "v2e"
    assert cameras[0].shot_hz == 5
    assert found["events"] == 2
    assert found["count_map"][1, 2] == 2
    assert found["t_us"] == pytest.approx((1033333, 1066666), abs=1)


@pytest.mark.parametrize("impl", ["v2e", "Prophesee", "evlib"])
def test_installed_peers_make_events_where_ours_do(impl):
    if reason := peers.missing(impl):
        pytest.skip(reason)
    ours = bench.start_list(SMALL.frames, SMALL.t_us, bench.CAMERAS["ideal"])
    truth = ours.describe(ours.prepare()())["count_map"]
    for plan in bench.PLANS[0]:
        if plan.impl == impl:
            runner = plan.start(SMALL.frames, SMALL.t_us, *plan.arguments)
            figures = runner.describe(runner.prepare()())
            assert bench.correlation(figures["count_map"], truth) > 0.9
            assert figures["events"] == pytest.approx(truth.sum(), rel=0.1)


def test_job_is_what_a_plan_makes():
    entry = bench.PLANS[0][0].entry(SMALL, 3)
    assert entry.case == "ideal list, 3 threads"
    assert isinstance(entry.job, Job)
    assert entry.job.threads == 3
