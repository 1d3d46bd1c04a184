"""Element types that a backend has, for those it has not."""

from __future__ import annotations

import keras

_NARROWER = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}


def available(dtype: str) -> str:
    """The element type a backend computes a dtype in: without x64, JAX has no 64 bits."""
    return _NARROWER.get(dtype, dtype) if dtype in _NARROWER and not _has_64_bits() else dtype


def _has_64_bits() -> bool:
    if keras.backend.backend() != "jax":
        return True
    import jax

    return bool(jax.config.read("jax_enable_x64"))
