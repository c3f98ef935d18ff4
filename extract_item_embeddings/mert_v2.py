"""MERT-v2-30s: a 24-layer conformer of 630 M parameters, trained without labels on clips of 30 s.

    python -m extract_item_embeddings.mert_v2 --root R --audio DIR
    python -m extract_item_embeddings.mert_v2 --root R --audio DIR --layer 22 --precision bf16
    python -m extract_item_embeddings.mert_v2 --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/mert_v2.npy, float32 (n_tracks, 1024): the last layer, averaged over the first
30 s. Other choices extend the name: mert_v2_l22, mert_v2_lmean_meanstd. A file under 1 s is
repeated until 1 s. Layers are counted as MERT's are, 0 being the first one's input: what the
published code calls hidden_states[21] is --layer 22.

The weights (CC-BY-NC-4.0) are downloaded once, of the commit below; the hub may ask to log in and
to accept their licence first. The Python beside them is not run.

Source: https://huggingface.co/m-a-p/MERT-v2-30s; Li et al., "MERT: acoustic music understanding
model with large-scale self-supervised training", ICLR 2024. The network is written here, and agrees
with a public copy of the published code.
"""

import core.start  # noqa: F401  before what is heavy

from extract_item_embeddings.bases.mert2_backbone import Mert2Backbone
from extract_item_embeddings.engine import main


class MertV2(Mert2Backbone):
    name = "mert_v2"
    clip_seconds = 30.0  # 750 frames
    batch_size = 4
    repository = "m-a-p/MERT-v2-30s"
    revision = "12130d22fd947c24b0299c9368900fb06a608512"


if __name__ == "__main__":
    main(MertV2)
