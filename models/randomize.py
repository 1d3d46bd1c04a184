"""Random weights that keep a model's outputs alive, so that comparing them means something.

Freshly initialised deep networks are nearly constant over a batch: BatchNormalization statistics are
0 and 1 whatever arrives, ConvNeXt scales its branches by 1e-6, squeeze-and-excitation gates halve the
signal in each block. ``randomize`` preserves the variance of the signal instead:

- kernels are normal with variance 2 / fan-in and, where a unit sees several channels, sum to zero
  over its inputs, so that the constant part of a ReLU's output does not drown what varies;
- scales are near 1 (layer scales and BatchNormalization's gamma too), offsets near 0;
- BatchNormalization statistics are those of a batch that is run through the model, as in training. Of the
  variances only the mean over the channels is kept: those of a small batch are too small for other inputs
  in some channels, and a hundred layers that each enlarge a signal a little make chaos of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np


def randomize(
    model: keras.Model, seed: int = 0, batch: np.ndarray | None = None, damping: float = 1.12
) -> keras.Model:
    """Draw every float weight of a built model, then measure its BatchNormalization statistics.

    Args:
        model: A built model; its weights are overwritten.
        seed: Of the weights, and of the batch when none is given.
        damping: BatchNormalization's variances over those measured: above 1, the more so the calmer the model.
        batch: Inputs to measure on; by default standard normal of ``model.input_shape``, 4 examples.

    Returns:
        The same model.
    """
    rng = np.random.default_rng(seed)
    layers = model._flatten_layers(include_self=True)
    # A parent comes before its children, so the layer that is left is the variable's own.
    for variable, layer in {id(v): (v, owner) for owner in layers for v in owner.weights}.values():
        if "float" in variable.dtype:
            variable.assign(_draw(rng, layer, variable))
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model._flatten_layers()):
        if batch is None:
            batch = rng.standard_normal((4, *model.input_shape[1:])).astype("float32")
        with _measuring(model):
            _train_call(model, batch)
        _pool_variances(model, rng, damping)
    return model


def _pool_variances(model: keras.Model, rng: np.random.Generator, damping: float) -> None:
    """Every channel gets the variance to expect for new examples, give or take a little."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            measured = keras.ops.convert_to_numpy(layer.moving_variance.value)
            expected = measured.mean() * damping
            noise = rng.standard_normal(measured.shape)
            layer.moving_variance.assign((expected * np.exp(0.2 * noise)).astype(measured.dtype))


def _train_call(model: keras.Model, batch: np.ndarray) -> None:
    if keras.backend.backend() != "jax":
        model(batch, training=True)
        return
    import jax  # compiled whole: operation by operation a deep network takes minutes

    call = jax.jit(lambda own, other, x: model.stateless_call(own, other, x, training=True)[1])
    own, other = model.trainable_variables, model.non_trainable_variables
    for variable, value in zip(
        other, call([v.value for v in own], [v.value for v in other], batch), strict=True
    ):
        variable.assign(value)


def relative_std(outputs: np.ndarray) -> float:
    """Standard deviation over the batch, averaged over the outputs, relative to their root mean square."""
    outputs = np.asarray(outputs, "float64")
    return float(outputs.std(axis=0).mean() / np.sqrt(np.mean(outputs**2)))


def _draw(rng: np.random.Generator, layer: keras.Layer, variable: keras.Variable) -> np.ndarray:
    shape = tuple(variable.shape)
    noise = rng.standard_normal(shape).astype("float32")
    if isinstance(layer, keras.layers.Normalization):
        return np.full(shape, float(variable.name == "variance"), "float32")
    if variable.name in {"gamma", "moving_variance"}:
        return np.exp(0.2 * noise)
    if len(shape) < 2:
        return 0.1 * noise
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    fan_in = int(np.prod(shape[:2] if depthwise else shape[:-1]))
    if not depthwise and not isinstance(layer, keras.layers.Embedding):
        noise -= noise.mean(axis=tuple(range(len(shape) - 1)))
    return noise * np.float32(np.sqrt(2.0 / fan_in))


@contextmanager
def _measuring(model: keras.Model) -> Iterator[None]:
    """A call in training mode sets BatchNormalization's statistics to the batch's and drops nothing."""
    kept = []
    for layer in model._flatten_layers():
        for attribute, kind in (
            ("momentum", keras.layers.BatchNormalization),
            ("rate", keras.layers.Dropout),
        ):
            if isinstance(layer, kind):
                kept.append((layer, attribute, getattr(layer, attribute)))
                setattr(layer, attribute, 0.0)
    try:
        yield
    finally:
        for layer, attribute, value in kept:
            setattr(layer, attribute, value)
