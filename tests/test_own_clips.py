"""Own clips from files to scores, as a user does it: labels and vectors, extract, run, eval, the page."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from neuroav.cli import main
from neuroav.data import extract
from neuroav.data.store import Store

EXPERIMENT = f"{Path(__file__).resolve().parents[1] / 'experiments' / 'own_clips.py'}:mdft"
SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
SMALL = ("config.dim=16", "config.heads.hidden=16", "train.epochs=2", "train.batches=3", "train.batch_size=8")
RATE, FPS = 16000, 10
CLASSES = {"drum": 3, "horn": 3, "bell": 1, "violin, fiddle": 1}  # how many clips; the last name holds a comma
REAL = {
    "hammering_nails__avsync15_hammering.mp4": "train",
    "dog_barking__avsync15_dog_barking.mp4": "train",
    "hammering_nails__vas_video_00323.mp4": "val_seen",
    "playing_cello__avsync15_playing_cello.mp4": "val_unseen",
    "frog_croaking__avsync15_frog_croaking.mp4": "val_unseen",
    "dog_barking__vas_video_02677.mp4": "test_seen",
    "playing_violin_fiddle__avsync15_playing_violin.mp4": "test_unseen",
    "cap_gun_shooting__avsync15_cap_gun_shooting.mp4": "test_unseen",
}


def write_clip(path, way, pitch_hz):
    """1.2 s of a square that moves one of four ways, with a tone; wider than high."""
    down, right = ((0, 3), (0, -3), (3, 0), (-3, 0))[way]
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=FPS)
        video.width, video.height, video.pix_fmt = 128, 64, "yuv420p"
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        for i in range(12):
            image = np.full((64, 128, 3), 30, np.uint8)
            image[24:40, 56:72] = 220
            image = np.roll(image, (down * i, right * i), axis=(0, 1))
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(video.encode())
        tone = 0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(RATE * 12 // FPS) / RATE)
        frame = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], "fltp", "mono")
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        container.mux(sound.encode(frame))
        container.mux(sound.encode())


def write_labels(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Describe in this process, to spare the start of workers; they have tests of their own."""

    def in_turn(function, items, workers, **_):
        return ((item, function(item)) for item in items)

    monkeypatch.setattr(extract, "map_processes", in_turn)


@pytest.fixture
def own(tmp_path):
    """A folder of eight clips in four classes, ``labels.csv`` and ``vectors.npz``; its store."""
    (tmp_path / "clips").mkdir()
    rows = []
    for way, (name, count) in enumerate(CLASSES.items()):
        for k in range(count):
            file = f"{name.split(',')[0]}{k}.mp4"
            write_clip(tmp_path / "clips" / file, way, 300 + 150 * way + 10 * k)
            rows.append({"file": file, "label": name})
    write_labels(tmp_path / "labels.csv", rows)
    np.savez(tmp_path / "vectors.npz", names=np.array([*CLASSES]), vectors=np.eye(4, dtype=np.float32))
    assert run_extract(tmp_path / "clips", tmp_path, tmp_path / "vectors.npz") == 0
    return tmp_path / "store.h5"


def run_extract(clips, folder, vectors):
    inputs = ["--labels", str(folder / "labels.csv"), "--vectors", str(vectors)]
    return main(["extract", str(clips), *inputs, "-o", str(folder / "store.h5"), "--workers", "1"])


def run(store, out, *settings):
    assignments = [f"data.store={store}", *SMALL, *settings]
    return main(["run", EXPERIMENT, *(part for a in assignments for part in ("--set", a)), "--out", str(out)])


def check_run(out, capsys):
    """Evaluate again, then read what was written: the one row, the arrays, the page."""
    assert main(["eval", str(out)]) == 0
    assert "the same numbers as results.json" in capsys.readouterr().out
    row = json.loads((out / "results.json").read_text())["rows"][0]
    with np.load(out / "arrays.npz") as file:
        arrays = dict(file)
    for layer in row["layers"]:
        steps, repeats = len(arrays["raster.t_s"]), int(arrays["raster.repeats"])
        assert len(arrays[f"raster.{layer['name']}.spikes"]) == len(arrays[f"raster.{layer['name']}.theta"]) == steps
        assert steps % repeats == 0
    assert (np.diff(arrays["raster.t_s"]) > 0).all()
    return row, arrays, (out / "report.html").read_text(encoding="utf-8")


def test_own_clips_become_scores_and_a_page(own, tmp_path, capsys):
    assert run(own, tmp_path / "run", "data.val_unseen=bell", 'data.test_unseen="violin, fiddle"') == 0
    row, arrays, page = check_run(tmp_path / "run", capsys)
    assert row["num_clips"] == 3  # one of each seen class and the unseen one
    assert row["chance_zsl"] == row["zsl"] == 1.0
    assert arrays["confusion.classes"].tolist() == ["drum", "horn", "violin, fiddle"]
    assert arrays["confusion.seen"].tolist() == [True, True, False]
    assert arrays["clip.frames"].shape == (12, 64, 64, 3)
    assert arrays["clip.size"].tolist() == [64, 128]
    assert len(arrays["clip.events.t_us"]) > 100
    assert len(arrays["raster.t_s"]) == 6 * 4  # 1.2 s in steps of 0.2 s, each presented four times
    assert "violin, fiddle (a class unseen in training)" in page
    assert "aspect-ratio: 128 / 64" in page


def test_a_name_cut_at_its_comma_is_explained(own, tmp_path, capsys):
    assert run(own, tmp_path / "run", "data.val_unseen=bell", "data.test_unseen=violin, fiddle") == 2
    said = capsys.readouterr().err
    assert "got 'violin'. Did you mean 'violin, fiddle'? Quote a name that holds a comma" in said
    assert not (tmp_path / "run").exists()


def test_too_few_clips_are_explained(own, tmp_path, capsys):
    assert run(own, tmp_path / "run", "data.val_unseen=bell,horn", "data.test_unseen=drum") == 2
    assert "got none in val_seen. Name unseen classes in both" in capsys.readouterr().err


def test_a_page_says_that_the_clip_is_gone_and_shows_its_spikes(own, tmp_path, capsys):
    for file in (tmp_path / "clips").iterdir():
        file.unlink()
    assert run(own, tmp_path / "run", "data.val_unseen=bell", 'data.test_unseen="violin, fiddle"') == 0
    _, arrays, page = check_run(tmp_path / "run", capsys)
    assert "clip.frames" not in arrays
    assert 'id="spikes"' in page
    assert "No clip is shown: " in page


@pytest.mark.skipif(not (SHARED / "av_clips").is_dir(), reason="needs the folder of real clips beside the repository")
def test_real_clips_become_scores_and_a_page(tmp_path, capsys):
    with (SHARED / "av_clips_manifest.csv").open(newline="") as file:
        known = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    rows = [
        {"file": name, "label": known[name]["class_name"], "part": part, "vector": known[name]["w2v_name"]}
        for name, part in REAL.items()
    ]
    write_labels(tmp_path / "labels.csv", rows)
    assert run_extract(SHARED / "av_clips", tmp_path, SHARED / "w2v" / "vggsound_w2v.npz") == 0
    with Store(tmp_path / "store.h5") as store:
        assert store.names == [*REAL]
        assert store.parts.tolist() == [*REAL.values()]
        assert store.extras["has_audio"].all()
    assert run(tmp_path / "store.h5", tmp_path / "run") == 0
    row, arrays, page = check_run(tmp_path / "run", capsys)
    assert row["num_clips"] == 3
    assert row["chance_zsl"] == 0.5
    assert "playing violin, fiddle" in arrays["confusion.classes"]
    assert "playing violin, fiddle (a class unseen in training)" in page
