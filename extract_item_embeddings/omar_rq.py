"""OMAR-RQ multifeature at 25 Hz: a 24-layer conformer, trained without labels on 330,000 hours.

    python -m extract_item_embeddings.omar_rq --root R --audio DIR
    python -m extract_item_embeddings.omar_rq --root R --audio DIR --layer 6 --precision bf16
    python -m extract_item_embeddings.omar_rq --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/omar_rq.npy, float32 (n_tracks, 1024): the last layer, averaged over the first
30 s. Other choices extend the name: omar_rq_l6, omar_rq_lmean_meanstd. A file under 1 s is repeated
until 1 s.

The weights (CC-BY-NC-SA-4.0) are downloaded once; no package is needed. Their commit is not pinned
here, since its full hash could not be had: the newest is taken, and NAME.json records which;
--revision pins one.

Source: Alonso-Jimenez et al., "OMAR-RQ: open music audio representation model trained with
multi-feature masked token prediction", 2025; https://huggingface.co/mtg-upf/omar-rq-multifeature-25hz
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

import torch
from torch import nn

from core.options import InputError
from extract_item_embeddings.bases.checkpoint_backbone import (
    CheckpointBackbone,
    filled,
    read_checkpoint,
)
from extract_item_embeddings.bases.pretrained import first_line
from extract_item_embeddings.engine import main
from extract_item_embeddings.networks.omar import OmarNetwork, OmarSizes

SETTING = re.compile(r"^(?:\w+\.)*?(\w+\.\w+)[ \t]*=[ \t]*(.*?)[ \t]*(?:#.*)?$", re.M)


class OmarRQ(CheckpointBackbone):
    name = "omar_rq"
    licence = "CC-BY-NC-SA-4.0"
    sample_rate = 24_000  # Hz
    clip_seconds = 30.0  # 750 frames
    embedding_size = 1024
    layers = 24
    batch_size = 4
    packages = ("torch",)
    repository = "mtg-upf/omar-rq-multifeature-25hz"
    revision = "main"
    files = ("config.gin", "model.ckpt")
    weight_files = files[1:]
    extra_keys = ()

    def read_sizes(self) -> tuple[int, int]:
        sizes = self.read_settings()
        return sizes.width, sizes.depth

    def read_settings(self) -> OmarSizes:
        """Return what the settings of the training, beside the weights, say of the network."""
        path = self.folder / self.files[0]
        try:
            found = dict(SETTING.findall(path.read_text(encoding="utf-8")))
            read = {key: literal(value) for key, value in found.items()}
            if not (read["Conformer.use_deepnorm"] and read["Conformer.use_rope"]):
                raise ValueError("its conformer is without DeepNorm or rotary positions")
            if "Waveform" not in found["MaskingModel.input_representation"]:
                raise ValueError("it hears no waves")
            height, patch = read["Waveform.patch_size"]
            spread = read.get("Waveform.norm_std")
            return OmarSizes(
                width=int(read["Conformer.embed_dim"]),
                depth=int(read["Conformer.depth"]),
                heads=int(read["Conformer.num_heads"]),
                inner=float(read["Conformer.mlp_ratio"]),
                residual=float(read["Conformer.mlp_residual_factor"]),
                alpha=float(read["Conformer.alpha_deepnorm"]),
                patch=int(height * patch),
                mean=0.0 if spread is None else float(read["Waveform.norm_mean"]),
                spread=1.0 if spread is None else float(spread),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} does not give a model of {self.repository} ({first_line(error)}); "
                f"{self.advice}"
            ) from error

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        state = read_checkpoint(folder / self.weight_files[0])
        with torch.device("meta"):  # the numbers come from the weights
            network = OmarNetwork(self.read_settings())
        return filled(network, {key: tensor.float() for key, tensor in state.items()})


def literal(text: str):
    """Return a setting's value, or None where it is no plain one: a class, or another's name."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


if __name__ == "__main__":
    main(OmarRQ)
