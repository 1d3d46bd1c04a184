"""Quantised models (`model.quantize`) against Keras itself: layer x mode, both forms of the graph, both doors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from cases.sessions import session_of
from keras import layers, quantizers

import interop
from interop.capture.keras import capture, paths
from interop.errors import UnsupportedOp
from interop.graph.passes import optimized
from models.randomize import relative_std

# Keras says of each layer that it passes over that it cannot be quantised so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method"),
    pytest.mark.filterwarnings("ignore:Invalid quantization mode"),
    pytest.mark.filterwarnings("ignore:.*The use of `x.T` on tensors"),  # Keras transposes a vector of scales
]

NARROW = {"INT8", "UINT8", "INT4", "UINT4", "FLOAT8E4M3FN"}

#: Name -> arguments of ``quantize``. Int4 is by groups of 128 inputs unless said otherwise.
MODES: dict[str, Callable[[], dict[str, Any]]] = {
    "int8": lambda: {"mode": "int8"},
    "int8-weights": lambda: {"config": quantizers.Int8QuantizationConfig(activation_quantizer=None)},
    "int4": lambda: {"mode": "int4"},
    "int4-groups": lambda: {"config": quantizers.Int4QuantizationConfig(block_size=4)},
    "int4-channels": lambda: {"config": quantizers.Int4QuantizationConfig(block_size=None)},
    "int4-activations": lambda: {
        "config": quantizers.Int4QuantizationConfig(
            block_size=-1, activation_quantizer=quantizers.AbsMaxQuantizer()
        )
    },
    "float8": lambda: {"mode": "float8"},
}

WEIGHTS = ("int8", "int4-groups", "int4-channels")


@dataclass(frozen=True)
class Row:
    """A layer to quantise.

    Attributes:
        id: of the row.
        layer: makes it.
        shape: of its input, without the batch; None is dynamic.
        call: the layer on its input.
        tokens: whether the input is indices.
        modes: what Keras quantises it to.
        lora: rank of the adapter that it gets after it was quantised.
    """

    id: str
    layer: Callable[[], Any]
    shape: tuple[int | None, ...] = (None, 10)
    call: Callable[[Any, Any], Any] = lambda layer, x: layer(x)
    tokens: bool = False
    modes: tuple[str, ...] = tuple(MODES)
    lora: int = 0


def _tied(layer: Any, x: Any) -> Any:
    return layer(layer(x), reverse=True)


ROWS = [
    Row(
        "Dense", lambda: layers.Dense(5, activation="relu", name="dense"), (7,)
    ),  # odd sizes: half a byte is left over
    Row(
        "Dense-time", lambda: layers.Dense(6, use_bias=False, name="dense"), modes=("int8", "int4", "float8")
    ),
    Row("Dense-lora", lambda: layers.Dense(6), modes=("int8", "int4-groups", "int4-channels"), lora=2),
    Row("EinsumDense", lambda: layers.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d")),
    Row(
        "EinsumDense-heads",
        lambda: layers.EinsumDense("abc,cde->abde", (None, 3, 2), bias_axes="de"),
        modes=("int8", "int8-weights", "int4-groups", "int4-activations"),
    ),
    Row(
        "EinsumDense-join",
        lambda: layers.EinsumDense("abde,dec->abc", (None, 5)),
        (None, 3, 4),
        modes=("int8", "int4", "int4-channels", "float8"),
    ),
    Row(
        "EinsumDense-reordered", lambda: layers.EinsumDense("abc,cd->adb", (5, None)), modes=("int8", "int4")
    ),
    Row(
        "EinsumDense-lora",
        lambda: layers.EinsumDense("abc,cd->abd", (None, 6)),
        modes=("int8", "int4-groups"),
        lora=2,
    ),
    Row("Embedding", lambda: layers.Embedding(10, 7), (None,), tokens=True, modes=WEIGHTS),
    Row("Embedding-lora", lambda: layers.Embedding(10, 7), (None,), tokens=True, modes=("int8",), lora=2),
    Row(
        "ReversibleEmbedding",
        lambda: layers.ReversibleEmbedding(10, 7),
        (None,),
        _tied,
        True,
        (*WEIGHTS, "int4-activations"),
    ),
    Row(
        "ReversibleEmbedding-untied",
        lambda: layers.ReversibleEmbedding(10, 7, tie_weights=False, logit_soft_cap=2.0),
        (None,),
        _tied,
        True,
        ("int8-weights", "int4-groups", "int4-channels"),
    ),
    Row(
        "MultiHeadAttention",
        lambda: layers.MultiHeadAttention(2, 4),
        (None, 8),
        lambda layer, x: layer(x, x),
        modes=("int8", "int4", "float8"),
    ),
    Row("TimeDistributed", lambda: layers.TimeDistributed(layers.Dense(3)), modes=("int8", "int4")),
]

CASES = [pytest.param(row, mode, id=f"{row.id}-{mode}") for row in ROWS for mode in row.modes]


def quantised(row: Row, mode: str) -> Any:
    """The layer in a model, weights drawn, then quantised."""
    x = keras.Input(row.shape, dtype="int32" if row.tokens else "float32", name="x")
    layer = row.layer()
    model = keras.Model(x, row.call(layer, x))
    return quantise(model, mode, layer if row.lora else None, row.lora)


def quantise(model: Any, mode: str, adapted: Any = None, rank: int = 0) -> Any:
    rng = np.random.default_rng(3)
    for variable in model.weights:
        if len(variable.shape) > 1:
            variable.assign(0.5 * rng.standard_normal(variable.shape))
    model.quantize(**MODES[mode]())
    if adapted is not None:
        adapted.enable_lora(rank)
    for variable in model.weights:
        if mode == "float8" and variable.name in ("inputs_scale", "kernel_scale"):
            variable.assign(0.013)  # as training leaves them: no powers of two
        elif variable.name.startswith("lora"):
            variable.assign(0.3 * rng.standard_normal(variable.shape))
        elif variable.name == "bias":
            variable.assign(0.1 * rng.standard_normal(variable.shape))
    return model


def arrays(row: Row, size: int) -> np.ndarray:
    rng = np.random.default_rng(17 + size)
    shape = [2 + 3 * size, *(3 + 2 * size if dim is None else dim for dim in row.shape)]
    return (
        rng.integers(0, 10, shape).astype("int32")
        if row.tokens
        else rng.standard_normal(shape).astype("float32")
    )


def agrees(session: onnxruntime.InferenceSession, model: Any, row: Row) -> None:
    for size in (0, 1):
        x = arrays(row, size)
        wanted = keras.ops.convert_to_numpy(model(x, training=False))
        assert relative_std(wanted) > 1e-2, "the comparison would prove nothing"
        (got,) = session.run(None, {"x": x})
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        # Sums of integers are exact; what is left is the order of a few float operations.
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=3e-6)


def stored(graph: Any) -> dict[str, tuple[str, int]]:
    """Element type and element count of every initializer."""
    return {
        name: (value.const_value.dtype.name, int(value.const_value.size))
        for name, value in graph.graph.initializers.items()
    }


@pytest.mark.parametrize(("row", "mode"), CASES)
def test_layer(row: Row, mode: str) -> None:
    model = quantised(row, mode)
    captured = capture(model, opset=21)
    flat = optimized(captured.flat())
    agrees(session_of(flat), model, row)
    agrees(session_of(captured.with_functions()), model, row)
    narrow = [size for dtype, size in stored(flat).values() if dtype in NARROW]
    assert narrow
    if not row.lora:
        wide = [size for dtype, size in stored(flat).values() if dtype not in NARROW]
        assert max(wide, default=0) < max(narrow), "weights were written dequantised"
    if mode.startswith("int4"):
        assert any(dtype == "INT4" for dtype, _ in stored(flat).values())


@pytest.mark.parametrize(("mode", "operators"), [("int8", {"MatMulInteger"}), ("int4", {"DequantizeLinear"})])
def test_operators_of_the_plain_graph(mode: str, operators: set[str]) -> None:
    flat = optimized(capture(quantised(ROWS[0], mode), opset=21).flat())
    assert operators <= {node.op_type for node in flat.graph}


@pytest.mark.parametrize("mode", ["int8", "int4", "int4-channels"])
def test_the_lowest_opset_keeps_the_packed_bytes(mode: str) -> None:
    model = quantised(ROWS[0], mode)
    flat = optimized(capture(model, opset=17).flat())
    agrees(session_of(flat), model, ROWS[0])
    assert stored(flat)["dense/kernel"] == ("INT8", 21 if "int4" in mode else 35)


def test_float8_below_its_opset_is_an_error_that_names_the_cast() -> None:
    with pytest.raises(UnsupportedOp, match=r"'dense'.*Cast to float8_e4m3fn needs opset 19.*opset 18"):
        capture(quantised(ROWS[0], "float8"), opset=18)


def test_rounded_activations_in_half_floats(tmp_path: Path) -> None:
    model = quantise(block(), "int8")
    interop.export_onnx(model, tmp_path / "half.onnx", dtype="float16", io_dtype="float32")
    kinds = {t.name: t.dtype for t in interop.inspect(tmp_path / "half.onnx").tensors}
    assert (kinds["up/kernel"], kinds["up/kernel_scale"]) == ("int8", "float16")


@pytest.mark.parametrize("policy", ["float16", "mixed_float16"])
def test_half_floats_with_weights_of_four_bits(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = quantised(ROWS[1], "int4-groups")
    finally:
        keras.config.set_dtype_policy("float32")
    flat = optimized(capture(model, opset=21).flat())
    x = arrays(ROWS[1], 1)
    (got,) = session_of(flat).run(None, {"x": x})
    wanted = keras.ops.convert_to_numpy(model(x, training=False))
    # Ten products are summed in half precision.
    np.testing.assert_allclose(got.astype("float32"), wanted.astype("float32"), rtol=1e-2, atol=5e-3)
    assert stored(flat)["dense/kernel"][0] == "INT4"


@pytest.mark.parametrize("mode", ["int8", "int4-groups", "float8"])
@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_bfloat16(policy: str, mode: str, tmp_path: Path) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = quantised(ROWS[1], mode)
    finally:
        keras.config.set_dtype_policy("float32")
    interop.save_model(model, tmp_path / "m")
    graph, again = interop.load_graph(tmp_path / "m"), interop.load_model(tmp_path / "m")
    interop.export_onnx(model, tmp_path / "m.onnx")
    for size in (0, 1):
        x = arrays(ROWS[1], size)
        wanted = keras.ops.convert_to_numpy(model(x, training=False)).astype("float32")
        assert relative_std(wanted) > 1e-2, "the comparison would prove nothing"
        # bfloat16 has eight bits: two roundings of the sum of ten products.
        np.testing.assert_allclose(graph(x).astype("float32"), wanted, rtol=2**-7, atol=2**-7)
        found = keras.ops.convert_to_numpy(again(x, training=False)).astype("float32")
        np.testing.assert_array_equal(found, wanted)


def block(width: int = 16) -> Any:
    """A small decoder with every layer that Keras quantises."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    embedding = layers.ReversibleEmbedding(20, width, name="embedding")
    x = embedding(tokens)
    attended = layers.MultiHeadAttention(2, width // 2, name="attention")(x, x, use_causal_mask=True)
    x = layers.LayerNormalization(name="norm")(x + attended)
    x = x + layers.Dense(width, name="down")(layers.Dense(2 * width, activation="gelu", name="up")(x))
    return keras.Model(tokens, embedding(x, reverse=True), name="decoder")


TOKENS = np.random.default_rng(5).integers(0, 20, (3, 7)).astype("int32")


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_a_transformer_through_both_doors(mode: str, tmp_path: Path) -> None:
    model = quantise(block(), mode)
    wanted = keras.ops.convert_to_numpy(model(TOKENS))
    # A value on the border of two steps may be rounded either way: verify's tolerance has a share for that.
    near = {"rtol": 1e-4, "atol": 0.02 * float(np.sqrt(np.mean(wanted**2))) if mode == "int8" else 1e-4}
    if mode == "float8":
        near["atol"] = 0.15 * float(np.sqrt(np.mean(wanted**2)))
    path = tmp_path / "decoder.interop"
    interop.save_model(model, path)
    if mode == "int8":
        interop.verify(model, path).raise_if_failed()
    np.testing.assert_allclose(interop.load_graph(path)(TOKENS), wanted, **near)
    again = interop.load_model(path)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(TOKENS)), wanted)
    assert list(paths.named_variables(again)) == list(paths.named_variables(model))
    tensors = interop.load_tensors(path)
    for key, variable in paths.named_variables(model).items():
        assert (str(tensors[key].dtype), tensors[key].shape) == (variable.dtype, tuple(variable.shape))
    summary = interop.export_onnx(model, tmp_path / "decoder.onnx", verify=mode == "int4")
    assert summary.opset == (21 if "int4" in mode else 20)
    (got,) = onnxruntime.InferenceSession(tmp_path / "decoder.onnx").run(None, {"tokens": TOKENS})
    np.testing.assert_allclose(got, wanted, **near)
    (kernel,) = (t for t in interop.inspect(path).tensors if t.name == "up/kernel")
    assert (kernel.dtype, kernel.size_bytes) == {
        "int8": ("int8", 512),
        "int4": ("int8", 256),  # two weights in each
        "float8": ("float32", 2048),  # Keras keeps the kernel it trains
    }[mode]
    if mode == "int4":
        (kernel,) = (t for t in interop.inspect(tmp_path / "decoder.onnx").tensors if t.name == "up/kernel")
        assert (kernel.dtype, kernel.shape, kernel.size_bytes) == ("int4", (16, 32), 256)


MILLION = {"int8": 1.0, "int4": 0.5, "int4-channels": 0.5, "float8": 1.0}


@pytest.mark.parametrize("mode", MILLION)
def test_a_million_weights_take_their_bytes_and_no_more(mode: str, tmp_path: Path) -> None:
    x = keras.Input((1024,), name="x")
    model = keras.Model(x, layers.Dense(1024, name="dense")(x))
    model.quantize(**MODES[mode]())
    size = interop.export_onnx(model, tmp_path / "m.onnx", verify=False).size_bytes
    # Scales and zero points of 8 groups come to 40 KB, the graph to a few.
    assert MILLION[mode] * 2**20 <= size < MILLION[mode] * 2**20 + 60_000
    if mode != "float8":  # Keras keeps the kernel it trains in float32
        size = interop.save_model(model, tmp_path / "m.interop").files["weights.safetensors"]
        assert size < MILLION[mode] * 2**20 + 80_000
        size = interop.convert(tmp_path / "m.interop", tmp_path / "again.onnx", verify=False).size_bytes
        assert size < MILLION[mode] * 2**20 + 80_000


CALIBRATED = {
    "gptq-4": lambda: quantizers.GPTQConfig(weight_bits=4, group_size=4, **_calibration()),
    "gptq-8": lambda: quantizers.GPTQConfig(weight_bits=8, group_size=4, **_calibration()),
    "awq": lambda: quantizers.AWQConfig(group_size=4, **_calibration()),
}


def _calibration() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    samples = [rng.integers(0, 20, (1, 8)).astype("int32") for _ in range(2)]
    return {"dataset": samples, "tokenizer": lambda text: text, "num_samples": 2, "sequence_length": 8}


@pytest.mark.framework("tensorflow", "torch")  # JAX compiles each calibration for half a minute
@pytest.mark.parametrize("mode", CALIBRATED)
def test_calibrated_on_data(mode: str, tmp_path: Path) -> None:
    tokens, inner = keras.Input((None,), dtype="int32", name="tokens"), keras.Input((None, 8))
    embedding = layers.Embedding(20, 8)
    part = keras.Model(inner, layers.Dense(6)(layers.Dense(12, activation="relu")(inner)), name="part")
    model = keras.Model(tokens, part(embedding(tokens)))
    rng = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(0.5 * rng.standard_normal(variable.shape))
    config = CALIBRATED[mode]()
    config.quantization_layer_structure = {"pre_block_layers": [embedding], "sequential_blocks": [part]}
    model.quantize(config=config)
    wanted = keras.ops.convert_to_numpy(model(TOKENS))
    interop.save_model(model, tmp_path / "m")
    # The dequantised kernel is computed in another order: a last bit of each product.
    np.testing.assert_allclose(interop.load_graph(tmp_path / "m")(TOKENS), wanted, rtol=1e-4, atol=1e-5)
    again = interop.load_model(tmp_path / "m")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(TOKENS)), wanted)
    interop.export_onnx(model, tmp_path / "m.onnx", verify=False)
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert (onnx.TensorProto.UINT8 if mode == "gptq-8" else onnx.TensorProto.UINT4) in kinds


ELSEWHERE = """
import sys, keras, numpy as np, interop
for path in sys.argv[1:]:
    model = interop.load_model(path)
    np.save(f"{path}.npy", model.predict(np.load(f"{path}.in.npy"), verbose=0))
"""


@pytest.mark.framework("torch")
def test_another_backend_loads_it(tmp_path: Path) -> None:
    wanted = {}
    for mode in ("int8", "int4-groups", "float8"):
        model = quantise(block(), mode)
        interop.save_model(model, tmp_path / mode)
        np.save(tmp_path / f"{mode}.in.npy", TOKENS)
        wanted[mode] = keras.ops.convert_to_numpy(model(TOKENS))
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", ELSEWHERE, *(str(tmp_path / mode) for mode in wanted)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    for mode, outputs in wanted.items():
        # A value on the border of two steps may be rounded either way on another backend.
        share = {"int8": 0.02, "float8": 0.15}.get(mode, 1e-5) * float(np.sqrt(np.mean(outputs**2)))
        np.testing.assert_allclose(np.load(tmp_path / f"{mode}.npy"), outputs, rtol=1e-4, atol=share)
