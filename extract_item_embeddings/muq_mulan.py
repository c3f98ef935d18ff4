"""MuQ-MuLan: MuQ's conformer and a small transformer, trained to place music beside its texts.

    python -m extract_item_embeddings.muq_mulan --root R --audio DIR
    python -m extract_item_embeddings.muq_mulan --root R --audio DIR --precision bf16
    python -m extract_item_embeddings.muq_mulan --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/muq_mulan.npy, float32 (n_tracks, 512): the mean of the unit vectors of each 10 s
of the first 30 s. The last 10 s are filled up with the start of the clip; a file under 10 s is
repeated until 10 s. There is one output, the space shared with texts, so no --layer and no --pool.

The weights (CC-BY-NC-4.0) are downloaded once, the unused text side among them; the code is this
project's, no package is needed.

Measured: 4 clips of 30 s in 55 s on two cores, 3.9 GB (a batch of 4, random weights of the
model's size); no GPU was at hand.

Source: Zhu et al., "MuQ: self-supervised music representation learning with mel residual vector
quantization", 2025, arXiv 2501.01108; https://huggingface.co/OpenMuQ/MuQ-MuLan-large
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.options import InputError
from extract_item_embeddings.bases.pretrained import PretrainedBackbone, first_line
from extract_item_embeddings.bases.torch_backbone import embed_in_torch
from extract_item_embeddings.engine import main
from extract_item_embeddings.networks.conformer import EXTRA_KEYS, RATE, Conformer, fill, read_state

WINDOW = 10 * RATE  # samples the model hears at once
CONFORMER = "audio.model.model."
# of the mel spectrograms of the MSD; the weights' own config leaves them to MuQ's
MEL_MEAN, MEL_STD = 6.768444971712967, 18.417922652295623


class MuQMuLan(PretrainedBackbone):
    name = "muq_mulan"
    licence = "CC-BY-NC-4.0"
    packages = ("torch", "transformers", "librosa")
    sample_rate = RATE
    clip_seconds = 30.0  # three windows
    min_seconds = 10.0  # one
    embedding_size = 512
    batch_size = 4
    repository = "OpenMuQ/MuQ-MuLan-large"
    revision = "2e01c796b71dca71b45251384c04cd7b237c9020"
    files = ("config.json", "pytorch_model.bin")
    weight_files = ("pytorch_model.bin",)
    extra_keys = (
        *(re.escape(CONFORMER) + pattern for pattern in EXTRA_KEYS),
        r"text\..*",
        r"text_.*",
        r"contrast\..*",  # and what else training compares both sides with
        r"multi_layer_contrastive_learning\..*",
        r"audio_layers_indices",
        r"audio\.aggregator\..*",
    )

    def read_sizes(self) -> tuple[int, int]:
        path = self.folder / self.weight_files[0]
        try:
            state = read_state(path, "mulan.")
            return len(state["audio_to_latents.weight"]), 0
        except Exception as error:  # whatever broken files may raise
            raise InputError(
                f"{path} does not hold {self.repository} ({first_line(error)}); {self.advice}"
            ) from error

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        state = read_state(folder / self.weight_files[0], "mulan.")
        model = MuLan(state, layer=content["audio_model"].get("use_layer_idx", -1))
        return model, fill(model, state)

    def load(self, device: str) -> None:
        super().load(device)
        self.model.conformer.fuse()

    @embed_in_torch
    def embed(self, audio: Tensor) -> Tensor:
        """Mono audio (batch, samples) in [-1, 1] -> embeddings (batch, 512)."""
        batch, samples = audio.shape
        short = -samples % WINDOW
        windows = torch.cat([audio, audio[:, :short]], dim=1).reshape(-1, WINDOW)
        mel = self.model.conformer.mel(windows)
        with self.autocast(audio.device.type):
            latents = self.model(mel)
        return F.normalize(latents.float(), dim=-1).unflatten(0, (batch, -1)).mean(dim=1)


class MuLan(nn.Module):
    """Normalised log-mel (batch, 128, time) -> latents (batch, 512), of any length."""

    def __init__(self, state: dict[str, Tensor], layer: int):
        """Take the sizes from published weights; `layer` of the conformer is read, -1 the last."""
        super().__init__()
        conformer = {
            key.removeprefix(CONFORMER): value
            for key, value in state.items()
            if key.startswith(CONFORMER)
        }
        width, inputs = state["audio.proj.weight"].shape
        blocks = {key.split(".")[3] for key in state if key.startswith("audio.transformer.layers.")}
        self.audio = nn.Module()
        self.audio.model = nn.Module()
        self.audio.model.model = Conformer(conformer, MEL_MEAN, MEL_STD)
        self.layer = layer % (len(self.conformer.conformer.layers) + 1)
        with torch.device("meta"):  # the numbers come from the weights
            self.audio.proj = nn.Linear(inputs, width)
            self.audio.transformer = nn.Module()
            self.audio.transformer.layers = nn.ModuleList(
                Block(state, f"audio.transformer.layers.{i}.") for i in range(len(blocks))
            )
            self.audio_to_latents = nn.Linear(width, len(state["audio_to_latents.weight"]))

    @property
    def conformer(self) -> Conformer:
        return self.audio.model.model

    def forward(self, mel: Tensor) -> Tensor:
        frames = next(itertools.islice(self.conformer(mel), self.layer, None))
        frames = self.audio.proj(frames).float()
        for attention, feed_forward in self.audio.transformer.layers:
            frames = frames + attention(frames)
            frames = frames + feed_forward(frames)
        return self.audio_to_latents(frames.mean(dim=1))


class Block(nn.ModuleList):
    """Attention, and a feed-forward network of which one half gates the other."""

    def __init__(self, state: dict[str, Tensor], prefix: str):
        """Take the sizes from the published weights whose names begin with `prefix`."""
        width, inner = state[prefix + "0.to_out.0.weight"].shape
        hidden = state[prefix + "1.4.weight"].shape[1]
        feed_forward = nn.Sequential(
            Norm(width),
            nn.Linear(width, 2 * hidden, bias=False),
            Gate(),
            nn.Identity(),
            nn.Linear(hidden, width, bias=False),
        )
        super().__init__([Attention(width, inner, len(state[prefix + "0.q_scale"])), feed_forward])


class Attention(nn.Module):
    """Attention by the cosine of queries and keys, scaled by 8 and by learned factors."""

    def __init__(self, width: int, inner: int, head: int):
        super().__init__()
        self.head = head
        self.norm = Norm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.q_scale = nn.Parameter(torch.empty(head))
        self.k_scale = nn.Parameter(torch.empty(head))
        self.to_out = nn.Sequential(nn.Linear(inner, width, bias=False))

    def forward(self, frames: Tensor) -> Tensor:
        frames = self.norm(frames)
        projected = self.to_q(frames), *self.to_kv(frames).chunk(2, dim=-1)
        queries, keys, values = (x.unflatten(2, (-1, self.head)).transpose(1, 2) for x in projected)
        queries = F.normalize(queries, dim=-1) * self.q_scale
        keys = F.normalize(keys, dim=-1) * self.k_scale
        mixed = F.scaled_dot_product_attention(
            queries.to(values.dtype), keys.to(values.dtype), values, scale=8.0
        )
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class Norm(nn.Module):
    """Layer norm with a learned scale and no shift."""

    def __init__(self, width: int):
        super().__init__()
        self.learned_gamma = nn.Parameter(torch.empty(width))

    def forward(self, frames: Tensor) -> Tensor:
        return F.layer_norm(frames, frames.shape[-1:], self.learned_gamma)


class Gate(nn.Module):
    def forward(self, frames: Tensor) -> Tensor:
        values, gate = frames.chunk(2, dim=-1)
        return values * F.gelu(gate)


if __name__ == "__main__":
    main(MuQMuLan)
