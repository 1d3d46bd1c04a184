"""Reductions, norms, cumulative operations and index searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases.ops import OpCase, x
from cases.ops.elementwise import INF, NAN, among
from keras import ops

_NAMES = "sum mean max min amax amin prod var std all any argmax argmin logsumexp ptp"
_NUMBERS = "nansum nanprod nanmean nanmax nanmin nanvar nanstd"
_INTEGERS = "sum prod max min amax mean var std logsumexp ptp argmax count_nonzero nansum nanprod nanmax nanmean cumsum"
_NARROW = "sum prod max min mean argmax ptp count_nonzero nansum nanmin cumsum"
_AXES: tuple[Any, ...] = (None, 0, (0, 2), (-1, 1))
#: Reductions along one axis only.
_SINGLE = ("argmax", "argmin", "nanargmax", "nanargmin")
#: torch drops keepdims with axis=None.
_DROPPED = ("sum", "max", "min", "amax", "amin", "prod", "ptp", "nanprod")


def both(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A reduction to one number, of two tensors."""
    return lambda a: ops.stack([call(a), call(0.2 - a * 0.5)])


def _holed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers with a NaN here and there; the first row has nothing else."""
    values = np.where(rng.random(shape) < 0.3, NAN, rng.uniform(-2, 2, shape))
    values[0, 0] = NAN
    return values


HOLES = x("b", "t", 4, make=_holed)
_INFINITE = among(1, 2, -1, INF, -INF, shape=("b", "t", 4))
SOME_NAN = x(
    "b", "t", 20, make=lambda rng, shape: np.where(rng.random(shape) < 0.03, NAN, rng.uniform(-2, 2, shape))
)
_MIXED = among(1, 0, 0, -2, shape=("b", "t", 4))


def _reduction(name: str, axis: Any, keepdims: bool, variant: str = "", **options: Any) -> OpCase:
    def once(a):
        if name in ("all", "any"):
            bound = (
                1.9 if isinstance(axis, tuple) and name == "all" else 1.85 if isinstance(axis, tuple) else 1.5
            )
            a = a > (-bound if name == "all" else bound)
        return getattr(ops, name)(a, axis=axis, keepdims=keepdims)

    call = once if axis is not None else both(once)
    if axis is None and keepdims and name in _DROPPED:
        options["backends"] = ("jax", "tensorflow")
    label = str(axis).replace(" ", "")
    return OpCase(name, call, variant=f"{variant}{label}{'-keepdims' if keepdims else ''}", **options)


def _plain(name: str, dtype: str) -> OpCase:
    low, high = (0, 3) if dtype == "uint8" else (-3, 3)
    inputs = (x("b", 2 if dtype == "bool" else "t", 8, dtype=dtype, low=low, high=high),)
    return OpCase(name, lambda a: getattr(ops, name)(a, axis=1), inputs, variant=dtype, **_departures(name))


def _departures(name: str) -> dict[str, Any]:
    if name == "count_nonzero":
        return {"backends": ("jax", "tensorflow")}  # torch transposes the result
    if name == "logsumexp":
        return {"backends": ("jax", "torch")}  # TensorFlow has no exponential of integers
    return {}


CASES = [
    *[_reduction(name, axis, kept) for name in _NAMES.split() for axis in (1, -1) for kept in (False, True)],
    *[
        _reduction(name, axis, kept)
        for name in _NAMES.split()
        for axis in _AXES
        for kept in (False, True)
        if name not in _SINGLE or not isinstance(axis, tuple)
    ],
    OpCase(
        "logsumexp",
        lambda a: ops.logsumexp(ops.cast(a, "float16"), axis=1),
        variant="float16",
        rtol=3e-3,
        atol=2e-3,
    ),
    *[_plain(name, "int32") for name in _INTEGERS.split()],
    *[_plain(name, dtype) for name in _NARROW.split() for dtype in ("int8", "uint8", "int16")],
    *[_plain(name, "bool") for name in "sum prod max min any all mean argmax count_nonzero".split()],
    # TensorFlow rounds every partial sum to float16.
    *[
        OpCase(
            name,
            lambda a, name=name: getattr(ops, name)(ops.cast(a, "float16"), axis=1),
            variant="float16",
            rtol=3e-3,
            atol=1e-2,
        )
        for name in "sum mean max prod var std argmax ptp nanmean nansum".split()
    ],
    *[
        _reduction(name, axis, kept, "nan-", inputs=(HOLES,))
        for name in _NUMBERS.split()
        for axis in (None, 1, -1, (0, 2))
        for kept in (False, True)
    ],
    *[
        _reduction(name, 1, False, "inf-", inputs=(_INFINITE,))
        for name in (*_NUMBERS.split()[3:5], "max", "min")
    ],
    *[
        _reduction(name, axis, False, "propagates-", inputs=(SOME_NAN,))
        for name in "max min amax amin ptp sum mean".split()
        for axis in (0, 2)
    ],
    *[
        _reduction(name, axis, kept, inputs=(HOLES,))
        for name in ("nanargmax", "nanargmin")
        for axis in (1, -1, None)
        for kept in (False, True)
    ],
    OpCase(
        "nanargmax",
        lambda a: ops.nanargmax(a, axis=1),
        (x("b", "t", 4, dtype="int32", low=-99, high=99),),
        variant="int32",
    ),
    OpCase("argmax", lambda a: ops.argmax(a, axis=1), (_MIXED,), variant="ties"),
    OpCase("argmin", lambda a: ops.argmin(a, axis=1), (_MIXED,), variant="ties"),
    OpCase("max", lambda a: ops.max(a, axis=1, initial=0.5), variant="initial"),
    OpCase("min", lambda a: ops.min(a, axis=(1, 2), initial=-0.5, keepdims=True), variant="initial"),
    # TensorFlow gives int32 whatever is asked for.
    OpCase(
        "prod",
        lambda a: ops.prod(a, axis=1, dtype="float32"),
        (x("b", "t", dtype="int32", low=1, high=3),),
        variant="dtype",
        dtypes=("float32",),
    ),
    OpCase(
        "logsumexp",
        lambda a: ops.logsumexp(a, axis=1),
        (x("b", "t", 4, low=-900, high=900),),
        variant="large",
    ),
    OpCase(
        "logsumexp",
        lambda a: ops.logsumexp(a, axis=-1),
        (among(-INF, -INF, -INF, 1, shape=("b", "t", 2)),),
        variant="inf",
    ),
    OpCase("var", lambda a: ops.var(a + 1000.0, axis=1), variant="offset", rtol=1e-3),
    # torch transposes the result.
    OpCase("count_nonzero", both(ops.count_nonzero), (_MIXED,), backends=("jax", "tensorflow")),
    OpCase(
        "count_nonzero",
        lambda a: ops.count_nonzero(a, axis=(1,)),
        (_MIXED,),
        variant="axis",
        backends=("jax", "tensorflow"),
    ),
    OpCase(
        "count_nonzero",
        lambda a: ops.count_nonzero(a, axis=(1, -1)),
        (_MIXED,),
        variant="axes",
        backends=("jax", "tensorflow"),
    ),
    OpCase(
        "count_nonzero",
        lambda a: ops.count_nonzero(a, axis=1),
        (among(0, NAN, 1e-30, -0.0),),
        variant="edges",
        backends=("jax", "tensorflow"),
    ),
    OpCase("cumsum", lambda a: ops.cumsum(a, axis=1)),
    OpCase("cumsum", ops.cumsum, variant="flat"),
    OpCase("cumsum", lambda a: ops.cumsum(a, axis=-2, dtype="int32"), variant="dtype"),
    OpCase("cumsum", lambda a: ops.cumsum(a, axis=1), (x("b", "t", dtype="bool"),), variant="bool"),
    OpCase("nancumsum", lambda a: ops.nancumsum(a, axis=1), (HOLES,)),
    OpCase("nancumsum", ops.nancumsum, (HOLES,), variant="flat"),
    OpCase("nancumsum", lambda a: ops.nancumsum(a, axis=-1), (x("b", "t", dtype="int32"),), variant="int32"),
    *[
        OpCase(
            name,
            lambda a, name=name, axis=axis: getattr(ops, name)(a, axis=axis),
            (inputs,),
            variant=str(axis),
            holds=("Scan",),
        )
        for name, inputs in (("cumprod", x("b", "t", 4)), ("nancumprod", HOLES))
        for axis in (None, 0, 1, -1)
    ],
    OpCase("cumprod", ops.cumprod, (x("t"),), variant="line"),
    OpCase(
        "cumprod",
        lambda a: ops.cumprod(a, axis=1),
        (x("b", "t", dtype="int32", low=-3, high=3),),
        variant="int32",
    ),
    OpCase(
        "cumprod",
        lambda a: ops.cumprod(a, axis=1, dtype="float32"),
        (x("b", "t", dtype="int32", low=1, high=3),),
        variant="dtype",
    ),
    OpCase(
        "nancumprod",
        lambda a: ops.nancumprod(a, axis=1),
        (x("b", "t", dtype="int32", low=1, high=3),),
        variant="int32",
    ),
    OpCase("top_k", lambda a: ops.top_k(a, 2), dtypes=("float32", "int32")),
    OpCase(
        "top_k",
        lambda a: ops.top_k(a, 3)[0],
        (x("b", "t", dtype="uint16", low=0, high=99),),
        variant="uint16",
        backends=("jax", "tensorflow"),
    ),
    OpCase("moments", lambda a: ops.moments(a, axes=[1])),
    OpCase("moments", lambda a: ops.moments(a, axes=(0, -1), keepdims=True), variant="keepdims"),
    *[
        OpCase("norm", lambda a, ord=ord: ops.norm(a, ord=ord, axis=1), variant=f"vector-{ord}")
        for ord in (None, 1, 2, 3, -1, -2, 0.5, INF, -INF)
    ],
    *[
        OpCase("norm", lambda a, ord=ord: ops.norm(a, ord=ord, axis=(1, 2)), variant=f"matrix-{ord}")
        for ord in (None, "fro", 1, -1, INF, -INF)
    ],
    *[
        OpCase(
            "norm",
            lambda a, ord=ord: ops.norm(a, ord=ord, axis=(-1, 0), keepdims=True),
            variant=f"turned-{ord}",
        )
        for ord in ("fro", 1, -INF)
    ],
    OpCase("norm", lambda a: ops.norm(a, ord=0, axis=1), (_MIXED,), variant="vector-0"),
    OpCase("norm", both(ops.norm), (x("b", "t"),)),
    OpCase("norm", both(lambda a: ops.norm(a, ord=1)), (x("b", "t"),), variant="all-1"),
    OpCase(
        "norm", lambda a: ops.norm(a, axis=-1, keepdims=True), (x("b", "t", dtype="int32"),), variant="int32"
    ),
    OpCase("norm", lambda a: ops.norm(a, ord=1, axis=(1, 2)), variant="17", opset=17),
    OpCase("normalize", ops.normalize),
    *[
        OpCase(
            "normalize",
            lambda a, order=order: ops.normalize(a, axis=1, order=order),
            variant=f"order-{order}",
        )
        for order in (1, 2, 3)
    ],
    OpCase("normalize", lambda a: ops.normalize(a, axis=(1, 2)), variant="axes"),
    OpCase("normalize", lambda a: ops.normalize(ops.relu(a - 1.5), axis=-1, epsilon=0.3), variant="epsilon"),
    OpCase("normalize", lambda a: ops.normalize(a * 0.0 + 1e-12), variant="tiny", constant=True),
]
