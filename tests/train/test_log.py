"""What is told of a training: curves for TensorBoard, plain lines, and the panel on a terminal."""

import builtins
import io

import pytest
import torch

from neuroav.checks import InputError
from neuroav.train import display
from neuroav.train.display import Display, Panel, watching
from neuroav.train.log import Epoch, TensorBoard, Watch

FIRST = Epoch(0, {"triplet": 1.5, "rebuilt": 0.25}, 1.75, 0.2, 0.4, 1e-3, {"video.0": 0.125})
SECOND = Epoch(1, {"triplet": 1.0, "rebuilt": 0.25}, 1.25, 0.1, 0.6, 1e-4, {"video.0": 0.25})


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the display reads; a test moves them."""
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    return now


def lines(capsys):
    return capsys.readouterr().err.splitlines()


def points(folder):
    """Every point in the event files of a folder, by name: steps and values."""
    record = pytest.importorskip("tensorboardX.record_writer")
    proto = pytest.importorskip("tensorboardX.proto.event_pb2")
    assert record is not None
    found = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:  # length, its checksum, the event, its checksum
            length = int.from_bytes(content[:8], "little")
            event = proto.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_curves_for_tensorboard_are_whole_after_a_second_beginning(tmp_path):
    pytest.importorskip("tensorboardX")
    for epochs in ([FIRST], [FIRST, SECOND]):
        board = TensorBoard(tmp_path)
        board.stage(1, 2, 50)
        for epoch in epochs:
            board.epoch(epoch)
        board.close()
    found = points(tmp_path)
    assert found["stage1/loss"] == [(50, 1.75), (100, 1.25)]
    assert found["stage1/validation_hm"] == [(50, pytest.approx(0.2)), (100, pytest.approx(0.1))]
    assert found["stage1/loss_terms/triplet"] == [(50, 1.5), (100, 1.0)]
    assert found["stage1/spike_rates/video.0"] == [(50, 0.125), (100, 0.25)]
    assert {"stage1/beta", "stage1/learning_rate", "stage1/loss_terms/rebuilt"} < found.keys()


def test_without_tensorboardx_the_way_to_it_is_said(tmp_path, monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("tensorboardX"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"got no such package. Install it: pip install 'neuroav\[tensorboard\]'"):
        TensorBoard(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_lines_name_terms_rates_validation_and_the_time_left(clock, capsys):
    watch = Display("mdft", every_s=5.0)
    watch.stage(1, 2, 4)
    terms = {"triplet": torch.tensor(2.0), "rebuilt": torch.tensor(0.5)}
    watch.batch(1, terms)
    clock[0] += 6.0
    watch.batch(3, terms)  # two batches in 6 s: five left
    assert lines(capsys) == ["mdft: stage 1; epoch 0/2 and 3/4; loss 2.5 (triplet 2, rebuilt 0.5); time left 0:00:15"]
    clock[0] += 3.0
    watch.batch(4, terms)
    watch.epoch(FIRST)
    assert lines(capsys) == []  # too soon
    clock[0] += 3.0
    watch.batch(2, terms)
    (line,) = lines(capsys)
    assert line == (
        "mdft: stage 1; epoch 1/2 and 2/4; loss 2.5 (triplet 2, rebuilt 0.5); validation HM 20.0 % (best 20.0 %); "
        "spike rates video.0 12.5 %; learning rate 0.001; time left 0:00:05"
    )
    watch.batch(4, terms)
    watch.epoch(SECOND)  # the last epoch of a stage is always shown
    (line,) = lines(capsys)
    assert "epoch 2/2; loss 1.25 (triplet 1, rebuilt 0.25); validation HM 10.0 % (best 20.0 %)" in line


def test_epochs_before_an_interruption_are_counted_and_take_no_time(clock, capsys):
    watch = Display("mdft", every_s=0.0)
    watch.stage(1, 3, 10)
    watch.epoch(FIRST)
    assert lines(capsys) == []
    watch.batch(1, {})
    assert "time left" not in watch.facts()
    clock[0] += 9.0
    watch.batch(2, {})
    assert watch.facts()["epoch"] == "1/3 and 2/10"
    assert watch.facts()["time left"] == "0:02:42"  # 18 batches of 9 s


def test_a_panel_shows_the_same_facts(clock):
    console = pytest.importorskip("rich.console")
    screen = io.StringIO()
    watch = Panel("mdft", console.Console(file=screen, force_terminal=True, width=100))
    watch.stage(2, 2, 4)
    watch.batch(1, {})
    clock[0] += 10.0
    watch.batch(4, {"triplet": torch.tensor(1.5)})
    watch.epoch(FIRST)
    watch.batch(1, {})
    clock[0] += 10.0
    watch.batch(2, {"triplet": torch.tensor(1.5)})
    watch.close()
    shown = screen.getvalue()
    for text in ("mdft", "1/2 and 2/4", "1.5 (triplet 1.5)", "20.0 % (best 20.0 %)", "video.0 12.5 %", "0:00:08"):
        assert text in shown, text
    assert "stage" in shown


def test_nothing_is_shown_when_quiet_and_lines_where_there_is_no_terminal(monkeypatch):
    with watching("x", quiet=True) as watch:
        assert type(watch) is Watch
    with watching("x") as watch:
        assert type(watch) is Display
    monkeypatch.setattr(display.sys.stderr, "isatty", lambda: True, raising=False)
    with watching("x") as watch:
        assert type(watch) is Panel
