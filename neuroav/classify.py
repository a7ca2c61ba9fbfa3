"""``neuroav classify``: which of the classes that a user types is in a video, by the model of a finished run."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuroav.checks import InputError, OutputError, check_range, fail, some
from neuroav.config import Experiment, MotionScenesData, SimulatedData
from neuroav.data.class_vectors import AsGiven
from neuroav.data.encoders.choice import AUDIO, VIDEO, EncoderChoice, parse_choice
from neuroav.data.extract import CLASSIC, SETTINGS, Described, describe_file
from neuroav.data.sample import ClipData, Statistics
from neuroav.data.store import LoadedClips
from neuroav.data.vectors import ClassVectors
from neuroav.data.words import FileWords, NoWords, SceneWords, TypedClass, Vocabulary, find_classes, split_names
from neuroav.files import check_folder, check_output, save_json
from neuroav.run import competing, distances, finished_experiment, load_model
from neuroav.task import Task, prepare


@dataclass(frozen=True)
class Choice:
    """One class of an answer.

    Attributes:
        name: The class.
        seen: Whether the model was trained on clips of it.
        distance: From the clip to the class, in the model's unit.
        score: The distance, plus the run's beta for a seen class; the lowest wins.
        margin: The lowest score of the other classes less this one: positive for the winner alone.
    """

    name: str
    seen: bool
    distance: float
    score: float
    margin: float


def rank(distances: np.ndarray, names: Sequence[str], seen: np.ndarray, beta: float) -> list[Choice]:
    """Order classes by calibrated stacking, the winner first; of equal scores the first of ``names`` wins.

    Args:
        distances: ``(K,)``, lower is nearer; may hold ``inf`` but no NaN.
        names: ``K`` of at least two classes.
        seen: ``(K,)`` bool.
        beta: Added to the distances of seen classes, in their precision.

    Raises:
        InputError: If a distance is NaN.

    Example:
        >>> first, second = rank(np.array([1.0, 1.5]), ["dog", "rain"], np.array([True, False]), beta=1.0)
        >>> first.name, first.margin, second.name, second.margin
        ('rain', 0.5, 'dog', -0.5)
    """
    if np.isnan(distances).any():
        raise fail("classify", "distances without NaN", "NaN", "The model diverged? Look at its training losses.")
    scores = distances + np.where(seen, beta, 0.0).astype(distances.dtype)
    order = np.argsort(scores, kind="stable")
    best, second = (float(scores[k]) for k in order[:2])
    choices: list[Choice] = []
    for k in order.tolist():
        score, other = float(scores[k]), best if choices else second
        margin = 0.0 if other == score else other - score  # two that are infinitely far are as far
        choices.append(Choice(names[k], bool(seen[k]), float(distances[k]), score, margin))
    return choices


@dataclass(frozen=True)
class Recogniser:
    """The model of a finished run, and what it takes to show it a video that it has never seen.

    Attributes:
        experiment: What the run was.
        task: Its data.
        model: With its weights, on the CPU.
        statistics: Of its training clips.
        beta: Its calibration.
        val_hm: HM on validation clips at ``beta``; where it is 0, nothing was chosen.
        seen: Labels of the classes that it was trained on.
        unseen: Labels of the classes that it was tested on and not trained.
        video: Encoder of its features.
        audio: The same for sound.
    """

    experiment: Experiment
    task: Task
    model: Any
    statistics: Statistics
    beta: float
    val_hm: float
    seen: np.ndarray
    unseen: np.ndarray
    video: EncoderChoice = CLASSIC
    audio: EncoderChoice = CLASSIC

    @classmethod
    def open(cls, run_dir: str, video_encoder: str | None = None, audio_encoder: str | None = None) -> Recogniser:
        """Open a run directory.

        Args:
            run_dir: Of a finished run.
            video_encoder: Where the run's clips were described by a pretrained one: it, as for ``neuroav extract``;
                ``None`` takes the files that were used then.
            audio_encoder: The same for sound.

        Raises:
            InputError: If it is no finished run or one of another version, its store or weights are missing, or its
                features can't be made of a video.
        """
        folder = Path(run_dir)
        experiment = finished_experiment(folder)
        if isinstance(experiment.data, SimulatedData):
            raise _not_from_video(run_dir, "simulated ones, drawn at random")
        if not Path(experiment.data.store).is_file():
            remedy = "Bring it back: what the model was trained with is told by it."
            if isinstance(experiment.data, MotionScenesData):
                remedy += f" neuroav eval {run_dir} renders it again."
            raise fail(experiment.data.store, f"the feature store of {run_dir}", "no such file", remedy)
        task = prepare(experiment.data, experiment.class_vectors)
        video, audio = _encoders(task, video_encoder, audio_encoder)
        model, statistics, note = load_model(experiment, task, folder)
        seen, unseen = competing(task, note["two_stage"])
        return cls(experiment, task, model, statistics, note["beta"], note["val_hm"], seen, unseen, video, audio)

    def classes(self, text: str | None = None, vectors: str | None = None) -> list[TypedClass]:
        """Find classes by their names, or all that compete in the run's test.

        Args:
            text: Names with commas between them.
            vectors: File of word vectors for names that are none of the run's; ``None`` takes the one that the run's
                own vectors came from, if it is still there.

        Raises:
            InputError: If a name is unknown, comes twice or stands alone, or the model can't take new classes.
        """
        store = self.task.store
        known = ClassVectors(store.class_names, store.class_vectors)
        taken = np.union1d(self.seen, self.unseen)
        names = [store.class_names[k] for k in taken] if text is None else split_names(text)
        found = find_classes(names, known, self._vocabulary(vectors))
        new = [one.name for one in found if one.label is None]
        if new and not isinstance(self.experiment.class_vectors, AsGiven):
            why = "its class vectors were optimised together, before training"
            raise fail("--classes", f"classes of the run, as {why}", some(new))
        fitted = [one.name for one in found if one.label is None or one.label not in taken]
        if fitted and hasattr(self.model, "fit_extra"):
            why = f"{self.experiment.model} is a classifier fitted to them"
            raise fail("--classes", f"classes of the run, as {why}", some(fitted))
        return found

    def _vocabulary(self, vectors: str | None) -> Vocabulary:
        store = self.task.store
        if vectors is None and isinstance(self.experiment.data, MotionScenesData):
            return SceneWords(self.experiment.data.scenes.seed)
        path = vectors or str(store.provenance.get("vectors", ""))
        if not path or (vectors is None and not Path(path).exists()):
            remedy = "Other words need --vectors FILE: the word vectors that neuroav extract was given"
            return NoWords(store.class_names, f"{remedy} ({path})." if path else f"{remedy}.")
        sources = store.provenance.get("class_vectors", {})
        rows = dict(zip(store.class_names, store.class_vectors, strict=True))
        return FileWords(path, {sources.get(name, name): row for name, row in rows.items()})

    def describe(self, path: str) -> Described:
        """Describe a video as the run's clips were.

        Raises:
            InputError: If it can't be read.
        """
        aligned = bool(self.task.store.settings.get("aligned"))
        found = describe_file(path, self.video, self.audio, aligned)
        if isinstance(found, str):
            raise InputError(f"{path}: {found}")
        return found

    def distances(self, described: Described, classes: Sequence[TypedClass]) -> np.ndarray:
        """Distances ``(K,)`` float32 of a described video to ``classes``."""
        of_run = self.task.class_vectors
        vectors = np.stack([one.vector if one.label is None else of_run[one.label] for one in classes])
        audio_t_s = described.audio_t_s
        clips = LoadedClips(
            t_s=described.t_s,
            video=described.video,
            audio=described.audio,
            motion=described.motion,
            offsets=np.array([0, len(described.t_s)]),
            labels=np.zeros(1, np.int64),
            **({} if audio_t_s is None else {"audio_t_s": audio_t_s, "audio_offsets": np.array([0, len(audio_t_s)])}),
        )
        data = ClipData(clips, self.statistics, vectors.astype(np.float32), self.experiment.steps.evaluation())
        return distances(self.model, data, np.arange(len(classes)))[0]

    def answer(self, described: Described, classes: Sequence[TypedClass]) -> list[Choice]:
        """Rank ``classes`` for a described video."""
        names, seen = [one.name for one in classes], np.array([one.label in self.seen for one in classes])
        return rank(self.distances(described, classes), names, seen, self.beta)


# ----------------------------------------------------------------------------------------------------- opening a run


def _not_from_video(where: str, what: str) -> Exception:
    return fail(where, "a run on features that can be made of a video", what, "Extract clips and run on them.")


def _encoders(task: Task, video_encoder: str | None, audio_encoder: str | None) -> tuple[EncoderChoice, EncoderChoice]:
    """Find the encoders that a store's clips were described by."""
    settings, where = task.store.settings, str(task.store.path)
    if not isinstance(task.source, MotionScenesData):
        if "descriptor" not in settings:
            name = " ".join(str(settings[key]) for key in ("data_set", "features") if key in settings)
            raise _not_from_video(where, f"published ones ({name})" if name else "others")
        numbers = {key: value for key, value in SETTINGS.items() if key not in ("descriptor", "neuroav")}
        other = [f"{key} = {settings.get(key)}" for key, value in numbers.items() if settings.get(key) != value]
        if other:
            remedy = "It was extracted by another version; extract and run again."
            raise fail(where, f"clips described with {numbers}", ", ".join(other), remedy)
    described = settings.get("descriptor", "classic")
    if isinstance(described, str):
        described = {"video": {"name": described}, "audio": {"name": described}}
    files = task.store.provenance.get("encoders", {})
    return (
        _encoder("--video-encoder", video_encoder, described["video"], files.get("video", []), VIDEO),
        _encoder("--audio-encoder", audio_encoder, described["audio"], files.get("audio", []), AUDIO),
    )


def _encoder(
    option: str, text: str | None, described: dict[str, Any], files: Sequence[str], known: tuple[str, ...]
) -> EncoderChoice:
    """Return the encoder that the store names, from files given now or those used then."""
    name, used = described["name"], ",".join(described.get("files", []))
    wanted = f"{name}:{used}" if used else name
    if text is None and used and not (files and all(Path(path).exists() for path in files)):
        raise fail(option, f"the encoder of the run, {wanted}", "none", "Say where its files are.")
    choice = EncoderChoice(name, tuple(files)) if text is None else parse_choice(option, text, known)
    now = choice.describe()
    if (now["name"], now.get("sha256")) != (name, described.get("sha256")):
        raise fail(option, f"the encoder of the run, {wanted}", f"{choice.name} from other files")
    return choice


# --------------------------------------------------------------------------------------------------------- the command


@dataclass(frozen=True)
class Answer:
    """What was said of one file.

    Attributes:
        path: The file.
        ranked: All classes, the winner first.
        duration_s: Seconds.
        has_audio: Whether there was sound.
        notes: What was wrong with the file, in words.
    """

    path: str
    ranked: list[Choice]
    duration_s: float
    has_audio: bool
    notes: str

    def lines(self, top: int) -> list[str]:
        """The answer to print: a line on the file, and one for each of the ``top`` first classes."""
        remarks = [f"{self.duration_s:.1f} s", *([] if self.has_audio else ["no sound, described as silence"])]
        remarks += [note for note in self.notes.split("; ") if note not in ("", "no audio track")]
        width = max(len(choice.name) for choice in self.ranked[:top])
        rows = [
            f"  {place:>2}  {choice.name:<{width}}  {'' if choice.seen else 'unseen':<6}  {choice.score:#10.4g}  "
            + (f"ahead by {choice.margin:#.3g}" if place == 1 else f"behind by {-choice.margin:#.3g}")
            for place, choice in enumerate(self.ranked[:top], 1)
        ]
        return [f"{self.path} ({', '.join(remarks)})", *rows]


def classify_command(
    clips: Sequence[str],
    run_dir: str,
    classes: str | None = None,
    vectors: str | None = None,
    draw: str | None = None,
    top: int = 5,
    json_path: str | None = None,
    video_encoder: str | None = None,
    audio_encoder: str | None = None,
) -> int:
    """``neuroav classify``: rank classes for each clip, print them, and draw them onto copies if asked to.

    Args:
        clips: Video files.
        run_dir: Of a finished run.
        classes: Names with commas between them; ``None``: all that compete in the run's test.
        vectors: File of word vectors, for words that are no class of the run.
        draw: ``.mp4`` file for one clip, or a folder: copies with the answer drawn under the picture.
        top: Classes to print and draw.
        json_path: Also write every class's figures as JSON.
        video_encoder: Where the run's clips were described by a pretrained one: it, as for ``neuroav extract``.
        audio_encoder: The same for sound.

    Returns:
        Exit status 0, or 1 if a clip could not be classified; the others were.

    Raises:
        InputError: If the run, the classes or ``draw`` can't be used.
    """
    check_range("classify", "--top", top, 1)
    copies = _copies(clips, draw)
    recogniser = Recogniser.open(run_dir, video_encoder, audio_encoder)
    chosen = recogniser.classes(classes, vectors)
    sys.stdout.write("\n".join(introduction(recogniser, chosen)) + "\n")
    answers: list[Answer] = []
    failed: dict[str, str] = {}
    for path in clips:
        try:
            described = recogniser.describe(path)
            ranked = recogniser.answer(described, chosen)
            answers.append(Answer(path, ranked, described.duration_s, described.has_audio, described.notes))
            sys.stdout.write("\n".join(answers[-1].lines(top)) + "\n")
            if path in copies:
                from neuroav.report.answer import draw_answer

                draw_answer(path, copies[path], ranked[:top])
                sys.stdout.write(f"  drawn onto {copies[path]}\n")
        except (InputError, OutputError) as error:
            failed[path] = str(error)
            sys.stderr.write(f"{error}\n")
        sys.stdout.flush()
    if json_path is not None:
        save_json(Path(json_path), _as_json(recogniser, run_dir, chosen, answers, failed))
    if failed:
        sys.stderr.write(f"{len(failed)} of {len(clips)} clips could not be classified: {some([*failed])}\n")
    return 1 if failed else 0


def introduction(recogniser: Recogniser, chosen: Sequence[TypedClass]) -> list[str]:
    """What the figures mean, and what new words are made of."""
    labels = [one.label for one in chosen]
    num_seen = sum(label in recogniser.seen for label in labels)
    score = "score: the distance to the class, lower is nearer"
    if 0 < num_seen < len(chosen):
        score += f"; for a class seen in training plus {recogniser.beta:.3g}, "
        score += "calibrated on validation clips" if recogniser.val_hm else "not calibrated: HM on validation was 0"
    lines = [f"{len(chosen)} classes, {len(chosen) - num_seen} of them unseen in training; {score}"]
    lines += [
        f"  {one.name}: the run's class {one.source!r}" if one.label is not None else f"  {one.name}: {one.source}"
        for one in chosen
        if one.source != one.name
    ]
    return lines


def _copies(clips: Sequence[str], draw: str | None) -> dict[str, Path]:
    """Where each clip's copy goes; refuses what would overwrite a clip or another copy."""
    if len({Path(path).resolve() for path in clips}) < len(clips):
        raise fail("classify", "every clip once", "one more than once")
    if draw is None:
        return {}
    out = Path(draw)
    if out.suffix.lower() == ".mp4" and not out.is_dir():
        if len(clips) > 1:
            raise fail("--draw", f"a folder for {len(clips)} clips", repr(draw))
        copies = {clips[0]: out}
    elif out.suffix and not out.is_dir():
        raise fail("--draw", "a name that ends in .mp4, or a folder", repr(draw))
    else:
        copies = {path: out / f"{Path(path).stem}.mp4" for path in clips}
    if len(set(copies.values())) < len(clips):
        raise fail("--draw", "clips of different names for one folder", "two of the same name")
    taken = {Path(path).resolve() for path in clips}
    onto = [str(copy) for copy in copies.values() if copy.resolve() in taken]
    if onto:
        raise fail("--draw", "another file than the clip", onto[0], "The clip itself is never changed.")
    if out.suffix.lower() == ".mp4" and not out.is_dir():
        check_output("--draw", out)
    else:
        check_folder("--draw", out)
    return copies


def _as_json(
    recogniser: Recogniser,
    run_dir: str,
    chosen: Sequence[TypedClass],
    answers: Sequence[Answer],
    failed: dict[str, str],
) -> dict[str, Any]:
    classes = [
        {"class": one.name, "source": one.source, "of_run": one.label is not None, "seen": one.label in recogniser.seen}
        for one in chosen
    ]
    rows = [
        {
            "clip": answer.path,
            "duration_s": answer.duration_s,
            "has_audio": answer.has_audio,
            "notes": answer.notes,
            "ranked": ranked_json(answer.ranked),
        }
        for answer in answers
    ]
    return {"run": run_dir, "beta": recogniser.beta, "classes": classes, "rows": rows, "failed": failed}


def ranked_json(ranked: Sequence[Choice]) -> list[dict[str, Any]]:
    """Turn choices into JSON values, with ``class`` for the name and ``None`` for what is infinite."""
    figures = ("distance", "score", "margin")
    return [
        {"class": choice.name, "seen": choice.seen}
        | {key: value if math.isfinite(value := getattr(choice, key)) else None for key in figures}
        for choice in ranked
    ]
