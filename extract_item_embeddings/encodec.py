"""EnCodec: the encoder of an audio codec, trained to copy sound; a control.

    python -m extract_item_embeddings.encodec --root R --audio DIR
    python -m extract_item_embeddings.encodec --root R --audio DIR --pool mean+std
    python -m extract_item_embeddings.encodec --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/encodec.npy, float32 (n_tracks, 128): the latents before they are rounded to
codes, averaged over the first 30 s. A file under 1 s is repeated until 1 s. It is the encoder that
EnCodecMAE was built on: what training without labels adds to it can be told apart.

The weights (MIT) are downloaded once.

Source: Defossez et al., "High fidelity neural audio compression", 2022;
https://huggingface.co/facebook/encodec_24khz
"""

import core.start  # noqa: F401  before what is heavy

import transformers

from extract_item_embeddings.bases.codec_backbone import CodecBackbone
from extract_item_embeddings.engine import main


class Encodec(CodecBackbone):
    name = "encodec"
    licence = "MIT"
    sample_rate = 24_000  # Hz; 75 frames a second
    embedding_size = 128
    model_class = transformers.EncodecModel
    repository = "facebook/encodec_24khz"
    revision = "c1dbe2ae3f1de713481a3b3e7c47f357092ee040"


if __name__ == "__main__":
    main(Encodec)
