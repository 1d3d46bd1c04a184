"""Functions with a gradient of their own: while a trace runs, on traced tensors, only their forward part counts.

They are wrapped by the framework when they are defined, mostly before any trace, so it is the framework's
wrapper that steps aside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from keras.src import backend as keras_backend

Mentions = Callable[[Any, Any], bool]


def _forward(result: Any) -> Any:
    """What a function computes, without the function for its gradient."""
    if isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
        return result[0]
    return result


def patches(mentions: Mentions) -> list[tuple[Any, str, Any]]:
    """(owner, attribute, replacement) for the running backend; ``mentions`` finds traced tensors."""
    name = keras_backend.backend()
    if name == "torch":
        from keras.src.backend.torch.core import custom_gradient

        return [(custom_gradient, "__call__", _torch(custom_gradient.__call__, mentions))]
    if name == "jax":
        import jax

        return [(jax.custom_vjp, "__call__", _jax(jax.custom_vjp.__call__, mentions))]
    module = sys.modules.get("tensorflow.python.ops.custom_gradient")
    if module is None:
        return []
    eager = "_eager_mode_decorator"
    return [(module, eager, _tensorflow(vars(module)[eager], mentions))]


def _torch(original: Callable[..., Any], mentions: Mentions) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if mentions(args, kwargs):
            return _forward(self.forward_fn(*args, **kwargs))
        return original(self, *args, **kwargs)

    return call


def _jax(original: Callable[..., Any], mentions: Mentions) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.fun(*args, **kwargs) if mentions(args, kwargs) else original(self, *args, **kwargs)

    return call


def _tensorflow(original: Callable[..., Any], mentions: Mentions) -> Callable[..., Any]:
    def run(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if mentions(args, kwargs):
            return _forward(function(*args, **kwargs))
        return original(function, args, kwargs)

    return run
