"""``verify`` on real models in every pair of forms: it discriminates, and it names the layer at fault."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from cases import keras_models

import interop
from interop.capture.keras import compat
from interop.errors import ParityError
from interop.parity.samples import make_cases
from models.randomize import randomize

#: Cheap models of every kind, and which of their weights are changed: every n-th.
EVERY = {
    "custom_layer_and_activation": 1,
    "shared_dict_io": 1,
    "transformer": 5,
    "layer_norm_axes": 1,
    "LSTM_last": 1,
}
#: No output depends on it: softmax takes away what is the same for every key.
WITHOUT_EFFECT = "key_dense/bias"


def case_of(name: str) -> keras_models.Case:
    return next(case for case in keras_models.CASES if case.name == name)


def changed(variable: Any, factor: float) -> np.ndarray:
    """Change a weight and return what it was."""
    kept = np.array(keras.ops.convert_to_numpy(variable))
    variable.assign(kept * np.asarray(factor, kept.dtype))
    return kept


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.xfail(
                strict=True, reason="passes at a relative std of 0.0106, where 1 % of out/kernel is not seen"
            ),
        )
        if name.startswith("custom")
        else name
        for name in EVERY
    ],
)
def test_no_weight_may_change_by_one_percent(name, tmp_path):
    """Each weight alone, a graph beside the artifact it came from (no eager model: this is the cheap way)."""
    from interop.artifact.bundle import open_bundle
    from interop.artifact.writing import write_bundle
    from interop.formats.source import ArraySource

    case = case_of(name)
    rng = np.random.default_rng(7)
    # The case's own inputs of the custom model are so large that its offset is below the tolerance.
    inputs = rng.normal(size=(9, 8)).astype("float32") if name.startswith("custom") else case.inputs(rng, 0)
    model = randomize(case.build(), batch=inputs if isinstance(inputs, np.ndarray) else None)
    interop.save_model(model, tmp_path / "m", input_signature=case.signature)
    assert interop.verify(model, tmp_path / "m", inputs).passed
    with open_bundle(tmp_path / "m", verify_digest=True) as bundle:
        config = {key: value for key, value in bundle.config.items() if key not in ("files", "digest")}
        weights = {key: np.array(array) for key, array in bundle.weights.items()}
        graph = bundle.graph_bytes()
    roles = {variable["key"]: variable["role"] for variable in config["variables"]}
    floats = [key for key, array in weights.items() if roles[key] == "weight" and array.dtype.kind == "f"]
    assert floats
    for key in [key for key in floats if not key.endswith(WITHOUT_EFFECT)][:: EVERY[name]]:
        other = weights | {key: weights[key] * np.float32(1.01)}
        write_bundle(
            tmp_path / "other",
            config=config,
            graph=lambda placements: graph,
            weights={name: ArraySource(array) for name, array in other.items()},
        )
        report = interop.verify(tmp_path / "m", tmp_path / "other", inputs)
        assert not report.passed, key
        assert report.first_departure is not None
        owner = key.rpartition("/")[0]
        assert report.first_departure.call.rpartition("#")[0] in (owner, owner.rpartition("/")[0]), key


class Block(keras.layers.Layer):
    """Layers two levels down."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = keras.Sequential([keras.layers.Dense(6, activation="tanh", name="deep")], name="inner")
        self.last = keras.layers.Dense(6)

    def build(self, shape: Any) -> None:
        self.inner.build(shape)
        self.last.build(shape)

    def call(self, x: Any) -> Any:
        return x + self.last(self.inner(x))


def nested() -> keras.Model:
    x = keras.Input((6,), name="x")
    y = Block(name="right")(keras.layers.Dense(6, name="middle")(Block(name="left")(x)))
    model = keras.Model(x, keras.layers.Dense(2, name="y")(y), name="nested")
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model and the artifact of it."""
    model = nested()
    path = tmp_path_factory.mktemp("verified")
    interop.save_model(model, path / "m")
    interop.export_onnx(model, path / "m.onnx", verify=False)
    return model, path


X = np.random.default_rng(1).normal(size=(4, 6)).astype("float32")
AT_FAULT = {
    "y/kernel": "y#0",
    "middle/bias": "middle#0",
    "right/inner/deep/kernel": "right/inner/deep#0",
    "left/last/bias": "left/last#0",
}


@pytest.mark.parametrize("key", AT_FAULT)
def test_the_first_layer_that_departs_is_named(saved, key):
    from interop.capture.keras.paths import named_variables

    model, path = saved
    variable = named_variables(model)[key]
    kept = changed(variable, 1.05) if "kernel" in key else changed(variable, 1.5)
    try:
        by_graph = interop.verify(model, path / "m", X)  # the model against the artifact
        by_model = interop.verify(interop.load_graph(path / "m"), model, X)  # and the other way round
        flat = interop.verify(model, path / "m.onnx", X)
    finally:
        variable.assign(kept)
    for report in (by_graph, by_model):
        assert not report.passed
        assert report.first_departure is not None
        assert report.first_departure.call == AT_FAULT[key]
        assert AT_FAULT[key] in str(report)
    assert not flat.passed
    assert flat.first_departure is None
    assert "has no layer names" in flat.notes[0]
    assert interop.verify(model, path / "m", X).passed


def test_every_pair_of_forms_agrees(saved, tmp_path):
    model, path = saved
    model.save(tmp_path / "m.keras")
    with keras.saving.CustomObjectScope({"Block": Block}):
        again = interop.load_model(path / "m")
        forms = [path / "m", path / "m.onnx", interop.load_graph(path / "m"), again, tmp_path / "m.keras"]
        for form in forms:
            assert interop.verify(model, form, X).passed
            assert interop.verify(form, path / "m", X).passed


def test_made_inputs_have_two_sizes_of_every_dimension_and_stay_in_bounds(tmp_path):
    case = case_of("transformer")
    model = case.build()
    interop.save_model(model, tmp_path / "m", input_signature=case.signature)
    graph = interop.load_graph(tmp_path / "m")
    (spec,) = graph.inputs
    assert spec.bounds is not None
    cases = make_cases(graph.inputs)
    for dim in spec.shape:
        assert len({made.sizes[dim] for made in cases}) >= 2
    report = interop.verify(graph, tmp_path / "m")  # ids out of bounds are a SignatureError
    assert {row.case for row in report.rows} == {str(made) for made in cases}
    high = np.full((2, 3), spec.bounds[1] + 1)
    with pytest.raises(interop.errors.SignatureError, match="the graph takes 0 to"):
        interop.verify(graph, tmp_path / "m", high)


class Forgetful(keras.layers.Layer):
    """Forgets its input."""

    def call(self, x: Any) -> Any:
        return x * 0.0 + 3.0


@pytest.mark.parametrize("partly", [False, True])
def test_a_constant_output_never_passes(tmp_path, partly):
    x = keras.Input((6,), name="x")
    same = Forgetful(name="same")(x)
    model = keras.Model(x, {"same": same, "y": x * 2.0} if partly else same)
    interop.save_model(model, tmp_path / "m")
    report = interop.verify(model, tmp_path / "m")
    assert not report.passed
    assert report.vacuous
    verdicts = {row.output: row.verdict for row in report.rows}
    assert set(verdicts.values()) == ({"vacuous", "pass"} if partly else {"vacuous"})
    with pytest.raises(ParityError, match="constant over the batch"):
        report.raise_if_failed()


def test_models_without_layers_or_weights(tmp_path):
    """Nothing to name, and nothing that fails for lack of it."""
    x = keras.Input((6,), name="x")
    for scale, name in ((2.0, "a"), (2.1, "b")):
        interop.save_model(keras.Model(x, x * scale), tmp_path / name)
    assert interop.verify(tmp_path / "a", tmp_path / "a").passed
    report = interop.verify(tmp_path / "a", tmp_path / "b")
    assert not report.passed
    assert report.first_departure is None


def test_a_models_own_answers_have_its_own_keys_in_their_order() -> None:
    """JAX returns the dicts of what it compiles with their keys sorted."""
    x = keras.Input((3,))
    model = keras.Model(
        x, {"wide": keras.layers.Dense(4)(x), "all": [{"z": x, "a": keras.layers.Dense(2)(x)}]}
    )
    array = np.ones((2, 3), "float32")
    answers, own = compat.inference(model)(array), model(array)
    assert list(answers) == list(own)
    assert list(answers["all"][0]) == list(own["all"][0])
    assert answers["all"][0]["a"].shape == (2, 2)


STRUCTURES = {
    "list": lambda u, v: [u, v],
    "dict": lambda u, v: {"u": u, "v": v},
    "nested": lambda u, v: {"u": u, "v": [v, u * 2.0]},
    "tuple": lambda u, v: (u, (v,)),
}


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_an_imported_graph_returns_its_outputs_by_name(structure, tmp_path):
    """Whatever the model returns that it was made of, the two can be compared, both ways."""
    a, b = (keras.Input((4,), name=name) for name in "ab")
    hidden = keras.layers.Dense(3, "tanh")(a - b)
    outputs = structure(keras.layers.Dense(2)(hidden), keras.layers.Dense(5)(hidden))
    model = randomize(keras.Model([a, b], outputs), 0)
    interop.export_onnx(model, tmp_path / "m.onnx", config=False)
    imported = interop.import_onnx(tmp_path / "m.onnx")
    assert interop.verify(model, imported).passed
    assert interop.verify(imported, model).passed
    bias = imported.trainable_variables[-1]
    bias.assign_add(np.ones(bias.shape, "float32"))
    assert interop.verify(model, imported).disagrees
    assert interop.verify(imported, model).disagrees
