"""The nearest cell, where the middle of a new one falls between two: every backend's own choice."""

from __future__ import annotations

import keras
import numpy as np
import onnxruntime as ort
import pytest

import interop

SIZES = (1, 8, 26, 30, 40, 52, 62, 72, 84, 90, 104, 112, 124, 126, 224, 300)
"""With the counts below, many positions are whole numbers, and some that float32 puts just below one."""


def session(model, path):
    interop.export_onnx(model, path, verify=False)
    return ort.InferenceSession(path)


@pytest.mark.parametrize("count", [1, 4, 7, 9, 11, 16, 18, 48, 100])
def test_nearest(count, tmp_path):
    def model_of(size):
        x = keras.Input((size, size and 2, 1))
        return keras.Model(x, keras.ops.image.resize(x, (count, 2), interpolation="nearest"))

    model = model_of(None)
    of_any_size = session(model, tmp_path / "any.onnx")
    for size in SIZES:
        image = np.broadcast_to(np.arange(size, dtype="float32")[None, :, None, None], (1, size, 2, 1))
        expected = keras.ops.convert_to_numpy(model(image))
        (found,) = of_any_size.run(None, {of_any_size.get_inputs()[0].name: image})
        assert np.array_equal(found, expected), size
    of_this_size = session(model_of(size), tmp_path / "this.onnx")
    (found,) = of_this_size.run(None, {of_this_size.get_inputs()[0].name: image})
    assert np.array_equal(found, expected)
