"""A run that is killed again and again, at random times or at every write, must end like one left alone.

``python tests/train/kill.py --kills 20 --seed 0`` kills ``neuroav run`` processes at random times with SIGKILL, starts
each again until it finishes, and compares the run directory with that of a run nobody touched.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

EXPERIMENT = """
from neuroav.config import Experiment, MotionScenesData
from neuroav.data.motionscenes import MotionScenesConfig
from neuroav.mdft.model import MDFTConfig
from neuroav.mdft.motion import SpikingLayers
from neuroav.nn.losses import HeadsConfig
from neuroav.train.loop import TrainConfig
from neuroav.train.optim import Plateau

def two():
    return Experiment(
        name="two",
        data=MotionScenesData(store={store!r}, scenes=MotionScenesConfig(size="tiny")),
        config=MDFTConfig(dim=16, heads=HeadsConfig(hidden=16), motion=SpikingLayers(layers=1)),
        train=TrainConfig(epochs=3, batches=3, batch_size=16, lr=1e-2, schedule=Plateau(patience=0)),
    )
"""


def neuroav_run(reference, out, page, at_write=None):
    """Be a ``neuroav run``; with ``at_write=(n, moment)`` one that dies before or after its ``n``-th rename.

    ``page=False`` leaves out drawing the report, which takes longer than all the rest.
    """
    import torch

    from neuroav.cli import main
    from neuroav.report import html

    torch.set_num_threads(1)
    if not page:
        html.render = lambda run: "page"
    with open(os.devnull, "w", encoding="utf-8") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    if at_write is not None:
        die_at_write(*at_write)
    os._exit(main(["run", str(reference), "--out", str(out)]))


def die_at_write(number, moment):
    """Kill this process at its ``number``-th ``os.replace``."""
    replace, left = os.replace, number

    def counted(source, target):
        nonlocal left
        left -= 1
        if left == 0 and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = counted


class Killer:
    """Starts runs of one experiment in ``folder`` on the store ``store``, and ends them."""

    def __init__(self, folder, store, page=True):
        self.page = page
        self.reference = f"{folder / 'exp.py'}:two"
        (folder / "exp.py").write_text(EXPERIMENT.format(store=str(store)), encoding="utf-8")
        self.context = multiprocessing.get_context("forkserver")  # libraries are imported once
        self.context.set_forkserver_preload(
            ["neuroav.run", "neuroav.mdft.model", "neuroav.report.html", "torch._dynamo"]
        )

    def start(self, out, at_write=None):
        """Start a process."""
        process = self.context.Process(target=neuroav_run, args=(self.reference, out, self.page, at_write))
        process.start()
        return process

    def finish(self, out):
        """Run to the end; the seconds it took."""
        begin = time.perf_counter()
        process = self.start(out)
        process.join()
        assert process.exitcode == 0, f"the run ended with status {process.exitcode}"
        return time.perf_counter() - begin

    def kill_at_random(self, out, kills, rng, longest_s):
        """Kill and start again, ``kills`` times or until it finished; how many kills landed."""
        for landed in range(kills):
            process = self.start(out)
            time.sleep(rng.uniform(0, longest_s))
            process.kill()
            process.join()
            if process.exitcode == 0:
                return landed
            assert process.exitcode == -signal.SIGKILL, f"the run ended with status {process.exitcode}"
        return kills


def outcome(folder):
    """All that a run directory says of its experiment, without times, versions and the lock that a kill leaves."""
    import numpy as np

    from neuroav.files import load_json
    from neuroav.train.checkpoint import load_tensors

    results = load_json(folder / "results.json")
    del results["versions"]
    for row in results["rows"]:
        del row["train_s"]
    with np.load(folder / "arrays.npz", allow_pickle=False) as file:
        arrays = {name: values.tobytes() for name, values in file.items()}
    tensors, note = load_tensors(folder / "model.safetensors")
    weights = {name: value.numpy().tobytes() for name, value in tensors.items()}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    files = {path.name for path in folder.iterdir()} - {"run.lock"}
    return {"results": results, "arrays": arrays, "weights": weights, "note": note, "epochs": lines, "files": files}


def main():
    """Kill as often as asked; status 0 if every run ended like the one left alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from neuroav.data.motionscenes import MotionScenesConfig, generate

    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp())
    try:
        generate(MotionScenesConfig(size="tiny"), folder / "tiny.h5", quiet=True)
        killer = Killer(folder, folder / "tiny.h5")
        killer.finish(folder / "warm")
        longest = killer.finish(folder / "alone")
        expected, landed, runs = outcome(folder / "alone"), 0, 0
        while landed < options.kills:
            out = folder / f"run{runs}"
            landed += killer.kill_at_random(out, options.kills - landed, rng, 0.7 * longest)
            runs += 1
            killer.finish(out)
            found = outcome(out)
            differ = [name for name in expected if found[name] != expected[name]]
            assert not differ, f"{out}: {', '.join(differ)} differ"
    finally:
        shutil.rmtree(folder)
    sys.stdout.write(f"{landed} kills in {runs} runs of {longest:.2f} s: every run ended like one left alone\n")


if __name__ == "__main__":
    main()
