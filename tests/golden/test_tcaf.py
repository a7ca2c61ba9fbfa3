"""Our TCaF, read as released, gives the numbers of the released code: outputs, loss terms, gradients, a whole step."""

import numpy as np
import pytest
import torch

from neuroav.baselines.tcaf import TCAF, AsPublished, AsReleased, TCAFConfig
from neuroav.data.types import Batch, Classes, DataSpec, Sequence
from neuroav.nn.encoder import CrossAttention, FullAttention, SelfAttention
from neuroav.train.optim import adam

NO_NEGATIVES = torch.empty(0)
PATTERNS = {"cross": CrossAttention(), "self": SelfAttention(), "full": FullAttention()}
NAMES = {
    "tokens.encoder.audio": "A_enc",
    "tokens.encoder.video": "V_enc",
    "clip": "O_proj",
    "heads.word": "W_proj",
    "heads.rebuild_clip": "D_o",
    "heads.rebuild_word": "D_w",
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
TERMS = {"cross_entropy": "l_ce", "regression": "l_reg", "reconstruction": "l_rec"}
MODELS = ["tcaf_eval", "tcaf_train", "tcaf_attention_full_eval", "tcaf_attention_self_eval", "tcaf_selavi_rate_eval"]
REAL = ["tcaf_cls_ucf_eval", "tcaf_cls_ucf_train", "tcaf_main_activitynet_eval", "tcaf_main_activitynet_train"]


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
    return {
        "token": "cls_token",
        "tokens.time.frequency": f"{POSITION}.fourier_randn",
        "tokens.time.linear.weight": f"{POSITION}.fourier_embeddings.weight",
        "tokens.time.linear.bias": f"{POSITION}.fourier_embeddings.bias",
    }[ours]


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
        self.golden, self.meta, self.dtype, hyper = golden, golden.meta, dtype, golden.hyper
        self.arrays, self.check = golden.arrays, golden.check
        width = hyper.get("W", 300)
        config = TCAFConfig(
            dim=width,
            encoder_hidden=hyper["encoder_hidden"],
            hidden=hyper["decoder_hidden"],
            shared=hyper.get("E", 64),
            position=hyper["time_embed_dim"],
            layers=hyper["depth"],
            heads=hyper["heads"],
            head_dim=hyper["dim_head"],
            feed_forward=hyper["mlp_dim"],
            dropout=0.0,
            dropout_position=0.0,
            dropout_encoder=0.0,
            dropout_output=0.0,
            dropout_word=0.0,
            attention=PATTERNS[self.meta.get("attention", "cross")],
            reading=AsReleased() if reading is None else reading,
        )
        spec = DataSpec(audio_dim=hyper["input_audio"], video_dim=hyper["input_video"], text_dim=width)
        self.model = TCAF(spec, config).to(dtype).train(golden.training)
        state = self.model.state_dict()
        self.model.load_state_dict({k: in_our_shape(k, self.parameter(k, v), v) for k, v in state.items()})
        self.batch = self.make_batch(hyper)

    def parameter(self, ours, like):
        name = released_name(ours)
        shape = {"cls_token": (1, 1, 300), f"{POSITION}.modal_embedding.weight": (2, 64)}.get(name, tuple(like.shape))
        shape = (*shape, 1) if "out_proj" in name and name.endswith("weight") else shape
        return self.golden.parameter(name, shape, normalises=".norm." in ours)

    def make_batch(self, hyper):
        inputs = {key.removeprefix("in."): value for key, value in self.arrays.items() if key.startswith("in.")}
        if "audio" not in inputs:
            shapes = {m: (*inputs[f"mask_{m}"].shape, hyper[f"input_{m}"]) for m in ("audio", "video")}
            inputs["audio"] = np.clip(np.round(128 + 60 * self.golden.draw("in.audio", shapes["audio"])), 0, 255)
            inputs["video"] = np.abs(self.golden.draw("in.video", shapes["video"]))
            for m in ("audio", "video"):
                inputs[m] = inputs[m] * (inputs[f"mask_{m}"] > 0)[..., None]
                np.testing.assert_allclose(inputs[m].sum(), self.meta["input_checksums"][m][0], rtol=1e-9)
            words = self.golden.draw("in.class_embeddings", (hyper["classes"], 300))
            inputs["class_embeddings"] = words / np.linalg.norm(words, axis=1, keepdims=True)
        words = torch.from_numpy(inputs["class_embeddings"]).to(self.dtype)
        row = torch.from_numpy(inputs["row"])

        def sequence(m):
            values, times, mask = (torch.from_numpy(inputs[key]) for key in (m, f"timesteps_{m}", f"mask_{m}"))
            return Sequence(values.transpose(0, 1).to(self.dtype), times.t().to(self.dtype), mask.t() > 0)

        classes = Classes(torch.arange(len(words)), words)
        return Batch(sequence("audio"), sequence("video"), None, row, words[row], classes)

    def loss(self):
        return self.model.loss(self.batch, NO_NEGATIVES)


def all_cases():
    return [("models", name) for name in MODELS] + [("real_size", name) for name in REAL]


@pytest.mark.parametrize(("folder", "name"), all_cases())
def test_outputs_and_loss_terms_match(golden, folder, name):
    case = Case(golden(folder, name))
    batch = case.batch
    if case.meta["mode"] == "eval":
        token = case.model.gather(batch, batch.audio.t_s, batch.video.t_s)
        case.check(token, "out.c_o")
        case.check(case.model.clip(token), "out.theta_o")
        case.check(case.model.embed(batch), "out.get_embeddings.theta_o")
        words = case.model.heads.word(batch.classes.text)
        if "out.get_embeddings.theta_w_classes" in case.arrays:
            case.check(words, "out.get_embeddings.theta_w_classes")
        expected = torch.from_numpy(case.arrays["out.get_embeddings.theta_o"])[:, None] - words.detach()
        found = case.model.distances(batch, batch.classes.text)
        torch.testing.assert_close(found.detach(), expected.norm(dim=-1), rtol=1e-9, atol=1e-9)
    terms = case.loss()
    for ours, theirs in TERMS.items():
        case.check(terms[ours], f"loss.{theirs}")
    case.check(sum(terms.values()), "loss.total")


@pytest.mark.parametrize(("folder", "name"), [case for case in all_cases() if "selavi" not in case[1]])
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
    case = Case(golden("models", "tcaf_train"))
    optimizer = adam(case.model, case.meta["hyper"]["lr"], case.meta["hyper"]["weight_decay"])
    sum(case.loss().values()).backward()
    assert compare_state(case, "after_forward.") == 31  # buffers
    optimizer.step()
    case.model.after_step(case.batch, NO_NEGATIVES)
    assert compare_state(case, "after_step.") == 31 + len(list(case.model.parameters()))


def compare_state(case, prefix):
    """Compare what the fixture has under ``prefix`` with our parameters and buffers; returns how many it has."""
    state = case.model.state_dict()
    found = [ours for ours in state if f"{prefix}{released_name(ours)}" in case.arrays]
    for ours in found:
        released = in_our_shape(ours, case.arrays[f"{prefix}{released_name(ours)}"], state[ours])
        torch.testing.assert_close(state[ours], released.to(state[ours].dtype), rtol=1e-7, atol=1e-9, msg=ours)
    return len(found)


def test_single_precision_is_as_near_as_the_released_code(golden):
    case = Case(golden("models", "tcaf_eval"), dtype=torch.float32)
    case.check(sum(case.loss().values()), "loss32.total", rtol=1e-5)
    case.check(case.model.embed(case.batch), "out32.get_embeddings.theta_o", rtol=1e-5, atol=1e-5)
    token = case.model.gather(case.batch, case.batch.audio.t_s, case.batch.video.t_s)
    case.check(case.model.clip(token), "out32.theta_o", rtol=1e-5, atol=1e-5)


def test_read_as_published_evaluation_sees_the_times_of_training(golden):
    released, published = (Case(golden("models", "tcaf_eval"), reading) for reading in (AsReleased(), AsPublished()))
    batch = released.batch
    at_index = released.model.embed(batch)
    in_seconds = released.model.clip(released.model.gather(batch, batch.audio.t_s, batch.video.t_s))
    assert (at_index - in_seconds).abs().max() > 0.1
    raw = published.model.embed(batch)
    again = published.model.clip(published.model.gather(batch, batch.audio.t_s, batch.video.t_s))
    torch.testing.assert_close(raw, again)
