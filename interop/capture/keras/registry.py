"""The dictionary Keras operation -> ONNX, filled by the files in ``ops/`` and ``layers/``.

A key is the class name of a ``keras.Operation`` (``"Relu"``), the name of a backend function that
layers call directly and that has no operation class (``"zeros"``), or the class name of a layer that
needs an emitter of its own (``"LSTM"``). An emitter is

    @op("Softmax", since=13)
    def softmax(e: Emit, x: Value, *, axis: int = -1) -> Value: ...

with the tensors positional and the operation's own attributes as keywords. The newest ``since`` that
is not newer than the graph's opset wins. ``since`` is the ONNX version of the main operator used.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from interop.errors import UnsupportedOp

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Emitter:
    """One emitter.

    Attributes:
        key: what it emits.
        since: the lowest opset it can be written in.
        function: the emitter itself.
        attributes: keyword names, read off the operation object.
        spec: output shape and dtype rule that replaces Keras' own, where that one loses symbolic sizes.
    """

    key: str
    since: int
    function: Callable[..., Any]
    attributes: tuple[str, ...]
    spec: Callable[..., Any] | None


_OPS: dict[str, list[Emitter]] = {}
_FUNCTIONS: dict[str, list[Emitter]] = {}
_LAYERS: dict[str, list[Emitter]] = {}


def _register(
    table: dict[str, list[Emitter]], keys: tuple[str, ...], since: int, spec: Any
) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        parameters = inspect.signature(function).parameters.values()
        attributes = tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
        for key in keys:
            versions = table.setdefault(key, [])
            if any(version.since == since for version in versions):
                raise ValueError(f"{key} since opset {since} is registered twice")
            versions.append(Emitter(key, since, function, attributes, spec))
            versions.sort(key=lambda version: version.since)
        return function

    return decorate


def op(*keys: str, since: int = 13, spec: Callable[..., Any] | None = None) -> Callable[[F], F]:
    """Register an emitter for ``keras.Operation`` classes by class name."""
    return _register(_OPS, keys, since, spec)


def function(*keys: str, since: int = 13) -> Callable[[F], F]:
    """Register an emitter for a backend function without an operation class."""
    return _register(_FUNCTIONS, keys, since, None)


def layer(*keys: str, since: int = 13) -> Callable[[F], F]:
    """Register an emitter for a layer class: ``(e, layer, *call_args, **call_kwargs)``."""
    return _register(_LAYERS, keys, since, None)


@cache
def _discover() -> None:
    for package in ("interop.capture.keras.ops", "interop.capture.keras.layers"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            importlib.import_module(f"{package}.{module.name}")


def _newest(table: dict[str, list[Emitter]], key: str, opset: int) -> Emitter | None:
    _discover()
    found = None
    for emitter in table.get(key, ()):
        if emitter.since <= opset:
            found = emitter
    if found is None and table.get(key):
        needed = table[key][0].since
        raise UnsupportedOp(
            f"{key} needs opset {needed} or newer, but opset {opset} was requested. "
            f"Pass opset={needed} or leave opset out."
        )
    return found


def find_op(key: str, opset: int) -> Emitter | None:
    """The emitter of an operation class, or None."""
    return _newest(_OPS, key, opset)


def find_function(key: str, opset: int) -> Emitter | None:
    """The emitter of a backend function, or None."""
    return _newest(_FUNCTIONS, key, opset)


def find_layer(key: str, opset: int) -> Emitter | None:
    """The emitter of a layer class, or None (its ``call`` is traced instead)."""
    return _newest(_LAYERS, key, opset)


def registered() -> dict[str, dict[str, tuple[int, ...]]]:
    """Everything registered: kind -> key -> opset versions. For tables and tests."""
    _discover()
    tables = {"operation": _OPS, "function": _FUNCTIONS, "layer": _LAYERS}
    return {
        kind: {key: tuple(version.since for version in versions) for key, versions in sorted(table.items())}
        for kind, table in tables.items()
    }
