"""Tensors made from sizes, numbers and ends."""

from __future__ import annotations

from typing import Any

from cases.ops import OpCase, x
from keras import ops

ROWS = (x("t", 3),)
ENDS = (x("b", 3), x(3))
POSITIVE = (x("b", 3, low=0.5, high=3), x("b", 3, low=4, high=9))
VECTORS = (x("t"), x("n"))
# torch has no `axis` here, and computes `linspace` and `logspace` of tensors without their endpoint one step
# short: its steps run to `stop - step` and divide by `num - 1` again only for numbers.
NO_TORCH = ("jax", "tensorflow")


def _length(a: Any) -> Any:
    return ops.shape(a)[0]


CASES = [
    OpCase("zeros_like", lambda a: a + ops.zeros_like(a)),
    OpCase("zeros_like", lambda a: ops.zeros_like(a, dtype="int32"), variant="dtype", constant=True),
    OpCase("ones_like", lambda a: a + ops.ones_like(a)),
    OpCase("ones_like", lambda a: ops.ones_like(a, dtype="bool"), variant="bool", constant=True),
    OpCase("full_like", lambda a: a + ops.full_like(a, 2.0)),
    OpCase("full_like", lambda a: ops.full_like(a, 3, dtype="uint8"), variant="uint8", constant=True),
    OpCase("full_like", lambda a: ops.full_like(a, a[0, 0, 0]), variant="tensor", constant=True),
    # What an empty tensor holds is anything: only its shape counts.
    OpCase("empty_like", lambda a: a + 0 * ops.zeros_like(ops.empty_like(a))),
    OpCase("empty", lambda a: a + ops.zeros_like(ops.empty((_length(a), 3))), ROWS),
    OpCase("zeros", lambda a: a + ops.zeros((_length(a), 1)), ROWS),
    OpCase("zeros", lambda a: a + ops.zeros(3), ROWS, variant="fixed"),
    OpCase(
        "zeros", lambda a: ops.zeros((2, _length(a)), dtype="int32"), ROWS, variant="int32", constant=True
    ),
    OpCase("ones", lambda a: a + ops.ones((_length(a), 1)), ROWS),
    OpCase("ones", lambda a: ops.ones((2, _length(a)), dtype="bool"), ROWS, variant="bool", constant=True),
    OpCase("full", lambda a: a + ops.full((_length(a), 3), 2.5), ROWS),
    OpCase("full", lambda a: ops.full((_length(a), 2), a[0, 0]), ROWS, variant="tensor", constant=True),
    OpCase("full", lambda a: ops.full((2, 2), a[0, 0], dtype="int32"), ROWS, variant="cast", constant=True),
    OpCase("full", lambda a: ops.full((_length(a),), 7, dtype="int32"), ROWS, variant="int32", constant=True),
    OpCase("eye", lambda a: ops.eye(_length(a)) @ a, ROWS),
    OpCase("eye", lambda a: ops.eye(_length(a), 4, k=1), ROWS, variant="wide"),
    OpCase("eye", lambda a: ops.eye(5, _length(a), k=-2, dtype="int32"), ROWS, variant="tall"),
    OpCase("eye", lambda a: a @ ops.eye(3), ROWS, variant="fixed"),
    OpCase("identity", lambda a: ops.identity(_length(a)) @ a, ROWS),
    OpCase("identity", lambda a: ops.identity(_length(a), dtype="int32"), ROWS, variant="int32"),
    OpCase("tri", lambda a: ops.tri(_length(a)) @ a, ROWS),
    OpCase("tri", lambda a: ops.tri(_length(a), 4, k=1, dtype="int32"), ROWS, variant="wide"),
    OpCase("tri", lambda a: ops.tri(4, _length(a), k=-1), ROWS, variant="tall"),
    OpCase("arange", lambda a: a[:, 0] * ops.arange(_length(a), dtype="float32"), ROWS),
    OpCase("arange", lambda a: ops.arange(_length(a)), ROWS, variant="int32"),
    OpCase("arange", lambda a: ops.arange(2, _length(a) * 3, 2), ROWS, variant="step"),
    OpCase("arange", lambda a: ops.arange(_length(a), 0, -1), ROWS, variant="down"),
    OpCase("arange", lambda a: ops.arange(_length(a) - 1, -2, -2), ROWS, variant="down_by_two"),
    OpCase("arange", lambda a: a[0] + ops.arange(0.5, 2.0, 0.5), ROWS, variant="fractions"),
    # JAX needs numbers for the ends; torch's result for a tensor is the same.
    OpCase(
        "arange",
        lambda n: ops.arange(ops.sum(n) * 0 + 5),
        (x("t", dtype="int32"),),
        variant="tensor",
        backends=("tensorflow", "torch"),
    ),
    OpCase("linspace", lambda a, b: ops.linspace(a, b, num=5), ENDS),
    OpCase(
        "linspace",
        lambda a, b: ops.linspace(a, b, num=5, endpoint=False),
        ENDS,
        variant="open",
        backends=NO_TORCH,
    ),
    OpCase(
        "linspace", lambda a, b: ops.linspace(a, b, num=5, axis=-1), ENDS, variant="axis", backends=NO_TORCH
    ),
    OpCase("linspace", lambda a, b: ops.linspace(a, b, num=4, retstep=True), ENDS, variant="retstep"),
    OpCase("linspace", lambda a: a[:, 0] + ops.linspace(0.0, 1.0, _length(a)), ROWS, variant="dynamic"),
    OpCase(
        "linspace",
        lambda a, b: ops.linspace(a, b, num=3),
        (x("b", dtype="int32"), x("b", dtype="int32")),
        variant="int32",
    ),
    OpCase("logspace", lambda a, b: ops.logspace(a, b, num=5), ENDS),
    OpCase(
        "logspace",
        lambda a, b: ops.logspace(a, b, num=5, base=2, axis=1),
        ENDS,
        variant="axis",
        backends=NO_TORCH,
    ),
    OpCase(
        "logspace",
        lambda a, b: ops.logspace(a, b, num=5, endpoint=False),
        ENDS,
        variant="open",
        backends=NO_TORCH,
    ),
    OpCase("logspace", lambda a: a[:, 0] + ops.logspace(0.0, 1.0, _length(a)), ROWS, variant="dynamic"),
    OpCase("geomspace", lambda a, b: ops.geomspace(a, b, num=5), POSITIVE),
    OpCase("geomspace", lambda a, b: ops.geomspace(-a, -b, num=5), POSITIVE, variant="negative"),
    # TensorFlow multiplies by signs of another shape.
    OpCase(
        "geomspace",
        lambda a, b: ops.geomspace(a, b, num=4, axis=-1),
        POSITIVE,
        variant="axis",
        backends=("jax",),
    ),
    OpCase("geomspace", lambda a: a[:, 0] + ops.geomspace(1.0, 8.0, _length(a)), ROWS, variant="dynamic"),
    OpCase("meshgrid", lambda a, b: ops.meshgrid(a, b), VECTORS),
    OpCase("meshgrid", lambda a, b: ops.meshgrid(a, b, indexing="ij"), VECTORS, variant="ij"),
    OpCase("meshgrid", lambda a, b: ops.meshgrid(a, b, a), VECTORS, variant="three"),
    OpCase("ndim", lambda a: a * ops.ndim(a)),
    OpCase("size", lambda a: a * ops.cast(ops.size(a), "float32")),
    OpCase("size", lambda a: ops.size(a), variant="alone", constant=True, dtypes=("int32",)),
    OpCase("vander", ops.vander, (x("t"),), rtol=1e-3),
    OpCase("vander", lambda a: ops.vander(a, N=4, increasing=True), (x("t"),), variant="increasing"),
    OpCase("vander", lambda a: ops.vander(a, N=3), (x("t", dtype="int32"),), variant="int32"),
    *(
        OpCase(name, lambda a, name=name: a * getattr(ops, name)(_length(a))[:, None], ROWS)
        for name in ("bartlett", "blackman", "hamming", "hanning")
    ),
    *(
        OpCase(name, lambda a, name=name: a * getattr(ops, name)(6)[:, None], (x(6, "n"),), variant="fixed")
        for name in ("bartlett", "blackman", "hamming", "hanning")
    ),
    OpCase("kaiser", lambda a: a * ops.kaiser(_length(a), 8.0)[:, None], ROWS),
    OpCase("kaiser", lambda a: a * ops.kaiser(6, 14.0)[:, None], (x(6, "n"),), variant="fixed"),
    OpCase("diag", ops.diag, (x("t"),)),
    OpCase("diag", lambda a: ops.diag(a, k=2), (x("t"),), variant="above"),
    OpCase("diag", lambda a: ops.diag(a, k=-1), (x("t", dtype="int32"),), variant="below"),
    OpCase("diag", ops.diag, (x("t", "n"),), variant="of_a_matrix"),
    OpCase("diag", lambda a: ops.diag(a, k=-1), (x(4, 6),), variant="of_a_fixed_matrix"),
    OpCase("diagflat", ops.diagflat, (x("b", 3),)),
    OpCase("diagflat", lambda a: ops.diagflat(a, k=-2), (x("b", 3),), variant="below"),
    OpCase("diagonal", ops.diagonal, (x("t", "n"),)),
    OpCase("diagonal", lambda a: ops.diagonal(a, 1, 1, 2), (x("b", "t", "t"),), variant="square"),
    OpCase("diagonal", lambda a: ops.diagonal(a, -1, -1, 0), (x("t", 3, "n"),), variant="below"),
    OpCase("diagonal", lambda a: ops.diagonal(a, -2, 1, 2), (x("b", 4, 5),), variant="fixed"),
    OpCase("trace", ops.trace, (x("t", "n"),), constant=True),
    OpCase("trace", lambda a: ops.trace(a, 1, 1, 2), (x("b", "t", "t"),), variant="axes"),
    # torch has no unsigned 32-bit integers and declares another dtype.
    OpCase("trace", ops.trace, (x("t", "n", 5, dtype="int8"),), variant="int8"),
    OpCase("trace", ops.trace, (x("t", "n", 5, dtype="uint8", low=0, high=200),), variant="uint8"),
]
