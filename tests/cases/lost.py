"""Models of classes and functions that only the process that saves them has: ``python -m tests.cases.lost folder``.

Writes for each model ``<name>.interop``, and ``<name>.npz`` with inputs and outputs at two sizes of every open
dimension and the keys of its variables. Nobody else imports this module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops


class CustomModel(keras.Model):
    """The guide's: no get_config, layers in a list."""

    def __init__(self, hidden_units: list[int]) -> None:
        super().__init__()
        self.hidden_units = hidden_units
        self.dense_layers = [layers.Dense(u) for u in hidden_units]

    def call(self, inputs: Any) -> Any:
        x = inputs
        for layer in self.dense_layers:
            x = layer(x)
        return x


class Scaled(layers.Layer):
    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: Any) -> None:
        self.w = self.add_weight(shape=(input_shape[-1], self.units), name="w")
        self._scale = self.add_weight(shape=(), initializer="ones", trainable=False, name="scale")

    def call(self, x: Any) -> Any:
        return self._scale * ops.matmul(x, self.w)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.units)


class Block(layers.Layer):
    """Known layers inside, some of which train otherwise than they predict."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.inner = Scaled(units)
        self.norm = layers.BatchNormalization(momentum=0.5)
        self.drop = layers.Dropout(0.5)
        self.unused = keras.Sequential()

    def call(self, x: Any, training: bool | None = None) -> Any:
        return self.drop(self.norm(self.inner(x), training=training), training=training)


class Nested(keras.Model):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks = {"first": Block(8), "second": Block(8)}
        self.tail = keras.Sequential([layers.Dense(4, activation="relu"), Scaled(3)])

    def call(self, x: Any, training: bool | None = None) -> Any:
        x = self.blocks["first"](x, training=training)
        return self.tail(self.blocks["second"](x, training=training))


class Structured(keras.Model):
    """Dicts in, a dict and a list out, time open."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.a, self.b = layers.Dense(4), layers.Dense(4)

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        x = self.a(inputs["left"]) + self.b(inputs["right"])[:, None]
        return {"sum": x, "stats": [ops.mean(x, axis=1), ops.shape(x)[1] * ops.max(x, axis=(1, 2))]}


class Halves(layers.Layer):
    """A dict whose keys are in no order, of results of one shape."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.one, self.other = layers.Dense(4), layers.Dense(4, activation="relu")

    def call(self, x: Any) -> dict[str, Any]:
        return {"out": self.one(x), "aux": [self.other(x)]}


class Halving(keras.Model):
    """Lost layers in a lost model, and a dict between them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks = [Halves(), Halves()]

    def call(self, x: Any) -> dict[str, Any]:
        halves = self.blocks[0](x)
        return self.blocks[1](halves["out"] - 2.0 * halves["aux"][0])


class Attending(layers.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.attention = layers.MultiHeadAttention(2, 4)
        self.norm = layers.LayerNormalization()

    def build(self, shape: Any) -> None:
        self.attention.build(shape, shape)
        self.norm.build(shape)
        self.positions = self.add_weight(shape=(128, shape[-1]), name="positions")

    def call(self, x: Any, mask: Any = None) -> Any:
        x = x + self.positions[: ops.shape(x)[1]]
        allowed = None if mask is None else ops.expand_dims(mask, 1)
        return self.norm(x + self.attention(x, x, attention_mask=allowed)), ops.sum(x, axis=-1)


class Pooled(layers.Layer):
    """Uses the mask, and passes it on."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.rnn = layers.LSTM(4, return_sequences=True)

    def call(self, x: Any, mask: Any = None) -> Any:
        y = self.rnn(x, mask=mask)
        return y * ops.cast(ops.expand_dims(mask, -1), y.dtype)


class Averaged(layers.Layer):
    """Uses the mask, and ends it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x: Any, mask: Any = None) -> Any:
        weights = ops.cast(ops.expand_dims(mask, -1), x.dtype)
        return ops.sum(x * weights, axis=1) / (1.0 + ops.sum(weights, axis=1))

    def compute_mask(self, x: Any, mask: Any = None) -> None:
        return None


class Noisy(layers.Layer):
    """A seed and a count of its own, and a loss."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(3)
        self.count = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call(self, x: Any, training: bool | None = None) -> Any:
        self.add_loss(1e-3 * ops.mean(ops.square(x)))
        if training:
            self.count.assign_add(1)
            return x + keras.random.normal(ops.shape(x), seed=self.generator)
        return x


class Tied(layers.Layer):
    """Uses the embedding of another layer."""

    def __init__(self, embedding: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.embedding = embedding

    def call(self, x: Any) -> Any:
        return (
            ops.matmul(x, ops.transpose(self.embedding.embeddings))
            + self.embedding(ops.ones((1, 1), "int32"))[:, :, :1]
        )


class Functional(keras.Model):
    """A functional model with a class of its own."""

    def __init__(self, **kwargs: Any) -> None:
        x = keras.Input((6,))
        super().__init__(x, Scaled(3, name="scaled")(layers.Dense(5, name="hidden")(x)), **kwargs)


class Cell(layers.Layer):
    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state_size = units
        self.dense = layers.Dense(units)

    def build(self, shape: Any) -> None:
        self.dense.build((shape[0], shape[-1] + self.state_size))

    def call(self, x: Any, states: Any) -> Any:
        y = ops.tanh(self.dense(ops.concatenate([x, states[0]], -1)))
        return y, [y]


class Holding(layers.Layer):
    """A layer of Keras inside, which is quantized."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = layers.Dense(4)

    def build(self, shape: Any) -> None:
        self.inner.build(shape)

    def call(self, x: Any) -> Any:
        return ops.relu(self.inner(x))


class OwnDense(layers.Dense):
    """A class of Keras by another name, which can be quantized."""


class OwnMetric(keras.metrics.MeanSquaredError):
    """A metric by another name."""


class OwnAdam(keras.optimizers.Adam):
    """An optimizer by another name."""


def my_activation(x: Any) -> Any:
    return ops.square(ops.tanh(x))


def my_initializer(shape: Any, dtype: Any = None) -> Any:
    return ops.ones(shape, dtype)


def my_regularizer(w: Any) -> Any:
    return 0.1 * ops.sum(ops.square(w))


def my_loss(y: Any, p: Any) -> Any:
    return ops.mean(ops.square(y - p), -1)


def _layers() -> keras.Model:
    x = keras.Input((None, 6), name="x")
    y = Scaled(8, name="scaled")(x)
    y = layers.Dense(8, activation=my_activation, name="dense")(y)
    inner = keras.Input((None, 8))
    block = keras.Model(inner, Scaled(8, name="deep")(inner), name="nested")
    y = layers.Activation(my_activation, name="square")(block(y))
    return keras.Model(x, layers.Lambda(lambda t: t * 2.0, name="double")(y))


def _shared() -> keras.Model:
    a, b = keras.Input((6,), name="a"), keras.Input((None, 6), name="b")
    scaled = Scaled(4, name="scaled")
    return keras.Model([a, b], [scaled(a), scaled(b)])


def _masked() -> keras.Model:
    x = keras.Input((None,), dtype="int32", name="x")
    y = layers.Embedding(9, 8, mask_zero=True, name="embedding")(x)
    y = Pooled(name="pooled")(y)
    y, _ = Attending(name="attending")(y)
    return keras.Model(x, layers.Dense(3, name="out")(y))


def _averaged() -> keras.Model:
    x = keras.Input((None,), dtype="int32", name="x")
    y = layers.Embedding(9, 8, mask_zero=True, name="embedding")(x)
    return keras.Model(x, layers.Dense(3, name="out")(Averaged(name="averaged")(y)))


def _tied() -> keras.Model:
    embedding = layers.Embedding(9, 6, name="embedding")
    x = keras.Input((None,), dtype="int32", name="x")
    return keras.Model(x, Tied(embedding, name="tied")(Noisy(name="noisy")(embedding(x))))


def _dispensable() -> keras.Model:
    made = layers.Dense(3, kernel_initializer=my_initializer, kernel_regularizer=my_regularizer, name="dense")
    model = keras.Sequential([keras.Input((6,)), made, Scaled(3, name="scaled")])
    model.compile("adam", my_loss)
    return model


def _half() -> keras.Model:
    x = keras.Input((6,), name="x")
    y = Block(8, dtype="mixed_float16", name="block")(x)
    return keras.Model(x, Scaled(3, dtype="float32", name="scaled")(y))


def _cell() -> keras.Model:
    x = keras.Input((None, 6), name="x")
    return keras.Model(x, layers.RNN(Cell(4), return_sequences=True, name="rnn")(x))


def _timed() -> keras.Model:
    x = keras.Input((None, 6), name="x")
    return keras.Model(x, layers.TimeDistributed(Scaled(4, name="scaled"), name="timed")(x))


def _quantized() -> keras.Model:
    made = [OwnDense(5, name="own"), Holding(name="holding"), layers.Dense(3, name="out")]
    model = keras.Sequential([keras.Input((6,)), *made])
    model.quantize("int8")
    return model


def _compiled(optimizer: Any, *metrics: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, name="dense")])
    model.compile(optimizer, "mse", metrics=list(metrics))
    return model


def floats(*shapes: tuple[int, ...]) -> list[Any]:
    """One array for each shape."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype("float32") for shape in shapes]


def tokens(*shapes: tuple[int, int]) -> list[Any]:
    """Numbers from 1, with zeros at the end."""
    made = [np.random.default_rng(1).integers(1, 9, shape).astype("int32") for shape in shapes]
    for array in made:
        array[0, -2:] = 0
    return made


# Name -> (model, what it is called with, twice).
MODELS: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "guide": (lambda: CustomModel([16, 16, 10]), floats((1, 5), (4, 5))),
    "layers": (_layers, floats((2, 3, 6), (3, 5, 6))),
    "nested": (Nested, floats((5, 6), (3, 6))),
    "structured": (
        Structured,
        [{"left": a, "right": b} for a, b in (floats((2, 3, 5), (2, 4)), floats((3, 4, 5), (3, 4)))],
    ),
    "halves": (Halving, floats((2, 6), (3, 6))),
    "shared": (_shared, [floats((2, 6), (2, 3, 6)), floats((3, 6), (3, 4, 6))]),
    "masked": (_masked, tokens((2, 5), (3, 7))),
    "averaged": (_averaged, tokens((2, 5), (3, 7))),
    "tied": (_tied, tokens((2, 5), (3, 7))),
    "dispensable": (_dispensable, floats((2, 6), (3, 6))),
    "functional": (Functional, floats((2, 6), (3, 6))),
    "half": (_half, floats((2, 6), (3, 6))),
    "cell": (_cell, floats((2, 3, 6), (3, 4, 6))),
    "timed": (_timed, floats((2, 3, 6), (3, 4, 6))),
    "quantized": (_quantized, floats((2, 6), (3, 6))),
    "measured": (lambda: _compiled("adam", OwnMetric()), floats((2, 6), (3, 6))),
    "optimized": (lambda: _compiled(OwnAdam()), floats((2, 6), (3, 6))),
}

# What the first call does not tell.
SIGNATURES: dict[str, Any] = {"structured": {"left": (None, None, 5), "right": (None, 4)}}


def _shift(model: Any) -> None:
    """No weight stays zero or one."""
    rng = np.random.default_rng(2)
    for variable in model.variables:
        if "float" in variable.dtype:
            value = keras.ops.convert_to_numpy(variable)
            variable.assign(value + 0.2 * np.abs(rng.standard_normal(value.shape)))


def write(folder: Path) -> None:
    """Save every model with what it gives."""
    import interop
    from interop.capture.keras import paths

    for name, (build, inputs) in MODELS.items():
        keras.utils.set_random_seed(1)
        model = build()
        model(inputs[0])
        _shift(model)
        summary = interop.save_model(model, folder / f"{name}.interop", input_signature=SIGNATURES.get(name))
        assert all("no get_config" in w or "lambda" in w for w in summary.warnings), summary.warnings
        held: dict[str, Any] = {"keys": np.asarray(sorted(paths.named_variables(model)))}
        for i, given in enumerate(inputs):
            outputs = keras.tree.flatten(model(given, training=False))
            held |= {f"x{i}_{j}": leaf for j, leaf in enumerate(keras.tree.flatten(given))}
            held |= {f"y{i}_{j}": keras.ops.convert_to_numpy(leaf) for j, leaf in enumerate(outputs)}
        np.savez(folder / f"{name}.npz", **held)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
