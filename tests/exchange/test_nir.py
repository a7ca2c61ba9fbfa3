"""NIR out, in and verified; the truth is a loop over NIR's own equations, and what other tools read."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neuroav.checks import OutputError
from neuroav.exchange import nir_verify
from neuroav.exchange.nir import from_nir, to_nir, verify, write_nir
from neuroav.mdft.motion import SpikingLayers
from neuroav.neurons import ALIF, LIF, PLIF, DynamicLIF
from neuroav.nn.project import StepBatchNorm

DT = 1e-4
READERS = ("spikingjelly", "snntorch", "norse")


def run(layers, x, theta=None):
    """What a plain stack does."""
    for layer in layers:
        if isinstance(layer, DynamicLIF):
            x, _ = layer(x, theta)
        elif isinstance(layer, LIF):
            x, _ = layer(x)
        else:
            x = layer(x)
    return x.detach()


def by_hand(graph, x, dt=DT):
    """A chain of NIR nodes by the equations in NIR's documentation: one Euler step, fires above, resets to v_reset."""
    follow = dict(graph.edges)
    values, name = x.numpy().astype(np.float32), "input"
    while (name := follow[name]) != "output":
        node = graph.nodes[name]
        if type(node).__name__ != "LIF":
            values = values @ node.weight.T + getattr(node, "bias", 0)
            continue
        v, spikes = np.broadcast_to(node.v_leak, values.shape[1:]).astype(np.float64), np.zeros_like(values)
        for t in range(len(values)):
            v = v + dt / node.tau * (node.v_leak - v + node.r * values[t])
            spikes[t] = v > node.v_threshold
            v = np.where(spikes[t] > 0, node.v_reset, v)
        values = spikes
    return torch.from_numpy(values)


def stack(**options):
    return [nn.Linear(6, 5), LIF(5, v_th=0.4, **options), nn.Linear(5, 4, bias=False), LIF(4, v_th=0.1, tau=1.7)]


OPTIONS = [
    {},
    {"gain": "unit"},
    {"strict": True},
    {"v_rest": 0.1},
    {"tau": torch.tensor([1.2, 1.7, 2.1, 3.3, 9.0])},
    {"tau": torch.tensor([1.2, 1.7, 2.1, 3.3, 9.0]), "gain": "unit"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_graph_means_the_same(nir, noise, options):
    x, layers = 3 * noise(30, 4, 6), stack(**options)
    graph, spikes = to_nir(layers), run(layers, x)
    assert 0.05 < spikes.mean() < 0.7
    assert torch.equal(by_hand(graph, x), spikes)
    assert torch.equal(from_nir(graph)(x)[0], spikes)


@pytest.mark.parametrize("options", OPTIONS[:2], ids=str)
def test_installed_readers_agree(nir, noise, options):
    x, layers = 3 * noise(30, 4, 6), stack(**options)
    report = verify(to_nir(layers), x, spikes=run(layers, x))
    assert report["neuroav"].differ == 0
    for reader in READERS:
        if importlib.util.find_spec(reader) is None:
            assert report[reader].left_out == "not installed"
        elif reader == "norse" and options:
            assert report[reader].left_out == "it takes no r but 1"
        else:
            assert report[reader].differ == 0, str(report)


def test_parameters_by_closed_form(nir):
    decay = to_nir([LIF(3, tau=4.0, v_th=0.5, v_rest=0.25, strict=True)], dt=1e-3).nodes["neurons_0"]
    assert decay.tau.tolist() == pytest.approx([4e-3] * 3)
    assert decay.r.tolist() == [1.0] * 3
    assert decay.v_leak.tolist() == decay.v_reset.tolist() == [0.25] * 3
    assert decay.v_threshold.tolist() == [0.5] * 3
    unit = to_nir(PLIF(3, tau=4.0, gain="unit")).nodes["neurons_0"]
    assert unit.r.tolist() == pytest.approx([4.0] * 3)
    assert unit.v_threshold.tolist() == [1 - 2.0**-24] * 3  # fires at 1 too, so above the float before it


def test_a_tie_fires_as_in_the_model(nir):
    x = torch.ones(4, 1, 1)
    for strict, spikes in ((False, [1, 1, 1, 1]), (True, [0, 1, 0, 1])):
        graph = to_nir([LIF(1, tau=2.0, v_th=0.5, strict=strict)])
        assert by_hand(graph, x).flatten().tolist() == spikes
        assert from_nir(graph)(x)[0].flatten().tolist() == spikes


def test_nodes_edges_and_metadata(nir):
    graph = to_nir(nn.Sequential(nn.Dropout(), *stack()).eval(), dt=2e-4)
    assert list(graph.nodes) == ["input", "linear_0", "neurons_0", "linear_1", "neurons_1", "output"]
    assert graph.edges == list(zip(graph.nodes, list(graph.nodes)[1:]))
    assert type(graph.nodes["linear_0"]).__name__ == "Affine"
    assert type(graph.nodes["linear_1"]).__name__ == "Linear"
    assert graph.metadata == {"dt": 2e-4, "mode": "exact", "repeats": 1}


def test_a_readout_may_end_the_stack(nir, noise):
    x, layers = 3 * noise(10, 4, 6), [*stack(), nn.Linear(4, 2)]
    torch.testing.assert_close(from_nir(to_nir(layers))(x)[0], run(layers, x))


def test_a_theta_that_does_not_move_is_exact(nir, noise):
    x, layers = 3 * noise(20, 4, 6), [nn.Linear(6, 5), DynamicLIF(5), nn.Linear(5, 3), DynamicLIF(3)]
    theta = torch.full((20, 4, 1), 0.3)
    assert torch.equal(from_nir(to_nir(layers, theta=theta))(x)[0], run(layers, x, theta))
    each = [torch.linspace(0.2, 0.6, 5), 0.1]
    graph = to_nir(layers, theta=each)
    spikes = DynamicLIF(3)(layers[2](DynamicLIF(5)(layers[0](x), each[0])[0]), 0.1)[0]
    assert spikes.sum() > 0
    assert torch.equal(from_nir(graph)(x)[0], spikes)


@pytest.mark.parametrize(
    ("layers", "options", "text"),
    [
        ([LIF(3, reset="soft")], {}, "expected reset='hard', got reset='soft'"),
        ([LIF(3, refractory=2)], {}, "NIR has no refractory neuron"),
        ([LIF(3, beta=1.0, gain="unit")], {}, "nir.LIF needs a finite tau"),
        ([ALIF(3)], {"theta": 1.0}, "expected a DynamicLIF, LIF or PLIF, got ALIF"),
        ([LIF()], {}, "Give the first layer its num_neurons"),
        ([DynamicLIF(3)], {}, "Give to_nir(..., theta=...)"),
        ([DynamicLIF(3)], {"theta": [1.0, 2.0]}, "one theta for each of 1 DynamicLIF layers, got 2"),
        ([nn.Linear(3, 3), nn.ReLU(), LIF(3)], {}, "got ReLU"),
        ([nn.Linear(3, 3), StepBatchNorm(3), LIF(3)], {}, "Call model.eval() first"),
        ([nn.Linear(3, 3)], {}, "LIF, PLIF or DynamicLIF layers, got none"),
        (nn.ReLU(), {}, "give model.motion['video']"),
        ([LIF(3)], {"mode": "precise"}, "mode to be one of exact, normalised, frozen"),
        ([LIF(3)], {"dt": 0.0}, "dt in"),
    ],
)
def test_what_nir_can_not_say_is_refused(nir, layers, options, text):
    with pytest.raises(ValueError) as error:
        to_nir(layers, **options)
    assert text in str(error.value)


def test_a_theta_that_moves_is_refused_with_the_reason(nir):
    by_step = torch.tensor([0.5, 1.0]).reshape(2, 1, 1)
    by_sample = torch.tensor([0.5, 1.0]).reshape(1, 2, 1)
    with pytest.raises(ValueError, match=r"got 0\.5 to 1, from step to step\. .* mode='frozen' takes the mean"):
        to_nir([DynamicLIF(3)], theta=by_step)
    with pytest.raises(ValueError, match=r"got 0\.5 to 1, from sample to sample\. .* mode='normalised' takes one"):
        to_nir([DynamicLIF(3)], theta=by_sample)


def test_normalised_divides_the_input(nir, noise):
    x, theta = 3 * noise(20, 4, 6), torch.tensor([0.3, 0.5, 0.7, 1.1]).reshape(1, 4, 1)
    layers = [nn.Linear(6, 5, bias=False), DynamicLIF(5), nn.Linear(5, 3), LIF(3, v_th=0.2)]
    graph, spikes = to_nir(layers, "normalised", theta=theta), run(layers, x, theta)
    assert 0.05 < spikes.mean() < 0.7
    assert torch.equal(by_hand(graph, x / theta), spikes)
    assert verify(graph, x / theta, spikes=spikes)["neuroav"].differ == 0
    assert verify(graph, x, spikes=spikes)["neuroav"].differ > 0.02


MOVING = torch.tensor([0.5, 1.0])


@pytest.mark.parametrize(
    ("layers", "theta", "text"),
    [
        ([DynamicLIF(3)], MOVING.reshape(2, 1, 1), r"constant in time, got 0\.5 to 1"),
        ([nn.Linear(3, 3), DynamicLIF(3)], MOVING.reshape(1, 2, 1), "no bias or batch normalisation before it"),
        ([LIF(3), nn.Linear(3, 3, bias=False), DynamicLIF(3)], MOVING.reshape(1, 2, 1), "in the first layer only"),
        ([DynamicLIF(3, v_rest=0.1)], MOVING.reshape(1, 2, 1), "v_rest = 0"),
        ([DynamicLIF(2)], MOVING, "one theta for all neurons of a sample"),
        ([DynamicLIF(3)], -MOVING.reshape(1, 2, 1), "theta above 0"),
    ],
)
def test_normalised_refuses_what_division_would_change(nir, layers, theta, text):
    with pytest.raises(ValueError, match=text):
        to_nir(layers, "normalised", theta=theta)


def test_frozen_takes_the_mean_and_warns(nir, noise):
    x, layers = 3 * noise(40, 4, 6), [nn.Linear(6, 5), DynamicLIF(5, strict=True)]
    theta = torch.linspace(0.2, 1.4, 40).reshape(40, 1, 1)
    with pytest.warns(UserWarning, match=r"frozen at its mean, 0\.8; it runs from 0\.2 to 1\.4 with .* 0\.355"):
        graph = to_nir(layers, "frozen", theta=theta)
    assert graph.nodes["neurons_0"].v_threshold == pytest.approx(0.8)
    differ = verify(graph, x, spikes=run(layers, x, theta))["neuroav"].differ
    assert 0.03 < differ < 0.3


def motion_stream(**options):
    stream = SpikingLayers(layers=2, **options).build(6)
    with torch.no_grad():
        for norm in stream.norm:
            if isinstance(norm, nn.BatchNorm1d):
                norm.running_mean.uniform_(-0.3, 0.3)
                norm.running_var.uniform_(0.2, 0.6)
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.uniform_(-0.2, 0.4)
        for neuron in stream.neuron:
            if neuron.learn_tau:
                neuron.decay_logit.uniform_(-1, 1)
    return stream.eval()


@pytest.mark.parametrize(
    "options",
    [{}, {"repeats": 1, "delays": (0,), "learn_tau": False}, {"repeats": 2, "delays": (0, 1, 3), "normalise": False}],
    ids=str,
)
def test_the_motion_stream(nir, noise, options):
    """Batch normalisation is folded, delays are nodes, and every step is presented ``repeats`` times."""
    stream, x = motion_stream(**options), 2 * noise(12, 4, 6)
    theta, valid = torch.full((12, 4, 1), 0.3), torch.ones(12, 4, dtype=torch.bool)
    spikes = stream(x, theta, valid)[-1].output.detach()
    graph = to_nir(stream, theta=theta)
    assert 0.05 < spikes.mean() < 0.8
    report = verify(graph, x.repeat_interleave(stream.repeats, 0), spikes=spikes)
    assert report["neuroav"].differ == 0
    assert graph.metadata["repeats"] == stream.repeats
    for reader in READERS:
        if importlib.util.find_spec(reader) is not None:
            wanted = "" if stream.delays == (0,) else "it has no Delay node"
            assert report[reader].left_out == wanted
            assert report[reader].differ == (0 if stream.delays == (0,) else None)


def test_state_is_passed(nir, noise):
    stream, x = motion_stream(repeats=1), 2 * noise(12, 4, 6)
    network = from_nir(to_nir(stream, theta=0.3))
    whole, _ = network(x)
    first, state = network(x[:5])
    second, _ = network(x[5:], state)
    assert whole.sum() > 0
    assert torch.equal(torch.cat([first, second]), whole)
    with pytest.raises(ValueError, match=r"NIRNetwork: expected x of shape \(T, B, 6\)"):
        network(x[..., :5])


def test_files_are_whole_or_absent(nir, noise, tmp_path, monkeypatch):
    x, layers = 3 * noise(10, 4, 6), stack()
    path = tmp_path / "net.nir"
    write_nir(path, to_nir(layers, dt=3e-4))
    assert torch.equal(from_nir(path)(x)[0], run(layers, x))  # the step is in the file
    assert os.listdir(tmp_path) == ["net.nir"]
    with pytest.raises(OutputError, match="expected a file that can be written"):
        write_nir(tmp_path / "no" / "net.nir", to_nir(layers))

    def full(name, graph):
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nir, "write", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_nir(path, to_nir(layers))
    assert os.listdir(tmp_path) == ["net.nir"]
    from_nir(path)


def lif(nir, n=2, **values):
    given = {"tau": 2 * DT, "r": 1.0, "v_leak": 0.0, "v_reset": 0.0, "v_threshold": 0.5, **values}
    return nir.LIF(**{name: np.full(n, value, dtype=float) for name, value in given.items()})


@pytest.mark.parametrize("values", [{"r": 3.0}, {"r": [1.0, 2.0], "tau": [2 * DT, 5 * DT]}], ids=str)
def test_other_gains_are_read(nir, noise, values):
    x, graph = noise(20, 3, 2), nir.NIRGraph.from_list(lif(nir, **values))
    spikes = by_hand(graph, x)
    assert 0.02 < spikes.mean() < 0.7
    assert torch.equal(from_nir(graph)(x)[0], spikes)


def test_edges_into_a_node_are_summed(nir, noise):
    weights = [np.eye(2, dtype=np.float32), np.float32([[0, 1], [1, 0]])]
    nodes = {"in": nir.Input({"input": np.array([2])}), "a": nir.Linear(weights[0]), "b": nir.Linear(weights[1])}
    nodes |= {"z": lif(nir), "out": nir.Output({"output": np.array([2])})}
    graph = nir.NIRGraph(nodes, [("in", "a"), ("in", "b"), ("a", "z"), ("b", "z"), ("z", "out")])
    x = noise(10, 3, 2)
    assert torch.equal(from_nir(graph)(x)[0], LIF(v_th=0.5, strict=True)(x + x.flip(-1))[0])


def test_graphs_that_are_not_ours_are_refused(nir):
    cases = [
        (nir.NIRGraph.from_list(nir.Threshold(np.ones(2))), "Delay and LIF, got Threshold"),
        (nir.NIRGraph.from_list(lif(nir, tau=DT / 2)), "tau of lif of at least a step"),
        (nir.NIRGraph.from_list(lif(nir, v_reset=0.2)), "v_leak and v_reset of lif to be one number, got 0 and 0.2"),
        (nir.NIRGraph.from_list(nir.Delay(np.full(2, 1.5 * DT))), "one delay of whole steps"),
    ]
    loop = nir.NIRGraph.from_list(nir.Linear(np.eye(2)), lif(nir))
    loop.edges.append(("lif", "linear"))
    cases.append((loop, "a graph without cycles"))
    for graph, text in cases:
        with pytest.raises(ValueError) as error:
            from_nir(graph)
        assert text in str(error.value)
    with pytest.raises(TypeError, match=r"a nir.NIRGraph or the path of one, got int"):
        from_nir(3)


OBSTACLES = [
    ("norse", {"r": 2.0}),
    ("norse", {"v_reset": 0.2, "v_leak": 0.2}),
    ("snntorch", {"v_reset": 0.2, "v_leak": 0.2}),
    ("snntorch", {"tau": [1.2 * DT, 9 * DT]}),
    ("snntorch", {"v_threshold": [0.3, 0.8]}),
    ("spikingjelly", {"v_threshold": [0.3, 0.8]}),
    ("spikingjelly", {"r": 3.0}),
    ("spikingjelly", {"tau": DT}),
]


@pytest.mark.parametrize(("reader", "values"), OBSTACLES, ids=str)
def test_what_is_left_out_would_have_been_wrong(nir, noise, monkeypatch, reader, values):
    if importlib.util.find_spec(reader) is None:
        pytest.skip(f"{reader} is not installed")
    graph, x = nir.NIRGraph.from_list(lif(nir, **values)), noise(40, 3, 2)
    assert verify(graph, x)[reader].left_out.startswith(("it ", "its "))
    monkeypatch.setitem(nir_verify._READERS, reader, (lambda node, dt: "", nir_verify._READERS[reader][1]))
    found = verify(graph, x)[reader]
    assert found.left_out.startswith("its reader failed") or found.differ > 0.01


def test_snntorch_has_one_step_length(nir, snn, noise):
    graph = to_nir([LIF(2, v_th=0.3)], dt=1e-3)
    assert verify(graph, noise(5, 1, 2))["snntorch"].left_out == "its time step is always 0.0001 s, not 0.001 s"


def test_verify_leaves_nothing_behind(nir, snn, noise, capfd):
    before = len(snn.SpikingNeuron.instances)
    report = verify(to_nir(stack()), noise(5, 2, 6))
    assert len(snn.SpikingNeuron.instances) == before
    assert capfd.readouterr().out == ""
    assert "against neuroav's reading of the graph, spike rate" in str(report)
    assert f"snntorch {report['snntorch'].version}: 0.000% of spikes differ" in str(report)


def test_verify_counts_what_differs(nir, noise):
    x, layers = 3 * noise(20, 4, 6), stack()
    spikes = run(layers, x)
    spikes[3, 1, 2] = 1 - spikes[3, 1, 2]
    assert verify(to_nir(layers), x, spikes=spikes)["neuroav"].differ == pytest.approx(1 / spikes.numel())


def test_absent_readers_are_named(nir, noise, monkeypatch):
    monkeypatch.setattr(nir_verify.importlib.util, "find_spec", lambda name: None)
    report = verify(to_nir(stack()), noise(5, 2, 6))
    assert [str(result) for result in report.results] == [f"{name}: left out: not installed" for name in READERS]


def test_without_nir_the_remedy_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ImportError, match=r"expected the package nir, got .*pip install 'neuroav\[exchange\]'"):
        to_nir([LIF(3)])
