"""Our TCaF, read as released, gives the numbers of the released code: outputs, loss terms, gradients, a whole step."""

import pytest
import torch
from token_case import TokenCase

from neuroav.baselines.tcaf import TCAF, AsPublished, AsReleased
from neuroav.nn.encoder import CrossAttention, FullAttention, SelfAttention
from neuroav.train.optim import adam

PATTERNS = {"cross": CrossAttention(), "self": SelfAttention(), "full": FullAttention()}
HEADS = {"clip": "O_proj", "heads.word": "W_proj", "heads.rebuild_clip": "D_o", "heads.rebuild_word": "D_w"}
TERMS = {"cross_entropy": "l_ce", "regression": "l_reg", "reconstruction": "l_rec"}
MODELS = ["tcaf_eval", "tcaf_train", "tcaf_attention_full_eval", "tcaf_attention_self_eval", "tcaf_selavi_rate_eval"]
REAL = ["tcaf_cls_ucf_eval", "tcaf_cls_ucf_train", "tcaf_main_activitynet_eval", "tcaf_main_activitynet_train"]


@pytest.fixture
def case(golden):
    """Our model in place of the released one: ``case(folder, name)``."""

    def make(folder, name, reading=None, dtype=torch.float64):
        run = golden(folder, name)
        pattern = PATTERNS[run.meta.get("attention", "cross")]
        choices = {"attention": pattern, "reading": AsReleased() if reading is None else reading}
        return TokenCase(run, TCAF, HEADS, choices, dtype)

    return make


def gathered(one):
    return one.model.gather(one.batch, one.batch.audio.t_s, one.batch.video.t_s)


def all_cases():
    return [("models", name) for name in MODELS] + [("real_size", name) for name in REAL]


@pytest.mark.parametrize(("folder", "name"), all_cases())
def test_outputs_and_loss_terms_match(case, folder, name):
    one = case(folder, name)
    if not one.golden.training:
        token = gathered(one)
        one.check(token, "out.c_o")
        one.check(one.model.clip(token), "out.theta_o")
        one.check(one.model.embed(one.batch), "out.get_embeddings.theta_o")
        if "out.get_embeddings.theta_w_classes" in one.arrays:
            one.check(one.model.heads.word(one.batch.classes.text), "out.get_embeddings.theta_w_classes")
            one.check_distances()
    terms = one.loss()
    for ours, theirs in TERMS.items():
        one.check(terms[ours], f"loss.{theirs}")
    one.check(sum(terms.values()), "loss.total")


@pytest.mark.parametrize(("folder", "name"), [case for case in all_cases() if "selavi" not in case[1]])
def test_gradients_match(case, folder, name):
    case(folder, name).check_gradients()


def test_running_statistics_and_a_whole_step_match(case):
    one = case("models", "tcaf_train")
    one.check_whole_step(adam(one.model, one.golden.hyper["lr"], one.golden.hyper["weight_decay"]))


def test_single_precision_is_as_near_as_the_released_code(case):
    one = case("models", "tcaf_eval", dtype=torch.float32)
    one.check(sum(one.loss().values()), "loss32.total", rtol=1e-5)
    one.check(one.model.embed(one.batch), "out32.get_embeddings.theta_o", rtol=1e-5, atol=1e-5)
    one.check(one.model.clip(gathered(one)), "out32.theta_o", rtol=1e-5, atol=1e-5)


def test_read_as_published_evaluation_sees_the_times_of_training(case):
    released, published = (case("models", "tcaf_eval", reading) for reading in (AsReleased(), AsPublished()))
    at_index, in_seconds = released.model.embed(released.batch), released.model.clip(gathered(released))
    assert (at_index - in_seconds).abs().max() > 0.1
    torch.testing.assert_close(published.model.embed(published.batch), published.model.clip(gathered(published)))
