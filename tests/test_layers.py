"""Every ``keras.layers`` class against Keras itself: two sizes of every dynamic dimension, both forms of the graph."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from cases import layers as table
from cases.layer_models import arrays_of, built, compare, reference, signature_of, states_of, varies
from cases.sessions import session_of

from interop.capture.keras import capture
from interop.errors import UnsupportedOp
from interop.graph.passes import optimized

CASES = table.all_cases()


@pytest.mark.filterwarnings(
    "ignore:Layer .* was passed an input with a mask attached"
)  # Keras' own layers do so
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # Keras' own layers do, and JAX warns
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_layer(case: table.LayerCase, record_property: Any) -> None:
    model = built(case)
    states = states_of(model)
    captured = capture(model, input_signature=[signature_of(case)] if case.model else None, opset=case.opset)
    flat = captured.flat()
    operators = {node.op_type for node in flat.graph.all_nodes()}
    assert set(case.holds) <= operators
    assert not set(case.lacks) & operators
    sessions = [session_of(optimized(flat)), session_of(captured.with_functions())]
    record_property("opset", captured.opset)
    errors: list[float] = []
    record_property("max_rel", errors)
    for size in (0, 1):
        arrays = arrays_of(case, size)
        results = []
        for session in sessions:
            fed = {value.name for value in session.get_inputs()}
            results.append(session.run(None, {f"x{i}": a for i, a in enumerate(arrays) if f"x{i}" in fed}))
        if keras.backend.backend() not in case.backends:
            continue
        for variable, value in states:
            variable.assign(value)
        wanted = reference(model, case, arrays)
        if case.varies:
            assert all(varies(array) for array in wanted), "the comparison would prove nothing"
        errors.append(max(compare(case, got, wanted) for got in results))


@pytest.mark.parametrize(
    ("layer", "dtype", "message"),
    [
        (lambda: keras.layers.Hashing(3), "string", "no operator that hashes"),
        (lambda: keras.layers.Hashing(3, salt=7), "int32", "SipHash"),
        (
            lambda: keras.layers.StringLookup(vocabulary=["a"], num_oov_indices=2),
            "string",
            "the hash of their text",
        ),
        (lambda: keras.layers.TextVectorization(vocabulary=["a"], split=str.split), "string", "runs Python"),
    ],
)
def test_what_has_no_operator_is_an_error_that_says_so(layer: Any, dtype: str, message: str) -> None:
    x = keras.Input((1,), dtype=dtype)
    with pytest.raises(UnsupportedOp, match=message):
        capture(keras.Model(x, layer()(x)))


class Sampling(keras.layers.Layer):
    """The sampling step of a variational autoencoder."""

    def __init__(self) -> None:
        super().__init__()
        self.seed = keras.random.SeedGenerator(0)  # JAX draws from no other

    def call(self, mean: Any) -> Any:
        noise = keras.random.normal(keras.ops.shape(mean), seed=self.seed)
        return mean + noise + keras.random.uniform((1, 4), seed=self.seed)


def test_random_numbers_are_drawn_by_the_graph() -> None:
    x = keras.Input((4,), name="x")
    session = session_of(capture(keras.Model(x, Sampling()(x))).flat())
    zeros = {"x": np.zeros((2000, 4), "float32")}
    (first,), (second,) = session.run(None, zeros), session.run(None, zeros)
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(first.std(), 1.04, rtol=0.15)


def test_names_of_rows_are_unique() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))


def test_every_public_layer_has_a_row_or_a_reason() -> None:
    public = {name: thing for name, thing in vars(keras.layers).items() if isinstance(thing, type)}
    with_rows = {public[case.layer] for case in CASES}
    without = {name for name, cls in public.items() if cls not in with_rows}
    assert without == set(table.ABSENT)
