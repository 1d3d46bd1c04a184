"""Loops, branches and maps over Python functions; layers inside them are in ``test_control.py``."""

from __future__ import annotations

from cases.ops import OpCase, x
from keras import ops

_SIGNED = x("b", "t", 4)
_COUNT = x(dtype="int32", low=0, high=5)
_FLAG = x(make=lambda rng, shape: rng.random() < 0.5, dtype="bool")
_INDEX = x(make=lambda rng, shape: rng.integers(-2, 6), dtype="int32")


def _cond(a: object) -> object:
    return ops.cond(ops.sum(a) > 0, lambda: a * 2, lambda: a - 1)


def _nested_cond(a: object) -> object:
    total = ops.sum(a)
    return ops.cond(
        total > 0,
        lambda: ops.cond(total > 5, lambda: {"x": a, "y": total}, lambda: {"x": a * 2, "y": total + 1}),
        lambda: {"x": -a, "y": total * 3},
    )


@ops.custom_gradient
def _log1pexp(a: object) -> object:
    e = ops.exp(a)

    def grad(*args: object, upstream: object = None) -> object:
        return ops.multiply(upstream if upstream is not None else args[0], 1.0 - 1.0 / ops.add(1, e))

    return ops.log(1 + e), grad


def _matmul_scan(a: object) -> object:
    """A product of matrices: associative, but not commutative."""
    return ops.associative_scan(ops.matmul, a, axis=1)


CASES = [
    OpCase("cond", _cond, holds=("If",)),
    OpCase("cond", _cond, (x("b", "t", 4, low=-3, high=-1),), "other branch"),
    OpCase("cond", _nested_cond, variant="nested"),
    OpCase("cond", lambda a: ops.cond(True, lambda: a + 1, lambda: a / 0), variant="known", lacks=("If",)),
    OpCase("cond", lambda a, p: ops.cond(p, lambda: a, lambda: a), (_SIGNED, _FLAG), "unchanged"),
    OpCase(
        "cond",
        lambda a, p: ops.cond(p, lambda: (a, None), lambda: (a * a, None))[0],
        (_SIGNED, _FLAG),
        "none",
    ),
    OpCase(
        "switch",
        lambda a, i: ops.switch(i, [lambda v: v + 1, lambda v: v * 2, lambda v: -v], a),
        (_SIGNED, _INDEX),
        holds=("If",),
    ),
    OpCase(
        "switch",
        lambda a, b, i: ops.switch(i, [lambda v, w: (v + w, v), lambda v, w: (v - w, w)], a, b),
        (_SIGNED, _SIGNED, _INDEX),
        "two operands",
    ),
    OpCase(
        "switch",
        lambda a: ops.switch(7, [lambda v: v + 1, lambda v: v * 2], a),
        variant="known",
        lacks=("If",),
    ),
    OpCase(
        "while_loop",
        lambda a: ops.while_loop(lambda i, s: i < 4, lambda i, s: (i + 1, s * 1.5), (0, a)),
        holds=("Loop",),
    ),
    OpCase(
        "while_loop",
        lambda a: ops.while_loop(lambda v: ops.sum(ops.abs(v)) > 1, lambda v: v / 2, a),
        variant="one value",
    ),
    OpCase(
        "while_loop",
        lambda a: ops.while_loop(lambda v: ops.sum(v) > -1e9, lambda v: v + 1, a, maximum_iterations=3),
        variant="limited",
    ),
    OpCase(
        "while_loop",
        lambda a, n: ops.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, s + ops.mean(a)), (0, a)),
        (_SIGNED, _COUNT),
        "count",
    ),
    OpCase(
        "while_loop",
        lambda a: ops.while_loop(
            lambda i, s: i < 3,
            lambda i, s: (
                i + 1,
                ops.while_loop(lambda j, r: j < i, lambda j, r: (j + 1, r + ops.cast(i, "float32")), (0, s))[
                    1
                ],
            ),
            (0, a),
        ),
        variant="nested",
    ),
    OpCase("fori_loop", lambda a: ops.fori_loop(0, 4, lambda i, s: s * 1.5 + a, a), holds=("Loop",)),
    OpCase(
        "fori_loop",
        lambda a: ops.fori_loop(2, 5, lambda i, s: s + ops.cast(i, "float32"), a),
        variant="index",
    ),
    OpCase(
        "fori_loop",
        lambda a: ops.fori_loop(0, ops.shape(a)[1], lambda i, s: s + a[:, i], ops.zeros_like(a[:, 0])),
        variant="over a size",
    ),
    OpCase(
        "fori_loop",
        lambda a: ops.fori_loop(0, 3, lambda i, s: ops.cond(ops.sum(s) > 0, lambda: s - 1, lambda: s + 2), a),
        variant="branch inside",
    ),
    OpCase(
        "scan",
        lambda a: ops.scan(lambda c, v: (c + v, c * v), ops.zeros((a.shape[1], 4)), a),
        holds=("Scan",),
    ),
    OpCase(
        "scan",
        lambda a: ops.scan(lambda c, v: (c + v, c - v), ops.zeros((a.shape[1], 4)), a, reverse=True),
        variant="reverse",
    ),
    OpCase(
        "scan",
        lambda a: ops.scan(lambda c, v: (c * 0.5, c), a, length=3),
        variant="no sequence",
        holds=("Loop",),
    ),
    OpCase(
        "scan",
        lambda a: ops.scan(lambda c, v: (c * 0.5, c), a, length=3, reverse=True),
        variant="no sequence, reverse",
    ),
    OpCase(
        "scan",
        lambda a: ops.scan(lambda c, v: (c + v, c), ops.zeros((3, 4)), a, length=4),
        (x(4, 3, 4),),
        "length",
    ),
    OpCase(
        "scan",
        lambda a, b: ops.scan(
            lambda c, v: ({"m": ops.maximum(c["m"], v[0]), "n": c["n"] + v[1]},) * 2,
            {"m": ops.zeros((4,)), "n": ops.zeros((3,))},
            (a, b),
        ),
        (x("t", 4), x("t", 3)),
        "structures",
    ),
    OpCase("map", lambda a: ops.map(lambda v: ops.sum(v, axis=0), a), holds=("Scan",)),
    OpCase(
        "map",
        lambda a, b: ops.map(lambda v: {"p": ops.sum(v[0]), "s": v[0] + v[1]}, (a, b)),
        (x("t", 4), x("t", 4)),
        "structures",
    ),
    OpCase("map", lambda a: ops.map(lambda v: v > 0, a), variant="bool"),
    OpCase("vectorized_map", lambda a: ops.vectorized_map(lambda v: ops.matmul(v, ops.transpose(v)), a)),
    OpCase(
        "vectorized_map",
        lambda a, b: ops.vectorized_map(lambda v: v[0] * ops.mean(v[1]), [a, b]),
        (x("b", 4), x("b", "t")),
        "two",
    ),
    OpCase("associative_scan", lambda a: ops.associative_scan(ops.add, a, axis=1), holds=("Loop",)),
    OpCase(
        "associative_scan",
        lambda a: ops.associative_scan(ops.add, a),
        (x(7, "t"),),
        "unrolled",
        lacks=("Loop",),
    ),
    OpCase(
        "associative_scan",
        lambda a: ops.associative_scan(ops.maximum, a, reverse=True, axis=1),
        (x("b", "t"),),
        "reverse",
    ),
    OpCase(
        "associative_scan", lambda a: ops.associative_scan(ops.add, a, axis=-1), (x("t", 5),), "last axis"
    ),
    OpCase(
        "associative_scan",
        lambda a: ops.associative_scan(ops.multiply, a, reverse=True),
        (x(6, "t"),),
        "reverse unrolled",
    ),
    OpCase(
        "associative_scan",
        # A recurrence y' = p y + q: neither commutative nor a single tensor.
        lambda a, b: ops.associative_scan(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), (a, b), axis=1),
        (x("b", "t", 3), x("b", "t", 3)),
        "recurrence",
    ),
    OpCase("custom_gradient", _log1pexp),
    OpCase(
        "custom_gradient",
        lambda a: ops.custom_gradient(lambda v: (v * 3, lambda *g, upstream=None: g))(a),
        variant="inside",
    ),
    OpCase("stop_gradient", lambda a: ops.stop_gradient(a) + 1),
]
