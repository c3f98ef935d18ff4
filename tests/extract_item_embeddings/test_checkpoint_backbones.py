"""EnCodecMAE and Jukebox: against the original code on tiny weights, and what their files may hold.

originals.npz holds what the original code computes with the weights of tiny_weights from clips of
conformer_audio, every 10th or 20th frame. encodecmae: layers 1, 2 and 3 of clips(2, 115200) in
float64, by github.com/habla-liaa/encodecmae at v.1.0.0 with PyPI's encodec 0.1.1. jukemir: layers
1, 2, 3 and 36 of clips(2, 163840) at peak 1, by github.com/rodrigo-castellon/jukemirlib at 98223a6
and its jukebox at 6b44861, in float32 and in fp16. All with torch 2.13.0.
"""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from core.options import InputError, parse_config
from extract_item_embeddings.bases.checkpoint_backbone import read_checkpoint
from extract_item_embeddings.encodecmae import EncodecMae
from extract_item_embeddings.jukemir import Jukemir
from extract_item_embeddings.networks.jukebox import Attention
from tests.extract_item_embeddings import tiny_weights
from tests.extract_item_embeddings.conformer_audio import clips

ORIGINALS = np.load(Path(__file__).parent / "originals.npz")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("weights")
    return {name: tiny_weights.WRITERS[name](root / name) for name in ("encodecmae", "jukemir")}


@pytest.mark.parametrize("layer, row", [("1", 0), ("2", 1), ("3", 2), ("last", 2)])
def test_encodecmae_is_the_original_one(layer, row, make):
    backbone = make(EncodecMae, "--layer", layer)
    backbone.model.double()
    audio = torch.from_numpy(clips(2, 115_200)).double()  # a chunk of 4 s and one of 0.8 s
    frames = backbone.frames(audio).detach().numpy()
    assert frames.shape == (2, 360, 32)
    np.testing.assert_allclose(frames[:, ::10], ORIGINALS["encodecmae"][row], atol=1e-5)


@pytest.mark.parametrize("layer, row", [("1", 0), ("2", 1), ("3", 2), ("36", 3)])
@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_jukemir_is_the_original_one(layer, row, precision, make):
    backbone = make(Jukemir, "--layer", layer, "--precision", precision)
    audio = backbone.prepare(torch.from_numpy(clips(2, 163_840)))
    frames = backbone.frames(audio).detach().float().numpy()
    assert frames.shape == (2, 1280, 16)
    expected = ORIGINALS["jukemir" if precision == "float32" else "jukemir_fp16"][row]
    relative = 1e-5 if precision == "float32" else 1e-2  # fp16 has 11 bits
    np.testing.assert_allclose(frames[:, ::20], expected, atol=relative * np.abs(expected).max())


def test_the_mean_of_the_layers_is_that_of_each(make):
    audio = torch.from_numpy(clips(1, 24_000))
    each = [make(EncodecMae, "--layer", str(i)).frames(audio) for i in range(4)]
    mean = make(EncodecMae, "--layer", "mean").frames(audio)
    torch.testing.assert_close(mean, torch.stack(each).mean(dim=0))


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_jukebox_attention_is_plain_attention_under_a_mask(kind):
    torch.manual_seed(0)
    attention = Attention(32, heads=2, kind=kind)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 4 * 64, 32)
    place = torch.arange(4 * 64)
    row, column = place // 64, place % 64
    mask = {
        0: (row[:, None] == row) & (column[:, None] >= column),
        1: (column[:, None] == column) & (row[:, None] >= row),
        2: row[:, None] == row + 1,
    }[kind]
    q, k, v = (
        part.unflatten(2, (2, 4)).transpose(1, 2) for part in attention.c_attn(x).chunk(3, dim=2)
    )
    scores = (q @ k.transpose(2, 3) / 2).masked_fill(~mask, -torch.inf).softmax(dim=3)
    mixed = scores.nan_to_num(0) @ v  # what sees nothing gets nothing
    expected = attention.c_proj(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x), expected)


def test_jukemir_says_its_defaults_by_no_name_and_others_by_name(make):
    assert make(Jukemir).name == "jukemir" and make(Jukemir).layer == "36"
    backbone = make(Jukemir, "--layer", "last", "--pool", "max", "--precision", "float32")
    assert backbone.name == "jukemir_llast_max_float32"
    assert len(backbone.model.prior.transformer._attn_mods) == 37
    assert len(make(Jukemir, "--layer", "2").model.prior.transformer._attn_mods) == 2


def test_jukemir_hears_no_loudness_and_encodecmae_does(make):
    audio = clips(2, 48_000)
    vectors = make(Jukemir).embed(audio)
    np.testing.assert_allclose(make(Jukemir).embed(audio / 4), vectors, atol=1e-5)
    encodecmae = make(EncodecMae)
    assert np.abs(encodecmae.embed(audio) - encodecmae.embed(audio / 4)).max() > 1e-3


def test_jukemir_without_weights_says_what_to_fetch_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    backbone = Jukemir.from_config(parse_config(Jukemir.config_class, "", ["--audio", "."]))
    with pytest.raises(InputError, match=r"prior_level_2\.pth\.tar \(10 GB\) into ~/\.cache"):
        backbone.weights()


@pytest.mark.parametrize(
    "kind, file, key",
    [
        (EncodecMae, "model.pt", "visible_encoder.final_norm.bias"),
        (Jukemir, "prior_level_2.pth.tar", "prior.x_emb.weight"),
    ],
)
def test_weights_that_are_missing_or_unknown_are_refused(kind, file, key, make, tmp_path):
    folder = tiny_weights.WRITERS[kind.name](tmp_path / "weights")
    content = read_checkpoint(folder / file)
    state = content["model" if kind is Jukemir else "state_dict"]
    state["prior.later"] = state.pop(key)
    torch.save(content, folder / file)
    key = re.escape(key.removeprefix("visible_encoder."))
    with pytest.raises(InputError, match=f"lacks 1 weights, for example {key}; fetch .*{file}"):
        make(kind, folder=folder)
    state[key] = state["prior.later"]
    tiny_weights.change_config(folder, hidden_size="wide")
    with pytest.raises(InputError, match=r"config\.json does not give a model's sizes"):
        make(kind, folder=folder)


def test_an_unknown_weight_alone_is_refused_and_training_heads_are_not(make, tmp_path):
    folder = tiny_weights.encodecmae(tmp_path / "weights")
    content = read_checkpoint(folder / "model.pt")
    assert any(key.startswith("head.") for key in content["state_dict"])
    content["state_dict"]["adapter.weight"] = torch.zeros(1)
    torch.save(content, folder / "model.pt")
    with pytest.raises(InputError, match=r"also holds 1 weights, for example adapter\.weight"):
        make(EncodecMae, folder=folder)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harm"),)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_checkpoint_runs_no_code_and_gives_its_tensors(new_format, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {
        "callbacks": [Harmful(), tiny_weights.Callback()],
        "state_dict": {"x": torch.ones(2)},
    }
    torch.save(content, "model.pt", _use_new_zipfile_serialization=new_format)
    assert read_checkpoint(Path("model.pt"))["state_dict"]["x"].tolist() == [1, 1]
    assert not Path("harm").exists()
    with pytest.raises(pickle.UnpicklingError):  # it is what the first try refuses
        torch.load("model.pt", weights_only=True)
