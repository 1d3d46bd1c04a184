"""Which framework's own code a trace ran into, told by the traceback."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator

import keras


class RawFrameworkCall(ValueError, TypeError):
    """Framework code got a traced tensor where it needs a real one.

    Also a ValueError and TypeError: TensorFlow's and JAX's operators take those as "not mine" and let
    the traced tensor's own reflected operator run.
    """


@contextlib.contextmanager
def whole_tracebacks() -> Iterator[None]:
    """Keras and JAX cut their own frames out of tracebacks; ``raw_framework`` looks for them."""
    filtering = keras.config.is_traceback_filtering_enabled()
    jax = sys.modules.get("jax")
    jax_filtering = jax and jax.config.jax_traceback_filtering
    try:
        keras.config.disable_traceback_filtering()
        if jax is not None:
            jax.config.update("jax_traceback_filtering", "off")
        yield
    finally:
        if filtering:
            keras.config.enable_traceback_filtering()
        if jax is not None:
            jax.config.update("jax_traceback_filtering", jax_filtering)


def raw_framework(error: BaseException) -> str | None:
    """The framework whose own code failed on a traced tensor, if that is what happened."""
    step: BaseException | None = error
    while step is not None:
        if isinstance(step, RawFrameworkCall):
            return "framework code"
        # Only the innermost frame counts: on torch, every layer call passes through torch.nn.Module.
        frames = [frame for frame, _ in traceback.walk_tb(step.__traceback__)]
        package = str(frames[-1].f_globals.get("__name__", "")).partition(".")[0] if frames else ""
        if package in ("tensorflow", "jax", "jaxlib", "torch"):
            return package
        step = step.__cause__ or step.__context__
    return None
