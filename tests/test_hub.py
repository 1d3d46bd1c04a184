"""KerasHub models against Keras itself: two sizes of every dynamic dimension, both forms of the graph."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from cases import hub as table
from cases.sessions import session_of

import interop
from interop.artifact.signature import flatten
from interop.capture.keras import capture
from interop.errors import CaptureError
from interop.parity.difference import difference
from interop.parity.tolerance import Tolerance
from models.randomize import randomize, relative_std

CASES = table.all_cases()


def arrays_of(case: table.HubCase, size: int) -> Any:
    """The inputs of a row at one size, in the structure the model takes."""
    rng = np.random.default_rng(5 + size)
    if isinstance(case.inputs, table.Input):
        return case.inputs.array(rng, size)
    return {name: given.array(rng, size) for name, given in case.inputs.items()}


def signature_of(case: table.HubCase) -> Any:
    assert not isinstance(case.inputs, table.Input)
    return {name: {"shape": x.shape, "dtype": x.dtype, "name": name} for name, x in case.inputs.items()}


def reference(model: Any, inputs: Any, structure: Any) -> list[np.ndarray]:
    """What Keras computes, in the order of the graph's outputs."""
    leaves = flatten(structure, _called(model, keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)))
    return [keras.ops.convert_to_numpy(leaves[place]) for place in sorted(leaves)]


def _called(model: Any, tensors: Any) -> Any:
    """The model at inference; on JAX compiled whole, which takes a fraction of compiling each operation."""
    if keras.backend.backend() != "jax":
        return model(tensors, training=False)
    import jax

    return jax.jit(lambda given: model(given, training=False))(tensors)


@pytest.mark.filterwarnings(
    "ignore:Layer .* was passed an input with a mask attached",  # T5's own layers do so
    "ignore:`build\\(\\)` was called on layer",  # Flux's blocks have none
    "ignore:Layer .* looks like it has unbuilt state",  # what Keras makes of the warning above
    "ignore:The structure of `inputs` doesn't match",  # models around a backbone of one input
    "ignore:.*Using a non-tuple sequence for multidimensional indexing",  # RoFormer's on PyTorch
)
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.id, marks=() if case.quick else pytest.mark.full) for case in CASES],
)
def test_hub_model(case: table.HubCase, record_property: Any) -> None:
    model = case.build()
    randomize(model, batch=arrays_of(case, 1))
    signature = [signature_of(case)] if case.named else None
    if refusal := case.refused.get(keras.backend.backend()):
        with pytest.raises(CaptureError, match=refusal):
            capture(model, input_signature=signature)
        return
    captured = capture(model, input_signature=signature)
    sessions = [session_of(captured.flat()), session_of(captured.with_functions())]
    record_property("opset", captured.opset)
    errors: list[float] = []
    record_property("max_rel", errors)
    tolerance = Tolerance(case.rtol, case.atol)
    for size in (0, 1):
        inputs = arrays_of(case, size)
        fed = inputs if isinstance(inputs, dict) else {sessions[0].get_inputs()[0].name: inputs}
        results = [
            session.run(None, {value.name: fed[value.name] for value in session.get_inputs()})
            for session in sessions
        ]
        wanted = reference(model, inputs, captured.signature.output_structure)
        for spec, array in zip(captured.signature.outputs, wanted, strict=True):
            assert spec.name in case.steady or relative_std(array) > 1e-2, (
                "the comparison would prove nothing"
            )
        for got in results:
            assert [str(array.dtype) for array in got] == [str(array.dtype) for array in wanted]
            for ours, theirs in zip(got, wanted, strict=True):
                assert ours.shape == theirs.shape
                np.testing.assert_allclose(ours, theirs, rtol=case.rtol, atol=case.atol)
                errors.append(difference(theirs, ours, tolerance).max_rel)


def test_names_of_rows_are_unique() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))


def test_a_hub_model_comes_back_as_layers(tmp_path: Any) -> None:
    """KerasHub registers its classes, so nothing has to be named to load them."""
    case = next(case for case in CASES if case.id == "BertBackbone")
    model = case.build()
    randomize(model)
    interop.save_model(model, tmp_path / "bert.interop")
    loaded = interop.load_model(tmp_path / "bert.interop")
    inputs = arrays_of(case, 1)
    outputs, again = (
        {name: keras.ops.convert_to_numpy(x) for name, x in m(inputs).items()} for m in (model, loaded)
    )
    assert type(loaded) is type(model)
    for name, array in outputs.items():
        np.testing.assert_array_equal(again[name], array)
