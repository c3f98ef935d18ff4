"""What MERT's two sizes share: 24 kHz, and HuBERT's network, which is theirs.

The published weights come with Python of their own. None of it is run: of what it changes in
HuBERT, an added spectrogram and DeepNorm, the published models use neither, and the names of the
weights are HuBERT's. With the same random weights the original code and this give the same frames.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import torch
import transformers
from torch import nn

from core.options import InputError
from extract_item_embeddings.bases.transformer_backbone import TransformerBackbone

# What the original code reads from config.json and HuBERT's network cannot do.
BEYOND_HUBERT = ("deepnorm",)


class MertBackbone(TransformerBackbone):
    """Audio goes in as it is: the models were trained without normalising waveforms.

    The published preprocessor_config.json asks for normalised waves (do_normalize), against the
    settings of the training (`normalize: false`); the study did not normalise them either.
    """

    licence = "CC-BY-NC-4.0"
    sample_rate = 24_000  # Hz
    clip_seconds = 30.0  # 2,249 frames
    # the mark of hidden frames in training; the kernels of a spectrogram that is not added
    extra_keys = ("masked_spec_embed", r"feature_extractor_cqt\..*")

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        path = folder / "config.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        if beyond := [name for name in BEYOND_HUBERT if content.get(name)]:
            raise InputError(f"{path} asks for {beyond[0]}, which the published models do not have")
        known = inspect.signature(transformers.HubertConfig).parameters
        config = transformers.HubertConfig(**{k: v for k, v in content.items() if k in known})
        return transformers.HubertModel.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
