"""What the layers of a Keras model return while it runs.

Enters: a model and what to run. Leaves: arrays by ``<object path>#<n>``, n counting the calls of a layer,
in the order the calls finish.

Invariants: the recording ends with the ``with`` block, also after an error; values that exist only
inside a compiled loop (a cell inside a recurrent layer) are not recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@contextmanager
def recorded_calls(model: Any) -> Iterator[dict[str, list[Array]]]:
    """Record the outputs of all layers under `model` until the block ends."""
    import keras

    from interop.capture.keras.compat import to_numpy
    from interop.capture.keras.paths import layer_paths

    paths = layer_paths(model)
    records: dict[str, list[Array]] = {}
    calls: Counter[str] = Counter()
    original = keras.Layer.__call__

    def recording(layer: Any, *args: Any, **kwargs: Any) -> Any:
        path = paths.get(id(layer))
        if not path:
            return original(layer, *args, **kwargs)
        call = f"{path}#{calls[path]}"
        calls[path] += 1
        result = original(layer, *args, **kwargs)
        tensors = [leaf for leaf in keras.tree.flatten(result) if leaf is not None]
        if all(_is_concrete(leaf) for leaf in tensors):
            records[call] = [to_numpy(leaf) for leaf in tensors]
        return result

    keras.Layer.__call__ = recording
    try:
        yield records
    finally:
        keras.Layer.__call__ = original


def without_gradients() -> AbstractContextManager[Any]:
    """A context in which PyTorch keeps no graph; nothing on the other backends."""
    import keras

    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    quiet: AbstractContextManager[Any] = torch.no_grad()
    return quiet


def _is_concrete(value: Any) -> bool:
    """Whether a value has numbers now, rather than being traced."""
    import keras

    if not keras.ops.is_tensor(value) or isinstance(value, keras.KerasTensor):
        return not isinstance(value, keras.KerasTensor)
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return not isinstance(value, jax.core.Tracer)
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.executing_eagerly())
    return True
