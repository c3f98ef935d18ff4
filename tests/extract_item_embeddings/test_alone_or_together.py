"""A backbone computes the same alone and beside others: no setting of the process is left open."""

import numpy as np
import torch
from torch import nn

from extract_item_embeddings.bases.torch_backbone import TorchBackbone, embed_in_torch


class Small(TorchBackbone):
    clip_a_thread = True

    def load(self, device):
        self.model = nn.Linear(4, 2).to(device)

    @embed_in_torch
    def embed(self, audio):
        return self.model(audio)


def test_convolutions_of_every_backbone_are_float32_on_a_gpu_too(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    small = Small()
    small.load("cpu")
    assert small.embed(np.ones((3, 4), np.float32)).shape == (3, 2)
    assert not torch.backends.cudnn.allow_tf32
