"""Quantiles, averages, correlation, histograms, differences and integrals."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases.ops import OpCase, x
from cases.ops.elementwise import among
from cases.ops.reduction import HOLES, SOME_NAN, both
from keras import ops

_QUANTILES = {"quantile": 0.35, "percentile": 35.0}
_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")
_LINE = x("t")
#: Where a longer second sequence is taken as NumPy takes it.
_TURNED = {"valid": ("jax",), "same": ("jax",), "full": ("jax", "tensorflow", "torch")}
_EDGES = np.array([-1.0, -0.25, 0.5, 1.5], "float32")


def _quantile(name: str, q: Any, variant: str, inputs: Any = None, **options: Any) -> OpCase:
    backends = options.pop("backends", ("jax", "tensorflow", "torch"))
    opset = options.pop("opset", None)
    call = lambda a: getattr(ops, name)(a, q, **options)  # noqa: E731
    call = call if variant != "all" else both(call)
    return OpCase(name, call, inputs or (x("b", "t", 4),), variant=variant, backends=backends, opset=opset)


def _median(name: str, axis: Any, keepdims: bool) -> Any:
    call = lambda a: getattr(ops, name)(a, axis=axis, keepdims=keepdims)  # noqa: E731
    return both(call) if axis is None else call


CASES = [
    *[
        _quantile(f"{prefix}{name}", q, method, (HOLES,) if prefix else None, axis=1, method=method)
        for name, q in _QUANTILES.items()
        for method in _METHODS
        for prefix in ("", "nan")
    ],
    *[_quantile(name, q, "all") for name, q in _QUANTILES.items()],
    *[_quantile(name, q, "keepdims", axis=-1, keepdims=True) for name, q in _QUANTILES.items()],
    *[_quantile(name, q, "axes", axis=(0, 2)) for name, q in _QUANTILES.items()],
    *[_quantile(name, q, "axes-keepdims", axis=(0, 2), keepdims=True) for name, q in _QUANTILES.items()],
    *[
        _quantile(name, [0.0, q, q * 2], f"list{axis}", axis=axis)
        for name, q in _QUANTILES.items()
        for axis in (0, 1, -1, None)
    ],
    _quantile("quantile", [0.0, 1.0], "ends", axis=1),
    _quantile("quantile", [0.2, 0.7], "17", opset=17, axis=1),
    # JAX takes the lower of two that are equally near, the others the even one.
    _quantile("quantile", 0.3, "tie", backends=("tensorflow", "torch"), axis=1, method="nearest"),
    _quantile("quantile", [0.5], "list-of-one", axis=1),
    _quantile("quantile", 0.5, "nan", (SOME_NAN,), axis=2),
    _quantile("quantile", 0.5, "int32", (x("b", "t", dtype="int32", low=-9, high=9),), axis=1),
    OpCase(
        "quantile",
        lambda a, q: ops.quantile(a, q, axis=1),
        (x("b", "t"), x("n", low=0, high=1)),
        variant="tensor",
    ),
    OpCase("nanquantile", lambda a: ops.nanquantile(a, [0.2, 0.9], axis=1), (HOLES,), variant="list"),
    *[
        OpCase(
            name,
            _median(name, axis, kept),
            inputs,
            variant=f"{axis}-{kept}".replace(" ", ""),
        )
        for name, inputs in (("median", (x("b", "t", 4),)), ("nanmedian", (HOLES,)))
        for axis in (None, 1, -1, (0, 2))
        for kept in (False, True)
    ],
    OpCase("median", lambda a: ops.median(a, axis=2), (SOME_NAN,), variant="nan"),
    OpCase(
        "median",
        lambda a: ops.median(a, axis=1),
        (x("b", "t", dtype="int32", low=-9, high=9),),
        variant="int32",
    ),
    OpCase(
        "median",
        lambda a: ops.median(ops.cast(a, "float16"), axis=1),
        variant="float16",
        rtol=3e-3,
        atol=2e-3,
    ),
    OpCase("average", both(ops.average)),
    OpCase("average", lambda a: ops.average(a, axis=1), variant="axis"),
    # torch sums weights along their last axis, whatever the axis of the average.
    OpCase(
        "average",
        lambda a, w: ops.average(a, axis=1, weights=w),
        (x("b", "t", 4), x("b", "t", 4, low=0.1)),
        variant="weights",
        backends=("jax", "tensorflow"),
    ),
    OpCase(
        "average",
        lambda a, w: ops.stack([ops.average(a, weights=w), ops.average(-a, weights=w)]),
        (x("b", "t"), x("b", "t", low=0.1)),
        variant="all-weights",
        backends=("jax", "tensorflow"),
    ),
    OpCase(
        "average",
        lambda a, w: ops.average(a, axis=-1, weights=w),
        (x("b", "t"), x("t", low=0.1)),
        variant="line",
    ),
    OpCase(
        "average",
        lambda a, w: ops.average(a, axis=1, weights=w),
        (x("b", "t", 4), x("t", low=0.1)),
        variant="middle",
        backends=("jax", "tensorflow"),
    ),
    OpCase("average", lambda a: ops.average(a, axis=0), (x("b", "t", dtype="int32"),), variant="int32"),
    OpCase("corrcoef", ops.corrcoef, (x("b", "t"),)),
    OpCase("corrcoef", ops.corrcoef, (x("b", "t", dtype="int32"),), variant="int32"),
    *[
        OpCase("correlate", lambda a, b, mode=mode: ops.correlate(a, b, mode), (x("h"), x(4)), variant=mode)
        for mode in ("valid", "same", "full")
    ],
    *[
        OpCase(
            "correlate",
            lambda a, b, mode=mode: ops.correlate(a, b, mode),
            (x("h"), x("n")),
            variant=f"{mode}-dynamic",
        )
        for mode in ("valid", "same", "full")
    ],
    *[
        OpCase(
            "correlate",
            lambda a, b, mode=mode: ops.correlate(a, b, mode),
            (x(3), x(7)),
            variant=f"{mode}-longer",
            backends=_TURNED[mode],
        )
        for mode in ("valid", "same", "full")
    ],
    OpCase("correlate", ops.correlate, (x("h", dtype="int32"), x(5, dtype="int32")), variant="int32"),
    OpCase("histogram", ops.histogram, (x("h"),)),
    OpCase("histogram", lambda a: ops.histogram(a, bins=4, range=(-1.0, 1.0)), (x("h"),), variant="range"),
    OpCase(
        "histogram",
        lambda a: ops.histogram(a, bins=4, range=(-1.0, 1.0)),
        (among(-1, -0.5, 0, 1, 2, shape=("h",)),),
        variant="edges",
    ),
    # TensorFlow makes bins of no width.
    OpCase(
        "histogram",
        lambda a: ops.histogram(a * 0.0 + 3.0, bins=3),
        (x("h"),),
        variant="flat",
        backends=("jax", "torch"),
    ),
    OpCase("bincount", ops.bincount, (x("h", dtype="int32", low=0, high=5),)),
    OpCase(
        "bincount",
        lambda a: ops.bincount(a, minlength=9),
        (x("h", dtype="int32", low=0, high=5),),
        variant="minlength",
    ),
    OpCase(
        "bincount",
        lambda a, w: ops.bincount(a, weights=w),
        (x("h", dtype="int32", low=0, high=5), x("h")),
        variant="weights",
    ),
    OpCase(
        "bincount",
        lambda a: ops.bincount(a, minlength=9),
        (x("b", "t", dtype="int32", low=0, high=5),),
        variant="rows",
    ),
    OpCase(
        "bincount",
        lambda a, w: ops.bincount(a, weights=w, minlength=9),
        (x("b", "t", dtype="int32", low=0, high=5), x("b", "t")),
        variant="rows-weights",
    ),
    OpCase("digitize", lambda a: ops.digitize(a, _EDGES)),
    OpCase("digitize", lambda a: ops.digitize(a, _EDGES), (among(-1, -0.25, 0, 1.5, 9),), variant="edges"),
    OpCase(
        "digitize",
        lambda a: ops.digitize(a, np.array([1, 3], "int32")),
        (x("b", "t", dtype="int32", low=0, high=5),),
        variant="int32",
    ),
    OpCase("trapezoid", ops.trapezoid),
    OpCase("trapezoid", lambda a: ops.trapezoid(a, dx=0.25, axis=1), variant="dx"),
    OpCase("trapezoid", lambda a, p: ops.trapezoid(a, x=p), (x("b", "t"), x("t")), variant="points"),
    OpCase(
        "trapezoid",
        lambda a, p: ops.trapezoid(a, x=p, axis=1),
        (x("b", "t", 4), x("b", "t", 4)),
        variant="points-axis",
    ),
    OpCase("trapezoid", lambda a: ops.trapezoid(a, x=np.array([0.0, 1, 3, 4], "float32")), variant="array"),
    OpCase("trapezoid", ops.trapezoid, (x("b", "t", dtype="int32"),), variant="int32"),
    OpCase("diff", ops.diff),
    OpCase("diff", lambda a: ops.diff(a, n=2, axis=1), variant="twice"),
    OpCase("diff", lambda a: ops.diff(a, n=0), variant="zero"),
    OpCase("diff", ops.diff, (x("b", "t", dtype="int32"),), variant="int32"),
    OpCase("diff", ops.diff, (x("b", "t", dtype="uint8", low=0, high=9),), variant="uint8"),
    OpCase("diff", ops.diff, (x("b", "t", dtype="bool"),), variant="bool"),
]
