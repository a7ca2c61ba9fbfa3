"""Class vectors: one embedding per class name, addressed by name and never by position."""

from __future__ import annotations

import os
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuroav.checks import check_shape, fail, nearest

_REMEDY = "Write it with np.savez(path, names=np.array(names, dtype=str), vectors=vectors)."


@dataclass(frozen=True)
class ClassVectors:
    """Embeddings of class names.

    Attributes:
        names: ``K`` unique names.
        vectors: ``(K, D)`` float32, dimensionless.
    """

    names: list[str]
    vectors: np.ndarray

    def find(self, name: str) -> str:
        """Return the known name that ``name`` means: itself, or the only one alike but for case and punctuation.

        Raises:
            InputError: If there is none, or if several are alike.

        Example:
            >>> ClassVectors(["Long jump", "Archery"], np.zeros((2, 3))).find("LongJump")
            'Long jump'
        """
        alike = self.alike(name)
        if len(alike) == 1:
            return alike[0]
        if alike:
            raise fail("class vectors", f"one name for {name!r}", f"several alike: {alike}", "Write it exactly.")
        close = nearest(name, self.names) or nearest(name.lower(), [known.lower() for known in self.names])
        remedy = close or "Add its vector, or name one that is there."
        raise fail("class vectors", f"a vector for class {name!r}", f"none among {len(self.names)} names", remedy)

    def alike(self, name: str) -> list[str]:
        """Return ``name`` itself if it is known, else every known name alike but for case and punctuation.

        Example:
            >>> ClassVectors(["T.V.", "TV"], np.zeros((2, 3))).alike("t v")
            ['T.V.', 'TV']
        """
        if name in self.names:
            return [name]
        return [known for known in self.names if _bare(known) == _bare(name) != ""]

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """Return the vectors of ``names``, ``(len(names), D)``, each looked up by :meth:`find`.

        Example:
            >>> ClassVectors(["a", "b"], np.eye(2)).rows(["B"])
            array([[0., 1.]])
        """
        index = {name: k for k, name in enumerate(self.names)}
        return self.vectors[[index[self.find(name)] for name in names]]


def read_vectors(path: str | os.PathLike[str]) -> ClassVectors:
    """Read class vectors from any ``.npz`` file that holds names and vectors.

    It has arrays ``names`` ``(K,)`` and ``vectors`` ``(K, D)``; or one array of text ``(K,)`` and one of numbers
    ``(K, D)``, whatever they are called; or an array ``(D,)`` for each name. Arrays of Python objects are refused.

    Raises:
        InputError: If the file is missing, no such archive, lacks an array, repeats a name, or holds NaN or infinity.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "vectors.npz"
        >>> np.savez(path, names=np.array(["dog", "rain"]), vectors=np.eye(2))
        >>> read_vectors(path).names
        ['dog', 'rain']
    """
    where = str(path)
    what = "an .npz file with arrays names (K,) and vectors (K, D)"
    if not Path(path).is_file():
        raise fail(where, what, "a folder" if Path(path).is_dir() else "no such file")
    if not zipfile.is_zipfile(path):
        raise fail(where, what, "a file that is no .npz archive", _REMEDY)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("a member is no array")
    except Exception as error:  # whatever a damaged archive does to numpy, zipfile and zlib
        text = " ".join(str(error).split())
        raise fail(where, what, f"one that can't be read ({text})", _REMEDY) from error
    if {"names", "vectors"} <= arrays.keys():
        return checked_vectors(where, arrays["names"], arrays["vectors"])
    texts = [array for array in arrays.values() if array.dtype.kind == "U" and array.ndim == 1]
    tables = [array for array in arrays.values() if array.dtype.kind in "fiu" and array.ndim == 2]
    if len(texts) == len(tables) == 1 and len(texts[0]) == len(tables[0]):
        return checked_vectors(where, texts[0], tables[0])
    alone = {array.shape for array in arrays.values() if array.dtype.kind in "fiu" and array.ndim == 1}
    if len(alone) != 1 or any(array.shape not in alone for array in arrays.values()):
        raise fail(where, what, f"arrays {', '.join(arrays) or 'none'}", _REMEDY)
    return checked_vectors(where, np.array(list(arrays)), np.stack(list(arrays.values())))


def checked_vectors(where: str, names: np.ndarray, vectors: np.ndarray) -> ClassVectors:
    """Make class vectors of names ``(K,)`` and vectors ``(K, D)``, read from the file ``where``.

    Raises:
        InputError: If the arrays don't fit each other, a name is repeated, or a vector holds NaN or infinity.
    """
    if names.dtype.kind != "U":
        raise fail(where, "names as text", f"dtype {names.dtype}", _REMEDY)
    if vectors.dtype.kind not in "fiu":
        raise fail(where, "vectors as numbers", f"dtype {vectors.dtype}", _REMEDY)
    check_shape(where, "names", names, ("K",))
    check_shape(where, "vectors", vectors, (len(names), "D"))
    repeated = [name for name, count in Counter(names.tolist()).items() if count > 1]
    if repeated:
        raise fail(where, "unique names", f"{repeated[0]!r} more than once")
    with np.errstate(over="ignore"):
        vectors = vectors.astype(np.float32)
    if not np.isfinite(vectors).all():
        bad = names[int(np.argwhere(~np.isfinite(vectors))[0, 0])]
        raise fail(where, "finite vectors", f"NaN or infinity in that of {str(bad)!r}")
    return ClassVectors(names.tolist(), vectors)


def _bare(name: str) -> str:
    """Only the letters and digits, case folded: what two spellings of one name share."""
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())
