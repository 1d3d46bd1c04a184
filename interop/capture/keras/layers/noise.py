"""Random numbers of ``keras.random``: a graph draws its own, different in every run, whatever the seed.

Source: https://onnx.ai/onnx/operators/onnx__RandomUniformLike.html, onnx__Dropout.html, onnx__Multinomial.html.
"""

from __future__ import annotations

from typing import Any

from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.creation import filled
from interop.capture.keras.registry import function
from interop.graph.record import Value


def _drawn(e: Emit, op_type: str, shape: Any) -> Value:
    """Floats of a shape that need not be known."""
    dims = tuple(shape)
    return e.node(f"{op_type}Like", filled(e, dims, 0, "float32"), shape=dims)


def uniform_between(e: Emit, shape: Any, low: Any, high: Any, dtype: str) -> Value:
    """Uniform in [low, high)."""
    unit = _drawn(e, "RandomUniform", shape)
    width = e.binary("Sub", e.tensor(high, "float32"), e.tensor(low, "float32"))
    return e.cast(e.binary("Add", e.binary("Mul", unit, width), e.tensor(low, "float32")), dtype)


def _dtype(dtype: Any) -> str:
    import keras

    return str(keras.backend.standardize_dtype(dtype or keras.config.floatx()))


@function("uniform", since=13)
def uniform(
    e: Emit, shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
) -> Value:
    return uniform_between(e, shape, minval, maxval, _dtype(dtype))


@function("normal", since=13)
def normal(
    e: Emit, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
) -> Value:
    unit = _drawn(e, "RandomNormal", shape)
    scaled = e.binary("Mul", unit, e.tensor(stddev, "float32"))
    return e.cast(e.binary("Add", scaled, e.tensor(mean, "float32")), _dtype(dtype))


@function("randint", since=13)
def randint(e: Emit, shape: Any, minval: Any, maxval: Any, dtype: Any = "int32", seed: Any = None) -> Value:
    drawn = uniform_between(e, shape, minval, maxval, "float32")
    return e.cast(e.unary("Floor", drawn), _dtype(dtype))


@function("shuffle", since=13)
def shuffle(e: Emit, x: Value, axis: int = 0, seed: Any = None) -> Value:
    """Entries along an axis in the order of as many random numbers."""
    size = x.dims[axis]
    keys = _drawn(e, "RandomUniform", (size,))
    _, order = e.nodes("TopK", keys, e.size(size), outputs=[("float32", (size,)), ("int64", (size,))], axis=0)
    return e.node("Gather", x, order, shape=x.shape, axis=axis)


@function("dropout", since=13)
def dropout(e: Emit, inputs: Value, rate: float, noise_shape: Any = None, seed: Any = None) -> Value:
    """Dropout that drops at inference too, as ``keras.random.dropout`` does whenever it is called."""
    if rate <= 0:
        return inputs
    if noise_shape is None:
        return e.node(
            "Dropout", inputs, e.scalar(rate, "float32"), e.scalar(True, "bool"), shape=inputs.shape
        )
    dims = [d if wanted is None else wanted for d, wanted in zip(inputs.dims, noise_shape, strict=True)]
    keep = e.binary(
        "GreaterOrEqual", _drawn(e, "RandomUniform", dims), e.scalar(rate, "float32"), dtype="bool"
    )
    scaled = e.binary("Mul", inputs, e.like(1 / (1 - rate), inputs))
    return e.node("Where", keep, scaled, e.like(0, inputs), dtype=inputs.dtype, shape=inputs.shape)


@function("categorical", since=13)
def categorical(e: Emit, logits: Value, num_samples: int, dtype: Any = "int64", seed: Any = None) -> Value:
    shape = (logits.dims[0], num_samples)
    drawn = e.node(
        "Multinomial", e.cast(logits, "float32"), dtype="int64", shape=shape, sample_size=num_samples
    )
    return e.cast(drawn, _dtype(dtype))
