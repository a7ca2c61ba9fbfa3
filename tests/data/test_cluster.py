"""Clips over a real local cluster of scheduler and workers: everything exactly once, whoever dies; clear refusals."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

pytest.importorskip("distributed", reason="needs the extra 'cluster'")

from neuroav import cluster
from neuroav.checks import InputError
from neuroav.cli import main
from neuroav.cluster import map_cluster
from neuroav.data import extract
from neuroav.data.encoders import c3d, vggish
from neuroav.data.store import Store

CLIPS = 10


def wait_for(condition, seconds=90.0):
    """Wait until ``condition()`` is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return found


@contextmanager
def process(kind, *arguments, folder):
    """A dask scheduler or worker in a process of its own, killed at the end."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "false"}
    with (folder / f"{kind}.log").open("ab") as log:
        running = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@contextmanager
def scheduler(folder):
    """Yield the address of a new scheduler."""
    file = folder / "scheduler.json"
    arguments = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    with process("scheduler", *arguments, folder=folder):
        yield wait_for(lambda: file.exists() and file.read_text() and json.loads(file.read_text())["address"])


def worker(address, folder):
    return process("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", folder=folder)


def write_clip(path, seed):
    """A second of a moving square at 10 Hz with a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for i in range(10):
            image = np.full((48, 64, 3), 40, np.uint8)
            image[10:24, (5 * i + seed) % 48 :][:, :14] = 220
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(video.encode())
        tone = 0.4 * np.sin(2 * np.pi * (300 + 40 * seed) * np.arange(16000) / 16000)
        frame = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], "fltp", "mono")
        frame.sample_rate, frame.time_base = 16000, Fraction(1, 16000)
        container.mux(sound.encode(frame))
        container.mux(sound.encode())


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Labelled clips of two classes, their vectors, and the store that processes of this machine make of them."""
    root = tmp_path_factory.mktemp("clips")
    (root / "clips").mkdir()
    names = [f"{i:02d}.mp4" for i in range(CLIPS)]
    for i, name in enumerate(names):
        write_clip(root / "clips" / name, i)
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label"], *((name, ["a", "b"][i % 2]) for i, name in enumerate(names))])
    np.savez(root / "vectors.npz", names=np.array(["a", "b"]), vectors=np.eye(2, dtype=np.float32))
    return root


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """Address of a scheduler with two workers, the first of which is yielded to be killed."""
    folder = tmp_path_factory.mktemp("cluster")
    with scheduler(folder) as address, worker(address, folder) as victim, worker(address, folder):
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=90)
        yield address, victim


def extract_argv(root, out, *more):
    options = ["--labels", str(root / "labels.csv"), "--vectors", str(root / "vectors.npz"), "-o", str(out)]
    return ["extract", str(root / "clips"), *options, *more]


def test_every_clip_is_in_the_store_once_though_a_worker_is_killed(clips, two_workers, tmp_path, monkeypatch, capsys):
    """Killed after the third clip is written, with others of its clips waiting and in work."""
    address, victim = two_workers
    write = extract.StoreWriter.write

    def killing(self, record):
        write(self, record)
        if len(self.done) == 3:
            victim.send_signal(signal.SIGKILL)
            victim.wait()

    with monkeypatch.context() as patch:
        patch.setattr(extract.StoreWriter, "write", killing)
        assert main(extract_argv(clips, tmp_path / "cluster.h5", "--cluster", address)) == 0
    assert victim.returncode == -signal.SIGKILL
    assert "left out" not in capsys.readouterr().out
    monkeypatch.setattr(extract, "map_processes", lambda f, items, *_, **__: ((item, f(item)) for item in items))
    assert main(extract_argv(clips, tmp_path / "here.h5")) == 0
    with Store(tmp_path / "cluster.h5") as one, Store(tmp_path / "here.h5") as other:
        one.verify()
        assert one.names == other.names == [f"{i:02d}.mp4" for i in range(CLIPS)]
        a, b = one.load(), other.load()
        for key in ("audio", "video", "motion", "t_s", "labels", "offsets"):
            np.testing.assert_array_equal(getattr(a, key), getattr(b, key))


def weights_of_encoders(folder):
    """Options that choose C3D and VGGish, tiny and of random weights."""
    torch.manual_seed(0)
    for name, network in (("c3d", c3d.C3D(2, 8)), ("vggish", vggish.VGGish(4, 8, 4))):
        torch.save(network.state_dict(), folder / f"{name}.pth")
    return ["--video-encoder", f"c3d:{folder / 'c3d.pth'}", "--audio-encoder", f"vggish:{folder / 'vggish.pth'}"]


def test_encoders_run_on_the_cluster_as_they_do_here(clips, two_workers, tmp_path, monkeypatch):
    chosen = weights_of_encoders(tmp_path)
    assert main(extract_argv(clips, tmp_path / "cluster.h5", *chosen, "--cluster", two_workers[0])) == 0
    monkeypatch.setattr(extract, "map_processes", lambda f, items, *_, **__: ((item, f(item)) for item in items))
    assert main(extract_argv(clips, tmp_path / "here.h5", *chosen)) == 0
    with Store(tmp_path / "cluster.h5") as one, Store(tmp_path / "here.h5") as other:
        assert one.names == other.names == [f"{i:02d}.mp4" for i in range(CLIPS)]
        a, b = one.load(), other.load()
        assert (a.video.shape[1], a.audio.shape[1]) == (8, 4)
        for key in ("audio", "video"):
            np.testing.assert_allclose(getattr(a, key), getattr(b, key), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(a.motion, b.motion)


def test_weights_that_a_worker_lacks_end_the_job_and_leave_no_clip_out(
    clips, two_workers, tmp_path, monkeypatch, capsys
):
    chosen = weights_of_encoders(tmp_path)
    load = extract._descriptors

    def loaded_here_and_gone_there(*arguments):
        found = load(*arguments)
        (tmp_path / "c3d.pth").rename(tmp_path / "away.pth")
        return found

    monkeypatch.setattr(extract, "_descriptors", loaded_here_and_gone_there)
    assert main(extract_argv(clips, tmp_path / "x.h5", *chosen, "--cluster", two_workers[0])) == 2
    assert f"error: {tmp_path / 'c3d.pth'}: expected a file of weights" in capsys.readouterr().err
    assert not (tmp_path / "x.h5").exists()


def test_events_of_a_folder_come_from_the_cluster(clips, two_workers, tmp_path, capsys):
    argv = ["events", str(clips / "clips"), "-o", str(tmp_path / "events")]
    assert main([*argv, "--cluster", two_workers[0]]) == 0
    assert f"{CLIPS} converted, 0 skipped, 0 failed" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "events").iterdir()) == [f"{i:02d}.h5" for i in range(CLIPS)]
    assert main(argv) == 0  # made with the same settings, so processes here have nothing left to do
    assert f"0 converted, {CLIPS} skipped" in capsys.readouterr().out


def test_items_come_in_order_and_once(two_workers):
    found = list(map_cluster(abs, range(0, -50, -1), two_workers[0], ahead=2))
    assert found == [(-i, i) for i in range(50)]


def test_a_folder_that_a_worker_does_not_see_is_named(two_workers, monkeypatch):
    monkeypatch.setattr(cluster.Path, "resolve", lambda self: f"/nowhere{self}")
    with pytest.raises(InputError, match=r"workers that see the folders of this command, got no /nowhere/x at tcp://"):
        list(map_cluster(abs, [1], two_workers[0], needs=["/x"]))


def test_a_worker_with_another_version_is_named(two_workers, monkeypatch):
    monkeypatch.setattr(cluster, "__version__", "99.0")
    with pytest.raises(InputError, match=r"workers with neuroav 99.0, got [\d.]+ at tcp://"):
        list(map_cluster(abs, [1], two_workers[0]))


def test_a_lost_scheduler_is_said_and_the_job_can_go_on(tmp_path):
    with scheduler(tmp_path) as address, worker(address, tmp_path):
        found = map_cluster(abs, range(1000), address)
        next(found)
        file = json.loads((tmp_path / "scheduler.json").read_text())
        assert file["address"] == address
        kill_listener(int(address.rsplit(":", 1)[1]))
        with pytest.raises(InputError, match=r"to stay, got a lost connection\. Start the cluster again"):
            list(found)


def kill_listener(port):
    """Kill the process that listens at ``port`` of this machine."""
    import psutil

    [owner] = {
        child.pid
        for child in psutil.Process().children()
        for connection in child.net_connections()
        if connection.status == "LISTEN" and connection.laddr.port == port
    }
    os.kill(owner, signal.SIGKILL)


def test_a_scheduler_without_workers_is_said(tmp_path):
    with (
        scheduler(tmp_path) as address,
        pytest.raises(InputError, match=r"a worker at 'tcp://.*' within 0.5 s, got none"),
    ):
        list(map_cluster(abs, [1], address, timeout_s=0.5))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x", ""])
def test_nobody_at_the_address_is_said_in_time(address):
    start = time.monotonic()
    with pytest.raises(InputError, match=r"--cluster: expected a dask scheduler that answers at .* within 0\.5 s"):
        list(map_cluster(abs, [1], address, timeout_s=0.5))
    assert time.monotonic() - start < 30


def test_an_address_without_a_port_is_refused_at_once():
    with pytest.raises(InputError, match=r"with its port, got 'tcp://127\.0\.0\.1'\. Usually tcp://127\.0\.0\.1:8786"):
        list(map_cluster(abs, [1], "tcp://127.0.0.1"))


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"the package distributed, got none. .*pip install 'neuroav\[cluster\]'"):
        list(map_cluster(abs, [1], "tcp://127.0.0.1:9"))


def test_single_files_are_not_for_a_cluster(clips, tmp_path, capsys):
    argv = ["events", str(clips / "clips" / "00.mp4"), "-o", str(tmp_path / "e.h5"), "--cluster", "tcp://127.0.0.1:9"]
    assert main(argv) == 2
    assert "expected --cluster with a folder of clips" in capsys.readouterr().err
