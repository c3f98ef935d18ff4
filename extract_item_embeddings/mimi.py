"""Mimi: the encoder of a speech codec with a small transformer, trained to copy sound; a control.

    python -m extract_item_embeddings.mimi --root R --audio DIR
    python -m extract_item_embeddings.mimi --root R --audio DIR --pool mean+std
    python -m extract_item_embeddings.mimi --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/mimi.npy, float32 (n_tracks, 512): the latents before they are rounded to codes,
averaged over the first 30 s. A file under 1 s is repeated until 1 s.

The weights (CC-BY-4.0) are downloaded once.

Source: Defossez et al., "Moshi: a speech-text foundation model for real-time dialogue", 2024;
https://huggingface.co/kyutai/mimi
"""

import core.start  # noqa: F401  before what is heavy

import transformers
from torch import Tensor

from extract_item_embeddings.bases.codec_backbone import CodecBackbone
from extract_item_embeddings.engine import main


class Mimi(CodecBackbone):
    name = "mimi"
    licence = "CC-BY-4.0"
    sample_rate = 24_000  # Hz; 12.5 frames a second
    embedding_size = 512
    model_class = transformers.MimiModel
    repository = "kyutai/mimi"
    revision = "89091b3e466eb6a9d11e537bf26b144f194978f7"

    def latents(self, audio: Tensor) -> Tensor:
        frames = self.model.encoder(audio).transpose(1, 2)
        frames = self.model.encoder_transformer(frames, use_cache=False).last_hidden_state
        return self.model.downsample(frames.transpose(1, 2))


if __name__ == "__main__":
    main(Mimi)
