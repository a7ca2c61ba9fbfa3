"""Maps of inputs and embeddings: neighbours kept, the same twice, seen and unseen of another shape."""

import re
import sys

import numpy as np
import pytest
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_info, threadpool_limits

from neuroav.checks import InputError
from neuroav.example import principal_components, spread
from neuroav.report import embedding, html
from neuroav.report.saved import join


def blobs(num=12, apart=50.0):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(3), num)
    return rng.normal(size=(3 * num, 6)) + apart * np.eye(3, 6)[label], label


def test_map_keeps_neighbours_and_repeats_to_the_digit():
    points, label = blobs()
    place = embedding.neighbour_map(points)
    apart = np.linalg.norm(place[:, None] - place, axis=-1) + 1e9 * np.eye(len(place))
    assert (label[apart.argmin(1)] == label).all()
    np.testing.assert_array_equal(place, embedding.neighbour_map(points))


def test_a_map_is_made_on_one_thread(monkeypatch):
    """Several that wait for each other at every step take minutes on a busy machine."""
    threads = []

    def fit_transform(self, points):
        threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp")
        return points[:, :2]

    monkeypatch.setattr(TSNE, "fit_transform", fit_transform)
    with threadpool_limits(limits=2):
        embedding.neighbour_map(blobs()[0])
    assert set(threads) == {1}


def test_points_of_one_dimension_can_be_mapped():
    assert np.isfinite(embedding.neighbour_map(np.arange(12.0)[:, None])).all()


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.ones((20, 3)), "all points coincide"),
        (np.full((20, 3), np.nan), "some values are not finite"),
        (np.eye(4), "4 points are too few"),
    ],
)
def test_what_cannot_be_mapped_is_said(points, reason):
    assert embedding.why_no_map(points) == reason


def markers(seen):
    """Outlines and fills of what is drawn for three classes of one kind."""
    points, label = blobs()
    plot = embedding.draw_map(points[:, :2], points[:3, :2], label, np.full(3, seen), "m")
    assert "36 clips and 3 class vectors of 3 classes" in plot.alt
    drawn = plot.svg[plot.svg.index("line2d_1") :]
    return set(re.findall(r'<path id="[^"]*" d="([^"]+)"', drawn)), "fill: var(--blue" in drawn


def test_seen_and_unseen_differ_in_shape_and_fill():
    (seen, seen_filled), (unseen, unseen_filled) = markers(True), markers(False)
    assert len(seen) == len(unseen) == 2  # small for clips, large for classes
    assert not seen & unseen
    assert (seen_filled, unseen_filled) == (True, False)


def test_section_names_the_models_without_a_space(report):
    body = html.embedding_section(html.read_run(report.parent)).body
    assert "15 test clips of 2 seen and 1 unseen classes" in body
    assert "for want of one space of clips and classes or of these clips: without motion, events only." in body
    assert body.count("<svg role") == 3


def test_page_says_what_to_install_without_scikit_learn(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    body = html.embedding_section(html.read_run(report.parent)).body
    assert "pip install &#x27;neuroav[report]&#x27;" in body
    assert "<svg" not in body


def test_embeddings_of_other_clips_are_refused(report):
    run = html.read_run(report.parent)
    short = {**run.arrays, "embedding.MDFT.clips": run.arrays["embedding.MDFT.clips"][:9]}
    with pytest.raises(InputError, match=r"expected embedding.MDFT of 15 clips and 3 classes, got 9 and 3 rows"):
        html.embedding_section(html.Run(run.results, short))


def test_principal_components_keep_all_distances_where_there_are_enough():
    x = np.random.default_rng(3).normal(size=(9, 5))
    found = principal_components(x, 5)
    apart, before = (np.linalg.norm(each[:, None] - each, axis=-1) for each in (found, x))
    np.testing.assert_allclose(apart, before, rtol=1e-5, atol=1e-5)
    assert (found.var(0)[:-1] >= found.var(0)[1:]).all()
    np.testing.assert_allclose(principal_components(-x, 2), -principal_components(x, 2), atol=1e-5)


def test_few_values_are_all_taken():
    assert spread(np.arange(3), 6).tolist() == [0, 1, 2]
    assert spread(np.arange(101), 3).tolist() == [0, 50, 100]


def seed(label, classes=("a", "b"), step=(1, 2)):
    return {
        "confusion.classes": np.array(classes),
        "confusion.seen": np.array([True, False]),
        "confusion.m|test": np.full((2, 2), label),
        "curve.m|test.beta": np.arange(3.0),
        "curve.m|test.hm": np.full(3, label),
        "log.m.step": np.array(step),
        "log.m.loss": np.full(len(step), label),
        "clip.title": np.array(f"clip {label}"),
    }


def test_seeds_are_added_stacked_or_the_first_is_kept():
    found = join([seed(1), seed(2)])
    assert found["confusion.m|test"].tolist() == [[3, 3], [3, 3]]
    assert found["curve.m|test.hm"].tolist() == [[1, 1, 1], [2, 2, 2]]
    assert found["curve.m|test.beta"].tolist() == [0, 1, 2]
    assert found["log.m.loss"].tolist() == [[1, 1], [2, 2]]
    assert str(found["clip.title"]) == "clip 1"


def test_what_does_not_go_together_is_not_joined():
    found = join([seed(1), seed(2, classes=("a", "c"), step=(1, 2, 3))])
    assert found["confusion.m|test"].tolist() == [[1, 1], [1, 1]]
    assert found["confusion.classes"].tolist() == ["a", "b"]
    assert found["log.m.loss"].tolist() == [1, 1]


def test_clip_and_spikes_come_from_one_run():
    still = {"clip.title": np.array("still"), "raster.model": np.array("pooled")}
    first, second = (
        {"clip.title": np.array(n), "raster.model": np.array(n), "raster.t_s": np.zeros(n)} for n in (1, 2)
    )
    found = join(iter([still, first | {"raster.a.spikes": np.zeros(1)}, second | {"raster.b.spikes": np.zeros(2)}]))
    assert set(found) == {"clip.title", "raster.model", "raster.t_s", "raster.a.spikes"}
    assert str(found["raster.model"]) == "1"
    assert join([still]) == still
