"""Captured graphs against Keras: two sizes of every dynamic dimension, both forms of the graph."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from cases import keras_models
from cases.sessions import session_of
from keras import layers, ops

import interop
from interop.artifact.tensors import Placement
from interop.capture.keras import capture, compat
from interop.errors import CaptureError, SpecializationError, UnsupportedOp
from interop.graph.passes import optimized
from models.applications import applications
from models.randomize import randomize, relative_std
from tools.full_run.comparison import compared
from tools.full_run.tables import Table

OPSETS = (17, 20, 23)


def run(graph: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    session = session_of(graph)
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def reference(model: Any, inputs: Any) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(leaf) for leaf in keras.tree.flatten(compat.inference(model)(inputs))]


def prepared(case: keras_models.Case) -> Any:
    inputs = case.inputs(np.random.default_rng(7), 0)
    return randomize(case.build(), batch=inputs if isinstance(inputs, np.ndarray) else None)


def compare(model: Any, graph: Any, case: keras_models.Case) -> None:
    rng = np.random.default_rng(7)
    for size in (0, 1):
        inputs = case.inputs(rng, size)
        wanted = reference(model, inputs)
        got = run(graph, keras.tree.flatten(inputs))
        assert len(got) == len(wanted)
        assert relative_std(wanted[0]) > 1e-2, "the comparison would prove nothing"
        for ours, theirs in zip(got, wanted, strict=True):
            assert ours.dtype == theirs.dtype
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=case.rtol, atol=case.atol)


@pytest.mark.parametrize("case", keras_models.CASES, ids=lambda case: case.name)
def test_model(case: keras_models.Case) -> None:
    model = prepared(case)
    captured = capture(model, input_signature=case.signature)
    flat = captured.flat()
    operators = {node.op_type for node in flat.graph}
    assert set(case.holds) <= operators
    assert not set(case.lacks) & operators
    compare(model, optimized(captured.flat()), case)
    compare(model, captured.with_functions(), case)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", ["digits_cnn", "text", "transformer", "layer_norm_axes"])
def test_opset(name: str, opset: int) -> None:
    case = next(case for case in keras_models.CASES if case.name == name)
    model = prepared(case)
    captured = capture(model, input_signature=case.signature, opset=opset)
    flat = captured.flat()
    assert (flat.graph.opset_imports[""], captured.opset) == (opset, opset)
    assert flat.ir_version == {17: 8, 20: 9, 23: 11}[opset]
    compare(model, flat, case)


@pytest.mark.parametrize("name", ["digits_cnn", "text", "transformer", "layer_norm_axes"])
def test_opsets_between_hold_to_the_schema(name: str) -> None:
    case = next(case for case in keras_models.CASES if case.name == name)
    model = prepared(case)
    for opset in set(range(17, 24)) - set(OPSETS):
        captured = capture(model, input_signature=case.signature, opset=opset)
        for graph in (captured.flat(), captured.with_functions()):
            onnx.checker.check_model(ir.serde.serialize_model(graph), full_check=True)


# One of every family of keras.applications, on one backend or another; `python -m tools.full_run` runs all of
# them on all three.
FAMILIES = {
    "torch": "ConvNeXtTiny DenseNet121 EfficientNetB0 InceptionResNetV2 InceptionV3 MobileNet NASNetMobile ResNet50 "
    "VGG16 VGG19 Xception",
    "tensorflow": "EfficientNetV2B0 MobileNetV3Small",
    "jax": "MobileNetV2 ResNet50V2",
}
APPLICATIONS = {application.name: application for application in applications()}


@pytest.mark.parametrize("name", FAMILIES[keras.backend.backend()].split())
def test_application(name: str) -> None:
    row = compared(APPLICATIONS[name], weights=1)
    assert row.verdict == "pass", row.reason
    known = Table("applications").get(name, row.backend)
    assert known is not None
    for count in ("nodes", "transposes"):
        assert row.facts[count] <= known.facts[count], (
            f"more {count} than in tools/tables; if that is meant: "
            f"python -m tools.full_run --only applications --backend {row.backend}"
        )


def test_every_family_of_applications_runs_on_some_backend() -> None:
    names = " ".join(FAMILIES.values()).split()
    assert {APPLICATIONS[name].family for name in names} == {a.family for a in APPLICATIONS.values()}


def test_names_are_a_contract() -> None:
    captured = capture(keras_models._shared())
    assert [spec.name for spec in captured.signature.inputs] == ["left", "right"]
    assert [spec.name for spec in captured.signature.outputs] == ["score", "total"]
    assert captured.signature.output_structure == {"dict": {"score": 0, "total": 1}}
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="out")])
    captured = capture(model)
    assert [spec.name for spec in captured.signature.inputs] == ["input_0"]
    assert [spec.name for spec in captured.signature.outputs] == ["out"]
    assert captured.signature.inputs[0].shape == ("batch", 4)


def test_integer_inputs_carry_bounds() -> None:
    from models import text

    (spec,) = capture(text.text_classifier()).signature.inputs
    assert spec.bounds == (0, text.VOCABULARY - 1)


def test_a_layer_called_twice_is_one_function_with_two_calls() -> None:
    captured = capture(keras_models._shared())
    placements = defaultdict(lambda: Placement("weights.safetensors", 0, 4))
    proto = onnx.load_model_from_string(captured.serialize(placements))
    calls = [node.name for node in proto.graph.node if node.domain == "interop.layers"]
    assert [name for name in calls if name.startswith("inner#")] == [f"inner#{n}" for n in range(4)]
    assert len({node.op_type for node in proto.graph.node if node.name.startswith("inner#")}) == 1
    assert all(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer)
    assert {tensor.name for tensor in proto.graph.initializer} == {
        record.key for record in captured.variables
    }


def test_capturing_twice_gives_the_same_bytes_and_leaves_the_model_alone() -> None:
    model = keras_models._shared()
    before = [len(layer._inbound_nodes) for layer in model.layers]
    placements = defaultdict(lambda: Placement("weights.safetensors", 0, 4))
    assert capture(model).serialize(placements) == capture(model).serialize(placements)
    assert [len(layer._inbound_nodes) for layer in model.layers] == before


class Looping(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        total = x[:, 0]
        for step in range(ops.shape(x)[1]):
            total = total + x[:, step]
        return total


def test_a_loss_added_in_a_call_stays_out_of_the_graph(tmp_path: Path) -> None:
    class Committed(keras.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(ops.mean(ops.square(x)))
            return x * 2.0

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Committed()(keras.layers.Dense(3, activity_regularizer="l2")(inputs)))
    x = np.ones((2, 4), "float32")

    def losses() -> list[float]:
        model(x)
        return [float(ops.convert_to_numpy(loss)) for loss in model.losses]

    before = losses()
    interop.export_onnx(model, tmp_path / "m.onnx")
    assert losses() == before
    assert len(before) == 2


def test_a_loop_over_a_dynamic_dimension_is_an_error_naming_the_layer() -> None:
    x = keras.Input((None, 3))
    model = keras.Sequential([keras.Input((4, 3)), Looping(name="looping")])
    with pytest.raises(SpecializationError, match="'looping' depends on the value of a dynamic dimension"):
        capture(model, input_signature=[(None, None, 3)])
    del x


class Raw(keras.layers.Layer):
    """A layer in the code of the running backend."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="scale")
        self.table = self.add_weight(shape=(shape[-1], 3), initializer="random_normal", name="table")

    def call(self, x: Any) -> Any:
        scale, table = self.scale.value, self.table.value
        if keras.backend.backend() == "jax":
            import jax.numpy as jnp

            return jnp.concatenate([jnp.tanh(x * scale) @ table, x[..., ::2]], axis=-1)
        if keras.backend.backend() == "torch":
            import torch

            return torch.cat([torch.tanh(x * scale) @ table, x[..., ::2]], dim=-1)
        import tensorflow as tf

        return tf.concat([tf.tanh(x * scale) @ table, x[..., ::2]], axis=-1)


def test_a_layer_in_raw_framework_code_goes_through_the_backends_exporter() -> None:
    raw = Raw(name="raw")
    x = keras.Input((None, 4), name="x")
    hidden = raw(layers.Dense(4)(x))
    model = keras.Model(x, layers.Dense(2)(ops.concatenate([hidden, raw(layers.Rescaling(2.0)(x))], axis=1)))
    captured = capture(model)
    assert captured.fallback_layers == ("raw",)
    assert {"raw/scale", "raw/table"} <= {record.key for record in captured.variables}
    for graph in (captured.with_functions(), optimized(captured.flat())):
        for size in (0, 1):
            inputs = (
                np.random.default_rng(size).standard_normal((2 + size, 5 + 2 * size, 4)).astype("float32")
            )
            (got,), (wanted,) = run(graph, [inputs]), reference(model, inputs)
            assert relative_std(wanted) > 1e-2
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_raw_framework_code_is_an_error_naming_the_layer_where_it_is_forbidden() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2), Raw(name="raw")])
    with pytest.raises(UnsupportedOp, match=r"layer 'raw' calls .* directly.*keras\.ops"):
        capture(model, fallback="error")


def test_an_unsupported_operation_names_layer_operation_and_reason() -> None:
    model = keras.Sequential(
        [keras.Input((4, 4)), layers.Lambda(lambda x: ops.eig(x)[0], name="spectrum", output_shape=(4,))]
    )
    with pytest.raises(UnsupportedOp, match=r"'spectrum' uses the keras operation Eig, .*eigenvalues"):
        capture(model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: capture(keras.Sequential([layers.Dense(2)])), "not built"),
        (lambda: capture("model"), "expected a Keras model"),
        (lambda: capture(keras.Sequential([keras.Input((2,))]), opset=12), "between 17 and 23"),
    ],
)
def test_bad_input(make: Any, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        make()
