"""Extraction from folders of clips written here with PyAV: content, order, bad files, resumption, refusals."""

import json
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from neuroav.checks import InputError
from neuroav.cli import main
from neuroav.data import extract
from neuroav.data.classic import describe_clip
from neuroav.data.extract import extract_command, read_labels
from neuroav.data.store import Store
from neuroav.events.io import read_clip

RATE = 16000


def write_clip(path, frames=12, audio=True, fps=10, seed=0):
    """A bright square that moves over a dark ground, and a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=fps)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=RATE, layout="mono") if audio else None
        for i in range(frames):
            image = np.full((64, 64, 3), 30, np.uint8)
            left = (5 * i + 7 * seed) % 44
            image[20:40, left : left + 20] = 220
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(video.encode())
        if sound is not None:
            time_s = np.arange(RATE * frames // fps) / RATE
            tone = np.sin(2 * np.pi * (300 + 100 * seed) * time_s).astype(np.float32)[None] * 0.5
            frame = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five good clips of three classes (one silent, one of a single frame) and two that are none."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "sub").mkdir()
    for i, name in enumerate(["b.mp4", "a.mp4", "sub/c.mp4"]):
        write_clip(folder / name, frames=10 + 3 * i, seed=i)
    write_clip(folder / "silent.mp4", audio=False)
    write_clip(folder / "one.mp4", frames=1, audio=False)
    (folder / "text.mp4").write_text("no film")
    (folder / "cut.mp4").write_bytes((folder / "a.mp4").read_bytes()[:700])
    return folder


LABELS = """file,label,remark,part,group
b.mp4,Long jump,x,train,g1
text.mp4,Archery,,,
a.mp4,Archery,,test_seen,g2
sub/c.mp4,rain,,test_unseen,
silent.mp4,rain,,test_unseen,g3
cut.mp4,rain,,test_unseen,
one.mp4,Archery,,,
"""
GOOD = ["b.mp4", "a.mp4", "sub/c.mp4", "silent.mp4", "one.mp4"]


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "labels.csv").write_text(LABELS)
    names = np.array(["archery", "Long Jump", "Rain", "dog"])
    np.savez(tmp_path / "vectors.npz", names=names, vectors=np.eye(4, dtype=np.float32))
    return {"labels": str(tmp_path / "labels.csv"), "vectors": str(tmp_path / "vectors.npz")}


@pytest.fixture
def one_process(monkeypatch):
    """Describe in this process, to spare the start of workers where they are not the point."""

    def in_turn(function, items, workers, **_):
        return ((item, function(item)) for item in items)

    monkeypatch.setattr(extract, "map_processes", in_turn)


def assert_same_store(got, want):
    with Store(got) as one, Store(want) as two:
        assert one.names == two.names
        assert one.class_names == two.class_names
        for key in ("parts", "labels", "lengths", "class_vectors"):
            np.testing.assert_array_equal(getattr(one, key), getattr(two, key))
        for key in ("t_s", "video", "audio", "motion"):
            np.testing.assert_array_equal(getattr(one.load(), key), getattr(two.load(), key))


def test_a_folder_becomes_a_store_and_bad_files_a_report(folder, inputs, tmp_path, capsys):
    out, report = tmp_path / "s.h5", tmp_path / "s.json"
    argv = ["extract", str(folder), "--labels", inputs["labels"], "--vectors", inputs["vectors"]]
    status = main([*argv, "-o", str(out), "--workers", "2", "--json", str(report)])
    assert status == 0
    with Store(out) as store:
        store.verify()
        assert store.names == GOOD
        assert store.class_names == ["Archery", "Long jump", "rain"]
        assert store.class_vectors.argmax(axis=1).tolist() == [0, 1, 2]
        assert [store.class_names[k] for k in store.labels] == ["Long jump", "Archery", "rain", "rain", "Archery"]
        assert store.parts.tolist() == ["train", "test_seen", "test_unseen", "test_unseen", ""]
        assert store.extras["group"].tolist() == ["g1", "g2", "sub/c.mp4", "g3", "one.mp4"]
        assert store.extras["has_audio"].tolist() == [1, 1, 1, 0, 0]
        np.testing.assert_allclose(store.extras["duration_s"], [1.0, 1.3, 1.6, 1.2, 0.0], atol=1e-3)
        assert store.lengths.tolist() == [5, 7, 8, 6, 1]
        clips = [store.clip(i) for i in range(5)]
    decoded = read_clip(folder / "sub/c.mp4")
    alone = describe_clip(decoded.frames, decoded.t_us, decoded.audio, decoded.audio_rate)
    for key in ("t_s", "video", "audio", "motion"):
        np.testing.assert_array_equal(getattr(clips[2], key), getattr(alone, key))
    assert clips[2].motion.sum() > 100
    assert clips[4].motion.sum() == 0
    printed = capsys.readouterr().out
    assert "2 of 7 files were left out" in printed
    assert "2 of 5 clips have no sound and got a silent track: silent.mp4, one.mp4" in printed
    told = json.loads(report.read_text())
    assert list(told["left_out"]) == ["text.mp4", "cut.mp4"]
    assert all(told["left_out"].values())
    assert told["silent"] == ["silent.mp4", "one.mp4"]
    assert [row["file"] for row in told["rows"]] == GOOD
    assert [row["notes"] for row in told["rows"]] == ["", "", "", "no audio track", "no audio track"]


def test_a_killed_job_goes_on_and_ends_in_the_same_store(folder, inputs, tmp_path, capsys, one_process):
    extract_command(str(folder), out=str(tmp_path / "whole.h5"), **inputs)
    code = (
        "import os, signal, sys\nfrom neuroav.data import extract\n"
        "write = extract.StoreWriter.write\n"
        "def stop_at_third(self, record):\n"
        "    os.kill(os.getpid(), signal.SIGKILL) if len(self.done) == 2 else write(self, record)\n"
        "extract.StoreWriter.write = stop_at_third\n"
        "extract.extract_command(*sys.argv[1:], workers=1)\n"
    )
    out = tmp_path / "s.h5"
    argv = [str(folder), inputs["labels"], inputs["vectors"], str(out)]
    killed = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    capsys.readouterr()
    extract_command(str(folder), out=str(out), **inputs)
    assert "going on after 2 of 7 clips" in capsys.readouterr().out
    assert_same_store(out, tmp_path / "whole.h5")
    assert not list(tmp_path.glob("*.partial"))


def test_a_complete_store_is_left_as_it_is(folder, inputs, tmp_path, capsys, one_process, monkeypatch):
    out = tmp_path / "s.h5"
    extract_command(str(folder), out=str(out), **inputs)
    before = out.stat().st_mtime_ns
    monkeypatch.setattr(extract, "map_processes", None)
    capsys.readouterr()
    assert extract_command(str(folder), out=str(out), **inputs) == 0
    printed = capsys.readouterr().out
    assert "is complete already" in printed
    assert "text.mp4: left out when the store was written; delete the store to try again" in printed
    assert out.stat().st_mtime_ns == before


def test_a_store_of_other_labels_or_bins_is_refused(folder, inputs, tmp_path, one_process, monkeypatch):
    out = tmp_path / "s.h5"
    extract_command(str(folder), out=str(out), **inputs)
    monkeypatch.setitem(extract.SETTINGS, "bin_s", 0.4)
    with pytest.raises(InputError, match=r"other bin_s \(0.2 there, 0.4 now\)"):
        extract_command(str(folder), out=str(out), **inputs)
    monkeypatch.undo()
    (tmp_path / "labels.csv").write_text(LABELS.replace("a.mp4,Archery", "a.mp4,Long jump"))
    with pytest.raises(InputError, match="other labels"):
        extract_command(str(folder), out=str(out), **inputs)


def test_another_file_in_place_of_the_store_is_kept(folder, inputs, tmp_path):
    (tmp_path / "s.h5").write_text("a diary")
    with pytest.raises(InputError, match="not HDF5"):
        extract_command(str(folder), out=str(tmp_path / "s.h5"), **inputs)
    assert (tmp_path / "s.h5").read_text() == "a diary"


def test_if_no_clip_can_be_read_nothing_is_written_but_the_reasons(folder, inputs, tmp_path, one_process):
    (tmp_path / "labels.csv").write_text("file,label\ntext.mp4,rain\ncut.mp4,dog\n")
    with pytest.raises(InputError, match=r"none of 2 \(text\.mp4: .*cut\.mp4: "):
        extract_command(str(folder), out=str(tmp_path / "s.h5"), json_path=str(tmp_path / "s.json"), **inputs)
    assert list(json.loads((tmp_path / "s.json").read_text())["left_out"]) == ["text.mp4", "cut.mp4"]
    assert not list(tmp_path.glob("s.h5*"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "columns file and label, got an empty file"),
        ("a.mp4,rain\n", "columns file and label, got a.mp4, rain"),
        ("file,label\n", "at least one clip, got only a header"),
        ("file,label\na.mp4,playing violin, fiddle\n", "line 2: expected 2 values, got 3. Quote a value that holds"),
        ("file,label\na.mp4,\n", "line 2: expected a value in column label, got none"),
        ("file,label\na.mp4,rain\n./a.mp4,rain\n", "every file once, got a.mp4 more than once"),
        (
            "file,label\nx1,r\na.mp4,r\nx2,r\nx3,r\nx4,r\n",
            r"4 of 5 absent: x1, x2, x3 and 1 more\. Nothing",
        ),
        (
            "file,label,part\na.mp4,rain,tran\n",
            "line 2: expected part to be .* got 'tran'. Did you mean 'train'",
        ),
        (
            "file,label,part\na.mp4,rain,train\nb.mp4,rain,test_unseen\n",
            "test_unseen classes kept out of training, got 'rain' in test_unseen and train",
        ),
        ("file,label\na.mp4,\xff\n", "a CSV file in UTF-8"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(folder, tmp_path, text, expected):
    (tmp_path / "labels.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=expected):
        read_labels(tmp_path / "labels.csv", folder)


def test_labels_are_read_by_column_name_with_or_without_mark(folder, tmp_path):
    (tmp_path / "labels.csv").write_text('\ufeffgroup , label,file\ng," rain, light ",sub/../a.mp4\n\n')
    (row,) = read_labels(tmp_path / "labels.csv", folder)
    assert (row.file, row.label, row.part, row.group, row.vector) == ("a.mp4", "rain, light", "", "g", "rain, light")


def test_a_missing_or_empty_folder_is_named(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\na.mp4,rain\n")
    with pytest.raises(InputError, match="no such folder"):
        read_labels(tmp_path / "labels.csv", tmp_path / "clips")
    (tmp_path / "clips" / "sub").mkdir(parents=True)
    with pytest.raises(InputError, match="a folder without files"):
        read_labels(tmp_path / "labels.csv", tmp_path / "clips")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,label\na.mp4,Long jmp\n", "a vector for 'Long jmp'.*Did you mean 'Long Jump'.*column 'vector'"),
        (
            "file,label\na.mp4,rain\nb.mp4,Rain\n",
            r"of its own for every label, got 'Rain' for \['rain', 'Rain'\]",
        ),
        ("file,label,vector\na.mp4,pet,dog\nb.mp4,pet,rain\n", "one vector for label 'pet', got 'dog' and 'Rain'"),
    ],
)
def test_every_class_needs_one_vector_of_its_own(folder, inputs, tmp_path, text, expected):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=expected):
        extract_command(str(folder), out=str(tmp_path / "s.h5"), **inputs)
    assert not list(tmp_path.glob("s.h5*"))


def test_a_class_may_name_its_vector(folder, inputs, tmp_path, one_process):
    (tmp_path / "labels.csv").write_text("file,label,vector\na.mp4,pet,dog\nb.mp4,rain,\n")
    extract_command(str(folder), out=str(tmp_path / "s.h5"), **inputs)
    with Store(tmp_path / "s.h5") as store:
        assert store.class_names == ["pet", "rain"]
        assert store.class_vectors.argmax(axis=1).tolist() == [3, 2]


def test_real_clips_with_published_vectors_make_a_store(tmp_path, one_process):
    data = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not (data / "av_clips").is_dir():
        pytest.skip(f"no {data / 'av_clips'}")
    files = ["playing_trumpet__avsync15_playing_trumpet.mp4", "horse_clip-clop__0BLiYNtFSjA.mp4"]
    (tmp_path / "labels.csv").write_text(f"file,label\n{files[0]},playing trumpet\n{files[1]},horse clip-clop\n")
    vectors = data / "w2v" / "vggsound_w2v.npz"
    extract_command(str(data / "av_clips"), str(tmp_path / "labels.csv"), str(vectors), str(tmp_path / "s.h5"))
    with Store(tmp_path / "s.h5") as store:
        assert store.names == files
        assert store.extras["has_audio"].all()
        assert (store.lengths >= 10).all()
        clips = store.load()
    assert clips.audio.std(axis=0).min() > 0
    assert clips.motion.sum(axis=(1, 2, 3)).max() > 100


def test_no_workers_is_refused(folder, inputs, tmp_path):
    with pytest.raises(InputError, match="at least 1 worker, got 0"):
        extract_command(str(folder), out=str(tmp_path / "s.h5"), workers=0, **inputs)


def test_extract_takes_word_vectors_and_says_what_they_were_made_of(tmp_path):
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips/a.mp4")
    write_clip(tmp_path / "clips/b.mp4", seed=1)
    (tmp_path / "labels.csv").write_text("file,label\na.mp4,playing flute\nb.mp4,LongJump\n")
    (tmp_path / "words.txt").write_text("playing 3 0\nflute 0 3\nlong_jump 0 1\n")
    argv = ["extract", str(tmp_path / "clips"), "--labels", str(tmp_path / "labels.csv"), "--workers", "1"]
    assert main([*argv, "--vectors", str(tmp_path / "words.txt"), "-o", str(tmp_path / "s.h5")]) == 0
    with Store(tmp_path / "s.h5") as store:
        assert store.class_names == ["LongJump", "playing flute"]
        np.testing.assert_allclose(store.class_vectors, [[0, 1], [0.5**0.5, 0.5**0.5]], rtol=1e-6)
        assert store.provenance["class_vectors"] == {"LongJump": "long_jump", "playing flute": "playing + flute"}


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory):
    """Random weights of small C3D, VGGish and SeLaVi networks."""
    import torch

    from neuroav.data.encoders import c3d, selavi, vggish

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(c3d.C3D(2, 8).state_dict(), folder / "c3d.pth")
    torch.save(vggish.VGGish(4, 8, 4).state_dict(), folder / "vggish.pth")
    both = {f"video_network.base.{k}": v for k, v in selavi.R2Plus1D(2, 3).state_dict().items()}
    both |= {f"audio_network.base.{k}": v for k, v in selavi.ResNet9(2).state_dict().items()}
    torch.save({"model": both}, folder / "selavi.pth")
    return folder


def encoded(folder, inputs, tmp_path, *options, workers="1"):
    """Run the command on two good clips (1.0 s and 1.6 s of 10 frames per second) and a broken one."""
    (tmp_path / "labels.csv").write_text("file,label\nb.mp4,Long jump\nsub/c.mp4,rain\ntext.mp4,dog\n")
    argv = ["extract", str(folder), "--labels", inputs["labels"], "--vectors", inputs["vectors"], *options]
    return main([*argv, "-o", str(tmp_path / "s.h5"), "--workers", workers])


def test_published_encoders_keep_their_own_times(folder, inputs, tiny_weights, tmp_path):
    options = ["--video-encoder", f"c3d:{tiny_weights / 'c3d.pth'}"]
    options += ["--audio-encoder", f"vggish:{tiny_weights / 'vggish.pth'}"]
    assert encoded(folder, inputs, tmp_path, *options, workers="2") == 0
    with Store(tmp_path / "s.h5") as store:
        assert store.names == ["b.mp4", "sub/c.mp4"]
        clips = [store.clip(i) for i in range(2)]
        described = store.settings["descriptor"]
    np.testing.assert_allclose(clips[0].t_s, [0, 0.64])  # 25 frames are 16 and 9
    np.testing.assert_allclose(clips[1].t_s, [0, 0.64, 1.28])  # 40 are 16, 16 and 8
    assert [clip.video.shape for clip in clips] == [(2, 8), (3, 8)]
    assert [clip.audio.shape for clip in clips] == [(1, 4), (1, 4)]
    assert clips[0].audio_t_s.tolist() == [0]
    assert described["video"]["name"] == "c3d"
    assert described["video"]["files"] == ["c3d.pth"]
    assert described["audio"]["name"] == "vggish"
    decoded = read_clip(folder / "sub/c.mp4")
    classic = describe_clip(decoded.frames, decoded.t_us, decoded.audio, decoded.audio_rate)
    assert clips[1].motion.shape == (3, 2, 16, 16)
    assert clips[1].motion.sum() == classic.motion.sum() > 100


def test_one_encoder_beside_classic_descriptors(folder, inputs, tiny_weights, tmp_path, one_process):
    assert encoded(folder, inputs, tmp_path, "--video-encoder", f"selavi:{tiny_weights / 'selavi.pth'}") == 0
    decoded = read_clip(folder / "sub/c.mp4")
    classic = describe_clip(decoded.frames, decoded.t_us, decoded.audio, decoded.audio_rate)
    with Store(tmp_path / "s.h5") as store:
        clip = store.clip(1)
    np.testing.assert_array_equal(clip.t_s, [0])
    np.testing.assert_array_equal(clip.audio, classic.audio)
    np.testing.assert_array_equal(clip.audio_t_s, classic.t_s)
    (tmp_path / "s.h5").unlink()
    assert encoded(folder, inputs, tmp_path, "--audio-encoder", f"selavi:{tiny_weights / 'selavi.pth'}") == 0
    with Store(tmp_path / "s.h5") as store:
        clip = store.clip(1)
    np.testing.assert_array_equal(clip.video, classic.video)
    np.testing.assert_array_equal(clip.motion, classic.motion)
    assert clip.audio.shape == (1, 16)
    np.testing.assert_array_equal(clip.audio_t_s, [0])


def test_sound_can_be_brought_onto_the_steps_of_the_video(folder, inputs, tiny_weights, tmp_path, one_process):
    options = ["--video-encoder", f"c3d:{tiny_weights / 'c3d.pth'}"]
    assert encoded(folder, inputs, tmp_path, *options) == 0
    with Store(tmp_path / "s.h5") as store:
        apart = store.clip(1)
    (tmp_path / "s.h5").unlink()
    assert encoded(folder, inputs, tmp_path, *options, "--align") == 0
    with Store(tmp_path / "s.h5") as store:
        clip = store.clip(1)
        assert store.settings["aligned"] is True
    assert clip.audio_t_s is None
    assert clip.audio.shape == (3, 512)
    expected = (apart.audio[0] + apart.audio[1] + apart.audio[2] + 0.2 * apart.audio[3]) / 3.2  # 0.64 s of 0.2 s each
    np.testing.assert_allclose(clip.audio[0], expected, rtol=1e-4)


def test_other_weights_are_not_mixed_into_a_store(folder, inputs, tiny_weights, tmp_path, capsys, one_process):
    option = ["--audio-encoder", f"vggish:{tiny_weights / 'vggish.pth'}"]
    assert encoded(folder, inputs, tmp_path, *option) == 0
    assert encoded(folder, inputs, tmp_path, *option) == 0
    assert "is complete already" in capsys.readouterr().out
    assert encoded(folder, inputs, tmp_path) == 2
    assert "descriptor (" in capsys.readouterr().err


def test_unfit_weights_are_refused_before_any_work(folder, inputs, tiny_weights, tmp_path, capsys):
    assert encoded(folder, inputs, tmp_path, "--video-encoder", f"c3d:{tiny_weights / 'vggish.pth'}") == 2
    assert "c3d" not in capsys.readouterr().out
    assert not list(tmp_path.glob("s.h5*"))
    assert main(["extract", "--simulate", "ucf", "--video-encoder", "classic", "-o", str(tmp_path / "s.h5")]) == 2
    assert "--video-encoder" in capsys.readouterr().err
