"""Keras' guide, what ``load_weights`` returns: which tensors and variables matched, and assertions about it."""

from __future__ import annotations

import keras
import pytest

import interop
from interop.errors import WeightsError

FORMATS = ["ckpt", "w.h5", "w.weights.h5", "w.safetensors", "w.npz"]


def stack(**units: int):
    layers = [keras.layers.Dense(count, name=name) for name, count in units.items()]
    return keras.Sequential([keras.Input((6,)), *layers])


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    """Weights of two layers."""
    return interop.save_weights(stack(a=4, b=3), tmp_path / request.param)


def test_all_matches(path):
    status = interop.load_weights(stack(a=4, b=3), path)
    assert status.assert_consumed() is status
    assert status.assert_existing_objects_matched() is status
    assert status.expect_partial() is status
    assert status.loaded == ("a/bias", "a/kernel", "b/bias", "b/kernel")


def test_more_is_stored_than_the_model_has(path):
    status = interop.load_weights(stack(a=4), path)
    assert status.loaded == ("a/bias", "a/kernel")
    assert len(status.unexpected) == 2
    status.assert_existing_objects_matched().expect_partial()
    with pytest.raises(WeightsError, match=r"unexpected: .*2 matched"):
        status.assert_consumed()


def test_the_model_has_more_than_is_stored(path):
    status = interop.load_weights(stack(a=4, b=3, c=2), path)
    assert status.missing == ("c/bias", "c/kernel")
    for check in (status.assert_consumed, status.assert_existing_objects_matched):
        with pytest.raises(WeightsError, match="missing: c/bias, c/kernel"):
            check()


def test_another_shape(path):
    with pytest.raises(WeightsError, match=r"b/kernel is float32\(4, 3\), expected float32\(4, 2\)"):
        interop.load_weights(stack(a=4, b=2), path)
    status = interop.load_weights(stack(a=4, b=2), path, skip_mismatch=True)
    assert [m.key for m in status.mismatched] == ["b/bias", "b/kernel"]
    with pytest.raises(WeightsError, match="mismatched"):
        status.assert_existing_objects_matched()


def test_before_the_model_is_built(path):
    model = keras.Sequential([keras.layers.Dense(4, name="a"), keras.layers.Dense(3, name="b")])
    status = interop.load_weights(model, path)
    assert len(status.deferred) == 4
    model.build((None, 6))
    assert not status.assert_consumed().deferred
