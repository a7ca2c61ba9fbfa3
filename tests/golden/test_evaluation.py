"""Our protocol gives the numbers of the released evaluators on every recorded case."""

import json
from pathlib import Path

import numpy as np
import pytest

from neuroav.gzsl.metrics import per_class_recall
from neuroav.gzsl.protocol import BETA_GRID, RELEASED, calibrate, evaluate_gzsl, released_beta
from neuroav.gzsl.scores import calibrated_prediction, euclidean_distances, zsl_prediction

FOLDER = Path(__file__).parent / "evaluation"
FIGURES = {"S": "seen", "U": "unseen", "HM": "hm", "ZSL": "zsl"}
EXACT = {"rtol": 0, "atol": 1e-9}


def load(name):
    with np.load(FOLDER / name, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def runs_of(name):
    return json.loads(str(load(name)["meta"])).get("runs", [])


CASES = [(path.name, run) for path in sorted(FOLDER.glob("*.npz")) for run in runs_of(path.name)]


class Case:
    """One run of one file, with class ids mapped to columns."""

    def __init__(self, name, run):
        arrays = load(name)
        self.meta = json.loads(str(arrays["meta"]))
        self.out = {key.removeprefix(f"out.{run}."): value for key, value in arrays.items()}
        self.classes = np.sort(np.concatenate([arrays["in.seen_ids"], arrays["in.unseen_ids"]]))
        self.seen = np.isin(self.classes, arrays["in.seen_ids"])
        self.label = np.searchsorted(self.classes, arrays["in.targets"])
        self.distances = self.out["distance"][:, self.classes]
        self.arrays = arrays

    def evaluate(self):
        beta = self.meta["best_beta_passed"]
        return evaluate_gzsl(self.distances, self.label, self.seen, beta=beta, quirks=RELEASED)


def test_all_files_are_here():
    assert len({name for name, _ in CASES}) == 18
    assert len(CASES) >= 70
    assert (FOLDER / "two_stage.npz").exists()


@pytest.mark.parametrize(("name", "run"), CASES)
def test_figures_match(name, run):
    case = Case(name, run)
    result = case.evaluate()
    for theirs, ours in FIGURES.items():
        np.testing.assert_allclose(getattr(result, ours), case.out[theirs], err_msg=theirs, **EXACT)
    assert result.beta == pytest.approx(float(case.out["beta"]), rel=1e-7)
    empty = ~np.isin(np.arange(case.seen.size), case.label)
    assert result.empty_classes == tuple(np.flatnonzero(empty))


@pytest.mark.parametrize(("name", "run"), CASES)
def test_table_matches(name, run):
    case = Case(name, run)
    table = case.evaluate().table
    np.testing.assert_array_equal(table["beta"].astype(np.float32), case.out["table.beta"])
    for theirs, ours in FIGURES.items():
        np.testing.assert_allclose(table[ours], case.out[f"table.{theirs}"], err_msg=theirs, **EXACT)


@pytest.mark.parametrize(("name", "run"), CASES)
def test_predictions_match_exactly(name, run):
    case = Case(name, run)
    for beta, expected, expected_zsl in zip(
        case.out["table.beta"], case.out["table.pred"], case.out["table.pred_zsl"], strict=True
    ):
        np.testing.assert_array_equal(
            case.classes[calibrated_prediction(case.distances, case.seen, float(beta))], expected
        )
        np.testing.assert_array_equal(case.classes[zsl_prediction(case.distances, case.seen)], expected_zsl)


@pytest.mark.parametrize(("name", "run"), CASES)
def test_the_released_recall_is_that_of_zsl(name, run):
    case = Case(name, run)
    recall = per_class_recall(zsl_prediction(case.distances, case.seen), case.label, case.seen.size)
    released = case.out["recall_zsl_at_best"][case.classes]
    np.testing.assert_array_equal(recall.astype(np.float32), released.astype(np.float32))
    unseen = ~case.seen
    np.testing.assert_array_equal(case.evaluate().zsl_recall[unseen], recall[unseen])


@pytest.mark.parametrize(("name", "run"), CASES)
def test_without_quirks_only_the_precision_of_means_and_empty_classes_differ(name, run):
    case = Case(name, run)
    plain = evaluate_gzsl(case.distances, case.label, case.seen).table
    if case.meta["best_beta_passed"]:
        pytest.skip("its table holds the one beta that was passed")
    for theirs, ours in FIGURES.items():
        released = case.out[f"table.{theirs}"]
        known = ~np.isnan(released)
        np.testing.assert_allclose(plain[ours][known], released[known], rtol=0, atol=2e-7)
        recalls = recalls_by_hand(case, theirs)
        np.testing.assert_allclose(plain[ours], recalls, rtol=0, atol=1e-9)


def recalls_by_hand(case, figure):
    """Means in float64 of the recalls of the recorded predictions, classes without clips left out."""

    def means(kind, predicted):
        classes = [c for c in case.classes[case.seen == kind] if (case.arrays["in.targets"] == c).any()]
        return np.array(
            [np.mean([(row[case.arrays["in.targets"] == c] == c).mean() for c in classes]) for row in predicted]
        )

    seen, unseen = (means(kind, case.out["table.pred"]) for kind in (True, False))
    total = np.where(seen + unseen > 0, seen + unseen, 1)
    zsl = means(False, case.out["table.pred_zsl"])
    return {"S": seen, "U": unseen, "HM": 2 * seen * unseen / total, "ZSL": zsl}[figure]


@pytest.mark.parametrize("run", ["video", "audio", "both_sum", "both_cjme", "devise"])
def test_a_class_without_clips_is_left_out_by_default(run):
    case = Case("class_without_sample.npz", run)
    result = evaluate_gzsl(case.distances, case.label, case.seen)
    recall = case.out["recall_zsl_at_best"][case.classes][~case.seen]
    assert np.isnan(case.out["ZSL"])
    assert result.zsl == pytest.approx(np.nanmean(recall), abs=2e-7)
    assert result.hm > 0


def test_a_beta_of_zero_is_used_as_it_is_by_default():
    case = Case("beta_passed_zero.npz", "video")
    result = evaluate_gzsl(case.distances, case.label, case.seen, beta=0.0)
    assert result.beta == 0.0
    assert float(case.out["beta"]) > 0.3
    assert result.hm == pytest.approx(float(case.out["table.HM"][0]), abs=2e-7)


def test_the_grid_is_the_released_one():
    np.testing.assert_array_equal(load("generic.npz")["out.video.table.beta"], BETA_GRID)


@pytest.mark.parametrize(
    ("name", "squared"),
    [
        ("small_direct_cdist.npz", False),
        ("generic.npz", False),
        ("squared_string.npz", True),
        ("squared_object.npz", False),
    ],
)
def test_distances_match_from_embeddings(name, squared):
    case = Case(name, "video")
    distances = euclidean_distances(case.arrays["in.video"], case.arrays["in.text"])
    np.testing.assert_allclose(distances**2 if squared else distances, case.distances, rtol=1e-4, atol=1e-4)


def test_our_distances_are_zero_where_the_matrix_product_is_not():
    case = Case("cdist_precision.npz", "video")
    ours = euclidean_distances(case.arrays["in.video"], case.arrays["in.text"])
    own = np.arange(len(case.label)), case.label
    assert (ours[own] == 0).all()
    assert case.distances[own].max() > 0.005


# --- two stages -----------------------------------------------------------------------------------------------------


def stage_distances(arrays, part, system):
    """The distances of one part for the outputs audio, video and both of ``system``, and what goes with them."""
    get = {key.removeprefix(f"in.{part}."): value for key, value in arrays.items()}
    classes = np.sort(np.concatenate([get["seen_ids"], get["unseen_ids"]]))
    audio, video = (euclidean_distances(get[key], get["text"]) for key in ("audio", "video"))
    takes_audio = (np.arange(len(audio)) % 3 == 0)[:, None]
    outputs = {
        "avgzsl": (audio, video, audio + video),
        "cjme": (audio, video, np.where(takes_audio, audio, video)),
    }.get(system, (video, video, video))
    label, seen = np.searchsorted(classes, get["targets"]), np.isin(classes, get["seen_ids"])
    return dict(zip(("audio", "video", "both"), outputs, strict=True)), label, seen


@pytest.mark.parametrize("system", ["avca", "avgzsl", "cjme", "devise", "tcaf"])
def test_two_stages_match(system):
    arrays = load("two_stage.npz")
    val, val_label, val_seen = stage_distances(arrays, "val", system)
    test, test_label, test_seen = stage_distances(arrays, "test", system)
    betas = [calibrate(distances, val_label, val_seen) for distances in val.values()]
    np.testing.assert_allclose(betas, arrays[f"out.{system}.val_betas_audio_video_both"], rtol=1e-7)

    beta = released_beta(*betas, code="tcaf" if system == "tcaf" else "avca")
    assert beta == pytest.approx(float(arrays[f"out.{system}.beta_combined"]), rel=1e-12)
    for output in ("audio", "video", "both") if system != "tcaf" else ("both",):
        result = evaluate_gzsl(test[output], test_label, test_seen, beta=beta, quirks=RELEASED)
        released = arrays[f"out.{system}.test.{output}"]
        np.testing.assert_allclose([result.seen, result.unseen, result.hm, result.zsl], released[:4], **EXACT)
        assert result.beta == pytest.approx(released[4], rel=1e-7)  # recorded in float32
