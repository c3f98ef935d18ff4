"""What MERT's two sizes share: 24 kHz, and model code that comes with the weights."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from torch import nn

from extract_item_embeddings.bases.transformer_backbone import TransformerBackbone


class MertBackbone(TransformerBackbone):
    """Audio goes in as it is: the models were trained without normalising waveforms."""

    licence = "CC-BY-NC-4.0"
    sample_rate = 24_000  # Hz
    clip_seconds = 30.0  # 2,249 frames

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        where = {"trust_remote_code": True, "local_files_only": True}
        config = transformers.AutoConfig.from_pretrained(folder, **where)
        config.feature_extractor_cqt = False  # its spectrogram fails at 24 kHz
        # asked for by newer transformers than the model was written for; it has no batch norm
        config.conv_pos_batch_norm = False
        return transformers.AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True, **where
        )
