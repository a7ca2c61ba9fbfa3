"""Simulated benchmarks: published counts, steps and widths; features that follow the words; stores that say so."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from neuroav.checks import InputError
from neuroav.cli import main
from neuroav.config import SimulatedData, StoreData
from neuroav.data import synthetic
from neuroav.data.splits import PARTS
from neuroav.data.store import Store, StoreWriter
from neuroav.data.synthetic import (
    SyntheticConfig,
    World,
    class_list,
    generate,
    list_clips,
    open_or_generate,
    simulated_vectors,
)
from neuroav.task import prepare

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
# Clips in train, val_seen, val_unseen, test_seen, test_unseen; classes unseen in test in the main and the cls split.
PUBLISHED = {
    "ucf": ((3174, 353, 1467, 555, 1267), (30, 12, 9), (9, 6), 845),
    "activitynet": ((9204, 1023, 4307, 1615, 4199), (99, 51, 50), (50, 48), 4052),
    "vggsound": ((70351, 7817, 3102, 9032, 3450), (138, 69, 69), (69, 64), 3200),
}
TINY = SyntheticConfig(benchmark="ucf", features="cls", share=0.01)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "tiny.h5"
    generate(TINY, path, quiet=True)
    return path


@pytest.mark.parametrize("benchmark", PUBLISHED)
def test_there_are_as_many_clips_and_classes_as_published(benchmark):
    clips, classes, unseen, cls_clips = PUBLISHED[benchmark]
    rows = class_list(benchmark)
    assert tuple(np.sum([row.counts for row in rows], 0)) == clips
    seen_in = {part: {row.name for row in rows if row.counts[i]} for i, part in enumerate(PARTS)}
    assert tuple(len(seen_in[part]) for part in ("train", "val_unseen", "test_unseen")) == classes
    assert seen_in["val_seen"] == seen_in["train"]
    assert seen_in["test_seen"] == seen_in["train"] | seen_in["val_unseen"]
    assert not seen_in["test_unseen"] & seen_in["test_seen"]
    for features, num_classes, num_clips in zip(("main", "cls"), unseen, (clips[4], cls_clips), strict=True):
        listed = list_clips(SyntheticConfig(benchmark=benchmark, features=features))
        assert len(listed) == sum(clips)
        assert len({(clip.label, clip.number) for clip in listed}) == sum(clips)
        tested = [clip.label for clip in listed if clip.part == "test_unseen"]
        assert (len(set(tested)), len(tested)) == (num_classes, num_clips)


@pytest.mark.parametrize("folder", ["UCF", "ActivityNet", "VGGSound"])
def test_the_lists_are_the_published_ones(folder):
    splits = SHARED / "splits" / "avgzsl_benchmark_datasets" / folder / "class-split"
    if not splits.is_dir():
        pytest.skip("the published lists are not here")
    rows = class_list(folder.lower())
    stages = dict(zip(PARTS, ("1_train", "1_val_seen", "1_val_unseen", "2_test_seen", "2_test_unseen"), strict=True))
    for i, part in enumerate(PARTS):
        text = (splits / "main_split" / f"stage_{stages[part]}.txt").read_text()
        assert sorted(filter(None, text.split("\n"))) == [row.name for row in rows if row.counts[i]]
    cls = (splits / "cls_split" / "stage_2_test_unseen.txt").read_text().split("\n")
    dropped = [row.name for row in rows if not row.in_cls_split]
    assert sorted(filter(None, cls)) == [row.name for row in rows if row.counts[4] and row.name not in dropped]
    names = np.load(SHARED / "w2v" / f"{folder.lower().removesuffix('net')}_w2v.npz")["names"]
    assert {row.vector for row in rows} <= set(names.tolist())


@pytest.mark.parametrize(
    ("benchmark", "features", "steps", "widths"),
    [("vggsound", "main", (10, 10), (512, 512)), ("vggsound", "cls", (10, 16), (128, 4096))],
)
def test_ten_seconds_have_the_published_steps(benchmark, features, steps, widths):
    """10 s: 10 whole windows of 0.96 s; 250 frames in 15 windows of 16 and a padded one."""
    config = SyntheticConfig(benchmark=benchmark, features=features)
    audio, video = World(simulated_vectors(276), config).draw(3, 5)
    assert (audio.shape, video.shape) == tuple(zip(steps, widths, strict=True))
    assert audio.dtype == video.dtype == np.float32
    assert video.min() == 0
    if features == "cls":
        np.testing.assert_array_equal(audio, np.clip(np.round(audio), 0, 255))
        assert 0.6 < (video == 0).mean() < 0.9
    doubled = SyntheticConfig(benchmark=benchmark, features=features, stretch=2.0)
    assert len(World(simulated_vectors(276), doubled).draw(3, 5)[0]) == 20


def test_lengths_of_ucf_clips_have_their_mean_and_range():
    rng = np.random.default_rng(0)
    seconds = np.array([synthetic.BENCHMARKS["ucf"].draw(rng) for _ in range(20_000)])
    assert seconds.mean() == pytest.approx(7.21, rel=0.02)
    assert 1.06 <= seconds.min() < seconds.max() <= 71.04


def test_a_clip_depends_on_seed_class_and_number_alone():
    vectors = simulated_vectors(51)
    config = SyntheticConfig(features="cls")
    first = World(vectors, config).draw(7, 3)
    world = World(vectors, config)
    world.draw(1, 1)
    for a, b in zip(first, world.draw(7, 3), strict=True):
        np.testing.assert_array_equal(a, b)
    others = [world.draw(7, 4), world.draw(8, 3), World(vectors, SyntheticConfig(features="cls", seed=1)).draw(7, 3)]
    for other in others:
        assert not np.array_equal(first[1][:1], other[1][:1])


def test_features_tell_the_class_and_words_tell_of_unseen_classes():
    """A linear map from features to words, learnt on 40 classes, names the clips of 11 others far above chance."""
    vectors = simulated_vectors(51)
    world = World(vectors, SyntheticConfig())
    label = np.repeat(np.arange(51), 24)
    pooled = np.stack([np.concatenate([x.mean(0) for x in world.draw(k, i)]) for i, k in enumerate(label)])
    pooled = (pooled - pooled.mean(0)) / pooled.std(0)
    odd = np.arange(len(label)) % 2 == 1
    supervised = LogisticRegression(C=0.01, max_iter=200).fit(pooled[odd], label[odd])
    assert supervised.score(pooled[~odd], label[~odd]) > 0.3  # chance 0.02
    seen = label < 40
    words = Ridge(alpha=1e3).fit(pooled[seen], vectors[label[seen]] - vectors.mean(0)).predict(pooled[~seen])
    named = 40 + (words @ (vectors[40:] - vectors.mean(0)).T).argmax(1)
    accuracy = (named == label[~seen]).mean()
    assert 0.25 < accuracy < 0.99  # chance 0.09, and neither is it a given


def test_it_is_a_name_of_the_package(tiny):
    import neuroav.data

    with neuroav.data.synthetic_benchmark("ucf", "cls", path=tiny, share=0.01) as store:
        assert len(store) == len(list_clips(TINY))


def test_a_store_says_that_it_is_simulated(tiny):
    with Store(tiny) as store:
        store.verify()
        assert store.settings["simulated"] == "simulated ucf, cls features"
        assert store.provenance["simulated"] is True
        assert store.provenance["class_vectors"] == "simulated"
        assert all(name.startswith("simulated/") for name in store.names)
        assert store.lengths.tolist() != store.audio_lengths.tolist()
        clip = store.clip(10)
        np.testing.assert_allclose(np.diff(clip.t_s), 0.64, atol=1e-5)
        np.testing.assert_allclose(np.diff(clip.audio_t_s), 0.96, atol=1e-5)
        assert set(store.parts[np.isin(store.labels, [store.class_names.index("Typing")])]) == {""}


@pytest.mark.parametrize(
    "data", [lambda p: SimulatedData(store=str(p), simulate=TINY), lambda p: StoreData(store=str(p))]
)
def test_results_go_under_the_name_of_what_was_simulated(tiny, data):
    task = prepare(data(tiny))
    assert list(task.parts) == ["simulated ucf, cls features"]
    assert len(task.classes("test_unseen")) == 6
    assert len(task.classes("train")) == 30
    task.store.close()


def test_an_interrupted_store_goes_on_and_is_the_same(tiny, tmp_path, monkeypatch):
    path, written = tmp_path / "again.h5", []
    write = StoreWriter.write

    def interrupted(self, record):
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(record.name)
        write(self, record)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(StoreWriter, "write", interrupted)
        generate(TINY, path, quiet=True)
    assert not path.exists()
    generate(TINY, path, quiet=True)
    assert _equal(path, tiny)


def _equal(path, other):
    with Store(path) as a, Store(other) as b:
        loaded, expected = a.load(), b.load()
        same = all(np.array_equal(getattr(loaded, k), getattr(expected, k)) for k in ("audio", "video", "labels"))
        return same and a.names == b.names and a.parts.tolist() == b.parts.tolist()


def test_another_store_is_not_taken_for_this_one(tiny):
    with pytest.raises(InputError, match=r"other seed \(0 there, 1 now\), share \(0.01 there, 0.02 now\)"):
        open_or_generate(SyntheticConfig(features="cls", share=0.02, seed=1), tiny)


def test_real_class_vectors_can_be_given(tmp_path):
    rows = class_list("ucf")
    names = [row.vector for row in rows][::-1]
    vectors = np.random.default_rng(0).normal(size=(len(rows), 8)).astype(np.float32)
    np.savez(tmp_path / "v.npz", names=np.array(names), vectors=vectors)
    config = SyntheticConfig(share=1e-4, vectors=str(tmp_path / "v.npz"))
    with open_or_generate(config, tmp_path / "s.h5", quiet=True) as store:
        k = store.class_names.index("BoxingPunchingBag")
        np.testing.assert_array_equal(store.class_vectors[k], vectors[names.index("Boxing Punching Bag")])
        assert store.provenance["class_vectors"].endswith("v.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmark": "ucf101"}, "benchmark to be one of ucf, activitynet, vggsound, got 'ucf101'"),
        ({"features": "c3d"}, "features to be one of main, cls"),
        ({"share": 1.5}, "share in"),
    ],
)
def test_bad_choices_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        SyntheticConfig(**changes)


def test_the_command_line_simulates(tmp_path, capsys, monkeypatch):
    real = synthetic.list_clips
    monkeypatch.setattr(synthetic, "list_clips", lambda config: real(config)[::300])
    out = tmp_path / "ucf.h5"
    command = ["extract", "--simulate", "ucf", "--features", "cls", "-o", str(out), "--json", str(tmp_path / "r.json")]
    for _ in range(2):  # the second time it is there already
        assert main(command) == 0
        assert f"{out}: simulated ucf, cls features: 23 clips of 51 classes" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["clips"] == 23


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["clips", "--simulate", "ucf"], "expected no options of clips or archives, got --folder"),
        (["--features", "cls"], "none of the options of --simulate or --from-avca, got --features"),
        (
            ["clips"],
            "or --simulate, --from-avca or --from-tcaf, got no labels and no vectors",
        ),
    ],
)
def test_the_command_line_refuses_what_does_not_go_together(options, message, capsys, tmp_path):
    assert main(["extract", *options, "-o", str(tmp_path / "s.h5")]) == 2
    assert message in capsys.readouterr().err
