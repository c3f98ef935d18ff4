"""MusicFM, MuQ and MuQ-MuLan against what the original code computes, see conformers.json."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

from core.options import InputError, parse_config
from extract_item_embeddings.engine.extraction import extract
from extract_item_embeddings.muq import MuQ
from extract_item_embeddings.muq_mulan import MuQMuLan
from extract_item_embeddings.musicfm import MusicFM
from tests.extract_item_embeddings import tiny_weights
from tests.extract_item_embeddings.conformer_audio import clips

KINDS = {"musicfm": MusicFM, "muq": MuQ, "muq_mulan": MuQMuLan}
LAYERED = pytest.mark.parametrize("kind", [MusicFM, MuQ], ids=["musicfm", "muq"])
ALL = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
REFERENCE = dict(np.load(Path(__file__).parent / "conformers.npz"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{name: folder of its tiny weights}."""
    root = tmp_path_factory.mktemp("weights")
    return {name: tiny_weights.WRITERS[name](root / name) for name in KINDS}


def options(kind, folder, *flags):
    return parse_config(
        kind.config_class, "", ["--audio", ".", "--weights", str(folder), *map(str, flags)]
    )


def layers_of(backbone, audio):
    """Every layer (layers + 1, batch, time, width) of float32 clips (batch, samples)."""
    with torch.inference_mode():
        return torch.stack(list(backbone.model(backbone.prepare(torch.from_numpy(audio))))).numpy()


def altered(folders, kind, tmp_path, change):
    """Return a copy of the tiny weights whose {key: tensor} went through `change`."""
    folder = shutil.copytree(folders[kind.name], tmp_path / "weights")
    path = folder / kind.weight_files[0]
    if path.suffix == ".safetensors":
        state = safetensors.torch.load_file(path)
        change(state)
        safetensors.torch.save_file(state, path)
    else:
        content = torch.load(path)
        change(content.get("state_dict", content))
        torch.save(content, path)
    return folder


def test_the_mel_spectrogram_is_the_originals_in_noise_and_in_silence(make):
    audio = torch.from_numpy(clips(2, 24_001))
    mel = make(MusicFM).prepare(audio)[-1].numpy()
    np.testing.assert_allclose(mel, REFERENCE["mel"], atol=3e-5)
    mean, std = tiny_weights.STATISTICS.values()
    np.testing.assert_allclose(mel[:, -10:], (-100 - mean) / std, rtol=1e-6)  # 10 log10(1e-10)


@LAYERED
def test_every_layer_is_the_originals(kind, make):
    layers = layers_of(make(kind), clips(2, 24_001))
    np.testing.assert_allclose(layers, REFERENCE[kind.name], atol=2e-5)


@LAYERED
@pytest.mark.parametrize("layer", ["0", "1", "2", "3", "last", "mean"])
def test_each_layer_and_pool_is_the_originals(kind, layer, make):
    layers = REFERENCE[kind.name]
    wanted = {"last": layers[-1], "mean": layers.mean(axis=0)}
    frames = wanted[layer] if layer in wanted else layers[int(layer)]
    expected = {
        "mean": frames.mean(axis=1),
        "mean+std": np.concatenate([frames.mean(axis=1), frames.std(axis=1)], axis=1),
        "max": frames.max(axis=1),
    }
    backbone = make(kind, "--layer", layer)
    for how, vectors in expected.items():
        backbone.pool = how
        np.testing.assert_allclose(backbone.embed(clips(2, 24_001)), vectors, atol=2e-5)


@LAYERED
def test_layers_above_the_chosen_one_are_not_computed(kind, make):
    backbone = make(kind, "--layer", "1")
    backbone.model.conformer.layers[1] = None
    vectors = backbone.embed(clips(2, 24_001))
    np.testing.assert_allclose(vectors, REFERENCE[kind.name][1].mean(axis=1), atol=2e-5)


def test_mulan_embeds_as_the_original_and_fills_the_last_window_with_the_start(make):
    mulan, audio = make(MuQMuLan), clips(2, 301_234)
    vectors = mulan.embed(audio)
    np.testing.assert_allclose(vectors, REFERENCE["muq_mulan"], atol=2e-5)
    first, rest = audio[:, :240_000], audio[:, 240_000:]
    filled = np.concatenate([rest, audio[:, : 480_000 - 301_234]], axis=1)
    windows = [mulan.embed(first), mulan.embed(filled)]
    np.testing.assert_allclose(vectors, np.mean(windows, axis=0), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(windows, axis=-1), 1, atol=1e-6)


def test_mulan_reads_the_conformers_layer_its_config_names(make, folders, tmp_path):
    folder = shutil.copytree(folders["muq_mulan"], tmp_path / "weights")
    vectors = {}
    for layer in (-1, 3, 1):
        tiny_weights.change_config(folder, audio_model={"use_layer_idx": layer})
        vectors[layer] = make(MuQMuLan, folder=folder).embed(clips(1, 240_000))
    assert vectors[-1].tolist() == vectors[3].tolist()
    assert np.abs(vectors[1] - vectors[3]).max() > 1e-3


def test_as_published_averages_over_channels(make):
    published, usual = make(MusicFM, "--as-published"), make(MusicFM)
    assert published.name == "musicfm_published"
    length = published.clip_length
    assert length.longest == 720_000 and length.silence  # so that there are always 750 frames
    audio = clips(2, 720_000)
    vectors = published.embed(audio)
    assert vectors.shape == (2, 750) and published.embedding_size == 750
    np.testing.assert_allclose(vectors, layers_of(usual, audio)[-1].mean(axis=2), atol=1e-6)
    assert make(MusicFM, "--as-published", "--layer", "1").name == "musicfm_published_l1"
    with pytest.raises(InputError, match="mean over channels; --pool was max"):
        make(MusicFM, "--as-published", "--pool", "max")


def test_the_studys_mistake_is_recorded(folders, tmp_path):
    (tmp_path / "audio").mkdir()
    for name, samples in {"a": 720_000, "b": 30_000}.items():
        soundfile.write(tmp_path / "audio" / f"{name}.wav", clips(1, samples)[0], 24_000)
    (tmp_path / "trackid_sorted.csv").write_text("idx,trackid\n0,a\n1,b\n")
    places = ("--root", tmp_path, "--audio", tmp_path / "audio")
    as_published = options(MusicFM, folders["musicfm"], *places, "--as-published")
    assert MusicFM.from_config(as_published).clip_length.silence, "short clips end in silence"
    extract(MusicFM, as_published)
    assert np.load(tmp_path / "embeddings" / "musicfm_published.npy").shape == (2, 750)
    record = json.loads((tmp_path / "embeddings" / "musicfm_published.json").read_text())
    assert record["options"]["as_published"] is True
    assert record["options"]["trained_on"] == "fma"
    assert set(record["weights"]["sha256"]) == {"pretrained_fma.pt", "fma_stats.json"}


def test_the_weights_of_the_msd_are_other_files_and_another_name(make, folders, tmp_path):
    folder = shutil.copytree(folders["musicfm"], tmp_path / "weights")
    with pytest.raises(InputError, match=r"fetch pretrained_msd.pt, msd_stats.json of https:"):
        make(MusicFM, "--trained-on", "msd", folder=folder)
    shutil.copy(folder / "pretrained_fma.pt", folder / "pretrained_msd.pt")
    (folder / "msd_stats.json").write_text('{"melspec_2048_mean": 0, "melspec_2048_std": 20}')
    msd = make(MusicFM, "--trained-on", "msd", "--layer", "2", folder=folder)
    assert msd.name == "musicfm_msd_l2"
    assert set(msd.weights()["sha256"]) == {"pretrained_msd.pt", "msd_stats.json"}
    difference = msd.embed(clips(2, 24_001)) - REFERENCE["musicfm"][2].mean(axis=1)
    assert np.abs(difference).max() > 1e-3


@ALL
def test_a_weight_that_is_missing_is_named(kind, folders, make, tmp_path):
    lost = []

    def change(state):
        lost.append(next(key for key in state if key.endswith("layers.1.self_attn.linear_q.bias")))
        del state[lost[0]]

    folder = altered(folders, kind, tmp_path, change)
    message = rf"is not {kind.repository}: it lacks 1 weights, for example \S*linear_q\.bias; fetch"
    with pytest.raises(InputError, match=message):
        make(kind, folder=folder)
    assert lost


@ALL
@pytest.mark.parametrize("key", ["model.adapter.weight", "audio.linearly", "conformer.layers.1.b"])
def test_a_weight_of_no_known_use_is_named(kind, key, folders, make, tmp_path):
    folder = altered(folders, kind, tmp_path, lambda state: state.update({key: torch.zeros(2)}))
    message = f"is not {kind.repository}: it also holds 1 weights, for example .*; fetch"
    with pytest.raises(InputError, match=message) as caught:
        make(kind, folder=folder)
    assert key.removeprefix("model.") in str(caught.value)


@ALL
def test_what_training_alone_uses_may_be_absent(kind, folders, make, tmp_path):
    def change(state):
        prefix = "mulan." if kind is MuQMuLan else "model."
        extra = [
            key
            for key in state
            if any(re.fullmatch(p, key.removeprefix(prefix)) for p in kind.extra_keys)
        ]
        assert len(extra) > 5
        for key in extra:
            del state[key]

    folder = altered(folders, kind, tmp_path, change)
    audio = clips(1, 240_000)
    assert make(kind, folder=folder).embed(audio).tolist() == make(kind).embed(audio).tolist()


@ALL
def test_weights_of_another_shape_are_refused(kind, folders, make, tmp_path):
    def change(state):
        key = next(key for key in state if key.endswith("layers.1.ffn2.output_dense.weight"))
        state[key] = state[key][:, :-1].contiguous()

    folder = altered(folders, kind, tmp_path, change)
    with pytest.raises(InputError, match=f"cannot be loaded as {kind.repository} .*; fetch"):
        make(kind, folder=folder)


@ALL
def test_a_broken_or_empty_folder_says_what_to_fetch(kind, folders, make, tmp_path):
    folder = shutil.copytree(folders[kind.name], tmp_path / "weights")
    advice = f"fetch {', '.join(kind.files)} of .*{kind.repository}/tree/{kind.revision} into"
    (other,) = set(kind.files) - set(kind.weight_files)
    content = (folder / other).read_text()
    for text in ("{}", "no json"):
        (folder / other).write_text(text)
        with pytest.raises(InputError, match=f"cannot be loaded as .*{advice}"):
            make(kind, folder=folder)
    (folder / other).write_text(content)
    weights = folder / kind.weight_files[0]
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=f"{weights.name} does not hold .*{advice}"):
        make(kind, folder=folder)
    with pytest.raises(InputError, match=f"No such file or directory.*{advice}"):
        make(kind, folder=tmp_path / "nowhere")


@ALL
def test_a_commit_of_the_hub_is_pinned(kind):
    assert re.fullmatch("[0-9a-f]{40}", kind.revision)
