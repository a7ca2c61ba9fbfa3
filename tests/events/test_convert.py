"""The ``events`` verb: videos, event files and folders in; what comes out, and that nothing is left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.cli import main
from neuroav.events import command, convert
from neuroav.events.camera import EventCamera, LinLog, Log
from neuroav.events.command import camera_from_options, events_command
from neuroav.events.generate import frames_to_events
from neuroav.events.io import describe_events, read_events, read_frame_times, write_events
from neuroav.events.sink import new_hdf5
from neuroav.events.types import Events
from neuroav.events.video import read_video


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("t_us", "x", "y", "p"))


def test_file_holds_the_events_of_the_clip(video, slide, tmp_path, capsys):
    out = tmp_path / "out.h5"
    assert main(["events", str(video), "-o", str(out), "--contrast", "0.3"]) == 0
    expected, _ = frames_to_events(slide(), torch.arange(20) * 40_000, contrast_on=0.3, contrast_off=0.3)
    assert same(read_events(out), expected)
    assert read_events(out).sensor_size == (24, 30)
    assert f"20 frames 24x30 in 0.76 s, {len(expected)} events" in capsys.readouterr().out
    row = describe_events(out)[0]
    assert EventCamera.from_dict(row["camera"]) == EventCamera(contrast_on=0.3, contrast_off=0.3)
    times, index = read_frame_times(out)
    assert times.tolist() == [40_000 * k for k in range(20)]
    for frame in range(1, 20):
        inside = expected.t_us[index[frame] : index[frame + 1]]
        assert len(inside) > 0
        assert bool(((inside > times[frame - 1]) & (inside <= times[frame])).all())
    with h5py.File(out) as file:
        assert file.attrs["source"] == b"slide.mkv"


def test_long_clips_in_many_chunks_equal_one_call(make_video, slide, tmp_path):
    out, path = tmp_path / "out.h5", make_video("long.mkv", slide(150))
    events_command([str(path)], str(out))
    assert same(read_events(out), frames_to_events(slide(150), torch.arange(150) * 40_000)[0])


def test_every_option_of_the_camera_reaches_it(video, slide, tmp_path):
    out = str(tmp_path / "out.h5")
    options = [
        "--preset",
        "noisy",
        "--set",
        "shot_hz=50",
        "--set",
        "brightness=log:0.5",
        "--seed",
        "3",
        "--contrast",
        ".15",
    ]
    assert main(["events", str(video), "-o", out, *options]) == 0
    camera = EventCamera.preset("noisy", shot_hz=50, brightness=Log(0.5), seed=3, contrast_on=0.15, contrast_off=0.15)
    assert same(read_events(out), frames_to_events(slide(), torch.arange(20) * 40_000, camera)[0])


def test_camera_options_are_checked():
    assert camera_from_options() == EventCamera()
    assert camera_from_options("clean", settings=["refractory=hold", "poles=2"]).poles == 2
    assert camera_from_options(settings=["brightness=linlog"]).brightness == LinLog()
    for settings, match in [
        (["shot"], "--set name=value, got 'shot'"),
        (["shot_hertz=1"], "--set to be one of .*Did you mean 'shot_hz'"),
        (["shot_hz=much"], "--set shot_hz to be of type float, got 'much'"),
        (["poles=1.5"], "--set poles to be of type int"),
        (["brightness=lin"], "--set brightness to be one of log, linlog, linear"),
        (["brightness=linear:3"], "--set brightness=linear without a parameter"),
    ]:
        with pytest.raises(InputError, match=match):
            camera_from_options(settings=settings)
    with pytest.raises(InputError, match="contrast_on in"):
        camera_from_options(contrast=0)


def test_size_resizes_and_roi_keeps_the_sensor(video, slide, tmp_path):
    assert main(["events", str(video), "-o", str(tmp_path / "small.h5"), "--size", "8x6"]) == 0
    assert read_events(tmp_path / "small.h5").sensor_size == (8, 6)
    assert main(["events", str(video), "-o", str(tmp_path / "part.h5"), "--roi", "4,6,10,12"]) == 0
    part = read_events(tmp_path / "part.h5")
    assert part.sensor_size == (24, 30)
    assert same(part, frames_to_events(slide(), torch.arange(20) * 40_000, roi=(4, 6, 10, 12))[0])


def test_several_clips_get_a_group_each(make_video, slide, tmp_path):
    (tmp_path / "other").mkdir()
    paths = [make_video(name, slide(5, seed=k)) for k, name in enumerate(["a.mkv", "other/a.mkv", "b.mkv"])]
    out = tmp_path / "out.h5"
    assert events_command([str(p) for p in paths], str(out), json_path=str(tmp_path / "rows.json")) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["group"] for row in rows] == ["a", "a-2", "b"]
    assert [len(read_events(out, row["group"])) for row in rows] == [row["events"] for row in rows]
    assert all(row["frames"] == 5 and row["notes"] == [] for row in rows)
    with pytest.raises(InputError, match="one clip, as evt3 holds no more, got 2"):
        events_command([str(p) for p in paths[:2]], str(tmp_path / "out.raw"))


def test_a_clip_of_several_keeps_its_frames_and_camera_and_can_begin_at_zero(make_video, slide, tmp_path, capsys):
    paths = [make_video(f"{name}.mkv", slide(5, seed=k), t_ms=700 + np.arange(5) * 40) for k, name in enumerate("ab")]
    out, one, raw = (str(tmp_path / name) for name in ("all.h5", "b.h5", "b.raw"))
    assert events_command([str(path) for path in paths], out, camera=EventCamera(contrast_on=0.3)) == 0
    assert main(["events", out, "-o", one]) == 2
    assert "expected a clip's name, as the file holds several, got None. Say --clip NAME" in capsys.readouterr().err
    assert main(["events", out, "-o", one, "--clip", "b"]) == 0
    assert same(read_events(one), read_events(out, "b"))
    assert [array.tolist() for array in read_frame_times(one)] == [a.tolist() for a in read_frame_times(out, "b")]
    row = describe_events(one)[0]
    assert (row["camera"]["contrast_on"], row["frames"]) == (0.3, 5)
    assert main(["events", one, "-o", raw, "--from-zero"]) == 0
    assert torch.equal(read_events(raw).t_us, read_events(one).t_us - 700_000)
    assert main(["events", one, "-o", out, "--from-zero"]) == 0
    assert read_frame_times(out)[0].tolist() == [0, 40_000, 80_000, 120_000, 160_000]
    assert main(["events", str(paths[0]), "-o", raw, "--clip", "a"]) == 2
    assert "error: expected an event file with --clip or --from-zero, got" in capsys.readouterr().err
    for option in (["--contrast", "0.3"], ["--preset", "noisy"], ["--seed", "1"], ["--set", "shot_hz=1"]):
        assert main(["events", one, "-o", out, *option]) == 2
        assert "videos with options of the camera, got" in capsys.readouterr().err
    assert main(["events", one, "-o", out, "--roi", "0,0,8,8"]) == 2
    assert "videos with options --roi, got" in capsys.readouterr().err
    folder = tmp_path / "folder"
    folder.mkdir()
    paths[0].rename(folder / "a.mkv")
    assert main(["events", str(folder), "-o", str(tmp_path / "new"), "--from-zero"]) == 2
    assert "an event file with --clip or --from-zero, got" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    Path(raw).rename(folder / "b.raw")
    assert main(["events", str(folder), "-o", str(tmp_path / "new"), "--from-zero", "--contrast", "0.3"]) == 0
    (folder / "a.mkv").unlink()
    assert main(["events", str(folder), "-o", str(tmp_path / "newer"), "--contrast", "0.3"]) == 2
    assert "videos with options of the camera, got" in capsys.readouterr().err
    (tmp_path / "b.mkv").rename(tmp_path / "b.unheard")
    assert main(["events", str(tmp_path / "b.unheard"), "-o", f"{tmp_path}/newest/", "--contrast", "0.3"]) == 0
    (folder / "empty.mkv").touch()
    assert main(["events", str(folder), "-o", str(tmp_path / "newest"), "--from-zero"]) == 1
    assert "1 converted, 0 skipped, 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize("way", [["--info"], ["-o", "a.h5"]])
def test_a_file_that_is_neither_video_nor_events_is_told_what_could_be_read(way, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("notes.xyz").write_text("hello")
    assert main(["events", "notes.xyz", *way]) == 2
    assert re.search(
        r"notes\.xyz: expected a video .*, or events as one of .*evt3.*, got neither", capsys.readouterr().err
    )


def test_labels_are_those_of_the_whole_clip_at_once_and_refused_where_they_would_be_lost(
    make_video, slide, tmp_path, capsys
):
    video = make_video("a.mkv", slide(40))
    camera = EventCamera.preset("noisy", seed=1)
    frames, t_us = (np.concatenate(parts) for parts in zip(*read_video(video), strict=True))
    wanted = frames_to_events(frames, t_us, camera, labels=True)[0]
    assert 0 < int(wanted.is_noise.sum()) < len(wanted)
    for name in ("a.h5", "a.npz"):
        flags = ["--preset", "noisy", "--seed", "1", "--labels"]
        assert main(["events", str(video), "-o", str(tmp_path / name), *flags]) == 0
        assert torch.equal(read_events(tmp_path / name).is_noise, wanted.is_noise)
    for source, out, got in ((video, "a.raw", "got format evt3"), (tmp_path / "a.npz", "b.h5", "got an event file")):
        assert main(["events", str(source), "-o", str(tmp_path / out), "--labels"]) == 2
        assert got in capsys.readouterr().err
    folder = tmp_path / "clips"
    folder.mkdir()
    video.rename(folder / "a.mkv")
    for flags, said in ((["--labels"], ""), ([], "labels True -> None"), ([], "1 of 1 clips are finished already")):
        assert main(["events", str(folder), "-o", str(tmp_path / "out"), *flags]) == 0
        assert said in capsys.readouterr().out


def test_what_a_format_cannot_hold_is_said_of_the_file_asked_for(tmp_path, capsys):
    np.savez(tmp_path / "late.npz", t=[1 << 50], x=[0], y=[0], p=[1])
    assert main(["events", str(tmp_path / "late.npz"), "-o", str(tmp_path / "out.dat")]) == 2
    assert f"error: {tmp_path / 'out.dat'}: expected times from 0" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["late.npz"]


def test_names_that_are_no_unicode_are_taken(make_video, slide, tmp_path, capsys):
    clip = tmp_path / "in" / os.fsdecode(b"caf\xe9.mkv")
    clip.parent.mkdir()
    try:
        make_video("plain.mkv", slide(3)).rename(clip)
    except OSError:
        pytest.skip("this file system takes only Unicode names")
    assert main(["events", str(clip.parent), "-o", str(tmp_path / "out"), "--workers", "1"]) == 0
    with h5py.File(tmp_path / "out" / os.fsdecode(b"caf\xe9.h5")) as file:
        assert file.attrs["source"] == b"caf\xe9.mkv"


@pytest.mark.parametrize("suffix", [".raw", ".npz", ".aedat4", ".txt", ".dat", ".npy", ".h5"])
def test_formats_are_converted_by_suffix(video, slide, tmp_path, suffix):
    out, expected = tmp_path / f"out{suffix}", frames_to_events(slide(), torch.arange(20) * 40_000)[0]
    assert main(["events", str(video), "-o", str(out)]) == 0
    assert same(read_events(out), expected)
    again = tmp_path / "again.h5"
    assert main(["events", str(out), "-o", str(again)]) == 0
    assert same(read_events(again), expected)
    assert main(["events", str(again), "-o", str(tmp_path / "v.h5"), "--format", "v2e"]) == 0
    assert describe_events(tmp_path / "v.h5")[0]["format"] == "v2e"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["slide.mkv", out.name, "again.h5", "v.h5"])


def test_info_says_what_files_hold(video, tmp_path, capsys):
    out, json_path = tmp_path / "out.h5", tmp_path / "info.json"
    main(["events", str(video), "-o", str(out), "--contrast", "0.25"])
    capsys.readouterr()
    assert main(["events", "--info", str(out), "-o", str(tmp_path / "new.h5"), "--preset", "noisy"]) == 2
    assert "no options of a conversion, got --out, --preset" in capsys.readouterr().err
    assert main(["events", "--info", str(out), str(video), "--json", str(json_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = json.loads(json_path.read_text())["rows"]
    assert printed[0].split() == ["file", "clip", "format", "HxW", "events", "seconds", "events/s", "ON", "frames"]
    assert printed[1].split()[1:5] == ["-", "neuroav", "24x30", str(rows[0]["events"])]
    assert printed[2].split()[1:] == ["-", "video", "24x30", "-", "0.800", "-", "-", "20"]
    assert printed[3].endswith("camera: contrast_on 0.25, contrast_off 0.25")
    assert rows[0]["frames"] == 20


def folder_of_clips(make_video, slide, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for k, name in enumerate(["in/a.mkv", "in/deep/b.mkv", "in/a.avi"]):
        make_video(name, slide(4, seed=k))
    (tmp_path / "in" / "broken.mp4").write_text("no video")
    (tmp_path / "in" / "notes.txt").write_text("notes")
    one = torch.ones(3).short()
    events = Events(torch.tensor([1, 2, 3]), one, one, one.byte(), (2, 2))
    write_events(tmp_path / "in" / "recorded.raw", events)
    return tmp_path / "in", tmp_path / "out"


def test_a_folder_goes_on_past_bad_clips_and_where_it_stopped(make_video, slide, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        command, "map_processes", lambda function, items, workers, **_: ((i, function(i)) for i in items)
    )
    source, out = folder_of_clips(make_video, slide, tmp_path)
    arguments = ["events", str(source), "-o", str(out), "--json", str(tmp_path / "rows.json")]
    assert main(arguments) == 1
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert names == ["a.avi.h5", "a.mkv.h5", "deep/b.h5", "recorded.h5"]
    assert same(read_events(out / "deep" / "b.h5"), frames_to_events(slide(4, seed=1), torch.arange(4) * 40_000)[0])
    printed = capsys.readouterr().out
    assert "not converted: " in printed
    assert "broken.mp4: expected a video file" in printed
    assert printed.endswith("4 converted, 0 skipped, 1 failed\n")
    assert list(json.loads((tmp_path / "rows.json").read_text())["failed"]) == [str(source / "broken.mp4")]
    (source / "broken.mp4").unlink()
    (out / "a.mkv.h5").unlink()
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("3 of 4 clips are finished already: skipped\n")
    assert printed.endswith("1 converted, 3 skipped, 0 failed\n")
    assert main([*arguments, "--contrast", "0.3"]) == 0
    printed = capsys.readouterr().out
    assert (
        "b.h5: made with other settings (contrast_on 0.2 -> 0.3, contrast_off 0.2 -> 0.3): converted again" in printed
    )
    assert printed.endswith("4 converted, 0 skipped, 0 failed\n")
    make_video("in/deep/b.mkv", slide(6))
    assert main([*arguments, "--contrast", "0.3"]) == 0
    assert capsys.readouterr().out.endswith("1 converted, 3 skipped, 0 failed\n")
    assert len(read_frame_times(out / "deep" / "b.h5")[0]) == 6


def test_a_folder_converts_in_processes(make_video, slide, tmp_path):
    source, out = folder_of_clips(make_video, slide, tmp_path)
    assert events_command([str(source)], str(out), workers=2) == 1
    assert same(read_events(out / "deep" / "b.h5"), frames_to_events(slide(4, seed=1), torch.arange(4) * 40_000)[0])


def test_folders_need_folders(video, tmp_path):
    (tmp_path / "empty").mkdir()
    for inputs, out, options, match in [
        ([tmp_path / "empty"], tmp_path / "o", {}, "folders with clips in them"),
        ([tmp_path], video, {}, "-o to be a folder, as an input is one"),
        ([tmp_path], None, {}, r"folder \(-o\) of HDF5 files, got no -o"),
        ([tmp_path], tmp_path / "o", {"preview": "x.mp4"}, "got --preview"),
        ([tmp_path], tmp_path / "o", {"format": "npz"}, "got --format npz"),
        ([tmp_path], tmp_path / "o", {"workers": 0}, "at least 1 worker"),
        ([tmp_path, tmp_path / "gone.mp4"], tmp_path / "o", {}, "got no such file"),
    ]:
        with pytest.raises(InputError, match=match):
            events_command([str(one) for one in inputs], None if out is None else str(out), **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "slide.mkv"]


def test_a_folder_that_cannot_be_made_is_named(video, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["events", str(tmp_path), "-o", str(tmp_path / "file" / "out")]) == 2
    assert "error: expected -o to be a folder that can be made, got" in capsys.readouterr().err


def test_one_bad_clip_leaves_nothing_behind(video, tmp_path, capsys):
    (tmp_path / "bad.mp4").write_text("text")
    before = sorted(tmp_path.iterdir())
    status = main(["events", str(video), str(tmp_path / "bad.mp4"), "-o", str(tmp_path / "out.h5")])
    assert status == 2
    assert sorted(tmp_path.iterdir()) == before
    error = capsys.readouterr().err.strip()
    assert error.startswith("neuroav events: error:")
    assert "bad.mp4" in error
    assert "\n" not in error


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize(
    "where", ["neuroav.events.preview.FilmWriter.write", "neuroav.events.convert.frames_to_events"]
)
def test_an_interrupt_half_way_leaves_nothing_behind(video, tmp_path, monkeypatch, failure, where):
    def stop(*args, **kwargs):
        raise failure

    monkeypatch.setattr(where, stop)
    (tmp_path / "out.h5").write_text("an older file")
    with pytest.raises(failure):
        events_command([str(video)], str(tmp_path / "out.h5"), preview=str(tmp_path / "film.mp4"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "slide.mkv"]
    assert (tmp_path / "out.h5").read_text() == "an older file"


FULL_DISK = """
import resource, signal, sys
from neuroav.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (0, 2000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for options in (["-o", "out.h5"], ["-o", "out.h5", "--format", "v2e"], ["--preview", "out.mp4"], ["-o", "out.raw"]):
        assert main(["events", *sys.argv[1:], *options]) == 2
"""


def test_no_room_is_said_in_one_line_and_leaves_nothing_behind(video, tmp_path):
    pytest.importorskip("resource", reason="limits of a process are of Unix")
    command = [sys.executable, "-c", FULL_DISK, str(video)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    said = "neuroav events: error: out.{}: expected a place to write the whole file to, got File too large. "
    lines = [line for line in done.stderr.splitlines() if "frame" not in line]
    assert [line.partition("Make room")[0] for line in lines] == [
        said.format(s) for s in ("h5", "h5", "mp4", "raw")
    ] * 2
    assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["slide.mkv"]


def test_outputs_are_checked_first(video, tmp_path):
    clip, out = str(video), str(tmp_path / "out.h5")
    for inputs, target, options, match in [
        ([clip], clip, {}, "--out to be a file of its own"),
        (
            [clip],
            out,
            {"preview": str(tmp_path / "out.mp4"), "json_path": str(tmp_path / "out.mp4")},
            "--json to be a file",
        ),
        ([clip], str(tmp_path / "nowhere" / "out.h5"), {}, "--out: expected a file in an existing folder"),
        ([clip, clip], out, {"preview": str(tmp_path / "film.mp4")}, "one clip with --preview"),
        ([clip], out, {"preview": str(tmp_path / "film.avi")}, "--preview to end in .mp4 or .gif"),
        ([clip], str(tmp_path / "out.xyz"), {}, "one of the suffixes"),
        ([clip], None, {}, "-o OUT, --preview FILM or --info, got none of them"),
        ([str(tmp_path / "gone.mp4")], out, {}, "got no such file"),
    ]:
        with pytest.raises(InputError, match=match):
            events_command(inputs, target, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["slide.mkv"]


def test_only_events_are_replaced_by_events(video, tmp_path, capsys):
    import h5py

    out = tmp_path / "store.h5"
    with h5py.File(out, "w") as file:
        file["features"] = np.arange(3)
    before = out.read_bytes()
    assert main(["events", str(video), "-o", str(out)]) == 2
    assert "-o to be a new file, or events to replace, got" in capsys.readouterr().err
    assert out.read_bytes() == before
    out.unlink()
    assert main(["events", str(video), "-o", str(out)]) == 0
    assert main(["events", str(video), "-o", str(out), "--contrast", "0.3"]) == 0
    assert main(["events", str(video.parent), "-o", str(tmp_path / "events.h5")]) == 2
    assert "-o to be a folder, as an input is one, got" in capsys.readouterr().err


def test_a_picture_gives_no_events_and_a_note(tmp_path, capsys):
    from PIL import Image

    Image.fromarray(np.full((9, 7), 80, np.uint8)).save(tmp_path / "still.png")
    assert main(["events", str(tmp_path / "still.png"), "-o", str(tmp_path / "out.h5")]) == 0
    assert len(read_events(tmp_path / "out.h5")) == 0
    assert "note: " in capsys.readouterr().out


def test_a_truncated_clip_is_noted(make_video, slide, tmp_path, capsys):
    path = make_video("cut.mkv", slide(60))
    path.write_bytes(path.read_bytes()[:15_000])
    assert main(["events", str(path), "-o", str(tmp_path / "out.h5")]) == 0
    assert "is it truncated?" in capsys.readouterr().out


def test_notes_tell_of_sorted_events(tmp_path, capsys):
    np.savez(tmp_path / "loose.npz", t=[5, 3], x=[0, 1], y=[0, 0], p=[1, 1])
    assert main(["events", str(tmp_path / "loose.npz"), "-o", str(tmp_path / "out.raw")]) == 0
    assert "times run backwards at 1 of 2 events; sorted by time" in capsys.readouterr().out


def test_threads_ahead_and_behind_keep_order_and_pass_errors_on():
    def numbers():
        yield from range(5)
        raise ValueError("the end")

    taken = []
    with pytest.raises(ValueError, match="the end"):
        taken.extend(convert.ahead(numbers()))
    assert taken == [0, 1, 2, 3, 4]
    with convert.behind() as call:
        for number in range(20):
            call(taken.append, number)
    assert taken[5:] == list(range(20))
    with pytest.raises(ZeroDivisionError), convert.behind() as call:
        call(divmod, 1, 0)


def test_film_of_a_clip_has_every_frame_at_its_time(make_video, slide, tmp_path):
    t_ms = [0, 40, 70, 200, 210, 800]
    clip = make_video("variable.mkv", slide(6, 25, 31), t_ms)
    assert main(["events", str(clip), "--preview", str(tmp_path / "film.mp4")]) == 0
    with av.open(str(tmp_path / "film.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [round(1000 * frame.time) for frame in frames] == t_ms
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "variable.mkv"]


def test_kernels_get_the_cores_that_decoding_and_packing_leave(monkeypatch):
    before = torch.get_num_threads()
    for cores, expected in ((1, 1), (2, 1), (3, 1), (6, min(before, 4))):
        monkeypatch.setattr(convert, "num_cores", lambda cores=cores: cores)
        with convert.leaving_cores():
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == before


def test_a_terminated_conversion_leaves_nothing_behind(make_video, slide, tmp_path):
    video, out = make_video("a.mkv", slide(400, 240, 320)), tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "neuroav.cli", "events", str(video), "-o", str(out / "a.h5"), "--preset", "noisy"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(out.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(out.iterdir()) != [out / "a.h5"]
        process.terminate()
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "neuroav events: interrupted"
    assert list(out.iterdir()) == []


def test_an_interrupt_waits_until_a_file_is_open_and_closes_it(tmp_path, monkeypatch, interruptible):
    opened, init = [], h5py.File.__init__

    def interrupted(self, *args, **options):
        opened.append(self)
        init(self, *args, **options)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(h5py.File, "__init__", interrupted)
    with pytest.raises(KeyboardInterrupt), new_hdf5(tmp_path / "a.h5"):
        pytest.fail("the interrupt is forgotten")
    assert len(opened) == 1
    assert not opened[0], "the file is still open"
