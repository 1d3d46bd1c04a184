"""Activation functions."""

from __future__ import annotations

from cases.ops import Input, OpCase, x
from cases.ops.elementwise import half
from keras import ops

_NAMES = (
    "relu relu6 sigmoid silu swish softplus softsign elu selu celu gelu hard_sigmoid hard_silu hard_swish "
    "hard_tanh leaky_relu log_sigmoid sparse_sigmoid sparse_plus squareplus tanh_shrink soft_shrink hard_shrink "
    "softmax log_softmax glu sparsemax"
)
#: Where an activation is exponential, linear or saturated.
_LARGE = x("b", "t", 4, low=-100, high=100)
_FLAT = "relu sigmoid silu softplus softsign elu gelu log_sigmoid softmax log_softmax squareplus tanh_shrink"


def _edges(*values: float) -> Input:
    return x("b", "t", make=lambda rng, shape: rng.choice(values, shape))


CASES = [
    *[OpCase(name, getattr(ops, name)) for name in _NAMES.split()],
    *[OpCase(name, getattr(ops, name), (_LARGE,), variant="large") for name in _FLAT.split()],
    *[half(name) for name in _NAMES.split() if name not in ("celu", "sparsemax")],
    OpCase("relu", ops.relu, (_edges(-1, 0, 2, float("nan"), float("inf")),), variant="nan"),
    OpCase("celu", lambda a: ops.celu(a, alpha=0.5), variant="alpha"),
    OpCase("elu", lambda a: ops.elu(a, alpha=0.5), variant="alpha"),
    OpCase("leaky_relu", lambda a: ops.leaky_relu(a, negative_slope=0.5), variant="slope"),
    OpCase("gelu", lambda a: ops.gelu(a, approximate=False), variant="exact"),
    OpCase("gelu", lambda a: ops.gelu(a, approximate=False), variant="exact-17", opset=17, lacks=("Gelu",)),
    OpCase("gelu", ops.gelu, variant="tanh-17", opset=17, lacks=("Gelu",)),
    OpCase("glu", lambda a: ops.glu(a, axis=1), (x("b", 6, "t"),), variant="axis"),
    OpCase("softmax", lambda a: ops.softmax(a, axis=1), variant="axis"),
    OpCase("softmax", lambda a: ops.softmax(a, axis=(1, 2)), variant="axes"),
    OpCase("softmax", lambda a: ops.softmax(a, axis=(0, 2)), variant="axes-apart"),
    OpCase("softmax", lambda a: ops.softmax(a, axis=None), variant="all"),
    OpCase("log_softmax", lambda a: ops.log_softmax(a, axis=1), variant="axis"),
    OpCase("log_softmax", lambda a: ops.log_softmax(a, axis=(1, 2)), variant="axes"),
    OpCase("sparsemax", lambda a: ops.sparsemax(a, axis=1), variant="axis"),
    OpCase("sparsemax", ops.sparsemax, (x("b", "t"),), variant="dynamic"),
    OpCase("squareplus", lambda a: ops.squareplus(a, b=0.5), variant="b"),
    OpCase(
        "soft_shrink", lambda a: ops.soft_shrink(a, threshold=1.25), variant="threshold", holds=("Shrink",)
    ),
    OpCase(
        "hard_shrink", lambda a: ops.hard_shrink(a, threshold=1.25), variant="threshold", holds=("Shrink",)
    ),
    OpCase("hard_shrink", ops.hard_shrink, (_edges(-0.5, 0.5, 0.75, -2),), variant="at-threshold"),
    OpCase("threshold", lambda a: ops.threshold(a, 0.5, -3.0)),
    OpCase(
        "threshold", lambda a: ops.threshold(a, 0.5, -3.0), (_edges(0.5, 0.25, 1),), variant="at-threshold"
    ),
    OpCase("sparse_plus", ops.sparse_plus, (_edges(-1, 1, 1e4, -1e4, 0),), variant="edges"),
]
