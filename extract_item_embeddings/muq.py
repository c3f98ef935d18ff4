"""MuQ: a 12-layer conformer of 330 M parameters, trained without labels on the MSD.

    python -m extract_item_embeddings.muq --root R --audio DIR
    python -m extract_item_embeddings.muq --root R --audio DIR --layer 6 --precision bf16
    python -m extract_item_embeddings.muq --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/muq.npy, float32 (n_tracks, 1024): the last layer, averaged over the first 30 s.
Other choices extend the name: muq_l6, muq_lmean_meanstd. A file under 1 s is repeated until 1 s.

The weights (CC-BY-NC-4.0) are downloaded once; the code is this project's, no package is needed.

Source: Zhu et al., "MuQ: self-supervised music representation learning with mel residual vector
quantization", 2025, arXiv 2501.01108; https://huggingface.co/OpenMuQ/MuQ-large-msd-iter
"""

from __future__ import annotations

import core.start  # noqa: F401  before what is heavy

from extract_item_embeddings.bases.conformer_backbone import ConformerBackbone
from extract_item_embeddings.engine import main


class MuQ(ConformerBackbone):
    name = "muq"
    licence = "CC-BY-NC-4.0"
    embedding_size = 1024
    repository = "OpenMuQ/MuQ-large-msd-iter"
    revision = "0562a57814f6f8bbd9fdea0a25921a2fce1a841a"
    files = ("config.json", "model.safetensors")
    weight_files = ("model.safetensors",)
    statistics = "config.json"

    def read_statistics(self) -> dict:
        return super().read_statistics()["stat"]


if __name__ == "__main__":
    main(MuQ)
