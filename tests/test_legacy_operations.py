"""TensorFlow's functions that Keras 2 kept by name, against TensorFlow itself: values, shapes and dtypes.

Every translated function is called on tensors of several kinds, wherever TensorFlow takes them; and by table with the
arguments that its signature has besides.
"""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest

from interop.errors import RebuildError
from interop.rebuild.legacy.operations import known, operation

pytestmark = pytest.mark.framework("tensorflow")

_RNG = np.random.default_rng(0)
X, Y = (_RNG.normal(size=(3, 4)).astype("float32") for _ in range(2))
INTS, DIVISORS = (X * 5).astype("int32"), np.array([[3, -2, 4, 7]] * 3, "int32")
PLACES = np.array([2, 0, 1])

GIVEN: dict[str, tuple[Any, ...]] = {
    "any": (X,),
    "positive": (np.abs(X) + 0.1,),
    "small": (np.tanh(X) * 0.9,),
    "ints": (INTS,),
    "bools": (X > 0,),
    "two": (X, Y),
    "two positive": (np.abs(X) + 0.1, np.abs(Y) + 0.2),
    "two of ints": (INTS, DIVISORS),
    "two of bools": (X > 0, Y > 0),
}
#: TensorFlow divides integers in float64, which is Keras' float32; these give or take no single tensor.
ELSEWHERE = {("divide", "two of ints"), ("divide_no_nan", "two of ints"), ("truediv", "two of ints")}
NOT_ALONE = {"concat", "concatenate", "shape", "where"}

CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("add_n", ([X, Y],), {}),
    ("argmax", (X,), {"axis": 1}),
    ("argmin", (X, 1), {}),
    ("bias_add", (X, np.arange(4, dtype="float32")), {}),
    ("broadcast_to", (X, [2, 3, 4]), {}),
    ("cast", (X * 3.7, "int32"), {}),
    ("clip_by_value", (X, -0.5, 0.5), {}),
    ("concat", ([X, Y], 1), {}),
    ("cumsum", (X,), {"axis": 0, "reverse": True}),
    ("cumsum", (X,), {"axis": 1, "exclusive": True}),
    ("divide_no_nan", (X, np.where(Y > 0, Y, 0)), {}),
    ("einsum", ("ij,kj->ik", X, Y), {}),
    ("expand_dims", (X, 1), {}),
    ("gather", (X, PLACES), {}),
    ("gather", (X, PLACES), {"axis": 1}),
    ("gelu", (X, True), {}),
    ("image.resize", (X.reshape(1, 3, 4, 1), [6, 8]), {}),
    ("image.resize", (X.reshape(1, 3, 4, 1), [6, 8]), {"method": "nearest"}),
    ("l2_normalize", (X,), {"axis": 1}),
    ("leaky_relu", (X, 0.3), {}),
    ("matmul", (X, Y), {"transpose_b": True}),
    ("matmul", (X, Y), {"transpose_a": True}),
    ("norm", (X,), {"axis": 1, "keepdims": True}),
    ("norm", (X,), {"ord": 1, "axis": 1}),
    ("one_hot", (PLACES, 5), {}),
    ("one_hot", (PLACES, 5, 2.0, -1.0), {"axis": 0}),
    ("ones_like", (X,), {"dtype": "int32"}),
    ("pad", (X, [[1, 0], [0, 2]]), {}),
    ("pad", (X, [[1, 0], [0, 2]], "CONSTANT", 3.0), {}),
    ("pad", (X, [[1, 0], [0, 2]], "REFLECT"), {}),
    ("reduce_logsumexp", (X,), {"axis": 1}),
    ("reduce_max", (X,), {"axis": [0, 1]}),
    ("reduce_mean", (X,), {"axis": -1, "keepdims": True}),
    ("reduce_std", (X,), {"axis": 1}),
    ("repeat", (X, 2), {"axis": 1}),
    ("reshape", (X, [4, -1]), {}),
    ("reverse", (X, [1]), {}),
    ("round", (np.array([0.5, 1.5, 2.5, -0.5], "float32"),), {}),
    ("slice", (X, [0, 1], [2, -1]), {}),
    ("softmax", (X,), {"axis": 0}),
    ("split", (X, 2, 1), {}),
    ("split", (X, [1, 3], 1), {}),
    ("squeeze", (X[None],), {"axis": 0}),
    ("stack", ([X, Y], 1), {}),
    ("strided_slice", (X, [0, 0], [2, 4], [1, 2]), {}),
    ("tensordot", (X, Y.T), {"axes": 1}),
    ("tile", (X, [2, 1]), {}),
    ("transpose", (X, [1, 0]), {}),
    ("unstack", (X,), {"axis": 1}),
    ("where", (X > 0, X, Y), {}),
    ("zeros_like", (X,), {"dtype": "int32"}),
]


def _of_tensorflow(name: str) -> Any:
    import tensorflow as tf

    for found in (tf, tf.math, tf.nn, tf.linalg):
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    return None


def _tensors(structure: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: keras.ops.convert_to_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf, structure
    )


def check(name: str, given: tuple[Any, ...], options: dict[str, Any], wanted: Any) -> None:
    made = keras.tree.flatten(operation(name)(*_tensors(given), **options))
    expected = keras.tree.flatten(wanted)
    assert len(made) == len(expected)
    for ours, theirs in zip(map(np.asarray, made), map(np.asarray, expected), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in known() if not n.startswith("__") and n not in NOT_ALONE])
def test_every_function_computes_what_tensorflow_does(name: str) -> None:
    theirs = _of_tensorflow(name)
    if theirs is None:
        pytest.skip("a name that TensorFlow 2.21 does not have")
    compared = 0
    for kind, given in GIVEN.items():
        if (name, kind) in ELSEWHERE:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wanted = theirs(*_tensors(given))
        except Exception:  # noqa: BLE001 - whatever it does not take is no part of what is compared
            continue
        with np.errstate(all="ignore"):
            check(name, given, {}, wanted)
        compared += 1
    assert compared or any(name.endswith(row) for row, _, _ in CALLS)


@pytest.mark.parametrize(
    ("name", "given", "options"), CALLS, ids=[f"{i}-{name}" for i, (name, _, _) in enumerate(CALLS)]
)
def test_its_arguments_are_tensorflows(name: str, given: Any, options: Any) -> None:
    check(name, given, options, _of_tensorflow(name)(*_tensors(given), **options))


@pytest.mark.parametrize("name", ["image.transpose", "sparse.add", "where"])
def test_what_is_no_namesake_is_refused(name: str) -> None:
    with pytest.raises(RebuildError, match=name):
        operation(name)(keras.ops.convert_to_tensor(X))
