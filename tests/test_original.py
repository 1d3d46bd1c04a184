"""The Keras model that an ``.onnx`` file says it was made of: made again where that is true, and only then."""

from __future__ import annotations

import base64
import json
import random
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from cases.sessions import session_of
from keras import layers, ops

import interop
from interop.artifact.recorded import KEY, decoded, encoded
from interop.capture.keras import compat, paths
from interop.status import ImportReport
from models.randomize import randomize


def _convolutional() -> Any:
    """Every way of a BatchNormalization into a convolution, one after a separable convolution, one that stays."""
    x = keras.Input((12, 12, 3), name="image")
    y = layers.BatchNormalization()(layers.Conv2D(6, 3, use_bias=False)(x))
    y = layers.BatchNormalization(scale=False)(layers.DepthwiseConv2D(3, activation=None)(layers.ReLU()(y)))
    y = layers.BatchNormalization(center=False)(layers.Conv2DTranspose(4, 3, strides=2)(layers.ReLU()(y)))
    y = layers.BatchNormalization(epsilon=0.1)(layers.SeparableConv2D(5, 3)(y))
    y = layers.BatchNormalization()(layers.Dropout(0.3)(layers.ReLU()(y)))
    return keras.Model(x, layers.Dense(4, "softmax")(layers.GlobalAveragePooling2D()(y)))


def _nested() -> Any:
    """A Sequential in a Functional in a Functional, a layer and a model used twice, operations between."""
    x = keras.Input((5,))
    shared = layers.Dense(5, name="shared")
    inner = keras.Sequential([layers.Dense(4, "relu"), layers.Dropout(0.5), layers.Dense(5)], name="inner")
    middle = keras.Model(x, inner(shared(x)) + ops.sin(shared(x)), name="middle")
    y = keras.Input((5,))
    return keras.Model(y, middle(middle(y)) * 2.0)


def _structured() -> Any:
    """Dicts, whose order is not that of their keys."""
    b, a = keras.Input((3,), name="b"), keras.Input((5,), name="a")
    joined = layers.Concatenate()([a, b])
    return keras.Model({"b": b, "a": a}, {"z": layers.Dense(2)(a), "y": layers.Dense(3)(joined)})


def _text() -> Any:
    """Open time; masks, attention, recurrence both ways; a state of normalisation."""
    x = keras.Input((None,), dtype="int32", name="tokens")
    y = layers.Embedding(20, 8, mask_zero=True)(x)
    y = layers.LayerNormalization()(layers.MultiHeadAttention(2, 4)(y, y) + y)
    y = layers.Bidirectional(layers.GRU(4, return_sequences=True))(y)
    return keras.Model(x, layers.LSTM(3)(y))


def _half() -> Any:
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(40, dtype="float16"), layers.Dense(3, dtype="bfloat16")]
    )


def _quantized() -> Any:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(4)])
    randomize(model, batch=np.ones((2, 8), "float32"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says of the input that it is not quantised
        model.quantize("int8")
    return model


def _learned() -> Any:
    learned = layers.Normalization()
    learned.adapt(np.arange(24, dtype="float32").reshape(6, 4) ** 2)
    return keras.Sequential([keras.Input((4,)), learned, layers.PReLU(), layers.Dense(3)])


MODELS: dict[str, Callable[[], Any]] = {
    "convolutional": _convolutional,
    "nested": _nested,
    "structured": _structured,
    "text": _text,
    "half": _half,
    "int8": _quantized,
    "learned": _learned,
}


def _inputs(model: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    made = {}
    for x in model.inputs:
        shape = [3, *(7 if dim is None else dim for dim in x.shape[1:])]
        floats = rng.standard_normal(shape)
        made[x.name] = (
            rng.integers(1, 20, shape).astype("int32") if x.dtype == "int32" else floats.astype(x.dtype)
        )
    return made


def _made(name: str) -> Any:
    keras.utils.set_random_seed(5)
    model = MODELS[name]()
    if name not in ("int8", "learned"):
        given = list(_inputs(model).values())
        randomize(model, batch=given[0] if len(given) == 1 else _inputs(model))
    return model


def _imported(path: Any, **options: Any) -> tuple[Any, ImportReport]:
    reports: list[ImportReport] = []
    return interop.import_onnx(path, report=reports, **options), reports[0]


def _computed(model: Any, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    tensors = [ops.convert_to_tensor(given[x.name]) for x in model.inputs]
    outputs = compat.inference(model)(tensors[0] if len(tensors) == 1 else tensors)
    named = outputs if isinstance(outputs, dict) else {"": outputs}
    return {key: np.asarray(compat.to_numpy(value)) for key, value in named.items()}


def _agrees_with_graph(model: Any, path: Path, rtol: float = 1e-4) -> None:
    """The model computes what the file does in ONNX Runtime."""
    session = session_of(ir.load(path))
    given = _inputs(model)
    names = [x.name for x in session.get_inputs()]
    wanted = session.run(None, dict(zip(names, given.values(), strict=True)))
    for got, value in zip(_computed(model, given).values(), wanted, strict=True):
        np.testing.assert_allclose(got, value, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "flat"), [*((name, True) for name in MODELS), ("convolutional", False), ("int8", False)]
)
def test_the_same_model(name: str, flat: bool, tmp_path: Path) -> None:
    model = _made(name)
    path = tmp_path / "model.onnx"
    interop.export_onnx(model, path, flat=flat, verify=False)
    back, report = _imported(path)
    assert report.original, report.notes
    assert not report.notes
    assert [type(layer) for layer in back.layers] == [type(layer) for layer in model.layers]
    named = [
        [x.name for x in each.layers if x.weights] for each in (back, model)
    ]  # inputs have the graph's names
    assert named[0] == named[1]
    assert list(paths.named_variables(back)) == list(paths.named_variables(model))
    for one, other in zip(model.weights, back.weights, strict=True):
        assert one.dtype == other.dtype
        assert one.trainable == other.trainable
        got, wanted = (np.asarray(compat.to_numpy(each), "float64") for each in (other, one))
        np.testing.assert_allclose(got, wanted, rtol=3e-6, atol=1e-7)
    held = {variable for variables in report.weights.values() for variable in variables}
    assert not report.frozen
    assert len(held) >= len(model.trainable_weights)


def test_the_interface_is_the_graphs(tmp_path: Path) -> None:
    model = _made("structured")
    interop.export_onnx(model, tmp_path / "model.onnx", verify=False)
    back, report = _imported(tmp_path / "model.onnx", name="other")
    assert back.name == "other"
    assert [x.name for x in back.inputs] == ["b", "a"] == list(report.inputs)
    given = _inputs(model)
    wanted = compat.inference(model)({name: ops.convert_to_tensor(array) for name, array in given.items()})
    got = _computed(back, given)
    assert set(got) == set(report.outputs) == {"z", "y"}
    for key, array in got.items():
        np.testing.assert_array_equal(array, compat.to_numpy(wanted[key]))


def test_inputs_without_names_have_those_of_the_graph(tmp_path: Path) -> None:
    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], layers.Dense(2)(a) - b[:, :2])
    interop.export_onnx(model, tmp_path / "model.onnx", verify=False)
    back, report = _imported(tmp_path / "model.onnx")
    assert report.original
    names = [value.name for value in onnx.load(tmp_path / "model.onnx").graph.input]
    assert [x.name for x in back.inputs] == names == list(report.inputs.values())
    given = [ops.ones((2, 3)), ops.zeros((2, 3))]
    wanted = compat.to_numpy(model(given))
    np.testing.assert_array_equal(compat.to_numpy(back(dict(zip(names, given, strict=True)))), wanted)
    np.testing.assert_array_equal(
        compat.to_numpy(keras.Model.from_config(back.get_config())(given)).shape, (2, 2)
    )


def test_it_trains_and_what_was_frozen_stays_so(tmp_path: Path) -> None:
    model = _made("convolutional")
    model.layers[1].trainable = model.layers[2].trainable = False
    model.compile(
        "sgd", loss=lambda y, p: ops.mean((y - p) ** 2)
    )  # how it was compiled is not the file's concern
    interop.export_onnx(model, tmp_path / "model.onnx", verify=False)
    back, report = _imported(tmp_path / "model.onnx")
    assert report.original
    assert not back.compiled
    assert [v.trainable for v in back.weights] == [v.trainable for v in model.weights]
    back.compile("sgd", "mse")
    before = [np.array(compat.to_numpy(v)) for v in back.weights]
    back.fit(_inputs(model)["image"], np.eye(4, dtype="float32")[:3], verbose=0)
    moved = [not np.array_equal(a, compat.to_numpy(v)) for a, v in zip(before, back.weights, strict=True)]
    assert not any(moved[:5])
    assert all(m for m, v in zip(moved, back.weights, strict=True) if "gamma" in v.path and v.trainable)


def test_channels_that_a_scale_puts_out_are_told(tmp_path: Path) -> None:
    model = _made("convolutional")
    gamma = np.array(compat.to_numpy(model.layers[2].gamma))
    gamma[1] = 0
    model.layers[2].gamma.assign(gamma)
    interop.export_onnx(model, tmp_path / "model.onnx", verify=False)
    back, report = _imported(tmp_path / "model.onnx")
    assert report.original
    assert len(report.notes) == 1
    assert f"{model.layers[1].name}/kernel" in report.notes[0]
    one, other = (np.asarray(compat.to_numpy(each.layers[1].kernel)) for each in (model, back))
    np.testing.assert_allclose(np.delete(other, 1, -1), np.delete(one, 1, -1), rtol=3e-6)
    _agrees_with_graph(back, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"config": False}, None),
        ({"dtype": "float16"}, None),
        ({"layout": "keep"}, "channels first"),
    ],
    ids=["left out", "another dtype", "keep"],
)
def test_lifted_where_it_is_not_asked_for(options: dict[str, Any], why: str | None, tmp_path: Path) -> None:
    layout = options.pop("layout", "nhwc")
    interop.export_onnx(_made("nested"), tmp_path / "model.onnx", verify=False, **options)
    _, report = _imported(tmp_path / "model.onnx", layout=layout)
    assert not report.original
    assert [why in note for note in report.notes] == ([True] if why else [])
    assert (KEY in onnx.load(tmp_path / "model.onnx").SerializeToString().decode("latin")) == bool(why)


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Layer):
    """A class that is registered here, and not where the file is read."""

    def call(self, x: Any) -> Any:
        return x * 2


@pytest.mark.parametrize("layer", [Doubled, lambda: layers.Lambda(lambda x: x * 2)], ids=["class", "lambda"])
def test_other_classes_are_not_recorded(layer: Any, tmp_path: Path) -> None:
    x = keras.Input((4,))
    interop.export_onnx(keras.Model(x, layer()(layers.Dense(3)(x))), tmp_path / "model.onnx", verify=False)
    assert not onnx.load(tmp_path / "model.onnx").metadata_props


# Files that are not what they say


def _node(proto: onnx.ModelProto, kind: str) -> Any:
    return next(node for node in proto.graph.node if node.op_type == kind)


def _another_attribute(proto: onnx.ModelProto) -> None:
    _node(proto, "Softmax").attribute[0].i = 0


def _another_operator(proto: onnx.ModelProto) -> None:
    _node(proto, "Relu").op_type = "Softsign"


def _another_edge(proto: onnx.ModelProto) -> None:
    relus = [node for node in proto.graph.node if node.op_type == "Relu"]
    relus[-1].output[0], proto.graph.node[-1].name = relus[-1].output[0], "renamed"
    made = onnx.helper.make_node("Neg", [relus[-1].input[0]], ["negative"], name="negative")
    proto.graph.node.insert(list(proto.graph.node).index(relus[-1]), made)
    relus[-1].input[0] = "negative"


def _another_bias(proto: onnx.ModelProto) -> None:
    """Of a convolution that had none, so that only the normalisation can have made it."""
    bias = next(tensor for tensor in proto.graph.initializer if tensor.name.endswith("_bias"))
    array = onnx.numpy_helper.to_array(bias) + np.float32(1)
    bias.CopyFrom(onnx.numpy_helper.from_array(array, bias.name))


@pytest.mark.parametrize(
    "edit",
    [_another_attribute, _another_operator, _another_edge, _another_bias],
    ids=lambda edit: edit.__name__[1:],
)
@pytest.mark.filterwarnings("ignore")
def test_an_edited_graph_is_what_counts(edit: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    interop.export_onnx(_made("convolutional"), path, verify=False)
    proto = onnx.load(path)
    edit(proto)
    onnx.save(proto, path)
    back, report = _imported(path)
    assert not report.original
    assert len(report.notes) == 1
    _agrees_with_graph(back, path)


def test_other_weights_of_the_same_graph_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = _made("nested")
    interop.export_onnx(model, path, verify=False)
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor) * np.float32(1.5)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for node in proto.graph.node:
        node.name = f"renamed/{node.name}"
    onnx.save(proto, path)
    back, report = _imported(path)
    assert report.original
    for one, other in zip(model.weights, back.weights, strict=True):
        np.testing.assert_array_equal(compat.to_numpy(one) * np.float32(1.5), compat.to_numpy(other))


def _said(content: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> str:
    change(content)
    return encoded(content)


def _layers(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What is said of the Dense layers."""
    pending: list[Any] = [content]
    found = []
    while pending:
        item = pending.pop()
        if isinstance(item, dict) and item.get("class_name") == "Dense":
            found.append(item)
        pending += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return found


def _layer(content: dict[str, Any]) -> dict[str, Any]:
    """What is said of the one with a ReLU, in the innermost model."""
    return next(layer for layer in _layers(content) if layer["config"]["activation"] == "relu")


def _huge(content: dict[str, Any]) -> None:
    for layer in _layers(content):
        layer["build_config"] = None
    _layer(content)["config"]["units"] = 10**8


def _packed(text: bytes) -> str:
    return base64.b64encode(zlib.compress(text)).decode()


def _as_lambda(content: dict[str, Any]) -> None:
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
    _layer(content).update(class_name="Lambda", config={"name": "dense", "function": code})


# What the entry is replaced by, of the text and of its content, and a word of the reason.
HOSTILE: dict[str, tuple[Callable[[str, dict[str, Any]], str], str]] = {
    "no base64": (lambda text, _: "?" + text, "damaged"),
    "cut": (lambda text, _: text[: len(text) // 2 & ~3], "damaged"),
    "no JSON": (lambda *_: _packed(b"{"), "damaged"),
    "a list": (lambda *_: _packed(b"[]"), "no format"),
    "deep": (lambda *_: _packed(b"[" * 200_000), "damaged"),
    "a bomb": (lambda *_: _packed(b" " * (65 << 20)), "more than 64 MiB"),
    "of the future": (lambda _, c: _said(c, lambda c: c.update(format=99)), "format 99"),
    "empty": (lambda *_: _packed(b'{"format": 1}'), "KeyError"),
    "a lambda": (lambda _, c: _said(c, _as_lambda), "Python code"),
    "a function": (
        lambda _, c: _said(
            c,
            lambda c: _layer(c)["config"].update(
                activation={
                    "module": "os",
                    "class_name": "function",
                    "config": "system",
                    "registered_name": None,
                }
            ),
        ),
        "system",
    ),
    "a module": (
        lambda _, c: _said(c, lambda c: _layer(c).update(module="os.path", class_name="join")),
        "join",
    ),
    "a registered class": (
        lambda _, c: _said(c, lambda c: _layer(c).update(registered_name="tests>Doubled")),
        "tests>Doubled",
    ),
    "other sizes": (lambda _, c: _said(c, lambda c: _layer(c)["config"].update(units=7)), "not"),
    "huge": (lambda _, c: _said(c, _huge), "more than the file"),
    "other layers": (
        lambda _, c: _said(c, lambda c: _layer(c)["config"].update(use_bias=False)),
        "the graph",
    ),
    "other inputs": (lambda _, c: _said(c, lambda c: c.update(structure={"list": [0, 1]})), "structure"),
    "broken values": (lambda _, c: _said(c, lambda c: c["values"].update(x={"dtype": "O"})), "array"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore")
def test_a_hostile_entry_changes_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = _made("nested")
    interop.export_onnx(model, path, verify=False)
    proto = onnx.load(path)
    (entry,) = proto.metadata_props
    make, why = HOSTILE[name]
    entry.value = make(entry.value, decoded(entry.value))
    onnx.save(proto, path)
    back, report = _imported(path)
    assert not report.original
    (note,) = report.notes
    assert KEY in note
    assert why in note
    _agrees_with_graph(back, path)


@pytest.mark.filterwarnings("ignore")
def test_fuzzed_entries_never_change_what_is_computed(tmp_path: Path) -> None:
    """Values of the entry's content, dropped or replaced, one in each round."""
    path = tmp_path / "model.onnx"
    interop.export_onnx(_made("nested"), path, verify=False)
    proto = onnx.load(path)
    (entry,) = proto.metadata_props
    text = entry.value
    rng = random.Random(11)
    for _ in range(12):
        content = decoded(text)
        holders: list[Any] = []
        pending: list[Any] = [content]
        while pending:
            item = pending.pop()
            if isinstance(item, dict | list) and item:
                holders.append(item)
                pending += item.values() if isinstance(item, dict) else item
        holder = rng.choice(holders)
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        holder[key] = rng.choice(
            [None, -1, 10**15, "x", [], {}, 0.5, True, {"class_name": "Dense", "config": {}}]
        )
        entry.value = encoded(json.loads(json.dumps(content)))
        onnx.save(proto, path)
        _agrees_with_graph(_imported(path)[0], path)
