"""The newer representations against their authors' code, on the weights and waves of tiny_newer."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from core.options import InputError, parse_config
from extract_item_embeddings.dasheng import Dasheng
from extract_item_embeddings.matpac import Matpac
from extract_item_embeddings.mert_v2 import MertV2
from extract_item_embeddings.mert_v2_full import MertV2Full
from extract_item_embeddings.omar_rq import OmarRQ
from tests.extract_item_embeddings import tiny_newer, tiny_weights

GOLDEN = np.load(Path(__file__).with_name("newer.npz"))
KINDS = {kind.name: kind for kind in (Dasheng, Matpac, OmarRQ, MertV2)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("weights")
    return {name: tiny_newer.WRITERS[name](root / name) for name in KINDS}


CASES = [(name, samples) for name, all_ in tiny_newer.SAMPLES.items() for samples in all_]


@pytest.mark.parametrize(("name", "samples"), CASES)
def test_every_layer_is_what_the_original_code_made(name, samples, make):
    backbone, expected = make(KINDS[name]), GOLDEN[f"{name}_{samples}"]
    wave = tiny_newer.audio(samples)
    with torch.inference_mode():
        layers = list(backbone.model.layers(backbone.prepare(wave)))
    means = torch.stack([layer[0].mean(dim=0) for layer in layers])[-len(expected) :].numpy()
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(means, expected, rtol=0, atol=tolerance)
    vector = backbone.embed(wave.numpy())[0]
    np.testing.assert_allclose(vector, expected[-1], rtol=0, atol=tolerance)
    if samples == tiny_newer.SAMPLES[name][0]:
        frames = GOLDEN[f"{name}_frames"]
        largest = np.abs(frames).max()
        np.testing.assert_allclose(layers[-1][0, ::5].numpy(), frames, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_layers_and_their_mean_are_chosen_by_number(kind, make):
    wave = tiny_newer.audio(tiny_newer.SAMPLES[kind.name][1])
    each = [make(kind, "--layer", str(number)).embed(wave.numpy()) for number in range(4)]
    np.testing.assert_allclose(
        make(kind, "--layer", "mean").embed(wave.numpy()), np.mean(each, axis=0), atol=1e-5
    )
    with pytest.raises(InputError, match="--layer must be 0 to 3"):
        make(kind, "--layer", "4")


@pytest.mark.parametrize("kind", [*KINDS.values(), MertV2Full], ids=lambda kind: kind.name)
def test_commits_are_pinned_or_the_file_says_that_they_are_not(kind):
    doc = " ".join(sys.modules[kind.__module__].__doc__.split())
    pinned = len(kind.revision) == 40 and int(kind.revision, 16)
    assert pinned or "commit is not pinned here" in doc or kind is Matpac


def test_weights_that_lack_a_number_or_hold_another_are_refused(make, tmp_path):
    folder = tiny_newer.WRITERS["mert_v2"](tmp_path / "mert_v2")
    path = folder / "model.safetensors"
    state = safetensors.torch.load_file(path)
    state["head.weight"] = state.pop("layers.1.attn.key_proj.bias")
    safetensors.torch.save_file(state, path)
    with pytest.raises(InputError, match=r"lacks 1 weights, for example conformer\.1\.attn\.key_p"):
        make(MertV2, folder=folder)
    state["layers.1.attn.key_proj.bias"] = state["head.weight"].clone()
    safetensors.torch.save_file(state, path)
    with pytest.raises(InputError, match=r"also holds 1 weights, for example head\.weight"):
        make(MertV2, folder=folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("use_rope = True", "use_rope = False", "without DeepNorm or rotary positions"),
        ("@nets.waveform.Waveform", "@nets.cqt.CQT", "it hears no waves"),
        ("nets.conformer.Conformer.depth", "nets.other.depth", "Conformer.depth"),
        ("(1, 960)", "960", "does not give a model"),
    ],
)
def test_settings_of_another_network_are_refused(old, new, message, make, tmp_path):
    folder = tiny_newer.WRITERS["omar_rq"](tmp_path / "omar_rq")
    text = (folder / "config.gin").read_text()
    assert old in text
    (folder / "config.gin").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=rf"config\.gin .*{message}.*; fetch config\.gin, model"):
        make(OmarRQ, folder=folder)


def test_a_spread_of_the_waves_in_the_settings_is_used(make, tmp_path):
    folder = tiny_newer.WRITERS["omar_rq"](tmp_path / "omar_rq")
    text = (folder / "config.gin").read_text()
    text = text.replace("norm_std = None", "norm_std = 0.5").replace("mean = None", "mean = 0.25")
    (folder / "config.gin").write_text(text)
    wave = tiny_newer.audio(24_000).numpy()
    np.testing.assert_allclose(
        make(OmarRQ, folder=folder).embed(wave), make(OmarRQ).embed(2 * (wave - 0.25)), atol=1e-5
    )


def test_matpac_without_weights_says_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    backbone = Matpac.from_config(parse_config(Matpac.config_class, "", ["--audio", "."]))
    with pytest.raises(InputError, match=r"matpac_plus_music_6s_2048_enconly\.pt into ~/\.cache"):
        backbone.weights()


def test_sizes_beside_the_weights_are_the_published_ones_unless_told(make, tmp_path):
    folder = tiny_newer.WRITERS["dasheng"](tmp_path / "dasheng")
    (folder / "config.json").write_text(json.dumps({"model_type": "dasheng"}))
    with pytest.raises(InputError, match="cannot be loaded as mispeech/dasheng-base"):
        make(Dasheng, folder=folder)
    tiny_weights.change_config(folder, hidden_size=24, num_hidden_layers=3, num_attention_heads=2)
    assert make(Dasheng, folder=folder).embedding_size == 24
