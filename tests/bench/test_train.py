"""``neuroav bench train``: a timed step is a step of the loop, and the table adds up; tiny sizes, no processes."""

import json

import numpy as np
import pytest
import torch

from neuroav import models
from neuroav.bench import train as bench
from neuroav.cli import main
from neuroav.train.seed import generator, seed_torch
from neuroav.train.step import draw

TINY = bench.Case(3, 8, 16, features=24, motion=(2, 4, 4), classes=4, clips=12)


@pytest.mark.parametrize("impl", list(bench.configs(16)))
def test_a_timed_step_is_a_step_of_this_model_on_a_drawn_batch(impl):
    figures = bench.start_model(TINY, impl)
    run = figures.prepare()
    told = figures.describe(run())
    name, config = bench.configs(16)[impl]
    data = TINY.data()
    seed_torch(0)
    model = models.build(name, data.spec, config).train()
    ((clips, negatives),) = draw(data.labels.numpy(), 8, 1, generator(0))
    seed_torch(0)  # dropout of the first step
    expected = sum(model.loss(data.batch(clips), torch.from_numpy(negatives)).values()).item()
    assert told["loss"] == pytest.approx(expected, rel=1e-5)
    assert told["parameters"] == sum(p.numel() for p in model.parameters())
    assert figures.describe(run())["loss"] != told["loss"]  # the weights have moved


def test_a_batch_has_the_bytes_that_the_floor_copies():
    batch = TINY.data().batch(np.arange(8))
    values = [batch.audio.values, batch.video.values, batch.motion.values]
    assert TINY.batch_bytes == sum(v.numel() * v.element_size() for v in values)
    runner = bench.start_floor(TINY)
    assert runner.describe(runner.prepare()()) == {"bytes": 2 * TINY.batch_bytes}


def test_rows_and_table_say_clips_a_second(tmp_path, monkeypatch, in_this_process, capsys):
    monkeypatch.setattr(
        bench, "time_side_by_side", lambda jobs, turns, on_turn, crew: in_this_process(jobs, turns, id, on_turn)
    )
    monkeypatch.setattr(bench, "CASES", (TINY,))
    figures, out = tmp_path / "train.json", tmp_path / "train.md"
    assert main(["bench", "train", "--repeats", "2", "--threads", "2", "--json", str(figures), "--out", str(out)]) == 0
    report = json.loads(figures.read_text())
    assert [row["impl"] for row in report["rows"]] == [*bench.configs(16), "floor"]
    for row in report["rows"]:  # each sample took half a second
        assert (row["bench"], row["median_s"], row["clips_per_s"]) == ("train", 0.5, 16.0)
        assert row["throughput"] == pytest.approx(16e-6)
    assert out.read_text() in capsys.readouterr().out
    assert "| MDFT | 16.0 | 500.00 | 0.00 | 500.00 | 1.000 | 1 |" in out.read_text()


def test_options_of_other_benches_are_refused(capsys):
    assert main(["bench", "train", "--compiled"]) == 2
    assert "none of the options of other benches, got --compiled" in capsys.readouterr().err
