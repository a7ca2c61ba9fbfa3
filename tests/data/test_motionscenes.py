"""MotionScenes: its classes and splits, its random streams, its stores, and that order in time is needed to read it."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from neuroav.checks import InputError
from neuroav.data import motionscenes, render
from neuroav.data.classic import describe_clip
from neuroav.data.motionscenes import (
    CLIPS_PER_CLASS,
    MotionScenesConfig,
    class_names,
    class_vectors,
    describe_job,
    draw_scene,
    generate,
    list_clips,
    list_jobs,
    preferred_scenes,
    split_classes,
    view,
)
from neuroav.data.render import (
    AUDIO_RATE,
    MOTIONS,
    SCENES,
    SOUNDS,
    TEMPO_HZ,
    TEMPO_JITTER,
    TEMPOS,
    motion_of,
    render_clip,
    tempo_of,
)
from neuroav.data.store import Store


def describe(clip):
    return describe_clip(clip.frames, clip.t_us, clip.audio, clip.audio_rate)


# --- classes and splits


def test_51_classes_of_17_motions_and_3_tempos():
    assert (len(MOTIONS), len(TEMPOS), len(SOUNDS), len(SCENES)) == (17, 3, 7, 8)
    names = class_names()
    assert len(set(names)) == 51
    assert all(name == f"{MOTIONS[motion_of(k)]} {TEMPOS[tempo_of(k)]}" for k, name in enumerate(names))


def test_fastest_tempo_stays_below_the_limit_of_direction():
    bins_per_cycle = 1 / (0.2 * max(TEMPO_HZ) * (1 + TEMPO_JITTER))
    assert bins_per_cycle > 2.5
    assert all(b * (1 - TEMPO_JITTER) > a * (1 + TEMPO_JITTER) for a, b in pairwise(TEMPO_HZ))


def test_class_vectors_compose_words():
    vectors = class_vectors(0)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors, class_vectors(0))
    assert np.abs(class_vectors(1) - vectors).max() > 0.05
    cosines = vectors @ vectors.T
    index = np.arange(51)
    same_motion = (motion_of(index)[:, None] == motion_of(index)) & (index[:, None] != index)
    mates = (motion_of(index)[:, None] // 2 == motion_of(index) // 2) & ~same_motion & (index[:, None] != index)
    same_tempo = tempo_of(index)[:, None] == tempo_of(index)
    assert cosines[same_motion].min() > 0.6
    assert cosines[same_motion].max() < 0.8
    assert cosines[mates & same_tempo].mean() > cosines[mates & ~same_tempo].mean() > 0.2
    strangers = ~same_motion & ~mates & (index[:, None] != index) & ~same_tempo
    assert np.abs(cosines[strangers]).mean() < 0.15


@pytest.mark.parametrize("split", [0, 1, 2, 3, 17])
def test_split_sizes_and_constraints(split):
    parts = split_classes(split)
    assert {part: len(classes) for part, classes in parts.items()} == {"train": 30, "val_unseen": 12, "test_unseen": 9}
    assert sorted(c for classes in parts.values() for c in classes) == list(range(51))
    assert set(motion_of(parts["train"])) == set(range(17))
    for part, motions, twice in [("test_unseen", 7, 2), ("val_unseen", 10, 2)]:
        counts = np.bincount(motion_of(parts[part]))
        assert (np.count_nonzero(counts), np.count_nonzero(counts == 2)) == (motions, twice)
        assert set(tempo_of(parts[part])) == {0, 1, 2}
    for classes in parts.values():  # a pair is seen or unseen together, so that footprint and tempo do not tell
        for c in classes:
            mate = 3 * (motion_of(c) ^ 1) + tempo_of(c)
            assert motion_of(c) == 16 or mate in classes


def test_published_splits_differ_and_stay():
    assert len({tuple(split_classes(split)["test_unseen"]) for split in range(3)}) == 3
    assert split_classes(0)["test_unseen"] == [6, 9, 26, 29, 36, 37, 39, 40, 50]


def test_preferred_scenes_are_spread_evenly():
    counts = np.bincount(preferred_scenes(0), minlength=8)
    assert counts.min() >= 6
    assert counts.max() <= 7


def test_scene_draw_is_uniform_and_biased_as_asked():
    draws = [draw_scene(c, k) for c in range(51) for k in range(20)]
    counts = np.bincount([d.alternative for d in draws], minlength=8)
    assert ((counts - len(draws) / 8) ** 2 / (len(draws) / 8)).sum() < 24.3  # chi-square, 7 degrees, p = 0.001
    u = np.array([d.u for d in draws])
    assert abs((u < 0.5).mean() - 0.5) < 0.06
    assert all(d.shown(0.0) == d.alternative and d.shown(1.0) == d.preferred for d in draws)
    assert np.corrcoef(u, [d.alternative for d in draws])[0, 1] == pytest.approx(0, abs=0.1)


def test_parts_hold_the_sizes_asked():
    for size, clips in CLIPS_PER_CLASS.items():
        rows = list(list_clips(MotionScenesConfig(size=size)))
        counts = [sum(part == p for p, _, _ in rows) for part in motionscenes.PARTS]
        assert counts == [n * k for n, k in zip((30, 30, 12, 42, 9), clips, strict=True)]
        assert len({(c, k) for _, c, k in rows}) == len(rows)


# --- pictures, sound and streams


def test_the_scene_changes_nothing_but_the_backdrop():
    a, b = render_clip(7, 3, 0), render_clip(7, 3, 1)
    np.testing.assert_array_equal(a.audio, b.audio)
    np.testing.assert_array_equal(a.cycles, b.cycles)
    moving_a, moving_b = (np.ptp(describe(clip).motion.sum(axis=1).astype(int), axis=0) > 8 for clip in (a, b))
    assert (moving_a & moving_b).sum() > 0.7 * (moving_a | moving_b).sum()
    assert np.abs(a.frames.mean((0, 1, 2)) - b.frames.mean((0, 1, 2))).max() > 20


def test_clips_repeat_exactly_and_differ_from_each_other():
    frames = [
        render_clip(c, k, 2, seed=s).frames for c, k, s in [(4, 1, 0), (4, 1, 0), (4, 2, 0), (5, 1, 0), (4, 1, 1)]
    ]
    np.testing.assert_array_equal(frames[0], frames[1])
    for other in frames[2:]:
        assert (other != frames[0]).mean() > 0.1


def test_ambience_follows_the_scene_only_where_asked():
    free = [render_clip(0, 0, scene).audio for scene in range(8)]
    assert all((audio == free[0]).all() for audio in free)
    bound = [render_clip(0, 0, scene, ambience_bias=1.0).audio for scene in range(8)]
    assert all((bound[i] != bound[j]).any() for i in range(8) for j in range(i))


def test_audio_is_finite_and_audible():
    for class_index in range(51):
        audio = render_clip(class_index, 0, 0).audio
        assert audio.shape == (38_400,)
        assert audio.dtype == np.float32
        assert np.isfinite(audio).all()
        assert 0.03 < audio.std() < 0.3


def test_pitch_of_a_siren_swings_with_the_phase():
    cycles = 0.25 + 1.0 * np.arange(38_400) / AUDIO_RATE
    sound = render._sound("siren", cycles, 1.0, np.random.default_rng(0))
    crossings = np.diff(np.signbit(sound)).reshape(-1)[:38_000].reshape(-1, 1900).sum(axis=1)
    expected = np.cos(2 * np.pi * (0.25 + (np.arange(len(crossings)) + 0.5) * 1900 / AUDIO_RATE))
    assert np.corrcoef(crossings, expected)[0, 1] > 0.9


@pytest.mark.parametrize("pair", [0, 1, 2, 3, 4, 5, 7])  # bounce, 6, is no exact reversal: see below
def test_members_of_a_pair_are_reversals_of_each_other(pair):
    one, other = render.MOTION_TABLE[2 * pair : 2 * pair + 2]
    assert one.path is other.path
    assert one.sounds == other.sounds
    assert (one.backwards, other.backwards) == (False, True)


def test_footprints_of_bounce_agree():
    stage, phase = render.Stage(20, 8, 0), np.linspace(0, 1, 1001)
    paths = [motion.path(phase, stage)[0].y for motion in render.MOTION_TABLE if motion.kind == "bounce"]
    for y in paths:
        assert (y.min(), y.max()) == (pytest.approx(-20, abs=0.1), pytest.approx(20, abs=0.1))
        assert np.abs(np.diff(y)).sum() == pytest.approx(80, abs=0.5)  # as many pixels crossed in each cycle


def test_sensor_noise_makes_few_events(monkeypatch):
    jobs = [(c, 0, c % 8) for c in range(0, 51, 4)]
    noisy = sum(int(describe(render_clip(*job)).motion.sum()) for job in jobs)
    monkeypatch.setattr(render, "NOISE_LEVELS", 0.0)
    clean = sum(int(describe(render_clip(*job)).motion.sum()) for job in jobs)
    assert 0 < clean < noisy < clean / 0.85


@pytest.mark.parametrize(
    ("arguments", "name"), [((51, 0, 0), "class_index"), ((0, -1, 0), "clip_index"), ((0, 0, 8), "scene")]
)
def test_bad_indices_are_refused(arguments, name):
    with pytest.raises(InputError, match=rf"render_clip: expected {name} in \[0, "):
        render_clip(*arguments)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"size": "smal"}, "Did you mean 'small'"),
        ({"scene_biases": (0.5, 1.5)}, "scene_biases in"),
        ({"scene_biases": ()}, "at least one of scene_biases"),
        ({"split": -1}, "split in"),
        ({"ambience_bias": -0.1}, "ambience_bias in"),
    ],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(InputError, match=match):
        MotionScenesConfig(**settings)


# --- order in time


def test_averaging_over_time_loses_the_way_and_order_keeps_it():
    """Which member of a pair: a linear reader of ordered bins, anchored at the sound of the clip's own phase, can tell.

    The reader knows the phase (as the sound does) and is given the events of four quarters of a cycle in order.
    """
    pairs = ("circle", "sweep", "climb")
    rows, ways, kinds = [], [], []
    for motion in [m for m in range(17) if MOTIONS[m].split()[0] in pairs]:
        for clip_index in range(36):
            clip = render_clip(3 * motion + 1, clip_index, clip_index % 8)
            counts = np.log1p(describe(clip).motion.sum(axis=1).astype(float))
            quarter = np.floor((clip.cycles[2::5] % 1) * 4).astype(int)
            ordered = [counts[quarter == q].mean(axis=0) for q in range(4)]
            rows.append((counts.mean(axis=0).ravel(), np.concatenate(ordered, axis=None)))
            ways.append(motion)
            kinds.append(motion // 2)
    pooled, ordered = (np.stack(x) for x in zip(*rows, strict=True))
    motion, kind = np.array(ways), np.array(kinds)
    test = np.arange(len(motion)) % 36 >= 24

    def accuracy(x, y):
        reader = LogisticRegression(C=0.1, max_iter=300).fit(x[~test], y[~test])
        return (reader.predict(x[test]) == y[test]).mean()

    assert accuracy(pooled, kind) > 0.75  # the footprint is there
    assert accuracy(pooled, motion) < 0.6  # the way is not: at most half of what the footprint gives, and chance
    assert accuracy(ordered, motion) > accuracy(pooled, motion) + 0.2


# --- stores


@pytest.fixture(scope="module")
def reduced():
    """``tiny`` with two classes of each part's clips only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CLIPS_PER_CLASS, "tiny", (1, 0, 0, 1, 1))
        yield MotionScenesConfig(size="tiny", scene_biases=(0.0, 0.5))


@pytest.fixture(scope="module")
def store(reduced, tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes") / "store.h5"
    generate(reduced, path, workers=1, quiet=True)
    with Store(path) as opened:
        yield opened


def test_store_holds_what_the_jobs_make(reduced, store):
    jobs = list_jobs(reduced)
    assert store.names == [job.name for job in jobs]
    assert store.class_names == class_names()
    np.testing.assert_array_equal(store.class_vectors, class_vectors(0))
    record, expected = store.clip(40), describe_job(jobs[40])
    assert record.extras == expected.extras
    for key in ("t_s", "video", "audio", "motion"):
        np.testing.assert_array_equal(getattr(record, key), getattr(expected, key))


def test_view_shows_each_clip_once_in_order(reduced, store):
    clips = {part: [(c, k) for p, c, k in list_clips(reduced) if p == part] for part in motionscenes.PARTS}
    for bias in (0.0, 0.5):
        for test_set in ("biased", "shuffled"):
            for part, indices in view(store, bias, test_set).items():
                e = {key: store.extras[key][indices] for key in ("class", "clip", "scene", "alternative")}
                assert list(zip(e["class"].tolist(), e["clip"].tolist(), strict=True)) == clips[part]
                wanted = [draw_scene(c, k).shown(bias) for c, k in clips[part]]
                if part.startswith("test") and test_set == "shuffled":
                    wanted = e["alternative"].tolist()
                assert e["scene"].tolist() == wanted


def test_biases_share_clips_and_shuffled_ignores_the_bias(store):
    a, b = view(store, 0.0), view(store, 0.5)
    same = (a["train"] == b["train"]).mean()
    assert 0.3 < same < 0.9
    np.testing.assert_array_equal(view(store, 0.5, "shuffled")["test_seen"], a["test_seen"])


def test_view_refuses_a_bias_the_store_lacks(store):
    with pytest.raises(InputError, match=r"records for scene_bias 0\.9, got a store with scene_biases \[0\.0, 0\.5\]"):
        view(store, 0.9)
    with pytest.raises(InputError, match="Did you mean 'shuffled'"):
        view(store, 0.5, "shufled")


def test_processes_and_interrupts_change_nothing(reduced, store, tmp_path, monkeypatch):
    path = tmp_path / "again.h5"
    real, made = motionscenes.describe_job, []

    def dies_after_five(job):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(job)
        return real(job)

    monkeypatch.setattr(motionscenes, "describe_job", dies_after_five)
    with pytest.raises(KeyboardInterrupt):
        generate(reduced, path, workers=1, quiet=True)
    monkeypatch.undo()
    assert not path.exists()
    monkeypatch.setitem(CLIPS_PER_CLASS, "tiny", (1, 0, 0, 1, 1))
    generate(reduced, path, workers=2, quiet=True)
    with Store(path) as other:
        assert other.names == store.names
        mine, theirs = other.load(), store.load()
        for key in ("t_s", "video", "audio", "motion", "labels"):
            np.testing.assert_array_equal(getattr(mine, key), getattr(theirs, key))
