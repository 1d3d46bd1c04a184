"""Files of other exporters as Keras models: tf2onnx, jax2onnx of Keras and of Flax, and Keras' own.

The architectures of ``cases/architectures`` cover torch.onnx, by TorchScript too. Here a small model of Keras goes
through an exporter and ``import_onnx``: the same numbers at two batch sizes, the layers that are recognised, training,
and ``.keras``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from keras import layers

import interop
from interop.status import ImportReport
from models.randomize import randomize, relative_std


def mlp() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def convolutions() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def recurrent() -> keras.Model:
    return keras.Sequential(
        [keras.Input((5,), dtype="int32"), layers.Embedding(20, 8), layers.LSTM(6), layers.Dense(3)]
    )


def transformer() -> keras.Model:
    x = keras.Input((7, 8))
    y = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)]))
    z = layers.Dense(8)(layers.Dense(16, activation="relu")(y))
    return keras.Model(x, layers.LayerNormalization()(layers.Add()([y, z])))


def separable() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.SeparableConv2D(6, 3, padding="same"),
            layers.ReLU(6.0),
            layers.DepthwiseConv2D(3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


def upsampled() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(4, 3, padding="same"),
            layers.UpSampling2D(2),
            layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
            layers.UpSampling2D(2, interpolation="bilinear"),
            layers.Conv2D(2, 1),
        ]
    )


def by_keras(model: keras.Model, path: Path) -> None:
    """``Model.export``: TorchScript, tf2onnx, or tf2onnx of jax2tf."""
    model.export(str(path), format="onnx", verbose=False)


def by_tf2onnx(model: keras.Model, path: Path) -> None:
    import tensorflow as tf
    import tf2onnx

    (x,) = model.inputs
    signature = [tf.TensorSpec((None, *x.shape[1:]), x.dtype, name="x")]
    traced = tf.function(lambda x: model(x, training=False), input_signature=signature)
    tf2onnx.convert.from_function(traced, signature, opset=17, output_path=str(path))


def by_jax2onnx(model: keras.Model, path: Path) -> None:
    import jax
    from jax2onnx import to_onnx

    (x,) = model.inputs
    (batch,) = jax.export.symbolic_shape("batch")
    spec = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    onnx.save(to_onnx(lambda x: model(x, training=False), [spec]), path)


@dataclass(frozen=True)
class Source:
    """A model by way of an exporter.

    Attributes:
        export: writes the file.
        backend: of Keras, that the exporter reads.
        build: the model.
        layers: classes that are recognised, and how often; pools are among them.
    """

    export: Callable[[keras.Model, Path], None]
    backend: str
    build: Callable[[], keras.Model]
    layers: str

    @property
    def id(self) -> str:
        return f"{self.export.__name__}-{self.backend}-{self.build.__name__}"


ROWS = [
    Source(by_keras, "torch", convolutions, "Conv2D:2 Dense:1 MaxPooling2D:1"),
    Source(by_keras, "tensorflow", convolutions, "Conv2D:2 Dense:1 MaxPooling2D:1"),
    Source(by_keras, "tensorflow", mlp, "Dense:2"),
    Source(by_tf2onnx, "tensorflow", recurrent, "Dense:1 Embedding:1 LSTM:1"),
    Source(
        by_tf2onnx,
        "tensorflow",
        separable,
        "Dense:1 DepthwiseConv2D:1 GlobalAveragePooling2D:1 SeparableConv2D:1",
    ),
    Source(by_tf2onnx, "tensorflow", transformer, "Dense:2 LayerNormalization:2 MultiHeadAttention:1"),
    Source(by_tf2onnx, "tensorflow", upsampled, "Conv2D:2 Conv2DTranspose:1"),
    Source(by_jax2onnx, "jax", mlp, "BatchNormalization:1 Dense:2"),
    Source(
        by_jax2onnx,
        "jax",
        separable,
        "BatchNormalization:1 Dense:1 DepthwiseConv2D:1 GlobalAveragePooling2D:1 SeparableConv2D:1",
    ),
    Source(by_keras, "jax", convolutions, "BatchNormalization:1 Conv2D:2 Dense:1"),
]


def numbers(x: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(x))


def batch(model: keras.Model, size: int) -> np.ndarray:
    rng, (x,) = np.random.default_rng(size), model.inputs
    if x.dtype == "int32":
        return rng.integers(0, 20, (size, *x.shape[1:])).astype("int32")
    return rng.standard_normal((size, *x.shape[1:])).astype("float32")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.id, marks=pytest.mark.framework(row.backend)) for row in ROWS]
)
def test_source(row: Source, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = row.build()
    randomize(model, batch=batch(model, 8))
    model(batch(model, 2))
    row.export(model, tmp_path / "model.onnx")
    reports: list[ImportReport] = []
    made = interop.import_onnx(tmp_path / "model.onnx", report=reports)
    for size in (3, 5):
        x = batch(model, size)
        wanted, got = numbers(model(x, training=False)), numbers(made(x))
        assert relative_std(wanted) > 1e-2, "the comparison would prove nothing"
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))
    found = Counter(lifted.kind for lifted in reports[0].lifted)
    assert " ".join(f"{name}:{count}" for name, count in sorted(found.items())) == row.layers
    made.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numbers(again(x)), got)
    trains(again, batch(model, 8))


def flax_network(kind: str) -> tuple[Any, tuple[int, ...]]:
    """A network of Flax without parameters that are zero or one, and the shape of its input."""
    import jax
    from flax import nnx

    class Convolutions(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.conv = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs, use_running_average=True)
            self.head = nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.head(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))

    class Block(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.before, self.after = nnx.LayerNorm(8, rngs=rngs), nnx.LayerNorm(8, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
            self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = x + self.attention(self.before(x))
            return x + self.down(nnx.gelu(self.up(self.after(x))))

    module = {"convolutions": Convolutions, "block": Block}[kind](nnx.Rngs(0))
    module.eval()
    rng = np.random.default_rng(0)
    floats = nnx.state(module, lambda path, value: "float" in str(getattr(value, "dtype", "")))
    nnx.update(
        module, jax.tree.map(lambda x: x + 0.2 * np.abs(rng.standard_normal(x.shape)).astype(x.dtype), floats)
    )
    return module, (8, 8, 3) if kind == "convolutions" else (5, 8)


FLAX = {
    "convolutions": "BatchNormalization:1 Conv2D:1 Dense:1",
    "block": "Dense:2 LayerNormalization:2 MultiHeadAttention:1",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.framework("jax")
@pytest.mark.parametrize("kind", FLAX)
def test_network_of_flax(kind: str, tmp_path: Path) -> None:
    import jax
    from jax2onnx import to_onnx

    module, shape = flax_network(kind)
    (size,) = jax.export.symbolic_shape("batch")
    proto = to_onnx(lambda x: module(x), [jax.ShapeDtypeStruct((size, *shape), "float32")])
    reports: list[ImportReport] = []
    made = interop.import_onnx(proto, report=reports)
    for batch_size in (3, 5):
        x = np.random.default_rng(batch_size).standard_normal((batch_size, *shape)).astype("float32")
        wanted, got = np.asarray(module(x)), numbers(made(x))
        assert relative_std(wanted) > 1e-2, "the comparison would prove nothing"
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))
    found = Counter(lifted.kind for lifted in reports[0].lifted)
    assert " ".join(f"{name}:{count}" for name, count in sorted(found.items())) == FLAX[kind]
    made.save(tmp_path / "model.keras")
    trains(keras.saving.load_model(tmp_path / "model.keras"), np.concatenate([x, x]))


def trains(model: keras.Model, x: np.ndarray) -> None:
    """Every weight has a gradient, and the loss falls."""
    target = np.random.default_rng(0).standard_normal(numbers(model(x)).shape).astype("float32")
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    before = [numbers(weight).copy() for weight in model.trainable_weights]
    losses = [float(model.train_on_batch(x, target)) for _ in range(5)]
    assert losses[-1] < losses[0]
    for old, weight in zip(before, model.trainable_weights, strict=True):
        assert (old != numbers(weight)).any(), weight.path
