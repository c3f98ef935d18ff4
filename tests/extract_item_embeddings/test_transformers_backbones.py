"""Backbones on transformers' own classes: equal to a plain call of class and feature extractor."""

import sys

import librosa
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from core.options import InputError
from extract_item_embeddings.ast import Ast
from extract_item_embeddings.clap import Clap
from extract_item_embeddings.dac import Dac
from extract_item_embeddings.encodec import Encodec
from extract_item_embeddings.maest import Maest
from extract_item_embeddings.mert_95m import Mert95M
from extract_item_embeddings.mimi import Mimi
from extract_item_embeddings.whisper import Whisper
from tests.extract_item_embeddings import tiny_weights

KINDS = {kind.name: kind for kind in (Ast, Maest, Whisper, Clap, Encodec, Dac, Mimi, Mert95M)}
LAYERED = [Ast, Maest, Whisper]
CODECS = [Encodec, Dac, Mimi]


@pytest.fixture(scope="module", autouse=True)
def hub(tmp_path_factory):
    with tiny_weights.apart(tmp_path_factory.mktemp("hub")):
        yield


@pytest.fixture(scope="module")
def folders(hub, tmp_path_factory):
    root = tmp_path_factory.mktemp("weights")
    return {name: tiny_weights.WRITERS[name](root / name) for name in KINDS}


def noise(kind, seconds, n=2):
    rng = np.random.default_rng(0)
    audio = 0.05 + 0.2 * rng.normal(size=(n, round(seconds * kind.sample_rate)))
    audio[:, : audio.shape[1] // 2] *= 0.01
    return audio.astype(np.float32)


def close(ours, expected, tolerance=1e-5):
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def cut(clip, samples):
    """Windows of a clip; the last one goes on with its start."""
    whole = -(-len(clip) // samples) * samples
    return np.resize(clip, whole).reshape(-1, samples)


def plain_ast(folder, audio):
    extractor = transformers.ASTFeatureExtractor()
    model = transformers.ASTModel.from_pretrained(folder)
    inputs = [extractor(list(cut(clip, 160_000)), sampling_rate=16_000) for clip in audio]
    return model, [torch.tensor(np.stack(i["input_values"])) for i in inputs]


def plain_maest(folder, audio):
    """The spectrogram as the authors' feature extractor computes it, by librosa."""
    model = transformers.ASTModel.from_pretrained(folder)
    mels = [
        librosa.feature.melspectrogram(
            y=clip, sr=16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode="constant"
        )
        for clip in audio
    ]
    values = [(np.log10(1 + 10_000 * mel.T) - 2.06755686) / (1.268292820667291 * 2) for mel in mels]
    return model, [torch.tensor(value[None], dtype=torch.float32) for value in values]


def plain_whisper(folder, audio):
    extractor = transformers.WhisperFeatureExtractor(feature_size=128)
    model = transformers.WhisperModel.from_pretrained(folder, dtype=torch.float32).encoder
    return model, [
        torch.tensor(extractor(clip, sampling_rate=16_000).input_features) for clip in audio
    ]


@pytest.mark.parametrize("layer", ["default", "0", "1", "last", "mean"])
@pytest.mark.parametrize("kind", LAYERED)
def test_each_layer_is_that_of_a_plain_call(kind, layer, make, folders):
    backbone = make(kind, *([] if layer == "default" else ["--layer", layer]))
    audio = noise(kind, 30.0)
    plain = {Ast: plain_ast, Maest: plain_maest, Whisper: plain_whisper}[kind]
    model, inputs = plain(folders[kind.name], audio)
    expected = []
    for values in inputs:
        with torch.no_grad():
            layers = model.eval()(values, output_hidden_states=True).hidden_states
        layers = torch.stack(layers)
        chosen = layers[-1] if backbone.layer == "last" else None
        if chosen is None:
            chosen = layers.mean(dim=0) if layer == "mean" else layers[int(backbone.layer)]
        expected.append(chosen[:, 0 if kind is Whisper else 2 :].mean(dim=(0, 1)).numpy())
    assert backbone.layer == {"default": kind.layer}.get(layer, layer)
    close(backbone.embed(audio), np.stack(expected))


@pytest.mark.parametrize("seconds", [10.0, 13.3, 30.0])
def test_windows_of_ast_are_those_of_the_feature_extractor(seconds, make, folders):
    audio = noise(Ast, seconds)
    model, inputs = plain_ast(folders["ast"], audio)
    with torch.no_grad():
        states = [model.eval()(values).last_hidden_state for values in inputs]
    expected = np.stack([state[:, 2:].mean(dim=(0, 1)).numpy() for state in states])
    close(make(Ast).embed(audio), expected)


@pytest.mark.parametrize("seconds", [10.0, 17.0, 30.0])
def test_clap_is_the_mean_of_the_unit_vectors_of_plain_calls(seconds, make, folders):
    audio = noise(Clap, seconds)
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folders["clap"])
    model = transformers.ClapModel.from_pretrained(folders["clap"]).eval()
    expected = []
    for clip in audio:
        values = extractor(list(cut(clip, 480_000)), sampling_rate=48_000, return_tensors="pt")
        with torch.no_grad():
            expected.append(model.get_audio_features(**values).mean(dim=0).numpy())
    close(make(Clap).embed(audio), np.stack(expected))


def test_clap_that_fuses_crops_is_refused(folders, make, tmp_path):
    folder = tiny_weights.WRITERS["clap"](tmp_path / "clap")
    tiny_weights.change_config(folder, audio_config={"enable_fusion": True})
    with pytest.raises(InputError, match="it fuses several crops of a spectrogram"):
        make(Clap, folder=folder)


@pytest.mark.parametrize(
    ("seconds", "pool"), [(1.0, "mean"), (1.37, "mean+std"), (1.37, "max"), (10.0, "mean")]
)
@pytest.mark.parametrize("kind", CODECS)
def test_codecs_give_what_their_quantiser_is_given(kind, seconds, pool, make, folders):
    audio, heard = noise(kind, seconds), []
    model = kind.model_class.from_pretrained(folders[kind.name]).eval()
    quantiser = model.quantizer
    layer = "forward" if kind is Dac else "encode"
    original = getattr(quantiser, layer)

    def listen(latents, *others):
        heard.append(latents)
        return original(latents, *others)

    setattr(quantiser, layer, listen)
    with torch.no_grad():
        for clip in audio:
            model.encode(torch.tensor(clip)[None, None])
    assert len(heard) == len(audio)
    latents = torch.cat(heard)
    expected = {"mean": latents.mean(dim=2), "max": latents.amax(dim=2)}
    expected["mean+std"] = torch.cat([expected["mean"], latents.std(dim=2, correction=0)], dim=1)
    backbone = make(kind, "--pool", pool)
    ours = backbone.embed(audio)
    assert backbone.name == kind.name + {"mean": "", "max": "_max", "mean+std": "_meanstd"}[pool]
    assert ours.shape[1] == backbone.embedding_size
    close(ours, expected[pool].numpy())


def test_a_whisper_that_lacks_a_weight_is_refused(make, folders, tmp_path):
    folder = tiny_weights.WRITERS["whisper"](tmp_path / "w")
    path = folder / "model.safetensors"
    state = safetensors.torch.load_file(path)
    del state["model.encoder.layers.1.fc1.weight"]
    safetensors.torch.save_file(state, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 weights, for example layers\.1\.fc1\.weight"):
        make(Whisper, folder=folder)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_weights_are_pinned_or_the_file_says_that_they_are_not(kind):
    doc = sys.modules[kind.__module__].__doc__
    pinned = len(kind.revision) == 40 and int(kind.revision, 16)
    assert pinned or "commit is not pinned here" in " ".join(doc.split())
