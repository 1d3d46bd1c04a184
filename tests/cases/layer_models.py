"""Models around the rows of ``cases/layers``, what Keras computes with them, and how that is compared."""

from __future__ import annotations

import os
from typing import Any

import keras
import numpy as np
from cases.layers import LayerCase

from interop.capture.keras import compat
from interop.parity.difference import difference
from interop.parity.tolerance import Tolerance
from models.randomize import randomize, relative_std


class Around(keras.Model):
    """A subclassed model that is one call of a layer."""

    def __init__(self, layer: Any, call: Any) -> None:
        super().__init__()
        self.layer = layer
        self.function = call

    def call(self, inputs: Any) -> Any:
        return self.function(self.layer, *inputs)


def arrays_of(case: LayerCase, size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(11 + size)
    return [x.array(rng, size) for x in case.inputs]


def built(case: LayerCase) -> Any:
    """The layer in a model with its weights drawn."""
    layer, example = case.build(), arrays_of(case, 0)
    if case.model:
        model = Around(layer, case.call)
        model.built = layer.built = True
    else:
        batch_shapes = [tuple(None if isinstance(d, str) else d for d in x.shape) for x in case.inputs]
        inputs = [
            keras.Input(batch_shape=shape, dtype=x.dtype, name=f"x{i}")
            for i, (shape, x) in enumerate(zip(batch_shapes, case.inputs, strict=True))
        ]
        model = keras.Model(inputs, case.call(layer, *inputs))
    if case.random and model.weights:
        randomize(model, batch=example)
    if any(getattr(layer, "stateful", False) for layer in model.layers):
        model([keras.ops.convert_to_tensor(array) for array in example])  # a state that is not zero
    return model


def states_of(model: Any) -> list[tuple[Any, np.ndarray]]:
    """The states that stateful layers have now: a call of the graph starts from these."""
    stateful = [layer for layer in model._flatten_layers() if getattr(layer, "stateful", False)]
    variables = [variable for layer in stateful for variable in keras.tree.flatten(layer.states)]
    return [(variable, keras.ops.convert_to_numpy(variable.value)) for variable in variables]


def reference(model: Any, case: LayerCase, arrays: list[np.ndarray]) -> list[np.ndarray]:
    if case.direct:
        layer = next(layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer))
        outputs = case.call(layer, *arrays)
    else:
        run = _with_emitters(model) if case.emitters else compat.inference(model)
        outputs = run([keras.ops.convert_to_tensor(array) for array in arrays])
    return [_decoded(keras.ops.convert_to_numpy(leaf)) for leaf in keras.tree.flatten(outputs)]


def _with_emitters(model: Any) -> Any:
    """A model without weights, compiled as XLA does of itself."""
    if keras.backend.backend() != "jax" or "fusion_emitters" not in os.environ.get("XLA_FLAGS", ""):
        return compat.inference(model)
    import jax

    return jax.jit(model, compiler_options={"xla_cpu_use_fusion_emitters": True})


def _decoded(array: np.ndarray) -> np.ndarray:
    """Strings as ONNX Runtime gives them; TensorFlow gives bytes."""
    return np.vectorize(bytes.decode, otypes="O")(array) if array.dtype == object else array


def signature_of(case: LayerCase) -> Any:
    return [{"shape": x.shape, "dtype": x.dtype, "name": f"x{i}"} for i, x in enumerate(case.inputs)]


def varies(array: np.ndarray) -> bool:
    return array.dtype == object or relative_std(np.nan_to_num(array)) > 1e-2


def compare(case: LayerCase, got: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The largest relative difference, which is within the tolerance."""
    assert len(got) == len(wanted)
    assert [str(a.dtype) for a in got] == list(case.dtypes or [str(a.dtype) for a in wanted])
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.shape == theirs.shape
        if np.issubdtype(theirs.dtype, np.floating):
            np.testing.assert_allclose(ours, theirs, rtol=case.rtol, atol=case.atol)
        else:
            np.testing.assert_array_equal(ours, theirs)
    tolerance = Tolerance(case.rtol, case.atol)
    return max(difference(b, a, tolerance).max_rel for a, b in zip(got, wanted, strict=True))
