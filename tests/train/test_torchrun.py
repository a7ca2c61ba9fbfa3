"""Two real processes by torchrun: they go on where one was interrupted, and end with the numbers of one."""

import json
import subprocess
import sys

import pytest
import torch

from neuroav.config import load_experiment
from neuroav.files import load_json
from neuroav.run import run_experiment
from neuroav.train.checkpoint import load_tensors
from neuroav.train.log import Watch

EXPERIMENT = """
from neuroav.config import Experiment, MotionScenesData
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.data.windows import Crops
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import SpikingLayers
from neuroav.nn.losses import HeadsConfig
from neuroav.train.loop import OneStage, TrainConfig
from neuroav.train.optim import Step

def shared():
    return Experiment(
        name="shared",
        data=MotionScenesData(store={store!r}, scenes=MotionScenesConfig(size="tiny")),
        steps=Crops(train=4, test=8),
        config=MDFTConfig(dim=16, heads=HeadsConfig(hidden=16), motion=SpikingLayers(layers=1)),
        train=TrainConfig(
            epochs=3, batches=3, batch_size=32, shards=2, lr=1e-2, schedule=Step(), protocol=OneStage(), device="cpu"
        ),
    )
"""


class Stop(Watch):
    """Interrupts after the first epoch."""

    def epoch(self, epoch):
        raise KeyboardInterrupt


def torchrun(folder, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "neuroav"]
    return subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="gloo as Linux has it")
def test_two_processes_go_on_with_the_run_of_one_and_end_with_its_numbers(tiny_store, tmp_path):
    (tmp_path / "exp.py").write_text(EXPERIMENT.format(store=str(tiny_store)), encoding="utf-8")
    experiment = load_experiment(f"{tmp_path / 'exp.py'}:shared")
    run_experiment(experiment, tmp_path / "one")
    with pytest.raises(KeyboardInterrupt):
        run_experiment(experiment, tmp_path / "two", [Stop()])
    done = torchrun(tmp_path, "run", "exp.py:shared", "--out", "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: two/report.html") == 1  # the first process alone speaks

    one, two = tmp_path / "one", tmp_path / "two"
    assert load_json(two / "versions.json")["processes"] == "2"
    epochs = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (one, two)
    ]
    assert len(epochs[0]) == len(epochs[1]) == 3
    for a, b in zip(*epochs, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert (a["hm"], a["beta"], a["lr"]) == (b["hm"], b["beta"], b["lr"])
    (a, note), (b, other) = (load_tensors(folder / "model.safetensors") for folder in (one, two))
    assert note == other
    for name in a:
        torch.testing.assert_close(b[name], a[name], rtol=1e-4, atol=1e-6, msg=name)
    assert not list(two.glob("*.tmp"))
    rows = [load_json(folder / "results.json")["rows"] for folder in (one, two)]
    for a, b in zip(*rows, strict=True):
        assert {k: a[k] for k in ("seen", "unseen", "hm", "zsl", "device")} == {
            k: b[k] for k in ("seen", "unseen", "hm", "zsl", "device")
        }
