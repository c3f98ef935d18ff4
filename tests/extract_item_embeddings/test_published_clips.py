"""What the study's scripts do to audio: --as-published repeats it, the default does not."""

import numpy as np
import pytest
import soundfile
import torch

from core.options import parse_config
from extract_item_embeddings.engine.decoding import read_clip
from extract_item_embeddings.jukemir import Jukemir
from extract_item_embeddings.mert import Mert
from extract_item_embeddings.music2vec import Music2Vec
from extract_item_embeddings.musicfm import MusicFM


def made(kind, *flags):
    return kind.from_config(parse_config(kind.config_class, "", ["--audio", ".", *flags]))


@pytest.fixture
def short(tmp_path):
    """A file of three seconds at 24 kHz."""
    wave = np.random.default_rng(0).normal(0, 0.1, 72_000)
    soundfile.write(tmp_path / "x.wav", wave, 24_000, subtype="FLOAT")
    return tmp_path / "x.wav"


@pytest.mark.parametrize("kind", [Mert, Music2Vec, MusicFM], ids=lambda kind: kind.name)
def test_a_short_file_ends_in_silence_as_published_and_is_itself_otherwise(kind, short):
    clip = read_clip(short, made(kind).clip_length)
    assert len(clip) == 3 * kind.sample_rate
    backbone = made(kind, "--as-published")
    assert backbone.name == f"{kind.name}_published"
    padded = read_clip(short, backbone.clip_length)
    assert len(padded) == 720_000 and padded[:72_000].any() and not padded[72_000:].any()
    np.testing.assert_allclose(padded[:72_000], soundfile.read(short)[0], atol=1e-6)


def test_music2vec_hears_raw_waves_as_published():
    audio = 0.3 + 0.1 * torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    assert made(Music2Vec, "--as-published").prepare(audio) is audio
    assert made(Music2Vec).prepare(audio).mean().abs() < 1e-6


def test_jukebox_normalises_over_the_24_seconds_that_the_study_loads(tmp_path):
    wave = np.full(30 * 44_100, 0.1)
    wave[100], wave[25 * 44_100] = 0.5, 0.9  # the loudest sample comes too late
    soundfile.write(tmp_path / "x.wav", wave, 44_100, subtype="FLOAT")
    backbone = made(Jukemir)
    clip = read_clip(tmp_path / "x.wav", backbone.clip_length)
    assert len(clip) == 24 * 44_100
    assert backbone.prepare(torch.from_numpy(clip)[None]).max() == 1
    assert clip.max() == pytest.approx(0.5)
