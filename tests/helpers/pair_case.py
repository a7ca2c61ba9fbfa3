"""A fixture of released code of the AVCA family: its names for our parameters, its two batches, its numbers."""

import torch

from neuroav.nn.losses import prototype_distances
from neuroav.nn.negatives import Trio
from neuroav.nn.pair import AsReleased
from neuroav.train.optim import adam

NAMES = {
    "audio_encoder": "A_enc",
    "video_encoder": "V_enc",
    "audio_projection": "A_proj",
    "video_projection": "V_proj",
    "word_projection": "W_proj",
    "decoder": "D",
    "rebuild_audio": "A_rec",
    "rebuild_video": "V_rec",
}
LAYER = {
    "attention_norm.": "0.norm.",
    "query_key_value.": "0.fn.to_qkv.",
    "output.0.": "0.fn.to_out.0.",
    "feed_forward_norm.": "1.norm.",
    "feed_forward.": "1.fn.net.",
}
TERMS = {
    "reconstruction": "l_rec",
    "composite": "l_ct",
    "word_triplet": "l_w",
    "crossed_triplet": "l_t",
    "regression": "l_r",
}
EMBEDDED = {
    "encoded_audio": "phi_a",
    "encoded_video": "phi_v",
    "audio": "theta_a",
    "video": "theta_v",
    "word": "theta_w",
    "decoded_audio": "rho_a",
    "decoded_video": "rho_v",
    "decoded_word": "rho_w",
}


def released_name(ours):
    """The released name of one of our parameters or buffers."""
    head, _, rest = ours.partition(".")
    if head in NAMES:
        kind, index, leaf = rest.split(".")
        return f"{NAMES[head]}.fc.{4 * int(index) + (kind == 'norm')}.{leaf}"
    if head == "layer":
        start = next(one for one in LAYER if rest.startswith(one))
        return f"cross_attention.layers.0.{LAYER[start]}{rest.removeprefix(start)}"
    if head == "branches":
        modality, kind, index, leaf = rest.split(".")
        return f"SNNbranch{modality}.{'fc' if kind == 'linear' else kind}.{2 * int(index)}.{leaf}"
    return {
        "position": "pos_emb1D",
        "curvature.linear.weight": "fusenet1.weight",
        "curvature.linear.bias": "fusenet1.bias",
    }[ours]


def sizes(hyper, reading=None):
    """Fields of our configuration for a fixture's sizes, without dropout."""
    return {
        "dim": hyper.get("W", 300),
        "encoder_hidden": hyper["encoder_hidden"],
        "hidden": hyper["decoder_hidden"],
        "shared": hyper.get("E", 64),
        "heads": hyper.get("heads", 3),
        "head_dim": hyper.get("dim_head", 100),
        "feed_forward": hyper.get("mlp_dim", 64),
        "dropout_encoder": 0.0,
        "dropout_projection": 0.0,
        "dropout_decoder": 0.0,
        "momentum": hyper["bn_momentum_arg"],
        "reading": AsReleased() if reading is None else reading,
    }


class PairCase:
    """One fixture: our model with its weights, its clips and negatives, and what came out.

    Args:
        golden: the fixture.
        model: ours, of the fixture's sizes; its weights are replaced.
        dtype: to compute in.
    """

    def __init__(self, golden, model, dtype=torch.float64):
        self.golden, self.dtype = golden, dtype
        self.model = model.to(dtype).train(golden.training)
        state = self.model.state_dict()
        self.model.load_state_dict({name: torch.as_tensor(self._parameter(name, x)) for name, x in state.items()})
        inputs = golden.clips(dtype)
        self.class_vectors = inputs["class_embeddings"]
        self.positive, self.negative = (
            Trio(*(inputs[f"{name}{suffix}"] for name in ("audio", "video", "text"))) for suffix in ("", "_neg")
        )

    def _parameter(self, ours, like):
        if ours.endswith("fixed_decay"):  # of neurons without leak, no array in the released code
            return like
        return self.golden.parameter(released_name(ours), like.shape, normalises="norm" in ours)

    def terms(self):
        """Loss terms of a forward pass."""
        return self.model.terms(*self.model.embed([self.positive, self.negative]))

    def check_outputs(self, **tolerance):
        """Compare embeddings and what is decoded from them with the fixture's."""
        positive, negative = self.model.embed([self.positive, self.negative])
        rebuilt = self.model.rebuild(positive)
        found = {"phi_a_rec": rebuilt.audio, "phi_v_rec": rebuilt.video}
        for suffix, embedded in (("", positive), ("_neg", negative)):
            found |= {f"{theirs}{suffix}": getattr(embedded, ours) for ours, theirs in EMBEDDED.items()}
        kept = {name: value for name, value in found.items() if f"out.{name}" in self.golden.arrays}
        assert {"theta_w", "theta_a", "theta_a_neg", "theta_v", "theta_v_neg"} <= set(kept)
        for name, value in kept.items():
            self.golden.check(value, f"out.{name}", **tolerance)

    def check_distances(self):
        """Compare distances to all classes with those of the fixture's embeddings."""
        video, words = (self.golden.tensor(f"out.get_embeddings.{key}") for key in ("theta_v", "theta_w_classes"))
        found = prototype_distances(*self.model.prototypes(self.positive, self.class_vectors))
        torch.testing.assert_close(found.detach(), (video[:, None] - words).norm(dim=-1), rtol=1e-9, atol=1e-9)

    def check_terms(self, more=(), **tolerance):
        """Compare every loss term and their sum; ``more`` holds further pairs of our name and the released one."""
        terms = self.terms()
        names = {**TERMS, **dict(more)}
        assert set(names) == set(terms)
        for ours, theirs in names.items():
            self.golden.check(terms[ours], f"loss.{theirs}", **tolerance)
        self.golden.check(sum(terms.values()), "loss.total", **tolerance)

    def check_gradients(self):
        """Compare all gradients, those included that the released code computes and does not use."""
        released = set(self.golden.arrays["gradnorm.names"].tolist())
        unused = {released_name(name): x for name, x in self.model.named_buffers() if released_name(name) in released}
        for x in unused.values():
            x.requires_grad_()
        sum(self.terms().values()).backward()
        found = {released_name(name): parameter.grad for name, parameter in self.model.named_parameters()}
        assert self.golden.check_gradients({**found, **{name: x.grad for name, x in unused.items()}}) == {}

    def check_step(self):
        """Compare running statistics after the forward pass and everything after a whole training step."""
        hyper = self.golden.hyper
        optimizer = adam(self.model, hyper["lr"], hyper["weight_decay"])
        total = sum(self.terms().values())
        total.backward()
        self.golden.check(total, "loss.train_step_reported")
        counts = [self._check_state("after_forward.")]
        optimizer.step()
        self.model.follow_step(self.positive)
        return [*counts, self._check_state("after_step.")]

    def _check_state(self, prefix):
        state = self.model.state_dict()
        found = {name: f"{prefix}{released_name(name)}" for name in state}
        found = {name: key for name, key in found.items() if key in self.golden.arrays}
        for name, key in found.items():
            released = self.golden.tensor(key, self.dtype)
            torch.testing.assert_close(state[name], released, rtol=1e-7, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
        return len(found)
