"""The page: whole, self-contained, escaped; what is missing leaves its part out."""

import json
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from neuroav.checks import InputError
from neuroav.report import html
from neuroav.report.saved import Run
from neuroav.report.tables import models_in

VOID = {"meta", "link", "input", "img", "br", "hr"}
ALL_SECTIONS = ["results", "clip", "classes", "gains", "embedding", "calibration", "training", "layers", "settings"]


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.stack, self.texts = [], [], []
        self.feed(text)
        assert not self.stack, f"unclosed {self.stack}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def sections(self):
        return [attrs["id"] for tag, attrs in self.tags if tag == "section"]

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def text(report):
    return report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_every_section_is_there_in_order(page):
    assert page.sections == ALL_SECTIONS
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a" and attrs.get("href", "").startswith("#")]
    assert links == ["#main", *(f"#{name}" for name in ALL_SECTIONS)]


def test_every_figure_is_drawn_and_described(page):
    # 2 overviews, 1 spectrogram, 6 rasters, bars and matrix of 4 models on 2 test sets, gains over 3 of them,
    # maps of the inputs and of 2 models, 4 calibrations, 2 logs; and the marks of 3 classes in the key of the maps
    svgs = [attrs for tag, attrs in page.tags if tag == "svg"]
    figures = [svg for svg in svgs if svg.get("aria-hidden") != "true"]
    assert (len(figures), len(svgs) - len(figures)) == (2 + 1 + 6 + 16 + 6 + 3 + 4 + 2, 3)
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in figures)
    assert page.count("canvas") == 2
    assert all("alt" in attrs for tag, attrs in page.tags if tag == "img")
    assert page.count("figure") == page.count("figcaption")


def test_nothing_outside_the_page_is_asked_for(page, text):
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            if name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
                assert value.startswith(("#", "data:")), f"<{tag} {name}={value[:80]}>"
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    without_data = re.sub(r"data:[a-z/]+;base64,[A-Za-z0-9+/=\s]+", "", without_namespaces)
    assert not re.search(r"https?://|[\"'(]//|@import|url\((?!#)", without_data)


def test_page_is_small(report):
    assert report.stat().st_size < 15e6


def test_ids_are_unique(page):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_names_are_escaped(page, text):
    assert "MotionScenes <small> & friends" in page.texts
    assert any("spin + & spin, slow" in part for part in page.texts)
    assert page.count("small") == page.count("left") == page.count("test") == 0


def test_table_shows_percent_spread_and_what_was_not_measured(page):
    assert {"±0.0", "62.5", "not measured"} <= set(page.texts)
    assert any("estimate" in part for part in page.texts)
    assert any("mostly dead" in part for part in page.texts)


@pytest.mark.parametrize(
    ("prefix", "gone", "left"),
    [
        ("clip.frames", 'class="player"', "Spikes and thresholds"),
        ("clip.audio", "<audio", 'class="player"'),
        ("raster.", "Spikes and thresholds", 'class="player"'),
    ],
)
def test_missing_arrays_leave_their_part_out(make_run, prefix, gone, left):
    run = html.read_run(make_run(keep=lambda name: not name.startswith(prefix)))
    body = html.clip_section(run).body
    assert gone not in body
    assert left in body


def test_missing_classes_leave_their_section_out(make_run):
    run = html.read_run(make_run(keep=lambda name: not name.startswith("confusion.classes")))
    assert html.classes_section(run) is None


def test_page_without_arrays_says_so(make_run):
    page = Page(html.write_report(make_run(keep=lambda name: False)).read_text(encoding="utf-8"))
    assert page.sections == ["results", "calibration", "training", "layers", "settings"]
    assert any("no arrays.npz" in part for part in page.texts)


def test_page_of_a_bare_run(tmp_path):
    (tmp_path / "results.json").write_text('{"rows": []}')
    page = Page(html.write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.sections == ["results"]
    assert "No model has been evaluated." in page.texts


def test_only_the_page_is_written(make_run):
    run_dir = make_run(keep=lambda name: False)
    (run_dir / "report.html").write_text("old")
    before = {path.name for path in run_dir.iterdir()}
    assert html.write_report(run_dir) == run_dir / "report.html"
    assert {path.name for path in run_dir.iterdir()} == before
    assert (run_dir / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_directory_without_results_is_named(tmp_path):
    with pytest.raises(InputError, match=r"expected a run directory with results.json, got none\. Give"):
        html.write_report(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": 3}'])
def test_results_of_another_kind_are_refused(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=r"results\.json"):
        html.write_report(tmp_path)


def test_pickled_arrays_are_refused(make_run):
    run_dir = make_run(keep=lambda name: False)
    np.savez(run_dir / "arrays.npz", clip=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="without pickled objects"):
        html.write_report(run_dir)


def test_arrays_that_do_not_fit_are_named(make_run):
    run_dir = make_run(keep=lambda name: name.startswith("log.MDFT"))
    with np.load(run_dir / "arrays.npz") as stored:
        arrays = dict(stored)
    np.savez(run_dir / "arrays.npz", **{**arrays, "log.MDFT.loss": np.zeros(2)})
    with pytest.raises(InputError, match=r"log.MDFT.loss as long as log.MDFT.step"):
        html.write_report(run_dir)


def test_module_rebuilds_a_page_and_reports_errors(make_run, tmp_path):
    run_dir = make_run(keep=lambda name: False)
    command = [sys.executable, "-m", "neuroav.report.html"]
    done = subprocess.run([*command, str(run_dir)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(run_dir / "report.html")
    failed = subprocess.run([*command, str(tmp_path / "absent")], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("neuroav.report.html: error:")
    assert html.main([]) == 2


def test_settings_are_flattened(page):
    assert {"data.scene_bias", "0.5", "train.steps", "300"} <= set(page.texts)


def test_models_come_in_the_order_of_the_table(text, report):
    models = models_in(html.read_run(report.parent).rows)
    folded = [name for name in re.findall(r"<summary>([^<]+)</summary>", text) if "Confusion" not in name]
    assert folded == models + [f"over {name}" for name in models[1:]]
    assert re.findall(r">([^<]+): S, U and HM against β", text) == models


def test_page_says_what_it_shows(page):
    text = " ".join(page.texts)
    for said in (
        "over n = 3 seeds (0, 1, 2)",
        "at the β chosen on validation",
        "biased 48 (scenes as in training), shuffled 48 (scenes drawn at random)",
        "estimate, counted from the model and its spikes",
        "runs through the trained model, MDFT.",
        "presented 4 times",
        "The model sees 64x64 of 360x640 pixels.",
    ):
        assert said in text


def test_player_has_the_shape_of_the_video(page):
    shapes = [attrs["style"] for tag, attrs in page.tags if tag == "canvas"]
    assert shapes == ["aspect-ratio: 640 / 360"] * 2


def test_rasters_have_a_column_for_every_presentation(report):
    run = html.read_run(report.parent)
    assert run.arrays["raster.video.0.spikes"].shape[0] == 48
    seconds = [float(plot.split()[-1]) for plot in re.findall(r'data-time="([^"]+)"', html.clip_section(run).body)]
    assert seconds == [pytest.approx(2.4)] * 7  # the spectrogram's and six layers'


def test_player_knows_spikes_and_threshold_of_every_column(report):
    run = html.read_run(report.parent)
    steps = json.loads(unescape(re.search(r'data-steps="([^"]+)"', html.clip_section(run).body).group(1)))
    spikes = run.arrays["raster.video.0.spikes"]
    assert steps["spikes"] == [sum(bool(one) for one in column) for column in spikes]
    np.testing.assert_allclose(steps["theta"], run.arrays["raster.video.0.theta"], rtol=5e-3)


def test_player_data_match_the_clip(text):
    data = json.loads(re.search(r'id="clip-data">(.*?)</script>', text).group(1))
    assert len(data["t_s"]) == len(data["counts"]) == 60
    assert data["t_s"][-1] == pytest.approx(2.36)


def test_a_model_whose_name_begins_anothers_keeps_its_curves_to_itself():
    steps = {"alpha 0.5, m 0": 2, "alpha 0.5, m 0.5": 3}
    arrays = {}
    for model, number in steps.items():
        arrays |= {f"log.{model}.{key}": np.arange(number) for key in ("step", "loss", "val_hm")}
    section = html.training_section(Run({"rows": []}, arrays))
    assert section.body.count("<figure") == 2
