"""Configs and tensors of Keras 1, in the form of Keras 2.

Enters: the config of a model of Keras 1 and the tensors of its layers. Leaves: the same as Keras 2 would have written
them, which the rest of this folder reads. What has another meaning, not only another name, is refused: kernels in
Theano's order, and modes of BatchNormalization.

Source: keras 1.2.2 against 2.0, ``keras/legacy/interfaces.py`` and ``engine/topology.py`` of Keras 2.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.errors import RebuildError
from interop.rebuild.legacy.variables import Stored

CLASSES: Mapping[str, str] = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "TimeDistributedDense": "Dense",
}
RENAMED: Mapping[str, str] = {
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
    "border_mode": "padding",
    "subsample": "strides",
    "subsample_length": "strides",
    "stride": "strides",
    "dim_ordering": "data_format",
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "pool_length": "pool_size",
    "atrous_rate": "dilation_rate",
    "p": "rate",
    "sigma": "stddev",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "forget_bias_init": "unit_forget_bias",
    "output_dim": "units",
    "length": "size",
}
RENAMED_IN: Mapping[tuple[str, str], str] = {
    ("Embedding", "output_dim"): "output_dim",
    ("Embedding", "init"): "embeddings_initializer",
    ("Embedding", "W_regularizer"): "embeddings_regularizer",
    ("Embedding", "W_constraint"): "embeddings_constraint",
    ("PReLU", "init"): "alpha_initializer",
}
VALUES: Mapping[str, Callable[[Any], Any]] = {
    "data_format": lambda value: {"tf": "channels_last", "default": None}.get(str(value), value),
    "unit_forget_bias": lambda value: value == "one",
}
SIZES = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
"""Arguments that became one, ``kernel_size``."""

UNUSED = frozenset({"consume_less", "input_length", "mode_type", "weights"})
MERGES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "sum": ("Add", {}),
    "mul": ("Multiply", {}),
    "ave": ("Average", {}),
    "max": ("Maximum", {}),
    "concat": ("Concatenate", {"concat_axis": "axis"}),
    "dot": ("Dot", {"dot_axes": "axes"}),
    "cos": ("Dot", {"dot_axes": "axes"}),
}
"""Mode of the Merge layer -> the layer, and which of its arguments are called how."""

VARIABLES: Mapping[str, str] = {
    "W": "kernel",
    "U": "recurrent_kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    "gamma": "gamma",
    "beta": "beta",
    "alphas": "alpha",
    "depthwise_kernel": "depthwise_kernel",
    "pointwise_kernel": "pointwise_kernel",
}
GATES: Mapping[str, str] = {"LSTM": "ifco", "GRU": "zrh"}
"""The order in which later versions join what Keras 1 kept apart for every gate."""


def modern_config(config: Any) -> Any:
    """A config of Keras 1 as Keras 2 would have written it.

    Raises:
        RebuildError: it asks for something that Keras 2 had no more.
    """
    if isinstance(config, list):
        return [modern_config(item) for item in config]
    if not isinstance(config, dict):
        return config
    if not isinstance(config.get("class_name"), str) or not isinstance(config.get("config"), dict | list):
        return {key: modern_config(item) for key, item in config.items()}
    name, arguments = config["class_name"], config["config"]
    if name == "Merge" and isinstance(arguments, dict):
        return {**config, **_merge(arguments)}
    if isinstance(arguments, dict) and "layers" not in arguments:
        arguments = _arguments(name, arguments)
    else:
        arguments = modern_config(arguments)
    return {**config, "class_name": CLASSES.get(name, name), "config": arguments}


def _merge(arguments: Mapping[str, Any]) -> dict[str, Any]:
    mode = arguments.get("mode")
    if not isinstance(mode, str) or mode not in MERGES:
        raise RebuildError(
            f"Merge {arguments.get('name')!r} of Keras 1 has mode={mode!r:.60}, which Keras 3 lacks"
        )
    name, renamed = MERGES[mode]
    made = {new: arguments[old] for old, new in renamed.items() if old in arguments}
    if mode == "cos":
        made["normalize"] = True
    return {"class_name": name, "config": {"name": arguments.get("name"), **made}}


def _arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    where = f"{name} {arguments.get('name')!r}"
    if arguments.get("dim_ordering") == "th":
        raise RebuildError(
            f"{where}: its kernels are in Theano's order (dim_ordering='th'), which is not read"
        )
    if name == "BatchNormalization" and arguments.get("mode", 0) != 0:
        raise RebuildError(f"{where}: mode={arguments['mode']!r} of BatchNormalization is not in Keras 3")
    made: dict[str, Any] = {}
    for key, value in arguments.items():
        if key in UNUSED or (key == "mode" and name == "BatchNormalization"):
            continue
        if key == "input_dim" and name != "Embedding":
            continue
        new = RENAMED_IN.get((name, key)) or RENAMED.get(key, key)
        value = VALUES[new](value) if new in VALUES else value
        made[new] = _regularizer(value) if new.endswith("regularizer") else modern_config(value)
    for parts in SIZES:
        if all(part in made for part in parts):
            made["kernel_size"] = [made.pop(part) for part in parts]
    if name == "Embedding" and made.pop("dropout", 0.0):
        raise RebuildError(f"{where}: dropout of an embedding is not in Keras 3")
    return made


def _regularizer(value: Any) -> Any:
    if not isinstance(value, dict) or "name" not in value:
        return value
    return {"class_name": "L1L2", "config": {key: item for key, item in value.items() if key in ("l1", "l2")}}


def modern_tensors(stored: Sequence[Stored]) -> list[Stored]:
    """The tensors of one layer, with the names of Keras 2 and those of a layer's gates joined."""
    made: list[Stored] = []
    gates: dict[tuple[str, str], dict[str, Stored]] = {}
    for item in stored:
        owner, _, gate = item.leaf.rpartition("_")
        kind = owner[-2:] if owner[-2:] in ("_W", "_U", "_b") else ""
        if kind and gate in "ifcozrh":
            key = owner[:-2], VARIABLES[kind[1]]
            if key not in gates:
                gates[key] = {}
                made.append(Stored("/".join(key), (), item.read))  # its place; filled below
            gates[key][gate] = item
        else:
            made.append(_renamed(item))
    by_name = {"/".join(key): _joined("/".join(key), parts) for key, parts in gates.items()}
    return [by_name.get(item.name, item) for item in made]


def _renamed(item: Stored) -> Stored:
    for old, new in VARIABLES.items():
        if item.leaf.endswith(f"_{old}"):
            owner = item.leaf.removesuffix(f"_{old}")
            new = "embeddings" if old == "W" and owner.startswith("embedding") else new
            return Stored("/".join([*item.scopes, owner, new]), item.shape, item.read, item.name)
    return item


def _joined(name: str, parts: Mapping[str, Stored]) -> Stored:
    order = next((gates for gates in GATES.values() if set(gates) == set(parts)), None)
    if order is None:
        raise RebuildError(f"{name}: gates {', '.join(sorted(parts))} are those of no layer of Keras 1")
    items = [parts[gate] for gate in order]

    def read() -> NDArray[Any]:
        return np.concatenate([item.read() for item in items], axis=-1)

    width = sum(item.shape[-1] if item.shape else 0 for item in items)
    return Stored(name, (*items[0].shape[:-1], width), read)
