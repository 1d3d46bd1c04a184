"""Private Keras names for reading and rebuilding objects; ``compat`` holds those for tracing.

The two files hold every private Keras name and version check of the package, nowhere else. Each
function says what it reads and holds for Keras 3.10 to 3.15.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import keras
from keras.src.models.functional import Functional, functional_like_constructor
from keras.src.utils.naming import to_snake_case


def named_layers(owner: Any) -> list[Any]:
    """Layers of a Sequential or Functional model, inputs included; none for any other object.

    A subclass may be initialised as a Functional and have layers in attributes besides.
    """
    if isinstance(owner, keras.Sequential):
        return sublayers(owner)
    return (
        [op for op in owner._operations if isinstance(op, keras.Layer)]
        if isinstance(owner, Functional)
        else []
    )


def config_keeps_layer_names(layer: Any) -> bool:
    """Whether rebuilding a container from its config gives its layers their old names back.

    A subclass with a constructor of its own is rebuilt by running that constructor, which draws
    new automatic names.
    """
    if isinstance(layer, keras.Sequential):
        return True
    return isinstance(layer, Functional) and functional_like_constructor(type(layer))


def sublayers(layer: Any) -> list[Any]:
    """Directly tracked sublayers in the order they were attached (``Layer._layers``)."""
    inner = vars(layer).get("_functional")  # a Sequential's own graph; torch keeps it in _modules
    inner = inner or vars(layer).get("_modules", {}).get("_functional")
    return [child for child in layer._layers if child is not inner]


def own_variables(owner: Any) -> list[Any]:
    """Variables a layer, metric or optimizer tracks itself, without its children's, in creation order."""
    if isinstance(owner, keras.Metric | keras.optimizers.Optimizer):
        return list(owner._variables)
    return [*owner._trainable_variables, *owner._non_trainable_variables]


def own_metrics(owner: Any) -> list[Any]:
    """Metrics a layer or metric tracks as attributes (not those made by ``compile``)."""
    return list(owner._metrics)


def seed_generators(owner: Any) -> list[Any]:
    """Seed generators a layer tracks itself; a metric has none."""
    return [] if isinstance(owner, keras.Metric) else list(owner._seed_generators)


def attributes(owner: Any) -> dict[str, Any]:
    """Attributes a class has set, the same on the three backends.

    The torch backend moves sublayers out of ``__dict__`` into ``_modules``; TensorFlow adds lists of its
    own (``_self_...``). Bookkeeping that every bare layer has and the graph of a Functional are left out.
    """
    own = vars(owner)
    merged = {**own, **own.get("_modules", {})}
    skipped = _bookkeeping()
    return {n: v for n, v in merged.items() if n not in skipped and not n.startswith("_self_")}


_LISTS_OF_TRACKED = frozenset(
    {
        "_layers",
        "_metrics",
        "_seed_generators",
        "_variables",
        "_trainable_variables",
        "_non_trainable_variables",
        "_torch_params",
        "_functional",
        "_operations",
        "_operations_by_depth",
        "_nodes",
        "_nodes_by_depth",
    }
)


@cache
def _bookkeeping() -> frozenset[str]:
    return frozenset(vars(keras.Layer())) | _LISTS_OF_TRACKED


def automatic_name(owner: Any) -> tuple[str, int] | None:
    """Stem and number of a name that Keras would give by itself (``dense_3``), else None.

    Keras does not record whether a name was given, so a given name of that form counts as automatic.
    """
    stem = to_snake_case(type(owner).__name__)
    match = re.fullmatch(rf"{re.escape(stem)}(?:_(\d+))?", owner.name)
    return (stem, int(match[1] or 0)) if match else None


def optimized_variables(optimizer: Any) -> list[Any]:
    """The model variables an optimizer was built for, in the order of its slot lists."""
    return list(optimizer._trainable_variables)


def slot_name(variable: Any, reference: Any, attribute: str) -> str:
    """``momentum`` for a slot Keras named ``dense_kernel_momentum``; else the attribute that holds it."""
    prefix = reference.path.replace("/", "_") + "_"
    name: str = getattr(variable, "name", "")
    return name.removeprefix(prefix) if name.startswith(prefix) else attribute
