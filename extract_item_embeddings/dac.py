"""DAC: the encoder of the Descript audio codec at 44.1 kHz, trained to copy sound; a control.

    python -m extract_item_embeddings.dac --root R --audio DIR
    python -m extract_item_embeddings.dac --root R --audio DIR --pool mean+std
    python -m extract_item_embeddings.dac --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/dac.npy, float32 (n_tracks, 1024): the latents before they are rounded to codes,
averaged over the first 30 s. A file under 1 s is repeated until 1 s.

The weights (MIT) are downloaded once, of the commit below.

Source: Kumar et al., "High-fidelity audio compression with improved RVQGAN", NeurIPS 2023;
https://huggingface.co/descript/dac_44khz
"""

import core.start  # noqa: F401  before what is heavy

import transformers

from extract_item_embeddings.bases.codec_backbone import CodecBackbone
from extract_item_embeddings.engine import main


class Dac(CodecBackbone):
    name = "dac"
    licence = "MIT"
    sample_rate = 44_100  # Hz; 86 frames a second
    embedding_size = 1024
    model_class = transformers.DacModel
    repository = "descript/dac_44khz"
    revision = "c1bc521685adf9cfe247bc39a5ca58917eda1ac4"


if __name__ == "__main__":
    main(Dac)
