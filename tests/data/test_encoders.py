"""Pretrained encoders on small random weights of the real architectures: networks, inputs, windows, files."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neuroav.checks import InputError
from neuroav.data.encoders import c3d, choice, selavi, vggish, weights, windows

GOLDEN_PLACES = ([0, 1, 40, 100, 180, 256, 20], [0, 98, 50, 10, 70, 33, 5])
GOLDEN_BANK = [-2.122619, -2.122619, -2.122619, 0.367687, 0.504786, 0.412303, -2.122619]
GOLDEN_MEAN = -0.0712973


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def randomised(network):
    """Statistics of normalisation too, so that nothing is 0 or 1 by chance."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.3)
    return network.eval()


def size_of(network):
    return sum(parameter.numel() for parameter in network.parameters())


class TestNetworks:
    """Sizes that are published, names that published weights have, and values by hand."""

    def test_sizes_are_those_of_the_published_weights(self):
        with torch.device("meta"):
            # torchvision says 31,505,325 for r2plus1d_18, of which 513 * 400 are its classifier
            assert size_of(selavi.R2Plus1D()) == 31_505_325 - 513 * 400
            assert size_of(c3d.C3D()) == 27_655_936 + 8193 * 4096 + 4097 * 4096
            assert size_of(vggish.VGGish()) == 4_499_712 + 12289 * 4096 + 4097 * 4096 + 4097 * 128
            assert size_of(selavi.ResNet9()) == 4_899_520

    def test_names_are_those_of_the_published_weights(self):
        names = selavi.R2Plus1D(2, 3).state_dict().keys()
        block = {"conv1.0.0.weight", "conv1.0.1.running_mean", "conv1.0.3.weight", "conv1.1.weight", "conv2.0.0.weight"}
        block |= {"conv2.0.1.bias", "conv2.0.3.weight", "conv2.1.running_var", "downsample.0.weight"}
        assert {f"layer2.0.{name}" for name in block} <= names
        assert {"stem.0.weight", "stem.1.weight", "stem.3.weight", "stem.4.bias", "layer4.1.conv2.1.bias"} <= names
        assert "layer1.0.downsample.0.weight" not in names
        names = selavi.ResNet9(2).state_dict().keys()
        assert {"conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer3.0.bn2.weight"} <= names
        assert {"layer4.0.downsample.0.weight", "layer4.0.downsample.1.running_mean"} <= names
        layers = ["conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7"]
        assert list(c3d.C3D(2, 4).state_dict()) == [
            f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")
        ]
        places = [0, 3, 6, 8, 11, 13]
        expected = [f"features.{i}.{kind}" for i in places for kind in ("weight", "bias")]
        expected += [f"fc.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")]
        assert list(vggish.VGGish(2, 4, 3).state_dict()) == expected

    def test_the_middle_channels_are_torchvisions(self):
        with torch.device("meta"):
            network = selavi.R2Plus1D()
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        assert shapes["layer1.0.conv1.0.0.weight"] == (144, 64, 1, 3, 3)
        assert shapes["layer2.0.conv1.0.0.weight"] == (230, 64, 1, 3, 3)
        assert shapes["layer2.0.conv2.0.0.weight"] == (230, 128, 1, 3, 3)
        assert shapes["layer2.1.conv1.0.0.weight"] == (288, 128, 1, 3, 3)

    def test_a_video_block_is_its_formula(self):
        block = randomised(selavi._VideoBlock(2, 4, 2)).double()
        state, x = block.state_dict(), torch.randn(2, 2, 4, 6, 6, dtype=torch.float64)

        def norm(y, name):
            return F.batch_norm(y, *(state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")))

        def both(y, name, stride):
            y = F.conv3d(y, state[f"{name}.0.weight"], stride=(1, stride, stride), padding=(0, 1, 1))
            y = norm(y, f"{name}.1").clamp(min=0)
            return F.conv3d(y, state[f"{name}.3.weight"], stride=(stride, 1, 1), padding=(1, 0, 0))

        y = norm(both(x, "conv1.0", 2), "conv1.1").clamp(min=0)
        y = norm(both(y, "conv2.0", 1), "conv2.1")
        shortcut = norm(F.conv3d(x, state["downsample.0.weight"], stride=2), "downsample.1")
        torch.testing.assert_close(block(x), (y + shortcut).clamp(min=0))

    def test_vggish_flattens_rows_first_as_the_original(self):
        network = randomised(vggish.VGGish(2, 8, 4))
        x = torch.randn(1, 1, 96, 64)
        maps = network.features(x)[0].detach().numpy()  # channels, time, bands
        flat = np.array([maps[c, t, b] for t in range(6) for b in range(4) for c in range(16)])
        torch.testing.assert_close(network(x), network.fc(torch.from_numpy(flat)[None]))


class TestInputs:
    """What the networks are shown."""

    def test_c3d_sees_the_normalised_middle_and_zeros_after_the_end(self, tmp_path):
        path = tmp_path / "c3d.pth"
        torch.save(randomised(c3d.C3D(2, 8)).state_dict(), path)
        encoder = c3d.C3DEncoder(str(path))
        frames = np.random.default_rng(1).integers(0, 256, (1, 16, 128, 171, 3), dtype=np.uint8)
        x = torch.zeros(1, 3, 16, 112, 112)
        for f in range(10):
            for k, (mean, std) in enumerate(
                zip((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989), strict=True)
            ):
                image = frames[0, f, 8:120, 30:142, k]  # torchvision's CenterCrop rounds 29.5 to 30
                x[0, k, f] = (torch.from_numpy(image.astype(np.float32)) / 255 - mean) / std
        expected = encoder.network(x).detach().numpy()
        np.testing.assert_allclose(encoder.encode(frames, np.array([10])), expected, rtol=1e-4, atol=1e-5)
        assert expected.std() > 0
        assert not np.allclose(encoder.encode(frames, np.array([16])), expected)

    def test_released_pixels_are_what_a_byte_of_255_times_a_float_is(self):
        values = np.arange(256, dtype=np.uint8)
        wrapped = (torch.arange(256, dtype=torch.float32) * 255).to(torch.int64) % 256
        frames = np.stack([values, np.zeros_like(values), np.full_like(values, 9)], axis=-1)
        shown = c3d.ReleasedC3DEncoder.pixels(None, frames)
        assert shown[:, 2].tolist() == wrapped.tolist()
        assert set(shown[:, 0].tolist()) == {247}

    def test_vggish_mel_bands_are_triangles_in_mel(self):
        mel = vggish.mel_weights()
        assert mel.shape == (257, 64)

        def to_mel(hertz):
            return 1127 * math.log(1 + hertz / 700)

        low, high = to_mel(125), to_mel(7500)
        for band in (0, 13, 63):
            edges = [low + (high - low) * (band + k) / 65 for k in range(3)]
            for i in range(257):
                place = to_mel(i * 8000 / 256)
                up, down = (place - edges[0]) / (edges[1] - edges[0]), (edges[2] - place) / (edges[2] - edges[1])
                assert mel[i, band] == pytest.approx(max(0, min(up, down)) if i else 0, abs=1e-9)

    def test_vggish_windows_of_a_tone_by_the_discrete_transform(self):
        time_s = np.arange(32_000) / 16_000
        samples = (0.5 * np.sin(2 * np.pi * 1000 * time_s)).astype(np.float32)
        found = vggish.log_mel_windows(samples)
        assert found.shape == (2, 96, 64)
        start = (96 + 5) * 160  # the sixth frame of the second window
        piece = samples[start : start + 400].astype(np.float64) * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400))
        bins = [abs(sum(piece * np.exp(-2j * np.pi * k * np.arange(400) / 512))) for k in range(257)]
        np.testing.assert_allclose(found[1, 5], np.log(np.array(bins) @ vggish.mel_weights() + 0.01), rtol=1e-5)

    @pytest.mark.parametrize(
        ("samples", "count"), [(0, 1), (15_599, 1), (15_600, 1), (30_959, 1), (30_960, 2), (160_000, 10)]
    )
    def test_vggish_has_as_many_windows_as_published(self, samples, count):
        assert len(vggish.log_mel_windows(np.zeros(samples, np.float32))) == count

    def test_vggish_whitening_is_the_released_one(self):
        rng = np.random.default_rng(2)
        values, vectors, means = rng.normal(size=(3, 4)), rng.normal(size=(4, 4)), rng.normal(size=4)
        expected = np.clip(np.dot(vectors, (values.T - means[:, None])).T, -2, 2)
        expected = ((expected + 2) * (255 / 4)).astype(np.uint8)
        np.testing.assert_array_equal(vggish.quantised(values, vectors, means), expected)

    def test_selavi_filter_bank_is_that_of_python_speech_features(self):
        """Golden values of ``logfbank(..., 44100, 0.02, 0.01, nfilt=257, nfft=1024)`` of that package, 0.6."""
        n = np.arange(44_100)
        wave = np.round(8000 * np.sin(2 * np.pi * (200 + 0.05 * n) * n / 44_100)) / 32768
        found = selavi.filter_bank(wave)
        assert found.shape == (257, 99)
        np.testing.assert_allclose(found[GOLDEN_PLACES], GOLDEN_BANK, atol=2e-6)
        assert found.mean() == pytest.approx(GOLDEN_MEAN, abs=1e-6)


class TestWindows:
    """Which frames are seen when."""

    @staticmethod
    def shown(t_us, fps):
        frames = np.arange(len(t_us)).reshape(-1, 1, 1, 1)
        return [int(frame.item()) for frame in windows.frames_at([(frames, np.asarray(t_us))], fps)]

    def test_the_frames_own_rate_changes_nothing(self):
        for fps in (25, 30, 24000 / 1001):
            t_us = np.round(np.arange(50) * 1e6 / fps).astype(int) + 777
            assert self.shown(t_us, fps) == list(range(50))

    def test_other_rates_hold_or_skip_frames(self):
        assert self.shown(np.arange(10) * 80_000, 25) == [i // 2 for i in range(20)]
        assert self.shown(np.arange(20) * 20_000, 25) == list(range(0, 20, 2))
        assert self.shown([0], 25) == [0]

    @pytest.mark.parametrize(("fps", "rate"), [(25, 30), (29.97, 25), (12, 8), (60, 1)])
    def test_every_frame_shown_is_the_last_one_begun(self, fps, rate):
        t_us = np.round(np.arange(70) * 1e6 / fps).astype(int)
        found = self.shown(t_us, rate)
        assert len(found) == pytest.approx(70 / fps * rate, abs=1)
        for k, frame in enumerate(found):
            begun = [i for i, t in enumerate(t_us) if t <= k * 1e6 / rate + 1000]
            assert frame == begun[-1]

    def test_windows_and_their_rest(self):
        frames = [np.full((1, 1, 3), i, np.uint8) for i in range(5)]
        kept = list(windows.windows_of(frames, 2, True))
        assert [(w[:, 0, 0, 0].tolist(), real) for w, real in kept] == [([0, 1], 2), ([2, 3], 2), ([4, 4], 1)]
        assert len(list(windows.windows_of(frames, 2, False))) == 2
        assert [real for _, real in windows.windows_of(frames[:1], 2, False)] == [1]

    @pytest.mark.parametrize(("window", "step"), [(0.96, 0.64), (0.2, 0.64), (1.0, 1.0), (0.64, 0.96)])
    def test_other_steps_get_the_mean_by_overlap(self, window, step):
        values = np.random.default_rng(0).normal(size=(10, 3))
        starts = np.arange(int(10 * window / step)) * step
        found = windows.on_steps(np.arange(10) * window, values, starts)
        for row, start in zip(found, starts, strict=True):  # the mean over ten thousand moments of the step
            moments = start + (np.arange(10_000) + 0.5) / 10_000 * step
            expected = values[np.minimum(moments / window, 9).astype(int)].mean(0)
            np.testing.assert_allclose(row, expected, atol=2e-3)

    def test_steps_beyond_the_end_and_single_windows(self):
        two = np.array([[1.0], [2.0]])
        assert windows.on_steps(np.array([0.0, 1.0]), two, np.array([0.0, 1, 2, 3])).ravel().tolist() == [1, 2, 2, 2]
        assert windows.on_steps(np.array([0.0]), two[:1], np.array([0.0, 1, 2])).ravel().tolist() == [1, 1, 1]
        assert windows.on_steps(np.array([0.0]), two[:1], np.array([0.0])).tolist() == [[1]]


class TestWeightFiles:
    """What is read, and what is refused."""

    def test_the_same_weights_from_every_kind_of_file(self, tmp_path):
        from safetensors.torch import save_file

        state = {"a.weight": torch.arange(3.0), "b": torch.ones(2)}
        save_file(state, tmp_path / "w.safetensors")
        torch.save(state, tmp_path / "w.pth")
        torch.save(state, tmp_path / "old.pickle", _use_new_zipfile_serialization=False)
        parallel = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"epoch": 3, "model": parallel, "options": {"lr": 0.1}}, tmp_path / "nested.pth")
        for name in ("w.safetensors", "w.pth", "old.pickle", "nested.pth"):
            found = weights.read_weights(tmp_path / name)
            assert list(found) == list(state)
            assert all(torch.equal(found[key], state[key]) for key in state)

    def test_code_and_damage_are_refused(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (print, ("run",))

        torch.save({"a": torch.ones(1), "x": Evil()}, tmp_path / "evil.pth")
        torch.save(nn.Linear(1, 1), tmp_path / "module.pth")
        (tmp_path / "text.pth").write_text("no weights")
        (tmp_path / "text.safetensors").write_text("no weights")
        torch.save([1, 2], tmp_path / "list.pth")
        whole = (tmp_path / "list.pth").read_bytes()
        (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
        for name, text in (
            ("evil.pth", r"can't be read \(.*print"),
            ("module.pth", r"can't be read \(.*Linear"),
            ("text.pth", r"can't be read \(Unsupported operand \d+\)"),
            ("text.safetensors", "a damaged one"),
            ("list.pth", "no tensors by name"),
            ("cut.pth", "can't be read"),
            ("none.pth", "no such file"),
        ):
            with pytest.raises(InputError, match=text):
                weights.read_weights(tmp_path / name)

    def test_weights_must_be_whole_and_fit(self, tmp_path):
        state = c3d.C3D(2, 8).state_dict()
        for change, text in (
            ({"conv2.bias": None, "fc7.bias": None}, "no conv2.bias and 1 others"),
            ({"fc7.weight": torch.ones(8, 9)}, r"fc7.weight of shape \(8, 8\), got \(8, 9\)"),
            ({"conv1.weight": None}, "weights that hold conv1.weight, got conv1.bias, conv2.weight"),
        ):
            changed = {name: tensor for name, tensor in {**state, **change}.items() if tensor is not None}
            torch.save(changed, tmp_path / "w.pth")
            with pytest.raises(InputError, match=text):
                c3d.C3DEncoder(str(tmp_path / "w.pth"))
        torch.save({**state, "fc8.weight": torch.ones(3)}, tmp_path / "w.pth")
        c3d.C3DEncoder(str(tmp_path / "w.pth"))

    def test_both_conversions_of_vggish_and_their_whitening(self, tmp_path):
        state = randomised(vggish.VGGish(4, 8, 4)).state_dict()
        torch.save(state, tmp_path / "a.pth")
        torch.save({name.replace("fc.", "embeddings."): t for name, t in state.items()}, tmp_path / "b.pth")
        pca = {"pca_eigen_vectors": np.eye(4, dtype=np.float32), "pca_means": np.zeros((4, 1), np.float32)}
        np.savez(tmp_path / "pca.npz", **pca)
        torch.save({name: torch.from_numpy(array) for name, array in pca.items()}, tmp_path / "pca.pth")
        sound = np.random.default_rng(3).normal(0, 0.1, 40_000).astype(np.float32)
        (t_s, a), (_, b) = (vggish.VGGishEncoder(str(tmp_path / f"{name}.pth")).encode(sound) for name in "ab")
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(t_s, [0, 0.96], rtol=1e-6)
        for name in ("pca.npz", "pca.pth"):
            whole = vggish.VGGishEncoder(str(tmp_path / "a.pth"), str(tmp_path / name)).encode(sound)[1]
            np.testing.assert_array_equal(whole, np.floor((np.clip(a.astype(np.float64), -2, 2) + 2) * 63.75))
        np.savez(tmp_path / "wrong.npz", pca_means=np.zeros(4))
        with pytest.raises(InputError, match="pca_eigen_vectors and pca_means, got pca_means"):
            vggish.VGGishEncoder(str(tmp_path / "a.pth"), str(tmp_path / "wrong.npz"))

    def test_selavi_checkpoints_hold_both_networks(self, tmp_path):
        both = {f"module.video_network.base.{k}": v for k, v in randomised(selavi.R2Plus1D(2, 3)).state_dict().items()}
        both |= {f"module.audio_network.base.{k}": v for k, v in randomised(selavi.ResNet9(2)).state_dict().items()}
        torch.save({"model": both | {"module.mlp_v.weight": torch.ones(2)}}, tmp_path / "selavi.pth")
        video = selavi.SeLaViVideoEncoder(str(tmp_path / "selavi.pth"))
        frames = np.random.default_rng(0).integers(0, 256, (2, 3, 112, 149, 3), dtype=np.uint8)
        features = video.encode(frames, np.array([3, 3]))
        assert features.shape == (2, 16)
        middle = (torch.from_numpy(frames[:1, :, :, 19:131].astype(np.float32)) / 255 - 0.45) / 0.225
        alone = video.network(middle.permute(0, 4, 1, 2, 3)).detach().numpy()
        np.testing.assert_allclose(features[:1], alone, rtol=1e-4, atol=1e-6)
        audio = selavi.SeLaViAudioEncoder(str(tmp_path / "selavi.pth"))
        t_s, features = audio.encode(np.random.default_rng(0).normal(0, 0.1, 100_000).astype(np.float32))
        assert t_s.tolist() == [0, 1]
        assert features.shape == (2, 16)
        assert audio.encode(np.zeros(10, np.float32))[1].shape == (1, 16)


class TestChoices:
    """What is written on the command line."""

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("c4d:x", "the encoder to be one of .*'c3d'"),
            ("c3d", "expected c3d:WEIGHTS, got 'c3d'"),
            ("c3d:", "expected c3d:WEIGHTS"),
            ("c3d:none.pth", "no file none.pth"),
            ("classic:x", "classic without files"),
            ("hf:none", "no config.json in none"),
        ],
    )
    def test_wrong_choices_are_refused(self, text, problem):
        with pytest.raises(InputError, match=f"--video-encoder: .*{problem}"):
            choice.parse_choice("--video-encoder", text, choice.VIDEO)

    def test_files_are_told_apart_by_their_contents(self, tmp_path):
        for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
            (tmp_path / name).write_bytes(content)
        found = [choice.parse_choice("x", f"c3d:{tmp_path / name}", choice.VIDEO).describe() for name in "abc"]
        assert found[0]["sha256"] == found[1]["sha256"] != found[2]["sha256"]
        assert found[0]["files"] == ["a"]
        both = choice.parse_choice("x", f"vggish:{tmp_path / 'a'},{tmp_path / 'c'}", choice.AUDIO).describe()
        assert both["files"] == ["a", "c"]
        json.dumps(both)
