"""Our AVCA, read as released, gives the numbers of the released code: outputs, loss terms, gradients, a whole step."""

import pytest
import torch
from pair_case import PairCase, sizes

from neuroav.baselines.avca import AVCA, AVCAConfig
from neuroav.data.types import Batch, DataSpec, Sequence

MODELS = [("models", "avca_eval"), ("models", "avca_train")]
REAL = [("real_size", f"avca_{features}_{mode}") for features in ("main", "cls") for mode in ("eval", "train")]


@pytest.fixture
def case(golden):
    """Open ``case(folder, name)``."""

    def read(folder, name, dtype=torch.float64):
        found = golden(folder, name)
        hyper = found.hyper
        spec = DataSpec(audio_dim=hyper["input_audio"], video_dim=hyper["input_video"], text_dim=hyper.get("W", 300))
        return PairCase(found, AVCA(spec, AVCAConfig(**sizes(hyper))), dtype)

    return read


@pytest.mark.parametrize(("folder", "name"), MODELS + REAL)
def test_outputs_and_loss_terms_match(case, folder, name):
    opened = case(folder, name)
    opened.check_outputs()
    opened.check_terms()
    if name.endswith("eval"):
        opened.check_distances()


@pytest.mark.parametrize(("folder", "name"), MODELS + REAL)
def test_gradients_match(case, folder, name):
    case(folder, name).check_gradients()


def test_running_statistics_and_a_whole_step_match(case):
    opened = case("models", "avca_train")
    buffers = [name for name, _ in opened.model.named_buffers()]
    assert opened.check_step() == [len(buffers) - 1, len(opened.model.state_dict())]  # all but the places, then all


def test_single_precision(case):
    opened = case("models", "avca_train", torch.float32)
    opened.check_outputs(rtol=1e-5, atol=1e-5)
    opened.check_terms(rtol=1e-5)


def test_the_loss_of_a_batch_is_that_of_clips_and_negatives(case):
    """Clips and negatives side by side in one batch, as the training loop hands them over."""
    opened = case("models", "avca_eval")
    size = len(opened.positive.audio)
    both = [torch.cat(parts) for parts in zip(opened.positive, opened.negative, strict=True)]
    step = torch.zeros(1, 2 * size), torch.ones(1, 2 * size, dtype=torch.bool)
    batch = Batch(Sequence(both[0][None], *step), Sequence(both[1][None], *step), None, torch.zeros(2 * size), both[2])
    rows = torch.arange(2 * size).roll(size)
    terms = opened.model.loss(batch, rows)
    back = opened.model.terms(*opened.model.embed([opened.negative, opened.positive]))
    for name, value in opened.terms().items():
        torch.testing.assert_close(terms[name], (value + back[name]) / 2)
