"""``load_model(inline=True)``: an artifact as a Functional model of stock layers, whatever it was saved from."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from cases.keras_models import CASES, Case

import interop
from interop.errors import RebuildError
from models.randomize import randomize, relative_std

NAMES = (
    "mlp_subclassed",
    "custom_layer_and_activation",
    "digits_cnn",
    "text",
    "transformer",
    "shared_dict_io",
    "sizes_in_call",
    "free_height_and_width",
    "stacked_cells",
    "GRU_backwards",
)


def outputs(model: keras.Model, x: object) -> list[np.ndarray]:
    return [np.asarray(y) for y in keras.tree.flatten(model.predict(x, verbose=0))]


@pytest.mark.parametrize("case", [case for case in CASES if case.name in NAMES], ids=lambda case: case.name)
def test_a_model_without_its_classes(case: Case, tmp_path) -> None:
    model = case.build()
    rng = np.random.default_rng(3)
    randomize(model, batch=case.inputs(rng, 0))
    interop.save_model(model, tmp_path / "m", input_signature=case.signature)
    found: list[interop.LoadStatus] = []
    stock = interop.load_model(tmp_path / "m", inline=True, report=found)
    classes = {type(layer) for layer in stock._flatten_layers()}
    assert all(cls.__module__.startswith("keras.") for cls in classes)
    assert len(stock.trainable_weights) == len(model.trainable_weights)
    assert found[0].loaded
    found[0].assert_consumed()
    for size in (0, 1):
        x = case.inputs(rng, size)
        wanted = outputs(model, x)
        assert all(relative_std(array) > 1e-2 for array in wanted), "the comparison would prove nothing"
        for ours, theirs in zip(outputs(stock, x), wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=case.rtol, atol=case.atol)


def test_it_saves_for_stock_keras_and_trains(tmp_path) -> None:
    case = next(case for case in CASES if case.name == "mlp_subclassed")
    model = case.build()
    x = case.inputs(np.random.default_rng(0), 1)
    interop.save_model(model, tmp_path / "m.interop")
    stock = interop.load_model(tmp_path / "m.interop", inline=True)
    stock.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(outputs(again, x)[0], outputs(stock, x)[0])
    again.compile("sgd", "mse")
    y = np.random.default_rng(1).random(outputs(again, x)[0].shape, "float32")
    losses = again.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_a_file_without_a_graph_is_refused(tmp_path) -> None:
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "m.keras")
    with pytest.raises(RebuildError, match=r"m\.keras has no graph"):
        interop.load_model(tmp_path / "m.keras", inline=True)
