"""Jukebox as jukemirlib reads it: layer 36 of 72 of a language model of music, 5 G parameters.

    python -m extract_item_embeddings.jukemir --root R --audio DIR --weights FOLDER
    python -m extract_item_embeddings.jukemir --root R --audio DIR --weights FOLDER --layer 24

Writes embeddings/jukemir.npy, float32 (n_tracks, 4800): layer 36, averaged over the first 23.8 s.
Other choices extend the name: jukemir_l24_max. The loudest sample of a clip's first 24 s is brought
to 1 first. A file under 1.1 s is repeated until 1.1 s.

The weights (non-commercial use) are two files, of 8 MB and 10 GB, that no hub holds as published:

    mkdir -p ~/.cache/jukemirlib && cd ~/.cache/jukemirlib        # or any folder, with --weights
    curl -C - -O https://openaipublic.azureedge.net/jukebox/models/5b/vqvae.pth.tar
    curl -C - -O https://openaipublic.azureedge.net/jukebox/models/5b/prior_level_2.pth.tar

Layers above the one asked for are not kept: of the 10 GB, layer 36 needs 5 on the GPU. The
arithmetic is fp16, as published; --precision float32 also changes the name.

Not measured at its real size: neither the weights nor a GPU were at hand.

Source: see jukebox.py, which agrees with jukemirlib's arithmetic on random weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import core.start  # noqa: F401  before what is heavy

import torch
from torch import Tensor, nn

from core.options import option
from extract_item_embeddings.bases.checkpoint_backbone import (
    SIZES,
    CheckpointBackbone,
    filled,
    read_checkpoint,
)
from extract_item_embeddings.bases.transformer_backbone import TransformerConfig
from extract_item_embeddings.engine import main
from extract_item_embeddings.networks.jukebox import BLOCK, RATE, TOKEN, Jukebox

CACHE = Path("~/.cache/jukemirlib")
ADDRESS = "https://openaipublic.azureedge.net/jukebox/models/5b"


@dataclass(frozen=True, kw_only=True)
class JukemirConfig(TransformerConfig):
    weights: Path | None = option(
        None, f"folder of the weights' files; auto: {CACHE}", outcome=False
    )
    layer: str = option("36", "a number, 0 the input of the first layer; last; mean of all")
    precision: Literal["fp16", "float32"] = option("fp16", "float32: slower, twice the memory")


class Jukemir(CheckpointBackbone):
    name = "jukemir"
    licence = "OpenAI's, non-commercial"
    sample_rate = RATE
    clip_seconds = 24.0  # what the study loads: its loudest sample counts, 23.8 s are heard
    min_seconds = 6 * BLOCK * TOKEN / RATE
    step_seconds = BLOCK * TOKEN / RATE  # 0.19 s
    embedding_size = 4800
    layers = 72
    batch_size = 4
    config_class = JukemirConfig
    packages = ("torch",)
    layer = "36"
    precision = "fp16"
    repository = ADDRESS
    revision = "5b"
    weight_files = ("vqvae.pth.tar", "prior_level_2.pth.tar")
    files = (SIZES, *weight_files)
    # the finer levels, the way back to audio, and the guess of the next token
    extra_keys = (
        r"(encoders|bottleneck\.level_blocks)\.[01]\..*",
        r"decoders\..*",
        r"prior\.x_out\.weight",
    )
    sizes = {
        "hidden_size": 4800,
        "num_hidden_layers": 72,
        "num_attention_heads": 8,
        "vocab_size": 2048,
        "vqvae_width": 32,
        "vqvae_codes": 64,
        "artists": 4111,
        "genres": 120,
        "times": 128,
    }

    def download(self) -> Path:
        self.local = True  # recorded by the files' hashes: there is no revision
        return CACHE.expanduser()

    @property
    def advice(self) -> str:
        urls = " and ".join(f"{ADDRESS}/{name}" for name in self.weight_files)
        return f"fetch {urls} (10 GB) into {CACHE} or into a folder named with --weights"

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        depth = self.layers if self.layer in ("last", "mean") else int(self.layer)
        dtype = torch.float16 if self.precision == "fp16" else torch.float32
        state = {}
        for name in self.weight_files:
            state |= read_checkpoint(folder / name)["model"]
        above = tuple(f"prior.transformer._attn_mods.{i}." for i in range(depth, self.layers))
        state = {key: tensor for key, tensor in state.items() if not key.startswith(above)}
        with torch.device("meta"):  # all that is in it comes from the files
            network = Jukebox(self.read_config(), depth, dtype)
        return filled(network, state)

    def prepare(self, audio: Tensor) -> Tensor:
        """Each clip with its loudest sample at 1 or -1; silence stays 0."""
        peak = audio.abs().amax(dim=1, keepdim=True)
        return audio / torch.where(peak > 0, peak, 1)


if __name__ == "__main__":
    main(Jukemir)
