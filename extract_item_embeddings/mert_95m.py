"""MERT-v1-95M: a 12-layer encoder, trained without labels on 20,000 hours of music.

    python -m extract_item_embeddings.mert_95m --root R --audio DIR
    python -m extract_item_embeddings.mert_95m --root R --audio DIR --layer 6 --precision bf16
    python -m extract_item_embeddings.mert_95m --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/mert_95m.npy, float32 (n_tracks, 768): the last layer, averaged over the first
30 s. Other choices extend the name: mert_95m_l6, mert_95m_lmean_meanstd. A file under 1 s is
repeated until 1 s.

The weights (CC-BY-NC-4.0) are downloaded once, of the commit below. The Python beside them is not
run: the network is HuBERT's, of transformers. Audio goes in as it is, as in training and in the
study; the published preprocessor normalises it.

Source: Li et al., "MERT: acoustic music understanding model with large-scale self-supervised
training", ICLR 2024; https://huggingface.co/m-a-p/MERT-v1-95M
"""

import core.start  # noqa: F401  before what is heavy

from extract_item_embeddings.bases.mert_backbone import MertBackbone
from extract_item_embeddings.engine import main


class Mert95M(MertBackbone):
    name = "mert_95m"
    embedding_size = 768
    layers = 12
    batch_size = 8
    repository = "m-a-p/MERT-v1-95M"
    revision = "12af15fef9d0ac838c3f475bfbbf26d2060dd4f5"


if __name__ == "__main__":
    main(Mert95M)
