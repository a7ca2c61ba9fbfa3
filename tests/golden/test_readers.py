"""Our readers give what the released loaders gave for the same trees, and the quirks they leave out are named."""

import json
from pathlib import Path

import numpy as np
import pytest

from neuroav.data.readers import AVERAGED, SEQUENCES, open_published

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "readers"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no {FOLDER}")
LAYOUTS = {"averaged": AVERAGED, "non_averaged": SEQUENCES}
CASES = [
    ("averaged", "UCF", "main"),
    ("averaged", "UCF", "cls"),
    ("averaged", "VGGSound", "main"),
    ("averaged", "VGGSound", "cls"),
    ("non_averaged", "UCF", "main"),
    ("non_averaged", "UCF", "cls"),
    ("non_averaged", "ActivityNet", "main"),
    ("non_averaged", "ActivityNet", "cls"),
]
PARTS = {
    "train": ["train"],
    "val": ["val_seen", "val_unseen"],
    "train_val": ["train", "val_seen", "val_unseen"],
    "test": ["test_seen", "test_unseen"],
}
SEEN = {"train": ["train"], "val": ["val_seen"], "train_val": PARTS["train_val"], "test": ["test_seen"]}


@pytest.fixture(params=CASES, ids="-".join)
def case(request):
    """Our tree, and what the released loader made of it."""
    layout, dataset, split = request.param
    tree = open_published(FOLDER / layout, LAYOUTS[layout], dataset.lower(), split=split)
    with np.load(FOLDER / f"{layout}_{dataset}_{split}_split.npz", allow_pickle=False) as arrays:
        return tree, {key.removeprefix("out."): arrays[key] for key in arrays.files}


def sequences(golden, part, modality):
    """One ``(T, D)`` array per clip."""
    if f"{part}.{modality}" in golden:
        return list(golden[f"{part}.{modality}"][:, None])
    ends = np.cumsum(golden[f"{part}.{modality}_lengths"])[:-1]
    return np.split(golden[f"{part}.{modality}_concat"], ends)


def in_order(clips):
    """Directory listings have no order: by class id and name, as the fixtures ask."""
    return sorted(clips, key=lambda clip: clip[:2])


@pytest.mark.parametrize("part", PARTS)
def test_every_clip_is_the_released_one(case, part):
    tree, golden = case
    ids = {name: k for k, name in enumerate(tree.class_names)}
    ours = [
        (ids[clip.label], clip.name, clip.audio, clip.video)
        for files in tree.files()
        if files.part in PARTS[part]
        for clip in tree.clips(files)
    ]
    # The released loader keeps the text of a bytes literal.
    names = [str(url).removeprefix("b'").removesuffix("'") for url in golden[f"{part}.url"]]
    audio, video = (sequences(golden, part, modality) for modality in ("audio", "video"))
    theirs = list(zip(golden[f"{part}.target"].tolist(), names, audio, video, strict=True))
    assert len(ours) == len(theirs) > 0
    for one, two in zip(in_order(ours), in_order(theirs), strict=True):
        assert one[:2] == two[:2]
        for mine, released in zip(one[2:], two[2:], strict=True):
            np.testing.assert_array_equal(mine, released)


@pytest.mark.parametrize("part", PARTS)
def test_classes_are_the_released_ones(case, part):
    tree, golden = case
    assert tree.class_names == golden["all_class_names_by_id"].tolist()

    def ids(parts):
        return sorted({tree.class_names.index(name) for each in parts for name in tree.parts[each]})

    assert ids(PARTS[part]) == golden[f"{part}.class_ids"].tolist()
    assert ids(SEEN[part]) == sorted(golden[f"{part}.seen_class_ids"].tolist())
    unseen = sorted(set(ids(PARTS[part])) - set(ids(SEEN[part])))
    assert unseen == golden[f"{part}.unseen_class_ids"].tolist()


@pytest.mark.parametrize("order", ["by_name", "legacy"])
def test_word_vectors_are_the_released_ones_in_both_orders(case, order):
    tree, golden = case
    vectors = tree.class_vectors(order)
    for part in PARTS:
        np.testing.assert_array_equal(vectors[golden[f"{part}.class_ids"]], golden[f"{part}.text_rows_{order}"])


def test_the_legacy_order_shifts_the_classes_that_the_fixture_names(case):
    tree, golden = case
    by_name, legacy = tree.class_vectors(), tree.class_vectors("legacy")
    np.testing.assert_array_equal(legacy, golden["text_table_legacy"])
    shifted = {name for name, a, b in zip(tree.class_names, by_name, legacy, strict=True) if (a != b).any()}
    for part, said in json.loads(str(golden["meta"]))["summary"].items():
        there = {tree.class_names[k] for k in golden[f"{part}.class_ids"]}
        assert shifted & there == set(said["classes_with_shifted_vector_in_legacy_order"])
    assert shifted


@pytest.mark.parametrize("dataset", ["UCF", "ActivityNet"])
def test_times_are_those_of_the_released_training_path(dataset):
    tree = open_published(FOLDER / "non_averaged", SEQUENCES, dataset.lower())
    with np.load(FOLDER / f"collate_{dataset}_max.npz", allow_pickle=False) as arrays:
        seconds = {modality: arrays[f"out.positive.{modality}_seconds"] for modality in ("audio", "video")}
    longest = {modality: values[values.argmax(0)[-1]] for modality, values in seconds.items()}
    for files in tree.files():
        for clip in tree.clips(files):
            for modality, times in longest.items():
                ours = getattr(clip, f"{modality}_t_s")[: len(times)]
                np.testing.assert_allclose(ours, times[: len(ours)], rtol=1e-6)
