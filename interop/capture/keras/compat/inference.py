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

    def stateless(values: Any, args: Any, kwargs: Any) -> Any:
        with keras.StatelessScope(list(zip(model.variables, values, strict=True))):
            return model(*args, training=False, **kwargs)

    # What one use compiles for has to be right, not fast.
    compiled = jax.jit(stateless, compiler_options={"xla_backend_optimization_level": 0})
    unknown = (jax.errors.JAXTypeError, jax.errors.JAXIndexError, jax.errors.UnexpectedTracerError)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return compiled([variable.value for variable in model.variables], args, kwargs)
        except Exception as error:
            if not any(isinstance(step, unknown) or "Tracer" in str(step) for step in _chain(error)):
                raise
        return eager(*args, **kwargs)

    return call


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
