"""Which clip is trained on and which is tested: parts that depend on names and a seed, never on the order of a list."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from neuroav.checks import check_range, fail, nearest

PARTS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")


def assign_parts(
    labels: Sequence[str] | np.ndarray,
    *,
    test_unseen: Sequence[str],
    val_unseen: Sequence[str],
    test_share: float = 0.25,
    val_share: float = 0.15,
    seed: int = 0,
    groups: Sequence[str] | np.ndarray | None = None,
) -> np.ndarray:
    """Assign every clip one of :data:`PARTS`, as the two-stage protocol of [avca] needs them.

    The groups of clips of each class are ordered by a hash of seed and group name. A class in ``test_unseen`` gives all
    of them to that part. One in ``val_unseen`` gives ``test_share`` to ``test_seen``, because stage 2 trains on it, and
    the rest to ``val_unseen``. Any other gives ``test_share`` to ``test_seen``, ``val_share`` to ``val_seen`` and the
    rest to ``train``.

    Shares are rounded, and no part of a class is left empty for it: "the rest" is at least one group, so that a class
    with one clip is trained on; from three groups on the other parts have one each; classes with two groups take turns
    (in the order of a hash of seed and name) to give one to ``test_seen`` or to ``val_seen``.
    Differs from the paper: [avca] publishes lists; here a seed draws them.

    Args:
        labels: ``(N,)`` class name of each clip.
        test_unseen: Classes kept for the test.
        val_unseen: Classes kept for validation.
        test_share: Share of a class's groups that is tested, in [0, 1].
        val_share: Share that is validated, in [0, 1 - ``test_share``].
        seed: Another seed draws another split.
        groups: ``(N,)`` name of what a clip was cut from (such as the source video); one group never lies in two parts,
            even if it holds clips of several classes. Default: every clip is a group of its own, named by its place
            among the clips of its class; pass the clips' names to be independent of their order.

    Returns:
        ``(N,)`` array of part names.

    Raises:
        InputError: If an unseen class has no clip, a class is in both lists, a share is out of range, or a group holds
            clips of both seen and unseen classes.

    Example:
        >>> assign_parts(["a", "a", "a", "a", "b", "c"], test_unseen=["c"], val_unseen=["b"]).tolist()
        ['val_seen', 'train', 'train', 'test_seen', 'val_unseen', 'test_unseen']
    """
    names = [str(label) for label in labels]
    rests = _rests(names, test_unseen=test_unseen, val_unseen=val_unseen)
    check_range("assign_parts", "test_share", test_share, 0, 1)
    check_range("assign_parts", "val_share", val_share, 0, 1 - test_share)
    keys = _places(names) if groups is None else [str(group) for group in groups]
    if len(keys) != len(names):
        raise fail("assign_parts", f"groups of length {len(names)}", str(len(keys)))
    members: dict[str, set[str]] = {}  # class -> its groups
    for name, key in zip(names, keys, strict=True):
        members.setdefault(name, set()).add(key)
    _check_groups(members, rests)
    shares = {"train": {"test_seen": test_share, "val_seen": val_share}, "val_unseen": {"test_seen": test_share}}
    pairs = sorted((n for n in members if rests[n] == "train" and len(members[n]) == 2), key=lambda n: _draw(seed, n))
    part_of: dict[str, str] = {}
    for name in sorted(members):
        ordered = sorted(members[name], key=lambda key: _draw(seed, key))
        left = _counts(len(ordered), shares.get(rests[name], {}), pairs.index(name) if name in pairs else 0)
        _split_class(ordered, part_of, rests[name], left)
    return np.array([part_of[key] for key in keys], dtype=str)


def _counts(size: int, shares: dict[str, float], turn: int) -> dict[str, int]:
    """How many of a class's groups each part is given beside the rest, which takes what is left."""
    wanted = {part: share for part, share in shares.items() if share > 0}
    if size == 2 and len(wanted) == 2:
        return {list(wanted)[turn % 2]: 1}
    least = int(size > len(wanted))
    return {part: max(least, int(share * size + 0.5)) for part, share in wanted.items()}


def _rests(names: Sequence[str], **lists: Sequence[str]) -> dict[str, str]:
    """Map each class to the part that takes the rest of its clips, after checking the lists of unseen classes."""
    known = sorted(set(names))
    rests: dict[str, str] = {}
    for part, classes in lists.items():
        for name in classes:
            if name not in known:
                raise fail("assign_parts", f"{part} classes that have clips", repr(name), nearest(name, known))
            if rests.setdefault(name, part) != part:
                raise fail("assign_parts", "disjoint lists of unseen classes", f"{name!r} in both")
    return {name: rests.get(name, "train") for name in known}


def _places(names: Sequence[str]) -> list[str]:
    count: Counter[str] = Counter()
    keys = []
    for name in names:
        keys.append(f"{name}/{count[name]}")
        count[name] += 1
    return keys


def _check_groups(members: dict[str, set[str]], rests: dict[str, str]) -> None:
    first: dict[str, str] = {}  # group -> a class in it
    for name in sorted(members):
        for key in sorted(members[name]):
            other = first.setdefault(key, name)
            if rests[other] != rests[name]:
                raise fail(
                    "assign_parts",
                    "no group with both seen and unseen classes",
                    f"group {key!r} with {other!r} ({rests[other]}) and {name!r} ({rests[name]})",
                    "Leave out its clips of one of them, or move the class.",
                )


def _split_class(ordered: list[str], part_of: dict[str, str], rest: str, left: dict[str, int]) -> None:
    """Place the groups of one class; groups shared with an earlier class keep their part and count."""
    left = left | {rest: len(ordered)}
    for key in ordered:
        if part_of.get(key) in left:
            left[part_of[key]] -= 1
    for key in ordered:
        if key not in part_of:
            part_of[key] = next(part for part, count in left.items() if count > 0)
            left[part_of[key]] -= 1
    if all(part_of[key] != rest for key in ordered):
        part_of[ordered[-1]] = rest


def _draw(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()
