"""The contract of a backbone, over every file of the folder that holds one."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from config import parse_config
from extract_item_embeddings.engine import Backbone
from tests import tiny_weights

FOLDER = Path(__file__).resolve().parents[1] / "extract_item_embeddings"
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if "\nif __name__ ==" in p.read_text())
INSTALLED = {"mfcc", "musicnn"}  # their weights, if any; the others get tiny random ones


def backbone_class(name):
    module = importlib.import_module(f"extract_item_embeddings.{name}")
    own = [v for v in vars(module).values() if getattr(v, "__module__", "") == module.__name__]
    (found,) = [v for v in own if isinstance(v, type) and issubclass(v, Backbone)]
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return a function name -> flags that give the command its weights, made once."""
    folder = tmp_path_factory.mktemp("weights")

    def flags(name):
        if name in INSTALLED:
            return ()
        if not (folder / name).exists():
            tiny_weights.WRITERS[name](folder / name)
        return "--weights", str(folder / name)

    with tiny_weights.apart(folder / "hub"):
        yield flags


@pytest.fixture(scope="module")
def loaded(weights):
    """Return a function name -> backbone on the CPU, loaded once."""
    cache = {}

    def load(name):
        if name not in cache:
            kind = backbone_class(name)
            config = parse_config(kind.config_class, "", ["--audio", ".", *weights(name)])
            cache[name] = kind.from_config(config)
            cache[name].load("cpu")
        return cache[name]

    return load


def clips(backbone, n, seconds):
    rng = np.random.default_rng(0)
    samples = round(seconds * backbone.sample_rate)
    time = np.arange(samples) / backbone.sample_rate
    tones = np.stack([np.sin(2 * np.pi * 220 * 2 ** (i / 3) * time) for i in range(n)])
    return (0.3 * tones + 0.02 * rng.normal(size=tones.shape)).astype(np.float32)


def test_the_folder_was_found():
    assert set(NAMES) == INSTALLED | set(tiny_weights.WRITERS)


@pytest.mark.parametrize("name", NAMES)
def test_states_its_facts_and_how_to_run_it(name):
    kind = backbone_class(name)
    assert kind.name == name
    assert kind.sample_rate in range(8_000, 48_001)
    assert 0 < kind.min_seconds <= kind.clip_seconds
    assert 0 < kind.step_seconds <= kind.clip_seconds
    assert kind.embedding_size > 0 and kind.batch_size > 0
    doc = importlib.import_module(kind.__module__).__doc__
    assert f"python -m extract_item_embeddings.{name}" in doc
    assert f"embeddings/{name}.npy, float32 (n_tracks, {kind.embedding_size})" in doc


@pytest.mark.parametrize("name", NAMES)
def test_has_a_slurm_file(name):
    assert (FOLDER / f"{name}.sh").exists(), "what is in it is tested in test_batch_files.py"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seconds", ["shortest", "between", "longest"])
def test_one_finite_vector_a_clip_the_same_each_time_and_in_any_batch(name, seconds, loaded):
    backbone = loaded(name)
    between = backbone.min_seconds + 2 * backbone.step_seconds
    sizes = {"shortest": backbone.min_seconds, "between": between, "longest": backbone.clip_seconds}
    audio = clips(backbone, 3, sizes[seconds])
    vectors = backbone.embed(audio)
    assert vectors.shape == (3, backbone.embedding_size) and vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    scale = np.abs(vectors).max()
    np.testing.assert_allclose(backbone.embed(audio), vectors, atol=1e-6 * scale)
    for i in range(3):
        np.testing.assert_allclose(
            backbone.embed(audio[i : i + 1])[0], vectors[i], atol=2e-5 * scale
        )
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3 * scale  # it listens


@pytest.mark.parametrize("name", NAMES)
def test_silence_and_a_loud_neighbour_do_no_harm(name, loaded):
    backbone = loaded(name)
    audio = clips(backbone, 2, backbone.min_seconds)
    audio[1] = 0
    vectors = backbone.embed(audio)
    assert np.isfinite(vectors).all()
    audio[0] *= 30
    scale = np.abs(vectors).max()
    np.testing.assert_allclose(backbone.embed(audio)[1], vectors[1], atol=2e-5 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_extracts_and_refuses_a_wrong_device(name, loaded, weights, tmp_path, command):
    backbone = loaded(name)
    (tmp_path / "audio").mkdir()
    for i, clip in enumerate(clips(backbone, 3, 5.0)):
        soundfile.write(tmp_path / "audio" / f"t{i}.ogg", clip, backbone.sample_rate)
    (tmp_path / "trackid_sorted.csv").write_text("idx,trackid\n0,t0\n1,t1\n2,t2\n")
    module = ("-m", f"extract_item_embeddings.{name}")
    flags = ("--root", tmp_path, "--audio", tmp_path / "audio", *weights(name))
    wrong = command(*module, *flags, "--device", "cuda:99")
    assert wrong.returncode == 2 and "--device cuda:99" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    done = command(*module, *flags, "--batch-size", "2", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    matrix = np.load(tmp_path / "embeddings" / f"{name}.npy")
    assert matrix.shape == (3, backbone.embedding_size) and np.isfinite(matrix).all()


def test_mfcc_is_mean_and_covariance_so_a_gain_moves_the_mean_loudness_alone(loaded):
    audio = clips(loaded("mfcc"), 2, 5.0)
    vectors = loaded("mfcc").embed(audio).astype(np.float64)
    louder = loaded("mfcc").embed(2 * audio).astype(np.float64)
    expected = vectors.copy()
    expected[:, 0] += np.sqrt(40) * 20 * np.log10(2)  # the first of 40 orthonormal cosines is flat
    np.testing.assert_allclose(louder, expected, atol=2e-3)
    covariance = np.zeros((13, 13))
    covariance[np.triu_indices(13)] = vectors[0, 13:]
    covariance += np.triu(covariance, 1).T
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_mfcc_hears_quiet_frames_beside_loud_ones(loaded):
    noise = 0.3 * np.random.default_rng(0).normal(size=22_050 * 10).astype(np.float32)
    noise[len(noise) // 2 :] *= 10 ** (-90 / 20)  # the second half is 90 dB quieter
    variance = loaded("mfcc").embed(noise[None])[0, 13]  # of two levels: (half their distance)^2
    assert variance == pytest.approx(40 * 45**2, rel=0.05)
