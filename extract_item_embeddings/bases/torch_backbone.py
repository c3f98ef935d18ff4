"""What backbones that run on torch share: the choice of the device, arrays in and arrays out."""

from __future__ import annotations

import functools

import numpy as np
import torch

from core.options import InputError
from extract_item_embeddings.engine.backbone import Backbone


class TorchBackbone(Backbone):
    """A backbone whose `load` sets `self.model`, a torch.nn.Module on the device."""

    packages = ("torch",)
    # On a CPU: small models are faster with every clip in a thread of its own than with torch's
    # threads inside one, which wait for each other at every layer.
    clip_a_thread = False

    def pick_device(self, wanted: str) -> str:
        """Return the torch device for `--device`: auto takes a GPU where there is one."""
        if wanted == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        kind, _, number = wanted.partition(":")
        if wanted == "cpu":
            return wanted
        if kind != "cuda" or not (number.isdigit() or wanted == "cuda"):
            raise InputError(f"--device must be auto, cpu, cuda or cuda:N, got '{wanted}'")
        if int(number or 0) >= torch.cuda.device_count():
            raise InputError(
                f"--device {wanted}: torch sees {torch.cuda.device_count()} GPUs here; "
                "use --device cpu or auto"
            )
        return wanted

    def is_out_of_memory(self, error: Exception) -> bool:
        """Say whether it is torch's error for the memory of a GPU, or of the machine."""
        return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def embed_in_torch(embed):
    """Decorate `embed`: arrays outside, tensors on the model's device inside, no gradients."""

    @functools.wraps(embed)
    def wrapper(self, audio: np.ndarray) -> np.ndarray:
        device = next(self.model.parameters()).device
        # Else a GPU's convolutions round to 10 bits, unless another backbone of the same command
        # has asked for all of them: alone or together, the vectors are the same.
        torch.backends.cudnn.allow_tf32 = False

        @torch.inference_mode()
        def forward(clips: np.ndarray) -> np.ndarray:
            return embed(self, torch.as_tensor(clips, device=device)).float().cpu().numpy()

        def alone(clip: np.ndarray) -> np.ndarray:
            torch.set_num_threads(1)  # of this thread
            return forward(clip[None])

        if self.clip_a_thread and device.type == "cpu":
            return np.concatenate(self.map_clips(alone, audio))
        return forward(audio)

    return wrapper
