"""Classes that a user types: those of a data set by their names, and any other words that have a vector."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Protocol

import numpy as np

from neuroav.checks import InputError, fail
from neuroav.data.vectors import ClassVectors
from neuroav.data.word_vectors import PhraseVector, find_vectors

SAME = 0.9999  # cosine of two vectors that are one but for rounding
CHECKED = 3  # classes of a data set whose vectors are compared with those of a file


@dataclass(frozen=True)
class TypedClass:
    """A class to choose from.

    Attributes:
        name: As it was typed.
        source: What its vector is made of: a class of the data set, an entry of a file, or ``"playing + flute"``.
        label: The data set's label if the vector is that of one of its classes, else ``None``.
        vector: ``(D_text,)`` float32.
    """

    name: str
    source: str
    label: int | None
    vector: np.ndarray


class Vocabulary(Protocol):
    """Where the vectors of words that are no class of the data set come from."""

    def vectors(self, phrases: Sequence[str]) -> dict[str, PhraseVector]:
        """Return the vector of each phrase, or raise an :class:`InputError` that names the nearest words."""
        ...


@dataclass(frozen=True)
class NoWords:
    """Only the data set's own classes are known.

    Attributes:
        names: Of these classes.
        remedy: How to get more words.
    """

    names: Sequence[str]
    remedy: str

    def vectors(self, phrases: Sequence[str]) -> dict[str, PhraseVector]:
        """Refuse every phrase."""
        lower = {name.lower(): name for name in self.names}
        close = [lower[name] for name in get_close_matches(phrases[0].lower(), lower, n=3, cutoff=0.5)]
        remedy = f"The nearest: {', '.join(close)}. {self.remedy}" if close else self.remedy
        raise fail("--classes", f"classes among the {len(self.names)} of the run", repr(phrases[0]), remedy)


@dataclass(frozen=True)
class SceneWords:
    """The words of MotionScenes: motions, ways, tempos and sounds.

    Attributes:
        seed: Of the data set.
    """

    seed: int

    def vectors(self, phrases: Sequence[str]) -> dict[str, PhraseVector]:
        """Compose each phrase of the fixed directions of its words."""
        from neuroav.data.motionscenes import phrase_vector

        return {phrase: PhraseVector(phrase, phrase_vector(phrase, self.seed)) for phrase in phrases}


@dataclass(frozen=True)
class FileWords:
    """A file of word vectors, or of class vectors, see :func:`neuroav.data.word_vectors.find_vectors`.

    Attributes:
        path: The file.
        known: Phrases and the vectors that the data set has for them; the file must have the same.
    """

    path: str
    known: dict[str, np.ndarray] = field(default_factory=dict)

    def vectors(self, phrases: Sequence[str]) -> dict[str, PhraseVector]:
        """Look the phrases up, and compare the file with what the model was trained with.

        A file that has none of the data set's phrases can't be compared; that is said on stderr.

        Raises:
            InputError: If a word is missing, or the vectors are of another kind than the data set's.
        """
        checks = dict(list(self.known.items())[:CHECKED])
        try:
            found = find_vectors(self.path, [*phrases, *checks])
        except InputError:
            found = find_vectors(self.path, phrases)  # raises again if it is one of these that is missing
            sys.stderr.write(
                f"{self.path}: holds other words than the run's own classes, so it can't be told whether its vectors "
                "are of the kind that the run was trained with.\n"
            )
        for phrase, vector in checks.items():
            one = found.get(phrase, next(iter(found.values()))).values
            if one.shape != vector.shape or (phrase in found and not _same(one, vector)):
                what = f"{len(one)} numbers each" if one.shape != vector.shape else f"another vector for {phrase!r}"
                remedy = "Give --vectors the file that neuroav extract was given."
                raise fail(self.path, f"the vectors of the run, {len(vector)} numbers each", what, remedy)
        return {phrase: found[phrase] for phrase in phrases}


def split_names(text: str) -> list[str]:
    """Split ``a, b, "c, d"`` into names, as a line of a CSV file; a name that holds a comma is quoted.

    Raises:
        InputError: If there are fewer than two, or one comes twice.

    Example:
        >>> split_names('archery, "playing violin, fiddle", rain')
        ['archery', 'playing violin, fiddle', 'rain']
    """
    try:
        names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True, strict=True), [])]
    except csv.Error as error:
        raise fail("--classes", 'names with commas between them, as in one,"two, three"', repr(text)) from error
    names = [name for name in names if name]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise fail("--classes", "every class once", f"{repeated[0]!r} more than once")
    if len(names) < 2:
        raise fail("--classes", "at least two classes to choose from", repr(text))
    return names


def find_classes(names: Sequence[str], known: ClassVectors, words: Vocabulary) -> list[TypedClass]:
    """Find the vector of every name: that of a class of the data set, else one out of ``words``.

    A class of the data set is found by its name, whatever its case and punctuation, and by words that give its vector.

    Args:
        names: As they were typed.
        known: Classes of the data set, in the order of its labels.
        words: Knows the others.

    Raises:
        InputError: If nobody knows a name, it is like several of the data set's, or two names have one vector.
    """
    own = {name: known.find(name) for name in names if known.alike(name)}
    others = [name for name in names if name not in own]
    looked_up = words.vectors(others) if others else {}
    found = []
    for name in names:
        vector = known.rows([own[name]])[0] if name in own else looked_up[name].values
        label = known.names.index(own[name]) if name in own else _label_of(vector, known)
        source = looked_up[name].source if label is None else known.names[label]
        found.append(TypedClass(name, source, label, vector))
    for i, one in enumerate(found):
        for two in found[:i]:
            if _same(one.vector, two.vector):
                what = f"{two.name!r} and {one.name!r}, which have the same"
                raise fail("--classes", "classes with vectors of their own", what, "Leave one of them out.")
    return found


def _label_of(vector: np.ndarray, known: ClassVectors) -> int | None:
    return next((label for label, other in enumerate(known.vectors) if _same(vector, other)), None)


def _same(one: np.ndarray, two: np.ndarray) -> bool:
    if one.shape != two.shape:
        return False
    return float(one @ two) >= SAME * float(np.linalg.norm(one) * np.linalg.norm(two))
