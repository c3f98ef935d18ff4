"""MusicFM: a 12-layer conformer of 330 M parameters, trained without labels on FMA or the MSD.

    python -m extract_item_embeddings.musicfm --root R --audio DIR
    python -m extract_item_embeddings.musicfm --root R --audio DIR --trained-on msd --layer 7
    python -m extract_item_embeddings.musicfm --root R --audio DIR --weights FOLDER     # offline

Writes embeddings/musicfm.npy, float32 (n_tracks, 1024): the last layer, averaged over the first
30 s, of the weights trained on FMA, as in the study. Other choices extend the name: musicfm_msd_l7,
musicfm_lmean_meanstd. A file under 1 s is repeated until 1 s.
`--as-published` averages over channels instead of time, as the study did: 750 numbers, one for each
frame of 30 s, in embeddings/musicfm_published.npy. A file under 30 s then ends in silence.

The weights (MIT) are downloaded once; the code is this project's, no package is needed.

Measured: 4 clips of 30 s in 32 s on two cores, 3.9 GB (a batch of 4, random weights of the
model's size); no GPU was at hand.

Source: Won et al., "A foundation model for music informatics", ICASSP 2024, arXiv 2311.03318;
https://huggingface.co/minzwon/MusicFM
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import core.start  # noqa: F401  before what is heavy

from torch import Tensor

from core.options import InputError, option
from extract_item_embeddings.bases.conformer_backbone import ConformerBackbone
from extract_item_embeddings.bases.transformer_backbone import TransformerConfig
from extract_item_embeddings.engine import main


@dataclass(frozen=True, kw_only=True)
class MusicFMConfig(TransformerConfig):
    trained_on: Literal["fma", "msd"] = option("fma", "the data set behind the weights")
    as_published: bool = option(False, "mean over channels instead of time, as in the study")


class MusicFM(ConformerBackbone):
    name = "musicfm"
    licence = "MIT"
    embedding_size = 1024
    config_class = MusicFMConfig
    repository = "minzwon/MusicFM"
    revision = "4513b38bc25ad1d227b1980819b9691ba97f4d87"
    files = ("pretrained_fma.pt", "fma_stats.json")
    weight_files = ("pretrained_fma.pt",)
    statistics = "fma_stats.json"
    trained_on = "fma"

    def choose(self, config: MusicFMConfig) -> None:
        if config.as_published and config.pool != "mean":
            raise InputError(f"--as-published is a mean over channels; --pool was {config.pool}")
        self.trained_on = config.trained_on
        self.weight_files = (f"pretrained_{self.trained_on}.pt",)
        self.statistics = f"{self.trained_on}_stats.json"
        self.files = (*self.weight_files, self.statistics)
        super().choose(config)
        if config.as_published:
            self.fills_with_silence = True
            self.embedding_size = 750

    def variants(self) -> list[str]:
        return ([] if self.trained_on == "fma" else [self.trained_on]) + super().variants()

    def summarise(self, frames: Tensor) -> Tensor:
        return frames.mean(dim=2) if self.as_published else super().summarise(frames)


if __name__ == "__main__":
    main(MusicFM)
