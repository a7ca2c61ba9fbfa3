"""``neuroav classify``: the run's own judgement of a clip it is shown as a file; words, copies, refusals."""

import dataclasses
import json
import shutil
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from neuroav.baselines.pooled import PooledMLPConfig
from neuroav.checks import InputError, OutputError
from neuroav.classify import Recogniser, _encoder, introduction, rank, ranked_json
from neuroav.cli import main
from neuroav.config import Experiment, MotionScenesData, SimulatedData, StoreData, to_json
from neuroav.data import extract
from neuroav.data.class_vectors import Optimised
from neuroav.data.classic import describe_clip
from neuroav.data.encoders.choice import VIDEO, EncoderChoice
from neuroav.data.live import GrowingFile, Running
from neuroav.data.motionscenes import MotionScenesConfig, class_vectors, phrase_vector, word_directions
from neuroav.data.render import render_clip
from neuroav.data.store import Store, StoreWriter
from neuroav.events.video import read_clip
from neuroav.files import load_json, save_json
from neuroav.gzsl.scores import calibrated_prediction
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import SpikingLayers
from neuroav.nn.losses import HeadsConfig
from neuroav.run import distances, run_experiment
from neuroav.train.checkpoint import load_tensors, save_tensors
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step

TRAIN = TrainConfig(epochs=1, batches=3, batch_size=16, lr=1e-2, schedule=Step(), protocol=OneStage())
BETA = 0.05  # large enough to matter between the tiny model's distances
WORDS = {"dog": 0, "rain": 1, "playing": 2, "flute": 3, "tuba": 4}


def write_clip(path, frames, t_us, audio=None, rate=16000):
    """A lossless Matroska file: FFV1 in RGB, sound as 32-bit floats."""
    with av.open(str(path), "w", format="matroska") as container:
        video = container.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], "bgr0"
        video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("pcm_f32le", rate=rate, layout="mono") if audio is not None else None
        for image, time_us in zip(frames, t_us.tolist(), strict=True):
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = time_us // 1000, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(audio.astype(np.float32)[None], "flt", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def write_scene(path, class_index=0, clip_index=0, scene=3, sound=True):
    clip = render_clip(class_index, clip_index, scene)
    return write_clip(path, clip.frames, clip.t_us, clip.audio if sound else None)


def with_beta(folder, beta):
    """Give a run another calibration, as if validation had chosen it."""
    tensors, note = load_tensors(folder / "model.safetensors")
    save_tensors(folder / "model.safetensors", tensors, note | {"beta": beta, "val_hm": 0.5})


@pytest.fixture(scope="module")
def scenes_run(tmp_path_factory, tiny_store):
    """A tiny MDFT on MotionScenes."""
    config = MDFTConfig(dim=32, heads=HeadsConfig(hidden=32), motion=SpikingLayers(layers=1))
    data = MotionScenesData(store=str(tiny_store), scenes=MotionScenesConfig(size="tiny"))
    folder = tmp_path_factory.mktemp("runs") / "scenes"
    run_experiment(Experiment(name="scenes", data=data, config=config, train=TRAIN), folder)
    with_beta(folder, BETA)
    return folder


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A pooled MLP on six rendered clips, extracted from files with vectors of single words."""
    return run_on_files(tmp_path_factory.mktemp("own"))


def run_on_files(folder, **encoders):
    lines = ["file,label,part"]
    parts = [("dog", "train"), ("rain", "train"), ("dog", "val_seen"), ("tuba", "val_unseen"), ("dog", "test_seen")]
    for i, (label, part) in enumerate([*parts, ("playing flute", "test_unseen")]):
        write_scene(folder / f"{i}.mkv", class_index=i, sound=i > 0)
        lines.append(f"{i}.mkv,{label},{part}")
    (folder / "labels.csv").write_text("\n".join(lines))
    write_words(folder / "words.txt", WORDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract, "map_processes", lambda f, items, workers, **_: ((item, f(item)) for item in items))
        inputs = [str(folder), str(folder / "labels.csv"), str(folder / "words.txt")]
        extract.extract_command(*inputs, str(folder / "store.h5"), workers=1, **encoders)
    config = PooledMLPConfig(dim=8, heads=HeadsConfig(hidden=8))
    data = StoreData(store=str(folder / "store.h5"))
    run_experiment(Experiment(name="own", data=data, model="pooled", config=config, train=TRAIN), folder / "run")
    return folder / "run"


def write_words(path, words, width=8):
    rows = [f"{word} " + " ".join("1" if k == place else "0" for k in range(width)) for word, place in words.items()]
    path.write_text("\n".join(rows) + "\n")
    return path


def classify(*arguments):
    return main(["classify", *map(str, arguments)])


def test_a_file_is_judged_as_the_run_judges_the_clip(scenes_run, tmp_path, capsys):
    recogniser = Recogniser.open(str(scenes_run))
    store, test = recogniser.task.store, recogniser.task.parts["biased"]
    chosen = np.concatenate([test["test_seen"][[0, 7]], test["test_unseen"][[3]]])
    classes = np.union1d(recogniser.seen, recogniser.unseen)
    want = distances(recogniser.model, recogniser.task.data(chosen, recogniser.statistics), classes)
    for i in chosen:
        extras = {key: int(store.extras[key][i]) for key in ("class", "clip", "scene")}
        clip = render_clip(extras["class"], extras["clip"], extras["scene"])
        write_clip(tmp_path / f"{i}.mkv", clip.frames, clip.t_us, clip.audio)
    out = tmp_path / "out.json"
    assert classify(*(tmp_path / f"{i}.mkv" for i in chosen), "--run", scenes_run, "--json", out, "--top", 3) == 0
    told = json.loads(out.read_text())
    names = [store.class_names[k] for k in classes]
    seen = np.isin(classes, recogniser.seen)
    assert [one["class"] for one in told["classes"]] == names
    assert [one["seen"] for one in told["classes"]] == seen.tolist()
    winners = calibrated_prediction(want, seen, BETA)
    for row, expected, winner in zip(told["rows"], want, winners, strict=True):
        by_name = {one["class"]: one for one in row["ranked"]}
        np.testing.assert_allclose([by_name[name]["distance"] for name in names], expected, rtol=0, atol=1e-5)
        assert row["ranked"][0]["class"] == names[winner]
        assert row["duration_s"] == pytest.approx(2.4)
        assert row["has_audio"]
    printed = capsys.readouterr().out
    assert "39 classes, 9 of them unseen in training" in printed
    assert "plus 0.05, calibrated" in printed
    assert printed.count("ahead by") == 3
    assert printed.count("behind by") == 6


def test_the_order_is_that_of_calibrated_stacking():
    rng = np.random.default_rng(0)
    for beta in (-0.3, 0.0, 0.2):
        dist, seen = rng.random(6).round(1).astype(np.float32), rng.random(6) < 0.5
        ranked = rank(dist, [str(k) for k in range(6)], seen, beta)
        scores = [float(np.float32(d) + np.float32(beta)) if s else float(d) for d, s in zip(dist, seen, strict=True)]
        assert [one.name for one in ranked] == [str(k) for k in sorted(range(6), key=lambda k: (scores[k], k))]
        assert int(ranked[0].name) == calibrated_prediction(dist[None], seen, beta)[0]
        for one in ranked:
            others = [score for k, score in enumerate(scores) if str(k) != one.name]
            assert one.margin == pytest.approx(min(others) - scores[int(one.name)])
    with pytest.raises(InputError, match="diverged"):
        rank(np.array([1.0, np.nan]), ["a", "b"], np.array([True, False]), 0.0)


def test_words_of_motionscenes_compose(scenes_run):
    recogniser = Recogniser.open(str(scenes_run))
    found = recogniser.classes("Clockwise circle slow, spin fast, rattle, blink_medium")
    assert [one.label for one in found] == [0, None, None, 49]
    assert [one.source for one in found] == ["circle clockwise slow", "spin fast", "rattle", "blink medium"]
    words = word_directions(0)
    spin = 0.7 * words["spin"] + 0.7 * words["fast"] + 0.3 * (words["rattle"] + words["buzz"])
    np.testing.assert_allclose(found[1].vector, spin / np.linalg.norm(spin), atol=1e-6)
    np.testing.assert_allclose(phrase_vector("counterclockwise fast spin", 5), class_vectors(5)[29], atol=1e-6)


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ("spin fast, circel", "got 'circel'. The nearest: circle"),
        ("spin fast", "at least two classes"),
        (", ", "at least two classes"),
        ("spin fast, blink, spin fast", "every class once, got 'spin fast' more than once"),
        ("spin fast, fast spin", "got 'spin fast' and 'fast spin', which have the same"),
        ("circle clockwise slow, slow clockwise circle", "which have the same"),
        ('"spin fast', "names with commas between them"),
    ],
)
def test_classes_that_cannot_be_used_are_refused(scenes_run, capsys, classes, text):
    assert classify("absent.mkv", "--run", scenes_run, "--classes", classes) == 2
    shown = capsys.readouterr()
    assert text in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""


def test_new_words_come_from_the_vectors_of_the_run(own_run, tmp_path, capsys):
    recogniser = Recogniser.open(str(own_run))
    found = recogniser.classes("DOG, playing tuba, flute")  # from the file that extract was given
    assert [one.source for one in found] == ["dog", "playing + tuba", "flute"]
    assert [one.label is None for one in found] == [False, True, True]
    np.testing.assert_allclose(found[1].vector, np.eye(8)[[2, 4]].sum(0) / np.sqrt(2), atol=1e-6)
    assert recogniser.classes("flute playing, dog")[0].source == "playing flute"  # the same words in another order
    capsys.readouterr()
    with pytest.raises(InputError, match=r"none for 'flude'\. Did you mean 'flute'\?"):
        recogniser.classes("dog, flude")
    moved = write_words(tmp_path / "moved.txt", WORDS | {"oboe": 5})
    assert recogniser.classes("dog, oboe", str(moved))[1].source == "oboe"
    assert capsys.readouterr().err == ""
    alone = write_words(tmp_path / "alone.txt", {"oboe": 5})
    assert recogniser.classes("dog, oboe", str(alone))[1].source == "oboe"
    assert "can't be told" in capsys.readouterr().err


def test_vectors_of_another_kind_are_refused(own_run, tmp_path):
    recogniser = Recogniser.open(str(own_run))
    turned = write_words(tmp_path / "turned.txt", {word: 7 - place for word, place in (WORDS | {"oboe": 5}).items()})
    with pytest.raises(InputError, match="the vectors of the run, 8 numbers each, got another vector for 'dog'"):
        recogniser.classes("rain, oboe", str(turned))
    with pytest.raises(InputError, match="got 9 numbers each"):
        recogniser.classes("rain, oboe", str(write_words(tmp_path / "wide.txt", WORDS | {"oboe": 5}, width=9)))
    with pytest.raises(InputError, match="got 9 numbers each"):
        recogniser.classes("rain, oboe", str(write_words(tmp_path / "alone.txt", {"oboe": 5}, width=9)))


def test_words_without_their_file_name_the_nearest_and_the_option(own_run, tmp_path):
    recogniser = Recogniser.open(str(own_run))
    store = recogniser.task.store
    provenance = store.provenance | {"vectors": str(tmp_path / "gone.bin")}
    store.provenance = provenance
    with pytest.raises(InputError, match=r"The nearest: dog. Other words need --vectors FILE.*gone.bin"):
        recogniser.classes("dig, rain")
    assert [one.source for one in recogniser.classes("Playing_Flute, rain")] == ["playing flute", "rain"]


def test_what_can_take_no_new_class_says_so(own_run):
    recogniser = Recogniser.open(str(own_run))
    optimised = dataclasses.replace(recogniser.experiment, class_vectors=Optimised())
    with pytest.raises(InputError, match="optimised together, before training, got flute"):
        dataclasses.replace(recogniser, experiment=optimised).classes("dog, flute")
    recogniser.model.fit_extra = None
    with pytest.raises(InputError, match="a classifier fitted to them, got tuba"):  # of validation alone
        recogniser.classes("dog, tuba")
    assert len(recogniser.classes()) == 3


def test_a_bad_clip_is_named_and_the_others_go_on(scenes_run, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no film")
    write_scene(tmp_path / "silent.mkv", sound=False)
    one = render_clip(0, 0, 0)
    write_clip(tmp_path / "one.mkv", one.frames[:1], one.t_us[:1])  # shorter than a bin
    clips = [tmp_path / name for name in ("text.mp4", "gone.mp4", "silent.mkv", "one.mkv")]
    assert classify(*clips, "--run", scenes_run, "--json", tmp_path / "out.json") == 1
    shown = capsys.readouterr()
    assert "silent.mkv (2.4 s, no sound, described as silence)" in shown.out
    assert shown.out.count("ahead by") == 2
    text, gone, end = shown.err.splitlines()
    assert text.startswith(f"{clips[0]}: expected a video file that PyAV can decode, got ")
    assert gone == f"{clips[1]}: expected a video file that PyAV can decode, got no such file."
    assert end.startswith("2 of 4 clips could not be classified: ")
    told = load_json(tmp_path / "out.json")
    assert list(told["failed"]) == [str(clips[0]), str(clips[1])]
    assert [row["has_audio"] for row in told["rows"]] == [False, False]


def test_the_answer_is_drawn_onto_a_copy(scenes_run, tmp_path, capsys):
    clip = render_clip(0, 0, 3)
    path = write_clip(tmp_path / "clip.mkv", clip.frames, clip.t_us, clip.audio)
    before = path.read_bytes()
    assert classify(path, "--run", scenes_run, "--draw", tmp_path / "out" / "drawn", "--top", 2) == 0
    copy = tmp_path / "out" / "drawn" / "clip.mp4"
    assert f"drawn onto {copy}" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert [one.name for one in copy.parent.iterdir()] == ["clip.mp4"]
    with av.open(str(copy)) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
        height, width = container.streams.video[0].height, container.streams.video[0].width
    board_height = 64  # heads and two classes, lines of 18 pixels, and half a one around them, made even
    assert (height, width) == (240 + board_height, 480)
    drawn = read_clip(copy, size=(height, width))
    np.testing.assert_array_equal(drawn.t_us, clip.t_us)
    picture, events, board = drawn.frames[:, :240, :240], drawn.frames[1:, :240, 240:], drawn.frames[:, 240:]
    ours = picture.reshape(60, 4, 60, 4, 60, 3).mean(axis=(2, 4))  # 4 x 4 cells, as 240 is no multiple of 64
    theirs = clip.frames.reshape(60, 4, 16, 4, 16, 3).mean(axis=(2, 4))
    assert np.abs(ours - theirs).max() < 12
    assert (np.ptp(events.reshape(59, -1), axis=1) > 100).mean() > 0.9
    assert np.abs(board[0].astype(int) - board[-1]).max() < 40  # the same throughout
    assert board[0].max() > 200
    window = slice(drawn.audio_rate // 4, 2 * drawn.audio_rate)  # AAC begins and ends softly
    assert np.corrcoef(drawn.audio[window], clip.audio[window])[0, 1] > 0.95


def test_copies_never_overwrite_a_clip(scenes_run, tmp_path, capsys):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"a film")
    for arguments, text in (
        ([clip, "--draw", clip], "another file than the clip"),
        ([clip, "--draw", tmp_path], "another file than the clip"),
        ([clip, "--draw", tmp_path / "gone" / "x.mp4"], "a file in an existing folder"),
        ([clip, "--draw", tmp_path / "x.avi"], "a name that ends in .mp4, or a folder"),
        ([clip, tmp_path / "two.mp4", "--draw", tmp_path / "x.mp4"], "a folder for 2 clips"),
        ([clip, tmp_path / "deep" / "clip.mkv", "--draw", tmp_path / "out"], "two of the same name"),
        ([clip, clip], "every clip once"),
        ([clip, tmp_path / "x" / ".." / "clip.mp4"], "every clip once"),
        ([clip, "--draw", clip / "below"], f"--draw: expected a folder, got {clip}/below, where {clip} is a file"),
        ([clip, "--top", 0], "--top in [1, inf], got 0"),
    ):
        assert classify(*arguments, "--run", scenes_run) == 2
        assert text in capsys.readouterr().err
    assert clip.read_bytes() == b"a film"
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_what_is_no_finished_run_is_refused(scenes_run, tmp_path, capsys):
    def refused(run, text):
        assert classify("clip.mkv", "--run", run) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line

    refused(tmp_path, "the directory of a finished run, got none")
    run = tmp_path / "run"
    shutil.copytree(scenes_run, run)
    (run / "results.json").unlink()
    refused(run, "got an unfinished one")
    save_json(run / "results.json", {})
    config = load_json(run / "config.json")
    save_json(run / "config.json", config | {"type": "neuroav.config:Gone"})
    refused(run, "It was saved by another version")
    save_json(run / "config.json", config)
    (run / "model.safetensors").unlink()
    refused(run, "a checkpoint in safetensors format")
    experiment = Experiment(name="x", data=MotionScenesData(store=str(tmp_path / "gone.h5")))
    save_json(run / "config.json", to_json(experiment))
    refused(run, "neuroav eval")
    assert not (tmp_path / "gone.h5").exists()
    save_json(run / "config.json", to_json(dataclasses.replace(experiment, data=SimulatedData())))
    refused(run, "features that can be made of a video, got simulated ones")
    (run / "config.json").unlink()
    shutil.copytree(scenes_run, run / "mdft-0")
    refused(run, "got that of a comparison. Choose one of its runs: mdft-0.")


def test_features_that_no_video_gives_are_refused(own_run, tmp_path):
    with Store(own_run.parent / "store.h5") as store:
        clips = [store.clip(i) for i in range(len(store))]
        classes = {"class_names": store.class_names, "class_vectors": store.class_vectors}
        settings = store.settings
    run = tmp_path / "run"
    shutil.copytree(own_run, run)
    for name, kept, text in (
        ("published", {"data_set": "ucf", "features": "main"}, r"got published ones \(ucf main\)"),
        ("older", settings | {"bin_s": 0.5}, "got bin_s = 0.5. It was extracted by another version"),
    ):
        with StoreWriter(tmp_path / f"{name}.h5", **classes, settings=kept) as writer:
            for clip in clips:
                writer.write(clip)
        experiment = load_json(own_run / "config.json")
        experiment["data"]["store"] = str(tmp_path / f"{name}.h5")
        save_json(run / "config.json", experiment)
        with pytest.raises(InputError, match=text):
            Recogniser.open(str(run))


def test_a_run_of_another_version_is_pointed_out(own_run, tmp_path, capsys):
    shutil.copytree(own_run, tmp_path / "run")
    save_json(tmp_path / "run" / "versions.json", {"neuroav": "0.0.1"})
    Recogniser.open(str(tmp_path / "run"))
    assert "was made by neuroav 0.0.1" in capsys.readouterr().err


def test_a_store_named_relatively_is_found_from_anywhere(own_run, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(own_run, run)
    config = load_json(run / "config.json")
    config["data"]["store"] = "store.h5"
    save_json(run / "config.json", config)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"store\.h5: expected the feature store of .*, got no such file"):
        Recogniser.open("run")
    assert load_json(own_run / "versions.json")["directory"]
    save_json(run / "versions.json", load_json(own_run / "versions.json") | {"directory": str(own_run.parent)})
    assert len(Recogniser.open("run").classes()) == 3


def test_a_beta_that_nothing_chose_is_called_so(scenes_run, tmp_path):
    recogniser = Recogniser.open(str(scenes_run))
    found = recogniser.classes()
    assert "plus 0.05, calibrated on validation clips" in introduction(recogniser, found)[0]
    without = dataclasses.replace(recogniser, val_hm=0.0)
    assert "not calibrated: HM on validation was 0" in introduction(without, found)[0]
    seen = [one for one in found if one.label in recogniser.seen]
    assert "plus" not in introduction(without, seen)[0]


def test_encoders_are_those_of_the_run(tmp_path):
    weights, others = tmp_path / "c3d.pth", tmp_path / "others.pth"
    weights.write_bytes(b"weights")
    others.write_bytes(b"others")
    then = EncoderChoice("c3d", (str(weights),))
    said = then.describe()
    assert _encoder("--video-encoder", None, said, [str(weights)], VIDEO) == then
    moved = weights.rename(tmp_path / "moved.pth")
    with pytest.raises(InputError, match=r"the encoder of the run, c3d:c3d.pth, got none. Say where"):
        _encoder("--video-encoder", None, said, [str(weights)], VIDEO)
    assert _encoder("--video-encoder", f"c3d:{moved}", said, [str(weights)], VIDEO).paths == (str(moved),)
    for wrong in (f"c3d:{others}", "classic"):
        with pytest.raises(InputError, match="from other files"):
            _encoder("--video-encoder", wrong, said, [str(weights)], VIDEO)
    with pytest.raises(InputError, match="got c3d from other files"):
        _encoder("--video-encoder", None, said, [str(others)], VIDEO)


def judged_as_by_the_run(recogniser, folder):
    """Whether files are judged as the run judges what its store holds of them."""
    index = np.array([4, 5])
    data = recogniser.task.data(index, recogniser.statistics)
    want = distances(recogniser.model, data, np.union1d(recogniser.seen, recogniser.unseen))
    classes = recogniser.classes()
    got = [recogniser.distances(recogniser.describe(str(folder / f"{i}.mkv")), classes) for i in index]
    return np.allclose(got, want, rtol=0, atol=1e-6)


def test_clips_of_ones_own_are_judged_as_the_run_judges_them(own_run):
    assert judged_as_by_the_run(Recogniser.open(str(own_run)), own_run.parent)


@pytest.mark.parametrize("align", [False, True])
def test_pretrained_features_are_made_anew_from_the_files_used_then(tmp_path, capsys, align):
    from neuroav.data.encoders import c3d, vggish

    torch.manual_seed(0)
    torch.save(c3d.C3D(2, 8).state_dict(), tmp_path / "c3d.pth")
    torch.save(vggish.VGGish(4, 8, 4).state_dict(), tmp_path / "vggish.pth")
    options = {"video_encoder": f"c3d:{tmp_path / 'c3d.pth'}", "audio_encoder": f"vggish:{tmp_path / 'vggish.pth'}"}
    run = run_on_files(tmp_path, **options, align=align)
    assert judged_as_by_the_run(Recogniser.open(str(run)), tmp_path)
    (tmp_path / "c3d.pth").rename(tmp_path / "moved.pth")
    assert classify(tmp_path / "5.mkv", "--run", run) == 2
    assert "--video-encoder: expected the encoder of the run, c3d:c3d.pth, got none" in capsys.readouterr().err
    assert classify(tmp_path / "5.mkv", "--run", run, "--video-encoder", f"c3d:{tmp_path / 'moved.pth'}") == 0
    (tmp_path / "moved.pth").rename(tmp_path / "c3d.pth")
    assert classify(tmp_path / "5.mkv", "--run", run, "--follow") == 2
    assert "a run on classic descriptors" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------- --follow


def write_growing(path, class_index=0, codec="mpeg4"):
    """An MPEG-TS file of a rendered clip, with sound: as it would be streamed."""
    clip = render_clip(class_index, 0, 3)
    with av.open(str(path), "w", format="mpegts") as container:
        video = container.add_stream(codec, rate=25)
        video.height = video.width = 64
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for i, image in enumerate(clip.frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            frame = av.AudioFrame.from_ndarray(clip.audio[None, 640 * i : 640 * (i + 1)], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 640 * i, Fraction(1, 16000)
            container.mux(sound.encode(frame))
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


def described(running):
    found = running.latest()
    return {key: getattr(found, key) for key in ("t_s", "video", "audio", "motion")}


@pytest.mark.parametrize("seed", range(4))
def test_a_video_taken_in_pieces_is_described_as_a_whole(seed):
    """Pieces of any size, sound ahead or behind; frame rates that divide no bin; silence at the end."""
    rng = np.random.default_rng(seed)
    gaps_us = rng.choice([33_333, 40_000, 100_000, 450_000], size=40, p=[0.5, 0.3, 0.15, 0.05])
    t_us = 7_000_000 + np.array([0, *np.cumsum(gaps_us)])
    frames = rng.integers(0, 256, (len(t_us), 8, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    length = round((int(t_us[-1] - t_us[0]) + int(gaps_us[-1])) * 16000 / 1e6)
    audio = rng.standard_normal(length).astype(np.float32) * 0.1
    audio[round(length * 0.8) :] = 0
    whole = describe_clip(frames, t_us - t_us[0], audio, 16000)

    running, heard = Running(10**6), 0
    running.expects_sound = True
    shift_s = rng.uniform(-0.3, 0.3)
    for image, time_us in zip(frames, t_us.tolist(), strict=True):
        running.see(image, time_us)
        running.see(image, time_us - 1)  # out of order: left out
        until = int(np.clip((time_us - t_us[0]) / 1e6 + shift_s, 0, 0.8 * length / 16000) * 16000)
        while heard < until:
            piece = audio[heard : min(heard + int(rng.integers(1, 3000)), until)]
            running.hear(piece, heard)
            heard += len(piece)
        running.advance(min(running.ready, running.steps + int(rng.integers(1, 4))))
    running.hear(audio[heard : round(length * 0.8)], heard)
    running.hear(np.ones(9000, np.float32), length)  # past the end of the pictures
    running.finish()
    for key, values in described(running).items():
        np.testing.assert_allclose(values, getattr(whole, key), atol=1e-5, err_msg=key)
    np.testing.assert_array_equal(described(running)["motion"], whole.motion)


def test_sound_that_stays_away_holds_nobody_up():
    clip = render_clip(0, 0, 3)
    running = Running(5)
    running.expects_sound = True
    for image, t_us in zip(clip.frames, clip.t_us.tolist(), strict=True):
        running.see(image, t_us)
    assert running.ready == 6  # 2.36 s were seen, one second of which may still be heard
    running.hear(clip.audio[: 9 * 3200 + 400], 0)
    assert running.ready == 9
    running.finish()
    assert running.steps == 12
    whole = describe_clip(clip.frames, clip.t_us, clip.audio[: 9 * 3200 + 400], 16000)
    np.testing.assert_array_equal(described(running)["motion"], whole.motion[-5:])
    np.testing.assert_allclose(described(running)["audio"], whole.audio[-5:], atol=1e-5)
    np.testing.assert_array_equal(described(running)["t_s"], whole.t_s[:5])  # begins anew


def test_a_growing_file_is_judged_second_by_second(scenes_run, tmp_path, capsys):
    whole = write_growing(tmp_path / "whole.ts")
    growing, content = tmp_path / "growing.ts", whole.read_bytes()
    growing.touch()

    def grow():
        size = len(content) // 12 + 1
        with growing.open("wb", buffering=0) as file:
            for start in range(0, len(content), size):
                file.write(content[start : start + size])
                time.sleep(0.02)

    writer = threading.Thread(target=grow)
    writer.start()
    argv = [growing, "--run", scenes_run, "--follow", "--patience", 2, "--window", 60, "--top", 2]
    assert classify(*argv, "--json", tmp_path / "live.json") == 0
    writer.join()
    printed = capsys.readouterr().out.splitlines()
    live = load_json(tmp_path / "live.json")
    assert [row["t_s"] for row in live["rows"]] == pytest.approx([1.0, 2.0, 2.4])
    assert all(row["latency_s"] > 0 and row["work_s"] > 0 for row in live["rows"])
    assert live["latency_s"]["worst"] == max(row["latency_s"] for row in live["rows"])
    assert [line.split()[0] for line in printed[2:5]] == ["1.0", "2.0", "2.4"]
    assert "work per second of video: median" in printed[-1]
    assert classify(whole, "--run", scenes_run, "--json", tmp_path / "whole.json") == 0
    want = load_json(tmp_path / "whole.json")["rows"][0]["ranked"]
    got = live["rows"][-1]["ranked"]
    assert [one["class"] for one in got] == [one["class"] for one in want]
    np.testing.assert_allclose([one["score"] for one in got], [one["score"] for one in want], atol=1e-5)


def test_following_judges_as_much_as_the_clips_of_the_run(scenes_run, tmp_path, capsys):
    assert classify(write_growing(tmp_path / "c.ts"), "--run", scenes_run, "--follow", "--patience", 0) == 0
    assert "judged after each second: the last 2.4 s of" in capsys.readouterr().out


def test_following_ends_when_it_is_interrupted(scenes_run, tmp_path, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("neuroav.data.live.time.sleep", interrupt)
    assert classify(write_growing(tmp_path / "c.ts"), "--run", scenes_run, "--follow", "--patience", 60) == 0
    printed = capsys.readouterr().out
    assert "    2.4 s  " in printed  # what was there is judged
    assert "\nstopped\n2.4 s of video in" in printed
    (tmp_path / "empty.ts").touch()
    assert classify(tmp_path / "empty.ts", "--run", scenes_run, "--follow", "--patience", 60) == 1
    assert "stopped\n0.0 s of video in" in capsys.readouterr().out


def test_what_cannot_be_followed_is_refused(scenes_run, tmp_path, capsys):
    (tmp_path / "text.ts").write_text("no film")
    with av.open(str(tmp_path / "end.mp4"), "w") as container:  # its index comes last
        video = container.add_stream("mpeg4", rate=25)
        video.height = video.width = 64
        video.pix_fmt = "yuv420p"
        for image in np.random.default_rng(0).integers(0, 256, (99, 64, 64, 3), dtype=np.uint8):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(video.encode())
    for clips, text in (
        (["/dev/video99"], "/dev/video99: expected a camera that can be opened, got no such device"),
        ([tmp_path / "gone.ts"], "got no such file"),
        ([tmp_path], "got a folder"),
        ([tmp_path / "text.ts"], "a video that can be read while it grows"),
        ([tmp_path / "end.mp4"], "got one with its index at the end"),
        (["a.ts", "b.ts"], "expected one clip, got 2"),
        (["a.ts", "--draw", "x.mp4"], "neither copies nor encoders, got --draw"),
        (["a.ts", "--window", 0.1], "--window in [0.2"),
        (["a.ts", "--window", "inf"], "--window in [0.2, 3600], got inf"),
        ([tmp_path / "text.ts", "--patience", -1], "--patience in [0"),
    ):
        argv = clips if "--patience" in clips else [*clips, "--patience", 0]
        assert classify(*argv, "--run", scenes_run, "--follow") == 2
        assert text in capsys.readouterr().err
    assert classify("a.ts", "--run", scenes_run, "--patience", 1) == 2
    assert "--follow with its options" in capsys.readouterr().err


def test_classes_that_are_infinitely_far_are_as_far():
    first, second, third = rank(np.array([np.inf, 1.0, np.inf]), ["a", "b", "c"], np.zeros(3, bool), beta=0.0)
    assert (first.name, first.margin, second.margin, third.margin) == ("b", np.inf, -np.inf, -np.inf)
    assert [choice.margin for choice in rank(np.full(2, np.inf), ["a", "b"], np.zeros(2, bool), beta=0.0)] == [0, 0]
    far = ranked_json([second])
    assert far == [{"class": "a", "seen": False, "distance": None, "score": None, "margin": None}]
    json.loads(json.dumps(far, allow_nan=False))


def test_an_answer_that_cannot_be_drawn_costs_no_other(scenes_run, tmp_path, capsys, monkeypatch):
    clips = [tmp_path / "one.mkv", tmp_path / "two.mkv"]
    for clip in clips:
        write_scene(clip)

    def full(path, out, ranked):
        raise OutputError(f"{out}: expected a file that can be written, got no room.")

    monkeypatch.setattr("neuroav.report.answer.draw_answer", full)
    (tmp_path / "drawn").mkdir()
    drawn = ["--draw", tmp_path / "drawn", "--json", tmp_path / "said.json"]
    assert classify(*clips, "--run", scenes_run, *drawn) == 1
    said = json.loads((tmp_path / "said.json").read_text())
    assert [row["clip"] for row in said["rows"]] == [str(clip) for clip in clips]
    assert list(said["failed"]) == [str(clip) for clip in clips]
    assert "no room" in capsys.readouterr().err


def test_a_file_that_grows_no_more_is_waited_for_once(tmp_path, monkeypatch):
    path = tmp_path / "still.ts"
    path.write_bytes(b"abc")
    with GrowingFile(path, patience_s=0.3) as file:
        assert file.read(10) == b"abc"
        assert file.read(10) == b""
        monkeypatch.setattr("neuroav.data.live.time.sleep", None)  # as it would wait
        assert [file.read(10) for _ in range(5)] == 5 * [b""]
