"""Films of events: their colours, times and sizes, as MP4 and as GIF, beside a clip or alone."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from neuroav.events.preview import BACKGROUND, BRIGHTER, DARKER, FilmWriter, draw_events, film_events
from neuroav.events.types import Events


def make(rows, size):
    t, x, y, p = (torch.tensor(column) for column in zip(*rows, strict=True))
    return Events(t, x.short(), y.short(), p.byte(), size)


def test_drawing_shows_the_sign_of_each_frame():
    events = make([(5, 0, 0, 1), (10, 1, 0, 0), (15, 2, 0, 1), (20, 0, 0, 0), (20, 0, 0, 1)], (1, 3))
    drawn = draw_events(events, np.array([0, 10, 20]))
    assert drawn[0].tolist() == [[list(BACKGROUND)] * 3]
    assert drawn[1].tolist() == [[list(BRIGHTER), list(DARKER), list(BACKGROUND)]]
    assert drawn[2].tolist() == [[list(BACKGROUND), list(BACKGROUND), list(BRIGHTER)]]


def decoded(path):
    with av.open(str(path)) as container:
        return [(round(1000 * f.time), f.to_ndarray(format="rgb24").astype(int)) for f in container.decode(video=0)]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_clip_and_events_side_by_side(tmp_path, slide, suffix):
    frames, path = slide(3, 25, 31), tmp_path / f"film{suffix}"
    events = make([(50_000, 3, 4, 1), (90_000, 5, 20, 0)], (25, 31))
    film = FilmWriter(path, (25, 31), Fraction(25), suffix)
    film.write(frames, np.array([0, 40_000, 100_000]), events)
    film.close()
    times, images = zip(*decoded(path), strict=True)
    assert list(times) == [0, 40, 100]
    assert images[0].shape == ((226, 558, 3) if suffix == ".mp4" else (225, 558, 3))  # H.264 wants even sides
    tolerance = 40 if suffix == ".mp4" else 2
    left, right = images[2][:225, : 31 * 9], images[2][:225, 31 * 9 :]
    assert np.abs(left - frames[2].repeat(9, 0).repeat(9, 1)[..., None]).mean() < tolerance / 2
    for x, y, colour in [(3, 4, BRIGHTER), (5, 20, DARKER), (10, 10, BACKGROUND)]:
        assert np.abs(right[9 * y + 4, 9 * x + 4] - colour).max() <= tolerance


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_events_alone_are_gathered_in_frames_of_40_ms(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    start = 7_000_001
    rows = [(start, 1, 1, 1), (start + 40_000, 2, 1, 1), (start + 40_001, 3, 1, 0), (start + 500_000, 0, 0, 0)]
    film_events(path, make(rows, (240, 250)), suffix)
    times, images = zip(*decoded(path), strict=True)
    assert list(times) == [40 * k for k in range(13)]
    assert images[0].shape == (240, 250, 3)

    def colour(frame, x, y):
        return min((BACKGROUND, BRIGHTER, DARKER), key=lambda c: np.abs(images[frame][y, x] - c).sum())

    if suffix == ".gif":  # single pixels survive
        assert [colour(0, x, 1) for x in (1, 2, 3)] == [BRIGHTER, BRIGHTER, BACKGROUND]
        assert [colour(1, x, 1) for x in (1, 2, 3)] == [BACKGROUND, BACKGROUND, DARKER]
        assert colour(12, 0, 0) == DARKER


def test_no_event_gives_a_film_of_one_dark_frame(tmp_path):
    kinds = (torch.int64, torch.int16, torch.int16, torch.uint8)
    film_events(tmp_path / "none.gif", Events(*(torch.empty(0, dtype=kind) for kind in kinds), (240, 240)), ".gif")
    ((_, image),) = decoded(tmp_path / "none.gif")
    assert (image == BACKGROUND).all()
