"""MULE on torch against its authors' package on TensorFlow, from a file that TensorFlow saved.

mule.keras is what PyPI's sxmp-mule 1.1.2 builds (501 layers, as published) with a sixteenth of the
channels and random numbers, saved by TensorFlow 2.13.1 (its parts packed anew, deflated).
mule.npz holds what the package makes of `audio`: of 48,000, 84,800 and 480,000 samples the vectors
of the slices, (slices, 108), and of 84,800 every 16th mel of the slices, (2, 6, 300).
"""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from core.options import InputError, parse_config
from extract_item_embeddings.mule import FILE, Mule
from extract_item_embeddings.networks.keras_file import read_layers
from extract_item_embeddings.networks.mule import MuleNetwork

SAVED = Path(__file__).with_name("mule.keras")
GOLDEN = np.load(SAVED.with_suffix(".npz"))


@pytest.fixture
def folder(tmp_path):
    shutil.copy(SAVED, tmp_path / FILE)
    return tmp_path


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mule")
    shutil.copy(SAVED, folder / FILE)
    backbone = mule(folder)
    backbone.load("cpu")
    return backbone


def mule(folder):
    flags = ["--audio", ".", "--weights", str(folder)]
    return Mule.from_config(parse_config(Mule.config_class, "", flags))


def audio(samples):
    rng, time = np.random.default_rng(samples), np.arange(samples) / 16_000
    wave = 0.3 * np.sin(2 * np.pi * (220 + 40 * time) * time)
    wave += 0.1 * np.sin(2 * np.pi * 3000 * time) * (time % 1 < 0.3)
    return (wave + 0.02 * rng.normal(size=samples)).astype(np.float32)


def change(path, function):
    """Change the list of layers in a file."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    graph = json.loads(parts["config.json"])
    function(graph["config"]["layers"])
    parts["config.json"] = json.dumps(graph).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("samples", [48_000, 84_800, 480_000])
def test_vectors_are_those_of_the_package(samples, backbone):
    assert backbone.embedding_size == 108
    slices = backbone.slices(torch.from_numpy(audio(samples))[None])[0]
    with torch.inference_mode():
        vectors = backbone.model(slices).numpy()
    expected = GOLDEN[f"e{samples}"]
    assert len(expected) == {48_000: 1, 84_800: 2, 480_000: 15}[samples]
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=tolerance)
    ours = backbone.embed(audio(samples)[None])[0]
    np.testing.assert_allclose(ours, expected.mean(axis=0), rtol=0, atol=tolerance)


def test_slices_are_those_of_the_package(backbone):
    slices = backbone.slices(torch.from_numpy(audio(84_800))[None])[0, :, ::16]
    np.testing.assert_allclose(slices, GOLDEN["slices"], rtol=0, atol=5e-5)


def test_every_number_of_the_file_has_its_place():
    layers = read_layers(SAVED)
    arrays = [array for layer in layers for array in layer.arrays.values()]
    assert len(layers) == 501 and len(arrays) == 480
    assert sum(array.size for array in arrays) == 251_237
    standardised = [layer for layer in layers if layer.kind == "WeightStandardization"]
    gains = sum(layer.arrays["vars/1"].size for layer in standardised)  # multiplied in
    network = MuleNetwork(layers)
    buffers = [buffer for name, buffer in network.named_buffers() if name.endswith("gain")]
    learnt = sum(layer.kind == "ScalarMultiply" and layer.options["learnable"] for layer in layers)
    assert len(standardised) == 120 and learnt == 24 and len(buffers) == 72
    kept = sum(parameter.numel() for parameter in network.parameters())
    assert kept + gains + learnt == 251_237


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda layers: layers[1].update(class_name="LSTM"), "it is not a model of Keras"),
        (lambda layers: layers.pop(3), "holds layers that config.json does not list"),
        (lambda layers: layers[5]["config"].update(activation="relu"), "no layer such as activat"),
        (
            lambda layers: layers[1]["config"]["layer"]["config"].update(padding="valid"),
            "no layer such as weight_standardization_4",
        ),
    ],
)
def test_another_network_is_refused(function, message, folder):
    change(folder / FILE, function)
    backbone = mule(folder)
    with pytest.raises(
        InputError, match=rf"model\.keras cannot be loaded \(.*{message}.*\); fetch"
    ):
        backbone.load("cpu")


def test_a_damaged_file_is_refused_before_anything_is_computed(folder):
    for content, message in (
        (b"", "it is not a model of Keras"),
        (SAVED.read_bytes()[:1000], "it is not a model of Keras"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    ):
        (folder / FILE).write_bytes(content)
        with pytest.raises(InputError, match=message):
            mule(folder)
    (folder / FILE).unlink()
    with pytest.raises(InputError, match=r"model\.keras is missing; fetch https://media"):
        mule(folder)
    with pytest.raises(InputError, match=r"mule needs its weights; fetch https://media"):
        Mule.from_config(parse_config(Mule.config_class, "", ["--audio", "."])).weights()
