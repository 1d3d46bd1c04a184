"""Layers that join several tensors."""

from __future__ import annotations

from typing import Any

from cases.layers import LayerCase, x
from keras import layers

THREE = (x("b", "t", 4), x("b", "t", 4), x("b", "t", 4))
TWO = THREE[:2]


def _listed(layer: Any, *tensors: Any) -> Any:
    return layer(list(tensors))


def _row(name: str, build: Any, inputs: Any = THREE, variant: str = "", **options: Any) -> LayerCase:
    return LayerCase(name, build, inputs, variant, **{"call": _listed, **options})


def _masked(layer: Any, *tensors: Any) -> Any:
    """The joined mask shows in what the pooling takes."""
    return layers.GlobalAveragePooling1D()(layer([layers.Masking()(a) for a in tensors]))


HOLED = tuple(
    x("b", "t", 2, dtype="float32", make=lambda rng, shape: rng.integers(0, 2, shape)) for _ in range(2)
)

CASES = [
    *[
        _row(name, getattr(layers, name))
        for name in ("Add", "Average", "Maximum", "Minimum", "Multiply", "Concatenate")
    ],
    _row("Subtract", layers.Subtract, TWO),
    *[
        _row(name, getattr(layers, name), (x("b", "t", 4), x("b", 1, 4)), "broadcast")
        for name in ("Add", "Average", "Maximum", "Multiply", "Subtract")
    ],
    _row("Add", layers.Add, (x("b", "t", 4), x("b", 4)), "ranks"),
    _row("Multiply", layers.Multiply, (x("b", "h", "w", 3), x("b", 3)), "ranks"),
    _row("Add", layers.Add, HOLED, "mask", call=_masked),
    _row("Concatenate", lambda: layers.Concatenate(axis=1), (x("b", "t", 4), x("b", "n", 4)), "axis"),
    _row("Concatenate", lambda: layers.Concatenate(axis=1), HOLED, "mask", call=_masked),
    _row("Dot", lambda: layers.Dot(axes=1), (x("b", 4), x("b", 4))),
    _row("Dot", lambda: layers.Dot(axes=2), (x("b", "t", 4), x("b", "n", 4)), "dynamic"),
    _row("Dot", lambda: layers.Dot(axes=(1, 1)), (x("b", "t", 4), x("b", "t", 3)), "contract_dynamic"),
    _row("Dot", lambda: layers.Dot(axes=(2, 1), normalize=True), (x("b", "t", 4), x("b", 4, 3)), "normalize"),
    _row("Dot", lambda: layers.Dot(axes=(1, 1)), (x("b", "t"), x("b", "t", 3)), "ranks"),
]
