"""What MERT-v2's two trainings share: 24 kHz, the network, the weights' file."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from extract_item_embeddings.bases.checkpoint_backbone import filled
from extract_item_embeddings.bases.transformer_backbone import TransformerBackbone, pick
from extract_item_embeddings.networks.mert2 import RATE, Mert2Network

SIZES = {  # what config.json may leave out
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_mel_bins": 128,
    "n_fft": 2048,
    "win_length": 2048,
    "hop_length": 240,
    "subsampling_channels": [128, 512, 1024],
    "subsampling_depths": [3, 4, 5],
    "conv_depthwise_kernel_size": 31,
    "rotary_embedding_base": 10_000,
    "layer_norm_eps": 1e-5,
}


class Mert2Backbone(TransformerBackbone):
    """Audio goes in as it is. Layer 0 is the conformer's input, which the published code keeps."""

    licence = "CC-BY-NC-4.0"
    sample_rate = RATE
    embedding_size = 1024
    layers = 24
    packages = ("torch",)
    files = ("config.json", "model.safetensors")
    weight_files = files[1:]
    extra_keys = ()

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        sizes = {name: config.get(name) or usual for name, usual in SIZES.items()}
        state = safetensors.torch.load_file(folder / self.weight_files[0])
        # The network's own `layers` is what gives them one after another.
        state = {
            ("conformer." + key.removeprefix("layers.") if key.startswith("layers.") else key): t
            for key, t in state.items()
        }
        with torch.device("meta"):  # the numbers come from the weights
            network = Mert2Network(sizes)
        return filled(network, {key: tensor.float() for key, tensor in state.items()})

    def prepare(self, audio: Tensor) -> Tensor:
        return self.model.feature_extractor(audio)  # in float32, whatever --precision says

    def frames(self, mel: Tensor) -> Tensor:
        return pick(self.model.layers(mel), self.layer)
