"""Colours of the page: contrast by WCAG 2.2, and apart for readers who lack a kind of cone (Machado et al. 2009)."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from neuroav.report import clip, plots

CSS = (files("neuroav.report") / "assets" / "report.css").read_text(encoding="utf-8")
THEMES = ("light", "dark", "print")
SIGHT = {
    "three kinds of cones": np.eye(3),
    "no long-wave cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no medium-wave cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no short-wave cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
LAB_WHITE = np.array([0.95047, 1.0, 1.08883])
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def themes():
    """Hex colours by variable of the three blocks that set them, later ones over the first."""
    blocks = [dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.S)]
    assert len(blocks) == 3
    return {name: blocks[0] | block for name, block in zip(THEMES, blocks)}


def linear(colour):
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    value = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    high, low = sorted((linear(each) @ XYZ[1] for each in (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    value = XYZ @ np.clip(rgb, 0, 1) / LAB_WHITE
    f = np.where(value > (6 / 29) ** 3, np.cbrt(value), value / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one, other, sight):
    """Distance of two colours in CIELAB as somebody sees them."""
    return float(
        np.linalg.norm(lab(np.array(SIGHT[sight]) @ linear(one)) - lab(np.array(SIGHT[sight]) @ linear(other)))
    )


def test_measures_give_known_values():
    assert contrast("#fff", "#000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert apart("#fff", "#000", "three kinds of cones") == pytest.approx(100, abs=0.1)
    red, green = "#c00000", "#607000"
    assert apart(red, green, "no medium-wave cones") < 0.5 * apart(red, green, "three kinds of cones")


@pytest.mark.parametrize("theme", THEMES)
def test_text_and_marks_stand_out(theme):
    colours = themes()[theme]
    for ground in ("paper", "panel"):
        for text in ("ink", "muted", "accent", "vermillion", "green"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for mark in plots.SERIES:
        assert contrast(colours[mark], colours["paper"]) >= 3, mark


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", THEMES)
def test_colours_that_stand_together_can_be_told_apart(theme, sight):
    colours = themes()[theme]
    for one, other in (("blue", "orange"), ("blue", "vermillion"), ("orange", "green"), ("green", "ink")):
        assert apart(colours[one], colours[other], sight) > 20, (one, other)


@pytest.mark.parametrize("sight", SIGHT)
def test_events_can_be_told_apart(sight):
    colours = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in clip.EVENT_RGB.values()]
    assert min(apart(one, other, sight) for one, other in combinations(colours, 2)) > 30
