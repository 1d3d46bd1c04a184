"""Means over very many places: ONNX Runtime adds to one float32, which would lose a thousandth."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop

IMAGES = {"volume of any size": (None, None, None, 2), "large image": (400, 300, 2)}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("shape", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("flat", [True, False])
def test_a_mean_over_very_many_places(shape, data_format, flat, tmp_path):
    rank = len(shape) - 1
    layer = getattr(keras.layers, f"GlobalAveragePooling{rank}D")(data_format=data_format)
    shape = shape if data_format == "channels_last" else (shape[-1], *shape[:-1])
    x = keras.Input(shape)
    model = keras.Model(x, layer(x))
    interop.export_onnx(model, tmp_path / "m.onnx", flat=flat, config=False, verify=False)
    sizes = [size or 100 for size in shape]
    sizes[-1 if data_format == "channels_last" else 0] = 2
    image = (
        np.full((1, *sizes), 0.45, "float32") + np.random.default_rng(0).random((1, *sizes), "float32") / 100
    )
    places = tuple(range(1, rank + 1)) if data_format == "channels_last" else tuple(range(2, rank + 2))
    found = interop.load_graph(tmp_path / "m.onnx")(image)
    np.testing.assert_allclose(found, image.astype("float64").mean(places), rtol=2e-6)
    if flat:
        imported = interop.import_onnx(tmp_path / "m.onnx")
        assert [type(layer).__name__ for layer in imported.layers[1:]] == [type(layer).__name__]
