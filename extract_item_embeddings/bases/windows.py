"""Clips cut into the windows that a model hears at once."""

import torch
from torch import Tensor


def windows(audio: Tensor, samples: int) -> Tensor:
    """Return (batch, windows, samples) of clips (batch, at least `samples`).

    The last window is filled up with the start of the clip: silence would become part of the mean.
    """
    short = -audio.shape[1] % samples
    return torch.cat([audio, audio[:, :short]], dim=1).unflatten(1, (-1, samples))
