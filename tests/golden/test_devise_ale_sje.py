"""Our DeViSE, ALE and SJE, read as released, give the numbers of the released code: scores, loss, gradient, a step."""

import numpy as np
import pytest
import torch

from neuroav.baselines.ale import ALE
from neuroav.baselines.devise import DeViSE
from neuroav.baselines.sje import SJE
from neuroav.data.types import Batch, Classes, DataSpec, Sequence
from neuroav.nn.bilinear import AsGiven, AsReleased, BilinearConfig, UnitLength
from neuroav.train.optim import adam

KINDS = {"devise": DeViSE, "ale": ALE, "sje": SJE}
SMALL = [("models", f"{name}{scale}_train") for name in KINDS for scale in ("", "_norm_inputs")]
CASES = SMALL + [("real_size", f"{name}_main_{mode}") for name in KINDS for mode in ("eval", "train")]


class Case:
    """One fixture: our model with its weights, its batch and what came out; the released input has video first."""

    def __init__(self, golden, dtype=torch.float64):
        self.golden, hyper = golden, golden.hyper
        # The released table of ALE's weights is float32 whatever the run.
        self.exact = {"rtol": 1e-6, "atol": 1e-8} if hyper["model"] == "ale" else {"rtol": 1e-9, "atol": 1e-11}
        given = golden.clips(dtype)
        scale = UnitLength() if hyper.get("norm_inputs") else AsGiven()
        config = BilinearConfig(margin=hyper.get("margin", 0.1), dropout=0.0, scale=scale, reading=AsReleased())
        self.audio_dim = given["audio"].shape[1]
        spec = DataSpec(**{f"{name}_dim": given[name].shape[1] for name in ("audio", "video", "text")})
        self.model = KINDS[hyper["model"]](spec, config).to(dtype).train(golden.training)
        self.weight = self.model.bilinear.linear.weight
        released = golden.parameter("bilinear.weight", self.weight.shape)
        with torch.no_grad():
            self.weight.copy_(self.turned(torch.from_numpy(released), -self.audio_dim))
        vectors, label = given["class_embeddings"], given["row"]
        audio, video = (once(given[name]) for name in ("audio", "video"))
        self.batch = Batch(audio, video, None, label, given["text"], Classes(torch.arange(len(vectors)), vectors))

    def turned(self, weight, by):
        """Columns of a weight moved round, from our order to the released one by the width of audio."""
        return torch.cat([weight[:, by:], weight[:, :by]], 1)

    def loss(self):
        (value,) = self.model.loss(self.batch, torch.empty(0)).values()
        return value


def once(values):
    """Rows as sequences of one step."""
    return Sequence(values[None], torch.zeros(1, len(values)), torch.ones(1, len(values), dtype=torch.bool))


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_scores_loss_and_gradient_match(golden, folder, name):
    case = Case(golden(folder, name))
    x = torch.cat([case.batch.audio.values[0], case.batch.video.values[0]], 1)
    vectors = case.batch.classes.text
    case.golden.check(case.model.bilinear.project(x), "out.projection")
    case.golden.check(case.model.bilinear.scores(x, vectors), "out.scores")
    apart = np.linalg.norm(case.golden.arrays["out.projection"][:, None] - vectors.numpy(), axis=2)
    np.testing.assert_allclose(case.model.distances(case.batch, vectors).detach().numpy(), apart, rtol=1e-9)
    loss = case.loss()
    case.golden.check(loss, "loss.total", **case.exact)
    loss.backward()
    gradient = case.turned(case.weight.grad, case.audio_dim)
    if folder == "models":
        case.golden.check(gradient, "grad.bilinear.weight", **case.exact)
    np.testing.assert_allclose([gradient.norm()], case.golden.arrays["gradnorm.values"], rtol=case.exact["rtol"])


@pytest.mark.parametrize(("folder", "name"), SMALL)
def test_a_whole_step_matches(golden, folder, name):
    case = Case(golden(folder, name))
    optimizer = adam(case.model, case.golden.hyper["lr"], 0.0)
    case.loss().backward()
    optimizer.step()
    found = case.turned(case.weight, case.audio_dim)
    case.golden.check(found, "after_step.bilinear.weight", rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_single_precision_is_near(golden, name):
    case = Case(golden("models", f"{name}_train"), torch.float32)
    case.golden.check(case.loss(), "loss.total", rtol=1e-5)
