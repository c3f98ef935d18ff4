"""Audio files become embeddings/NAME.npy: found, decoded, batched, checked, resumed, joined.

In: a folder of audio and a backbone. Out: embeddings/NAME.npy and NAME.json. A backbone imports
`Backbone` and `main` from here; one with options of its own takes `ExtractConfig` from backbone.py.
Open `extraction.py` first.
"""

from extract_item_embeddings.engine.backbone import Backbone
from extract_item_embeddings.engine.extraction import main

__all__ = ["Backbone", "main"]
