"""What backbones share whose network is written here and whose weights are a checkpoint of torch.

A subclass sets its facts and fills `read_model`, mostly with `filled`. Its network has
`layers(audio)`, which yields the frames of the first layer's input and of every layer, so that
nothing above the layer asked for is computed, and nothing below it is kept.
"""

from __future__ import annotations

import json
import pickle
import types
from pathlib import Path

import torch
from torch import Tensor, nn

from core.options import InputError
from extract_item_embeddings.bases.pretrained import first_line
from extract_item_embeddings.bases.transformer_backbone import TransformerBackbone, pick

SIZES = "config.json"  # beside weights whose sizes are not the published ones


class CheckpointBackbone(TransformerBackbone):
    """The sizes are the published ones, or what a config.json in the folder says instead."""

    sizes: dict[str, int]  # under the names of transformers' configs

    def read_config(self) -> dict[str, int]:
        """Return the sizes of the weights in the folder."""
        path = self.folder / SIZES
        try:
            own = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            return {**self.sizes, **{name: int(own[name]) for name in self.sizes if name in own}}
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{path} does not give a model's sizes ({first_line(error)}); remove it if the "
                "weights are the published ones"
            ) from error

    def read_sizes(self) -> tuple[int, int]:
        """Return (width, layers) of the weights in the folder."""
        config = self.read_config()
        return config["hidden_size"], config["num_hidden_layers"]

    def frames(self, audio: Tensor) -> Tensor:
        """Prepared audio -> frames (batch, time, width) of the chosen layer, or of their mean."""
        return pick(self.model.layers(audio), self.layer)


def filled(network: nn.Module, state: dict[str, Tensor]) -> tuple[nn.Module, dict[str, list[str]]]:
    """Return the network with the state's own tensors, and the names it lacks and does not know."""
    missing, unexpected = network.load_state_dict(state, strict=False, assign=True)
    return network, {"missing_keys": missing, "unexpected_keys": unexpected}


def read_checkpoint(path: Path) -> dict:
    """Return what torch.save wrote, on the CPU; no code that the file names is run.

    torch's own safe reading refuses a file that holds more than tensors and plain values, such as
    the state of a trainer. There such objects become empty ones.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_INERT)


class _Nothing(dict):
    """Stands for an object of any class, and for a function."""

    def __init__(self, *args, **options):
        super().__init__()

    def __call__(self, *args, **options):
        return self

    def __setstate__(self, state):
        pass

    def append(self, item):
        pass

    extend = append


class _InertUnpickler(pickle.Unpickler):
    ALLOWED = {
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("collections", "OrderedDict"),
    }

    def find_class(self, module: str, name: str):
        return super().find_class(module, name) if (module, name) in self.ALLOWED else _Nothing


_INERT = types.SimpleNamespace(  # in place of the module pickle
    __name__="inert",
    Unpickler=_InertUnpickler,
    load=lambda file, **options: _InertUnpickler(file, **options).load(),
)
