"""A signature of numbers gives a graph without an open dimension, by ``export_onnx`` and by ``convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from cases import keras_models

import interop
from interop.loading import load_graph
from models.randomize import randomize, relative_std

NAMES = "digits_cnn text transformer sizes_in_call free_height_and_width"
CASES = [case for case in keras_models.CASES if case.name in NAMES.split()]


def open_dimensions(path: Path) -> list[str]:
    graph = onnx.load(path).graph
    return [
        value.name
        for value in (*graph.input, *graph.output, *graph.value_info)
        for dimension in value.type.tensor_type.shape.dim
        if dimension.WhichOneof("value") != "dim_value"
    ]


def prepared(case: keras_models.Case) -> tuple[Any, np.ndarray, list[Any]]:
    """The model, a batch for it, and the signature that fixes the shape of that batch."""
    inputs = case.inputs(np.random.default_rng(7), 0)
    signature = [{"shape": inputs.shape, "dtype": inputs.dtype.name, "name": "x"}]
    return randomize(case.build(), batch=inputs), inputs, signature


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_export(case: keras_models.Case, tmp_path: Path) -> None:
    model, inputs, signature = prepared(case)
    path = tmp_path / "model.onnx"
    interop.export_onnx(model, path, input_signature=signature)  # compares, at the sizes of the signature
    assert open_dimensions(path) == []
    wanted = keras.ops.convert_to_numpy(model(inputs))
    assert relative_std(wanted) > 1e-2, "the comparison would prove nothing"
    np.testing.assert_allclose(load_graph(path)(inputs), wanted, rtol=case.rtol, atol=case.atol)


def made() -> tuple[Any, list[Any]]:
    """What a factory returns: a model with the signature to convert it with."""
    model, _, signature = prepared(CASES[0])
    return model, signature


def test_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    path = tmp_path / "model.onnx"
    done = interop.convert("test_fixed_shapes:made", path)
    assert open_dimensions(path) == []
    assert done.parity is not None
    assert done.parity.passed, str(done.parity)
