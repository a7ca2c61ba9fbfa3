"""Sprite sheets and sound of a report, decoded again."""

import base64
import io
import wave

import numpy as np
import pytest
from PIL import Image

from neuroav.checks import InputError
from neuroav.report import clip


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_sheets_hold_every_frame_in_its_place():
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)
    none = np.zeros(0, np.int64)
    sheets = clip.pack_clip(frames, np.arange(5) * 40_000, none, none, none, none)
    sheet = decode(sheets.frames)
    for i, frame in enumerate(frames):
        y, x = i // sheets.columns * sheets.height, i % sheets.columns * sheets.width
        np.testing.assert_array_equal(sheet[y : y + 6, x : x + 4], frame)
    assert sheets.t_s == [0.0, 0.04, 0.08, 0.12, 0.16]
    assert sheets.thinned == ""


def test_events_belong_to_the_next_frame_and_the_last_of_a_pixel_wins():
    t_us = np.array([0, 10, 11, 20, 21])
    x, y, p = np.array([0, 1, 2, 2, 0]), np.array([0, 0, 1, 1, 0]), np.array([1, 0, 1, 0, 1])
    images, counts = clip.event_images(np.array([0, 10, 20]), (2, 3), t_us, x, y, p)
    assert counts == [1, 1, 2]
    assert images[0, 0, 0] == clip.ON
    assert images[1, 0, 1] == clip.OFF
    assert images[2, 1, 2] == clip.OFF
    assert np.count_nonzero(images) == 3


def test_large_clips_are_thinned_and_say_so():
    frames = np.zeros((150, 400, 300, 3), np.uint8)
    event = np.array([399])
    sheets = clip.pack_clip(frames, np.arange(150) * 40_000, np.array([0]), event * 0, event, event * 0 + 1)
    assert (sheets.height, sheets.width) == (134, 100)
    assert sheets.thinned == "one frame in 2 and one pixel in 3 each way"
    assert decode(sheets.events).shape[:2] == decode(sheets.frames).shape[:2]
    assert tuple(decode(sheets.events)[133, 0]) == clip.EVENT_RGB[clip.ON]


def test_sound_survives():
    audio = np.array([0.0, 0.5, -1.0, 2.0], np.float32)
    with wave.open(io.BytesIO(base64.b64decode(clip.wav_uri(audio, 16_000).split(",")[1]))) as sound:
        samples = np.frombuffer(sound.readframes(4), "<i2")
        assert (sound.getframerate(), sound.getnchannels()) == (16_000, 1)
    np.testing.assert_allclose(samples / 32767, [0, 0.5, -1, 1], atol=1e-4)


def test_lengths_that_do_not_fit_are_named():
    none = np.zeros(0, np.int64)
    with pytest.raises(InputError, match=r"events\.x"):
        clip.pack_clip(np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1), none, np.zeros(1), none, none)
