"""Our SACMA, read as released, gives the numbers of the released code: outputs, loss terms, gradients, a whole step."""

import numpy as np
import pytest
import torch

from neuroav.baselines.sacma import SACMA, AsReleased, SACMAConfig
from neuroav.data.types import Batch, DataSpec, Sequence
from neuroav.train.optim import adam

NO_NEGATIVES = torch.empty(0)
NAMES = {
    "tokens.encoder.audio": "A_enc",
    "tokens.encoder.video": "V_enc",
    "project.joint": "O_proj",
    "word": "W_proj",
    "rebuild.joint": "D_o",
    "rebuild_word": "D_w",
}
POSITION = "position_encoder_block"
LAYER = {
    "norm.": "norm.",
    "query.": "attn.to_q.",
    "key.": "attn.to_k.",
    "value.": "attn.to_v.",
    "output.0.": "attn.to_out.0.",
    "feed_forward.": "ff.net.",
}
OTHERS = {
    "token": "cls_token",
    "tokens.time.frequency": f"{POSITION}.fourier_randn",
    "tokens.time.linear.weight": f"{POSITION}.fourier_embeddings.weight",
    "tokens.time.linear.bias": f"{POSITION}.fourier_embeddings.bias",
}
OUTPUTS = {"joint": "o", "audio": "o_a", "video": "o_v"}
CASES = [("models", "sacma_eval"), ("models", "sacma_train")]
CASES += [("real_size", "sacma_main_eval"), ("real_size", "sacma_main_train")]


def released_name(ours):
    """The released name of one of our parameters or buffers."""
    for part, theirs in NAMES.items():
        if ours.startswith(f"{part}."):
            kind, index, leaf = ours.removeprefix(f"{part}.").split(".")
            return f"{theirs}.fc.{4 * int(index) + (kind == 'norm')}.{leaf}"
    if ours.startswith("transformer."):
        _, _, index, rest = ours.split(".", 3)
        start = next(one for one in LAYER if rest.startswith(one))
        return f"Audio_visual_transformer.layers.{index}.{LAYER[start]}{rest.removeprefix(start)}"
    if ours.startswith("tokens.position."):
        modality, rest = ours.removeprefix("tokens.position.").split(".", 1)
        if rest == "modality":
            return f"{POSITION}.modal_embedding.weight"
        return f"{POSITION}.out_proj_{modality}.{rest.removeprefix('linear.')}"
    return OTHERS[ours]


def in_our_shape(ours, value, like):
    """A released array as our parameter holds it."""
    if ours.endswith("modality"):
        value = value[int("video" in ours)]
    return torch.from_numpy(np.asarray(value)).reshape(like.shape)


def in_released_shape(name, value):
    """One of our gradients as the released code holds it."""
    if name == "cls_token":
        return value[None, None]
    return value[..., None] if "out_proj" in name and name.endswith("weight") else value


class Case:
    """One fixture: our model with its weights, its batch and what came out."""

    def __init__(self, golden, reading=None, dtype=torch.float64):
        self.golden, self.dtype, hyper = golden, dtype, golden.hyper
        width = hyper.get("W", 300)
        dropouts = [name for name in SACMAConfig.__dataclass_fields__ if name.startswith("dropout")]
        config = SACMAConfig(
            dim=width,
            encoder_hidden=hyper["encoder_hidden"],
            hidden=hyper["decoder_hidden"],
            shared=hyper.get("E", 64),
            position=hyper["time_embed_dim"],
            layers=hyper["depth"],
            heads=hyper["heads"],
            head_dim=hyper["dim_head"],
            feed_forward=hyper["mlp_dim"],
            reading=AsReleased() if reading is None else reading,
            **dict.fromkeys(dropouts, 0.0),
        )
        spec = DataSpec(audio_dim=hyper["input_audio"], video_dim=hyper["input_video"], text_dim=width)
        self.model = SACMA(spec, config).to(dtype).train(golden.training)
        state = self.model.state_dict()
        self.model.load_state_dict({k: in_our_shape(k, self.parameter(k, v), v) for k, v in state.items()})
        self.batch, self.words = self.make_batch(hyper)

    def parameter(self, ours, like):
        name = released_name(ours)
        shape = {"cls_token": (1, 1, 300), f"{POSITION}.modal_embedding.weight": (2, 64)}.get(name, tuple(like.shape))
        shape = (*shape, 1) if "out_proj" in name and name.endswith("weight") else shape
        return self.golden.parameter(name, shape, normalises=".norm." in ours)

    def make_batch(self, hyper):
        golden = self.golden
        inputs = {key.removeprefix("in."): value for key, value in golden.arrays.items() if key.startswith("in.")}
        if "audio" not in inputs:
            shapes = {m: (*inputs[f"mask_{m}"].shape, hyper[f"input_{m}"]) for m in ("audio", "video")}
            inputs["audio"] = np.clip(np.round(128 + 60 * golden.draw("in.audio", shapes["audio"])), 0, 255)
            inputs["video"] = np.abs(golden.draw("in.video", shapes["video"]))
            for m in ("audio", "video"):
                inputs[m] = inputs[m] * (inputs[f"mask_{m}"] > 0)[..., None]
                np.testing.assert_allclose(inputs[m].sum(), golden.meta["input_checksums"][m][0], rtol=1e-9)
            words = golden.draw("in.class_embeddings", (hyper["classes"], 300))
            inputs["class_embeddings"] = words / np.linalg.norm(words, axis=1, keepdims=True)
        words = torch.from_numpy(inputs["class_embeddings"]).to(self.dtype)
        row = torch.from_numpy(inputs["row"])

        def sequence(m):
            values, times, mask = (torch.from_numpy(inputs[key]) for key in (m, f"timesteps_{m}", f"mask_{m}"))
            return Sequence(values.transpose(0, 1).to(self.dtype), times.t().to(self.dtype), mask.t() > 0)

        return Batch(sequence("audio"), sequence("video"), None, row, words[row]), words

    def loss(self):
        return self.model.loss(self.batch, NO_NEGATIVES)

    def gather(self):
        return self.model.gather(self.batch, OUTPUTS, self.batch.audio.t_s, self.batch.video.t_s)


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_outputs_match(golden, folder, name):
    case = Case(golden(folder, name))
    check, model = case.golden.check, case.model
    tokens = case.gather()
    embedded = model.projected(tokens)
    for ours, theirs in OUTPUTS.items():
        check(tokens[ours], f"out.c_{theirs}")
        check(embedded[ours], f"out.theta_{theirs}")
    if not case.golden.training:
        check(model.embed(case.batch, ["joint"])["joint"], "out.get_embeddings.theta_o")
        words = model.word(case.words)
        check(words, "out.get_embeddings.theta_w_classes")
        expected = torch.from_numpy(case.golden.arrays["out.get_embeddings.theta_o"])[:, None] - words.detach()
        found = model.distances(case.batch, case.words)
        torch.testing.assert_close(found.detach(), expected.norm(dim=-1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_loss_terms_match(golden, folder, name):
    case = Case(golden(folder, name))
    terms, arrays = case.loss(), case.golden.arrays
    case.golden.check(terms["contrast"], "loss.l_ccl")
    case.golden.check(terms["contrast"] + terms["cosine"], "loss.l_ce")
    case.golden.check(terms["regression"], "loss.l_reg")
    case.golden.check(terms["reconstruction"], "loss.l_rec")
    case.golden.check(sum(terms.values()), "loss.total")
    np.testing.assert_allclose(terms["cosine"].item() / 0.2, arrays["loss.l_cos"], rtol=1e-9)


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_gradients_match(golden, folder, name):
    case = Case(golden(folder, name))
    sum(case.loss().values()).backward()
    gradients = {ours: parameter.grad for ours, parameter in case.model.named_parameters()}
    both = torch.stack([gradients.pop(f"tokens.position.{m}.modality") for m in ("audio", "video")])
    found = {released_name(ours): gradient for ours, gradient in gradients.items()}
    found = {name: in_released_shape(name, gradient) for name, gradient in found.items()}
    left = case.golden.check_gradients({**found, f"{POSITION}.modal_embedding.weight": both})
    assert left == {f"{POSITION}.pad_embedding.weight": 0}  # which we leave out: it gets no gradient


def test_running_statistics_and_a_whole_step_match(golden):
    case = Case(golden("models", "sacma_train"))
    optimizer = adam(case.model, case.golden.hyper["lr"], case.golden.hyper["weight_decay"])
    sum(case.loss().values()).backward()
    buffers = [name for name, _ in case.model.named_buffers()]
    assert compare_state(case, "after_forward.") == len(buffers) == 31
    optimizer.step()
    case.model.after_step(case.batch, NO_NEGATIVES)
    assert compare_state(case, "after_step.") == 31 + len(list(case.model.parameters()))


def compare_state(case, prefix):
    """Compare what the fixture has under ``prefix`` with our parameters and buffers; returns how many it has."""
    state, arrays = case.model.state_dict(), case.golden.arrays
    found = [ours for ours in state if f"{prefix}{released_name(ours)}" in arrays]
    for ours in found:
        released = in_our_shape(ours, arrays[f"{prefix}{released_name(ours)}"], state[ours])
        torch.testing.assert_close(state[ours], released.to(state[ours].dtype), rtol=1e-7, atol=1e-9, msg=ours)
    return len(found)


def test_single_precision_is_as_near_as_the_released_code(golden):
    case = Case(golden("models", "sacma_eval"), dtype=torch.float32)
    case.golden.check(sum(case.loss().values()), "loss32.total", rtol=1e-5)
    found = case.model.embed(case.batch, ["joint"])["joint"]
    case.golden.check(found, "out32.get_embeddings.theta_o", rtol=1e-5, atol=1e-5)
    case.golden.check(case.model.projected(case.gather())["joint"], "out32.theta_o", rtol=1e-5, atol=1e-5)
