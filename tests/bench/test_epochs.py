"""TCaF beside the released code: names of weights, what its data set is given, what is compared and written."""

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from neuroav.bench import epochs as bench
from neuroav.bench import train
from neuroav.bench.epochs import EpochCase
from neuroav.bench.timing import Job, Timed
from neuroav.checks import InputError
from neuroav.cli import main
from neuroav.data.store import LoadedClips, Store
from neuroav.data.synthetic import SyntheticConfig, generate

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "models" / "tcaf_train.npz"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("epochs") / "ucf.h5"
    generate(SyntheticConfig(benchmark="ucf", features="cls", share=0.001, stretch=0.2), path, quiet=True)
    return str(path)


@pytest.fixture
def small(monkeypatch):
    """A model of the same parts that takes no time."""
    config = bench.TCAFConfig(dim=8, encoder_hidden=8, hidden=8, layers=2, heads=2, head_dim=4, feed_forward=8)
    monkeypatch.setattr(bench, "TCAFConfig", lambda reading: dataclasses.replace(config, reading=reading))


@pytest.mark.skipif(not GOLDEN.is_file(), reason="the golden fixtures of the models are not here")
def test_every_weight_has_a_released_name(store):
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        released = {key.removeprefix("param.") for key in arrays.files if key.startswith("param.")}
    names = {bench.released_name(name) for name in bench.ours(EpochCase(store), two_passes=True)[1].state_dict()}

    def of_one_layer(given):
        return {name for name in given if "num_batches" not in name and ("layers" not in name or "layers.0." in name)}

    released.remove("position_encoder_block.pad_embedding.weight")  # we have no such vector
    assert of_one_layer(names) == of_one_layer(released)


def test_weights_go_over_in_the_released_shapes(store, small):
    _, model = bench.ours(EpochCase(store), two_passes=True)
    state = model.state_dict()
    shapes = {bench.released_name(name): value.shape for name, value in state.items()}
    projection = "position_encoder_block.out_proj_audio.weight"
    theirs = {name: torch.zeros(shape) for name, shape in shapes.items()} | {
        projection: torch.zeros(*shapes[projection], 1),
        "position_encoder_block.modal_embedding.weight": torch.zeros(2, 64),
        "position_encoder_block.pad_embedding.weight": torch.full((1, 64), 7.0),
    }
    theirs |= {
        name.replace("position_encoder_block", "audiovisual_embeddings"): value for name, value in theirs.items()
    }
    found = bench.released_state(model, theirs)
    assert {name: value.shape for name, value in found.items()} == {n: v.shape for n, v in theirs.items()}
    assert torch.equal(found["A_enc.fc.0.weight"], state["tokens.encoder.audio.linear.0.weight"])
    for block in ("position_encoder_block", "audiovisual_embeddings"):
        assert torch.equal(
            found[f"{block}.out_proj_audio.weight"][..., 0], state["tokens.position.audio.linear.weight"]
        )
        assert torch.equal(found[f"{block}.modal_embedding.weight"][1], state["tokens.position.video.modality"])
        assert (found[f"{block}.pad_embedding.weight"] == 7).all()


def test_the_released_data_set_is_given_the_clips_under_its_own_class_numbers():
    class Base:
        """As the released class: numbers by sorted lower-case name, training classes only."""

        def __init__(self, args, dataset_split, zero_shot_mode):
            assert (dataset_split, zero_shot_mode) == ("train", "train")
            self.preprocess()
            self.data = self.get_data()

        all_class_names = ("Archery", "Biking", "Unused", "YoYo")
        class_to_idx = {"archery": 0, "biking": 1, "unused": 2, "yoyo": 3}  # noqa: RUF012
        classes = np.array([0, 3])

    clips = LoadedClips(
        t_s=np.zeros(6, np.float32),
        video=np.arange(12, dtype=np.float32).reshape(6, 2),
        audio=np.arange(4, dtype=np.float32).reshape(4, 1),
        motion=None,
        offsets=np.array([0, 1, 4, 6]),
        labels=np.array([2, 0, 1]),
        audio_t_s=np.zeros(4, np.float32),
        audio_offsets=np.array([0, 2, 3, 4]),
    )
    vectors = np.array([[1.0], [2.0], [3.0]], np.float32)
    data = bench._dataset(Base, None, clips, ["Archery", "Biking", "YoYo"], vectors).all_data
    assert data["target"].tolist() == [3, 0]  # Biking is no training class
    assert [video[:, 0].tolist() for video in data["video"]] == [[0], [2, 4, 6]]
    assert [audio[:, 0].tolist() for audio in data["audio"]] == [[0, 1], [2]]
    assert data["text"].tolist() == [[1], [3]]
    assert len(data["url"]) == len(data["fps"]) == 2


def test_loss_and_gradient_are_those_without_dropout():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Dropout(0.9)).eval()
    nn.init.constant_(model[0].weight, 3.0)
    found = bench.loss_and_gradient(model, lambda: model(torch.full((1, 1), 2.0)).square().sum())
    assert found == {"loss": 36.0, "gradient": 24.0}  # (2 w)^2 and 8 w
    assert model[1].p == 0.9
    assert model[0].weight.grad is None


@pytest.mark.parametrize("impl", ["neuroav", bench.TWO_PASSES])
def test_ready_batches_are_trained_on(store, small, impl, monkeypatch):
    built, passes = [], []
    ours = bench.ours
    monkeypatch.setattr(bench, "ours", lambda *given: built.append(ours(*given)) or built[-1])
    monkeypatch.setattr(bench.TCAF, "embed", lambda model, batch: passes.append(batch))
    runner = bench.STARTS[impl](EpochCase(store, batches=2, ready=True))
    ((data, model),) = built
    before = model.token.clone()
    figures = runner.describe(runner.prepare()())
    assert len(passes) == (2 if impl == bench.TWO_PASSES else 0)
    assert not torch.equal(model.token, before)
    assert math.isfinite(figures["loss"])
    assert figures["gradient"] > 0
    assert data.batch(bench.first(data)).size == 64


def test_an_epoch_is_the_packages_own_and_draws_anew_each_time(store, small, monkeypatch):
    seen = []
    fit = bench.fit

    def noted(model, data, config, **options):
        seen.append((config.batches, config.batch_size, config.lr, options["seed"]))
        return fit(model, data, config, **options)

    monkeypatch.setattr(bench, "fit", noted)
    runner = bench.start_neuroav(EpochCase(store, batches=2))
    assert np.isfinite([runner.prepare()() for _ in range(2)]).all()
    assert seen == [(2, 64, 7e-5, 0), (2, 64, 7e-5, 1)]


def test_released_batches_are_copies_of_their_labels():
    target = {"positive": torch.tensor([4, 5])}
    batches = bench._Batches("the data set", [("data", target)])
    batches[0][1]["positive"][0] = 0
    assert target["positive"].tolist() == [4, 5]
    assert batches.dataset == "the data set"


def test_another_loss_is_refused():
    def timed(loss, gradient=2.0):
        return Timed(Job("x", bench.start_neuroav), {"loss": loss, "gradient": gradient})

    same, loss, gradient, nan = timed(1.0005), timed(1.01), timed(1.0, 2.1), timed(math.nan)
    bench.verify([timed(1.0), same, loss, gradient, nan])
    assert same.skipped == ""
    assert loss.skipped == "its loss is 1.010000, ours 1.000000"
    assert gradient.skipped == "its gradient is 2.100000, ours 2.000000"
    assert nan.skipped.startswith("its loss is nan")


def report_of(monkeypatch, in_this_process, tmp_path, store, released_threads):
    def start(case):
        return SimpleNamespace(prepare=lambda: lambda: None, describe=lambda n: {"loss": 1.0}, finish=lambda: None)

    def jobs(case, threads):
        return [Job("neuroav", start, (case,), 4), Job(bench.RELEASED, start, (case,), released_threads)]

    monkeypatch.setattr(train, "CASES", ())
    monkeypatch.setattr(bench, "cases", lambda path: [EpochCase(path, batches=3)])
    monkeypatch.setattr(bench, "jobs_of", jobs)
    monkeypatch.setattr(bench, "open_or_generate", lambda config, path: Store(path))
    monkeypatch.setattr(train, "time_side_by_side", in_this_process)
    figures, out = tmp_path / "train.json", tmp_path / "train.md"
    files = ["--json", str(figures), "--out", str(out)]
    assert main(["bench", "train", "--peers", "--repeats", "2", "--store", store, *files]) == 0
    return json.loads(figures.read_text()), out.read_text()


def test_rows_say_clips_a_second_and_seconds_an_epoch(monkeypatch, in_this_process, tmp_path, store):
    report, page = report_of(monkeypatch, in_this_process, tmp_path, store, released_threads=1)
    ours, released = report["rows"]  # a sample takes a second per thread
    assert (ours["median_s"], ours["clips_per_s"], ours["epoch_s"]) == (0.25, 3 * 64 / 0.25, 25.0)
    assert (released["clips_per_s"], released["epoch_s"]) == (192.0, 100.0)
    assert report["ratios"] == [{"case": ours["case"], "what": "TCAF-GZSL / neuroav", "ratio": 4.0, "best_ratio": 4.0}]
    assert "TCAF-GZSL / neuroav: 4.00 (best times: 4.00); bar 2: reached" in page
    assert "| neuroav | 768.0 | 0.25 | 0.00 | 0.25 | 25 | 1 |" in page


def test_a_missed_bar_is_said(monkeypatch, in_this_process, tmp_path, store):
    _, page = report_of(monkeypatch, in_this_process, tmp_path, store, released_threads=3)
    assert "TCAF-GZSL / neuroav: 1.33 (best times: 1.33); bar 2: missed" in page


def test_a_checkout_that_is_not_there_is_said(store):
    with pytest.raises(InputError, match=r"Put a checkout of github.com/ExplainableML/TCAF-GZSL on PYTHONPATH"):
        bench.start_released(EpochCase(store))
