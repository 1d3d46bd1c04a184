"""A Keras that reports to the hooks of a running trace.

Enters: hooks of a running trace. Leaves: a Keras whose operations, layer calls and backend functions
report to those hooks while, and only while, the trace runs on this thread's lock.

Invariants:
- Everything patched is restored in a ``finally``, in reverse order.
- The patches do nothing for calls in which no traced tensor, variable or symbolic size takes part.
- Patching is process-global, so ``tracing`` holds one lock.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

import keras
from keras.src import backend as keras_backend
from keras.src import tree as keras_tree
from keras.src.backend.common import backend_utils, dtypes, global_state
from keras.src.backend.common import keras_tensor as keras_tensor_module
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.backend.config import is_nnx_enabled
from keras.src.layers import layer as layer_module
from keras.src.ops import operation_utils
from keras.src.ops.operation import Operation
from keras.src.utils import naming

from interop.capture.keras import shapes
from interop.capture.keras.compat import gradients
from interop.capture.keras.compat.tracebacks import whole_tracebacks
from interop.capture.keras.compat.traced import KerasTensor, Sym, Variable
from interop.capture.keras.compat.values import mapping_plainly, telling_at_once
from interop.capture.keras.symint import SymInt
from interop.graph.record import Value

Layer = keras.Layer

_LOCK = threading.RLock()


class Hooks(Protocol):
    """What a trace answers while Keras is patched."""

    def operation(self, operation: Any, args: Any, kwargs: Any) -> Any:
        """``Operation.symbolic_call``."""

    def layer_body(self, layer: Any, args: Any, kwargs: Any) -> Any:
        """What runs inside ``Layer.__call__``."""

    def layer_call(self, layer: Any, run: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        """``Layer.__call__`` as a whole; ``run()`` does it."""

    def function(self, name: str, args: Any, kwargs: Any, symbolic: Callable[..., Any] | None) -> Any:
        """A backend function called on traced values; ``symbolic`` is the public op of that name."""

    def added_loss(self) -> None:
        """The running layer called ``Layer.add_loss``."""

    def variable(self, variable: Any) -> Any:
        """The traced tensor that stands for a variable."""


def _mentions(item: Any) -> bool:
    if isinstance(item, KerasTensor | Variable | SymInt):
        return True
    if isinstance(item, list | tuple):
        return any(_mentions(child) for child in item)
    if isinstance(item, dict):
        return any(_mentions(child) for child in item.values())
    if isinstance(item, slice):
        return _mentions((item.start, item.stop, item.step))
    return False


def mentions(args: Any, kwargs: Any = None) -> bool:
    """Whether a traced tensor, a variable or a symbolic size takes part in a call."""
    return any(_mentions(item) for item in args or ()) or (
        bool(kwargs) and any(_mentions(item) for item in kwargs.values())
    )


class _State:
    """The running trace; `force` makes the next symbolic check of a public op say yes; what was patched."""

    hooks: Hooks | None = None
    force = False
    originals: ClassVar[list[tuple[Any, str, Any]]] = []


def _any_symbolic_tensors(args: Any = None, kwargs: Any = None) -> bool:
    if _State.force:
        _State.force = False
        return True
    return mentions(args, kwargs)


def run_symbolic(public_op: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a public op so that it takes its symbolic path whatever its arguments are."""
    _State.force = True
    try:
        return public_op(*args, **kwargs)
    finally:
        _State.force = False


class TraceScope(keras.StatelessScope):  # type: ignore[misc]
    """Answers reads of variables with traced tensors and keeps updates to itself."""

    def __init__(self, hooks: Hooks) -> None:
        super().__init__(initialize_variables=False)
        self._hooks = hooks

    def get_current_value(self, variable: Any) -> Any:
        updated = self.state_mapping.get(id(variable))
        return self._hooks.variable(variable) if updated is None else updated


_FAMILIES = ("core", "numpy", "nn", "math", "linalg", "image", "random", "rnn")

_PLAIN = {"is_tensor", "convert_to_numpy", "compute_output_spec", "name_scope", "device_scope", "is_sparse"}


@functools.cache
def _bridges() -> list[tuple[Any, str, Any]]:
    """(module, attribute, wrapper) for every backend function that layers may call directly."""
    name = keras_backend.backend()
    package = importlib.import_module(f"keras.src.backend.{name}")
    wrapped: dict[int, Any] = {}
    patches: list[tuple[Any, str, Any]] = []
    for family in _FAMILIES:
        module = importlib.import_module(f"keras.src.backend.{name}.{family}")
        public = _public_ops(family)
        for attribute, function in list(vars(module).items()):
            mine = getattr(function, "__module__", "") == module.__name__
            if attribute.startswith("_") or attribute in _PLAIN or not mine or isinstance(function, type):
                continue
            if callable(function):
                wrapper = _bridge(attribute, function, public.get(attribute), family == "random")
                wrapped[id(function)] = wrapper
                patches.append((module, attribute, wrapper))
    for namespace in (keras_backend, package):
        for attribute, function in list(vars(namespace).items()):
            if id(function) in wrapped:
                patches.append((namespace, attribute, wrapped[id(function)]))
    return patches


def _public_ops(family: str) -> dict[str, Any]:
    """The public operations by name; those of the family's own module before others (``nn.tanh`` is NumPy's)."""
    if family in ("random", "rnn"):
        return {}
    return {**vars(keras.ops), **vars(importlib.import_module(f"keras.src.ops.{family}"))}


# Operations that run functions of the user's, which may use traced tensors whatever the arguments are.
_RUN_FUNCTIONS = {
    "AssociativeScan": "associative_scan",
    "Cond": "cond",
    "ForiLoop": "fori_loop",
    "Map": "map",
    "Scan": "scan",
    "Switch": "switch",
    "VectorizedMap": "vectorized_map",
    "WhileLoop": "while_loop",
}


def _bridge(name: str, original: Callable[..., Any], public: Any, draws: bool) -> Callable[..., Any]:
    """``draws``: random numbers are never drawn while tracing, or they would be constants of the graph."""
    always = draws or name in _RUN_FUNCTIONS.values()

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _State.hooks is not None and (always or mentions(args, kwargs)):
            return _State.hooks.function(name, args, kwargs, public)
        return original(*args, **kwargs)

    return call


@functools.cache
def _symbolic_checks() -> list[tuple[Any, str, Any]]:
    """Every module that holds its own reference to ``any_symbolic_tensors``."""
    return _replaced("any_symbolic_tensors", keras_tensor_module.any_symbolic_tensors, _any_symbolic_tensors)


@functools.cache
def _shape_rules() -> list[tuple[Any, str, Any]]:
    """Shape rules that lose symbolic sizes, in every module of ``keras.src.ops`` that holds one."""
    patches: list[tuple[Any, str, Any]] = []
    modules = [operation_utils, *(importlib.import_module(f"keras.src.ops.{f}") for f in _FAMILIES[:6])]
    for name in (
        "broadcast_shapes",
        "compute_conv_output_shape",
        "compute_pooling_output_shape",
        "compute_reshape_output_shape",
    ):
        original = getattr(operation_utils, name)
        patches += [(m, name, getattr(shapes, name)) for m in modules if vars(m).get(name) is original]
    return patches


@functools.cache
def _window_functions() -> list[tuple[Any, str, Any]]:
    """Public functions that refuse a symbolic length although their backend function is bridged."""
    return [
        patch
        for name in ("bartlett", "blackman", "hamming", "hanning", "kaiser")
        for patch in _everywhere(name, getattr(keras.ops, name, None))
    ]


@functools.cache
def _unpackers() -> list[tuple[Any, str, Any]]:
    """The function that takes four-bit integers apart; Keras has it from 3.11 on."""
    return _everywhere("unpack_int4", getattr(keras.quantizers, "unpack_int4", None))


@functools.cache
def _casts() -> list[tuple[Any, str, Any]]:
    """``ops.cast`` to the dtype that a tensor has, of which layers are full: the tensor itself, with no operation."""
    original = keras.ops.cast

    @functools.wraps(original)
    def cast(x: Any, dtype: Any) -> Any:
        traced = x.value if isinstance(x, Variable) and _State.hooks is not None else x
        if isinstance(traced, Sym) and traced.dtype == keras_backend.standardize_dtype(dtype):
            return Sym(traced.value)
        return original(x, dtype)

    return _replaced("cast", original, cast)


@functools.cache
def _names() -> list[tuple[Any, str, Any]]:
    """What Keras names each operation after, once for each class."""
    return [(naming, "to_snake_case", functools.cache(naming.to_snake_case))]


def _everywhere(name: str, original: Any) -> list[tuple[Any, str, Any]]:
    """A public function bridged in every module of Keras that holds it."""
    return [] if original is None else _replaced(name, original, _bridge(name, original, None, False))


def _replaced(name: str, original: Any, wrapper: Any) -> list[tuple[Any, str, Any]]:
    """A function replaced in every module of Keras that holds it."""
    return [(module, name, wrapper) for module in _keras_modules() if vars(module).get(name) is original]


@functools.cache
def _keras_modules() -> list[Any]:
    return [module for path, module in list(sys.modules.items()) if path.startswith("keras.")]


@functools.cache
def _vectorizers() -> list[tuple[Any, str, Any]]:
    """``ops.vectorize`` maps by the framework's own transform; traced tensors take ``vectorized_map``."""
    module = importlib.import_module(f"keras.src.backend.{keras_backend.backend()}.numpy")
    original, keras_own = vars(module).get("vectorize"), vars(backend_utils).get("vectorize_impl")
    if original is None or keras_own is None:
        return []

    def vectorize(function: Any, **options: Any) -> Any:
        concrete, traced = original(function, **options), keras_own(function, _mapped, **options)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return (traced if mentions(args, kwargs) else concrete)(*args, **kwargs)

        return call

    return [(module, "vectorize", vectorize)]


def _mapped(inner: Callable[..., Any], in_axes: Sequence[int | None]) -> Callable[..., Any]:
    """``inner`` over the first axis of the arguments whose entry is not None, as ``jax.vmap`` does it."""

    def call(*args: Any) -> Any:
        def at_one_place(slices: Any) -> Any:
            rest = iter(slices)
            return inner(
                *(arg if axis is None else next(rest) for arg, axis in zip(args, in_axes, strict=True))
            )

        chosen = [arg for arg, axis in zip(args, in_axes, strict=True) if axis is not None]
        return keras.ops.vectorized_map(at_one_place, tuple(chosen))

    return call


def _standardize_shape(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def standardize(shape: Any) -> Any:
        if isinstance(shape, list | tuple) and any(isinstance(dim, SymInt) for dim in shape):
            return tuple(shape)
        return original(shape)

    return standardize


def _no_node(*args: Any, **kwargs: Any) -> None:
    """Instead of ``Node``: a trace must not leave nodes behind on the user's layers."""


def _operation_hook(original: Callable[..., Any]) -> Callable[..., Any]:
    def symbolic_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A symbolic size may be all there is, as in broadcast_to(constant, shape(x)): an attribute.
        if _State.hooks is not None and (
            type(self).__name__ in _RUN_FUNCTIONS or mentions(args, kwargs) or mentions(vars(self).values())
        ):
            return _State.hooks.operation(self, args, kwargs)
        return original(self, *args, **kwargs)

    return symbolic_call


def _bare_operation(original: Callable[..., Any]) -> staticmethod[..., Any]:
    """Instead of ``Operation.__new__``: one made while tracing needs no config of its own arguments."""

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        if issubclass(cls, Layer) or is_nnx_enabled():
            return original(cls, *args, **kwargs)
        made: Any = object.__new__(cls)
        vars(made).update(_auto_config=None, _lock=True)
        return made

    return staticmethod(new)


def _layer_body_hook(original: Callable[..., Any]) -> Callable[..., Any]:
    def symbolic_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _State.hooks is not None and mentions(args, kwargs):
            return _State.hooks.layer_body(self, args, kwargs)
        return original(self, *args, **kwargs)

    return symbolic_call


def _layer_call_hook(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        hooks = _State.hooks
        if hooks is not None and mentions(args, kwargs):
            return hooks.layer_call(self, lambda: original(self, *args, **kwargs), args, kwargs)
        return original(self, *args, **kwargs)

    return call


def _loss_hook(original: Callable[..., Any]) -> Callable[..., Any]:
    """Instead of ``Layer.add_loss``: a loss is for training, and must not stay on the user's layers."""

    def add_loss(self: Any, loss: Any) -> Any:
        if _State.hooks is None:
            return original(self, loss)
        return _State.hooks.added_loss()

    return add_loss


def _patches() -> list[tuple[Any, str, Any]]:
    return [
        (Operation, "__new__", _bare_operation(Operation.__new__)),
        (Operation, "symbolic_call", _operation_hook(Operation.symbolic_call)),
        (Layer, "symbolic_call", _layer_body_hook(Layer.symbolic_call)),
        (Layer, "__call__", _layer_call_hook(Layer.__call__)),
        (Layer, "add_loss", _loss_hook(Layer.add_loss)),
        (layer_module, "Node", _no_node),
        (keras_tree, "map_structure", mapping_plainly(keras_tree.map_structure)),
        (keras_backend, "is_tensor", telling_at_once(keras_backend.is_tensor)),
        (keras_backend, "standardize_shape", _standardize_shape(keras_backend.standardize_shape)),
        *_symbolic_checks(),
        *_shape_rules(),
        *_window_functions(),
        *_unpackers(),
        *_casts(),
        *_names(),
        *gradients.patches(mentions),
        *_bridges(),
        *_vectorizers(),
    ]


@contextlib.contextmanager
def tracing(hooks: Hooks, *, float64: bool = False) -> Iterator[None]:
    """Run a block with Keras reporting to ``hooks``; not reentrant.

    With `float64`, float64 and float64 make float64 on every backend, as on TensorFlow; Keras' own promotion
    makes float32 of it on the others.
    """
    promoted = {**dtypes.BIT64_TO_BIT32_DTYPE, "float64": "float64"}
    kept = [(dtypes, "BIT64_TO_BIT32_DTYPE", promoted)] if float64 else []
    with _LOCK:
        if _State.hooks is not None:
            raise RuntimeError("a trace is already running in this thread")
        with whole_tracebacks(), _swapped([*_patches(), *kept]):
            _State.hooks = hooks
            try:
                with TraceScope(hooks):
                    yield
            finally:
                _State.hooks = None
                _State.force = False


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Inside a trace, a block in which Keras is its own again: layers run, variables have their values."""
    hooks = _State.hooks
    scope = global_state.get_global_attribute("stateless_scope")
    originals = [(owner, name, original) for owner, name, original in reversed(_State.originals)]
    _State.hooks = None
    global_state.set_global_attribute("stateless_scope", None)
    try:
        with _swapped(originals):
            yield
    finally:
        _State.hooks = hooks
        global_state.set_global_attribute("stateless_scope", scope)


@contextlib.contextmanager
def _swapped(replacements: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Attributes replaced for a block, and put back in reverse order."""
    undo: list[tuple[Any, str, Any]] = []
    outer = _State.originals
    try:
        for owner, name, replacement in replacements:
            undo.append((owner, name, vars(owner)[name]))
            setattr(owner, name, replacement)
        _State.originals = undo
        yield
    finally:
        _State.originals = outer
        for owner, name, original in reversed(undo):
            setattr(owner, name, original)


def in_symbolic_layer(layer: Any) -> Callable[..., Any]:
    """The function that computes a layer: its quantised form where it has one."""
    if getattr(layer, "quantization_mode", None) is not None:
        return layer.quantized_call
    return layer.call


def call_code(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """A layer's own code on recorded values, in the running trace; the result is traced tensors."""
    return in_symbolic_layer(layer)(*_traced(args), **_traced(kwargs))


def call_unquantised(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """A layer's ``call`` on recorded values, which a quantised layer runs too where only that is called."""
    return layer.call(*_traced(args), **_traced(kwargs))


def call_body(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """What a layer computes from recorded values, by its emitter where it has one; no function of its own."""
    assert _State.hooks is not None
    return _State.hooks.layer_body(layer, _traced(args), _traced(kwargs))


def _traced(structure: Any) -> Any:
    return keras.tree.map_structure(lambda item: Sym(item) if isinstance(item, Value) else item, structure)


def build_state(layer: Any) -> tuple[bool, Any]:
    """What a call may change on a layer without weights: restored after the trace."""
    return layer.built, layer._build_shapes_dict


def restore_build_state(layer: Any, state: tuple[bool, Any]) -> None:
    """Undo an implicit build that happened while tracing."""
    layer.built, layer._build_shapes_dict = state


def value_of(x: Any) -> Any:
    """A variable's value in the running trace; anything else as it is."""
    return x.value if isinstance(x, Variable) else x


def variable_updates() -> dict[int, int]:
    """Which variables have been assigned in the running trace, and to what: identities of both."""
    scope = get_stateless_scope()
    return {key: id(value) for key, value in scope.state_mapping.items()}
