"""A small network of MULE's layers in the form of its published file, with random weights."""

import numpy as np
import tensorflow
from mule.models.layers import StochDepth, WeightStandardization

CHANNELS, WIDTH = 8, 1728


def write(folder):
    """Write model.keras: slices (batch, 96, 300, 1) -> (batch, 1728)."""
    keras = tensorflow.keras
    slices = keras.Input((96, 300, 1))
    convolutions = [
        WeightStandardization(keras.layers.Conv2D(CHANNELS, 3, strides=stride, padding="same"))
        for stride in (4, 1)
    ]
    x = keras.layers.Activation("_scaled_gelu_activation")(convolutions[0](slices))
    x = StochDepth(0.9)([x, convolutions[1](x)])
    outputs = keras.layers.Dense(WIDTH)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model([slices], [outputs])
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    folder.mkdir(parents=True)
    model.save(folder / "model.keras")
