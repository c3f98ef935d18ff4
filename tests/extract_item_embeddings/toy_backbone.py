"""A backbone that needs nothing but numpy, for tests of the engine; it can be slow on purpose.

python -m tests.extract_item_embeddings.toy_backbone --root R --audio DIR
"""

import os
import time

import numpy as np

from extract_item_embeddings.engine import Backbone, main


class Toy(Backbone):
    name = "toy"
    sample_rate = 8000
    clip_seconds = 1.0
    min_seconds = 0.25
    embedding_size = 3
    batch_size = 4

    def embed(self, audio):
        """Loudness, its spread, and the clip's length in seconds."""
        time.sleep(float(os.environ.get("TOY_SECONDS_A_BATCH", 0)))
        if log := os.environ.get("TOY_LOG"):
            with open(log, "a") as file:
                file.write(f"{len(audio)}\n")
        length = np.full(len(audio), audio.shape[1] / self.sample_rate)
        moments = [np.abs(audio).mean(axis=1), audio.std(axis=1), length]
        return np.stack(moments, axis=1).astype(np.float32)


if __name__ == "__main__":
    main(Toy)
