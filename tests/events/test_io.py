"""The event file and the ``events`` verb: what is written, and that nothing is left behind when something is wrong."""

import json

import av
import h5py
import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.cli import main
from neuroav.events.generate import frames_to_events
from neuroav.events.io import EventWriter, events_command, read_events
from neuroav.events.preview import BACKGROUND, BRIGHTER, DARKER, draw_events
from neuroav.events.types import Events


def test_file_holds_the_events_of_the_clip(video, slide, tmp_path, capsys):
    assert main(["events", str(video), "-o", str(tmp_path / "out.h5"), "--contrast", "0.3"]) == 0
    expected, _ = frames_to_events(slide(), torch.arange(20) * 40_000, contrast_on=0.3, contrast_off=0.3)
    events = read_events(tmp_path / "out.h5")
    assert events.sensor_size == (24, 30)
    for name, column in expected.numpy().items():
        assert np.array_equal(events.numpy()[name], column)
        assert events.numpy()[name].dtype == column.dtype
    assert f"20 frames 24x30 in 0.76 s, {len(expected)} events" in capsys.readouterr().out


def test_layout_is_as_documented(video, tmp_path):
    events_command([str(video)], str(tmp_path / "out.h5"))
    with h5py.File(tmp_path / "out.h5") as file:
        assert (file.attrs["format"], file.attrs["format_version"]) == ("neuroav-events", 1)
        group = file["slide"]
        assert set(group) == {"t_us", "x", "y", "p", "frame_t_us", "frame_event_index"}
        assert {name: group.attrs[name] for name in ("contrast_on", "contrast_off", "log_eps", "source")} == {
            "contrast_on": 0.2,
            "contrast_off": 0.2,
            "log_eps": 1.0,
            "source": "slide.mkv",
        }
        assert group.attrs["sensor_size"].tolist() == [24, 30]
        assert group["t_us"].compression == "gzip"
        t_us, edges, index = (group[name][:] for name in ("t_us", "frame_t_us", "frame_event_index"))
    assert len(index) == len(edges) + 1
    assert (index[0], index[1], index[-1]) == (0, 0, len(t_us))
    for frame in range(1, len(edges)):
        inside = t_us[index[frame] : index[frame + 1]]
        assert len(inside) > 0
        assert ((inside > edges[frame - 1]) & (inside <= edges[frame])).all()


def test_several_clips_get_a_group_each(make_video, slide, tmp_path):
    (tmp_path / "other").mkdir()
    paths = [make_video(name, slide(5, seed=k)) for k, name in enumerate(["a.mkv", "other/a.mkv", "b.mkv"])]
    out = tmp_path / "out.h5"
    assert events_command([str(p) for p in paths], str(out), json_path=str(tmp_path / "rows.json")) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["group"] for row in rows] == ["a", "a-2", "b"]
    assert [len(read_events(out, row["group"])) for row in rows] == [row["events"] for row in rows]
    assert all(row["frames"] == 5 and row["notes"] == [] for row in rows)
    with pytest.raises(InputError, match="Known: a, a-2, b"):
        read_events(out)
    with pytest.raises(InputError, match="Did you mean 'a'"):
        read_events(out, "aa")


def test_size_resizes(video, tmp_path):
    assert main(["events", str(video), "-o", str(tmp_path / "out.h5"), "--size", "8x6"]) == 0
    assert read_events(tmp_path / "out.h5").sensor_size == (8, 6)


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
def test_an_interrupt_half_way_leaves_nothing_behind(video, tmp_path, monkeypatch, failure):
    def stop(*args):
        raise failure

    monkeypatch.setattr("neuroav.events.preview.FilmWriter.write", stop)
    (tmp_path / "out.h5").write_text("an older file")
    with pytest.raises(failure):
        events_command([str(video)], str(tmp_path / "out.h5"), preview=str(tmp_path / "film.mp4"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "slide.mkv"]
    assert (tmp_path / "out.h5").read_text() == "an older file"


def test_outputs_are_checked_first(video, tmp_path):
    clip, out = str(video), str(tmp_path / "out.h5")
    with pytest.raises(InputError, match="--out to be a file of its own"):
        events_command([clip], clip)
    with pytest.raises(InputError, match="--preview to be a file of its own"):
        events_command([clip], out, preview=out)
    with pytest.raises(InputError, match="--out to be a file in an existing folder"):
        events_command([clip], str(tmp_path / "nowhere" / "out.h5"))
    with pytest.raises(InputError, match="which is a folder"):
        events_command([clip], str(tmp_path))
    with pytest.raises(InputError, match="one clip with --preview"):
        events_command([clip, clip], out, preview=str(tmp_path / "film.mp4"))
    with pytest.raises(InputError, match="--contrast in"):
        events_command([clip], out, contrast=0)
    assert [path.name for path in tmp_path.iterdir()] == ["slide.mkv"]


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


def test_other_files_are_not_event_files(tmp_path):
    with pytest.raises(InputError, match="got no such file"):
        read_events(tmp_path / "missing.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(InputError, match="something else or a truncated file"):
        read_events(tmp_path / "text.h5")
    h5py.File(tmp_path / "other.h5", "w").close()
    with pytest.raises(InputError, match="format neuroav-events, got None"):
        read_events(tmp_path / "other.h5")


def test_writer_needs_no_video(tmp_path):
    events = Events(torch.tensor([3, 5]), *torch.ones(2, 2).short(), torch.tensor([0, 1]).byte(), (2, 2))
    with h5py.File(tmp_path / "out.h5", "w") as file:
        writer = EventWriter(file)
        writer.start_clip("mine", (2, 2), note="recorded elsewhere")
        writer.append(events, np.array([0, 4, 5]))
        assert file["mine/frame_event_index"][:].tolist() == [0, 0, 1, 2]
    assert read_events(tmp_path / "out.h5", "mine").t_us.tolist() == [3, 5]


def test_drawing_shows_the_sign_of_each_frame():
    t_us, x = torch.tensor([5, 10, 15, 20, 20]), torch.tensor([0, 1, 2, 0, 0]).short()
    events = Events(t_us, x, torch.zeros(5).short(), torch.tensor([1, 0, 1, 0, 1]).byte(), (1, 3))
    drawn = draw_events(events, np.array([0, 10, 20]))
    assert drawn[0].tolist() == [[list(BACKGROUND)] * 3]
    assert drawn[1].tolist() == [[list(BRIGHTER), list(DARKER), list(BACKGROUND)]]
    assert drawn[2].tolist() == [[list(BACKGROUND), list(BACKGROUND), list(BRIGHTER)]]


def test_film_has_every_frame_at_its_time(make_video, slide, tmp_path):
    t_ms = [0, 40, 70, 200, 210, 800]
    clip = make_video("variable.mkv", slide(6, 25, 31), t_ms)
    assert main(["events", str(clip), "-o", str(tmp_path / "o.h5"), "--preview", str(tmp_path / "film.mp4")]) == 0
    with av.open(str(tmp_path / "film.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [round(1000 * frame.time) for frame in frames] == t_ms
    assert frames[0].format.name == "yuv420p"
    assert (frames[0].height, frames[0].width) == (226, 2 * 31 * 9)  # enlarged nine times, padded to even
    image = frames[3].to_ndarray(format="rgb24").astype(int)
    left, right = image[:225, : 31 * 9], image[:, 31 * 9 :]
    assert np.abs(left.mean(axis=2) - slide(6, 25, 31)[3].repeat(9, 0).repeat(9, 1)).mean() < 10
    warm, cold = (right[..., 0] > right[..., 2] + 50).mean(), (right[..., 2] > right[..., 0] + 50).mean()
    assert warm > 0.1
    assert cold > 0.1
