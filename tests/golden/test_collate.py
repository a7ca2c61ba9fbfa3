"""Our batches, read as released, hold the steps, masks and times of the released collation."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from neuroav.data.sample import AsStored, ClipData
from neuroav.data.store import LoadedClips
from neuroav.data.windows import AsPublished, AsReleased, Central, WholeClips, Window

C3D_S, VGGISH_S = 0.64, 0.96
MODES = ["max", "max_selavi", "fixed4_center", "fixed4_center_selavi", "fixed5_center", "fixed4_random"]
NAMES = [f"collate_{dataset}_{mode}" for dataset in ("UCF", "ActivityNet") for mode in MODES]
PARTS = ("positive", "negative")


@dataclass(frozen=True)
class Recorded:
    """The starts that the released run drew, each below the number of places that ours would draw from."""

    draws: list

    def starts(self, surplus, indices):
        found = torch.zeros_like(surplus)
        for clip in torch.nonzero(surplus).flatten().tolist():
            high, found[clip] = self.draws[clip]
            assert high == AsReleased().places(surplus)[clip]
        return found


def recorded(run, part):
    """Draws by clip: the released code makes them clip by clip, positive then negative, for longer videos only."""
    draws, most = iter(run.arrays["out.randint_draws_high_value"].tolist()), run.meta["arguments"]["max_len"]
    lengths = np.stack([run.arrays[f"in.{each}.video_lengths"] for each in PARTS], axis=1)
    by_clip = [[next(draws) if length > most else None for length in pair] for pair in lengths]
    assert next(draws, None) is None
    return Recorded([pair[PARTS.index(part)] for pair in by_clip])


def steps_of(run, part):
    """Our choice of steps for what the released run was told."""
    arguments = run.meta["arguments"]
    if arguments["mode"] == "max":
        return WholeClips()
    place = Central() if arguments["trim"] == "center" else recorded(run, part)
    return Window(arguments["max_len"], place, AsReleased())


def clips_of(run, part):
    """The ragged inputs as a store would load them."""
    arguments, found = run.meta["arguments"], {}
    for modality, default in (("video", C3D_S), ("audio", VGGISH_S)):
        lengths = run.arrays[f"in.{part}.{modality}_lengths"]
        index = np.concatenate([np.arange(n) for n in lengths])
        seconds = (index * arguments.get(f"rate_{modality}", default)).astype(np.float32)
        found[modality] = run.arrays[f"in.{part}.{modality}_concat"], seconds, np.concatenate([[0], np.cumsum(lengths)])
    (video, t_s, offsets), (audio, audio_t_s, audio_offsets) = found["video"], found["audio"]
    labels = run.arrays[f"out.{part}.target"]
    return LoadedClips(t_s, video, audio, None, offsets, labels, audio_t_s, audio_offsets)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_the_released_one(golden, name, part):
    run = golden("readers", name)
    clips = clips_of(run, part)
    data = ClipData(clips, AsStored().statistics(clips), np.eye(10, dtype=np.float32), steps_of(run, part))
    batch = data.batch(np.arange(len(clips)))
    assert batch.label.tolist() == run.arrays[f"out.{part}.target"].tolist()
    for modality in ("video", "audio"):
        ours = getattr(batch, modality)
        mask = run.arrays[f"out.{part}.{modality}_mask"].T.astype(bool)
        np.testing.assert_array_equal(ours.valid, mask)
        np.testing.assert_array_equal(ours.values, run.arrays[f"out.{part}.{modality}"].swapaxes(0, 1))
        times = run.arrays[f"out.{part}.{modality}_seconds"].T
        np.testing.assert_allclose(ours.t_s[ours.valid], times[mask], atol=1e-6)


def test_the_paper_gives_audio_the_span_of_its_video(golden):
    run = golden("readers", "collate_ActivityNet_fixed4_center")
    clips = clips_of(run, "positive")
    window = Window(4, Central(), AsPublished())
    data = ClipData(clips, AsStored().statistics(clips), np.eye(10, dtype=np.float32), window)
    audio = data.batch(np.arange(len(clips))).audio
    assert len(audio) == 3  # 4 x 0.64 s in steps of 0.96 s; the released code takes 2
    released = run.arrays["out.positive.audio"].swapaxes(0, 1)
    np.testing.assert_array_equal(audio.values[:2], released)  # they begin alike
