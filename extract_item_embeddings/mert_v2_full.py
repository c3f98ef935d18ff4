"""MERT-v2-FullSong: the network of mert_v2.py, trained further on whole songs of 30 to 360 s.

    python -m extract_item_embeddings.mert_v2_full --root R --audio DIR
    python -m extract_item_embeddings.mert_v2_full --root R --audio DIR --layer 23 --precision bf16
    python -m extract_item_embeddings.mert_v2_full --root R --audio DIR --weights FOLDER # offline

Writes embeddings/mert_v2_full.npy, float32 (n_tracks, 1024): the last layer, averaged over the
first 6 minutes: its own where whole songs are at hand. Other choices extend the name:
mert_v2_full_l23_meanstd. A file under 1 s is repeated until 1 s. Layers are counted as in
mert_v2.py.

The weights (CC-BY-NC-4.0) are downloaded once, of the commit below; the hub may ask to log in and
to accept their licence first. The Python beside them is not run.

Source: https://huggingface.co/m-a-p/MERT-v2-FullSong; see mert_v2.py.
"""

import core.start  # noqa: F401  before what is heavy

from extract_item_embeddings.bases.mert2_backbone import Mert2Backbone
from extract_item_embeddings.engine import main


class MertV2Full(Mert2Backbone):
    name = "mert_v2_full"
    clip_seconds = 360.0  # 9,000 frames
    batch_size = 1
    repository = "m-a-p/MERT-v2-FullSong"
    revision = "d8ba1c745e733b3908ce6ad16ebeb17ac7600a42"


if __name__ == "__main__":
    main(MertV2Full)
