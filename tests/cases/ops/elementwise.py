"""Element by element: mathematics, comparison, logic, activations."""

from __future__ import annotations

from cases.ops import OpCase, x
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
    "negative reciprocal round sign sin sinh sqrt square tan tanh relu relu6 sigmoid silu swish softplus "
    "softsign elu selu celu gelu hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu log_sigmoid erf rsqrt"
)
_BINARY = "add subtract multiply divide true_divide floor_divide mod maximum minimum arctan2"
_COMPARISONS = "equal not_equal greater greater_equal less less_equal"
_LOGICAL = "logical_and logical_or logical_xor"
_BITWISE = "bitwise_and bitwise_or bitwise_xor"


def _unary(name: str) -> OpCase:
    low, high = _RANGES.get(name, (-2.0, 2.0))
    return OpCase(name, getattr(ops, name), (x("b", "t", 4, low=low, high=high),))


_PAIR = (x("b", "t", 4, low=0.1), x("t", 4, low=0.1))
_INTEGERS = (x("b", "t", dtype="int32", low=0, high=3), x("b", 1, dtype="int32", low=0, high=3))
_BOOLEANS = (x("b", "t", dtype="bool"), x("t", dtype="bool"))
_ODD = x(
    "b", "t", make=lambda rng, shape: rng.choice([1.0, float("inf"), float("-inf"), float("nan")], shape)
)

CASES = [
    *[_unary(name) for name in _UNARY.split()],
    *[OpCase(name, getattr(ops, name), _PAIR) for name in _BINARY.split()],
    *[OpCase(name, getattr(ops, name), _INTEGERS) for name in _COMPARISONS.split()],
    *[OpCase(name, getattr(ops, name), _BOOLEANS) for name in _LOGICAL.split()],
    *[OpCase(name, getattr(ops, name), _INTEGERS) for name in _BITWISE.split()],
    *[OpCase(name, getattr(ops, name), (_ODD,)) for name in ("isfinite", "isnan", "isinf")],
    OpCase("power", lambda a: ops.power(a, 2)),
    OpCase("power", ops.power, _PAIR, variant="tensors"),
    OpCase("divide_no_nan", lambda a: ops.divide_no_nan(a, ops.relu(a))),
    OpCase("logical_not", ops.logical_not, (x("b", "t", dtype="bool"),)),
    OpCase("clip", lambda a: ops.clip(a, -0.5, 0.5)),
    OpCase("where", lambda a: ops.where(a > 0, a, 0.0)),
    OpCase("cast", lambda a: ops.cast(a * 3, "int32")),
    OpCase("stop_gradient", lambda a: ops.stop_gradient(a) * 2),
    OpCase("gelu", lambda a: ops.gelu(a, approximate=False), variant="exact"),
    OpCase("glu", ops.glu),
    OpCase("softmax", ops.softmax),
    OpCase("softmax", lambda a: ops.softmax(a, axis=1), variant="axis"),
    OpCase("log_softmax", ops.log_softmax),
]
