"""How a model of Keras 2 was compiled, and the state of its optimizer.

Enters: the training config of a file, and the optimizer's tensors. Leaves: arguments for ``compile``, and which
variable of the optimizer each tensor belongs to. What Keras 3 cannot take is reported, never dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from interop.capture.keras import compat, paths
from interop.errors import RebuildError
from interop.rebuild.classes import Resolver
from interop.rebuild.legacy import table
from interop.rebuild.legacy.plan import Planner
from interop.rebuild.legacy.variables import Stored
from interop.status import Change


@dataclass(frozen=True)
class Compilation:
    """Configs for ``compile``, by argument; `resolver` found every class and function in them."""

    arguments: Mapping[str, Any]

    def apply(self, model: Any) -> None:
        """Compile a model."""
        model.compile(**{name: _made(value) for name, value in self.arguments.items()})
        if not isinstance(model.optimizer, keras.optimizers.Optimizer):
            raise RebuildError(f"the optimizer is a {type(model.optimizer).__name__}; expected one of Keras")


def _made(value: Any) -> Any:
    """Configs become objects; names, numbers and structures of them stay."""
    if isinstance(value, dict):
        if "class_name" in value and "config" in value:
            return keras.saving.deserialize_keras_object(value, safe_mode=True)
        return {key: _made(item) for key, item in value.items()}
    return [_made(item) for item in value] if isinstance(value, list) else value


def plan_compilation(config: Any, planner: Planner, resolver: Resolver) -> Compilation | None:
    """What ``compile`` is to be called with; None if the model was not compiled.

    Raises:
        RebuildError: the config is not as Keras writes it, or asks for what Keras 3 does not have.
    """
    if not config:
        return None
    if not isinstance(config, dict):
        raise RebuildError(f"the training config is {config!r:.80}; expected a mapping")
    reader = _Reader(planner, resolver)
    optimizer = config.get("optimizer_config") or config.get("optimizer")
    arguments = {
        "optimizer": reader.optimizer(optimizer),
        "loss": reader.each(config.get("loss"), reader.loss),
        "metrics": _single_output(reader.each(config.get("metrics"), reader.metric)),
        "weighted_metrics": _single_output(reader.each(config.get("weighted_metrics"), reader.metric)),
        "loss_weights": config.get("loss_weights"),
    }
    return Compilation({name: value for name, value in arguments.items() if value is not None})


def _single_output(metrics: Any) -> Any:
    """``[[a, b]]`` -> ``[a, b]``: Keras 2 has a list for every output even where there is one."""
    nested = isinstance(metrics, list) and len(metrics) == 1 and isinstance(metrics[0], list)
    return metrics[0] if nested else metrics


class _Reader:
    def __init__(self, planner: Planner, resolver: Resolver) -> None:
        self._planner = planner
        self._resolver = resolver

    def optimizer(self, config: Any) -> Any:
        if isinstance(config, dict) and "class_name" in config and "config" in config:
            return self._planner.object(config, "optimizers")
        if config is not None and not isinstance(config, str):
            raise RebuildError(
                f"the optimizer is described by {config!r:.80}; expected a name, or a class and its config"
            )
        return config

    def each(self, value: Any, convert: Callable[[Any], Any]) -> Any:
        """A structure over the outputs of a model, its leaves converted."""
        if isinstance(value, list | tuple):
            return [self.each(item, convert) for item in value]
        if isinstance(value, dict) and "class_name" not in value:
            return {key: self.each(item, convert) for key, item in value.items()}
        return None if value is None else convert(value)

    def loss(self, value: Any) -> Any:
        if isinstance(value, str):
            name = table.LOSSES.get(value, value)
            known = hasattr(keras.losses, name)
            return name if known else self._resolver.prepare(_function(name), "compile()")
        name, arguments = _class_and_arguments(value)
        if name == "function":
            return self.loss(_name(arguments))
        if name == "LossFunctionWrapper":
            return self.loss(_name(arguments.get("fn")))
        return self._planner.object(value, "losses")

    def metric(self, value: Any) -> Any:
        if isinstance(value, str):
            if value in ("accuracy", "acc", "crossentropy", "ce"):
                return value
            return self._resolver.prepare(_wrapped(value, {"name": value}), "compile()")
        name, arguments = _class_and_arguments(value)
        if name == "function":
            return self.metric(_name(arguments))
        if name in ("MeanMetricWrapper", "SumOverBatchSizeMetricWrapper"):
            wrapped = _wrapped(_name(arguments.get("fn")), arguments)
            return self._resolver.prepare(wrapped, "compile()")
        return self._planner.object(value, "metrics")


def _class_and_arguments(value: Any) -> tuple[str, Any]:
    named = isinstance(value, dict) and isinstance(value.get("class_name"), str)
    if not named or not isinstance(value.get("config"), dict | str):
        raise RebuildError(
            f"a loss or metric is described by {value!r:.80}; expected a name, or a class and its config"
        )
    if isinstance(value["config"], str) and value["class_name"] != "function":
        raise RebuildError(
            f"the config of {value['class_name']} is {value['config']!r:.80}; expected a mapping"
        )
    return value["class_name"], value["config"]


def _name(function: Any) -> str:
    if isinstance(function, dict):
        function = function.get("config")
    if not isinstance(function, str):
        raise RebuildError(f"a loss or metric names its function by {function!r:.80}; expected a string")
    return function


def _function(name: str) -> dict[str, Any]:
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": name}


def _wrapped(function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A metric that is the mean of a function."""
    name = table.LOSSES.get(function, function)
    return {
        "module": "keras.metrics",
        "class_name": "MeanMetricWrapper",
        "config": {"name": arguments.get("name"), "dtype": "float32", "fn": _function(name)},
        "registered_name": None,
    }


Tensors = dict[str, Stored]


def slots_by_name(
    model: Any, stored: Iterable[Stored], names: Mapping[str, Any]
) -> tuple[Tensors, list[Stored]]:
    """Which optimizer variable each tensor belongs to, by the names in an HDF5 file; and what belongs to none.

    ``Adam/m/dense/kernel:0`` of the newer optimizers of Keras 2, ``Adam/dense/kernel/m:0`` of its legacy ones,
    ``adam/dense_kernel_momentum`` of Keras 3.

    Args:
        model: compiled, its optimizer built.
        stored: the optimizer's tensors.
        names: stored name of each model variable (without ``:0``) to the variable.
    """
    keys = paths.object_paths(model)
    own = paths.optimizer_variables(model)
    found: Tensors = {}
    left: list[Stored] = []
    longest_first = sorted(names, key=len, reverse=True)
    for item in stored:
        name = item.name.split(":")[0]
        key = _slot_key(name, longest_first, names, keys, model.optimizer)
        inner = getattr(model.optimizer, "inner_optimizer", None)
        if inner is not None and name.startswith(f"{inner.name}/") and f"inner_optimizer/{key}" in own:
            key = f"inner_optimizer/{key}"
        if key in own and key not in found:
            found[key] = item
        else:
            left.append(item)
    return found, left


def _slot_key(
    name: str, known: Sequence[str], names: Mapping[str, Any], keys: Mapping[int, str], optimizer: Any
) -> str:
    for variable in known:
        key = keys.get(id(names[variable]))
        if name.endswith(f"/{variable}"):
            return f"{key}/{slot(name.removesuffix(f'/{variable}'), optimizer)}"
        if name.rpartition("/")[0].endswith(variable):
            return f"{key}/{slot(name, optimizer)}"
        flat, own = variable.replace("/", "_"), name.rsplit("/", 1)[-1]
        if own.startswith(f"{flat}_"):
            return f"{key}/{slot(own.removeprefix(f'{flat}_'), optimizer)}"
    return slot(name, optimizer)


def slot(name: str, optimizer: Any) -> str:
    """What Keras 3 calls a variable of an optimizer."""
    own = name.rsplit("/", 1)[-1]
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    unnumbered = re.sub(r"_\d+$", "", own)  # Keras 3 numbers variables that were given no name
    return table.SLOTS_OF.get((type(inner).__name__, unnumbered)) or table.SLOTS.get(own, own)


def slots_by_order(
    model: Any, stored: Sequence[Stored], variables: Sequence[Any]
) -> tuple[Tensors, list[Stored]]:
    """The same for a list of tensors without names, in the order in which tf_keras lists them."""
    keys = paths.object_paths(model)
    own = paths.optimizer_variables(model)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    groups = table.SLOT_ORDER.get(type(optimizer).__name__, ())
    if getattr(optimizer, "use_ema", False):
        groups = (("average",), *groups)
    order = ["iterations"]
    for group in groups:
        present = [name for name in group if any(f"{keys[id(v)]}/{name}" in own for v in variables)]
        always = present or (group if group == ("momentum",) and type(optimizer).__name__ == "SGD" else [])
        order += [f"{keys[id(v)]}/{name}" for v in variables for name in always]
    if len(order) != len(stored):
        return {}, list(stored)
    found = {key: item for key, item in zip(order, stored, strict=True) if key in own}
    fits = all(tuple(own[key].shape) == item.shape for key, item in found.items())
    if not fits:
        return {}, list(stored)
    return found, [item for key, item in zip(order, stored, strict=True) if key not in own]


def slots_without_names(
    model: Any, stored: Sequence[Stored], variables: Sequence[Any]
) -> tuple[Tensors, list[Stored]]:
    """The same for Keras 1 and 2.2, whose optimizers list one slot after the other, and unused ones last."""
    keys, own = paths.object_paths(model), paths.optimizer_variables(model)
    order: list[str] = []
    for (name,) in table.OLD_SLOT_ORDER.get(type(model.optimizer).__name__, ()):
        order += [name] if name == "iterations" else [f"{keys[id(v)]}/{name}" for v in variables]
    found = {key: item for key, item in zip(order, stored, strict=False) if key in own}
    if len(stored) < len(order) or any(tuple(own[key].shape) != item.shape for key, item in found.items()):
        return {}, list(stored)
    return found, [item for item in stored[len(order) :] if item.shape != (1,)]


def account(model: Any, found: Tensors, left: Sequence[Stored]) -> list[Change]:
    """What the optimizer lacks of its old state, and what of that state nothing takes."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    where = f"optimizer {type(optimizer).__name__}"
    own = paths.optimizer_variables(model)
    missing = [
        k
        for k in own
        if k not in found and not k.endswith("learning_rate") and k.split("/")[-1] not in _UNUSED
    ]
    changes = []
    if missing:
        listed = ", ".join(missing[:8]) + (f", and {len(missing) - 8} more" if len(missing) > 8 else "")
        changes.append(
            Change(where, f"the state of {listed}", "starts anew: the file does not have it", True)
        )
    unused = [item.name for item in left if not _is_plain_momentum(item, optimizer)]
    if unused:
        changes.append(
            Change(where, f"the stored {', '.join(unused[:8])}", "left out: nothing takes it", True)
        )
    return changes


_UNUSED = frozenset({"c", "r"})


def _is_plain_momentum(item: Stored, optimizer: Any) -> bool:
    """SGD of tf_keras has momenta even where it does not use them."""
    return isinstance(optimizer, keras.optimizers.SGD) and not optimizer.momentum


def derived(model: Any, found: Tensors, iterations: int) -> dict[str, Any]:
    """Scalars that follow from the number of steps, where the file does not have them."""
    own = paths.optimizer_variables(model)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    values: dict[str, Any] = {}
    for key in own:
        if key.endswith("iterations") and key not in found:
            values[key] = iterations
        if key.endswith("u_product") and key not in found:  # of Nadam: its momenta, multiplied up
            product = 1.0
            for step in range(1, iterations + 1):
                product *= optimizer.beta_1 * (1.0 - 0.5 * 0.96**step)
            values[key] = product
    return values


def build_optimizer(model: Any) -> None:
    """Make the optimizer's variables for what is trainable now."""
    if model.optimizer is not None and not model.optimizer.built:
        with compat.deferred_variables():
            model.optimizer.build(model.trainable_variables)
