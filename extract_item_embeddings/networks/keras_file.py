"""Reads a model that Keras saved as .keras, without TensorFlow: its layers and their numbers.

Such a file is a zip archive of two parts. `config.json` lists the layers in the order in which they
are computed, and whose outputs each of them hears. `model.weights.h5` holds their variables as
HDF5: a group for each layer, named after its class and a number that grows in the same order.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

GRAPH, NUMBERS = "config.json", "model.weights.h5"
FOLDERS = ("_layer_checkpoint_dependencies", "layers")  # of the layers; which, is Keras's version
# What Keras 2 raises to a file that is another, or was cut: of zip, json and HDF5.
DAMAGES = (zipfile.BadZipFile, ValueError, KeyError, TypeError, IndexError, OSError)


@dataclass
class KerasLayer:
    """A layer as it stands in the file.

    Attributes:
        kind: its class.
        options: what the class was made with.
        inputs: names of the layers that it hears, in order.
        arguments: what else it is called with; a name of a layer stands as a `KerasOutput`.
        arrays: {"vars/0": array, ...}, its variables; those of a layer inside at "layer/vars/0".
    """

    name: str
    kind: str
    options: dict
    inputs: list[str]
    arguments: dict
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class KerasOutput:
    name: str


def read_layers(path: Path) -> list[KerasLayer]:
    """Return the layers of a model with one input, its first layer, and one output, its last.

    Raises:
        ValueError: it is no such file, or its layers and its variables do not belong together.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            layers = _layers(json.loads(archive.read(GRAPH)))
            with h5py.File(io.BytesIO(archive.read(NUMBERS)), "r") as file:
                _fill(layers, next(file[name] for name in FOLDERS if name in file))
    except StopIteration as error:
        raise ValueError(f"{NUMBERS} has no group of layers") from error
    except DAMAGES as error:
        raise ValueError(_not_keras(error)) from error
    return layers


def read_width(path: Path) -> int:
    """Return how many numbers the model gives; ValueError as `read_layers`."""
    try:
        with zipfile.ZipFile(path) as archive:
            last = json.loads(archive.read(GRAPH))["config"]["layers"][-1]
            return int(last["build_config"]["input_shape"][-1])
    except DAMAGES as error:
        raise ValueError(_not_keras(error)) from error


def _not_keras(error: Exception) -> str:
    return f"it is not a model of Keras 2.12 or later: {str(error).partition(chr(10))[0]}"


def _layers(graph: dict) -> list[KerasLayer]:
    config = graph["config"]
    layers = []
    for layer in config["layers"]:
        inputs, arguments = _calls(layer["inbound_nodes"])
        kind = layer["class_name"].rpartition(">")[2]  # "Custom>Name" of a registered one
        layers.append(KerasLayer(layer["name"], kind, layer["config"], inputs, arguments))
    ends = [config["input_layers"], config["output_layers"]]
    if [[end[0][0] for end in ends], [len(end) for end in ends]] != [
        [layers[0].name, layers[-1].name],
        [1, 1],
    ]:
        raise ValueError("its input and output are not its first and its last layer")
    return layers


def _calls(nodes: list) -> tuple[list[str], dict]:
    """Return (inputs, arguments) of a layer, which is called at most once."""
    if not nodes:
        return [], {}
    (node,) = nodes
    calls = node if isinstance(node[0], list) else [node]
    inputs, arguments = [], {}
    for name, _, _, given in calls:
        inputs.append(name)
        for key, value in given.items():
            is_output = isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)
            arguments[key] = KerasOutput(value[0]) if is_output else value
    return inputs, arguments


def _fill(layers: list[KerasLayer], groups: h5py.Group) -> None:
    """Give each layer its arrays: the groups of a class, in the order of their numbers."""
    names: dict[str, list[str]] = {}
    for name in sorted(groups, key=_number):
        names.setdefault(re.sub(r"(_\d+)?$", "", name).replace("_", ""), []).append(name)
    for layer in layers:
        group = groups[names[layer.kind.lower()].pop(0)]
        group.visititems(
            lambda key, item, layer=layer: (
                layer.arrays.update({key: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    if any(names.values()):
        raise ValueError(f"{NUMBERS} holds layers that {GRAPH} does not list")


def _number(name: str) -> int:
    return int(re.search(r"(?:_(\d+))?$", name)[1] or 0)
