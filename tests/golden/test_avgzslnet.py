"""Our AVGZSLNet gives the numbers of both released codes: outputs, loss terms, gradients, a whole step."""

import pytest
import torch

from neuroav.baselines.avgzslnet import AsBenchmarked, AsByAuthors, AVGZSLNet, AVGZSLNetConfig
from neuroav.data.types import DataSpec
from neuroav.nn.negatives import Trio, TwoPasses
from neuroav.train.optim import adam

AUTHORS = ("models", "avgzslnet_authors_train")
REAL = [("real_size", "avgzslnet_main_eval"), ("real_size", "avgzslnet_main_train")]
BENCHMARKED = [("models", "avgzslnet_eval"), ("models", "avgzslnet_train"), *REAL]
NETWORKS = {
    "audio": "triplet_net.embedding_net1",
    "video": "triplet_net.embedding_net2",
    "word": "triplet_net.embedding_net3",
    "decoder": "decoder_net.embedding_net",
}
OUTPUTS = {"audio": "a", "video": "v", "text": "t"}
TERMS = {
    "audio_triplet": ("l_ta", "l_at"),
    "video_triplet": ("l_tv", "l_vt"),
    "decoded_audio_triplet": ("l_cta",),
    "decoded_video_triplet": ("l_ctv",),
    "reconstruction": ("l_rec",),
}


def released_name(ours):
    """The name in the benchmark's code of one of our parameters or buffers."""
    head, _, rest = ours.partition(".")
    kind, index, leaf = rest.removeprefix("0.").split(".")
    return f"{NETWORKS[head]}.fc.{4 * int(index) + (kind == 'norm')}.{leaf}"


def authors_name(ours):
    """The name in the authors' code."""
    head, _, rest = ours.partition(".")
    if head == "decoder":
        return f"dec.{rest}"
    if head == "word":
        return f"text_net.layers.0.{rest}"
    index, leaf = rest.split(".")
    return f"{head}_net.layers.{int(index) // 3}.{leaf}"


class Case:
    """One fixture: our model with its weights, and what the released step computes from clips and negatives."""

    def __init__(self, golden, reading, name_of, dtype=torch.float64):
        self.golden, self.name_of, given = golden, name_of, golden.clips(dtype)
        config = AVGZSLNetConfig(shared=golden.hyper.get("E", 64), reading=reading, negatives=TwoPasses())
        spec = DataSpec(**{f"{name}_dim": given[name].shape[1] for name in ("audio", "video", "text")})
        self.model = AVGZSLNet(spec, config).to(dtype).train(golden.training)
        state = self.model.state_dict()
        self.model.load_state_dict({name: self.parameter(name, x) for name, x in state.items()})
        self.words = given["text"]
        self.positive = self.model.embed(Trio(given["audio"], given["video"], given["text"]))
        self.negative = self.model.embed(Trio(given["audio_neg"], given["video_neg"], given["text_neg"]))
        self.terms = self.model.terms(self.positive, self.negative, self.words)

    def parameter(self, ours, like):
        return torch.as_tensor(self.golden.parameter(self.name_of(ours), like.shape, ".norm." in ours))

    def gradients_left(self):
        """Compare gradients; returns names of released ones that we lack."""
        sum(self.terms.values()).backward()
        found = {self.name_of(ours): parameter.grad for ours, parameter in self.model.named_parameters()}
        return self.golden.check_gradients(found)

    def compare_state(self, prefix):
        """Compare what the fixture has under ``prefix`` with ours; returns how many it has."""
        state = self.model.state_dict()
        found = [ours for ours in state if f"{prefix}{self.name_of(ours)}" in self.golden.arrays]
        for ours in found:
            released = self.golden.tensor(f"{prefix}{self.name_of(ours)}")
            torch.testing.assert_close(state[ours], released.to(state[ours].dtype), rtol=1e-7, atol=1e-9, msg=ours)
        return len(found)


def benchmarked(golden, dtype=torch.float64):
    """The benchmark's reading at the sizes of a fixture."""
    hyper = golden.hyper
    reading = AsBenchmarked(
        hidden=hyper["embeddings_hidden"],
        hidden_word=hyper.get("W", 300),
        hidden_decoder=hyper["decoder_hidden"],
        dropout=0.0,
        dropout_decoder=0.0,
    )
    return Case(golden, reading, released_name, dtype)


def by_authors(golden):
    """The authors' reading at the sizes of their fixture."""
    hyper = golden.hyper
    reading = AsByAuthors(hidden=hyper["hidden"], hidden_decoder=hyper["decoder_hidden"], dropout=0.0)
    return Case(golden, reading, authors_name)


@pytest.mark.parametrize(("folder", "name"), BENCHMARKED)
def test_outputs_and_loss_terms_match_the_benchmarks_code(golden, folder, name):
    case = benchmarked(golden(folder, name))
    for modality, letter in OUTPUTS.items():
        case.golden.check(getattr(case.positive, modality), f"out.{letter}_pos")
        case.golden.check(getattr(case.negative, modality), f"out.{letter}_neg")
        if not case.golden.training:
            case.golden.check(case.model.decoder(getattr(case.positive, modality)), f"out.dec_{letter}_pos")
    assert list(case.terms) == list(TERMS)
    for ours, theirs in TERMS.items():
        expected = sum(case.golden.arrays[f"loss.{each}"] for each in theirs)
        assert case.terms[ours].item() == pytest.approx(float(expected), rel=1e-9)
    case.golden.check(sum(case.terms.values()), "loss.total")


@pytest.mark.parametrize(("folder", "name"), BENCHMARKED)
def test_gradients_match_the_benchmarks_code(golden, folder, name):
    assert benchmarked(golden(folder, name)).gradients_left() == {}


def test_a_whole_step_matches_the_benchmarks_code(golden):
    case = benchmarked(golden("models", "avgzslnet_train"))
    optimizer = adam(case.model, case.golden.hyper["lr"], 0.0)
    assert case.gradients_left() == {}
    optimizer.step()
    assert case.compare_state("after_step.") == len(case.model.state_dict())


def test_running_statistics_match_the_benchmarks_code(golden):
    case = benchmarked(golden("models", "avgzslnet_train"))
    case.model.word(case.golden.clips()["class_embeddings"])  # which the fixture does before it looks
    assert case.compare_state("after_forward.") == 12  # buffers


@pytest.mark.parametrize(("folder", "name"), BENCHMARKED)
def test_single_precision_is_near(golden, folder, name):
    case = benchmarked(golden(folder, name), torch.float32)
    case.golden.check(sum(case.terms.values()), "loss.total", rtol=1e-5)
    case.golden.check(case.positive.video, "out.v_pos", rtol=1e-5, atol=1e-5)


def test_outputs_and_loss_terms_match_the_authors_code(golden):
    case = by_authors(golden(*AUTHORS))
    check, decode = case.golden.check, case.model.decoder
    for modality in OUTPUTS:
        check(getattr(case.positive, modality), f"out.pos_{modality}")
        check(getattr(case.negative, modality), f"out.neg_{modality}")
        check(decode(getattr(case.positive, modality)), f"out.pos_{modality}_text")
    check(decode(case.negative.audio), "out.neg_audio_text")
    check(case.terms["audio_triplet"], "loss.loss_audio_triplet")
    check(case.terms["video_triplet"], "loss.loss_video_triplet")
    check(case.terms["audio_triplet"] + case.terms["video_triplet"], "loss.loss_composite_triplet")
    rest = [case.terms[name] for name in list(TERMS)[2:]]
    check(sum(rest), "loss.loss_cmd")
    check(sum(case.terms.values()), "loss.total")


def test_a_whole_step_matches_the_authors_code(golden):
    case = by_authors(golden(*AUTHORS))
    hyper = case.golden.hyper
    optimizer = torch.optim.SGD(case.model.parameters(), lr=hyper["sgd_lr"], momentum=hyper["sgd_momentum"])
    assert case.gradients_left() == {}
    optimizer.step()
    assert case.compare_state("after_step.") == len(case.model.state_dict())
