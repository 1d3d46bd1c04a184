"""``export_onnx(..., dtype=...)``: what is converted, what stays float32, and that nothing becomes NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from keras import layers, ops

import interop
from interop.capture.keras import capture
from interop.cli.main import main
from interop.errors import ParityError
from interop.graph.passes import optimized
from interop.graph.passes.precision import converted
from interop.parity import verify
from models.randomize import randomize, relative_std
from models.text import padded_tokens, text_classifier
from models.transformer import CausalTransformer

pytestmark = pytest.mark.framework("torch")  # a graph is converted without Keras: one backend shows it

RNG = np.random.default_rng(7)
TOLERANCE = {"float16": (2e-2, 2e-3), "bfloat16": (1e-1, 1e-2)}  # the published ones


def _convolutional() -> keras.Model:
    """A residual block, depthwise convolution and squeeze-and-excitation, with BatchNormalization after each."""
    x = inputs = keras.Input((None, None, 3), name="x")
    x = layers.Rescaling(1 / 127.5, -1)(x)
    for width in (8, 16):
        x = layers.Conv2D(width, 3, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        h = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        h = layers.Activation("swish")(layers.BatchNormalization()(h))
        gate = layers.Dense(width, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(h))
        x = layers.MaxPooling2D()(layers.Add()([x, h * gate]))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


def _images(size: int) -> np.ndarray:
    return RNG.uniform(0, 255, (4, size, size + 3, 3)).astype("float32")


def _tokens(length: int) -> np.ndarray:
    return RNG.integers(0, 64, (3, length)).astype("int32")


def _transformer() -> keras.Model:
    model = CausalTransformer()
    model(_tokens(8))
    return model


@dataclass(frozen=True)
class Whole:
    """A model and two batches of different sizes."""

    name: str
    build: Callable[[], keras.Model]
    batches: tuple[np.ndarray, np.ndarray]
    signature: Any = None


WHOLE = [
    Whole("convolutional", _convolutional, (_images(16), _images(21))),
    Whole("text", text_classifier, (padded_tokens(), padded_tokens(10))),
    Whole("transformer", _transformer, (_tokens(8), _tokens(13)), [(None, None)]),
]


@pytest.fixture(scope="module", params=WHOLE, ids=lambda whole: whole.name)
def whole(request: Any) -> tuple[Whole, keras.Model]:
    model = request.param.build()
    return request.param, randomize(model, batch=request.param.batches[0])


@pytest.mark.parametrize(
    ("dtype", "io_dtype"), [("float16", None), ("float16", "float32"), ("bfloat16", "float32")]
)
def test_whole_models(whole, tmp_path, dtype, io_dtype):
    case, model = whole
    path = tmp_path / "m.onnx"
    summary = interop.export_onnx(
        model, path, dtype=dtype, io_dtype=io_dtype, input_signature=case.signature
    )  # verified
    assert not summary.warnings
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(path).graph
    weights = {onnx.TensorProto.DataType.Name(t.data_type) for t in graph.initializer}
    assert weights - {"INT64", "INT32", "BOOL"} == {dtype.upper()}
    (face,) = {t.type.tensor_type.elem_type for t in graph.output}
    assert onnx.TensorProto.DataType.Name(face) == ("FLOAT" if io_dtype else dtype.upper())
    opened, (rtol, atol) = interop.load_graph(path), TOLERANCE[dtype]
    for batch in case.batches:
        wanted = ops.convert_to_numpy(model(batch, training=False))
        got = opened(batch)
        assert relative_std(wanted) > 1e-2
        # Against the model itself, the weights' own rounding counts too: atol is per unit of the largest output.
        scale = max(1.0, float(np.abs(wanted).max()))
        np.testing.assert_allclose(got.astype("float32"), wanted, rtol=rtol, atol=atol * scale)


# --- parts ----------------------------------------------------------------------------------------------


def _normalized(x: Any) -> Any:
    return x / ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True) + 1e-12)


def _masked(x: Any) -> Any:
    """Scores of which some rows are masked whole: uniform, and never NaN."""
    hidden = ops.cast(x[:, :, :1] < 0, x.dtype)
    return ops.softmax(x + hidden * -1e9, axis=-1)


def _selected(x: Any) -> Any:
    return ops.softmax(ops.where(x[:, :, :1] < 0, -1e9, x), axis=-1)


def _large(x: Any) -> Any:
    """Squares, sums and powers on the way leave the range of float16; the result does not."""
    big = x * 1000.0
    return ops.sqrt(ops.mean(big * big, axis=-1)) / 1000.0 + ops.sum(ops.exp(x * 10.0), axis=-1) * 1e-6


def _positions(x: Any) -> Any:
    """Positions beyond 2048 are not whole numbers in float16."""
    position = ops.cast(ops.arange(ops.shape(x)[1]) + 5000, "float32")
    return x + ops.sin(position * 0.7)[None, :, None]


def _counted(x: Any) -> Any:
    return ops.fori_loop(0, 4, lambda i, a: ops.tanh(a * 0.9) + 300.0 * x * 1e-3, x)


def _branched(x: Any) -> Any:
    return ops.cond(ops.sum(x) > 1e9, lambda: x * 2.0, lambda: x * 3.0)


def _looked_up(x: Any) -> Any:
    """Whole numbers that come in as floats and are looked up."""
    ids = ops.cast(ops.round(ops.abs(x) * 1500), "int32")
    return ops.cast(ids, "float32") / 1000.0


PARTS: dict[str, Callable[[Any], Any]] = {
    "epsilon": layers.Lambda(_normalized),
    "masked": layers.Lambda(_masked),
    "selected": layers.Lambda(_selected),
    "large": layers.Lambda(_large),
    "positions": layers.Lambda(_positions),
    "loop": layers.Lambda(_counted),
    "branch": layers.Lambda(_branched),
    "looked_up": layers.Lambda(_looked_up),
    "resize": lambda x: layers.Resizing(7, 9)(x[:, :, :, None]),
    "cumsum": lambda x: ops.cumsum(x, axis=1),
    "zeros": layers.Lambda(lambda x: x * 2.0 + ops.ones_like(x) + ops.zeros(ops.shape(x))),
    "custom_rnn": lambda x: layers.RNN(layers.LSTMCell(3, activation="gelu"), return_sequences=True)(x),
    "group_norm": lambda x: layers.GroupNormalization(2, epsilon=1e-9)(x * 300.0),
    "layer_norm": lambda x: layers.LayerNormalization(epsilon=1e-12)(x),
    "unit_norm": lambda x: layers.UnitNormalization()(x),
    "discretization": lambda x: layers.Discretization([-0.5, 0.0, 0.5], output_mode="one_hot")(
        ops.mean(x, 2)
    ),
    "normalization": lambda x: layers.Normalization(mean=70000.0, variance=1e10)(x * 1e5 + 7e4),
}


def _float16_of(model: keras.Model, io_dtype: str | None) -> bytes:
    graph = converted(optimized(capture(model).flat()), "float16", io_dtype=io_dtype)
    data = ir.serde.serialize_model(graph).SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    return data


@pytest.mark.parametrize("name", PARTS)
def test_parts(name: str, tmp_path: Path) -> None:
    x = keras.Input((None, 4), name="x")
    model = keras.Model(x, PARTS[name](x))
    if model.weights and name != "normalization":
        randomize(model, batch=RNG.standard_normal((3, 5, 4)).astype("float32"))
    (tmp_path / "m.onnx").write_bytes(_float16_of(model, "float32"))
    graph = interop.load_graph(tmp_path / "m.onnx")
    for length in (5, 8):
        batch = RNG.uniform(-1, 1, (3, length, 4)).astype("float32")
        batch[0, 0] = 0.0
        wanted, got = ops.convert_to_numpy(model(batch)), graph(batch)
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, wanted, rtol=2e-2, atol=2e-3)


def test_a_weight_that_overflows_stays_float32(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, use_bias=False), layers.Dense(2)])
    model.layers[0].kernel.assign([[1e6, 2.0], [-1e6, 1.0], [3e5, -2.0]])
    model.layers[1].kernel.assign([[1e-6, 2e-6], [1.0, -1.0]])
    interop.export_onnx(model, tmp_path / "m.onnx", dtype="float16", io_dtype="float32")
    types = sorted(t.data_type for t in onnx.load(tmp_path / "m.onnx").graph.initializer if len(t.dims) == 2)
    assert types == [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16]


@pytest.mark.parametrize("policy", ["float16", "mixed_float16"])
def test_back_to_float32(tmp_path, policy):
    x = keras.Input((6,), dtype="float32", name="x")
    hidden = layers.Dense(8, activation="tanh", dtype=policy)(x)
    model = randomize(keras.Model(x, layers.Dense(3, dtype=policy)(hidden)))
    path = tmp_path / "m.onnx"
    interop.export_onnx(model, path, dtype="float32")
    stored = onnx.load(path)
    assert {t.data_type for t in stored.graph.initializer} == {onnx.TensorProto.FLOAT}
    assert not [node for node in stored.graph.node if node.op_type == "Cast"]
    batch = RNG.standard_normal((4, 6)).astype("float32")
    wanted = ops.convert_to_numpy(ops.cast(model(batch), "float32"))
    rtol, atol = TOLERANCE["bfloat16" if policy == "bfloat16" else "float16"]
    np.testing.assert_allclose(interop.load_graph(path)(batch), wanted, rtol=rtol, atol=atol)


def test_from_an_artifact_and_from_the_command_line(tmp_path):
    model = randomize(keras.Sequential([keras.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(3)]))
    interop.save_model(model, tmp_path / "m")
    done = interop.convert(tmp_path / "m", tmp_path / "m.onnx", dtype="float16")
    assert done.parity is not None
    assert done.parity.passed
    assert {"batch=4", "batch=4 in float16"} <= {row.case for row in done.parity.rows}
    model.save(tmp_path / "m.keras")
    arguments = ["convert", str(tmp_path / "m.keras"), str(tmp_path / "n.onnx"), "--dtype", "float16"]
    assert main([*arguments, "--io-dtype", "float32"]) == 0
    assert interop.load_graph(tmp_path / "n.onnx").inputs[0].dtype == "float32"
    with pytest.raises(interop.errors.InteropError, match=r"dtype is for \.onnx files"):
        interop.convert(tmp_path / "m.keras", tmp_path / "o", dtype="float16")


def test_a_float16_graph_with_float32_faces_is_held_to_what_float16_can_give(tmp_path):
    model = randomize(keras.Sequential([keras.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(3)]))
    interop.export_onnx(model, tmp_path / "m.onnx", dtype="float16", io_dtype="float32")
    report = verify(model, tmp_path / "m.onnx")
    assert report.passed
    assert {row.rtol for row in report.rows} == {2e-2}


def test_a_wrong_conversion_is_not_written(tmp_path, monkeypatch):
    from interop import exporting

    def damaged(graph: Any, dtype: str, *, io_dtype: str | None = None) -> Any:
        for name, value in graph.graph.initializers.items():
            value.const_value = ir.tensor(value.const_value.numpy() * 1.1, name=name)
        return converted(graph, dtype, io_dtype=io_dtype)

    monkeypatch.setattr(exporting, "converted", damaged)
    model = randomize(keras.Sequential([keras.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(3)]))
    with pytest.raises(ParityError, match="in float16"):
        interop.export_onnx(model, tmp_path / "m.onnx", dtype="float16")
    assert not list(tmp_path.iterdir())
