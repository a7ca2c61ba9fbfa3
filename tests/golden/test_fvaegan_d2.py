"""Our f-VAEGAN-D2, read as released, gives the numbers of the released loop: losses, gradients, a step of each part.

The released critics end with a bias, which cancels in every loss but the generator's, where it is a constant: it is
added here.
"""

import numpy as np
import pytest
import torch

from neuroav.baselines.fvaegan_d2 import FVAEGAND2, AsReleased, Draws, FVAEGAND2Config, divergence
from neuroav.data.types import Batch, DataSpec, Sequence
from neuroav.train.optim import adam

NAMES = {
    "critic.hidden": "netD.fc1",
    "critic.output": "netD.fc2",
    "marginal_critic.hidden": "netD2.fc1",
    "marginal_critic.output": "netD2.fc2",
    "generator.layers.0": "netG.MLP.L0",
    "generator.layers.2": "netG.MLP.L1",
    "encoder.hidden": "Encoder.MLP.L0",
    "encoder.mean": "Encoder.linear_means",
    "encoder.log_variance": "Encoder.linear_log_var",
}
SIZES = ["models", "real_size"]


def released_name(ours):
    """The released name of one of our parameters."""
    head, _, leaf = ours.rpartition(".")
    return f"{NAMES[head]}.{leaf}"


class Case:
    """One fixture: our model with its weights, its batch, its random numbers and what came out."""

    def __init__(self, golden, dtype=torch.float64):
        self.golden, hyper = golden, golden.hyper
        reading = AsReleased(adversarial=hyper["gan_weight"])
        config = FVAEGAND2Config(
            latent=hyper["latent"],
            hidden_encoder=hyper["encoder_layers"][1],
            hidden=hyper["decoder_layers"][0],
            hidden_critic=hyper["ndh"],
            penalty=hyper["lambda1"],
            reading=reading,
        )
        spec = DataSpec(audio_dim=hyper["audio"], video_dim=hyper["video"], text_dim=hyper["attSize"])
        self.model = FVAEGAND2(spec, config).to(dtype).train()
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(torch.from_numpy(golden.parameter(released_name(name), parameter.shape)))
        # Fake and rebuilt features are each judged once.
        self.biases = -2 * float(golden.parameter("netD.fc2.bias", (1,))[0])
        audio, video, self.text = (self.given(name, dtype) for name in ("audio", "video", "text"))
        label = torch.zeros(len(audio), dtype=torch.long)
        self.batch = Batch(once(audio), once(video), None, label, self.text)
        names = ("in.noise", "in.vae_eps", "in.gp_alpha_conditional", "in.gp_alpha_unconditional")
        self.draws = Draws(*(golden.tensor(name, dtype) for name in names))
        self.x = self.model.features(self.batch)
        self.fake = self.model.generator(self.draws.noise, self.text)

    def given(self, name, dtype):
        """An input, stored or made by the recipe."""
        if f"in.{name}" in self.golden.arrays:
            return self.golden.tensor(f"in.{name}", dtype)
        hyper = self.golden.hyper
        x = self.golden.draw(f"in.{name}", (hyper["batch"], hyper.get(name, hyper["attSize"])))
        x = x / np.linalg.norm(x, axis=1, keepdims=True) if name == "text" else np.abs(x)
        return torch.from_numpy(x).to(dtype)

    def critic_terms(self):
        return self.model.critic_terms(self.x, self.text, self.fake, self.draws)

    def generator_terms(self):
        encoded = self.model.encode(self.x, self.text, self.draws.encoded)
        return self.model.generator_terms(self.x, self.text, self.fake, encoded)

    def check_terms(self, terms, run, **tolerance):
        """Compare loss terms with those of the released run ``frozen`` or ``step``."""
        check, weight = self.golden.check, self.golden.hyper["gan_weight"]
        check(terms["critic"], f"loss.{run}.D_cost", **tolerance)
        check(terms["marginal_critic"], f"loss.{run}.D_cost_v2", **tolerance)
        if "vae" in terms:
            check(terms["vae"], f"loss.{run}.vae_loss", **tolerance)
            check(terms["adversarial"] / weight + self.biases, f"loss.{run}.G_cost", **tolerance)
            check(terms["vae"] + terms["adversarial"] + weight * self.biases, f"loss.{run}.loss", **tolerance)

    def check_gradients(self, run):
        """Compare every gradient, whole or by its norm; the biases that we leave out have none."""
        for name, parameter in self.model.named_parameters():
            theirs = released_name(name)
            if f"grad.{run}.{theirs}" in self.golden.arrays:
                self.golden.check(parameter.grad, f"grad.{run}.{theirs}", rtol=1e-9, atol=1e-9)
            else:
                self.golden.check(parameter.grad.norm(), f"gradnorm.{run}.{theirs}")
        kind = "grad" if f"grad.{run}.netD.fc2.bias" in self.golden.arrays else "gradnorm"
        for critic in ("netD", "netD2"):
            assert abs(self.golden.arrays[f"{kind}.{run}.{critic}.fc2.bias"]).max() < 1e-12


def once(values):
    """Rows as sequences of one step."""
    return Sequence(values[None], torch.zeros(1, len(values)), torch.ones(1, len(values), dtype=torch.bool))


@pytest.mark.parametrize("folder", SIZES)
def test_losses_and_gradients_at_the_same_weights_match(golden, folder):
    case = Case(golden(folder, "fvaegan_d2_train"))
    encoded = case.model.encode(case.x, case.text, case.draws.encoded)
    outputs = {"mean": encoded.mean, "log_var": encoded.log_variance, "recon_x": encoded.rebuilt, "fake": case.fake}
    for name, value in outputs.items():
        if f"out.frozen.{name}" in case.golden.arrays:
            case.golden.check(value, f"out.frozen.{name}")
    case.golden.check(divergence(encoded).sum(), "loss.frozen.vae_kl")
    case.model.draw = lambda x: case.draws
    terms = case.model.loss(case.batch, torch.empty(0))
    case.check_terms(terms, "frozen")
    sum(terms.values()).backward()
    case.check_gradients("frozen")


@pytest.mark.parametrize("folder", SIZES)
def test_critics_first_then_the_generator_match(golden, folder):
    """The released order: the generator is judged by critics that have taken their step."""
    case = Case(golden(folder, "fvaegan_d2_train"))
    hyper = case.golden.hyper
    optimizer = adam(case.model, hyper["lr"], 0.0, tuple(hyper["betas"]))
    terms = case.critic_terms()
    sum(terms.values()).backward()
    optimizer.step()
    critics = {name: p.grad.clone() for name, p in case.model.named_parameters() if p.grad is not None}
    optimizer.zero_grad()
    terms |= case.generator_terms()
    case.check_terms(terms, "step", rtol=1e-7)
    (terms["vae"] + terms["adversarial"]).backward()
    optimizer.step()
    for name, parameter in case.model.named_parameters():
        assert (parameter.grad is None) == (name in critics)
        theirs = released_name(name)
        gradient = critics.get(name, parameter.grad)
        if f"after_step.{theirs}" not in case.golden.arrays:
            case.golden.check(gradient.norm(), f"gradnorm.step.{theirs}", rtol=1e-6)
            continue
        case.golden.check(gradient, f"grad.step.{theirs}", rtol=1e-6, atol=1e-7)
        case.golden.check(parameter, f"after_step.{theirs}", rtol=1e-7, atol=1e-9)


def test_single_precision_is_near(golden):
    case = Case(golden("models", "fvaegan_d2_train"), torch.float32)
    case.check_terms(case.critic_terms() | case.generator_terms(), "frozen", rtol=1e-5, atol=1e-6)
