"""MAEST: a transformer on spectrograms, trained with 400 styles as labels on 3.3 million tracks.

    python -m extract_item_embeddings.maest --root R --audio DIR
    python -m extract_item_embeddings.maest --root R --audio DIR --layer last --precision bf16
    python -m extract_item_embeddings.maest --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/maest.npy, float32 (n_tracks, 768): layer 7 of 12, the one its authors found best,
averaged over the patches of the first 30 s. Other choices extend the name: maest_llast_meanstd.
The model hears 30 s at once, so a shorter file is repeated until 30 s. Its mel spectrogram is
MusiCNN's. Music4All-Onion's id_maest are such vectors: compare where both are at hand.

The weights (CC-BY-NC-SA-4.0) are downloaded once. Their commit is not pinned here, since its full
hash could not be had: the newest is taken, and NAME.json records which; --revision pins one.

Source: Alonso-Jimenez, Serra and Bogdanov, "Efficient supervised training of audio transformers for
music representation learning", ISMIR 2023; https://huggingface.co/mtg-upf/discogs-maest-30s-pw-129e
"""

from __future__ import annotations

from dataclasses import dataclass

import core.start  # noqa: F401  before what is heavy

from torch import Tensor

from core.options import option
from extract_item_embeddings.bases.spectrogram_backbone import SpectrogramBackbone
from extract_item_embeddings.bases.transformer_backbone import TransformerConfig
from extract_item_embeddings.engine import main
from extract_item_embeddings.networks.tagger import RATE, LogMel

MEAN, SPREAD = 2.06755686098554, 1.268292820667291  # of the training data's log-mel


@dataclass(frozen=True, kw_only=True)
class MaestConfig(TransformerConfig):
    layer: str = option("7", "a number, 0 the input of the first layer; last; mean of all")


class Maest(SpectrogramBackbone):
    name = "maest"
    licence = "CC-BY-NC-SA-4.0"
    sample_rate = RATE
    clip_seconds = min_seconds = 30.0  # 1,876 frames
    packages = ("torch", "transformers", "librosa")
    layer = "7"
    config_class = MaestConfig
    repository = "mtg-upf/discogs-maest-30s-pw-129e"
    revision = "main"

    def load(self, device: str) -> None:
        super().load(device)
        self.log_mel = LogMel().to(device)

    def prepare(self, audio: Tensor) -> Tensor:
        mel = self.log_mel(audio)[:, :, : self.model.config.max_length]
        return ((mel - MEAN) / (2 * SPREAD)).transpose(1, 2)[:, None]


if __name__ == "__main__":
    main(Maest)
