"""What a trace notes about each call of a layer: arguments by parameter, results, masks.

Enters: the layer, and the arguments and outputs of its call as Keras has them. Leaves: an ``Invocation`` of values,
from which a layer whose class is lost can be called, and call the layers inside it (see ``interop.rebuild.revived``).
"""

from __future__ import annotations

from typing import Any

import keras

from interop.capture.keras import compat
from interop.capture.keras.symint import SymInt
from interop.graph.invocations import leaves
from interop.graph.record import OPAQUE, Invocation, Scope, Value

_PLAIN = (bool, int, float, str)


def begun(layer: Any, args: Any, kwargs: Any) -> Invocation | None:
    """A call with the arguments that the caller gave; None if they do not fit, which Keras will say."""
    signature = compat.call_signature(layer)
    given = {key: item for key, item in kwargs.items() if key != "training" or key in signature.parameters}
    try:
        bound = signature.bind(*args, **given)
    except TypeError:
        return None
    masked = any(compat.mask_of(leaf) is not None for leaf in leaves(bound.arguments))
    return Invocation({name: _values(item) for name, item in bound.arguments.items()}, masked=masked)


def populate(invocation: Invocation | None, kwargs: Any) -> None:
    """Add the arguments that Keras filled in: masks and the training flag."""
    if invocation is not None:
        for name, item in kwargs.items():
            if invocation.arguments.get(name) is None:
                invocation.arguments[name] = _values(item)


def ended(invocation: Invocation | None, outputs: Any) -> None:
    """Note what the call returned."""
    if invocation is not None:
        invocation.results = _values(outputs)
        invocation.masks = [_mask(leaf) for leaf in leaves(outputs)]


def is_inside(value: Value, scope: Scope) -> bool:
    """Whether a value was made in a scope or below it."""
    maker = value.scope
    while maker is not None and maker is not scope:
        maker = maker.parent
    return maker is scope


def _mask(leaf: Any) -> Value | None:
    mask = compat.mask_of(leaf)
    return mask.value if isinstance(mask, compat.Sym) else None


def _values(structure: Any) -> Any:
    if isinstance(structure, dict):
        return {key: _values(item) for key, item in structure.items()}
    if isinstance(structure, list | tuple):
        items = [_values(item) for item in structure]
        return tuple(items) if isinstance(structure, tuple) else items
    if isinstance(structure, keras.Variable):
        structure = structure.value
    if isinstance(structure, compat.Sym):
        return structure.value
    if structure is None or (isinstance(structure, _PLAIN) and not isinstance(structure, SymInt)):
        return structure
    return OPAQUE
