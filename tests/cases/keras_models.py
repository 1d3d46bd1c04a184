"""Small Keras models, each with inputs at two sizes of every dynamic dimension."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from models import digits_cnn, guide, text, transformer


@dataclass(frozen=True)
class Case:
    """A model, its input makers (two sizes), what its flat graph must hold, and its tolerance."""

    name: str
    build: Callable[[], Any]
    inputs: Callable[[np.random.Generator, int], Any]
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ("Loop", "Scan")
    signature: Any = None
    rtol: float = 1e-4
    atol: float = 1e-5


def _floats(*shape: int | None, scale: float = 1.0) -> Callable[[np.random.Generator, int], np.ndarray]:
    def make(rng: np.random.Generator, size: int) -> np.ndarray:
        dims = [dim if dim is not None else 5 + 3 * size + axis for axis, dim in enumerate(shape)]
        return rng.normal(0, scale, (3 + 2 * size, *dims)).astype("float32")

    return make


def masked_tokens(rng: np.random.Generator, size: int) -> np.ndarray:
    """Token ids with every kind of mask: holes, all masked, left padded, right padded."""
    tokens = rng.integers(1, 20, (5 + size, 7 + 4 * size)).astype("int32")
    tokens[rng.random(tokens.shape) < 0.3] = 0
    tokens[0] = 0
    tokens[1, :3], tokens[1, 3:] = 0, 5
    tokens[2, -3:], tokens[2, :-3] = 0, 7
    return tokens


def _recurrent(cls: Any, **options: Any) -> Callable[[], Any]:
    def build() -> Any:
        tokens = keras.Input((None,), dtype="int32", name="tokens")
        masked = options.pop("masked", True)
        x = layers.Embedding(20, 6, mask_zero=masked)(tokens)
        return keras.Model(tokens, cls(5, return_state=True, **options)(x))

    return build


def _wrapped(layer: Callable[[], Any], *shape: int | None) -> Callable[[], Any]:
    def build() -> Any:
        inputs = keras.Input(shape, name="x")
        return keras.Model(inputs, layer()(inputs))

    return build


def _shared() -> Any:
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="tanh")], name="inner")
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    joined = layers.concatenate([inner(left), inner(right), inner(inner(left))])
    outputs = {"score": layers.Dense(2)(joined), "total": ops.sum(joined, axis=-1)}
    return keras.Model({"left": left, "right": right}, outputs)


class LastToken(keras.Model):
    """A subclassed model that reads a size and indexes with it."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = layers.Dense(4)

    def call(self, x: Any) -> Any:
        batch, length = ops.shape(x)[0], ops.shape(x)[1]
        flat = ops.reshape(self.mix(x), (batch * length, 4))
        steps = ops.cast(ops.arange(length), "float32")[None, :, None]
        return ops.reshape(flat, (batch, length, 4))[:, -1] + ops.mean(x * steps, axis=(1, 2))[:, None]


def _transformer() -> Any:
    model = transformer.CausalTransformer()
    model(np.zeros((1, 4), "int32"))
    return model


def _last_token() -> Any:
    model = LastToken()
    model(np.zeros((2, 3, 6), "float32"))
    return model


CASES = [
    Case("mlp_functional", guide.mlp_functional, _floats(784), holds=("MatMul",)),
    Case("mlp_sequential", lambda: _called(guide.mlp_sequential(), (2, 784)), _floats(784)),
    Case("mlp_subclassed", lambda: _called(guide.mlp_subclassed(), (2, 784)), _floats(784)),
    Case("custom_layer_and_activation", guide.custom_model, _floats(8, scale=30.0)),
    Case("digits_cnn", digits_cnn.digits_cnn, _floats(8, 8, 1), holds=("Conv",)),
    Case("text", text.text_classifier, masked_tokens, holds=("LSTM", "GRU")),
    Case(
        "transformer",
        _transformer,
        lambda rng, size: rng.integers(0, 20, (3 + size, 6 + 5 * size)).astype("int32"),
        holds=("Softmax", "LayerNormalization"),
        signature=[{"shape": (None, None), "dtype": "int32", "name": "tokens"}],
    ),
    Case(
        "shared_dict_io",
        _shared,
        lambda rng, size: {"left": _floats(6)(rng, size), "right": _floats(6)(rng, size)},
    ),
    Case("sizes_in_call", _last_token, _floats(None, 6), signature=[(None, None, 6)]),
    Case(
        "free_height_and_width",
        _wrapped(
            lambda: keras.Sequential(
                [
                    layers.Conv2D(4, 3, strides=2, padding="same"),
                    layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
                    layers.BatchNormalization(),
                    layers.MaxPooling2D(2, padding="same"),
                    layers.AveragePooling2D(2, strides=1, padding="same"),
                    layers.GlobalAveragePooling2D(),
                ]
            ),
            None,
            None,
            3,
        ),
        lambda rng, size: rng.normal(0, 1, (3, 16 + 7 * size, 19 + 4 * size, 3)).astype("float32"),
    ),
    Case(
        "stacked_cells",
        _wrapped(lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)]), None, 6),
        _floats(None, 6),
    ),
    Case("batch_norm_1d", _wrapped(layers.BatchNormalization, 7), _floats(7), holds=("BatchNormalization",)),
    Case("layer_norm_axes", _wrapped(lambda: layers.LayerNormalization(axis=[1, 2]), 5, 6), _floats(5, 6)),
    Case(
        "relu_options",
        _wrapped(lambda: layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.3), 9),
        _floats(9),
    ),
    *[
        Case(f"{cls.__name__}_{name}", _recurrent(cls, **options), masked_tokens, holds=(operator,))
        for cls, operator in ((layers.LSTM, "LSTM"), (layers.GRU, "GRU"), (layers.SimpleRNN, "RNN"))
        for name, options in {
            "last": {},
            "sequences": {"return_sequences": True},
            "backwards": {"return_sequences": True, "go_backwards": True},
            "backwards_last": {"go_backwards": True},
            "zero_output": {"return_sequences": True, "zero_output_for_mask": True},
            "unmasked_backwards": {"masked": False, "return_sequences": True, "go_backwards": True},
        }.items()
    ],
]


def _called(model: Any, shape: tuple[int, ...]) -> Any:
    model(np.zeros(shape, "float32"))
    return model
