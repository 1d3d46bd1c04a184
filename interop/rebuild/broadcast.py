"""Addition that broadcasts as ONNX says, on every backend.

Keras on TensorFlow takes ``add(x, y)`` for a bias and hands it to ``tf.nn.bias_add`` when ``y`` has one axis
longer than 1 that is as long as the last or the second axis of ``x``, wherever it lies: ``(2, 5, 5) + (1, 5, 1)`` is
silently wrong (Keras 3.15, ``keras/src/backend/tensorflow/numpy.py``). Every addition of the importer comes here.
"""

from __future__ import annotations

from typing import Any

from keras import ops


def add(x: Any, y: Any) -> Any:
    """``x + y`` for tensors of any shapes that broadcast."""
    if not _may_be_misread(x, y):
        return ops.add(x, y)
    if not _is_vector(x):
        return ops.add(y, x)
    return ops.subtract(x, ops.negative(y))


def _long_axes(x: Any) -> list[int]:
    shape = tuple(x.shape)
    return [axis - len(shape) for axis, size in enumerate(shape) if size != 1]


def _is_vector(x: Any) -> bool:
    return len(_long_axes(x)) == 1


def _may_be_misread(x: Any, y: Any) -> bool:
    """Whether `y` has one axis longer than 1, and is no bias of the last axis of `x`."""
    if len(x.shape) < 2 or not _is_vector(y):
        return False
    return _long_axes(y) != [-1] or x.shape[-1] is None or x.shape[-1] != y.shape[-1]
