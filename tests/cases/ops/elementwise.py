"""Element by element: mathematics, comparison, logic."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases.ops import Input, OpCase, x
from keras import ops

#: Where a function is not defined on [-2, 2].
_RANGES = {
    "arccosh": (1.1, 3),
    "reciprocal": (0.2, 2),
    "log1p": (-0.5, 3),
    **dict.fromkeys(("log", "sqrt", "rsqrt", "log10", "log2"), (0.1, 3)),
    **dict.fromkeys(("arccos", "arcsin", "arctanh", "tan"), (-0.9, 0.9)),
}
_UNARY = (
    "abs absolute arccos arccosh arcsin arcsinh arctan arctanh ceil cos cosh exp expm1 floor log log10 log1p log2 "
    "negative reciprocal round sign sin sinh sqrt square tan tanh erf rsqrt fabs trunc conj conjugate real"
)
_BINARY = (
    "add subtract multiply divide true_divide floor_divide mod maximum minimum arctan2 divide_no_nan "
    "fmod fmax fmin"
)
_COMPARISONS = "equal not_equal greater greater_equal less less_equal"
_LOGICAL = "logical_and logical_or logical_xor"


def _unary(name: str) -> OpCase:
    low, high = _RANGES.get(name, (-2.0, 2.0))
    return OpCase(name, getattr(ops, name), (x("b", "t", 4, low=low, high=high),))


def half(name: str, *inputs: Input, **options: Any) -> OpCase:
    """A row in float16, which has three decimals; a model casts its float inputs to float32."""

    def call(*arrays):
        return getattr(ops, name)(*[ops.cast(array, "float16") for array in arrays])

    options = {"variant": "float16", "rtol": 3e-3, "atol": 2e-3} | options
    return OpCase(name, call, inputs or (x("b", "t", 4),), **options)


_PAIR = (x("b", "t", 4, low=0.1), x("t", 4, low=0.1))
_INTEGERS = (x("b", "t", dtype="int32", low=0, high=3), x("b", 1, dtype="int32", low=0, high=3))
_BOOLEANS = (x("b", "t", dtype="bool"), x("b", 1, dtype="bool"))
NAN, INF = float("nan"), float("inf")


#: TensorFlow has no order, sum or product of booleans.
_ON_BOOLEANS = ("jax", "torch")


def among(*values: float, shape: tuple[int | str, ...] = ("b", "t"), dtype: str = "float32") -> Input:
    """An input of some of these values."""
    return x(*shape, dtype=dtype, make=lambda rng, shape: rng.choice(np.asarray(values, dtype), shape))


def _integers(dtype: str, low: int = 1, high: int = 20) -> tuple[Input, Input]:
    return x("b", "t", dtype=dtype, low=low, high=high), x("t", dtype=dtype, low=1, high=4)


def _wide(name: str, dtype: str) -> OpCase:
    return OpCase(name, getattr(ops, name), _integers(dtype), variant=dtype)


_SIGNED = (x("b", "t", dtype="int32", low=-20, high=20), among(-3, -2, 1, 5, shape=("t",), dtype="int32"))
_CLASSES = (among(1, 0, INF, -INF, NAN, shape=("b", "t", 4)),)
_WHOLE = "ceil floor sqrt exp log1p expm1 square cos tanh log2 round abs trunc"
_NARROW = "add subtract multiply maximum minimum floor_divide mod power divide greater less_equal fmax fmod"
#: Results so large, or arguments so small, that the formula of a textbook fails.
_SMALL = x("b", "t", make=lambda rng, shape: rng.choice([-1, 1], shape) * 10 ** rng.uniform(-9, -1, shape))
_TINY = "expm1 log1p arcsinh arctanh tanh sinh sin erf"
_EXTREMES = {
    "sinh": (88.0, -88.0, 0.5, 100.0),
    "cosh": (88.0, -88.0, 0.5, 100.0),
    "expm1": (-100.0, 88.5, 100.0, INF, -INF),
    "log1p": (-1.0, 1e30, INF, 3.0, -2.0, NAN),
    "arcsinh": (1e20, -1e20, 3.0),
    "arccosh": (1e20, 1.0, 3.0),
    "round": (0.5, 1.5, 2.5, -0.5, -1.5, 3.4),
    "trunc": (0.5, -0.5, -1.5, 2.9, INF, -INF),
    "sign": (0.0, -2.0, 3.0),
}

CASES = [
    *[_unary(name) for name in _UNARY.split()],
    *[OpCase(name, getattr(ops, name), _PAIR) for name in _BINARY.split()],
    *[OpCase(name, getattr(ops, name), _INTEGERS) for name in _COMPARISONS.split()],
    *[OpCase(name, getattr(ops, name), _BOOLEANS) for name in _LOGICAL.split()],
    *[
        OpCase(
            name,
            getattr(ops, name),
            (among(0, 0, 3, dtype="int32"), among(0, 0, 2, shape=("t",), dtype="int32")),
            variant="numbers",
        )
        for name in _LOGICAL.split()
    ],
    *[
        OpCase(name, getattr(ops, name), _BOOLEANS, variant="bool", backends=_ON_BOOLEANS)
        for name in _COMPARISONS.split()
    ],
    *[
        OpCase(name, getattr(ops, name), _CLASSES)
        for name in "isfinite isnan isinf isposinf isneginf".split()
    ],
    *[
        OpCase(name, getattr(ops, name), _INTEGERS[:1], variant="integers", constant=True)
        for name in "isfinite isnan isinf isposinf isneginf".split()
    ],
    *[OpCase(name, getattr(ops, name), _integers("int32")[:1], variant="int32") for name in _WHOLE.split()],
    # TensorFlow has no reciprocal of integers.
    OpCase("reciprocal", ops.reciprocal, _integers("int32")[:1], variant="int32", backends=("jax", "torch")),
    *[_wide(name, dtype) for name in _NARROW.split() for dtype in ("int32", "int8", "uint8", "int16")],
    *[half(name) for name in "exp sqrt square round log1p expm1 tanh floor trunc fabs".split()],
    *[half(name, *_PAIR) for name in "add divide maximum mod arctan2 power fmax".split()],
    *[OpCase(name, getattr(ops, name), (_SMALL,), variant="small", atol=0.0) for name in _TINY.split()],
    *[
        OpCase(name, getattr(ops, name), (among(*values),), variant="edges")
        for name, values in _EXTREMES.items()
    ],
    *[
        OpCase(name, getattr(ops, name), _SIGNED, variant="signed")
        for name in ("floor_divide", "mod", "fmod")
    ],
    *[
        OpCase(
            name,
            getattr(ops, name),
            (x("b", "t", low=-20, high=20), among(-3, -0.1, 0.7, 5, shape=("t",))),
            variant="signed-floats",
        )
        for name in ("floor_divide", "mod", "fmod")
    ],
    *[
        OpCase(
            name,
            getattr(ops, name),
            (among(1, 2, -1, NAN, INF), among(0, 3, NAN, -INF, shape=("t",))),
            variant="nan",
        )
        for name in ("maximum", "minimum", "fmax", "fmin")
    ],
    OpCase("maximum", ops.maximum, _BOOLEANS, variant="bool", backends=_ON_BOOLEANS),
    OpCase("minimum", ops.minimum, _BOOLEANS, variant="bool", backends=_ON_BOOLEANS),
    OpCase("add", ops.add, _BOOLEANS, variant="bool", backends=_ON_BOOLEANS),
    OpCase("multiply", ops.multiply, _BOOLEANS, variant="bool", backends=_ON_BOOLEANS),
    OpCase("floor_divide", lambda a: ops.floor_divide(a, 0.5), variant="power-of-two", lacks=("Mod",)),
    # TensorFlow rounds the quotient first: 1 // 0.1 is 10 there.
    OpCase(
        "floor_divide",
        lambda a: ops.floor_divide(a, 0.1),
        (among(1, 0.7, 0.3, -0.6),),
        variant="exact",
        backends=("jax", "torch"),
    ),
    OpCase("mod", lambda a: ops.mod(a, 0.1), (among(1, 0.7, 1e4, -0.6),), variant="exact"),
    OpCase(
        "mod",
        ops.mod,
        (*_BOOLEANS[:1], among(True, shape=("t",), dtype="bool")),
        variant="bool",
        constant=True,
    ),
    OpCase(
        "floor_divide",
        lambda a: ops.floor_divide(a, -3),
        (x("b", "t", dtype="int32", low=-20, high=20),),
        variant="number",
    ),
    OpCase("power", lambda a: ops.power(a, 2)),
    OpCase("power", ops.power, _PAIR, variant="tensors"),
    OpCase("divide_no_nan", lambda a: ops.divide_no_nan(a, ops.relu(a)), variant="zeros"),
    OpCase(
        "divide", ops.divide, (among(1, -1, 0, shape=("b", "t")), among(0, 2, shape=("t",))), variant="zeros"
    ),
    OpCase(
        "arctan2",
        ops.arctan2,
        (among(1, -2, 0.0, -0.0, INF, -INF), among(0.0, -0.0, 1, -2, INF, -INF, shape=("t",))),
        variant="edges",
    ),
    OpCase("negative", ops.negative, (x("b", "t", dtype="int8", low=-9, high=9),), variant="int8"),
    # TensorFlow has no negation of unsigned integers.
    OpCase(
        "negative",
        ops.negative,
        (x("b", "t", dtype="uint8", low=1, high=9),),
        variant="uint8",
        backends=("jax", "torch"),
    ),
    OpCase("abs", ops.abs, (x("b", "t", dtype="bool"),), variant="bool"),
    OpCase("square", ops.square, (x("b", "t", dtype="bool"),), variant="bool"),
    # An int32 result is declared; torch gives the float, the others take no integers.
    OpCase("rsqrt", ops.rsqrt, (among(1, 4, dtype="int32"),), variant="int32", backends=()),
    OpCase("round", lambda a: ops.round(a, 2), variant="decimals"),
    OpCase("round", lambda a: ops.round(a * 100, -1), variant="tens"),
    OpCase(
        "round",
        lambda a: ops.round(a, -1),
        (x("b", "t", dtype="int32", low=-90, high=90),),
        variant="int32-tens",
    ),
    OpCase("logical_not", ops.logical_not, (x("b", "t", dtype="bool"),)),
    OpCase("logical_not", ops.logical_not, (among(0, 0.5, NAN),), variant="floats"),
    OpCase("clip", lambda a: ops.clip(a, -0.5, 0.5)),
    OpCase("clip", lambda a, b: ops.clip(a, b, b + 1), (x("b", "t", 4), x("t", 4)), variant="tensors"),
    OpCase(
        "clip", lambda a: ops.clip(a, 2, 9), (x("b", "t", dtype="int16", low=-20, high=20),), variant="int16"
    ),
    OpCase("clip", lambda a: ops.clip(a, 1, 1), (x("b", "t", dtype="bool"),), variant="bool", constant=True),
    OpCase("clip", lambda a: ops.clip(a, -0.5, 0.5), (among(NAN, INF, 0.25),), variant="nan"),
    OpCase("where", lambda a: ops.where(a > 0, a, 0.0)),
    OpCase("where", lambda a, b: ops.where(a, b, False), _BOOLEANS, variant="bool"),
    OpCase("where", lambda a, b: ops.where(a > 3, a, b), _integers("int16"), variant="int16"),
    OpCase(
        "where",
        lambda a, b: ops.where(a, b, b + 1),
        (x("b", 1, dtype="bool"), x("t")),
        variant="broadcast",
    ),
    OpCase("cast", lambda a: ops.cast(a * 3, "int32")),
    OpCase("cast", lambda a: ops.cast(a, "bool"), (among(0, 0.25, NAN, -0.0),), variant="bool"),
    OpCase("cast", lambda a: ops.cast(a, "float16"), variant="float16", rtol=1e-3, atol=1e-3),
    *[
        OpCase("saturate_cast", lambda a, kind=kind: ops.saturate_cast(a * 200, kind), variant=kind)
        for kind in ("uint8", "int8", "int16", "float16")
    ],
    # Keras clips at 2 ** 31, one too many, which only JAX's cast takes care of.
    OpCase(
        "saturate_cast",
        lambda a: ops.saturate_cast(a, "int32"),
        (among(3e9, -3e9, 7, INF),),
        backends=("jax",),
    ),
    OpCase(
        "saturate_cast",
        lambda a: ops.saturate_cast(a, "uint8"),
        (x("b", "t", dtype="int32", low=-300, high=300),),
        variant="int32-uint8",
    ),
    OpCase(
        "saturate_cast",
        lambda a: ops.saturate_cast(a, "int32"),
        (x("b", "t", dtype="uint8", high=200),),
        variant="uint8-int32",
    ),
    OpCase(
        "saturate_cast",
        lambda a: ops.saturate_cast(a, "float32"),
        (x("b", "t", dtype="bool"),),
        variant="bool",
    ),
    *[
        OpCase(name, lambda a, name=name: getattr(ops, name)(a) + 1)
        for name in ("copy", "array", "convert_to_tensor")
    ],
    *[
        OpCase(
            name,
            lambda a, name=name: getattr(ops, name)(a, dtype="int32"),
            variant="dtype",
            dtypes=("int32",),
        )
        for name in ("array", "convert_to_tensor")
    ],
    OpCase("isreal", ops.isreal, constant=True),
    OpCase(
        "isclose", lambda a, b: ops.isclose(a, a * 1.000005 + b), (x("b", "t"), among(0, 1e-3, shape=("t",)))
    ),
    OpCase(
        "isclose",
        lambda a, b: ops.isclose(a, b, rtol=0.1, atol=0.5),
        (x("b", "t"), x("t")),
        variant="tolerance",
    ),
    OpCase(
        "isclose",
        lambda a, b: ops.isclose(a, b, equal_nan=True),
        (among(1, NAN, INF), among(1, NAN, shape=("t",))),
        variant="nan",
    ),
    # TensorFlow calls infinities different from themselves, and close to any number.
    OpCase(
        "isclose",
        ops.isclose,
        (among(1, INF, -INF), among(1, INF, -INF, shape=("t",))),
        variant="inf",
        backends=("jax", "torch"),
    ),
    OpCase("isclose", ops.isclose, _INTEGERS, variant="integers"),
    OpCase("allclose", lambda a: ops.stack([ops.allclose(a, a + 1e-9), ops.allclose(a, a + 0.1)])),
    OpCase(
        "allclose",
        lambda a: ops.stack([ops.allclose(a, a, equal_nan=True), ops.allclose(a, a)]),
        (among(1, NAN, shape=("b", 30)),),
        variant="nan",
    ),
    OpCase(
        "allclose",
        lambda a, b: ops.stack([ops.allclose(a, b), ops.allclose(a, a)]),
        _INTEGERS,
        variant="integers",
    ),
    OpCase("nan_to_num", ops.nan_to_num, _CLASSES),
    OpCase(
        "nan_to_num",
        lambda a: ops.nan_to_num(a, nan=7.0, posinf=8.0, neginf=-9.0),
        _CLASSES,
        variant="values",
    ),
    OpCase("nan_to_num", lambda a: ops.nan_to_num(a, posinf=8.0), _CLASSES, variant="posinf"),
    OpCase("nan_to_num", ops.nan_to_num, _INTEGERS[:1], variant="integers"),
    # Python's own comparisons: a tensor's, not those of the object that stands for it.
    OpCase("equal", lambda a, b: ops.where(a == b, a, -1), _INTEGERS, variant="python"),
    OpCase("not_equal", lambda a, b: ops.where(a != b, a, -1), _INTEGERS, variant="python"),
]
