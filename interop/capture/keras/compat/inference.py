"""A model's own answers, to compare with.

On JAX, operation by operation takes several times longer than compiling the whole for one use, so that is
what is done; code that looks at values, which JAX cannot compile, runs operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras


def inference(model: Any) -> Callable[..., Any]:
    """``model(..., training=False)`` as a function of arrays."""

    def eager(*args: Any, **kwargs: Any) -> Any:
        return model(*args, training=False, **kwargs)

    return _compiled(model, eager) if keras.backend.backend() == "jax" and model.built else eager


def _compiled(model: Any, eager: Callable[..., Any]) -> Callable[..., Any]:
    import jax

    order: Any = None  # of the keys: JAX returns dicts with sorted ones

    def stateless(values: Any, args: Any, kwargs: Any) -> Any:
        nonlocal order
        with keras.StatelessScope(list(zip(model.variables, values, strict=True))):
            result = model(*args, training=False, **kwargs)
        order = _keys(result)
        return result

    # What one use compiles for has to be right, not fast.
    compiled = jax.jit(stateless, compiler_options={"xla_backend_optimization_level": 0})
    unknown = (jax.errors.JAXTypeError, jax.errors.JAXIndexError, jax.errors.UnexpectedTracerError)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            result = compiled([variable.value for variable in model.variables], args, kwargs)
            return _ordered(order, result)
        except Exception as error:
            if not any(isinstance(step, unknown) or "Tracer" in str(step) for step in _chain(error)):
                raise
        return eager(*args, **kwargs)

    return call


def _keys(structure: Any) -> Any:
    """A structure without its leaves."""
    if isinstance(structure, dict):
        return {key: _keys(item) for key, item in structure.items()}
    if type(structure) in (list, tuple):
        return [_keys(item) for item in structure]
    return None


def _ordered(keys: Any, structure: Any) -> Any:
    """A structure with the keys of its dicts in the given order."""
    if isinstance(keys, dict):
        return {key: _ordered(inner, structure[key]) for key, inner in keys.items()}
    if isinstance(keys, list):
        return type(structure)(_ordered(inner, item) for inner, item in zip(keys, structure, strict=True))
    return structure


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
