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
        if name in self.names:
            return name
        alike = [known for known in self.names if _bare(known) == _bare(name) != ""]
        if len(alike) == 1:
            return alike[0]
        if alike:
            raise fail("class vectors", f"one name for {name!r}", f"several alike: {alike}", "Write it exactly.")
        close = nearest(name, self.names) or nearest(name.lower(), [known.lower() for known in self.names])
        remedy = close or "Add its vector, or name one that is there."
        raise fail("class vectors", f"a vector for class {name!r}", f"none among {len(self.names)} names", remedy)

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """Return the vectors of ``names``, ``(len(names), D)``, each looked up by :meth:`find`.

        Example:
            >>> ClassVectors(["a", "b"], np.eye(2)).rows(["B"])
            array([[0., 1.]])
        """
        index = {name: k for k, name in enumerate(self.names)}
        return self.vectors[[index[self.find(name)] for name in names]]


def read_vectors(path: str | os.PathLike[str]) -> ClassVectors:
    """Read class vectors from an ``.npz`` file with arrays ``names`` ``(K,)`` and ``vectors`` ``(K, D)``.

    ``names`` must be a text array; arrays of Python objects are pickles and are refused.

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
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise fail(where, what, f"one that can't be read ({error})", _REMEDY) from error
    if not {"names", "vectors"} <= arrays.keys():
        raise fail(where, what, f"arrays {', '.join(arrays) or 'none'}", _REMEDY)
    return _checked(where, arrays["names"], arrays["vectors"])


def _checked(where: str, names: np.ndarray, vectors: np.ndarray) -> ClassVectors:
    if names.dtype.kind != "U":
        raise fail(where, "names as text", f"dtype {names.dtype}", _REMEDY)
    if vectors.dtype.kind not in "fiu":
        raise fail(where, "vectors as numbers", f"dtype {vectors.dtype}", _REMEDY)
    check_shape(where, "names", names, ("K",))
    check_shape(where, "vectors", vectors, (len(names), "D"))
    repeated = [name for name, count in Counter(names.tolist()).items() if count > 1]
    if repeated:
        raise fail(where, "unique names", f"{repeated[0]!r} more than once")
    vectors = vectors.astype(np.float32)
    if not np.isfinite(vectors).all():
        bad = names[int(np.argwhere(~np.isfinite(vectors))[0, 0])]
        raise fail(where, "finite vectors", f"NaN or infinity in that of {str(bad)!r}")
    return ClassVectors(names.tolist(), vectors)


def _bare(name: str) -> str:
    """Only the letters and digits, case folded: what two spellings of one name share."""
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())
