"""VGG of the MSD: a plain convolutional tagger, trained on the same 200,000 songs as MusiCNN.

    pip install --no-deps musicnn==0.1.0                 # its weights; its code is not used
    python -m extract_item_embeddings.vgg_msd --root R --audio DIR
    python -m extract_item_embeddings.vgg_msd --root R --audio DIR --as tags

Writes embeddings/vgg_msd.npy, float32 (n_tracks, 256): the last pooling, averaged over the
patches of 3 s that fit into the first 30 s. A shorter file is repeated until it fills one patch.
`--as tags` writes the 50 tags' probabilities instead, in embeddings/vgg_msd_tags.npy.

With musicnn.py, musicnn_mtt.py, vgg_msd.py and vgg_mtt.py, architecture and data can be told apart.

Source: Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", 2019. The checkpoint is read as it is, and agrees with the TensorFlow network.
"""

import core.start  # noqa: F401  before what is heavy

from extract_item_embeddings.bases.tagger_backbone import TaggerBackbone
from extract_item_embeddings.engine import main
from extract_item_embeddings.networks.vgg import VggNetwork


class VggMsd(TaggerBackbone):
    name = "vgg_msd"
    embedding_size = 256
    network = VggNetwork
    checkpoint = "MSD_vgg"
    checkpoint_sha256 = "4451d1faa9d27cb599bd0d828766f25ecbf616eeaa1fd5164f49b814a76f2a0a"


if __name__ == "__main__":
    main(VggMsd)
