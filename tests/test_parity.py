"""``verify``: what passes, what fails and where, and what must never pass."""

import itertools
import json

import keras
import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import interop
from interop.artifact.signature import TensorSpec
from interop.errors import ParityError, SignatureError
from interop.parity import TOLERANCES, ParityReport, ParityRow, Tolerance, tolerance_for
from interop.parity.difference import VARIES_ABOVE, difference, relative_std
from interop.parity.samples import UNBOUNDED, make_cases, make_inputs

NAN, INF = float("nan"), float("inf")
LOOSE = Tolerance(rtol=0.1, atol=0.01)


def array(values, dtype="float32"):
    return np.asarray(values, dtype)


# (reference, candidate, max_abs, number of disagreeing elements)
DIFFERENCES = {
    "equal": (array([1, -2]), array([1, -2]), 0.0, 0),
    "within rtol": (array([100.0]), array([109.0]), 9.0, 0),
    "beyond rtol": (array([100.0]), array([111.0]), 11.0, 1),
    "within atol": (array([0.0]), array([0.009]), 0.009, 0),
    "beyond atol": (array([0.0]), array([0.02]), 0.02, 1),
    "NaN at the same place": (array([NAN, 1]), array([NAN, 1]), 0.0, 0),
    "NaN for a number": (array([1, 1]), array([NAN, 1]), INF, 1),
    "number for NaN": (array([NAN, 1]), array([1, 1]), INF, 1),
    "the same infinity": (array([INF, -INF]), array([INF, -INF]), 0.0, 0),
    "the other infinity": (array([INF]), array([-INF]), INF, 1),
    "number for infinity": (array([INF]), array([1e30]), INF, 1),
    "infinity for NaN": (array([NAN]), array([INF]), INF, 1),
    "empty": (array([]), array([]), 0.0, 0),
    "scalar": (array(2.0), array(2.5), 0.5, 1),
    "float32 overflow": (array([3e38]), array([-3e38]), 6e38, 1),
    "booleans": (array([True, False], bool), array([True, True], bool), 1.0, 1),
    "large integers": (array([2**40], "int64"), array([2**40 + 2**38], "int64"), 2.0**38, 1),
    "bfloat16": (array([1, 2], ml_dtypes.bfloat16), array([1, 3], ml_dtypes.bfloat16), 1.0, 1),
    "complex": (array([1 + 1j], "complex64"), array([1 + 2j], "complex64"), 1.0, 1),
    "strings": (np.array(["a", "b"], object), np.array(["a", "c"], object), INF, 1),
}


@pytest.mark.parametrize(
    ("reference", "candidate", "max_abs", "disagreeing"), DIFFERENCES.values(), ids=DIFFERENCES
)
def test_difference(reference, candidate, max_abs, disagreeing):
    found = difference(reference, candidate, LOOSE)
    assert found.max_abs == pytest.approx(max_abs, rel=1e-5)
    assert found.disagreeing == disagreeing
    assert found.elements == reference.size


def test_exact_dtypes_must_be_equal():
    exact = tolerance_for("int32")
    assert difference(array([1000], "int32"), array([1001], "int32"), exact).disagreeing == 1
    assert difference(array([2**53], "int64"), array([2**53 + 1], "int64"), exact).disagreeing == 1


VARIATIONS = {
    "constant": (array([[1, 5]] * 4), 0.0),
    "zero": (np.zeros((4, 2)), 0.0),
    "opposite": (array([[1.0], [-1.0]]), 1.0),
    "one sample": (array([[1.0, 2.0]]), None),
    "no axis": (array(1.0), None),
    "nothing finite": (array([[NAN], [NAN]]), None),
    "some not finite": (array([[NAN, 1.0], [1.0, -1.0]]), 1.0),
    "huge": (array([[1e300], [-1e300]], "float64"), 1.0),
    "tiny": (array([[1e-300], [-1e-300]], "float64"), 1.0),
    "booleans": (array([[True], [False]], bool), np.sqrt(0.5)),
    "strings": (np.array([["a"], ["b"]], object), 1.0),
}


@pytest.mark.parametrize(("samples", "expected"), VARIATIONS.values(), ids=VARIATIONS)
def test_relative_std(samples, expected):
    found = relative_std(samples)
    assert found == (None if expected is None else pytest.approx(expected))


def test_coarser_dtypes_have_wider_tolerances():
    order = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
    assert list(TOLERANCES) == order
    for finer, coarser in itertools.pairwise(order):
        assert TOLERANCES[finer].rtol < TOLERANCES[coarser].rtol
        assert TOLERANCES[finer].atol < TOLERANCES[coarser].atol


class TestSamples:
    SPECS = (
        TensorSpec("image", "float32", ("batch", "height", "width", 3)),
        TensorSpec("tokens", "int32", ("batch", "time"), bounds=(2, 9)),
        TensorSpec("mask", "bool", ("batch", "time")),
    )

    def test_two_sizes_of_every_dimension_and_a_batch_of_one(self):
        cases = make_cases(self.SPECS)
        for name in ("batch", "height", "width", "time"):
            assert len({case.sizes[name] for case in cases}) >= 2
        assert 1 in {case.batch_size for case in cases}
        first = cases[0].sizes
        assert len(set(first.values())) == len(first), "sizes must differ, or swapped dimensions pass"

    def test_given_sizes_replace_the_chosen_ones(self):
        cases = make_cases(self.SPECS, {"batch": [2, 5, 3], "time": [6]})
        assert [case.batch_size for case in cases] == [2, 5, 3]
        assert {case.sizes["time"] for case in cases} == {6}

    @pytest.mark.parametrize(
        ("sizes", "message"),
        [
            ({"depth": [1]}, "'batch', 'height'"),
            *(({"time": wrong}, "positive") for wrong in ([], [0], ["4"], 4, "4")),
        ],
    )
    def test_bad_sizes(self, sizes, message):
        with pytest.raises(ParityError, match=message):
            make_cases(self.SPECS, sizes)

    def test_made_inputs_fit_the_signature_and_repeat(self):
        case = make_cases(self.SPECS)[1]
        made, again = (make_inputs(self.SPECS, case) for _ in range(2))
        for spec in self.SPECS:
            assert made[spec.name].dtype.name == spec.dtype
            np.testing.assert_array_equal(made[spec.name], again[spec.name])
        assert made["image"].shape == (7, case.sizes["height"], case.sizes["width"], 3)
        assert (made["tokens"].min(), made["tokens"].max()) == (2, 9)
        assert set(np.unique(made["mask"])) == {False, True}

    def test_samples_differ_in_more_than_noise(self):
        images = make_inputs(self.SPECS, make_cases(self.SPECS)[0])["image"]
        assert relative_std(images.mean(axis=(1, 2, 3))) > 0.1

    def test_batches_a_plain_graph_left_without_names_are_one(self):
        specs = [TensorSpec("a", "float32", ("a.0", 2)), TensorSpec("b", "float32", ("b.0", 2))]
        assert all(case.sizes["a.0"] == case.sizes["b.0"] for case in make_cases(specs))

    def test_fixed_sizes_get_several_draws(self):
        specs = [TensorSpec("a", "float32", (1, 2))]
        draws = [make_inputs(specs, case)["a"].tolist() for case in make_cases(specs)]
        assert len(draws) > 1
        assert draws[0] != draws[1]

    def test_strings_are_words(self):
        specs = [TensorSpec("a", "string", ("batch",))]
        made = make_inputs(specs, make_cases(specs)[0])["a"]
        assert made.dtype == object
        assert len(set(made)) > 1

    def test_other_types_cannot_be_made_up(self):
        specs = [TensorSpec("a", "opaque", ("batch",))]
        with pytest.raises(ParityError, match=r"'a' has dtype opaque.*pass inputs="):
            make_inputs(specs, make_cases(specs)[0])


def plain_graph(path, scale=2.0, *, outputs=("y",), dims=("batch", 3), dtype="float32", fixed=None):
    """An ``.onnx`` file: each output is the input times ``scale`` (to the power of its place)."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(dims))
    made = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    nodes, weights = [], []
    source = "x"
    if fixed is not None:
        nodes.append(helper.make_node("Reshape", ["x", "shape"], ["x2"]))
        weights.append(numpy_helper.from_array(np.array(fixed, "int64"), "shape"))
        source = "x2"
    for place, name in enumerate(sorted(outputs), start=1):
        weights.append(numpy_helper.from_array(np.array(scale**place, "float32"), f"w{place}"))
        nodes.append(helper.make_node("Mul", [source, f"w{place}"], [f"{name}_float"]))
        nodes.append(helper.make_node("Cast", [f"{name}_float"], [name], to=kind))
    graph = helper.make_graph(nodes, "plain", [x], made, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


class TestPlainGraphs:
    def test_equal_graphs_pass_and_the_report_says_so(self, tmp_path):
        a, b = plain_graph(tmp_path / "a.onnx"), plain_graph(tmp_path / "b.onnx")
        report = interop.verify(a, b)
        assert report.passed
        assert not report.vacuous
        assert report.raise_if_failed() is report
        assert len(report.rows) == 3
        assert str(report).startswith("PASS")
        assert json.loads(json.dumps(report.to_json(), allow_nan=False))["passed"] is True

    def test_other_weights_fail(self, tmp_path):
        report = interop.verify(plain_graph(tmp_path / "a.onnx"), plain_graph(tmp_path / "b.onnx", 2.02))
        assert not report.passed
        assert all(row.verdict == "fail" and row.max_abs > 0 for row in report.rows)
        with pytest.raises(ParityError, match="elements beyond rtol"):
            report.raise_if_failed()

    def test_given_tolerances_decide(self, tmp_path):
        a, b = plain_graph(tmp_path / "a.onnx"), plain_graph(tmp_path / "b.onnx", 2.02)
        assert interop.verify(a, b, rtol=0.02, atol=0).passed

    def test_outputs_are_compared_by_name(self, tmp_path):
        a = plain_graph(tmp_path / "a.onnx", outputs=("p", "q"))
        b = plain_graph(tmp_path / "b.onnx", outputs=("q", "p"))
        assert interop.verify(a, b).passed

    def test_other_names_cannot_be_compared(self, tmp_path):
        a = plain_graph(tmp_path / "a.onnx", outputs=("p", "q"))
        b = plain_graph(tmp_path / "b.onnx", outputs=("p", "r"))
        with pytest.raises(
            ParityError, match="outputs do not correspond: the reference has p, q; the candidate has p, r"
        ):
            interop.verify(a, b)

    def test_one_output_on_each_side_need_not_share_a_name(self, tmp_path):
        a = plain_graph(tmp_path / "a.onnx", outputs=("p",))
        assert interop.verify(a, plain_graph(tmp_path / "b.onnx", outputs=("q",))).passed

    def test_dtype_comes_before_values(self, tmp_path):
        report = interop.verify(
            plain_graph(tmp_path / "a.onnx"), plain_graph(tmp_path / "b.onnx", dtype="float64")
        )
        assert {row.reason for row in report.rows} == {"dtype float64, expected float32"}
        assert {row.max_abs for row in report.rows} == {None}

    def test_shape_comes_before_values(self, tmp_path):
        report = interop.verify(
            plain_graph(tmp_path / "a.onnx"), plain_graph(tmp_path / "b.onnx", fixed=[-1])
        )
        assert not report.passed
        assert report.rows[0].reason == "shape (12,), expected (4, 3)"

    def test_a_graph_right_for_one_size_only_is_found(self, tmp_path):
        a, b = plain_graph(tmp_path / "a.onnx"), plain_graph(tmp_path / "b.onnx", fixed=[4, 3])
        with pytest.raises(SignatureError, match="batch=7"):
            interop.verify(a, b)

    def test_constant_outputs_are_vacuous_and_do_not_pass(self, tmp_path):
        report = interop.verify(plain_graph(tmp_path / "a.onnx", 0.0), plain_graph(tmp_path / "b.onnx", 0.0))
        assert report.vacuous
        assert not report.passed
        assert str(report).startswith("VACUOUS")
        with pytest.raises(ParityError, match="constant over the batch"):
            report.raise_if_failed()

    def test_one_given_sample_is_vacuous(self, tmp_path):
        a = plain_graph(tmp_path / "a.onnx")
        assert interop.verify(a, a, np.ones((1, 3), "float32")).vacuous

    def test_fixed_batch_is_judged_over_draws(self, tmp_path):
        a = plain_graph(tmp_path / "a.onnx", dims=(1, 3))
        assert interop.verify(a, a).passed

    def test_inputs_and_sizes_exclude_each_other(self, tmp_path):
        a = plain_graph(tmp_path / "a.onnx")
        with pytest.raises(ParityError, match="exclude each other"):
            interop.verify(a, a, np.ones((2, 3), "float32"), sizes={"batch": [1]})

    def test_what_cannot_be_compared(self, tmp_path):
        with pytest.raises(ParityError, match="a dict cannot be compared"):
            interop.verify({}, tmp_path)
        with pytest.raises(FileNotFoundError):
            interop.verify(tmp_path / "a.keras", tmp_path / "b.keras")


class Residual(keras.layers.Layer):
    """A block with layers inside, so that a departure has somewhere to be found."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(6, activation="tanh")
        self.second = keras.layers.Dense(6)

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)

    def call(self, x):
        return x + self.second(self.first(x))


def nested_model(seed=0):
    """Two equal blocks (one shared function in the graph) and a layer that is called twice."""
    x = keras.Input((6,), name="x")
    shared = keras.layers.Dense(6, activation="tanh", name="shared")
    y = shared(Residual(name="left")(x))
    y = shared(Residual(name="right")(y))
    model = keras.Model(x, {"score": keras.layers.Dense(3, name="score")(y), "features": y})
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    return model


class TestKerasModels:
    def test_equal_models_pass_and_no_weight_may_change_by_one_percent(self):
        reference, candidate = nested_model(), nested_model()
        x = np.random.default_rng(1).normal(size=(5, 6)).astype("float32")
        assert interop.verify(reference, candidate, x).passed
        for variable in candidate.trainable_variables:
            kept = keras.ops.convert_to_numpy(variable).copy()
            variable.assign(kept * 1.01)
            assert not interop.verify(reference, candidate, x).passed, variable.path
            variable.assign(kept)

    def test_made_inputs(self):
        report = interop.verify(nested_model(), nested_model(seed=1))
        assert not report.passed
        assert {row.output for row in report.rows} == {"score", "features"}
        assert report.first_departure.call == "left/first#0"
        assert report.first_departure.compared == 0


def test_report_without_rows_does_not_pass():
    assert not ParityReport("a", "b", ()).passed


def test_report_holds_no_number_that_json_lacks():
    row = ParityRow("given", "y", "float32", (2,), INF, NAN, 0.0, 0.0, 0.0, None, "fail", "why")
    assert json.loads(json.dumps(ParityReport("a", "b", (row,)).to_json(), allow_nan=False))["rows"][0] == {
        "case": "given",
        "output": "y",
        "dtype": "float32",
        "shape": [2],
        "max_abs": "inf",
        "max_rel": "nan",
        "mean_abs": 0.0,
        "rtol": 0.0,
        "atol": 0.0,
        "relative_std": None,
        "verdict": "fail",
        "reason": "why",
    }


def test_variation_threshold_is_the_documented_one():
    assert VARIES_ABOVE == 0.01


@pytest.mark.parametrize("rows", [1, 2, 3, 9])
def test_integers_that_both_sides_take_are_found(tmp_path, rows):
    """A table of ONNX' own bounds is not in the graph's signature, and an index beyond it fails."""
    table = np.arange(3.0 * rows, dtype="float32").reshape(rows, 3) ** 2
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    i = helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    nodes = [helper.make_node("Gather", ["t", "i"], ["g"]), helper.make_node("Add", ["g", "x"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x, i], [y], [numpy_helper.from_array(table, "t")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    report = interop.verify(tmp_path / "m.onnx", tmp_path / "m.onnx")
    assert report.passed, report


def test_a_mask_of_one_sample_is_not_all_zeros():
    specs = [TensorSpec("mask", "int64", ("batch", 9))]
    (single,) = (case for case in make_cases(specs) if case.batch_size == 1)
    assert make_inputs(specs, single, largest=UNBOUNDED[0])["mask"].any()
    assert not make_inputs(specs, single, largest=UNBOUNDED[1])["mask"].any()
