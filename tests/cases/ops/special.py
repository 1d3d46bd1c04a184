"""Special functions, bits, and the parts of a number."""

from __future__ import annotations

from cases.ops import OpCase, x
from cases.ops.elementwise import INF, NAN, among, half
from keras import ops

_UNARY = "deg2rad rad2deg cbrt exp2 sinc erfc i0 signbit angle imag"
_BINARY = "hypot logaddexp logaddexp2 heaviside"
_PAIR = (x("b", "t", 4), x("t", 4))
_INTEGERS = (x("b", "t", dtype="int32", low=-9, high=9), x("t", dtype="int32", low=1, high=5))
_BITS = "bitwise_and bitwise_or bitwise_xor"
_NOT = "bitwise_invert bitwise_not"
_SHIFTS = "left_shift bitwise_left_shift right_shift bitwise_right_shift"
_BYTES = (x("b", "t", dtype="uint8", low=0, high=250), x("t", dtype="uint8", low=0, high=5))
_NEGATIVE = (x("b", "t", dtype="int32", low=-900, high=900), x("t", dtype="int32", low=0, high=5))
_BOOLEANS = (x("b", "t", dtype="bool"), x("t", dtype="bool"))
_SIGNS = among(0.0, -0.0, 1.0, -1.0, INF, -INF, 1e-30, -1e-30)
#: torch has no imaginary part of a real tensor.
_IMAG = {"imag": ("jax", "tensorflow")}


def _unary(name: str, *values: float, **options) -> OpCase:
    inputs = (among(*values),) if values else (x("b", "t", 4),)
    known = {"backends": _IMAG[name]} if name in _IMAG else {}
    return OpCase(name, getattr(ops, name), inputs, constant=name == "imag", **known, **options)


CASES = [
    *[_unary(name) for name in _UNARY.split()],
    *[OpCase(name, getattr(ops, name), _PAIR) for name in _BINARY.split()],
    *[
        OpCase(name, getattr(ops, name), _INTEGERS[:1], variant="int32", atol=1e-5)
        for name in "deg2rad rad2deg cbrt exp2 sinc i0 signbit angle".split()
    ],
    *[OpCase(name, getattr(ops, name), _INTEGERS, variant="int32") for name in ("hypot", "heaviside")],
    *[half(name) for name in "cbrt exp2 sinc erfc i0 angle erfinv signbit".split()],
    *[half(name, *_PAIR) for name in ("hypot", "logaddexp", "heaviside")],
    OpCase("erfinv", ops.erfinv, (x("b", "t", 4, low=-0.999, high=0.999),)),
    _unary("erfinv", -1, 1, 0, 0.9999999, -1e-6, 2, variant="edges"),
    # Relative to values down to 1e-37, where 1 - erf(x) is 0.
    _unary("erfc", 4, 9, -9, 0, 2.5, INF, -INF, variant="edges", atol=0.0),
    _unary("i0", 0, 3.75, -20, 88, 5, variant="edges"),
    _unary("exp2", -20, 0, 10, 127, 130, variant="edges"),
    _unary("cbrt", -27, 0, 1e30, -1e-30, INF, variant="edges"),
    _unary("sinc", 0, 1, 1e-8, -3.5, variant="edges"),
    OpCase("signbit", ops.signbit, (_SIGNS,), variant="edges"),
    OpCase("signbit", ops.signbit, (x("b", "t", dtype="bool"),), variant="bool", constant=True),
    # TensorFlow gives NaN the angle 0, JAX -0 the angle pi.
    _unary("angle", NAN, 1, -1, INF, -INF, variant="nan", backends=("jax", "torch")),
    # TensorFlow has NaN for two infinities.
    OpCase(
        "hypot",
        ops.hypot,
        (among(0, 3e30, 1e-30, INF, -4), among(0, 4e30, INF, 3, shape=("t",))),
        variant="edges",
        backends=("jax", "torch"),
    ),
    *[
        OpCase(
            name,
            getattr(ops, name),
            (among(0, 300, -300, -INF), among(0, 301, -INF, INF, shape=("t",))),
            variant="edges",
        )
        for name in ("logaddexp", "logaddexp2")
    ],
    OpCase("heaviside", ops.heaviside, (among(-1, 0, -0.0, 2, INF), x("t")), variant="edges"),
    OpCase("ldexp", ops.ldexp, (x("b", "t"), x("t", dtype="int32", low=-20, high=20))),
    # TensorFlow and torch overflow in 2 ** 150.
    OpCase(
        "ldexp",
        ops.ldexp,
        (among(1e-30, 0, 3, INF), among(150, -150, 4, shape=("t",), dtype="int32")),
        variant="edges",
        backends=("jax",),
    ),
    OpCase("nextafter", ops.nextafter, _PAIR),
    # The neighbour in float64 is the number itself in float32: TensorFlow and torch.
    OpCase(
        "nextafter",
        lambda a, b: (ops.nextafter(a, b) - a) * 2.0**30,
        (among(1, -1, 0.999, 3e3, 7), among(2, -2, 1, 3e3, shape=("t",))),
        variant="step",
        backends=("jax",),
    ),
    *[
        OpCase(name, getattr(ops, name), inputs, variant=variant)
        for name in ("gcd", "lcm")
        for variant, inputs in (
            ("", _NEGATIVE),
            (
                "large",
                (x("b", "t", dtype="int32", low=1, high=40000), x("t", dtype="int32", low=1, high=40000)),
            ),
            ("zeros", (among(0, 12, -18, dtype="int32"), among(0, 8, shape=("t",), dtype="int32"))),
            ("uint8", (x("b", "t", dtype="uint8", low=0, high=12), x("b", 1, dtype="uint8", low=1, high=12))),
        )
    ],
    *[OpCase(name, getattr(ops, name), _INTEGERS) for name in _BITS.split()],
    *[OpCase(name, getattr(ops, name), _BYTES, variant="uint8") for name in _BITS.split()],
    # TensorFlow has no bits of booleans.
    *[
        OpCase(name, getattr(ops, name), _BOOLEANS, variant="bool", opset=17, backends=("jax", "torch"))
        for name in _BITS.split()
    ],
    *[OpCase(name, getattr(ops, name), _NEGATIVE[:1]) for name in _NOT.split()],
    *[OpCase(name, getattr(ops, name), _NEGATIVE[:1], variant="17", opset=17) for name in _NOT.split()],
    *[OpCase(name, getattr(ops, name), _BYTES[:1], variant="uint8-17", opset=17) for name in _NOT.split()],
    *[OpCase(name, getattr(ops, name), _BYTES[:1], variant="uint8") for name in _NOT.split()],
    *[OpCase(name, getattr(ops, name), _NEGATIVE) for name in _SHIFTS.split()],
    *[OpCase(name, getattr(ops, name), _BYTES, variant="uint8") for name in _SHIFTS.split()],
    *[
        OpCase(
            name,
            getattr(ops, name),
            (_NEGATIVE[1], x("b", "t", dtype="int32", low=0, high=8)),
            variant="broadcast",
        )
        for name in ("left_shift",)
    ],
    *[
        OpCase(name, lambda a, name=name: getattr(ops, name)(a, 3), _NEGATIVE[:1], variant="number")
        for name in _SHIFTS.split()
    ],
    OpCase("view", lambda a: ops.view(a, "int8"), (x("b", "t", dtype="uint8", high=255),), variant="int8"),
    OpCase(
        "view",
        lambda a: ops.view(a, "uint8"),
        (x("b", "t", dtype="int32", low=-(2**31), high=2**31 - 1),),
        variant="uint8",
    ),
    OpCase(
        "view",
        lambda a: ops.view(a, "int16"),
        (x("b", "t", dtype="int32", low=-(2**31), high=2**31 - 1),),
        variant="int16",
    ),
    OpCase(
        "view", lambda a: ops.view(a, "int32"), (x("b", "t", 8, dtype="uint8", high=255),), variant="int32"
    ),
    OpCase("view", lambda a: ops.view(a, "float32")),
]
