"""MusiCNN of MagnaTagATune: the network of musicnn.py, trained on 19,000 clips with labels.

    pip install --no-deps musicnn==0.1.0                 # its weights; its code is not used
    python -m extract_item_embeddings.musicnn_mtt --root R --audio DIR
    python -m extract_item_embeddings.musicnn_mtt --root R --audio DIR --as tags

Writes embeddings/musicnn_mtt.npy, float32 (n_tracks, 200): the penultimate layer, averaged over the
patches of 3 s that fit into the first 30 s. A shorter file is repeated until it fills one patch.
`--as tags` writes the 50 tags' probabilities instead, in embeddings/musicnn_mtt_tags.npy.

With musicnn.py, musicnn_mtt.py, vgg_msd.py and vgg_mtt.py, architecture and data can be told apart.

Source: Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", 2019. The checkpoint is read as it is, and agrees with the TensorFlow network.
"""

import core.start  # noqa: F401  before what is heavy

from extract_item_embeddings.bases.tagger_backbone import TaggerBackbone
from extract_item_embeddings.engine import main
from extract_item_embeddings.networks.musicnn import MusicnnNetwork


class MusicnnMtt(TaggerBackbone):
    name = "musicnn_mtt"
    embedding_size = 200
    network = MusicnnNetwork
    checkpoint = "MTT_musicnn"
    checkpoint_sha256 = "5a310d763b7d8bafda59f31636c3f1b87b5c62d134d7e6ff9b880e4c25515ab4"


if __name__ == "__main__":
    main(MusicnnMtt)
