"""What a run directory holds for its page: ``results.json``, the arrays of ``arrays.npz``, any ``energy.json``."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroav.checks import fail
from neuroav.files import load_json
from neuroav.report import tables

Array = NDArray[Any]

# How the arrays of several runs are joined, by the beginnings and ends of their names.
_EXAMPLE = ("clip.", "raster.")
_SAME = {
    "confusion": ("confusion.classes", "confusion.seen"),
    "embedding": ("embedding.classes", "embedding.seen", "embedding.names"),
}
_STEPS = {"curve": "beta", "log": "step"}


@dataclass(frozen=True)
class Run:
    """What a run directory holds: ``results.json``, the arrays of ``arrays.npz`` by name, and any ``energy.json``."""

    results: Mapping[str, Any]
    arrays: Mapping[str, Array]
    energy: dict[str, Any] | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``results.json``."""
        return self.results.get("rows", [])

    def names(self, start: str, end: str) -> list[str]:
        """Return what stands between ``start`` and ``end`` in the array names that have both, in stored order.

        Example:
            >>> Run({}, {"raster.video.0.spikes": np.zeros(1), "raster.t_s": np.zeros(1)}).names("raster.", ".spikes")
            ['video.0']
        """
        return [
            name[len(start) : len(name) - len(end)]
            for name in self.arrays
            if name.startswith(start) and name.endswith(end) and len(name) > len(start) + len(end)
        ]

    def listed(self, models: Iterable[str]) -> list[str]:
        """Sort models as the table lists them; any other comes last."""
        order = tables.models_in(self.rows)
        return sorted(models, key=lambda model: order.index(model) if model in order else len(order))

    def by_model(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Group ``model|test set`` names by model, in the order of the table."""
        found: dict[str, list[str]] = {}
        for key in keys:
            model, _, test_set = key.rpartition("|")
            found.setdefault(model or test_set, []).append(test_set)
        return {model: found[model] for model in self.listed(found)}


def read_results(run_dir: Path, figures: Sequence[str] = ()) -> dict[str, Any]:
    """Read ``results.json`` of a run or of a comparison, whose rows have these figures.

    Raises:
        InputError: If it is missing, or is not what was written there.
    """
    path = run_dir / "results.json"
    if not path.is_file():
        remedy = "Give the directory that neuroav demo or neuroav run wrote."
        raise fail(str(run_dir), "a run directory with results.json", "none", remedy)
    results = load_json(path, "Run it again in another directory.")
    rows, needed = results.get("rows", []), {"model", "test_set", *figures}
    if not (
        isinstance(rows, list)
        and (rows or not figures)
        and all(isinstance(row, dict) and needed <= row.keys() for row in rows)
    ):
        expected = f"rows that have {', '.join(sorted(needed))}"
        raise fail(str(path), expected, "other rows", "Run it again in another directory.")
    return results


def read_run(run_dir: Path) -> Run:
    """Read the files of a run directory; without ``arrays.npz`` the page has no figures of a clip.

    ``energy.json`` lies there if ``neuroav energy`` wrote it there.

    Raises:
        InputError: If ``results.json`` is missing, or a file is not what was written there.
    """
    results = read_results(run_dir)
    return Run(results, read_arrays(run_dir / "arrays.npz"), _read_energy(run_dir / "energy.json"))


def read_arrays(path: Path) -> dict[str, Array]:
    """Read ``arrays.npz``; empty if there is none.

    Raises:
        InputError: If it can't be read, or holds pickled objects.
    """
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise fail(str(path), "arrays without pickled objects", str(error), "Run the experiment again.") from None


def _read_energy(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    remedy = "Run neuroav energy again, or remove the file."
    report = load_json(path, remedy)
    if not report.get("rows"):
        raise fail(str(path), "rows of neuroav energy", "none", remedy)
    return report


def join(runs: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the arrays of a comparison from those of its runs; several seeds of a model have the same names.

    ``runs`` are taken one at a time. Confusions are added up; curves of equal steps are stacked, ``(S, n)`` over seeds.
    The clip and its spikes are those of the first run that has spikes, or of the first; of everything else the first is
    kept. Confusions of other classes than the first run's, and embeddings of other clips, are left out.

    Example:
        >>> seeds = [{"confusion.m|test": np.array([[n]]), "log.m.step": np.arange(2)} for n in (1, 2)]
        >>> joined = join([seed | {"log.m.loss": np.zeros(2)} for seed in seeds])
        >>> joined["confusion.m|test"].tolist(), joined["log.m.loss"].shape
        ([[3]], (2, 2))
    """
    found: dict[str, list[Array]] = {}
    first: Mapping[str, Array] = {}
    example: dict[str, Array] = {}
    for arrays in runs:
        first = first or arrays
        if not example or ("raster.t_s" in arrays and "raster.t_s" not in example):
            example = {name: values for name, values in arrays.items() if name.startswith(_EXAMPLE)}
        others = [kind for kind, same in _SAME.items() if any(not _equal(first, arrays, name) for name in same)]
        for name, values in arrays.items():
            kind = name.split(".")[0]
            if (
                kind not in others
                and not name.startswith(_EXAMPLE)
                and (name not in found or kind in ("confusion", *_STEPS))
            ):
                found.setdefault(name, []).append(values)
    return example | {name: _joined(name, values, found) for name, values in found.items()}


def _equal(one: Mapping[str, Array], other: Mapping[str, Array], name: str) -> bool:
    return (name in one) == (name in other) and (name not in one or np.array_equal(one[name], other[name]))


def _joined(name: str, values: list[Array], found: Mapping[str, list[Array]]) -> Array:
    kind, key = name.split(".")[0], name.rpartition(".")[2]
    if kind == "confusion" and "|" in name:
        return np.sum(values, axis=0)
    if kind not in _STEPS or key == _STEPS[kind] or len(values) == 1:
        return values[0]
    steps = found[f"{name.removesuffix(key)}{_STEPS[kind]}"]
    return np.stack(values) if all(np.array_equal(steps[0], each) for each in steps) else values[0]
