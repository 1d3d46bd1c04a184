"""The dictionary ONNX operator -> ``keras.ops``, filled by the files in ``ops/``.

A handler is

    @op("Softmax", since=13, pointwise=False)
    def softmax(ctx: Context, x: Tensor, *, axis: int = -1) -> Tensor: ...

- Inputs are positional (an omitted one is None; ``*xs`` takes any number), attributes are keywords with the
  default of the specification. It returns one tensor, or a tuple when the operator has several outputs.
- It computes with ``keras.ops`` alone, so that it works on arrays, on symbolic tensors and inside ``call``. What
  is known when the graph is read arrives as a NumPy array, which every ``keras.ops`` function takes.
- ``static`` names inputs that must be known numbers (axes, pads); ``dims`` names inputs that are lists of sizes,
  in which a size may be symbolic (see ``sizes.py``). Both arrive as NumPy arrays, checked before the call;
  ``ctx.ints`` and ``ctx.items`` give their items.
- ``pointwise``: every element of the output depends on the elements at the same place, under broadcasting. Such
  an operator is computed in whatever order of axes its inputs are at hand, and symbolic sizes pass through it.
- ``narrow``: its tensors may be of the types of ``narrow.py``, which are a class of their own.
- ``repeatable=False`` for random operators, which are not computed when the graph is read.

The newest ``since`` that is not newer than the opset of the operator's domain wins. ``since`` is a version of the
operator's schema (https://onnx.ai/onnx/operators/). A family file names the domain if it is not the default one.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import onnx

Tensor = Any
"""A NumPy array (known), a tensor of the backend, or a ``keras.KerasTensor``."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Handler:
    """One handler.

    Attributes:
        domain: of the operator; "" is ONNX' own.
        op_type: the operator.
        since: version of its schema from which on this handler holds.
        function: the handler itself.
        inputs: names of the positional parameters, without a variadic one.
        variadic: whether more inputs follow.
        attributes: names of the keywords.
        required: keywords without a default.
        static: inputs that must be known.
        dims: inputs that are lists of sizes.
        pointwise: see the module.
        narrow: whether it takes tensors of narrow types.
        repeatable: whether the same inputs give the same outputs, always.
    """

    domain: str
    op_type: str
    since: int
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    variadic: bool
    attributes: frozenset[str]
    required: frozenset[str]
    static: frozenset[str]
    dims: frozenset[str]
    pointwise: bool
    narrow: bool
    repeatable: bool

    def input_name(self, position: int) -> str:
        """The parameter that takes the input at a position; "" for one of a variadic list."""
        return self.inputs[position] if position < len(self.inputs) else ""


#: How `problem` ends for an operator of ONNX' own domain that no version of it has.
NOT_OF_ONNX = ", which ONNX does not have"
_HANDLERS: dict[tuple[str, str], list[Handler]] = {}


def op(
    *op_types: str,
    since: int = 1,
    domain: str = "",
    static: tuple[str, ...] = (),
    dims: tuple[str, ...] = (),
    pointwise: bool = False,
    narrow: bool = False,
    repeatable: bool = True,
) -> Callable[[F], F]:
    """Register a handler for operators by name."""

    def decorate(function: F) -> F:
        parameters = list(inspect.signature(function).parameters.values())[1:]  # the first is the context
        inputs = tuple(p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)
        unknown = {*static, *dims} - {p.name for p in parameters}
        if unknown:
            raise ValueError(f"{function.__name__} has no inputs {sorted(unknown)}")
        keywords = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
        for op_type in op_types:
            versions = _HANDLERS.setdefault((domain, op_type), [])
            if any(version.since == since for version in versions):
                raise ValueError(f"{domain}::{op_type} since {since} is registered twice")
            versions.append(
                Handler(
                    domain,
                    op_type,
                    since,
                    function,
                    inputs,
                    any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters),
                    frozenset(p.name for p in keywords),
                    frozenset(p.name for p in keywords if p.default is inspect.Parameter.empty),
                    frozenset(static),
                    frozenset(dims),
                    pointwise,
                    narrow,
                    repeatable,
                )
            )
            versions.sort(key=lambda version: version.since)
        return function

    return decorate


@cache
def _discover() -> None:
    package = "interop.rebuild.ops"
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def find_op(domain: str, op_type: str, opset: int) -> Handler | None:
    """The handler of an operator at an opset, or None."""
    _discover()
    found = None
    for handler in _HANDLERS.get((canonical(domain), op_type), ()):
        if handler.since <= opset:
            found = handler
    return found


def canonical(domain: str) -> str:
    """A domain as the table has it: "ai.onnx" is another name of ""."""
    return "" if domain == "ai.onnx" else domain


def registered() -> Iterator[Handler]:
    """Every handler, for tables and tests."""
    _discover()
    for key in sorted(_HANDLERS):
        yield from _HANDLERS[key]


def problem(domain: str, op_type: str, opset: int, attributes: Collection[str]) -> str:
    """Why a node has no handler, or one that does not know its attributes; "" if it can be computed."""
    domain = canonical(domain)
    title = f"{domain}::{op_type}" if domain else op_type
    handler = find_op(domain, op_type, opset)
    if handler is None:
        if not domain and not onnx.defs.has(op_type):
            return f"{title}{NOT_OF_ONNX}"
        older = [version.since for version in _HANDLERS.get((domain, op_type), ())]
        return f"{title} of opset {opset}" + (f" (known from {min(older)} on)" if older else "")
    unknown = sorted(set(attributes) - handler.attributes)
    if unknown:
        return f"{title} with attribute {', '.join(unknown)}"
    missing = sorted(handler.required - set(attributes))
    return f"{title} without attribute {', '.join(missing)}" if missing else ""
