"""Loss terms against numpy written from their definitions; distances; the word projection adds up."""

import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.nn.losses import HeadsConfig, JointHeads, JointLoss, LinearWords, PrintedLoss, PrintedWords
from neuroav.nn.losses import prototype_distances as distances_of

B, D, TEXT, SHARED = 6, 7, 10, 5
NEGATIVES = torch.tensor([1, 2, 3, 4, 5, 0])


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def heads(**changes):
    torch.manual_seed(0)
    made = JointHeads(D, TEXT, HeadsConfig(**{"hidden": 8, "shared": SHARED} | changes))
    made.train().loss(rand(B, D, seed=1), rand(B, TEXT, seed=2), NEGATIVES)  # running statistics unlike the initial
    return made.eval()


def hinge(anchor, positive, negative, margin):
    """Mean triplet loss with Euclidean distance."""
    near, far = (np.linalg.norm(anchor - other, axis=1) for other in (positive, negative))
    return np.maximum(0, near - far + margin).mean()


def parts(model, x, text):
    """Joint and word embedding and their reconstructions, as float64 arrays."""
    joint, word = model.clip(x), model.word(text)
    rebuilt = [model.rebuild(joint), model.rebuild(word)]
    return [t.detach().numpy().astype(np.float64) for t in (joint, word, *rebuilt)]


@pytest.mark.parametrize("word", [LinearWords(), PrintedWords()])
def test_terms_are_two_triplets_a_squared_error_and_two_reconstructions(word):
    model = heads(word=word, loss=JointLoss(joint_triplet=2.0, projection=3.0, reconstruction=0.5, margin=0.7))
    x, text = rand(B, D, seed=3), rand(B, TEXT, seed=4)
    terms = {name: value.item() for name, value in model.loss(x, text, NEGATIVES).items()}
    joint, words, from_joint, from_word = parts(model, x, text)
    other = NEGATIVES.numpy()
    triplets = hinge(words, joint, joint[other], 0.7) + hinge(joint, words, words[other], 0.7)
    assert terms == pytest.approx(
        {
            "joint_triplet": 2.0 * triplets,
            "projection": 3.0 * ((joint - words) ** 2).mean(),
            "reconstruction": 0.5
            * (((from_joint - text.numpy()) ** 2).mean() + ((from_word - text.numpy()) ** 2).mean()),
        },
        rel=1e-4,
    )


def test_a_weight_of_zero_leaves_its_term_out():
    model = heads(loss=JointLoss(joint_triplet=0.0, reconstruction=0.0))
    assert list(model.loss(rand(B, D), rand(B, TEXT), NEGATIVES)) == ["projection"]
    assert not hasattr(model, "rebuild")


def test_printed_terms_are_signed_differences():
    model = heads(shared=TEXT, loss=PrintedLoss(margin=0.3))
    x, text = rand(B, D, seed=3), rand(B, TEXT, seed=4)
    terms = {name: value.item() for name, value in model.loss(x, text, NEGATIVES).items()}
    joint, word, rebuilt, _ = parts(model, x, text)
    both = np.maximum(0, 0.3 + joint - word) + np.maximum(0, 0.3 + joint[NEGATIVES] - word)
    assert terms == pytest.approx(
        {
            "joint_triplet": both.mean(),
            "projection": (joint - word).mean(),
            "reconstruction": (rebuilt - word).mean(),
        },
        rel=1e-4,
    )
    with pytest.raises(InputError, match=r"HeadsConfig\(shared=10\), got shared=5"):
        heads(loss=PrintedLoss())


def test_distances_are_euclidean_even_far_from_the_origin():
    a, b = 80 + rand(4, 64, seed=1), 80 + rand(3, 64, seed=2)
    expected = np.linalg.norm(a.double().numpy()[:, None] - b.double().numpy()[None], axis=-1)
    np.testing.assert_allclose(distances_of(a, b).numpy(), expected, rtol=1e-5)


def test_distances_of_many_clips_are_rounded_only_and_next_to_nothing_for_themselves():
    a = 10 * rand(2500, 64, seed=1)
    exact = np.sqrt(((a.double().numpy()[:, None] - a.double().numpy()[None, :5]) ** 2).sum(-1))
    found = distances_of(a, a[:5]).numpy()
    np.testing.assert_allclose(found, exact, rtol=1e-7, atol=1e-5)
    assert torch.cdist(a, a[:5]).numpy()[range(5), range(5)].max() > 1e-3  # by a float32 matrix product
    types = {torch.float64: torch.float64, torch.float32: torch.float32, torch.bfloat16: torch.float32}
    assert all(distances_of(a[:9].to(kind), a[:5].to(kind)).dtype == found for kind, found in types.items())


def test_heads_compare_the_projected_clip_with_the_projected_word():
    model, x, vectors = heads(), rand(B, D, seed=3), rand(4, TEXT, seed=4)
    found = model.distances(x, vectors)
    assert found.shape == (B, 4)
    torch.testing.assert_close(found[2, 3], torch.dist(model.clip(x)[2], model.word(vectors)[3]))


def test_linear_words_map_a_sum_of_words_to_the_sum_of_their_places():
    model = heads(word=LinearWords())
    nothing = model.word(torch.zeros(1, TEXT))
    motion, tempo = rand(1, TEXT, seed=5), rand(1, TEXT, seed=6)
    apart = (model.word(motion) - nothing) + (model.word(tempo) - nothing)
    torch.testing.assert_close(model.word(motion + tempo) - nothing, apart, rtol=1e-4, atol=1e-5)
    bent = heads(word=PrintedWords())
    nothing = bent.word(torch.zeros(1, TEXT))
    apart = (bent.word(motion) - nothing) + (bent.word(tempo) - nothing)
    assert not torch.allclose(bent.word(motion + tempo) - nothing, apart, rtol=0.1)


@pytest.mark.parametrize("change", [{"hidden": 0}, {"shared": 0}, {"dropout": 1.5}, {"dropout_word": -0.1}])
def test_impossible_sizes_are_refused(change):
    with pytest.raises(InputError, match=f"HeadsConfig: expected {next(iter(change))} in"):
        HeadsConfig(**change)
