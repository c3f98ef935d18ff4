"""Small networks of the newer representations: weights drawn by name, and what they hear.

newer.npz holds what the original code made of the same weights and waves: for each kind and number
of samples all layers' means over time, (layers, width), and every 5th frame of the last layer of
the shortest, (frames, width). dasheng: PyPI dasheng 0.0.9. matpac: github.com/aurianworld/matpac,
inference "precise", with timm 1.0.31. omar_rq: PyPI omar-rq 0.2.1. mert_v2: the modules published
with the weights, from a public copy, with torch's attention. Mel spectrograms: torchaudio 2.11.0.
"""

import json
import zlib

import librosa
import numpy as np
import safetensors.torch
import torch

from extract_item_embeddings.dasheng import DashengNetwork
from extract_item_embeddings.matpac import MatpacNetwork
from extract_item_embeddings.networks.mert2 import Mert2Network
from extract_item_embeddings.networks.omar import OmarNetwork, OmarSizes

VIT = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
OMAR = OmarSizes(32, 3, 2, inner=2.0, residual=4.0, alpha=1.7, patch=960, mean=0.0, spread=1.0)
MERT2 = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_mel_bins": 16,
    "subsampling_channels": [16, 20, 24],
    "subsampling_depths": [1, 2, 1],
    "conv_depthwise_kernel_size": 5,
    "n_fft": 2048,
    "win_length": 2048,
    "hop_length": 240,
    "rotary_embedding_base": 10_000,
    "layer_norm_eps": 1e-5,
}
SAMPLES = {  # one piece or less, several, and 30 s
    "dasheng": (16_000, 172_807, 480_000),
    "matpac": (16_000, 99_999, 480_000),
    "omar_rq": (24_000, 100_007, 720_000),
    "mert_v2": (24_000, 100_007, 720_000),
}
GIN = """# as the training wrote it
new_freq = 24000
nets.waveform.Waveform.sr = %new_freq
nets.waveform.Waveform.norm_std = None
nets.waveform.Waveform.norm_mean = None
nets.waveform.Waveform.patch_size = (1, 960) # 40ms
modules.maskingmodel.MaskingModel.input_representation = @nets.waveform.Waveform
nets.conformer.Conformer.embed_dim = 32
nets.conformer.Conformer.depth = 3
nets.conformer.Conformer.conv_kernel_size = 5
nets.conformer.Conformer.num_heads = 2
nets.conformer.Conformer.mlp_ratio = 2.0
nets.conformer.Conformer.mlp_residual_factor = 4.0
nets.conformer.Conformer.use_deepnorm = True
nets.conformer.Conformer.alpha_deepnorm =  1.7 # we can tune this number
nets.conformer.Conformer.use_rope = True
"""


def audio(samples: int) -> torch.Tensor:
    """Return (1, samples): noise that grows, around a small offset."""
    rng = np.random.default_rng(samples)
    wave = 0.01 + np.linspace(0.02, 0.3, samples) * rng.normal(size=samples)
    return torch.from_numpy(wave.astype(np.float32))[None]


def state(kind: str) -> dict[str, torch.Tensor]:
    """Return random weights under the published names."""
    network = {
        "dasheng": lambda: DashengNetwork(VIT),
        "matpac": lambda: MatpacNetwork(VIT),
        "omar_rq": lambda: OmarNetwork(OMAR),
        "mert_v2": lambda: Mert2Network(MERT2),
    }[kind]()
    published = {
        "layers." + key.removeprefix("conformer.") if key.startswith("conformer.") else key: tensor
        for key, tensor in network.state_dict().items()
    }
    return {key: numbers(key, tuple(tensor.shape)) for key, tensor in published.items()}


def numbers(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    values = rng.standard_normal(shape, dtype=np.float32)
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    if key.endswith("freqs"):
        values = 10_000.0 ** -(np.arange(shape[0], dtype=np.float32) / shape[0])
    elif key.endswith("mel_scale.fb"):
        values = librosa.filters.mel(sr=24_000, n_fft=2048, n_mels=16, htk=True, norm=None).T
    elif key.endswith("spectrogram.window"):
        return torch.hann_window(2048)
    elif key.endswith(("running_var", "mel_std")):
        values = (20 if "mel" in key else 200) + np.abs(values)
    elif key.endswith(("running_mean", "mel_mean")):
        values = values - 10
    elif "norm" in key and key.endswith("weight"):
        values = 1 + 0.2 * values
    elif len(shape) > 1 and "embed." not in key and min(shape) > 1 and "pos_embed" not in key:
        values = (
            (2 if "blocks" in key else 4) * values / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
        )
    else:
        values = 0.3 * values
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def write(kind: str):
    """Return a function that writes the files of a kind, as published, into a folder."""

    def writer(folder, seed=0):
        folder.mkdir(parents=True)
        base = kind.removesuffix("_full")
        weights = state(base)
        if base == "dasheng":
            weights = {"encoder." + key: tensor for key, tensor in weights.items()}
            weights["encoder.front_end.0.mel_scale.fb"] = torch.zeros(257, 64)
        if base in ("dasheng", "mert_v2"):
            safetensors.torch.save_file(weights, folder / "model.safetensors")
            sizes = VIT if base == "dasheng" else MERT2
            (folder / "config.json").write_text(json.dumps({"model_type": base, **sizes}))
        elif base == "matpac":
            torch.save(weights, folder / "matpac_plus_music_6s_2048_enconly.pt")
            (folder / "config.json").write_text(json.dumps(VIT))
        else:
            torch.save(weights, folder / "model.ckpt")
            (folder / "config.gin").write_text(GIN)
        return folder

    return writer


WRITERS = {kind: write(kind) for kind in (*SAMPLES, "mert_v2_full")}
