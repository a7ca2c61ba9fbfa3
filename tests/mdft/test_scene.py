"""RJLU: literal single-token form is blind, the default is not; the gate keeps joint knowledge bounded."""

import pytest
import torch

from neuroav.mdft.scene import RJLU


def features(T=6, B=3, D=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {m: torch.rand(T, B, D, generator=g) for m in ("audio", "video")}, torch.ones(T, B, dtype=torch.bool)


def build(config, seed=0):
    torch.manual_seed(seed)
    unit = config.build(32, ("audio", "video"))
    torch.nn.init.normal_(unit.initial)
    return unit


def test_with_one_token_the_cross_attention_does_not_depend_on_its_query():
    unit = build(RJLU(tokens=1))
    x, h = torch.rand(1, 3, 32), torch.rand(1, 3, 32)
    assert torch.allclose(unit.cross["audio"](x, h), unit.cross["audio"](x + 1.0, h))
    many = build(RJLU(tokens=8))
    x, h = torch.rand(8, 3, 4), torch.rand(8, 3, 4)
    assert not torch.allclose(many.cross["audio"](x, h), many.cross["audio"](x * 3.0, h))


def test_knowledge_at_a_step_depends_on_the_past_alone():
    unit = build(RJLU())
    inputs, valid = features()
    before = unit(inputs, valid)[1]
    inputs["video"][4:] += 1.0
    after = unit(inputs, valid)[1]
    assert torch.equal(before[:4], after[:4])
    assert not torch.allclose(before[4], after[4])


def test_joint_knowledge_follows_the_printed_update():
    unit = build(RJLU())
    inputs, valid = features(T=1)
    summary, knowledge = unit(inputs, valid)
    tokens = {m: x[0].unflatten(-1, (8, 4)).permute(1, 0, 2) for m, x in inputs.items()}
    h = unit.initial.reshape(8, 1, 4).expand(8, 3, 4)
    gate = torch.sigmoid(sum(unit.cross[m](x, h) for m, x in tokens.items()))
    s = summary[0].unflatten(-1, (8, 4)).permute(1, 0, 2)
    expected = gate * h + (1 - gate) * s
    torch.testing.assert_close(knowledge[0], expected.permute(1, 0, 2).flatten(1))


def test_padding_leaves_joint_knowledge_alone():
    unit = build(RJLU())
    inputs, valid = features()
    valid[3:] = False
    knowledge = unit(inputs, valid)[1]
    assert torch.equal(knowledge[2], knowledge[5])


def test_bounded_gate_stays_finite_where_the_raw_one_need_not():
    inputs, valid = features(T=300)
    assert torch.isfinite(build(RJLU())(inputs, valid)[1]).all()


def test_width_that_tokens_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="divisible by tokens=8"):
        RJLU().build(30, ("audio",))
