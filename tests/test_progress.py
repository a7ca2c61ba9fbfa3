"""Progress in plain lines, as it is where there is no terminal."""

from neuroav import progress
from neuroav.progress import Progress


def test_a_line_says_how_much_is_done_and_how_long_the_rest_takes(monkeypatch, capsys):
    seconds = iter([0.0, 10.0, 10.0, 20.0, 20.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    with Progress("clips", total=8, unit="clip") as bar:
        bar.update(2)
        bar.update(6, found=3)
    first, second, _ = capsys.readouterr().err.splitlines()
    assert first == "clips: 2/8 clip (0.2/s, 10 s, 30 s left)"
    assert second == "clips: 8/8 clip (0.4/s, 20 s, found 3)"


def test_what_an_earlier_run_has_done_says_nothing_of_the_speed(monkeypatch, capsys):
    seconds = iter([0.0, 10.0, 10.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    with Progress("clips", total=100, unit="clip", done=90) as bar:
        bar.update(2)
    assert capsys.readouterr().err.splitlines()[0] == "clips: 92/100 clip (0.2/s, 10 s, 40 s left)"


def test_no_end_is_guessed_where_none_is_known(capsys):
    with Progress("clips", every_s=0.0) as bar:
        bar.update()
    assert "left" not in capsys.readouterr().err
