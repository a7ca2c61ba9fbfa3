"""``neuroav bench protocol``: cases, what everybody computes, ratios and what is written; tiny sizes, no processes."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neuroav.bench import protocol as bench
from neuroav.bench.protocol import Case
from neuroav.bench.timing import Job, Timed
from neuroav.cli import main
from neuroav.gzsl.metrics import per_class_recall
from neuroav.gzsl.scores import calibrated_prediction, euclidean_distances, zsl_prediction

TINY = {start: Case("UCF", 60, 5, 3, 11, start=start) for start in ("distances", "embeddings")}


@pytest.fixture
def quick(monkeypatch, in_this_process):
    monkeypatch.setattr(bench, "time_side_by_side", in_this_process)
    monkeypatch.setattr(bench, "CASES", tuple(TINY.values()))


def by_hand(case):
    clips, prototypes, label, seen = case.simulate()
    distances = euclidean_distances(clips.numpy(), prototypes.numpy())
    best = None
    for beta in np.linspace(0, 3, 16):
        recall = per_class_recall(calibrated_prediction(distances, seen, beta), label, seen.size)
        s, u = recall[seen].mean(), recall[~seen].mean()
        if best is None or 2 * s * u / (s + u) > best["hm"]:
            best = {"seen": s, "unseen": u, "hm": 2 * s * u / (s + u), "beta": beta}
    zsl = per_class_recall(zsl_prediction(distances, seen), label, seen.size)[~seen].mean()
    return best | {"zsl": zsl}


@pytest.mark.parametrize("start", TINY)
@pytest.mark.parametrize("impl", ["neuroav", bench.LOOP])
def test_both_find_the_figures_of_the_protocol(impl, start):
    runner = bench.STARTS[impl](TINY[start])
    figures = runner.describe(runner.prepare()())
    expected = by_hand(TINY[start])
    assert figures == pytest.approx(expected, abs=1e-6)
    assert 0 < expected["beta"] < 3
    assert 0 < expected["unseen"] < 1


def test_cases_have_the_published_sizes():
    sizes = {(c.benchmark, c.clips, c.seen, c.unseen, c.names) for c in bench.CASES}
    assert sizes == {
        ("UCF", 353 + 1467, 30, 12, 101),
        ("ActivityNet", 1023 + 4307, 99, 51, 200),
        ("VGGSound", 7817 + 3102, 138, 69, 309),
    }
    clips, prototypes, label, seen = bench.CASES[0].simulate()
    assert (clips.shape, prototypes.shape, len(label), seen.sum()) == ((1820, 64), (42, 64), 1820, 30)
    assert len(np.unique(label)) == 42


def test_who_finds_other_figures_is_left_out():
    right = {"seen": 0.5, "unseen": 0.5, "hm": 0.5, "zsl": 0.5, "beta": 0.4}
    timed = [Timed(Job(impl, int), dict(right)) for impl in ("neuroav", bench.LOOP, bench.RELEASED)]
    timed[1].figures["hm"] += 1e-7
    timed[2].figures["zsl"] = 0.6
    bench.verify(timed)
    assert [one.skipped for one in timed] == ["", "", "its zsl is 0.600000, ours 0.500000"]


def test_the_released_evaluation_is_called_with_its_own_ids(monkeypatch):
    case = TINY["embeddings"]
    _, prototypes, label, seen = case.simulate()

    def get_best_evaluation(dataset, targets, audio, video, text, mode, device, distance_fn):
        columns = np.sort(np.concatenate([dataset.seen_class_ids, dataset.unseen_class_ids]))
        assert len(dataset.all_class_ids) == 11
        assert np.isin(columns, dataset.seen_class_ids).tolist() == seen.tolist()
        assert columns[label].tolist() == targets.tolist()
        assert mode == "video"
        assert torch.equal(text, prototypes)
        return {"seen": 1, "unseen": 2, "hm": 3, "zsl": 4, "beta": 5, "recall": []}

    module = SimpleNamespace(get_best_evaluation=get_best_evaluation)
    monkeypatch.setitem(sys.modules, "src", SimpleNamespace(utils=module))
    monkeypatch.setitem(sys.modules, "src.utils", module)
    runner = bench.start_released(case)
    assert runner.describe(runner.prepare()()) == {"seen": 1, "unseen": 2, "hm": 3, "zsl": 4, "beta": 5}
    assert [job.impl for job in bench.jobs_of(case, True, 1)] == ["neuroav", bench.LOOP, bench.RELEASED]
    assert bench.RELEASED not in [job.impl for job in bench.jobs_of(TINY["distances"], True, 1)]


def test_ratios_are_of_times():
    def row(impl, median, best):
        return {"case": "a", "impl": impl, "median_s": median, "best_s": best}

    found = bench.ratios([row("neuroav", 2.0, 1.0), row(bench.LOOP, 50.0, 30.0)])
    assert found == [{"case": "a", "what": "loop over betas / neuroav", "ratio": 25.0, "best_ratio": 30.0}]


def test_the_command_writes_machine_rows_and_table(quick, tmp_path, capsys):
    out, figures = tmp_path / "table.md", tmp_path / "rows.json"
    assert main(["bench", "protocol", "--repeats", "3", "--json", str(figures), "--out", str(out)]) == 0
    report = json.loads(figures.read_text())
    contract = {"bench", "case", "impl", "median_s", "iqr_s", "throughput", "unit", "max_rss_bytes"}
    assert all(contract <= set(row) for row in report["rows"])
    assert [(row["bench"], row["impl"]) for row in report["rows"]] == [
        ("protocol", "neuroav"),
        ("protocol", bench.LOOP),
    ] * 2
    assert report["rows"][0]["throughput"] == pytest.approx(60 / 1e6)
    assert report["settings"] == {"threads": 1, "repeats": 3, "peers": False}
    table = out.read_text()
    assert capsys.readouterr().out == table
    assert "| UCF validation, 60 clips, 8 classes, from distances | neuroav | 1000.000 | 0.000 | 1000.000 |" in table
    assert "from embeddings: loop over betas / neuroav: 1.0 (best times: 1.0); bar 20: missed" in table


def test_options_of_other_benches_are_refused(capsys):
    assert main(["bench", "protocol", "--validate", "--frames", "3"]) == 2
    assert "expected none of the options of other benches, got --frames, --validate" in capsys.readouterr().err
