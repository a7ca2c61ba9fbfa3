"""Our APN, read as released, gives the numbers of the released code: predictions, loss terms, gradients, a step."""

import pytest
import torch

from neuroav.baselines.apn import APN, APNConfig, AsReleased
from neuroav.data.types import Batch, Classes, DataSpec, Sequence
from neuroav.nn.bilinear import AsGiven, UnitLength
from neuroav.train.optim import adam

NAMES = {"whole": "ALE_vector", "prototypes": "prototype_vectors.layer4"}
TERMS = {
    "class_whole": "ce_final_on_softmax",
    "regression_whole": "mse_final",
    "class_prototypes": "ce_layer4_on_softmax",
    "regression_prototypes": "mse_layer4",
}
SMALL = [("models", "apn_train"), ("models", "apn_norm_inputs_train")]
CASES = [*SMALL, ("real_size", "apn_main_eval"), ("real_size", "apn_main_train")]


class Case:
    """One fixture: our model with its weights, its batch and what came out; the released input has video first."""

    def __init__(self, golden, dtype=torch.float64):
        self.golden = golden
        given = golden.clips(dtype)
        scale = UnitLength() if golden.hyper.get("norm_inputs") else AsGiven()
        self.audio_dim = given["audio"].shape[1]
        spec = DataSpec(**{f"{name}_dim": given[name].shape[1] for name in ("audio", "video", "text")})
        self.model = APN(spec, APNConfig(scale=scale, reading=AsReleased())).to(dtype).train(golden.training)
        for ours, theirs in NAMES.items():
            weight = getattr(self.model, ours)
            released = torch.from_numpy(golden.parameter(theirs, (*weight.shape, 1, 1)))[:, :, 0, 0]
            with torch.no_grad():
                weight.copy_(torch.cat([released[:, -self.audio_dim :], released[:, : -self.audio_dim]], 1))
        vectors, label = given["class_embeddings"], given["row"]
        audio, video = (once(given[name]) for name in ("audio", "video"))
        self.batch = Batch(audio, video, None, label, given["text"], Classes(torch.arange(len(vectors)), vectors))

    def released(self, weight):
        """One of our weights, or its gradient, as the released code holds it."""
        return torch.cat([weight[:, self.audio_dim :], weight[:, : self.audio_dim]], 1)[:, :, None, None]

    def loss(self):
        return self.model.loss(self.batch, torch.empty(0))


def once(values):
    """Rows as sequences of one step."""
    return Sequence(values[None], torch.zeros(1, len(values)), torch.ones(1, len(values), dtype=torch.bool))


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_predictions_loss_terms_and_gradients_match(golden, folder, name):
    case = Case(golden(folder, name))
    vectors = case.batch.classes.text
    predicted = case.model.predict(case.batch)
    for ours, theirs in zip(predicted, ("final", "layer4"), strict=True):
        case.golden.check(ours, f"out.attributes_{theirs}")
    case.golden.check((predicted[0] @ vectors.t()).softmax(1), "out.softmax_final")
    apart = (torch.from_numpy(case.golden.arrays["out.attributes_final"])[:, None] - vectors).norm(dim=2)
    torch.testing.assert_close(case.model.distances(case.batch, vectors), apart, rtol=1e-9, atol=1e-9)
    terms = case.loss()
    for ours, theirs in TERMS.items():
        case.golden.check(terms[ours], f"loss.{theirs}")
    total = sum(terms.values())
    case.golden.check(total, "loss.total")
    total.backward()
    found = {theirs: case.released(getattr(case.model, ours).grad) for ours, theirs in NAMES.items()}
    assert case.golden.check_gradients(found) == {}


@pytest.mark.parametrize(("folder", "name"), SMALL)
def test_a_whole_step_matches(golden, folder, name):
    case = Case(golden(folder, name))
    optimizer = adam(case.model, case.golden.hyper["lr"], 0.0)
    sum(case.loss().values()).backward()
    optimizer.step()
    for ours, theirs in NAMES.items():
        found = case.released(getattr(case.model, ours))
        case.golden.check(found, f"after_step.{theirs}", rtol=1e-7, atol=1e-9)


def test_single_precision_is_near(golden):
    case = Case(golden("models", "apn_train"), torch.float32)
    case.golden.check(sum(case.loss().values()), "loss.total", rtol=1e-5)
