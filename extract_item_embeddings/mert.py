"""MERT-v1-330M: a 24-layer encoder, trained without labels on 160,000 hours of music.

    python -m extract_item_embeddings.mert --root R --audio DIR
    python -m extract_item_embeddings.mert --root R --audio DIR --layer 6 --precision bf16
    python -m extract_item_embeddings.mert --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/mert.npy, float32 (n_tracks, 1024): the last layer, averaged over the first 30 s.
Other choices extend the name: mert_l6, mert_lmean_meanstd. A file under 1 s is repeated until 1 s.
`--as-published` fills files under 30 s up with silence, which the average over time then holds, as
the study did: embeddings/mert_published.npy.

The weights (CC-BY-NC-4.0) are downloaded once, of the commit below. The Python beside them is not
run: the network is HuBERT's, of transformers. Audio goes in as it is, as in training and in the
study; the published preprocessor normalises it.

Measured: 4 clips of 30 s in 185 s on two busy cores, 4.7 GB (a batch of 4, random weights of the
model's size); no GPU was at hand.

Source: Li et al., "MERT: acoustic music understanding model with large-scale self-supervised
training", ICLR 2024; https://huggingface.co/m-a-p/MERT-v1-330M
"""

from dataclasses import dataclass

import core.start  # noqa: F401  before what is heavy

from core.options import option
from extract_item_embeddings.bases.mert_backbone import MertBackbone
from extract_item_embeddings.bases.transformer_backbone import TransformerConfig
from extract_item_embeddings.engine import main


@dataclass(frozen=True, kw_only=True)
class MertConfig(TransformerConfig):
    as_published: bool = option(False, "files under 30 s end in silence, as in the study")


class Mert(MertBackbone):
    name = "mert"
    config_class = MertConfig
    embedding_size = 1024
    layers = 24
    batch_size = 4
    repository = "m-a-p/MERT-v1-330M"
    revision = "5240c2708a5acaee1007f43fb9735c7dcd0b78c9"

    def choose(self, config: MertConfig) -> None:
        super().choose(config)
        self.fills_with_silence = config.as_published


if __name__ == "__main__":
    main(Mert)
