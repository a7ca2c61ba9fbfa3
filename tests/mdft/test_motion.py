"""Event inputs, discrepancy block, accumulation: against hand-made values."""

import pytest
import torch

from neuroav.mdft.motion import (
    ElementwiseDiscrepancy,
    FrameEvents,
    PrintedDiscrepancy,
    SpikingLayers,
    feature_events,
    running_mean,
)


def test_feature_events_count_crossings_from_the_last_event_level():
    # log(x + 1) climbs 0, .3, .6, .9, .6: changes .3 .3 .3 -.3, root mean square .3; threshold 1.5 of it = .45
    level = torch.tensor([0.0, 0.3, 0.6, 0.9, 0.6])
    features = (level.exp() - 1).reshape(5, 1, 1)
    events = feature_events(features, torch.ones(5, 1, dtype=torch.bool), contrast=1.5)
    # .6 crosses .45 (reference .45); .9 is exactly one threshold further, a tie, and fires; .6 is only .3 below
    assert events.flatten().tolist() == [0.0, 0.0, 1.0, 1.0, 0.0]


def test_feature_events_equal_a_scalar_loop_for_every_clip_of_a_batch():
    features = torch.rand(9, 3, 4, generator=torch.Generator().manual_seed(2)) * 20
    valid = torch.ones(9, 3, dtype=torch.bool)
    events = feature_events(features, valid, 0.4, log_eps=0.5)
    level = (features.double() + 0.5).log()
    for clip in range(3):
        step = 0.4 * level[:, clip].diff(dim=0).square().mean().sqrt().item()
        for feature in range(4):
            reference, expected = level[0, clip, feature].item(), [0]
            for value in level[1:, clip, feature].tolist():
                crossed = int((value - reference) / step)
                reference += crossed * step
                expected.append(crossed)
            assert events[:, clip, feature].tolist() == expected


def test_static_features_make_no_events_and_the_first_step_never_does():
    static = torch.ones(6, 2, 3)
    assert feature_events(static, torch.ones(6, 2, dtype=torch.bool), 1.0).abs().sum() == 0
    moving = torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(0)) * 9
    assert feature_events(moving, torch.ones(6, 2, dtype=torch.bool), 0.5)[0].abs().sum() == 0


def test_falling_features_make_off_events():
    falling = torch.tensor([8.0, 4.0, 2.0, 1.0]).reshape(4, 1, 1)
    events = feature_events(falling, torch.ones(4, 1, dtype=torch.bool), 0.9)
    assert (events[1:] < 0).all()


def test_padding_makes_no_feature_events_and_changes_no_others():
    x = torch.rand(8, 3, 5, generator=torch.Generator().manual_seed(1)) * 4
    valid = torch.ones(8, 3, dtype=torch.bool)
    short = feature_events(x[:5], valid[:5], 0.7)
    valid[5:] = False
    long = feature_events(torch.where(valid.unsqueeze(-1), x, torch.zeros(())), valid, 0.7)
    assert torch.equal(short, long[:5])
    assert long[5:].abs().sum() == 0


def test_no_pixel_events_give_exactly_zero_input():
    events = FrameEvents().build(16, (2, 4, 4), events_per_step=10.0)
    out = events(torch.zeros(3, 2, 16), torch.ones(3, 2, dtype=torch.bool), torch.zeros(3, 2, 2, 4, 4))
    assert out.values.abs().sum() == 0
    assert out.magnitude.abs().sum() == 0


def test_event_magnitude_is_the_count_over_the_mean_count():
    events = FrameEvents().build(16, (2, 4, 4), events_per_step=64.0)
    out = events(torch.zeros(1, 1, 16), torch.ones(1, 1, dtype=torch.bool), torch.full((1, 1, 2, 4, 4), 4.0))
    assert out.magnitude.item() == pytest.approx(2.0)


def test_features_without_events_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="FeatureEvents"):
        FrameEvents().build(16, None, 1.0)


def test_elementwise_discrepancy_in_closed_form():
    block = ElementwiseDiscrepancy().build()
    audio, events = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 0.0]]])
    expected = torch.tensor([[[1.0, 2.0 + 1.0 - torch.exp(torch.tensor(-4.0))]]])
    torch.testing.assert_close(block(audio, events), expected)


def test_printed_discrepancy_says_nothing_beyond_audio_plus_one():
    g = torch.Generator().manual_seed(0)
    audio, events = torch.rand(2, 3, 512, generator=g), torch.randn(2, 3, 512, generator=g)
    torch.testing.assert_close(PrintedDiscrepancy().build()(audio, events), audio + 1.0)
    assert (ElementwiseDiscrepancy().build()(audio, events) - audio).std() > 0.1


def test_running_mean_ignores_padding():
    x = torch.tensor([1.0, 3.0, 100.0]).reshape(3, 1, 1)
    valid = torch.tensor([True, True, False]).unsqueeze(1)
    assert running_mean(x, valid).flatten().tolist() == [1.0, 2.0, 2.0]


def test_the_printed_network_is_silent_where_the_default_is_not():
    """Linear + LIF at threshold 1 without normalisation: no spike in the last layer, so no gradient either."""
    torch.manual_seed(0)
    x, valid = torch.rand(12, 16, 64), torch.ones(12, 16, dtype=torch.bool)
    theta = torch.ones(12, 16, 1)
    printed = SpikingLayers(repeats=1, delays=(0,), normalise=False, learn_tau=False).build(64)
    default = SpikingLayers().build(64)
    assert printed(x, theta, valid)[-1].output.sum() == 0
    assert all(layer.output.mean() > 0.01 for layer in default(x, 0.5 * theta, valid))
