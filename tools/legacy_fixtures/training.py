"""Compiled and trained models: losses, metrics, schedules, and optimizers with their state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tf_keras as keras
from tf_keras import layers as L

optimizers = keras.optimizers
schedules = keras.optimizers.schedules


def _classifier(units: int = 3, activation: str | None = "softmax") -> Any:
    x = keras.Input((4,), name="x")
    return keras.Model(x, L.Dense(units, activation, name="head")(L.Dense(4, "tanh", name="trunk")(x)))


def _compiled(optimizer: Callable[[], Any], loss: Any = "mse", **settings: Any) -> Callable[[], Any]:
    def build() -> Any:
        model = _classifier()
        model.compile(optimizer(), loss, **settings)
        return model

    return build


def _two_outputs() -> Any:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, {"p": L.Dense(2, "softmax", name="p")(x), "q": L.Dense(1, name="q")(x)})
    model.compile(
        "adam",
        {"p": "categorical_crossentropy", "q": keras.losses.Huber(0.5)},
        loss_weights={"p": 1.0, "q": 0.5},
        metrics={"p": ["accuracy"], "q": [keras.metrics.RootMeanSquaredError()]},
    )
    return model


def _partly_frozen() -> Any:
    model = _classifier()
    model.get_layer("trunk").trainable = False
    model.compile(optimizers.Adam(0.01), "mse")
    return model


def _nested() -> Any:
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, "tanh"), L.Dense(4)], name="inner")
    x = keras.Input((4,), name="x")
    model = keras.Model(x, L.Dense(3)(inner(inner(x))))
    model.compile(optimizers.RMSprop(0.01, momentum=0.9, centered=True), "mae")
    return model


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "adam": _compiled(lambda: optimizers.Adam(0.01), "mse", metrics=["mae", "mse"]),
    "adam_amsgrad": _compiled(lambda: optimizers.Adam(0.01, amsgrad=True, clipnorm=1.0), "kld"),
    "adamw": _compiled(lambda: optimizers.AdamW(0.01, weight_decay=0.01), keras.losses.LogCosh()),
    "sgd": _compiled(lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True), "logcosh"),
    "sgd_plain": _compiled(lambda: optimizers.SGD(0.1), "huber", metrics=["acc"]),
    "rmsprop_nested": _nested,
    "adagrad": _compiled(lambda: optimizers.Adagrad(0.1), keras.losses.KLDivergence()),
    "adadelta": _compiled(lambda: optimizers.Adadelta(1.0), "poisson"),
    "adamax": _compiled(
        lambda: optimizers.Adamax(0.01), "categorical_crossentropy", metrics=["accuracy", "AUC"]
    ),
    "nadam": _compiled(lambda: optimizers.Nadam(0.01), "cosine_similarity"),
    "ftrl": _compiled(lambda: optimizers.Ftrl(0.1), "squared_hinge"),
    "lion": _compiled(
        lambda: optimizers.Lion(0.01), keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    ),
    "adam_partly_frozen": _partly_frozen,
    "adam_two_outputs": _two_outputs,
    "legacy_adam": _compiled(lambda: optimizers.legacy.Adam(0.01), "mse"),
    "legacy_adam_decay": _compiled(lambda: optimizers.legacy.Adam(0.01, decay=0.1), "mse"),
    "legacy_sgd": _compiled(lambda: optimizers.legacy.SGD(0.1, momentum=0.9), "mae"),
    "legacy_rmsprop": _compiled(lambda: optimizers.legacy.RMSprop(0.01), "mape"),
    "legacy_nadam": _compiled(lambda: optimizers.legacy.Nadam(0.01), "mse"),
    "schedule_exponential": _compiled(
        lambda: optimizers.Adam(schedules.ExponentialDecay(0.1, 2, 0.5)), "msle"
    ),
    "schedule_cosine": _compiled(
        lambda: optimizers.SGD(schedules.CosineDecay(0.1, 10, warmup_target=0.2, warmup_steps=2)), "mse"
    ),
    "schedule_piecewise": _compiled(
        lambda: optimizers.Adam(schedules.PiecewiseConstantDecay([2, 4], [0.1, 0.05, 0.01])), "mse"
    ),
    "schedule_polynomial": _compiled(
        lambda: optimizers.legacy.SGD(schedules.PolynomialDecay(0.1, 10, 0.01)), "mse"
    ),
    "ema": _compiled(lambda: optimizers.SGD(0.1, use_ema=True), "mse"),
    "loss_scale": _compiled(lambda: keras.mixed_precision.LossScaleOptimizer(optimizers.Adam(0.01)), "mse"),
}
