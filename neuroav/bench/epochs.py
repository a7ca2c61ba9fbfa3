"""An epoch of TCaF as this package trains it, beside the released code's own: data, loader, loss, gradients, Adam.

Both train on the same simulated UCF clips (``cls`` features, training part) with the sizes of the released
``best_cls/best_ucf.yaml``; ours reads as released (:class:`~neuroav.baselines.tcaf.AsReleased`). The released side is
its own ``train_step`` over its ``ContrastiveDataset``, sampler, ``DefaultCollator`` and a ``DataLoader`` with 4 worker
processes, from a checkout of TCAF-GZSL on PYTHONPATH. Cases:

===================  =================================================================================================
batches of an epoch  what training does: batches drawn and put together, steps taken; the start of its workers included
steps                the same few batches given to both, ready beforehand: the models alone
===================  =================================================================================================

The released step ends with another pass through the model in training mode, and so costs four thirds of what it
learns from; ``neuroav, two passes`` does the same. Before anything is timed, loss and gradient of one batch with the
same weights are compared.

What the released code is given to run here: ``pandas``, ``configargparse`` and ``tensorboard`` may be missing (stood
in for at import, nothing timed uses them), ``.cuda()`` is the identity, its clips come from a store instead of
pickles, ragged lists are arrays of objects as numpy made them before 1.24, and the rate's schedule is off.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from neuroav.baselines.tcaf import TCAF, AsReleased, TCAFConfig
from neuroav.bench.page import figure, mebibytes, table, timed_row
from neuroav.bench.peers import load
from neuroav.bench.timing import Job, Runner, Timed
from neuroav.data.sample import AsStored, ClipData
from neuroav.data.store import LoadedClips, Store
from neuroav.data.synthetic import SyntheticConfig, open_or_generate
from neuroav.train.loop import TrainConfig, fit
from neuroav.train.optim import adam
from neuroav.train.seed import seed_torch

RELEASED, TWO_PASSES = "TCAF-GZSL", "neuroav, two passes"
EPOCH = 300  # batches, of 64 clips each, as released
BAR = 2.0
SAME = 1e-3  # relative, in float32
STAND_INS = ("pandas", "configargparse", "torch.utils.tensorboard")
TRAIN = TrainConfig(epochs=1, batch_size=64, lr=7e-5, weight_decay=1e-5, device="cpu")
PARTS = {"tokens.encoder.audio": "A_enc", "tokens.encoder.video": "V_enc", "clip": "O_proj"}
PARTS |= {"heads.word": "W_proj", "heads.rebuild_clip": "D_o", "heads.rebuild_word": "D_w"}
LAYER = {"query": "attn.to_q", "key": "attn.to_k", "value": "attn.to_v", "output": "attn.to_out"}
LAYER |= {"feed_forward": "ff.net"}
COLUMNS = ("case", "impl", "clips/s", "median s", "IQR s", "best s", "s an epoch", "peak MiB")


@dataclass(frozen=True)
class EpochCase:
    """Some batches of an epoch.

    Attributes:
        store: path of the simulated clips.
        batches: how many batches a run has.
        ready: whether they are put together beforehand.
    """

    store: str
    batches: int = 6
    ready: bool = False
    unit: ClassVar[str] = "Mclip/s"

    @property
    def name(self) -> str:
        """How rows call it."""
        what = "steps, batches ready" if self.ready else f"batches of an epoch of {EPOCH}"
        return f"TCaF on simulated UCF (cls), {self.batches} {what}"

    def clips(self) -> tuple[LoadedClips, list[str], np.ndarray]:
        """Training clips, names of all classes and their vectors."""
        with Store(self.store) as store:
            chosen = [i for i, part in enumerate(store.parts) if part == "train"]
            return store.load(chosen), list(store.class_names), np.asarray(store.class_vectors)

    def draws(self, labels: np.ndarray) -> list[np.ndarray]:
        """Clips of the batches that are put together beforehand."""
        rng = np.random.default_rng(0)
        return [rng.integers(len(labels), size=TRAIN.batch_size) for _ in range(self.batches)]


def cases(store: str) -> list[EpochCase]:
    """What is timed."""
    return [EpochCase(store), EpochCase(store, batches=2, ready=True)]


@contextmanager
def simulated(store: str | None) -> Iterator[str]:
    """Path of the simulated clips, made where they are missing; without one in a folder that is removed."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "ucf.h5") if store is None else store
        open_or_generate(SyntheticConfig(benchmark="ucf", features="cls"), path).close()
        yield path


# --------------------------------------------------------------------------------------------------------------- ours


def start_neuroav(case: EpochCase, two_passes: bool = False) -> Runner:
    """Our loop, as ``neuroav run`` has it."""
    data, model = ours(case, two_passes)
    figures = loss_and_gradient(model, lambda: sum_of(model.loss(data.batch(first(data)), torch.empty(0))))
    if case.ready:
        return _ready(case, data, model, figures)
    seeds, train = count(), TrainConfig(**vars(TRAIN) | {"batches": case.batches})

    def run() -> float:
        return fit(model, data, train, seed=next(seeds), stage=1, validate=lambda model: (0.0, 0.0)).history[0].loss

    return Runner(lambda: run, lambda loss: figures)


def _ready(case: EpochCase, data: ClipData, model: TCAF, figures: dict[str, float]) -> Runner:
    batches = [data.batch(drawn) for drawn in case.draws(data.labels.numpy())]
    optimizer = adam(model, TRAIN.lr, TRAIN.weight_decay)
    model.train()

    def run() -> None:
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            sum_of(model.loss(batch, torch.empty(0))).backward()
            optimizer.step()
            model.after_step(batch, torch.empty(0))

    return Runner(lambda: run, lambda nothing: figures)


def start_two_passes(case: EpochCase) -> Runner:
    """Our step with the released code's second pass."""
    return start_neuroav(case, two_passes=True)


def ours(case: EpochCase, two_passes: bool = False) -> tuple[ClipData, TCAF]:
    """Raw features, and our model of the released sizes with the weights that all begin with."""
    clips, _, vectors = case.clips()
    data = ClipData(clips, AsStored().statistics(clips), vectors)
    seed_torch(0)
    return data, TCAF(data.spec, TCAFConfig(reading=AsReleased(second_pass=two_passes)))


def first(data: Any) -> np.ndarray:
    """Clips of the batch on which losses are compared: 64, evenly spread."""
    return np.linspace(0, len(data) - 1, TRAIN.batch_size).astype(np.int64)


def sum_of(terms: dict[str, Tensor]) -> Tensor:
    """The loss."""
    return torch.stack(list(terms.values())).sum()


def loss_and_gradient(model: nn.Module, loss: Callable[[], Tensor]) -> dict[str, float]:
    """Loss in training mode without dropout, and the norm of its gradient; statistics move, weights do not."""
    drops = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    rates = [drop.p for drop in drops]
    for drop in drops:
        drop.p = 0.0
    model.train()
    value = loss()
    value.backward()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    for drop, rate in zip(drops, rates, strict=True):
        drop.p = rate
    model.zero_grad(set_to_none=True)
    return {"loss": value.item(), "gradient": torch.stack(norms).norm().item()}


# ------------------------------------------------------------------------------------------------- the released code


def start_released(case: EpochCase) -> Runner:
    """The released training step over the released loader."""
    with _stand_ins():
        released = SimpleNamespace(
            step=load("src.train").train_step, data=load("src.dataset"), sampler=load("src.sampler").SamplerFactory
        )
        build = load("src.model_sequence").Multimodal_Sequence_Transformer
        parameters = load("src.utils_improvements").get_model_params
    setattr(torch.Tensor, "cuda", _stay)  # noqa: B010, mypy would want torch's signature
    args = _settings(Path(released.data.__file__).parents[1])
    clips = released.data.ContrastiveDataset(_dataset(released.data.UCFDataset, args, *case.clips()))
    model = build(_parameters(parameters, args), args.input_size_audio, args.input_size_video)
    model.load_state_dict(released_state(ours(case, two_passes=True)[1], model.state_dict()))
    collate = released.data.DefaultCollator(
        mode=args.batch_seqlen_train, max_len=args.batch_seqlen_train_maxlen, trim=args.batch_seqlen_train_trim
    )
    figures = loss_and_gradient(model, lambda: _released_loss(model, clips, collate))
    silent = _Silent()

    def run(loader: Any) -> float:
        return released.step(loader, model, None, None, 0, 1, silent, "cpu", [], silent, args)

    if case.ready:
        batches = [collate([clips[i] for i in drawn]) for drawn in case.draws(clips.targets.numpy())]
        return Runner(lambda: partial(run, _Batches(clips, batches)), lambda loss: figures)
    sampler = released.sampler(silent).get(
        class_idxs=list(clips.target_to_indices.values()),
        batch_size=args.bs,
        n_batches=case.batches,
        alpha=1,
        kind="random",
    )
    loader = torch.utils.data.DataLoader(
        dataset=clips,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=4,
        multiprocessing_context="fork",  # what it is started with elsewhere; this process was spawned
    )
    return Runner(lambda: partial(run, loader), lambda loss: figures)


def _stay(tensor: Tensor) -> Tensor:
    return tensor


class _Silent:
    """Takes any call: a logger, a TensorBoard writer, a file of statistics."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class _Batches(list[Any]):
    """Batches in place of a loader; the released step overwrites their labels, so they are copies."""

    def __init__(self, dataset: Any, batches: Sequence[Any]):
        super().__init__((data, {key: value.clone() for key, value in target.items()}) for data, target in batches)
        self.dataset = dataset


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Let modules be imported that nothing timed uses."""
    missing = [name for name in STAND_INS if name == STAND_INS[-1] or find_spec(name) is None]
    for name in missing:
        module = ModuleType(name)
        module.__dict__["SummaryWriter"] = _Silent
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def _settings(root: Path) -> SimpleNamespace:
    """The released settings for UCF with cls features."""
    yaml = load("yaml")
    files = ("config/default.yaml", "config/best/best_cls/best_ucf.yaml")
    values = {key: value for name in files for key, value in yaml.safe_load((root / name).read_text()).items()}
    values |= {"root_dir": root / "avgzsl_benchmark_non_averaged_datasets" / "UCF", "lr_scheduler": False}
    return SimpleNamespace(**values)


def _parameters(get: Callable[..., dict[str, Any]], args: SimpleNamespace) -> dict[str, Any]:
    """What the released model is built from, by the names that its function gives to the settings."""
    import inspect

    other = {
        "dropout_encoder": "embedding_dropout",
        "dropout_decoder": "decoder_dropout",
        "encoder_hidden_size": "embeddings_hidden_size",
    }
    return get(**{name: getattr(args, other.get(name, name)) for name in inspect.signature(get).parameters})


def _dataset(base: Any, args: Any, clips: LoadedClips, names: list[str], vectors: np.ndarray) -> Any:
    """The released data set of UCF, filled with clips of a store."""
    audio = np.split(clips.audio, clips.audio_offsets[1:-1])
    video = np.split(clips.video, clips.offsets[1:-1])

    class Simulated(base):
        def preprocess(self) -> None:
            pass

        def get_data(self) -> dict[str, dict[str, Any]]:
            ids = [self.class_to_idx[name.lower()] for name in names]
            text = np.zeros((len(self.all_class_names), vectors.shape[1]), np.float32)
            text[ids] = vectors
            common: dict[str, Any] = {"target": torch.tensor([ids[label] for label in clips.labels])}
            common |= {"url": np.array([""] * len(clips)), "fps": [25] * len(clips)}
            return {"audio": common | {"data": audio}, "video": common | {"data": video}, "text": {"data": list(text)}}

        @property
        def all_data(self) -> dict[str, Any]:
            chosen = np.where(np.isin(self.data["audio"]["target"], self.classes))[0]
            return {
                "audio": _objects(self.data["audio"]["data"])[chosen],
                "video": _objects(self.data["video"]["data"])[chosen],
                "text": np.array(self.data["text"]["data"])[sorted(self.classes.astype(int))],
                "target": self.data["audio"]["target"].numpy()[chosen],
                "url": self.data["audio"]["url"][chosen],
                "fps": np.array(self.data["audio"]["fps"])[chosen],
            }

    return Simulated(args=args, dataset_split="train", zero_shot_mode="train")


def _objects(arrays: Sequence[np.ndarray]) -> np.ndarray:
    found = np.empty(len(arrays), object)
    for i, array in enumerate(arrays):
        found[i] = array
    return found


def _released_loss(model: Any, clips: Any, collate: Callable[..., Any]) -> Tensor:
    data, target = collate([clips[i] for i in first(clips)])
    words, place = clips.zsl_dataset.map_embeddings_target
    given = data["positive"]
    row = torch.tensor([place[int(label)] for label in target["positive"]])
    masks = {"audio": given["audio_mask"], "video": given["video_mask"]}
    inputs = (given["audio"], given["video"], row, given["text"], masks, given["timestep"])
    return model.optimize_params(*inputs, embedding_crossentropy=words, optimize=False)[0]


def released_name(ours: str) -> str:
    """Return what the released code calls one of our parameters or buffers.

    Example:
        >>> released_name("tokens.encoder.audio.norm.1.bias"), released_name("transformer.layers.0.query.weight")
        ('A_enc.fc.5.bias', 'Audio_visual_transformer.layers.0.attn.to_q.weight')
    """
    position = "position_encoder_block"
    for part, theirs in PARTS.items():
        if ours.startswith(f"{part}."):
            kind, index, leaf = ours.removeprefix(f"{part}.").split(".")
            return f"{theirs}.fc.{4 * int(index) + (kind == 'norm')}.{leaf}"
    head, _, rest = ours.partition(".")
    if head == "transformer":
        _, index, block, leaf = rest.split(".", 3)
        return f"Audio_visual_transformer.layers.{index}.{LAYER.get(block, block)}.{leaf}"
    if head == "token":
        return "cls_token"
    kind, _, rest = rest.partition(".")
    if kind == "time":
        return f"{position}.fourier_{'randn' if rest == 'frequency' else 'embeddings.' + rest.removeprefix('linear.')}"
    modality, _, rest = rest.partition(".")
    if rest == "modality":
        return f"{position}.modal_embedding.weight"
    return f"{position}.out_proj_{modality}.{rest.removeprefix('linear.')}"


def released_state(model: TCAF, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights in the released names and shapes; what we have no counterpart of stays as in ``theirs``."""
    found = dict(theirs)
    for name, value in model.state_dict().items():
        key = released_name(name)
        if not name.endswith("modality"):
            found[key] = value.reshape(theirs[key].shape)
    weights = model.state_dict()
    modality = [weights[f"tokens.position.{name}.modality"] for name in ("audio", "video")]
    found["position_encoder_block.modal_embedding.weight"] = torch.stack(modality)
    for key in theirs:  # the released model has its position encoder under a second name
        found[key] = found[key.replace("audiovisual_embeddings", "position_encoder_block")]
    return found


# --------------------------------------------------------------------------------------------------------------- rows


STARTS = {"neuroav": start_neuroav, TWO_PASSES: start_two_passes, RELEASED: start_released}


def jobs_of(case: EpochCase, threads: int) -> list[Job]:
    """What is timed side by side."""
    impls = ["neuroav", TWO_PASSES, RELEASED] if case.ready else ["neuroav", RELEASED]
    return [Job(impl, STARTS[impl], (case,), threads) for impl in impls]


def verify(timed: list[Timed]) -> None:
    """Refuse what has another loss or gradient than ours."""
    ours = timed[0]
    for one in timed[1:]:
        if ours.skipped or one.skipped:
            continue
        for name, value in one.figures.items():
            if not abs(value - ours.figures[name]) <= SAME * abs(ours.figures[name]):
                one.skipped = f"its {name} is {value:.6f}, ours {ours.figures[name]:.6f}"


def rows_of(case: EpochCase, timed: Sequence[Timed]) -> list[dict[str, Any]]:
    """One row for each implementation that was timed."""
    clips, rows = case.batches * TRAIN.batch_size, []
    for one in timed:
        if one.samples_s and not one.skipped:
            row = timed_row("train", case.name, one, clips, case.unit)
            row |= {"best_s": min(one.samples_s), "clips_per_s": clips / one.median_s}
            rows.append(
                row | {"samples_s": one.samples_s, "epoch_s": one.median_s * EPOCH / case.batches} | one.figures
            )
    return rows


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how many times longer the released code takes than we do, of medians and of best times, per case."""
    found = []
    for released in (row for row in rows if row["impl"] == RELEASED):
        for row in (row for row in rows if row["case"] == released["case"] and row is not released):
            ratio, best = (released[key] / row[key] for key in ("median_s", "best_s"))
            what = f"{RELEASED} / {row['impl']}"
            found.append({"case": row["case"], "what": what, "ratio": ratio, "best_ratio": best})
    return found


def markdown(report: dict[str, Any]) -> list[str]:
    """Return the lines of the report on TCaF, none if it was not timed."""
    rows = [row for row in report["rows"] if "epoch_s" in row]
    if not rows:
        return []
    lines = ["", "## TCaF beside the released code", "", *table(COLUMNS, map(_cells, rows)), ""]
    for one in report["ratios"]:
        verdict = "reached" if one["ratio"] >= BAR else "missed"
        figures = f"{one['ratio']:.2f} (best times: {one['best_ratio']:.2f})"
        lines.append(f"* {one['case']}: {one['what']}: {figures}; bar {BAR:.0f}: {verdict}")
    notes = (
        f"An epoch is {EPOCH} batches of {TRAIN.batch_size}, its time that of the batches timed, scaled. The released "
        "loader has 4 worker processes, on whatever cores there are; their start weighs more in few batches than in an "
        "epoch, whose ratio is to be expected between those of batches and of steps. Same weights: same loss and "
        "gradient on a batch."
    )
    return [*lines, "", notes, ""]


def _cells(row: dict[str, Any]) -> list[str]:
    times = [figure(row, key, ".2f") for key in ("median_s", "iqr_s", "best_s")]
    return [row["case"], row["impl"], f"{row['clips_per_s']:.1f}", *times, f"{row['epoch_s']:.0f}", mebibytes(row)]
