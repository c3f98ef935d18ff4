"""MERT is HuBERT: its published weights need none of the Python that comes with them."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from core.options import InputError, parse_config
from extract_item_embeddings.mert import Mert
from extract_item_embeddings.mert_95m import Mert95M
from tests.extract_item_embeddings import tiny_mert

HERE = Path(__file__).resolve().parents[2]
KINDS = pytest.mark.parametrize("kind", [Mert, Mert95M], ids=lambda kind: kind.name)


@pytest.fixture
def load(tmp_path):
    """Return a function kind -> that backbone, loaded with the weights in tmp_path / its name."""

    def build(kind):
        folder = tmp_path / kind.name
        if not folder.exists():
            tiny_mert.write(folder, kind.name)
        flags = ["--audio", ".", "--weights", str(folder)]
        backbone = kind.from_config(parse_config(kind.config_class, "", flags))
        backbone.load("cpu")
        return backbone

    return build


@KINDS
def test_every_layer_is_what_the_original_code_made_of_the_same_weights(kind, load):
    golden = np.load(Path(__file__).with_name("mert.npz"))
    backbone = load(kind)
    frames, means = golden[f"{kind.name}_frames"], golden[f"{kind.name}_means"]
    with torch.inference_mode():
        layers = backbone.model(tiny_mert.audio(6_000), output_hidden_states=True).hidden_states
    np.testing.assert_allclose(torch.cat(layers), frames, atol=1e-5 * np.abs(frames).max())
    vector = backbone.embed(tiny_mert.audio(24_000).numpy())[0]
    np.testing.assert_allclose(vector, means[-1], atol=1e-5 * np.abs(means).max())


@KINDS
def test_python_beside_the_weights_is_not_run(kind, load, tmp_path):
    folder = tiny_mert.write(tmp_path / kind.name, kind.name)
    (folder / "modeling_MERT.py").write_text("raise SystemExit('run')")
    load(kind)
    words = "trust_remote" + "_code"
    found = subprocess.run(["git", "grep", "-l", words], cwd=HERE, capture_output=True, text=True)
    assert found.stdout == ""


def test_weights_of_another_network_are_refused(load, tmp_path):
    folder = tiny_mert.write(tmp_path / "mert", "mert")
    state = torch.load(folder / "pytorch_model.bin")
    torch.save({**state, "masked_spec_embed": torch.zeros(32)}, folder / "pytorch_model.bin")
    load(Mert)  # in training the mark of what is hidden: it needs no use
    torch.save({**state, "encoder.gate": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="it also holds 1 weights, for example encoder.gate"):
        load(Mert)
    lacking = {name: tensor for name, tensor in state.items() if "layers.2.final" not in name}
    torch.save(lacking, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="it lacks 2 weights, for example encoder.layers.2.final"):
        load(Mert)
    torch.save(state, folder / "pytorch_model.bin")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "deepnorm": True}))
    with pytest.raises(InputError, match="asks for deepnorm, which the published models do not"):
        load(Mert)
