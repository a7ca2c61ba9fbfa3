"""Parts: what the two-stage protocol needs of them, whatever the labels, groups and seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroav.checks import InputError
from neuroav.data.splits import PARTS, assign_parts

ALLOWED = {"t": {"test_unseen"}, "v": {"val_unseen", "test_seen"}, "s": {"train", "val_seen", "test_seen"}}
REST = {"t": "test_unseen", "v": "val_unseen", "s": "train"}
CLASSES = ["t1", "t2", "v1", "v2", "s1", "s2", "s3"]  # named by what they are


def unseen(labels):
    return {f"{part}_unseen": sorted({x for x in labels if x[0] == part[0]}) for part in ("test", "val")}


@given(
    labels=st.lists(st.sampled_from(CLASSES), min_size=1, max_size=60),
    seed=st.integers(0, 5),
    shares=st.sampled_from([(0.25, 0.15), (0, 0), (0.5, 0.5), (1, 0), (0, 1)]),
)
def test_every_class_keeps_to_its_parts_and_is_never_emptied(labels, seed, shares):
    test_share, val_share = shares
    parts = assign_parts(labels, **unseen(labels), seed=seed, test_share=test_share, val_share=val_share)
    for name in set(labels):
        there = [part for part, label in zip(parts, labels, strict=True) if label == name]
        assert set(there) <= ALLOWED[name[0]] & set(PARTS)
        assert REST[name[0]] in there


@given(
    clips=st.lists(st.tuples(st.sampled_from(CLASSES), st.integers(0, 12)), min_size=1, max_size=60, unique=True),
    order=st.randoms(use_true_random=False),
)
def test_the_order_of_the_clips_plays_no_role(clips, order):
    def parts_of(listed):
        labels = [label for label, _ in listed]
        groups = [f"{label[0]}{group}" for label, group in listed]  # shared by the classes of one kind
        return dict(zip(listed, assign_parts(labels, **unseen(labels), groups=groups), strict=True))

    shuffled = list(clips)
    order.shuffle(shuffled)
    assert parts_of(clips) == parts_of(shuffled)


@given(clips=st.lists(st.tuples(st.sampled_from(CLASSES), st.integers(0, 8)), min_size=1, max_size=60))
def test_a_group_never_lies_in_two_parts_even_over_classes(clips):
    labels = [label for label, _ in clips]
    groups = [f"{label[0]}{group}" for label, group in clips]
    parts = assign_parts(labels, **unseen(labels), groups=groups)
    assert len(set(zip(groups, parts, strict=True))) == len(set(groups))
    for name in set(labels):
        assert REST[name[0]] in {part for part, label in zip(parts, labels, strict=True) if label == name}


def test_shares_are_met_per_class():
    labels = ["s1"] * 40 + ["s2"] * 20 + ["v1"] * 20 + ["t1"] * 7
    parts = assign_parts(labels, **unseen(labels))

    def count(name):
        return {part: int(((parts == part) & (np.array(labels) == name)).sum()) for part in PARTS}

    assert count("s1") == {"train": 24, "val_seen": 6, "val_unseen": 0, "test_seen": 10, "test_unseen": 0}
    assert count("s2") == {"train": 12, "val_seen": 3, "val_unseen": 0, "test_seen": 5, "test_unseen": 0}
    assert count("v1") == {"train": 0, "val_seen": 0, "val_unseen": 15, "test_seen": 5, "test_unseen": 0}
    assert count("t1")["test_unseen"] == 7


@pytest.mark.parametrize("seed", range(5))
def test_few_clips_of_a_class_still_reach_every_part(seed):
    labels = ["s1"] * 2 + ["s2"] * 2 + ["s3"] * 3 + ["v1"] * 2 + ["t1"]
    parts = assign_parts(labels, **unseen(labels), seed=seed)
    pairs = [sorted(parts[:2]), sorted(parts[2:4])]
    assert sorted(pairs) == [["test_seen", "train"], ["train", "val_seen"]]
    assert sorted(parts[4:7]) == ["test_seen", "train", "val_seen"]
    assert sorted(parts[7:9]) == ["test_seen", "val_unseen"]


def test_groups_shared_with_another_class_count_towards_its_shares():
    groups = [f"g{i}" for i in [*range(20), *range(40)]]
    parts = assign_parts(["s1"] * 20 + ["s2"] * 40, test_unseen=[], val_unseen=[], groups=groups)
    assert (parts[:20] == "test_seen").sum() == 5
    assert (parts[20:] == "test_seen").sum() == 10
    assert (parts[20:] == "val_seen").sum() == 6


def test_another_seed_draws_other_clips_and_the_same_seed_the_same():
    labels = ["s1"] * 40
    draws = [assign_parts(labels, test_unseen=[], val_unseen=[], seed=seed).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_another_class_changes_nothing():
    labels = ["s1"] * 12
    alone = assign_parts(labels, test_unseen=[], val_unseen=[])
    beside = assign_parts(["s2", *labels, "v1"], test_unseen=[], val_unseen=["v1"])
    assert beside[1:-1].tolist() == alone.tolist()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"test_unseen": ["dgo"]}, "test_unseen classes that have clips, got 'dgo'. Did you mean 'dog'"),
        ({"test_unseen": ["cat"], "val_unseen": ["cat"]}, "'cat' in both"),
        ({"test_share": 1.5}, r"test_share in \[0, 1\], got 1.5"),
        ({"test_share": 0.6, "val_share": 0.5}, r"val_share in \[0, 0.4\]"),
        ({"groups": ["a", "b"]}, "groups of length 3, got 2"),
        (
            {"groups": ["a", "a", "b"], "test_unseen": ["cat"]},
            r"group 'a' with 'cat' \(test_unseen\) and 'dog'",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(changes, text):
    with pytest.raises(InputError, match=text):
        assign_parts(["cat", "dog", "dog"], **({"test_unseen": [], "val_unseen": []} | changes))
