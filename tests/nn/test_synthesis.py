"""Critics against autograd; a frozen judge; a softmax classifier that is saved with its classes."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from neuroav.checks import InputError
from neuroav.nn.synthesis import (
    ClassSoftmax,
    Critic,
    Encoder,
    EqualClasses,
    EqualClips,
    Generator,
    SoftmaxConfig,
    judged,
)

B, D, TEXT, LATENT = 6, 5, 4, 3


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def critic(given):
    torch.manual_seed(0)
    made = Critic(D, given, 7).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("given", [0, TEXT])
def test_slopes_are_those_of_autograd(given):
    made, x = critic(given), rand(B, D).requires_grad_()
    words = [rand(B, TEXT, seed=1)] if given else []
    (expected,) = torch.autograd.grad(made(x, *words).sum(), x)
    torch.testing.assert_close(made.slope(x, *words), expected)


@pytest.mark.parametrize("given", [0, TEXT])
def test_the_cost_and_its_gradients_are_those_of_a_second_derivative(given):
    made, real, fake, mix = critic(given), rand(B, D, seed=1), rand(B, D, seed=2), torch.rand(B, 1).double()
    words = [rand(B, TEXT, seed=3)] if given else []
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(made(between, *words).sum(), between, create_graph=True)
    penalty = ((slope.square().sum(1).sqrt() - 1) ** 2).mean()
    expected = made(fake, *words).mean() - made(real, *words).mean() + 10 * penalty
    found = made.cost(real, fake, mix, 10.0, *words)
    torch.testing.assert_close(found, expected)
    parameters = list(made.parameters())
    for ours, theirs in zip(torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters)):
        torch.testing.assert_close(ours, theirs)


def test_a_judge_does_not_learn_and_what_it_judges_does():
    made, x = critic(TEXT), rand(B, D).requires_grad_()
    words = rand(B, TEXT, seed=1)
    scores = judged(made, x, words)
    torch.testing.assert_close(scores, made(x, words))
    scores.sum().backward()
    torch.testing.assert_close(x.grad, made.slope(x, words))
    assert all(parameter.grad is None for parameter in made.parameters())


def test_what_is_typical_has_no_noise():
    torch.manual_seed(0)
    generator, words = Generator(LATENT, TEXT, 6, D, nn.Sigmoid()), torch.randn(B, TEXT)
    assert torch.equal(generator.typical(words), generator(torch.zeros(B, LATENT), words))
    torch.manual_seed(1)
    first = generator.sample(words)
    assert not torch.equal(first, generator.sample(words))
    torch.manual_seed(1)
    assert torch.equal(generator.sample(words), first)
    assert ((first > 0) & (first < 1)).all()
    assert [part.shape for part in Encoder(D, TEXT, 6, LATENT)(first, words)] == [(B, LATENT)] * 2


def test_weights_make_classes_or_clips_equal():
    counts = torch.tensor([1.0, 3.0, 0.0])
    assert (EqualClasses()(counts) * counts)[:2].tolist() == pytest.approx([4 / 3, 4 / 3])
    assert EqualClips()(counts).tolist() == [1, 1, 1]


CENTRES = torch.tensor([[4.0, 0, 0, 0, 0], [0, 4.0, 0, 0, 0], [0, 0, 4.0, 0, 0]])
SEEN = torch.tensor([True, False, True])


def make(text):
    """Features around the centre that a class vector names by its largest entry."""
    return CENTRES[text.argmax(1)] + 0.5 * torch.randn(len(text), D)


def fitted(config=None):
    torch.manual_seed(0)
    softmax, text = ClassSoftmax(D, TEXT), torch.eye(3, TEXT)
    target = torch.tensor([0, 2]).repeat_interleave(10)
    softmax.fit(
        make(text[target]), target, text, SEEN, make, config or SoftmaxConfig(synthetic=30, batch_size=8, lr=0.05)
    )
    return softmax, text


def test_it_tells_seen_classes_and_made_up_ones_apart():
    softmax, text = fitted()
    distances = softmax.distances(CENTRES, text)
    assert distances.argmin(1).tolist() == [0, 1, 2]
    assert (distances.diagonal() < 0.1).all()
    np.testing.assert_allclose(torch.exp(-distances).sum(1), 1, rtol=1e-5)
    logits = CENTRES @ softmax.weight.t() + softmax.bias
    np.testing.assert_allclose(distances, -np.log(softmax_of(logits.numpy())), rtol=1e-4, atol=1e-5)
    assert not softmax.weight.requires_grad


def softmax_of(logits):
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(1, keepdims=True)


def test_classes_are_found_by_their_vectors_in_any_number_and_order():
    softmax, text = fitted()
    whole, order = softmax.distances(CENTRES, text), torch.tensor([2, 1])
    some = softmax.distances(CENTRES, text[order])
    torch.testing.assert_close(some[:, 0] - some[:, 1], whole[:, 2] - whole[:, 1])
    np.testing.assert_allclose(torch.exp(-some).sum(1), 1, rtol=1e-5)
    with pytest.raises(InputError, match=r"distances: expected classes that fit_extra was given, got 1 others"):
        softmax.distances(CENTRES, torch.eye(4))


def test_its_draws_are_torchs_and_it_saves_and_loads_with_its_classes():
    (softmax, text), (again, _) = fitted(), fitted()
    assert torch.equal(softmax.weight, again.weight)
    other = ClassSoftmax(D, TEXT)
    other.load_state_dict(load(save(softmax.state_dict())))
    assert torch.equal(other.distances(CENTRES, text), softmax.distances(CENTRES, text))
    other.load_state_dict(load(save(ClassSoftmax(D, TEXT).state_dict())))
    assert len(other.text) == 0
    with pytest.raises(RuntimeError, match="size mismatch"):
        ClassSoftmax(D + 1, TEXT).load_state_dict(softmax.state_dict())


@pytest.mark.parametrize("name", ["synthetic", "epochs", "batch_size"])
def test_bad_numbers_are_named(name):
    with pytest.raises(InputError, match=f"SoftmaxConfig: expected {name} in"):
        SoftmaxConfig(**{name: 0})
