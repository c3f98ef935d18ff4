"""music2vec-v1: a 12-layer encoder of 95 M parameters, trained without labels on 1,000 hours.

    python -m extract_item_embeddings.music2vec --root R --audio DIR
    python -m extract_item_embeddings.music2vec --root R --audio DIR --layer 6 --pool mean+std
    python -m extract_item_embeddings.music2vec --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/music2vec.npy, float32 (n_tracks, 768): the last layer, averaged over the first
30 s. Other choices extend the name: music2vec_l6_meanstd. A file under 1 s is repeated until 1 s.
`--as-published` plays audio of 24 kHz to the model, which takes it for 16 kHz and hears everything
1.5 times slower, as the study did; waves are not normalised then, and files under 30 s are filled
up with silence. It writes embeddings/music2vec_published.npy.

The weights (CC-BY-NC-4.0) are downloaded once, of the commit below; later ones changed the card.

Measured: 8 clips of 30 s in 110 s on two busy cores, 6.1 GB (batches of 8, random weights of the
model's size); no GPU was at hand.

Source: Li et al., "MAP-Music2Vec: a simple and effective baseline for self-supervised music audio
representation learning", 2022; https://huggingface.co/m-a-p/music2vec-v1
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

import torch
import transformers
from torch import Tensor, nn

from core.options import option
from extract_item_embeddings.bases.transformer_backbone import (
    TransformerBackbone,
    TransformerConfig,
)
from extract_item_embeddings.engine import main


@dataclass(frozen=True, kw_only=True)
class Music2VecConfig(TransformerConfig):
    as_published: bool = option(False, "24 kHz taken for 16 kHz, raw waves, as in the study")


class Music2Vec(TransformerBackbone):
    name = "music2vec"
    licence = "CC-BY-NC-4.0"
    sample_rate = 16_000  # Hz
    clip_seconds = 30.0  # 1,499 frames
    embedding_size = 768
    layers = 12
    batch_size = 8
    config_class = Music2VecConfig
    repository = "m-a-p/music2vec-v1"
    revision = "53f05da0bb7bf914a60adb19b6b62cd2bfa2670c"

    def choose(self, config: Music2VecConfig) -> None:
        super().choose(config)
        if config.as_published:
            self.sample_rate = 24_000
            self.fills_with_silence = True

    def read_model(self, folder: Path) -> tuple[nn.Module, dict]:
        return transformers.Data2VecAudioModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )

    def prepare(self, audio: Tensor) -> Tensor:
        """Each clip alone with mean 0 and variance 1, as the model expects; not in the study."""
        if self.as_published:
            return audio
        variance, mean = torch.var_mean(audio, dim=1, correction=0, keepdim=True)
        return (audio - mean) / torch.sqrt(variance + 1e-7)


if __name__ == "__main__":
    main(Music2Vec)
