"""Which data a table is run on, and what a reader has to know of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from neuroav.checks import fail, nearest
from neuroav.config import Data, MotionScenesData, SimulatedData, StoreData
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.data.store import Store
from neuroav.data.synthetic import BENCHMARKS, SyntheticConfig
from neuroav.demo import slug
from neuroav.report.published import PublishedTable
from neuroav.table.size import SIZES


@dataclass(frozen=True)
class Source:
    """Data that a table is run on.

    Attributes:
        name: of its folder.
        data_set: whose printed scores stand beside ours.
        data: where clips come from.
        holds: what a store holds, which ``data`` doesn't tell.
    """

    name: str
    data_set: str
    data: Data
    holds: str = ""

    @property
    def sentence(self) -> str:
        """What the clips are, and what their scores may be compared with."""
        data = self.data
        if isinstance(data, MotionScenesData):
            return (
                f"MotionScenes {data.scenes.size}, scene bias {data.scene_bias:g}, is another data set than the "
                "printed one: scores can't be compared with the published ones, only the order of the rows."
            )
        if isinstance(data, SimulatedData):
            share = data.simulate.share
            part = "" if share == 1 else f" ({share:.1%} of its clips)"
            return f"Simulated {data.simulate.benchmark}{part}: our scores mean nothing beside the published ones."
        return self.holds


def data_sets(printed: PublishedTable) -> list[str]:
    """Data sets with columns in a printed table.

    Example:
        >>> from neuroav.report.published import published
        >>> data_sets(published("mdft.table2"))
        ['ucf']
    """
    found = dict.fromkeys(column.partition(".")[0] for column in printed.columns if "." in column)
    return [name for name in found if name in BENCHMARKS]


def choose_sources(
    printed: PublishedTable,
    size: str,
    data: str | None = None,
    stores: Sequence[str] = (),
    datasets: Sequence[str] = (),
) -> list[Source]:
    """What a table is run on; simulated UCF, or the table's first data set, where nothing else is asked for.

    Args:
        printed: the table.
        size: of :data:`SIZES`.
        data: ``motionscenes``, ``simulated``, or the store of any other data set.
        stores: ``NAME=FILE``, published features of one of the table's data sets.
        datasets: of the table's, those to simulate, or the one to print beside other data.

    Raises:
        InputError: If a data set is none of the table's, a store is missing or of another one, or two are of one name.
    """
    sources = _sources(printed, size, data, stores, datasets)
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise fail("neuroav table", "sources of different names", f"{name} twice", "Run them one by one.")
    return sources


def _sources(
    printed: PublishedTable, size: str, data: str | None, stores: Sequence[str], datasets: Sequence[str]
) -> list[Source]:
    known = data_sets(printed)
    for name in datasets:
        _check_data_set(f"--dataset {name}", printed.key, name, known)
    found = [_published_source(text, printed.key, known) for text in stores]
    if data in (None, "simulated"):
        given = {source.data_set for source in found}
        default = [] if found and data is None else [name for name in ("ucf", *known) if name in known][:1]
        wanted = [name for name in dict.fromkeys(datasets or default) if name not in given]
        return found + [_simulated(name, size) for name in wanted]
    assert data is not None
    if len(datasets) > 1:
        raise fail("--dataset", "one data set to print beside --data", ", ".join(datasets))
    beside = next(iter(datasets), next((name for name in ("ucf", *known) if name in known), ""))
    return [*found, _motionscenes(beside, size) if data == "motionscenes" else _other_store(data, beside)]


def _check_data_set(where: str, key: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise fail(where, f"a data set of {key} ({', '.join(known)})", repr(name), nearest(name, known))


def _published_source(text: str, key: str, known: Sequence[str]) -> Source:
    name, equals, file = text.partition("=")
    if not equals or not file:
        raise fail(f"--store {text}", "NAME=FILE such as ucf=ucf.h5", repr(text))
    where = f"--store {text}"
    _check_data_set(where, key, name, known)
    remedy = f"Make one with neuroav extract --from-avca or --from-tcaf DIR --dataset {name} -o {file}."
    if not Path(file).is_file():
        raise fail(where, "a feature store", "no such file", remedy)
    with closing(Store(file)) as store:
        settings = dict(store.settings)
    if settings.get("data_set") != name:
        what = settings.get("simulated") or settings.get("data_set") or "clips of another kind"
        raise fail(where, f"a store of the published features of {name}", f"one of {what}", remedy)
    features, split = settings.get("features"), settings.get("split")
    return Source(name, name, StoreData(store=file), f"Published features of {name}: {features}, {split} split.")


def _simulated(name: str, size: str) -> Source:
    share = SIZES[size].share[name]
    store = f"runs/data/simulated-{name}-main{'' if share == 1 else f'-{share:g}'}.h5"
    data = SimulatedData(store=store, simulate=SyntheticConfig(benchmark=name, share=share))
    return Source(f"simulated-{name}", name, data)


def _motionscenes(beside: str, size: str) -> Source:
    scenes = MotionScenesConfig(size=SIZES[size].scenes)
    data = MotionScenesData(store=f"runs/data/motionscenes-{scenes.size}.h5", scenes=scenes)
    return Source("motionscenes", beside, data)


def _other_store(file: str, beside: str) -> Source:
    where = f"--data {file}"
    if not Path(file).is_file():
        remedy = nearest(file, ["motionscenes", "simulated"])
        raise fail(where, "motionscenes, simulated, or the feature store of another data set", "no such file", remedy)
    Store(file).close()
    sentence = f"{file} is another data set than the printed one: only the order of the rows can be compared."
    return Source(slug(Path(file).stem), beside, StoreData(store=file), sentence)
