"""``python -m tools.legacy_arguments FOLDER [WORDS]``: list the classes of tf_keras, and write a file for every value.

Runs where TensorFlow and tf_keras are installed. Below `FOLDER` lie ``FAMILY.Class.argument=value.h5`` and its answers,
as `tools.legacy_fixtures` writes them, and ``arguments.json``: {family: {class: {argument: whether a file has it}}}.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers as L

from tools.legacy_arguments import samples
from tools.legacy_fixtures.__main__ import write

FAMILIES: Mapping[str, tuple[Any, ...]] = {
    "layers": (L, L.experimental, L.experimental.preprocessing, keras.experimental),
    "losses": (keras.losses,),
    "metrics": (keras.metrics,),
    "optimizers": (keras.optimizers, keras.optimizers.experimental),
    "optimizers.legacy": (keras.optimizers.legacy,),
    "optimizers.schedules": (keras.optimizers.schedules,),
    "initializers": (keras.initializers,),
    "regularizers": (keras.regularizers,),
    "constraints": (keras.constraints,),
}
BASES = {
    "layers": L.Layer,
    "losses": keras.losses.Loss,
    "metrics": keras.metrics.Metric,
    "optimizers.schedules": keras.optimizers.schedules.LearningRateSchedule,
    "initializers": keras.initializers.Initializer,
    "regularizers": keras.regularizers.Regularizer,
    "constraints": keras.constraints.Constraint,
}


def main(folder: Path, only: str = "") -> None:
    """Write the list, and the files whose names contain `only`."""
    folder.mkdir(parents=True, exist_ok=True)
    listed: dict[str, dict[str, dict[str, bool]]] = {}
    failed: list[str] = []
    for family in FAMILIES:
        listed[family] = {}
        for name, cls in classes(family).items():
            listed[family][name] = dict.fromkeys(constructor(cls), False)
            for case, build in cases(family, name, cls):
                if only not in case and case != f"{family}.{name}":
                    continue
                path = folder / f"{case}.h5"
                try:
                    made, model = build()
                    if model is not None and only in case:
                        write(path, partial(_same, model), targets=_targets(family, name))
                except Exception as error:  # noqa: BLE001  whatever tf_keras does not take
                    failed.append(f"{case}: {type(error).__name__}: {str(error).splitlines()[0]:.150}")
                    continue
                for key in made.get_config():
                    listed[family][name][key] = True
    (folder / "arguments.json").write_text(json.dumps(listed, indent=1, sort_keys=True) + "\n")
    (folder / "failed.txt").write_text("\n".join(failed) + "\n")


def _same(model: Any) -> Any:
    return model


def classes(family: str) -> dict[str, type]:
    """The classes of a part of tf_keras, by their own names; one may have several."""
    base = BASES.get(family)
    found: dict[str, type] = {}
    for module in FAMILIES[family]:
        for value in vars(module).values():
            if isinstance(value, type) and value is not base and (base is None or issubclass(value, base)):
                found.setdefault(value.__name__, value)
    return dict(sorted(found.items()))


def constructor(cls: type) -> dict[str, Any]:
    """The arguments of a constructor and their defaults, with those of the bases it hands ``**kwargs`` on to."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        declared = inspect.signature(vars(base)["__init__"]).parameters.values()
        for parameter in declared:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter.default)
        if all(p.kind is not p.VAR_KEYWORD for p in declared):
            break
    found.pop("self", None)
    return found


Case = tuple[str, Callable[[], tuple[Any, Any]]]


def cases(family: str, name: str, cls: type) -> Iterator[Case]:
    """(name, what makes the object and a model with it) of every value of every argument."""
    if family == "layers":
        if name in samples.LAYERS:
            yield from _layers(name, cls)
        elif name in samples.LISTED:
            yield f"layers.{name}", lambda: (cls(**samples.LISTED[name]), None)
        return
    required: Mapping[str, Any]
    table: Mapping[tuple[str, str], tuple[Any, ...]]
    wrap: Callable[[Any], Any]
    known = constructor(cls)
    if family == "optimizers.schedules":
        required, other = samples.SCHEDULES.get(name, ({}, {}))
        table = {("*", key): (value,) for key, value in other.items()}
        wrap = _with_optimizer_of
    elif family.startswith("optimizers"):
        required, table, wrap = {"learning_rate": 0.1}, samples.OPTIMIZERS, _with_optimizer
        if family == "optimizers.legacy":
            known |= {"decay": 0.0, "clipnorm": None, "clipvalue": None, "global_clipnorm": None}
    elif family == "losses":
        required, table, wrap = {}, samples.LOSSES, _with_loss
    elif family == "metrics":
        required, table, wrap = samples.METRIC_ARGUMENTS.get(name, {}), samples.METRICS, _with_metric
    else:
        required, table = {}, getattr(samples, family.upper())
        wrap = {
            "initializers": lambda v: _dense(kernel_initializer=v),
            "regularizers": lambda v: _dense(kernel_regularizer=v),
            "constraints": lambda v: _dense(kernel_constraint=v),
        }[family]

    def build(**arguments: Any) -> tuple[Any, Any]:
        made = cls(**{**required, **arguments})
        return made, wrap(made)

    yield f"{family}.{name}", build
    for argument in known:
        for value in table.get((name, argument), table.get(("*", argument), ())):
            given = {argument: value, **samples.WITH.get(argument, {})}
            yield f"{family}.{name}.{argument}={_short(value)}", partial(build, **given)


def _layers(name: str, cls: type) -> Iterator[Case]:
    required, shape = samples.LAYERS[name]

    def build(**arguments: Any) -> tuple[Any, Any]:
        given = {**required, **arguments}
        given = {key: value() if callable(value) else value for key, value in given.items()}
        if given.get("output_mode") == "tf_idf":
            given["idf_weights"] = [0.1 * (i + 1) for i in range(len(given["vocabulary"]))]
        learns = name == "Normalization" and given.get("axis", -1) != -1
        if name == "Normalization":
            listed = any(isinstance(given[key], list) for key in _MOMENTS)
            moments = {key: given.pop(key) for key in _MOMENTS}
            if not learns:
                given |= {k: [v] * 4 if listed and not isinstance(v, list) else v for k, v in moments.items()}
        layer = cls(**given)
        if learns:
            layer.adapt(np.random.default_rng(1).standard_normal((5, *shape)) * 2 + 1)
        return layer, _applied(layer, shape, given)

    yield f"layers.{name}", build
    for argument in constructor(cls):
        values = samples.VALUES_OF.get((name, argument), samples.VALUES.get(argument, ()))
        if argument.endswith("_initializer") and not values:
            values = ("he_normal",)
        if argument.endswith("_regularizer"):
            values = ("l2",)
        if argument.endswith("_constraint"):
            values = ("non_neg",)
        other = {} if (name, argument) == ("Embedding", "sparse") else samples.WITH.get(argument, {})
        for index, value in enumerate(values):
            short = f"made{index}" if callable(value) else _short(value)
            yield f"layers.{name}.{argument}={short}", partial(build, **{**other, argument: value})


_MOMENTS = ("mean", "variance")


def _applied(layer: Any, shape: Any, arguments: Mapping[str, Any]) -> Any:
    batch = 2 if arguments.get("stateful") else None
    inputs = [
        _input(one, f"x{i}", batch) for i, one in enumerate(shape if isinstance(shape, list) else [shape])
    ]
    x = inputs if len(inputs) > 1 else inputs[0]
    if type(layer).__name__.endswith(("Cell", "Cells")):
        layer = L.RNN(layer)
    if type(layer).__name__ == "MultiHeadAttention":
        outputs = layer(*inputs)
    else:
        outputs = layer(x)
    if type(layer).__name__ == "Masking" or arguments.get("mask_zero"):
        outputs = L.GRU(2)(outputs)
    return keras.Model(x, outputs)


def _input(shape: Any, name: str, batch: int | None) -> Any:
    dtype = "float32"
    if isinstance(shape[0], str):
        dtype, shape = shape[0], shape[1:]
    return keras.Input(shape, batch, name=name, dtype=dtype)


def _dense(**arguments: Any) -> Any:
    x = keras.Input((4,), name="x")
    return keras.Model(x, L.Dense(3, **arguments)(x))


def _with_optimizer(optimizer: Any) -> Any:
    model = _dense()
    model.compile(optimizer, "mse")
    return model


def _with_optimizer_of(schedule: Any) -> Any:
    return _with_optimizer(keras.optimizers.SGD(schedule))


def _with_loss(loss: Any) -> Any:
    """What the loss expects; tf_keras takes the logits of a softmax even where it is told that it has none."""
    logits = loss.get_config().get("from_logits")
    activation = "linear" if logits else "sigmoid" if type(loss).__name__.startswith("Binary") else "softmax"
    x = keras.Input((3,), name="x")
    model = keras.Model(x, L.Activation(activation)(x))
    model.compile("sgd", loss)
    return model


def _with_metric(metric: Any) -> Any:
    x = keras.Input((3,), name="x")
    model = keras.Model(x, L.Activation("softmax")(x))
    sparse = type(metric).__name__ in samples.SPARSE
    model.compile("sgd", "sparse_categorical_crossentropy" if sparse else "mse", metrics=[metric])
    return model


def _targets(family: str, name: str) -> Callable[[Any, Any], Any] | None:
    """Numbers of classes, or one 1 among zeros; None: any numbers do."""
    numbers = np.asarray([2, 0])
    if name in samples.SPARSE:
        return lambda model, fed: numbers
    return (lambda model, fed: np.eye(3, dtype="float32")[numbers]) if family == "metrics" else None


def _short(value: Any) -> str:
    return re.sub(r"[^\w.,+-]", "", str(value))[:40]


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    main(Path(sys.argv[1]), *sys.argv[2:3])
