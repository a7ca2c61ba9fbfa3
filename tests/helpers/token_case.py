"""A run of released code that makes tokens of audio and video (TCaF, SACMA), and our model in its place."""

import numpy as np
import torch

from neuroav.data.types import Batch, Classes, DataSpec, Sequence

NO_NEGATIVES = torch.empty(0)
POSITION = "position_encoder_block"
MODALITY = f"{POSITION}.modal_embedding.weight"
LAYER = {
    "norm.": "norm.",
    "query.": "attn.to_q.",
    "key.": "attn.to_k.",
    "value.": "attn.to_v.",
    "output.0.": "attn.to_out.0.",
    "feed_forward.": "ff.net.",
}
PARTS = {"tokens.encoder.audio": "A_enc", "tokens.encoder.video": "V_enc"}
OTHERS = {
    "token": "cls_token",
    "tokens.time.frequency": f"{POSITION}.fourier_randn",
    "tokens.time.linear.weight": f"{POSITION}.fourier_embeddings.weight",
    "tokens.time.linear.bias": f"{POSITION}.fourier_embeddings.bias",
}
SIZES = {
    "encoder_hidden": "encoder_hidden",
    "hidden": "decoder_hidden",
    "position": "time_embed_dim",
    "layers": "depth",
    "heads": "heads",
    "head_dim": "dim_head",
    "feed_forward": "mlp_dim",
}
DROPOUTS = ("dropout", "dropout_position", "dropout_encoder", "dropout_output", "dropout_word")


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


class TokenCase:
    """Our model with the weights of a fixture, and its batch.

    Args:
        golden: the fixture.
        kind: class of our model.
        heads: names of its two-layer networks behind the transformer -> released names.
        choices: of its configuration, sizes and dropouts apart.
        dtype: of everything.
    """

    def __init__(self, golden, kind, heads, choices, dtype=torch.float64):
        self.golden, self.arrays, self.check, self.dtype = golden, golden.arrays, golden.check, dtype
        self.parts, hyper = PARTS | heads, golden.hyper
        sizes = {ours: hyper[theirs] for ours, theirs in SIZES.items()} | dict.fromkeys(DROPOUTS, 0.0)
        width = hyper.get("W", 300)
        config = kind.Config(dim=width, shared=hyper.get("E", 64), **sizes, **choices)
        spec = DataSpec(audio_dim=hyper["input_audio"], video_dim=hyper["input_video"], text_dim=width)
        self.model = kind(spec, config).to(dtype).train(golden.training)
        state = self.model.state_dict()
        self.model.load_state_dict({k: in_our_shape(k, self._parameter(k, v), v) for k, v in state.items()})
        self.batch = self._batch()

    def loss(self):
        """Our loss terms."""
        return self.model.loss(self.batch, NO_NEGATIVES)

    def check_distances(self):
        """Assert that distances are those of the released embeddings, by differences."""
        words = self.arrays["out.get_embeddings.theta_w_classes"]
        gaps = self.arrays["out.get_embeddings.theta_o"][:, None] - words
        found = self.model.distances(self.batch, self.batch.classes.text)
        np.testing.assert_allclose(found.detach(), np.linalg.norm(gaps, axis=-1), rtol=1e-9, atol=1e-9)

    def check_gradients(self):
        """Assert that all gradients of the loss are the released ones."""
        torch.stack(list(self.loss().values())).sum().backward()
        gradients = {ours: parameter.grad for ours, parameter in self.model.named_parameters()}
        both = torch.stack([gradients.pop(f"tokens.position.{m}.modality") for m in ("audio", "video")])
        found = {self._released(ours): gradient for ours, gradient in gradients.items()}
        found = {name: in_released_shape(name, gradient) for name, gradient in found.items()}
        left = self.golden.check_gradients({**found, MODALITY: both})
        assert left == {f"{POSITION}.pad_embedding.weight": 0}  # which we leave out: it gets no gradient

    def check_whole_step(self, optimizer):
        """Assert that buffers after the loss, and all of the model after a step, are the released ones."""
        torch.stack(list(self.loss().values())).sum().backward()
        buffers, parameters = (len(list(each)) for each in (self.model.buffers(), self.model.parameters()))
        assert self._compare_state("after_forward.") == buffers
        optimizer.step()
        self.model.after_step(self.batch, NO_NEGATIVES)
        assert self._compare_state("after_step.") == buffers + parameters

    def _compare_state(self, prefix):
        """Compare what the fixture has under ``prefix`` with our parameters and buffers; returns how many it has."""
        state = self.model.state_dict()
        found = [ours for ours in state if f"{prefix}{self._released(ours)}" in self.arrays]
        for ours in found:
            released = in_our_shape(ours, self.arrays[f"{prefix}{self._released(ours)}"], state[ours])
            torch.testing.assert_close(state[ours], released.to(state[ours].dtype), rtol=1e-7, atol=1e-9, msg=ours)
        return len(found)

    def _released(self, ours):
        """The released name of one of our parameters or buffers."""
        for part, theirs in self.parts.items():
            if ours.startswith(f"{part}."):
                kind, index, leaf = ours.removeprefix(f"{part}.").split(".")
                return f"{theirs}.fc.{4 * int(index) + (kind == 'norm')}.{leaf}"
        if ours.startswith("transformer."):
            _, _, index, rest = ours.split(".", 3)
            start = next(one for one in LAYER if rest.startswith(one))
            return f"Audio_visual_transformer.layers.{index}.{LAYER[start]}{rest.removeprefix(start)}"
        if ours.startswith("tokens.position."):
            modality, rest = ours.removeprefix("tokens.position.").split(".", 1)
            return MODALITY if rest == "modality" else f"{POSITION}.out_proj_{modality}.{rest.removeprefix('linear.')}"
        return OTHERS[ours]

    def _parameter(self, ours, like):
        name = self._released(ours)
        shape = {"cls_token": (1, 1, 300), MODALITY: (2, 64)}.get(name, tuple(like.shape))
        shape = (*shape, 1) if "out_proj" in name and name.endswith("weight") else shape
        return self.golden.parameter(name, shape, normalises=".norm." in ours)

    def _batch(self):
        inputs = {key.removeprefix("in."): value for key, value in self.arrays.items() if key.startswith("in.")}
        if "audio" not in inputs:
            inputs |= self._drawn(inputs)
        words, row = torch.from_numpy(inputs["class_embeddings"]).to(self.dtype), torch.from_numpy(inputs["row"])

        def sequence(m):
            values, times, mask = (torch.from_numpy(inputs[key]) for key in (m, f"timesteps_{m}", f"mask_{m}"))
            return Sequence(values.transpose(0, 1).to(self.dtype), times.t().to(self.dtype), mask.t() > 0)

        classes = Classes(torch.arange(len(words)), words)
        return Batch(sequence("audio"), sequence("video"), None, row, words[row], classes)

    def _drawn(self, inputs):
        """Inputs of a case at real size, as the README of the fixtures makes them, checked against their sums."""
        golden, hyper, found = self.golden, self.golden.hyper, {}
        for m in ("audio", "video"):
            x = golden.draw(f"in.{m}", (*inputs[f"mask_{m}"].shape, hyper[f"input_{m}"]))
            x = np.clip(np.round(128 + 60 * x), 0, 255) if m == "audio" else np.abs(x)
            found[m] = x * (inputs[f"mask_{m}"] > 0)[..., None]
            np.testing.assert_allclose(found[m].sum(), golden.meta["input_checksums"][m][0], rtol=1e-9)
        words = golden.draw("in.class_embeddings", (hyper["classes"], 300))
        return found | {"class_embeddings": words / np.linalg.norm(words, axis=1, keepdims=True)}
