"""Hugging Face encoders: small random models of the real architectures, saved and read from folders, no network."""

import json
import socket
import warnings

import numpy as np
import pytest
import torch

from neuroav.checks import InputError
from neuroav.data.word_vectors import find_vectors

transformers = pytest.importorskip("transformers")

from neuroav.data.encoders import huggingface  # noqa: E402

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**SMALL, "vocab_size": 9, "max_position_embeddings": 20}
IMAGES = {"do_resize": True, "do_rescale": True, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.2] * 3}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("something reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders as ``save_pretrained`` writes them, with processors as the published ones have them."""
    folder = tmp_path_factory.mktemp("models")
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    mit = {"mit_hidden_size": 16, "mit_intermediate_size": 16, "mit_num_attention_heads": 2, "mit_num_hidden_layers": 1}
    vision = {**SMALL, "image_size": 32, "patch_size": 16}
    fusion = {"enable_fusion": False, "fusion_type": None, "num_classes": 2, "window_size": 2, "spec_size": 64}
    sound = {"hidden_size": 8, "patch_embeds_hidden_size": 4, "depths": [1, 1], "num_attention_heads": [1, 1]}
    sound |= {"num_hidden_layers": 2, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4], **fusion}
    models = {
        "xclip": transformers.XCLIPModel(
            transformers.XCLIPConfig(
                text_config={**TEXT, "eos_token_id": 4},
                vision_config={**vision, "num_frames": 4, **mit},
                projection_dim=16,
            )
        ),
        "videomae": transformers.VideoMAEModel(transformers.VideoMAEConfig(**vision, num_frames=4)),
        "vit": transformers.ViTModel(transformers.ViTConfig(**vision), add_pooling_layer=False),
        "dinov2": transformers.Dinov2Model(
            transformers.Dinov2Config(
                hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, image_size=32, patch_size=16
            )
        ),
        "clap": transformers.ClapModel(
            transformers.ClapConfig(text_config={**TEXT, "pad_token_id": 1}, audio_config=sound, projection_dim=16)
        ),
        "ast": transformers.ASTModel(transformers.ASTConfig(**SMALL, num_mel_bins=32, max_length=64)),
        "bert": transformers.BertModel(transformers.BertConfig(**TEXT)),
    }
    for name, model in models.items():
        model.eval().save_pretrained(folder / name)
    _write_processors(folder)
    return folder


def _write_processors(folder):
    kinds = {"xclip": ("feature_extractor_type", "VideoMAEFeatureExtractor")}
    kinds |= {"videomae": ("image_processor_type", "VideoMAEImageProcessor")}
    kinds |= dict.fromkeys(("vit", "dinov2"), ("image_processor_type", "BitImageProcessor"))
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}
    for name, (key, kind) in kinds.items():
        (folder / name / "preprocessor_config.json").write_text(json.dumps({key: kind, **IMAGES, **sizes}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few bands hold no bin
        transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder / "ast")
        sound = {"feature_size": 16, "sampling_rate": 16000, "max_length_s": 1, "fft_window_size": 512}
        extractor = transformers.ClapFeatureExtractor(**sound, hop_length=256, truncation="rand_trunc")
        extractor.save_pretrained(folder / "clap")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", "[PAD]", "playing", "flute", "dog"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    for name in ("xclip", "clap", "bert"):
        fast.save_pretrained(folder / name)


def frames_of(windows):
    """What a processor makes of frames that have its size already: ``(n, F, 3, 32, 32)``."""
    return (torch.from_numpy(windows.astype(np.float32)) / 255 - 0.5).permute(0, 1, 4, 2, 3) / 0.2


@pytest.mark.parametrize(("name", "frames"), [("xclip", 4), ("videomae", 4), ("vit", 1), ("dinov2", 1)])
def test_video_and_images_give_the_models_own_features(folders, name, frames):
    encoder = huggingface.HuggingFaceVideoEncoder(str(folders / name))
    assert (encoder.frames, encoder.fps) == (frames, frames), "windows of one second"
    windows = np.random.default_rng(0).integers(0, 256, (3, frames, 32, 32, 3), dtype=np.uint8)
    model = {
        "xclip": transformers.XCLIPModel,
        "videomae": transformers.VideoMAEModel,
        "vit": transformers.ViTModel,
        "dinov2": transformers.Dinov2Model,
    }[name].from_pretrained(folders / name)
    pixels = frames_of(windows)
    with torch.no_grad():
        if name == "xclip":
            expected = model.get_video_features(pixels)
            expected = expected if isinstance(expected, torch.Tensor) else expected.pooler_output
        elif name == "videomae":
            expected = model(pixels).last_hidden_state.mean(1)
        else:
            expected = model(pixels[:, 0]).last_hidden_state[:, 0]
    found = encoder.encode(windows, np.full(3, frames))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert found.std(axis=0).max() > 1e-4, "three windows, three features"


@pytest.mark.parametrize("name", ["clap", "ast"])
def test_sound_is_heard_second_by_second(folders, name):
    encoder = huggingface.HuggingFaceAudioEncoder(str(folders / name))
    rng = np.random.default_rng(0)
    seconds = rng.normal(0, [[0.01], [0.5]], (2, encoder.rate)).astype(np.float32)
    t_s, both = encoder.encode(seconds.ravel())
    assert t_s.tolist() == [0, 1]
    for second, feature in zip(seconds, both, strict=True):
        np.testing.assert_allclose(encoder.encode(second)[1][0], feature, rtol=1e-4, atol=1e-6)
    assert abs(both[0] - both[1]).max() > 1e-4
    assert len(encoder.encode(np.zeros(int(1.4 * encoder.rate), np.float32))[0]) == 1
    assert len(encoder.encode(np.zeros(int(1.6 * encoder.rate), np.float32))[0]) == 2
    assert len(encoder.encode(np.zeros(0, np.float32))[0]) == 1


def test_texts_become_class_vectors(folders):
    found = find_vectors(folders / "bert", ["playing flute", "dog"])
    model = transformers.BertModel.from_pretrained(folders / "bert")
    with torch.no_grad():
        tokens = model(torch.tensor([[2, 3]])).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(found["playing flute"].values, tokens / np.linalg.norm(tokens), rtol=1e-4, atol=1e-6)
    for name in ("xclip", "clap"):
        vectors = find_vectors(folders / name, ["playing flute", "dog"])
        assert [np.linalg.norm(vector.values) for vector in vectors.values()] == pytest.approx([1, 1])


def test_a_folder_of_another_kind_is_refused(folders, tmp_path):
    for build, name, text in (
        (huggingface.HuggingFaceVideoEncoder, "ast", "AutoImageProcessor can read|an encoder of images"),
        (huggingface.HuggingFaceVideoEncoder, "bert", "AutoImageProcessor can read"),
        (huggingface.HuggingFaceAudioEncoder, "bert", "AutoFeatureExtractor can read"),
        (lambda folder: huggingface.text_vectors(folder, ["dog"]), "vit", "AutoTokenizer can read"),
    ):
        with pytest.raises(InputError, match=text):
            build(str(folders / name))
    with pytest.raises(InputError, match=r"no config\.json in it"):
        huggingface.HuggingFaceVideoEncoder(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="AutoConfig can read"):
        huggingface.HuggingFaceVideoEncoder(str(tmp_path))


def copied(source, folder, **changes):
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def test_missing_weights_are_not_made_up(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copied(folders / "vit", tmp_path / "vit")
    state = load_file(folder / "model.safetensors")
    gone = next(name for name in state if "layer" in name)
    save_file({name: tensor for name, tensor in state.items() if name != gone}, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"the weights of ViTModel, got no .*layer"):
        huggingface.HuggingFaceVideoEncoder(str(folder))


def test_code_in_a_folder_is_never_run(folders, tmp_path):
    folder = copied(
        folders / "vit",
        tmp_path / "remote",
        model_type="mine",
        auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.M"},
    )
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(InputError, match="AutoConfig can read"):
        huggingface.HuggingFaceVideoEncoder(str(folder))

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    folder = copied(folders / "vit", tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({"x": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="AutoModel can read"):
        huggingface.HuggingFaceVideoEncoder(str(folder))
    assert not (tmp_path / "ran").exists()
