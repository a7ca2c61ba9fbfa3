"""Our Hyper-alignment, -single and -multiple, read as released, give the numbers of the released code."""

import pytest
import torch
import torch.nn.functional as F
from pair_case import PairCase, sizes

from neuroav.baselines.hyper import (
    AsReleased,
    HyperAlignment,
    HyperAlignmentConfig,
    HyperMultiple,
    HyperMultipleConfig,
    HyperSingle,
    HyperSingleConfig,
    clipped,
    logarithm,
)
from neuroav.data.types import DataSpec

KINDS = {
    "Hyper-alignment": (HyperAlignment, HyperAlignmentConfig, {"curvature": "curvature"}),
    "Hyper-single": (HyperSingle, HyperSingleConfig, {"scale": "curvature"}),
    "Hyper-multiple": (HyperMultiple, HyperMultipleConfig, {"scale": "curvature", "balls": "num_curvature"}),
}
SMALL = ["hyper_alignment_c0.01", "hyper_alignment_c0.2", "hyper_single", "hyper_multiple_k3"]
CASES = [("models", f"{name}_{mode}") for name in SMALL for mode in ("eval", "train")]
CASES += [("real_size", f"hyper_alignment_main_{mode}") for mode in ("eval", "train")]
ALIGNMENT = {"alignment": "loss_align"}


@pytest.fixture
def case(golden):
    """Open ``case(folder, name)``."""

    def read(folder, name, dtype=torch.float64):
        found = golden(folder, name)
        hyper = found.hyper
        kind, config, fields = KINDS[hyper["hyper_framework"]]
        choices = sizes(hyper, AsReleased()) | {ours: hyper[theirs] for ours, theirs in fields.items()}
        spec = DataSpec(audio_dim=hyper["input_audio"], video_dim=hyper["input_video"], text_dim=hyper.get("W", 300))
        return PairCase(found, kind(spec, config(**choices)), dtype)

    return read


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_outputs_and_loss_terms_match(case, folder, name):
    opened = case(folder, name)
    opened.check_outputs()
    opened.check_terms(ALIGNMENT)
    if name.endswith("eval"):
        opened.check_distances()


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_gradients_match(case, folder, name):
    case(folder, name).check_gradients()


def test_single_precision(case):
    opened = case("models", "hyper_single_train", torch.float32)
    opened.check_outputs(rtol=1e-5, atol=1e-5)
    opened.check_terms(ALIGNMENT, rtol=1e-5)


def test_curvatures_match(case):
    opened = case("models", "hyper_multiple_k3_train")
    for clips, key in ((opened.positive, "out.curvature"), (opened.negative, "out.curvature_neg")):
        (embedded,) = opened.model.embed([clips])
        found = opened.model.curvature(embedded.encoded_audio, embedded.encoded_video)
        opened.golden.check(found[..., 0].t(), key)


def test_running_statistics_and_a_whole_step_match(case):
    opened = case("models", "hyper_alignment_c0.01_train")
    buffers = [name for name, _ in opened.model.named_buffers()]
    assert opened.check_step() == [len(buffers) - 1, len(opened.model.state_dict())]


@pytest.mark.parametrize("name", ["hyper_single_train", "hyper_multiple_k3_train"])
def test_weight_decay_alone_moves_the_curvature(case, name):
    opened = case("models", name)
    before = opened.model.curvature.linear.weight.detach().clone()
    buffers = [name for name, _ in opened.model.named_buffers()]
    assert opened.check_step() == [len(buffers) - 1, 2]
    moved = opened.model.curvature.linear
    assert moved.weight.grad.abs().max() < 1e-15
    assert (moved.weight - before).abs().max() > 1e-4


@pytest.mark.parametrize("c", ["0.01", "0.2", "1.0"])
def test_maps_match_and_no_cosine_sees_them(golden, c):
    found = golden("models", "hyper_functions")
    x, y, curvature = found.tensor("in.x"), found.tensor("in.y"), torch.full((1, 1), float(c), dtype=torch.float64)
    x.requires_grad_()
    found.check(clipped(x, curvature), f"out.project_c{c}")
    tangent = logarithm(clipped(x, curvature), curvature)
    found.check(tangent, f"out.logmap0_project_c{c}")
    tangent.square().sum().backward()
    found.check(x.grad, f"grad.sum_sq_logmap0_project_c{c}")
    reading, euclidean = AsReleased(), found.tensor("loss.align_euclidean")
    difference = F.mse_loss(reading.compare(x, curvature), reading.compare(y, curvature))
    found.check(difference, f"loss.align_c{c}")
    torch.testing.assert_close(difference.detach(), euclidean, rtol=1e-12, atol=0)
