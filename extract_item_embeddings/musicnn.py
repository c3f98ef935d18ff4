"""MusiCNN: a small convolutional tagger, trained with labels on 200,000 songs (MSD).

    pip install --no-deps musicnn==0.1.0                 # its weights; its code is not used
    python -m extract_item_embeddings.musicnn --root R --audio DIR
    python -m extract_item_embeddings.musicnn --root R --audio DIR --as tags

Writes embeddings/musicnn.npy, float32 (n_tracks, 200): the penultimate layer, averaged over the
patches of 3 s that fit into the first 30 s. A shorter file is repeated until it fills one patch.
`--as tags` writes the 50 tags' probabilities instead, in embeddings/musicnn_tags.npy.

Measured: 60 mp3 clips of 30 s in 5 s on two cores, 0.7 GB.

Source: Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", 2019. The package runs on TensorFlow 1 and its `penultimate` repeats the first patch;
here its checkpoint is read as it is, and agrees with the mended TensorFlow network to 1e-5.
"""

import core.start  # noqa: F401  before what is heavy

from extract_item_embeddings.bases.tagger_backbone import TaggerBackbone
from extract_item_embeddings.engine import main
from extract_item_embeddings.networks.musicnn import MusicnnNetwork


class Musicnn(TaggerBackbone):
    name = "musicnn"
    embedding_size = 200
    network = MusicnnNetwork
    checkpoint = "MSD_musicnn"
    checkpoint_sha256 = "ffb40cd66093fac1af5e4bae851c19c767a962aa577d0aa1fa12b426f15215ad"


if __name__ == "__main__":
    main(Musicnn)
