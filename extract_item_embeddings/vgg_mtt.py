"""VGG of MagnaTagATune: the network of vgg_msd.py, trained on 19,000 clips with labels.

    pip install --no-deps musicnn==0.1.0                 # its weights; its code is not used
    python -m extract_item_embeddings.vgg_mtt --root R --audio DIR
    python -m extract_item_embeddings.vgg_mtt --root R --audio DIR --as tags

Writes embeddings/vgg_mtt.npy, float32 (n_tracks, 256): the last pooling, averaged over the
patches of 3 s that fit into the first 30 s. A shorter file is repeated until it fills one patch.
`--as tags` writes the 50 tags' probabilities instead, in embeddings/vgg_mtt_tags.npy.

With musicnn.py, musicnn_mtt.py, vgg_msd.py and vgg_mtt.py, architecture and data can be told apart.

Source: Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", 2019. The checkpoint is read as it is, and agrees with the TensorFlow network.
"""

import core.start  # noqa: F401  before what is heavy

from extract_item_embeddings.bases.tagger_backbone import TaggerBackbone
from extract_item_embeddings.engine import main
from extract_item_embeddings.networks.vgg import VggNetwork


class VggMtt(TaggerBackbone):
    name = "vgg_mtt"
    embedding_size = 256
    network = VggNetwork
    checkpoint = "MTT_vgg"
    checkpoint_sha256 = "4eb436a338b38d6d52f10c2c1db2a6d0e179b62d438d25820c96b17cce962644"


if __name__ == "__main__":
    main(VggMtt)
