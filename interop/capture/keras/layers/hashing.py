"""Hashes of integers, as Keras takes them: FarmHash's Fingerprint64 of the decimal digits.

TensorFlow hashes the text of a number; its at most 20 characters are computed in 64-bit arithmetic, so nothing but
standard operators is needed. Texts themselves cannot be hashed: ONNX has no operator that reads the bytes of a
string, and the StringToHashBucketFast of onnxruntime-extensions 0.15 gives other buckets than TensorFlow's.

Source: FarmHash (https://github.com/google/farmhash), HashLen0to16 and HashLen17to32 of farmhashna;
tf.strings.to_hash_bucket_fast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interop.capture.keras.emit import Emit
from interop.graph.record import Value

_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
_DIGITS = 20  # of the largest uint64; one more than of any int64, whose sign is the 20th character


def bucket(e: Emit, x: Value, count: int) -> Value:
    """The bucket, from 0 to ``count`` - 1, of each of ``x``; int64."""
    do = _Words(e, e.cast(x, "int64"))
    return e.cast(do.binary("Mod", _fingerprint(do), do.word(count)), "int64")


class _Words:
    """Arithmetic of 64 bits on the texts of integers.

    Attributes:
        length: characters of each text, the sign included; int64.
    """

    def __init__(self, e: Emit, x: Value) -> None:
        self._e = e
        self._negative = e.binary("Less", x, e.scalar(0, "int64"), dtype="bool")
        bits = e.cast(x, "uint64")
        one = self.word(1)
        opposite = self.binary("Add", e.unary("BitwiseNot", bits), one)
        self._magnitude = self.choose(self._negative, opposite, bits)
        powers = e.constant(np.asarray([10**place for place in range(1, _DIGITS)], np.uint64))
        reached = e.unary(
            "Not", e.binary("Less", e.unsqueeze(self._magnitude, [x.rank]), powers, dtype="bool")
        )
        more = e.reduce("ReduceSum", e.cast(reached, "int64"), [-1])
        self._digits = e.binary("Add", more, e.scalar(1, "int64"))
        self.length = e.binary("Add", self._digits, e.cast(self._negative, "int64"))

    def word(self, value: int) -> Value:
        return self._e.constant(np.asarray(value, np.uint64))

    def binary(self, operator: str, a: Value, b: Value) -> Value:
        return self._e.binary(operator, a, b)

    def choose(self, condition: Value, yes: Value, no: Value) -> Value:
        """Where; ONNX Runtime has none for uint64, and a cast keeps the bits."""
        e = self._e
        signed = [e.cast(word, "int64") for word in (yes, no)]
        return e.cast(e.node("Where", condition, *signed, dtype="int64", shape=condition.shape), "uint64")

    def fetch(self, places: Sequence[int], *, from_end: bool) -> Value:
        """Characters at these places as one word, the first in the lowest byte.

        Args:
            places: from the first character on, or from the last one back.
            from_end: which of the two. What lies beyond the text is 0.
        """
        e = self._e
        if len(places) > 4:  # ONNX Runtime 1.32 adds int64 up in doubles
            low, high = (self.fetch(half, from_end=from_end) for half in (places[:4], places[4:]))
            return self.binary("BitwiseOr", low, self.shift("LEFT", high, 32))
        offsets = e.constant(np.asarray(places, np.int64))
        if not from_end:
            last = e.binary("Sub", self.length, e.scalar(1, "int64"))
            offsets = e.binary("Sub", e.unsqueeze(last, [last.rank]), offsets)
        shifts = e.constant(np.asarray([256**place for place in range(len(places))], np.uint64))
        parts = self.binary("Mul", self._characters(offsets), shifts)
        return e.cast(e.reduce("ReduceSum", e.cast(parts, "int64"), [-1]), "uint64")

    def _characters(self, places: Value) -> Value:
        """ASCII of the characters at places from the end: digits, then perhaps the sign, then 0."""
        e = self._e
        last = self._digits.rank
        powers = e.constant(np.asarray([10**place for place in range(_DIGITS)], np.uint64))
        inside = e.node(
            "Clip", places, e.scalar(0, "int64"), e.scalar(_DIGITS - 1, "int64"), shape=places.shape
        )
        power = e.node("Gather", powers, inside, shape=places.shape, axis=0)
        digit = self.binary(
            "Mod", self.binary("Div", e.unsqueeze(self._magnitude, [last]), power), self.word(10)
        )
        count = e.unsqueeze(self._digits, [last])
        is_digit = e.binary(
            "And",
            e.binary("GreaterOrEqual", places, e.scalar(0, "int64"), dtype="bool"),
            e.binary("Less", places, count, dtype="bool"),
            dtype="bool",
        )
        is_sign = e.binary(
            "And",
            e.binary("Equal", places, count, dtype="bool"),
            e.unsqueeze(self._negative, [last]),
            dtype="bool",
        )
        digits = self.binary(
            "Mul", self.binary("Add", digit, self.word(ord("0"))), e.cast(is_digit, "uint64")
        )
        return self.binary("Add", digits, self.binary("Mul", self.word(ord("-")), e.cast(is_sign, "uint64")))

    def shift(self, direction: str, x: Value, bits: int) -> Value:
        return self._e.node("BitShift", x, self.word(bits), shape=x.shape, direction=direction)

    def rotate(self, x: Value, bits: int) -> Value:
        return self.binary("BitwiseOr", self.shift("RIGHT", x, bits), self.shift("LEFT", x, 64 - bits))

    def mixed(self, x: Value) -> Value:
        return self.binary("BitwiseXor", x, self.shift("RIGHT", x, 47))

    def longer(self, length: int) -> Value:
        """Whether a text has at least as many characters."""
        return self._e.binary("GreaterOrEqual", self.length, self._e.scalar(length, "int64"), dtype="bool")


def _fingerprint(do: _Words) -> Value:
    """Fingerprint64 of texts of 1 to 20 characters."""
    length = do._e.cast(do.length, "uint64")
    k0, k1, k2 = map(do.word, (_K0, _K1, _K2))
    factor = do.binary("Add", k2, do.shift("LEFT", length, 1))

    def times(a: Value, b: Value) -> Value:
        return do.binary("Mul", a, b)

    def plus(*terms: Value) -> Value:
        total = terms[0]
        for term in terms[1:]:
            total = do.binary("Add", total, term)
        return total

    def both(u: Value, v: Value) -> Value:
        """HashLen16."""
        a = do.mixed(times(do.binary("BitwiseXor", u, v), factor))
        b = do.mixed(times(do.binary("BitwiseXor", v, a), factor))
        return times(b, factor)

    first = do.fetch(range(8), from_end=False)
    last = do.fetch(range(7, -1, -1), from_end=True)

    # 17 to 20 characters
    a, b = times(first, k1), do.fetch(range(8, 16), from_end=False)
    c, d = times(last, factor), times(do.fetch(range(15, 7, -1), from_end=True), k2)
    u = plus(do.rotate(plus(a, b), 43), do.rotate(c, 30), d)
    longest = both(u, plus(a, do.rotate(plus(b, k2), 18), c))
    # 8 to 16
    a, b = plus(first, k2), last
    c, d = plus(times(do.rotate(b, 37), factor), a), times(plus(do.rotate(a, 25), b), factor)
    long = both(c, d)
    # 4 to 7
    a = do.fetch(range(4), from_end=False)
    short = both(plus(length, do.shift("LEFT", a, 3)), do.fetch(range(3, -1, -1), from_end=True))
    # 1 to 3: the character in the middle is the second of two and of three, and the only one of one
    a, c = do.fetch([0], from_end=False), do.fetch([0], from_end=True)
    b = do.choose(do.longer(2), do.fetch([1], from_end=False), a)
    y = plus(a, do.shift("LEFT", b, 8))
    z = plus(length, do.shift("LEFT", c, 2))
    shortest = times(do.mixed(do.binary("BitwiseXor", times(y, k2), times(z, k0))), k2)

    found = do.choose(do.longer(4), short, shortest)
    found = do.choose(do.longer(8), long, found)
    return do.choose(do.longer(17), longest, found)
