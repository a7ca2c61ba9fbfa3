"""Our CJME, read as released, gives the numbers of the released code: outputs, loss terms, gradients, a whole step."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neuroav.baselines.cjme import CJME, AsPublished, AsReleased, CJMEConfig, dominant, entropy, trusted
from neuroav.data.types import DataSpec
from neuroav.nn.losses import prototype_distances
from neuroav.nn.negatives import Trio
from neuroav.train.optim import adam

SMALL = [("models", "cjme_eval"), ("models", "cjme_train")]
CASES = [*SMALL, ("real_size", "cjme_main_eval"), ("real_size", "cjme_main_train")]
NETWORKS = {"audio": "embedding_net1", "video": "embedding_net2", "word": "embedding_net3"}
OUTPUTS = {"audio": "a", "video": "v", "text": "t"}


def released_name(ours):
    """The released name of one of our parameters or buffers."""
    head, _, rest = ours.partition(".")
    if head not in NETWORKS:
        return f"attention_model.{int(head == 'attention')}.{rest}"
    kind, index, leaf = rest.split(".")
    return f"triplet_net.{NETWORKS[head]}.fc.{4 * int(index) + (kind == 'norm')}.{leaf}"


class Case:
    """One fixture: our model with its weights, and what the released step computes from clips and negatives."""

    def __init__(self, golden, reading=None, dtype=torch.float64):
        self.golden, hyper, given = golden, golden.hyper, golden.clips(dtype)
        config = CJMEConfig(
            hidden=hyper["embeddings_hidden"],
            hidden_word=hyper.get("W", 300),
            shared=hyper.get("E", 64),
            dropout=0.0,
            reading=AsReleased() if reading is None else reading,
        )
        spec = DataSpec(**{f"{name}_dim": given[name].shape[1] for name in ("audio", "video", "text")})
        self.model = CJME(spec, config).to(dtype).train(golden.training)
        state = self.model.state_dict()
        self.model.load_state_dict({name: self.parameter(name, x) for name, x in state.items()})
        clips = Trio(given["audio"], given["video"], given["text"])
        self.positive = self.model.embed(clips)
        self.negative = self.model.embed(Trio(given["audio_neg"], given["video_neg"], given["text_neg"]))
        self.classes = F.relu(self.model.word(given["class_embeddings"])).detach()
        self.attention = self.model.attend(clips.audio, clips.video)
        self.terms = self.model.terms(self.positive, self.negative, self.attention, self.classes)

    def parameter(self, ours, like):
        normalises = ours.startswith("norm.") or ".norm." in ours
        return torch.as_tensor(self.golden.parameter(released_name(ours), like.shape, normalises))


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_outputs_and_loss_terms_match(golden, folder, name):
    case = Case(golden(folder, name))
    check = case.golden.check
    for modality, letter in OUTPUTS.items():
        check(getattr(case.positive, modality), f"out.{letter}_pos")
        check(getattr(case.negative, modality), f"out.{letter}_neg")
    check(case.attention[:, None], "out.attention")
    check(case.classes, "out.class_projection")
    heard, seen = entropy(case.positive.audio, case.classes), entropy(case.positive.video, case.classes)
    check(heard, "out.entropy_audio")
    check(seen, "out.entropy_video")
    check(trusted(heard, seen, slack=0.1), "out.supervision_attention")
    check(case.terms["triplet"], "loss.ct_mean_of_BxB")
    check(case.terms["distance"], "loss.l_av")
    check(case.terms["attention"], "loss.l_attention")
    check(sum(case.terms.values()), "loss.total")


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_gradients_match(golden, folder, name):
    case = Case(golden(folder, name))
    sum(case.terms.values()).backward()
    found = {released_name(ours): parameter.grad for ours, parameter in case.model.named_parameters()}
    assert case.golden.check_gradients(found) == {}


def test_running_statistics_and_a_whole_step_match(golden):
    case = Case(golden("models", "cjme_train"))
    optimizer = adam(case.model, case.golden.hyper["lr"], 0.0)
    sum(case.terms.values()).backward()
    assert compare_state(case, "after_forward.") == 12  # buffers
    optimizer.step()
    assert compare_state(case, "after_step.") == 12 + len(list(case.model.parameters()))


def compare_state(case, prefix):
    """Compare what the fixture has under ``prefix`` with our parameters and buffers; returns how many it has."""
    state = case.model.state_dict()
    found = [ours for ours in state if f"{prefix}{released_name(ours)}" in case.golden.arrays]
    for ours in found:
        released = case.golden.tensor(f"{prefix}{released_name(ours)}")
        torch.testing.assert_close(state[ours], released.to(state[ours].dtype), rtol=1e-7, atol=1e-9, msg=ours)
    return len(found)


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_single_precision_is_near(golden, folder, name):
    case = Case(golden(folder, name), dtype=torch.float32)
    case.golden.check(sum(case.terms.values()), "loss.total", rtol=1e-5)
    case.golden.check(case.positive.video, "out.v_pos", rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("folder", "name"), SMALL)
def test_as_published_a_clip_weighs_its_own_triplets(golden, folder, name):
    case = Case(golden(folder, name), AsPublished())
    weight, heard, seen = (
        case.golden.arrays[key] for key in ("out.attention", "loss.l_ta_per_sample", "loss.l_tv_per_sample")
    )
    expected = ((1 - weight[:, 0]) * heard + weight[:, 0] * seen).mean()
    assert case.terms["triplet"].item() == pytest.approx(expected, rel=1e-9)
    assert abs(expected - case.golden.arrays["loss.ct_mean_of_BxB"]) > 1e-3


def test_evaluation_takes_the_distances_of_the_modality_that_is_trusted(golden):
    case = Case(golden("models", "cjme_eval"))
    given = case.golden.clips()
    threshold = case.golden.arrays["out.attention_thresholded"][:, 0] == 1
    assert 0 < threshold.sum() < len(threshold)
    found = case.model.nearest(given["audio"], given["video"], given["class_embeddings"])
    for row, by_video in enumerate(threshold):
        side = case.golden.tensor("out.v_pos" if by_video else "out.a_pos")[row]
        expected = (side - case.golden.tensor("out.class_projection")).norm(dim=1)
        torch.testing.assert_close(found[row].detach(), expected, rtol=1e-9, atol=1e-9)


def test_the_released_evaluation_picks_the_same_distances():
    with np.load(Path(__file__).parent / "evaluation" / "generic.npz", allow_pickle=False) as arrays:
        audio, video, text, attention, expected = (
            torch.from_numpy(arrays[key]).double()
            for key in ("in.audio", "in.video", "in.text", "in.attention01", "out.both_cjme.distance")
        )
        classes = np.sort(np.concatenate([arrays["in.seen_ids"], arrays["in.unseen_ids"]]))
    found = dominant(attention[:, 0], prototype_distances(audio, text), prototype_distances(video, text))
    torch.testing.assert_close(found, expected[:, classes], rtol=1e-3, atol=1e-3)
