"""The four taggers against TensorFlow's values, their checkpoints' reader, and what is refused."""

from importlib import metadata

import numpy as np
import pytest
import soundfile
import torch
from torch.nn import functional as F

from core.options import InputError
from extract_item_embeddings.engine.shared import Shared
from extract_item_embeddings.musicnn import Musicnn
from extract_item_embeddings.musicnn_mtt import MusicnnMtt
from extract_item_embeddings.networks.tensor_bundle import read_tensors
from extract_item_embeddings.networks.vgg import POOLS
from extract_item_embeddings.vgg_msd import VggMsd
from extract_item_embeddings.vgg_mtt import VggMtt

TAGGERS = {"musicnn_msd": Musicnn, "musicnn_mtt": MusicnnMtt, "vgg_msd": VggMsd, "vgg_mtt": VggMtt}


@pytest.fixture(scope="module")
def loaded():
    """The taggers under the names of their golden values, on the CPU, loaded once."""
    backbones = {name: kind() for name, kind in TAGGERS.items()}
    for backbone in backbones.values():
        backbone.load("cpu")
    return backbones


@pytest.fixture
def musicnn(loaded):
    return loaded["musicnn_msd"]


@pytest.mark.parametrize("name", TAGGERS)
def test_agrees_with_the_reference_network_on_every_patch(name, loaded, shared):
    backbone, golden = loaded[name], np.load(shared / "golden" / f"{name}.npz")
    assert backbone.weights()["source"].endswith(backbone.checkpoint)  # and the hash is right
    as_tags = type(backbone).from_config(backbone.config_class(audio=".", as_="tags"))
    as_tags.model = backbone.model
    for clip, patches in (("tones_30s", 10), ("tones_12s", 4)):
        audio, rate = soundfile.read(shared / "golden" / f"{clip}.flac", dtype="float32")
        assert rate == backbone.sample_rate
        expected, expected_tags = (golden[f"{clip}_{of}"] for of in ("penultimate", "taggram"))
        with torch.inference_mode():
            layer, tags = (out[0].numpy() for out in backbone.model(torch.tensor(audio[None])))
        assert layer.shape == (patches, backbone.embedding_size) and tags.shape == (patches, 50)
        np.testing.assert_allclose(layer, expected, atol=5e-5)
        np.testing.assert_allclose(tags, expected_tags, atol=5e-6)
        mean = expected.mean(axis=0)
        np.testing.assert_allclose(backbone.embed(audio[None])[0], mean, atol=5e-5)
        mean_tags = expected_tags.mean(axis=0)
        np.testing.assert_allclose(as_tags.embed(audio[None])[0], mean_tags, atol=5e-6)


def test_taggers_that_share_their_spectrogram_give_the_same_vectors(loaded, monkeypatch):
    audio = 0.1 * np.random.default_rng(0).normal(size=(3, 6 * 16_000)).astype(np.float32)
    both = [loaded["musicnn_msd"], loaded["vgg_msd"]]
    alone, computed, shared = [one.embed(audio) for one in both], [], Shared(2)
    for one in both:
        original = one.model.spectrogram.forward
        monkeypatch.setattr(one, "shared", shared)
        monkeypatch.setattr(
            one.model.spectrogram,
            "forward",
            lambda clip, original=original: computed.append(1) or original(clip),
        )
    for one, expected in zip(both, alone, strict=True):
        np.testing.assert_array_equal(one.embed(audio), expected)
    assert len(computed) == len(audio)


def test_the_tags_are_an_embedding_with_a_name_of_its_own(root_of_one, command):
    flags = ("--root", root_of_one, "--audio", root_of_one / "audio", "--as", "tags")
    done = command("-m", "extract_item_embeddings.vgg_msd", *flags)
    assert done.returncode == 0, done.stderr
    matrix = np.load(root_of_one / "embeddings" / "vgg_msd_tags.npy")
    assert matrix.shape == (1, 50) and 0 < matrix.min() < matrix.max() < 1
    wrong = command("-m", "extract_item_embeddings.vgg_msd", *flags[:-1], "labels")
    assert wrong.returncode == 2 and "--as must be one of penultimate, tags" in wrong.stderr


@pytest.fixture
def root_of_one(tmp_path):
    (tmp_path / "audio").mkdir()
    noise = 0.1 * np.random.default_rng(0).normal(size=4 * 16_000)
    soundfile.write(tmp_path / "audio" / "a.flac", noise, 16_000)
    (tmp_path / "trackid_sorted.csv").write_text("idx,trackid\n0,a\n")
    return tmp_path


@pytest.mark.parametrize("name", TAGGERS)
def test_every_patch_counts(name, loaded):
    """The package's own penultimate repeats the first patch, so the rest would change nothing."""
    audio = np.random.default_rng(0).normal(size=480_000).astype(np.float32) * 0.1
    changed = audio.copy()
    changed[400_000:410_000] *= 5  # in the ninth patch
    backbone = loaded[name]
    assert np.abs(backbone.embed(changed[None]) - backbone.embed(audio[None])).max() > 0.01


def full_front_block(tensors, number, mel):
    """Convolution, ReLU, batch norm, maximum over frequency, as written: all channels, in order."""
    layer = f"conv2d_{number}" if number else "conv2d"
    norm = f"batch_normalization_{number + 1}"
    kernel, bias = (torch.tensor(tensors[f"{layer}/{part}"]) for part in ("kernel", "bias"))
    x = mel.transpose(2, 3)  # (n, 1, time, frequency)
    taps = kernel.shape[0]
    x = torch.nn.functional.pad(x, (0, 0, (taps - 1) // 2, taps // 2))
    x = torch.relu(torch.nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias))
    parts = ("moving_mean", "moving_variance", "gamma", "beta")
    values = [torch.tensor(tensors[f"{norm}/{part}"]) for part in parts]
    return torch.nn.functional.batch_norm(x, *values, eps=1e-3).amax(dim=3)


@pytest.mark.parametrize("number", range(5))
def test_leaving_dead_channels_out_changes_nothing(musicnn, number):
    tensors = read_tensors(*musicnn.files())
    mel = 2 * torch.randn(2, 1, 96, 187, generator=torch.Generator().manual_seed(0))
    block = musicnn.model.front[number]
    with torch.inference_mode():
        ours, full = block(mel), full_front_block(tensors, number, mel)
    assert len(block.alive) < ours.shape[1]
    torch.testing.assert_close(ours, full, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["vgg_msd", "vgg_mtt"])
def test_what_vgg_leaves_out_changes_nothing(name, loaded):
    """Against the network as it is written: every channel, and all that no pooling reads."""
    backbone = loaded[name]
    tensors = {k: torch.tensor(v) for k, v in read_tensors(*backbone.files()).items()}
    mel = 2 * torch.randn(2, 96, 187, generator=torch.Generator().manual_seed(0))

    def norm(x, number):
        layer = f"batch_normalization_{number}" if number else "batch_normalization"
        parts = ("moving_mean", "moving_variance", "gamma", "beta")
        return F.batch_norm(x, *(tensors[f"{layer}/{part}"] for part in parts), eps=1e-3)

    x = norm(mel.transpose(1, 2)[:, None], 0)
    for number, (window, stride) in enumerate(POOLS, start=1):
        kernel, bias = (tensors[f"{number}CNN/{part}"] for part in ("kernel", "bias"))
        x = torch.relu(F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=1))
        x = F.max_pool2d(norm(x, number), window, stride)
    with torch.inference_mode():
        ours = backbone.model.penultimate(mel)
    assert not backbone.model.blocks[0].alive.all()
    expected = x.permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(ours, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)


def test_less_than_a_patch_is_an_error_of_the_caller(musicnn):
    with pytest.raises(ValueError, match="63 frames are less than one patch of 187"):
        musicnn.embed(np.zeros((1, 16_000), np.float32))


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(InputError, match=r"pip install --no-deps musicnn==0\.1\.0"):
        Musicnn().weights()


def test_another_checkpoint_is_refused(monkeypatch, tmp_path):
    index, data = Musicnn().files()
    (tmp_path / "i").write_bytes(index.read_bytes())
    (tmp_path / "d").write_bytes(data.read_bytes()[:-4] + b"\0\0\0\1")
    monkeypatch.setattr(Musicnn, "files", lambda self: (tmp_path / "i", tmp_path / "d"))
    with pytest.raises(InputError, match="is not the checkpoint of musicnn==0.1.0"):
        Musicnn().weights()


def test_the_reader_of_checkpoints_refuses_what_it_cannot_read(tmp_path):
    index, data = Musicnn().files()
    table = index.read_bytes()
    (tmp_path / "i").write_bytes(table[:-1] + b"\0")
    with pytest.raises(ValueError, match="its magic number is wrong"):
        read_tensors(tmp_path / "i", data)
    (tmp_path / "d").write_bytes(data.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"tensor \S+: [\d,]+ bytes at [\d,]+ do not hold shape"):
        read_tensors(index, tmp_path / "d")
