"""Layers under every dtype policy against Keras itself under the same policy, both forms of the graph.

Every run checks a choice of rows; ``--full`` checks every row of ``tests/cases/layers`` under every policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import test_layers as rows
from cases import layers as table

import interop
from interop.artifact.signature import Signature
from interop.capture.keras import capture
from interop.formats.dtypes import numpy_dtype
from interop.graph.kernels import BFLOAT16, WITHOUT_FLOAT64, float64_gaps
from interop.loading import load_graph
from interop.parity.reference import passed_over, reference_side
from interop.parity.tolerance import tolerance_for

POLICIES = ("mixed_float16", "float16", "mixed_bfloat16", "bfloat16", "float64")

HALVES = ("float16", "bfloat16")

#: What every run checks: the operators that policies are used for, and each way a graph is made.
CHOSEN = {
    "Activation", "Dense", "Conv2D", "DepthwiseConv2D", "BatchNormalization", "LayerNormalization",
    "GroupNormalization", "LSTM-mask", "GRU", "RNN", "Bidirectional-concat", "MultiHeadAttention", "Embedding",
    "AveragePooling2D", "GlobalMaxPooling2D", "Softmax", "Resizing", "Normalization", "Add",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _policies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights are drawn in float32: PyTorch and JAX have no QR decomposition in half types."""
    draw = keras.initializers.Orthogonal.__call__
    monkeypatch.setattr(
        keras.initializers.Orthogonal,
        "__call__",
        lambda self, shape, dtype=None: keras.ops.cast(draw(self, shape, "float32"), dtype or "float32"),
    )
    yield
    keras.config.set_dtype_policy("float32")


#: Mixed policies only add casts: these show them.
CHOSEN_MIXED = {"Dense", "Conv2D", "LayerNormalization", "MultiHeadAttention"}

#: (backend, layer, policy, why Keras on that backend cannot run it on a CPU), the middle two as patterns.
CANNOT = [
    ("jax", "(MultiHead|GroupQuery)Attention", "float16", "JAX has no such product of float16"),
    (
        "jax",
        "Equalization",
        "float64",
        "it computes in float32 unless 64 bits are asked for; its graph has them",
    ),
    ("jax", "GRU-no_bias", "float16", "Keras' state becomes float32 within the scan"),
    ("torch", "AveragePooling3D", "float16", "PyTorch has no kernel in 16 bits"),
    ("tensorflow", "(Adaptive)?(Average|Max)Pooling3D", "float(16|64)", "TensorFlow has no kernel"),
    (
        "tensorflow",
        "CategoryEncoding-count|CategoryEncoding-multi|Discretization",
        "float16",
        "no DenseBincount",
    ),
    ("tensorflow", "TimeDistributed-mask_inside|Lambda-mask", "float", "it multiplies different types"),
    ("tensorflow", "MelSpectrogram", "float64", "it multiplies different types"),
    ("", "STFTSpectrogram", "bfloat16", "Keras refuses the type"),
]


def _cannot(case: table.LayerCase, policy: str) -> str:
    return next(
        (
            why
            for backend, layer, pattern, why in CANNOT
            if backend in ("", keras.backend.backend())
            and re.match(layer, case.id)
            and re.search(pattern, policy)
        ),
        "",
    )


def _cases() -> Iterator[Any]:
    for policy in POLICIES:
        chosen = CHOSEN_MIXED if policy.startswith("mixed") else CHOSEN
        for case in rows.CASES:
            marks = [] if case.id in chosen else [pytest.mark.full]
            if why := _cannot(case, policy):
                marks.append(pytest.mark.skip(reason=why))
            yield pytest.param(case, policy, id=f"{case.id}-{policy}", marks=marks)


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask attached")
@pytest.mark.filterwarnings("ignore:.*Explicitly requested dtype (int|float)64")
@pytest.mark.filterwarnings("ignore:(?s).*Explicitly requested dtype float64")  # JAX keeps it as float32
@pytest.mark.filterwarnings("ignore:(?s).*overflow encountered in cast")  # Keras' epsilon as a float16 on JAX
@pytest.mark.parametrize(("case", "policy"), _cases())
def test_layer(case: table.LayerCase, policy: str, tmp_path: Path) -> None:
    keras.config.set_dtype_policy(policy)
    model = rows.built(case)
    states = rows.states_of(model)
    signature = [rows.signature_of(case)] if case.model else None
    captured = capture(model, input_signature=signature, opset=case.opset)
    graphs = {"flat": captured.flat(), "functions": captured.with_functions()}
    for name, graph in graphs.items():
        ir.save(graph, tmp_path / f"{name}.onnx")
        onnx.checker.check_model(str(tmp_path / f"{name}.onnx"), full_check=True)
    if float64_gaps(graphs["flat"]) and passed_over(graphs["flat"]):
        pytest.skip("valid, but neither ONNX Runtime nor the reference evaluator runs it in float64")
    runs = [_runner(tmp_path / f"{name}.onnx", graph, captured.signature) for name, graph in graphs.items()]
    for size in (0, 1):
        arrays = rows.arrays_of(case, size)
        feed = {f"x{i}": array for i, array in enumerate(arrays)}
        got = [run(feed) for run in runs]
        if keras.backend.backend() not in case.backends:
            continue
        for variable, value in states:
            variable.assign(value)
        wanted = rows.reference(model, case, arrays)
        dtypes = list(case.dtypes) or [array.dtype.name for array in wanted]
        if not case.model and not case.dtypes and not case.direct:
            dtypes = [output.dtype for output in model.outputs]
            wanted = [
                array.astype(numpy_dtype(name)) if "float" in name and array.dtype.kind in "fV" else array
                for array, name in zip(wanted, dtypes, strict=True)
            ]
        for outputs in got:
            assert [array.dtype.name for array in outputs] == dtypes
            if not _rounds_in_another_place(case, policy):
                _compare(outputs, wanted, _computed_in(policy))


def _runner(
    path: Path, graph: Any, signature: Signature
) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """The graph on ONNX Runtime; on the reference evaluator where the table says that it has no float64 kernel."""
    names = [spec.name for spec in signature.inputs]
    if not float64_gaps(graph):
        opened = load_graph(path)
        return lambda feed: opened.run({name: feed[name] for name in names})
    side = reference_side(path)
    assert side is not None
    return lambda feed: side.run([feed[name] for name in names], signature)


def _computed_in(policy: str) -> str:
    """The coarsest type that Keras computes in: parts of a float64 model are in float32."""
    dtype = policy.removeprefix("mixed_")
    return "float32" if dtype == "float64" else dtype


def _rounds_in_another_place(case: table.LayerCase, policy: str) -> bool:
    """Rows of which Keras on this backend gives something else in half types than it does in float32.

    PyTorch adds a number to masked scores, in a wider type: where everything is masked, it is as if nothing was.
    """
    masked = "implicit_mask" in case.variant or "side_masks" in case.variant
    return keras.backend.backend() == "torch" and "Attention" in case.layer and masked and "float16" in policy


def _compare(got: list[np.ndarray], wanted: list[np.ndarray], computed_in: str) -> None:
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.shape == theirs.shape
        if ours.dtype.kind in "fV":
            tolerance = tolerance_for(ours.dtype.name, computed_in=frozenset({computed_in}))
            # A type narrower than the result's rounds the terms of a sum: what is left of large ones is off by a
            # part of those.
            finite = theirs.astype("float64")[np.isfinite(theirs)]
            narrower = computed_in in HALVES or computed_in != ours.dtype.name
            scale = float(np.abs(finite).max(initial=1.0)) if narrower else 1.0
            np.testing.assert_allclose(
                ours.astype("float64"),
                theirs.astype("float64"),
                rtol=tolerance.rtol,
                atol=tolerance.atol * scale,
            )
        else:
            np.testing.assert_array_equal(ours, theirs)


# --- what ONNX Runtime has ------------------------------------------------------------------------------

KERNELS = onnxruntime.capi.onnxruntime_pybind11_state.get_all_opkernel_def()
REFUSE_WHEN_RUN = {"GRU", "LSTM"}  # they have a kernel, which says that it does not do float64


def _has_kernel(op_type: str, parameter: str, text: str, opset: int) -> bool:
    return any(
        kernel.op_name == op_type
        and kernel.domain == ""
        and kernel.provider == "CPUExecutionProvider"
        and kernel.version_range[0] <= opset <= kernel.version_range[1]
        and text in kernel.type_constraints.get(parameter, [text])
        for kernel in KERNELS
    )


def _allowing(text: str) -> Iterator[tuple[str, str, int]]:
    """(operator, type parameter, opset) wherever ONNX has the type."""
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    for name in sorted(names):
        for opset in range(17, 24):
            try:
                schema = onnx.defs.get_schema(name, opset, "")
            except onnx.defs.SchemaError:
                continue  # newer than the opset
            for constraint in () if schema.deprecated else schema.type_constraints:
                if text in constraint.allowed_type_strs:
                    yield name, constraint.type_param_str, opset


@pytest.mark.parametrize("dtype", HALVES)
def test_a_product_of_what_was_turned_in_a_half_type(dtype: str, tmp_path: Path) -> None:
    """ONNX Runtime 1.32 dies of a Transpose that moves the batch, a Cast and a MatMul."""
    given = keras.Input((4, 16))
    turned = keras.ops.transpose(keras.ops.cast(given, dtype), (1, 0, 2))
    model = keras.Model(given, keras.layers.Dense(80, dtype="float32")(turned))
    interop.export_onnx(model, tmp_path / "turned.onnx")
    interop.save_model(model, tmp_path / "turned.interop")
    assert not interop.verify(model, tmp_path / "turned.interop").disagrees


def test_weights_of_bfloat16_are_written_as_such(tmp_path: Path) -> None:
    given = keras.Input((60,))
    model = keras.Model(given, keras.layers.Dense(80, dtype="bfloat16")(given))
    interop.export_onnx(model, tmp_path / "half.onnx", config=False)
    (weight,) = (each for each in onnx.load(tmp_path / "half.onnx").graph.initializer if len(each.dims) == 2)
    assert weight.data_type == onnx.TensorProto.BFLOAT16


@pytest.mark.framework("torch")
def test_bfloat16_is_computed_where_the_table_says() -> None:
    text, found = "tensor(bfloat16)", dict[str, bool]()
    for name, parameter, opset in _allowing(text):
        runs = name == "Constant" or _has_kernel(name, parameter, text, opset)
        found[f"{name}.{parameter}"] = found.get(f"{name}.{parameter}", True) and runs
    assert {key for key in BFLOAT16 if not found[key]} == set()


@pytest.mark.framework("torch")
def test_float64_is_missing_where_the_table_says() -> None:
    text = "tensor(double)"
    missing = {name for name, parameter, o in _allowing(text) if not _has_kernel(name, parameter, text, o)}
    assert missing >= WITHOUT_FLOAT64 - REFUSE_WHEN_RUN
