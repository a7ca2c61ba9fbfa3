"""Our AVMST, read as released, gives the numbers of the released code: spikes, outputs, losses, gradients, a step."""

import pytest
import torch
from pair_case import PairCase, sizes

from neuroav.baselines.avmst import AT_REST, AVMST, AsReleased, AVMSTConfig, Clips
from neuroav.data.types import DataSpec
from neuroav.nn.negatives import Trio

MODELS = [("models", "avmst_legacy_eval"), ("models", "avmst_legacy_train")]
REAL = [("real_size", "avmst_legacy_main_eval"), ("real_size", "avmst_legacy_main_train")]


def as_shown(trio):
    """Averaged clips as the released reading shows them to its branches."""
    valid = torch.ones(len(trio.audio), 1, dtype=torch.bool)
    return Clips(*trio, trio.audio[:, None], trio.video[:, None], valid)


@pytest.fixture
def case(golden):
    """Open ``case(folder, name)``."""

    def read(folder, name, dtype=torch.float64):
        found = golden(folder, name)
        hyper = found.hyper
        reading = AsReleased(hidden=hyper["encoder_hidden"], repeats=hyper["T"])
        spec = DataSpec(audio_dim=hyper["input_audio"], video_dim=hyper["input_video"], text_dim=hyper.get("W", 300))
        model = AVMST(spec, AVMSTConfig(**sizes(hyper, reading)))
        opened = PairCase(found, model, dtype)
        opened.positive, opened.negative = as_shown(opened.positive), as_shown(opened.negative)
        return opened

    return read


def rates(opened):
    """Mean spikes of the last layers, ``(B, D)``: audio, video, and those of the negatives."""
    found = opened.model.branches([opened.positive, opened.negative], [None, None])
    return [traces[-1].per_step(1)[0] for spikes in found for traces in spikes]


@pytest.mark.parametrize(("folder", "name"), MODELS + REAL)
def test_outputs_and_loss_terms_match(case, folder, name):
    opened = case(folder, name)
    for ours, theirs in zip(rates(opened), ("phi_a1", "phi_v1", "phi_a_neg1", "phi_v_neg1"), strict=True):
        if f"out.{theirs}" in opened.golden.arrays:
            opened.golden.check(ours, f"out.{theirs}")
    opened.check_outputs()
    opened.check_terms()
    if name.endswith("eval"):
        opened.check_distances()


@pytest.mark.parametrize(("folder", "name"), MODELS + REAL)
def test_gradients_match_those_of_the_untrained_branches_too(case, folder, name):
    case(folder, name).check_gradients()


def test_running_statistics_and_a_whole_step_match(case):
    opened = case("models", "avmst_legacy_train")
    state = opened.model.state_dict()
    running = [name for name in state if "running" in name or "tracked" in name]
    branches = [name for name in state if "fixed_decay" in name]
    assert opened.check_step() == [len(running), len(state) - len(branches)]


def test_single_precision(case):
    opened = case("models", "avmst_legacy_train", torch.float32)
    opened.check_outputs(rtol=1e-5, atol=1e-5)
    opened.check_terms(rtol=1e-5)


def test_spikes_match_step_by_step(golden):
    trace = golden("models", "avmst_spike_trace")
    audio, video = trace.tensor("in.audio"), trace.tensor("in.video")
    hidden, dim = (trace.arrays[f"param.SNNbranchaudio.fc.{i}.bias"].shape[0] for i in (0, 2))
    spec = DataSpec(audio_dim=audio.shape[1], video_dim=video.shape[1], text_dim=4)
    model = AVMST(spec, AVMSTConfig(dim=dim, reading=AsReleased(hidden=hidden))).double().eval()
    state = {
        f"branches.{m}.linear.{i}.{leaf}": trace.tensor(f"param.SNNbranch{m}.fc.{2 * i}.{leaf}")
        for m in ("audio", "video")
        for i in (0, 1)
        for leaf in ("weight", "bias")
    }
    assert model.load_state_dict(state, strict=False).unexpected_keys == []
    clips = as_shown(Trio(audio, video, audio))
    (spikes,) = model.branches([clips], [None])
    trace.check(spikes.audio[1].output, "out.spikes_audio")
    trace.check(spikes.video[1].output, "out.spikes_video_released_routing")
    theta, valid = torch.ones(1, len(audio), 1).double(), torch.ones(1, len(audio), dtype=torch.bool)
    (_, own), _ = model.branches.video(video[None], valid, theta, 10, AT_REST)
    trace.check(own, "out.spikes_video_own_branch")
    assert 0.1 < (own != spikes.video[1].output).double().mean() < 0.5
