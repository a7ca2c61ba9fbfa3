"""``neuroav bench neurons``: what it plans, checks, computes and writes; tiny shapes, no processes."""

import json
import math

import numpy as np
import pytest
import torch

from neuroav.bench import neuron_peers as peers
from neuroav.bench import neurons as bench
from neuroav.bench import sparse
from neuroav.bench.machine import resident_bytes
from neuroav.bench.neuron_peers import Case
from neuroav.bench.timing import Crew, Job, Runner, Timed
from neuroav.checks import InputError
from neuroav.cli import main
from neuroav.kernels import cpu

TINY = (5, 3, 40)


@pytest.fixture
def quick(monkeypatch, in_this_process):
    monkeypatch.setattr(bench, "time_side_by_side", in_this_process)
    monkeypatch.setattr(bench, "SHAPES", (TINY,))
    monkeypatch.setattr(bench, "peaks", lambda entries, crew: {("neuroav", Case(TINY, True, True)): 3.0})
    monkeypatch.setattr(sparse, "SIZES", ((3, 32, 16),))
    monkeypatch.setattr(sparse, "RATES", (0.1, 0.5))


def by_hand(x, theta, grad):
    """One neuron after another in float64: spikes ``(T, B, N)``, and the gradient of ``(spikes * grad).sum()``."""
    spikes, gradient = np.zeros(x.shape), np.zeros(x.shape)
    for b, n in np.ndindex(x.shape[1:]):
        v, above = 0.0, []
        for t in range(len(x)):
            h = 0.5 * v + x[t, b, n]
            spikes[t, b, n] = h >= theta[t, b, 0]
            above.append(h - theta[t, b, 0])
            v = h - spikes[t, b, n] * theta[t, b, 0]
        carry = 0.0
        for t in reversed(range(len(x))):
            carry = 0.5 * carry + grad[t, b, n] / (1 + (math.pi * above[t]) ** 2)
            gradient[t, b, n] = carry
    return spikes, gradient


def truth(case):
    x, theta, grad = case.inputs()
    return by_hand(x.double().numpy(), np.broadcast_to(theta, (*case.shape[:2], 1)), grad.numpy())


# ------------------------------------------------------------------------------------------------ what everybody runs


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # norse, on import
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("plan", [p for p in bench.OURS + bench.PEERS if not p.compiled], ids=lambda plan: plan.impl)
def test_all_compute_the_same_neuron(plan, dynamic):
    case = Case(TINY, training=True, dynamic=dynamic)
    if reason := plan.left_out(case):
        pytest.skip(reason["reason"])
    spikes, gradient = truth(case)
    runner = plan.start(case)
    figures = runner.describe(runner.prepare()())
    got = np.unpackbits(figures["spikes"])[: case.elements].reshape(case.shape)
    assert np.mean(got != spikes) <= plan.spikes_differ
    assert figures["spike_rate"] == pytest.approx(spikes.mean(), abs=plan.spikes_differ)
    if plan.same_gradient:
        np.testing.assert_allclose(figures["gradient"], gradient.flatten(), rtol=1e-5, atol=1e-6)
    again = plan.start(Case(TINY, training=False, dynamic=dynamic))
    inference = again.describe(again.prepare()())
    np.testing.assert_array_equal(inference["spikes"], figures["spikes"])
    assert "gradient" not in inference


def test_a_neuron_by_hand():
    x = torch.tensor([1.5, 0.5, 0.75, 3.0]).view(4, 1, 1)
    theta = torch.tensor([1.0, 0.75, 2.0, 1.0]).view(4, 1, 1)
    assert peers.loop(x, 1.0).flatten().tolist() == [1, 0, 1, 1]  # h = 1.5, 0.75, 1.125, 3.0625
    assert peers.loop(x, theta).flatten().tolist() == [1, 1, 0, 1]  # h = 1.5, 0.75, 0.75, 3.375


def test_the_input_is_the_same_for_all_and_fires():
    case = Case((16, 64, 64), training=True, dynamic=True)
    (x, theta, grad), again = case.inputs(), case.inputs()
    assert all(torch.equal(one, other) for one, other in zip((x, theta, grad), again, strict=True))
    assert theta.shape == (16, 64, 1)
    assert 0.5 <= theta.min() < theta.max() <= 1.5
    assert 0.2 < peers.loop(x, 1.0).mean() < 0.5


@pytest.mark.skipif(resident_bytes(peak=False) is None, reason="the system doesn't say how much memory is resident")
def test_memory_held_is_counted_whoever_allocates_it():
    plans = [*bench.OURS, bench.PEERS[1]]
    entries = [bench.Entry(Case((16, 64, 512), training), plan) for plan in plans for training in (False, True)]
    with Crew() as crew:
        found = bench.peaks(entries, crew)
    assert set(found) == {(entry.plan.impl, entry.case) for entry in entries}
    peak = {(impl, case.training): tensors for (impl, case), tensors in found.items()}
    assert 1.0 <= peak["torch function", False] < 1.0 + 4 / 16  # the spikes; a few tensors of one step
    assert 3.0 <= peak["torch function", True] < 3.0 + 4 / 16  # spikes, membrane, gradient
    if cpu.available():
        assert 0.95 < peak["neuroav", False] < 1.2
        assert 2.9 < peak["neuroav", True] < 3.2
        assert 1.9 < peak[bench.RECOMPUTE, True] < 2.4


def test_a_result_of_another_shape_is_refused():
    runner = peers.runner_of(Case(TINY, training=False), lambda x, theta: x[0])
    with pytest.raises(InputError, match=r"expected spikes of shape \(5, 3, 40\), got \(3, 40\)"):
        runner.describe(runner.prepare()())


@pytest.mark.parametrize(("training", "each"), [(False, 8), (True, 24)])
def test_the_floor_copies_the_bytes_that_can_not_be_avoided(training, each):
    runner = bench.start_floor(Case(TINY, training))
    assert runner.describe(runner.prepare()()) == {"bytes": each * 5 * 3 * 40}


# ----------------------------------------------------------------------------------------------------------- planning


def test_without_peers_only_ours_and_the_floor_are_planned():
    found, skipped = bench.groups(2, with_peers=False, compiled=False)
    assert skipped == []
    assert len(found) == 2 * len(bench.SHAPES)
    ours = {plan.impl for plan in bench.OURS}
    for entries in found:
        expected = ours if entries[0].case.training else ours - {bench.RECOMPUTE}
        assert {entry.plan.impl for entry in entries} == expected | {"floor"}
        assert {(entry.case.dynamic, entry.threads) for entry in entries if entry.plan.impl == "neuroav"} == {
            (False, 1),
            (False, 2),
            (True, 1),
            (True, 2),
        }
        assert {entry.threads for entry in entries if entry.plan.impl == "floor"} == {1, 2}
    names = [entries[0].name for entries in found]
    assert names[:2] == ["inference 4x64x512, theta fixed", "training 4x64x512, theta fixed"]


def test_what_is_left_out_has_its_reason_once(monkeypatch):
    monkeypatch.setattr("neuroav.bench.peers.find_spec", lambda name: None if name == "snntorch" else name)
    found, skipped = bench.groups(1, with_peers=True, compiled=True)
    assert [(one["case"], one["impl"]) for one in skipped] == [
        ("all", "snnTorch"),
        ("theta (T,B,1)", "SpikingJelly, compiled"),
        ("theta (T,B,1)", "norse"),
        ("T=64", "torch compiled"),
        ("T=64", "SpikingJelly, compiled"),
    ]
    assert skipped[0]["reason"] == "snntorch is not installed. Install it with: pip install snntorch"
    planned = {(entry.plan.impl, entry.case.shape[0], entry.case.dynamic) for entries in found for entry in entries}
    assert ("torch compiled", 16, True) in planned
    assert not {one for one in planned if one[0] == "snnTorch" or (one[0] == "norse" and one[2])}
    assert not {one for one in planned if "compiled" in one[0] and one[1] == 64}
    assert {entry.threads for entries in found for entry in entries} == {1}


# ----------------------------------------------------------------------------------------------------------- checking


def verified(forward, plan=bench.PEERS[0]):
    case = Case(TINY, training=True)
    plans = (bench.OURS[0], plan)
    runners = (plans[0].start(case), peers.runner_of(case, forward))
    timed = [
        Timed(Job(plan.impl, int), one.describe(one.prepare()())) for plan, one in zip(plans, runners, strict=True)
    ]
    bench.verify([bench.Entry(case, plan) for plan in plans], timed)
    assert timed[0].skipped == ""
    assert all("spikes" not in one.figures and "gradient" not in one.figures for one in timed)
    return timed[1]


def test_the_same_neuron_is_timed():
    same = verified(peers.loop)
    assert same.skipped == ""
    assert same.figures["spikes_differ"] == 0
    assert same.figures["gradient_differs"] < 1e-5


def test_another_neuron_is_left_out():
    other = verified(lambda x, theta: peers.loop(x, 1.1))
    assert "of its spikes are not ours: another neuron" in other.skipped
    assert 0.005 < other.figures["spikes_differ"] < 0.2
    allowed = bench.Plan("snnTorch", peers.snntorch, spikes_differ=0.2, same_gradient=False)
    assert verified(lambda x, theta: peers.loop(x, 1.1), allowed).skipped == ""


def test_other_gradients_are_left_out():
    def wrong(x, theta):
        return peers.loop(x, theta).detach() + (x - x.detach())

    assert "its gradients are not ours: off by" in verified(wrong).skipped
    assert verified(wrong, bench.Plan("norse", peers.norse, same_gradient=False)).skipped == ""


# ----------------------------------------------------------------------------------------------------------- command


def test_ratios_are_of_times():
    def row(case, impl, median, best):
        return {"case": case, "impl": impl, "median_s": median, "best_s": best}

    rows = [
        row("training 4x2x8, theta fixed", "neuroav", 3.0, 2.0),
        row("training 4x2x8, theta fixed", "norse", 30.0, 10.0),
        row("training 4x2x8, theta fixed", "floor", 2.0, 1.0),
        row("training 4x2x8, theta fixed, 2 threads", "neuroav", 2.0, 1.0),
        row("training 4x2x8, theta (T,B,1)", "neuroav", 3.3, 2.2),
        row("training 4x2x8, theta (T,B,1)", "floor", 2.0, 1.0),
    ]
    found = {(one["case"].partition("theta ")[2], one["what"]): one for one in bench.ratios(rows)}
    assert {key: (one["ratio"], one["best_ratio"]) for key, one in found.items()} == {
        ("fixed", "neuroav / floor"): (1.5, 2.0),
        ("fixed", "norse / neuroav"): (10.0, 5.0),
        ("fixed, 2 threads", "neuroav, one thread / several"): (1.5, 2.0),
        ("(T,B,1)", "neuroav / floor"): (pytest.approx(1.65), 2.2),
        ("(T,B,1)", "neuroav, theta (T,B,1) / fixed"): (pytest.approx(1.1), pytest.approx(1.1)),
    }


def test_the_command_writes_machine_rows_and_table(quick, tmp_path, capsys):
    out, figures = tmp_path / "table.md", tmp_path / "rows.json"
    command = ["bench", "neurons", "--threads", "2", "--repeats", "3", "--json", str(figures), "--out", str(out)]
    assert main(command) == 0
    report = json.loads(figures.read_text())
    assert set(report) == {"machine", "rows", "ratios", "crossovers", "skipped", "settings"}
    contract = {"bench", "case", "impl", "median_s", "iqr_s", "throughput", "unit", "max_rss_bytes"}
    assert all(contract <= set(row) for row in report["rows"])
    rows = {(row["case"], row["impl"]): row for row in report["rows"]}
    ours = rows["training 5x3x40, theta (T,B,1)", "neuroav"]
    assert (ours["bench"], ours["median_s"], ours["best_s"], ours["iqr_s"]) == ("neurons", 1.0, 1.0, 0.0)
    assert (ours["throughput"], ours["unit"]) == (pytest.approx(600 / 1e6), "Mneuron-step/s")
    assert (ours["x_floor"], ours["spikes_differ"], ours["samples"]) == (1.0, 0.0, 3)
    assert [case for (case, _), row in rows.items() if "peak_tensors" in row] == [
        "training 5x3x40, theta (T,B,1)",
        "training 5x3x40, theta (T,B,1), 2 threads",
    ]
    floor = rows["training 5x3x40, theta (T,B,1), 2 threads", "floor"]
    assert (floor["median_s"], floor["bytes"]) == (0.5, 24 * 600)
    assert floor["copy_gb_per_s"] == pytest.approx(24 * 600 / 0.5 / 1e9)
    table = out.read_text()
    assert capsys.readouterr().out == table
    assert "## inference 5x3x40\n" in table
    assert "| (T,B,1), 2 threads | neuroav | 500.000 | 0.000 | 500.000 | 1.00 | 1.00 |" in table
    assert "* theta (T,B,1): neuroav, theta (T,B,1) / fixed: 1.00 (best times: 1.00)" in table
    assert "* theta fixed, 2 threads: neuroav, one thread / several: 2.00 (best times: 2.00)" in table
    layer = rows["layer 32 to 16, T=3, B=1, spike rate 0.1", "neuroav, dense"]
    assert (layer["throughput"], layer["unit"]) == (pytest.approx(3 * 32 * 16 / 1e6), "Msynapse-step/s")
    assert layer["spikes_differ"] <= 1e-3
    assert report["crossovers"] == [{"case": "layer 32 to 16, T=3, B=1", "size": [3, 32, 16], "spike_rate": 1.0}]
    assert "| 0.1 | 1000.0000 | 0.0000 | 1000.0000 | 0.0000 | 1.00 |" in table
    assert "* crossover: sparse is faster at every spike rate" in table


def test_peers_that_are_not_here_are_named_with_the_remedy(quick, monkeypatch, capsys):
    monkeypatch.setattr("neuroav.bench.peers.find_spec", lambda name: None)
    assert main(["bench", "neurons", "--peers", "--repeats", "1", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    for package in ("spikingjelly", "snntorch", "norse"):
        assert f"{package} is not installed. Install it with: pip install {package}" in said
    assert "| fixed | torch function | 1000.000 |  | 1000.000 | 1.00 | 1.00 |" in said


def test_a_failure_of_ours_is_no_success(quick, monkeypatch, capsys):
    def broken(jobs, turns, verify, on_turn, crew):
        return [Timed(job, skipped="ValueError: broken") for job in jobs]

    monkeypatch.setattr(bench, "time_side_by_side", broken)
    assert main(["bench", "neurons", "--threads", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    left_out = next(line for line in lines if line.startswith("* neuroav: ValueError: broken ("))
    assert "training 5x3x40, theta fixed" in left_out


@pytest.mark.parametrize(
    ("gains", "rate"),
    [
        ([(0.1, 1.0), (0.3, 1.0), (0.5, -1.0), (1.0, -2.0)], 0.4),
        ([(0.1, 1.0), (0.3, -0.1), (0.5, 0.3), (1.0, -0.2)], 0.8),  # noise: the last time counts
        ([(0.1, 2.0), (1.0, 0.1)], 1.0),
        ([(0.1, -0.1), (1.0, -0.2)], 0.0),
    ],
)
def test_the_crossover_lies_between_the_rates_around_it(gains, rate):
    assert sparse.crossing(gains) == pytest.approx(rate)


def test_the_crossover_is_where_both_take_the_same_time():
    def row(rate, impl, median):
        return {"case": sparse.SparseCase((40, 1024, 512), rate).name, "impl": impl, "median_s": median}

    rows = [row(0.1, sparse.SPARSE, 1.0), row(0.1, sparse.DENSE, 2.0), row(0.3, sparse.SPARSE, 4.0)]
    assert sparse.crossovers(rows)[0]["spike_rate"] == 1.0  # of the only rate that both have
    rows += [row(0.3, sparse.DENSE, 2.0), row(0.5, sparse.DENSE, 2.0)]
    (found,) = sparse.crossovers(rows)
    assert found["case"] == "layer 1024 to 512, T=40, B=1"
    assert found["spike_rate"] == pytest.approx(0.2)


def test_a_sparse_layer_has_the_rate_it_says():
    case = sparse.SparseCase((40, 512, 64), 0.18)
    linear, _, s, theta = case.make()
    assert s.shape == (40, 1, 512)
    assert s.mean().item() == pytest.approx(0.18, abs=0.01)
    assert theta.shape == (40, 1, 1)
    assert linear.weight.shape == (64, 512)
    assert 0.02 < sparse.start_dense(case).prepare()().mean() < 0.5


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--threads", "0"], "expected --threads in [1, 1024], got 0"),
        (["--repeats", "0"], "expected --repeats in [1, 1000], got 0"),
        (["--out", "no/such/folder.md"], "expected a file in an existing folder, got no/such/folder.md"),
        (["--clip", "a.mp4", "--frames", "3"], "none of the options of other benches, got --clip, --frames"),
        (["--validate"], "none of the options of other benches, got --validate"),
    ],
)
def test_bad_arguments_are_refused(quick, arguments, text, capsys):
    assert main(["bench", "neurons", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_events_know_no_compiled_peers(capsys):
    assert main(["bench", "events", "--compiled"]) == 2
    assert "none of the options of other benches, got --compiled" in capsys.readouterr().err


def test_a_runner_needs_no_preparation():
    runner = peers.torch_loop(Case(TINY, training=False))
    assert isinstance(runner, Runner)
    assert runner.prepare() is runner.prepare()
