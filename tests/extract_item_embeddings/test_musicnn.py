"""MusiCNN against the reference network, its checkpoint's reader, and what a missing one says."""

from importlib import metadata

import numpy as np
import pytest
import soundfile
import torch

from core.options import InputError
from extract_item_embeddings import musicnn
from extract_item_embeddings.musicnn import Musicnn
from extract_item_embeddings.networks.tensor_bundle import read_tensors


@pytest.fixture(scope="module")
def backbone():
    loaded = Musicnn()
    loaded.load("cpu")
    return loaded


def test_agrees_with_the_reference_network_on_every_patch(backbone, shared):
    golden = np.load(shared / "golden" / "musicnn_msd.npz")
    for name, patches in (("tones_30s", 10), ("tones_12s", 4)):
        audio, rate = soundfile.read(shared / "golden" / f"{name}.flac", dtype="float32")
        assert rate == Musicnn.sample_rate
        with torch.inference_mode():
            penultimate, tags = (
                out[0].numpy() for out in backbone.model(torch.tensor(audio[None]))
            )
        assert penultimate.shape == (patches, 200) and tags.shape == (patches, 50)
        np.testing.assert_allclose(penultimate, golden[f"{name}_penultimate"], atol=5e-5)
        np.testing.assert_allclose(tags, golden[f"{name}_taggram"], atol=5e-6)
        mean = golden[f"{name}_penultimate"].mean(axis=0)
        np.testing.assert_allclose(backbone.embed(audio[None])[0], mean, atol=5e-5)


def test_every_patch_counts(backbone):
    """The package's own penultimate repeats the first patch, so the rest would change nothing."""
    audio = np.random.default_rng(0).normal(size=480_000).astype(np.float32) * 0.1
    changed = audio.copy()
    changed[400_000:410_000] *= 5  # in the ninth patch
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
def test_leaving_dead_channels_out_changes_nothing(backbone, number):
    tensors = read_tensors(*musicnn._checkpoint())
    mel = 2 * torch.randn(2, 1, 96, 187, generator=torch.Generator().manual_seed(0))
    block = backbone.model.front[number]
    with torch.inference_mode():
        ours, full = block(mel), full_front_block(tensors, number, mel)
    assert len(block.alive) < ours.shape[1]
    torch.testing.assert_close(ours, full, atol=2e-5, rtol=1e-5)


def test_less_than_a_patch_is_an_error_of_the_caller(backbone):
    with pytest.raises(ValueError, match="63 frames are less than one patch of 187"):
        backbone.embed(np.zeros((1, 16_000), np.float32))


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(InputError, match=r"pip install --no-deps musicnn==0\.1\.0"):
        Musicnn().weights()


def test_another_checkpoint_is_refused(monkeypatch, tmp_path):
    index, data = musicnn._checkpoint()
    (tmp_path / "i").write_bytes(index.read_bytes())
    (tmp_path / "d").write_bytes(data.read_bytes()[:-4] + b"\0\0\0\1")
    monkeypatch.setattr(musicnn, "_checkpoint", lambda: (tmp_path / "i", tmp_path / "d"))
    with pytest.raises(InputError, match="is not the checkpoint of musicnn==0.1.0"):
        Musicnn().weights()


def test_the_reader_of_checkpoints_refuses_what_it_cannot_read(tmp_path):
    index, data = musicnn._checkpoint()
    table = index.read_bytes()
    (tmp_path / "i").write_bytes(table[:-1] + b"\0")
    with pytest.raises(ValueError, match="its magic number is wrong"):
        read_tensors(tmp_path / "i", data)
    (tmp_path / "d").write_bytes(data.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"tensor \S+: [\d,]+ bytes at [\d,]+ do not hold shape"):
        read_tensors(index, tmp_path / "d")
