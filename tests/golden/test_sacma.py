"""Our SACMA, read as released, gives the numbers of the released code: outputs, loss terms, gradients, a whole step."""

import pytest
import torch
from token_case import TokenCase

from neuroav.baselines.sacma import SACMA, AsReleased
from neuroav.train.optim import adam

HEADS = {"project.joint": "O_proj", "word": "W_proj", "rebuild.joint": "D_o", "rebuild_word": "D_w"}
OUTPUTS = {"joint": "o", "audio": "o_a", "video": "o_v"}
CASES = [("models", "sacma_eval"), ("models", "sacma_train")]
CASES += [("real_size", "sacma_main_eval"), ("real_size", "sacma_main_train")]


@pytest.fixture
def case(golden):
    """Our model in place of the released one: ``case(folder, name)``."""

    def make(folder, name, dtype=torch.float64):
        return TokenCase(golden(folder, name), SACMA, HEADS, {"reading": AsReleased()}, dtype)

    return make


def gathered(one):
    return one.model.gather(one.batch, OUTPUTS, one.batch.audio.t_s, one.batch.video.t_s)


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_outputs_match(case, folder, name):
    one = case(folder, name)
    tokens = gathered(one)
    embedded = one.model.projected(tokens)
    for ours, theirs in OUTPUTS.items():
        one.check(tokens[ours], f"out.c_{theirs}")
        one.check(embedded[ours], f"out.theta_{theirs}")
    if not one.golden.training:
        one.check(one.model.embed(one.batch, ["joint"])["joint"], "out.get_embeddings.theta_o")
        one.check(one.model.word(one.batch.classes.text), "out.get_embeddings.theta_w_classes")
        one.check_distances()


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_loss_terms_match(case, folder, name):
    one = case(folder, name)
    terms = one.loss()
    one.check(terms["contrast"], "loss.l_ccl")
    one.check(terms["cosine"] / 0.2, "loss.l_cos")
    one.check(terms["contrast"] + terms["cosine"], "loss.l_ce")
    one.check(terms["regression"], "loss.l_reg")
    one.check(terms["reconstruction"], "loss.l_rec")
    one.check(sum(terms.values()), "loss.total")


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_gradients_match(case, folder, name):
    case(folder, name).check_gradients()


def test_running_statistics_and_a_whole_step_match(case):
    one = case("models", "sacma_train")
    one.check_whole_step(adam(one.model, one.golden.hyper["lr"], one.golden.hyper["weight_decay"]))


def test_single_precision_is_as_near_as_the_released_code(case):
    one = case("models", "sacma_eval", torch.float32)
    one.check(sum(one.loss().values()), "loss32.total", rtol=1e-5)
    found = one.model.embed(one.batch, ["joint"])["joint"]
    one.check(found, "out32.get_embeddings.theta_o", rtol=1e-5, atol=1e-5)
    one.check(one.model.projected(gathered(one))["joint"], "out32.theta_o", rtol=1e-5, atol=1e-5)
