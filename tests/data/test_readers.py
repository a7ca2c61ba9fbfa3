"""Readers of the published archives: every clip of trees written here, choices, refusals, and the published lists."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import published
import pytest

from neuroav.checks import InputError
from neuroav.data.convert import published_counts
from neuroav.data.readers import (
    AVERAGED,
    BENCHMARKS,
    SEQUENCES,
    STAGES,
    open_published,
    ordered_vectors,
    read_class_list,
    read_name_map,
    read_named_vectors,
    read_parts,
)
from neuroav.data.vectors import ClassVectors

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
NPY = {"ucf": "ucf", "activitynet": "activity", "vggsound": "vggsound"}


def all_clips(tree):
    return [clip for files in tree.files() for clip in tree.clips(files)]


@pytest.mark.parametrize("dataset", ["UCF", "ActivityNet", "VGGSound"])
@pytest.mark.parametrize("features", ["main", "cls"])
@pytest.mark.parametrize("layout", [AVERAGED, SEQUENCES], ids=["averaged", "sequences"])
def test_every_clip_of_a_written_tree_comes_back(tmp_path, dataset, features, layout):
    written = published.write_tree(tmp_path, dataset, layout is SEQUENCES, features)
    tree = open_published(tmp_path, layout)
    assert (tree.features, tree.split) == (features, features)
    clips = all_clips(tree)
    classes = {part: sorted(published.PARTS[stage]) for part, stage in STAGES.items()}
    if features == "cls":
        classes["test_unseen"] = ["Rowing"]
    wanted = [
        (part, name, row) for part in STAGES for name in classes[part] for row in written.clips[STAGES[part], name]
    ]
    assert len(clips) == len(wanted) == (22 if features == "cls" else 24)
    for clip, (part, name, (title, audio, video)) in zip(clips, wanted, strict=True):
        assert (clip.part, clip.label, clip.name) == (part, name, title)
        np.testing.assert_array_equal(clip.audio, audio)
        np.testing.assert_array_equal(clip.video, video)
        assert clip.audio.dtype == clip.video.dtype == clip.audio_t_s.dtype == np.float32
        step_s = (0.96, 0.64) if features == "cls" else (1, 1)
        for times, values, step in ((clip.audio_t_s, audio, step_s[0]), (clip.video_t_s, video, step_s[1])):
            np.testing.assert_allclose(times, [i * step for i in range(len(values))], rtol=1e-6)


def test_the_frame_rate_of_a_file_sets_the_steps_of_c3d(tmp_path):
    published.write_tree(tmp_path)
    base = tmp_path / "UCF/features/cls_features_non_averaged"
    for modality in ("audio", "video"):
        path = base / modality / "stage_1_train/BandMarching.pkl"
        content = {"features": [np.ones((3, 4))], "video_names": [b"a"], "fps": [50.0]}
        path.write_bytes(pickle.dumps(content))
    clip = all_clips(open_published(tmp_path, SEQUENCES))[0]
    np.testing.assert_allclose(clip.video_t_s, [0, 0.32, 0.64])
    np.testing.assert_allclose(clip.audio_t_s, [0, 0.96, 1.92])


@pytest.mark.parametrize("protocol", [2, 5])
def test_sequences_may_be_pickled_by_any_protocol_and_as_one_array(tmp_path, protocol):
    published.write_tree(tmp_path, protocol=protocol)
    tree = open_published(tmp_path, SEQUENCES)
    files = tree.files()[0]
    dense = {
        "features": np.arange(24.0).reshape(2, 3, 4),
        "video_names": np.array([b"a", b"b"]),
        "fps": np.array([25, 25]),
    }
    for path in (files.audio, files.video):
        path.write_bytes(pickle.dumps(dense, protocol))
    clips = list(tree.clips(files))
    assert [clip.name for clip in clips] == ["a", "b"]
    np.testing.assert_array_equal(clips[1].video, dense["features"][1])


def test_the_folder_of_the_data_set_itself_will_do(tmp_path):
    written = published.write_tree(tmp_path, "VGGSound", sequences=False, features="main")
    assert len(all_clips(open_published(written.folder, AVERAGED))) == 24
    written.folder.rename(tmp_path / "my vggsound")
    assert len(all_clips(open_published(tmp_path / "my vggsound", AVERAGED, "vggsound"))) == 24
    (tmp_path / "my vggsound/class-split").rename(tmp_path / "my vggsound/class_split")
    assert len(all_clips(open_published(tmp_path / "my vggsound", AVERAGED, "vggsound"))) == 24


def test_several_data_sets_or_features_must_be_chosen_from(tmp_path):
    published.write_tree(tmp_path, "UCF", sequences=False, features="main")
    published.write_tree(tmp_path, "VGGSound", sequences=False, features="main")
    with pytest.raises(InputError, match=r"got UCF, VGGSound\. Say --dataset"):
        open_published(tmp_path, AVERAGED)
    assert open_published(tmp_path, AVERAGED, "vggsound").folder.name == "VGGSound"
    with pytest.raises(InputError, match="Did you mean 'ucf'"):
        open_published(tmp_path, AVERAGED, "ucf1")
    with pytest.raises(InputError, match=r"main_features.*got none\. Is it the other layout"):
        open_published(tmp_path, SEQUENCES, "ucf")
    other = tmp_path / "UCF/features/cls_features"
    other.mkdir()
    with pytest.raises(InputError, match=r"got main_features, cls_features\. Say --features"):
        open_published(tmp_path, AVERAGED, "ucf")
    tree = open_published(tmp_path, AVERAGED, "ucf", "main", "cls")
    assert (tree.features, tree.split, tree.parts["test_unseen"]) == ("main", "cls", ["Rowing"])


def test_case_is_ignored_where_the_released_loader_ignores_it(tmp_path):
    for dataset in ("UCF", "VGGSound"):
        written = published.write_tree(tmp_path, dataset)
        for path in list(written.folder.glob("features/*/*/*/Fencing.pkl")):
            path.rename(path.with_name("fencing.pkl"))
    assert len(all_clips(open_published(tmp_path, SEQUENCES, "ucf"))) == 22
    with pytest.raises(InputError, match=r"one file of class 'Fencing', got none\. Did you mean 'fencing'"):
        open_published(tmp_path, SEQUENCES, "vggsound").files()
    path = tmp_path / "UCF/features/cls_features_non_averaged/video/stage_1_train"
    (path / "bandmarching.pkl").write_bytes(b"")
    with pytest.raises(InputError, match=r"got BandMarching\.pkl and bandmarching\.pkl"):
        open_published(tmp_path, SEQUENCES, "ucf").files()


def refused(tree, files, match):
    with pytest.raises(InputError, match=match) as caught:
        list(tree.clips(files))
    assert str(files.audio.parent.parent.parent) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"video_names": [b"b", b"a"]}, "the clips of the audio file in their order, got others"),
        ({"video_names": [b"a"]}, "lists that differ in length"),
        ({"video_names": [b"a", b"\xff"]}, r"clip names in UTF-8, got b'\\xff'"),
        ({"video_names": [b"a", 3]}, "clip names in UTF-8, got 3"),
        ({"video_names": b"ab"}, "got another pickle"),
        ({"fps": [25, 0]}, "frame rates of 1 to 1000 per second, got 0"),
        ({"fps": [25, float("nan")]}, "frame rates"),
        ({"fps": None}, "another pickle"),
        ({"features": [np.ones((2, 3)), np.ones(3)]}, r"features \(T, D\) of clip 'b', got \(3,\)"),
        ({"features": [np.ones((2, 3)), [[1.0]]]}, "of clip 'b', got list"),
        ({"features": [np.ones((2, 3)), np.ones((0, 3))]}, r"of clip 'b', got \(0, 3\)"),
        ({"features": np.ones(())}, "another pickle"),
    ],
)
def test_sequences_that_cannot_be_meant_are_refused_by_file(tmp_path, change, match):
    published.write_tree(tmp_path)
    tree = open_published(tmp_path, SEQUENCES)
    files = tree.files()[0]
    good = {"features": [np.ones((2, 3)), np.ones((4, 3))], "video_names": [b"a", b"b"], "fps": [25, 25]}
    files.audio.write_bytes(pickle.dumps(good))
    files.video.write_bytes(pickle.dumps(good | change))
    refused(tree, files, match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"data": np.ones((2, 3), np.float32), "video_urls": np.array([b"b", b"a"])}, "got others"),
        ({"data": np.ones((2, 3), np.float32)}, "datasets data and video_urls, got data"),
        ({"data": np.ones((3, 3), np.float32), "video_urls": np.array([b"a", b"b"])}, r"data \(n, D\) and video_urls"),
        ({"data": np.ones(2, np.float32), "video_urls": np.array([b"a", b"b"])}, r"data \(n, D\)"),
        ({"data": np.array([[b"x"]] * 2), "video_urls": np.array([b"a", b"b"])}, r"data \(n, D\)"),
        ({"data": np.ones((2, 3)), "video_urls": np.array([1, 2])}, "clip names in UTF-8"),
    ],
)
def test_averaged_files_that_cannot_be_meant_are_refused(tmp_path, change, match):
    published.write_tree(tmp_path, sequences=False, features="main")
    tree = open_published(tmp_path, AVERAGED)
    files = tree.files()[0]
    for path, content in [
        (files.audio, {"data": np.ones((2, 3)), "video_urls": np.array([b"a", b"b"])}),
        (files.video, change),
    ]:
        with h5py.File(path, "w") as file:
            for key, values in content.items():
                file[key] = values
    refused(tree, files, match)


def test_names_of_variable_length_are_read(tmp_path):
    published.write_tree(tmp_path, sequences=False, features="main")
    tree = open_published(tmp_path, AVERAGED)
    files = tree.files()[0]
    for path in (files.audio, files.video):
        with h5py.File(path, "w") as file:
            file["data"] = np.ones((2, 3))
            file["video_urls"] = ["v_ä", "v_b"]
    assert [clip.name for clip in tree.clips(files)] == ["v_ä", "v_b"]


def test_files_that_are_cut_are_refused(tmp_path):
    for sequences, layout in ((False, AVERAGED), (True, SEQUENCES)):
        published.write_tree(tmp_path / layout.name, sequences=sequences)
        tree = open_published(tmp_path / layout.name, layout)
        files = tree.files()[0]
        whole = files.video.read_bytes()
        for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-5]):
            files.video.write_bytes(content)
            refused(tree, files, "expected a sound HDF5 file|expected a pickle|as stored")


@pytest.mark.parametrize(
    ("file", "text", "match"),
    [
        ("all_class.txt", "", "different class names, one a line, got nothing"),
        ("all_class.txt", "Archery\nArchery\n", "got something else"),
        ("all_class.txt", None, "no such file"),
        ("cls_split/stage_1_train.txt", "BandMarchin\n", "got 'BandMarchin'. Did you mean 'BandMarching'"),
        (
            "cls_split/stage_2_test_unseen.txt",
            "Fencing\n",
            "classes of test_unseen that are nowhere before, got 'Fencing'",
        ),
        ("cls_split/stage_1_val_unseen.txt", "CleanAndJerk\n", "classes of val_unseen that are nowhere before"),
        ("ucf_w2v_class_names.csv", "a,b\n1,2\n", "columns original and manual"),
        ("ucf_w2v_class_names.csv", "original,manual\nArchery,Archery\n", "got none for 'BandMarching'"),
        ("ucf_w2v_class_names.csv", 'original,manual\n"Archery,Archery\n', "a CSV file"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(tmp_path, file, text, match):
    written = published.write_tree(tmp_path)
    path = written.folder / "class-split" / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match=match):
        open_published(tmp_path, SEQUENCES)


def test_vectors_come_by_name_whatever_their_order(tmp_path):
    written = published.write_tree(tmp_path)
    tree = open_published(tmp_path, SEQUENCES)
    np.testing.assert_array_equal(
        tree.class_vectors(), [written.vectors[published.CLASSES[name]] for name in sorted(published.CLASSES)]
    )
    with pytest.raises(InputError, match="text_order to be one of by_name, legacy"):
        tree.class_vectors("by_place")


def test_a_missing_vector_is_an_error_that_offers_the_nearest(tmp_path):
    written = published.write_tree(tmp_path)
    del written.vectors["Band Marching"]
    written.vectors["Band Marchin"] = np.ones(6, np.float32)
    path = next(written.folder.glob("features/*/text/*.npy"))
    np.save(path, np.array(written.vectors, dtype=object))
    with pytest.raises(InputError, match=r"vector for class 'Band Marching'.*Did you mean 'Band Marchin'"):
        open_published(tmp_path, SEQUENCES).class_vectors()
    written.vectors.popitem()
    np.save(path, np.array(written.vectors, dtype=object))
    with pytest.raises(InputError, match="8 of them for the legacy order, got 7"):
        open_published(tmp_path, SEQUENCES).class_vectors("legacy")


@pytest.mark.parametrize(
    "content",
    [
        np.array([{"a": np.ones(2)}], dtype=object),
        np.array({}, dtype=object),
        np.array({"a": [1.0]}, dtype=object),
        np.array({"a": np.ones(2), "b": np.ones(3)}, dtype=object),
        np.array({"a": np.array([1, np.nan])}, dtype=object),
        np.array({b"a": np.ones(2)}, dtype=object),
    ],
)
def test_word_vectors_that_cannot_be_meant_are_refused(tmp_path, content):
    np.save(tmp_path / "v.npy", content)
    with pytest.raises(InputError, match="a dict of names to vectors"):
        read_named_vectors(tmp_path / "v.npy")


# ------------------------------------------------------------------------------------------------ the published lists


@pytest.fixture(params=[("ucf", 79, 101), ("activitynet", 8, 200), ("vggsound", 205, 309)], ids=lambda p: p[0])
def lists(request):
    """Names, parts, map and vectors as published, and how many classes the legacy order shifts."""
    name, shifted, count = request.param
    benchmark = BENCHMARKS[name]
    folder = DATA / "splits/avgzsl_benchmark_datasets" / benchmark.folder / "class-split"
    vectors = DATA / "w2v" / f"word_embeddings_{NPY[name]}_normed.npy"
    if not folder.is_dir() or not vectors.is_file():
        pytest.skip(f"no {folder} or {vectors}")
    names = sorted(read_class_list(folder / "all_class.txt"))
    assert len(names) == count
    parts = {split: read_parts(folder / f"{split}_split", names, benchmark) for split in ("main", "cls")}
    manual = read_name_map(folder / benchmark.names_csv, names)
    return name, names, parts, manual, read_named_vectors(vectors), shifted


SHIFTED = {"ucf": (23, 8, 5), "activitynet": (5, 2, 1), "vggsound": (84, 51, 42)}
USED = {"ucf": (30, 12, 9, 6), "activitynet": (99, 51, 50, 48), "vggsound": (138, 69, 69, 64)}
PARTS = ("train", "val_unseen", "test_unseen")


def test_published_lists_have_the_published_sizes(lists):
    name, _, parts, *_ = lists
    assert tuple(len(parts["main"][part]) for part in PARTS) == USED[name][:3]
    assert len(parts["cls"]["test_unseen"]) == USED[name][3]
    assert set(parts["cls"]["test_unseen"]) < set(parts["main"]["test_unseen"])
    for one in parts.values():
        assert one["val_seen"] == one["train"]
        assert one["test_seen"] == sorted(one["train"] + one["val_unseen"])


CLIPS = {  # of train, val_seen, val_unseen, test_seen, test_unseen, and of test_unseen in the cls split
    "ucf": (3174, 353, 1467, 555, 1267, 845),
    "activitynet": (9204, 1023, 4307, 1615, 4199, 4052),
    "vggsound": (70351, 7817, 3102, 9032, 3450, 3200),
}


def test_published_counts_are_those_of_the_lists(lists):
    name, _, parts, *_ = lists
    assert tuple(published_counts(name, parts["main"]).values()) == CLIPS[name][:5]
    assert published_counts(name, parts["cls"]) == published_counts(name, parts["main"]) | {
        "test_unseen": CLIPS[name][5]
    }


def test_the_legacy_order_gives_published_classes_the_vector_of_another(lists):
    name, names, parts, manual, known, shifted = lists
    by_name = ordered_vectors(known, names, manual)
    for row, original in zip(by_name, names, strict=True):
        np.testing.assert_array_equal(row, known.vectors[known.names.index(manual[original])])
    legacy = ordered_vectors(known, names, manual, "legacy")
    wrong = {original for original, a, b in zip(names, by_name, legacy, strict=True) if (a != b).any()}
    assert len(wrong) == shifted
    assert tuple(len(wrong & set(parts["main"][part])) for part in PARTS) == SHIFTED[name]
    if name == "ucf":
        place = names.index("CleanAndJerk")
        assert wrong <= set(names[place:])
        np.testing.assert_array_equal(legacy[place], known.vectors[known.names.index(manual[names[place + 1]])])


def test_the_npz_and_the_published_npy_hold_the_same_vectors(lists):
    name, *_, known, _ = lists
    with np.load(DATA / "w2v" / f"{NPY[name]}_w2v.npz") as arrays:
        other = ClassVectors(arrays["names"].tolist(), arrays["vectors"])
    np.testing.assert_array_equal(other.rows(known.names), known.vectors)
