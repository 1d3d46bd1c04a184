"""Dimensions that stay symbolic through Python arithmetic.

A ``SymInt`` is an ``int`` whose value is a hint (a prime no layer is likely to use as a size), so
that any Keras code that computes with shapes runs on it, and which carries the exact expression it
stands for. Arithmetic keeps the expression; comparisons use the hint.

Invariants:
- An expression is a polynomial with integer coefficients over *atoms*: a named symbol, or the floor
  quotient or remainder of two expressions. Equal expressions have equal polynomials.
- Code that reduces a dimension to a plain number loses the expression. The caller traces twice with
  different hints and compares, so such a loss is found, never shipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeGuard

Atom = tuple[Any, ...]  # ("s", name) | ("u", name) | ("//", Poly, Poly) | ("%", Poly, Poly)
Monomial = tuple[Atom, ...]  # sorted; repeated atoms are powers
Poly = tuple[tuple[Monomial, int], ...]  # sorted, no zero coefficients


def _poly(terms: dict[Monomial, int]) -> Poly:
    return tuple(sorted((item for item in terms.items() if item[1]), key=repr))


def _constant(value: int) -> Poly:
    return (((), value),) if value else ()


def _expression(value: int) -> Poly:
    return value.poly if isinstance(value, SymInt) else _constant(int(value))


def _add(a: Poly, b: Poly, sign: int = 1) -> Poly:
    terms = dict(a)
    for monomial, coefficient in b:
        terms[monomial] = terms.get(monomial, 0) + sign * coefficient
    return _poly(terms)


def _multiply(a: Poly, b: Poly) -> Poly:
    terms: dict[Monomial, int] = {}
    for left, p in a:
        for right, q in b:
            monomial = tuple(sorted(left + right, key=repr))
            terms[monomial] = terms.get(monomial, 0) + p * q
    return _poly(terms)


def _divide_exactly(a: Poly, b: Poly) -> Poly | None:
    """``a / b`` when ``b`` is one term that divides every term of ``a``."""
    if len(b) != 1:
        return None
    divisor, coefficient = b[0]
    terms: dict[Monomial, int] = {}
    for monomial, value in a:
        rest = list(monomial)
        for atom in divisor:
            if atom not in rest:
                return None
            rest.remove(atom)
        if value % coefficient:
            return None
        terms[tuple(rest)] = value // coefficient
    return _poly(terms)


def _split(a: Poly, divisor: int) -> tuple[Poly, Poly]:
    """``a`` as ``divisor * whole + rest``, every coefficient of the rest from 0 to ``divisor - 1``."""
    whole = {monomial: coefficient // divisor for monomial, coefficient in a}
    rest = {monomial: coefficient % divisor for monomial, coefficient in a}
    return _poly(whole), _poly(rest)


def _make(value: int, poly: Poly) -> int:
    if not poly:
        return 0
    if len(poly) == 1 and poly[0][0] == ():
        return poly[0][1]
    return SymInt(value, poly)


class SymInt(int):
    """An ``int`` (the hint) that remembers the expression it stands for."""

    poly: Poly

    def __new__(cls, hint: int, poly: Poly) -> SymInt:
        self = super().__new__(cls, hint)
        self.poly = poly
        return self

    @classmethod
    def symbol(cls, name: str, hint: int) -> SymInt:
        """A fresh named dimension with the given hint."""
        return cls(hint, (((("s", name),), 1),))

    @classmethod
    def unknown(cls, name: str, hint: int) -> SymInt:
        """A size that depends on values; whether it equals another one shows at run time only."""
        return cls(hint, (((("u", name),), 1),))

    @property
    def name(self) -> str | None:
        """The symbol's name when the expression is a single symbol, else None."""
        if len(self.poly) == 1:
            monomial, coefficient = self.poly[0]
            if coefficient == 1 and len(monomial) == 1 and monomial[0][0] == "s":
                return str(monomial[0][1])
        return None

    def __add__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: a + b, _add)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: a - b, lambda a, b: _add(a, b, -1))

    def __rsub__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        return _make(int(other) - int(self), _add(_expression(other), self.poly, -1))

    def __mul__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: a * b, _multiply)

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return _make(-int(self), _multiply(self.poly, _constant(-1)))

    def __pos__(self) -> Any:
        return self

    def __floordiv__(self, other: Any) -> Any:
        return floor_divide(self, other) if isinstance(other, int) else NotImplemented

    def __rfloordiv__(self, other: Any) -> Any:
        return floor_divide(other, self) if isinstance(other, int) else NotImplemented

    def __mod__(self, other: Any) -> Any:
        return remainder(self, other) if isinstance(other, int) else NotImplemented

    def __rmod__(self, other: Any) -> Any:
        return remainder(other, self) if isinstance(other, int) else NotImplemented

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        if modulo is None and isinstance(other, int) and not isinstance(other, SymInt) and 0 <= other <= 8:
            result: Any = 1
            for _ in range(other):
                result = self * result
            return result
        return super().__pow__(other, modulo)

    def __int__(self) -> int:
        return int.__index__(self)

    # Comparisons and hashing are int's own, on the hint; an unequal pair of dimensions is remembered.

    def __eq__(self, other: object) -> bool:
        equal = super().__eq__(other)
        if equal is False and isinstance(other, SymInt) and self.name and other.name:
            _COMPARED[:] = [(self, other)]
        return equal

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = int.__hash__

    def __repr__(self) -> str:
        return render(self)

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        return SymInt, (int(self), self.poly)

    def __copy__(self) -> SymInt:
        return self

    def __deepcopy__(self, memo: Any) -> SymInt:
        return self

    def _binary(
        self, other: Any, number: Callable[[int, int], int], poly: Callable[[Poly, Poly], Poly]
    ) -> Any:
        if not isinstance(other, int):
            return NotImplemented if not isinstance(other, float) else number(int(self), other)  # type: ignore[arg-type]
        return _make(number(int(self), int(other)), poly(self.poly, _expression(other)))


# The last two named dimensions that code found to be different, in the running trace.
_COMPARED: list[tuple[SymInt, SymInt]] = []


def forget_comparisons() -> None:
    """Start a trace: nothing has been compared."""
    _COMPARED.clear()


def last_unequal() -> tuple[SymInt, SymInt] | None:
    """The two named dimensions that code last found to be different."""
    return _COMPARED[0] if _COMPARED else None


def floor_divide(a: int, b: int) -> int:
    """``a // b`` with the expression kept; the numerator of a kept quotient is never negative.

    ONNX integer division truncates while Python's floors, so of a division by a number every multiple is taken
    out: ``(x - 7) // 2`` is ``(x + 1) // 2 - 4``. That also makes equal quotients equal expressions.
    """
    if not isinstance(a, SymInt) and not isinstance(b, SymInt):
        return int(a) // int(b)
    exact = _divide_exactly(_expression(a), _expression(b))
    if exact is not None:
        return _make(int(a) // int(b), exact)
    if not isinstance(b, SymInt) and b > 0:
        if all(coefficient < 0 for monomial, coefficient in _expression(a) if monomial):
            return -floor_divide(-a + b - 1, b)  # -(-n // k), the usual ceiling
        whole, rest = _split(_expression(a), int(b))
        if not any(monomial for monomial, _ in rest):  # a number below b
            return _make(int(a) // int(b), whole)
        quotient: Poly = (((("//", rest, _constant(int(b))),), 1),)
        return _make(int(a) // int(b), _add(whole, quotient))
    if int(a) < 0 and int(b) > 0:
        return -floor_divide(-a + b - 1, b)
    return SymInt(int(a) // int(b), ((((("//", _expression(a), _expression(b))),), 1),))


def remainder(a: int, b: int) -> int:
    """``a % b`` with the expression kept; an exact division gives the plain number 0."""
    if not isinstance(a, SymInt) and not isinstance(b, SymInt):
        return int(a) % int(b)
    if _divide_exactly(_expression(a), _expression(b)) is not None:
        return 0
    left = _expression(a)
    if not isinstance(b, SymInt) and b > 0:
        left = _split(left, int(b))[1]
    return SymInt(int(a) % int(b), (((("%", left, _expression(b)),), 1),))


def same(a: int | None, b: int | None) -> bool:
    """Whether two dimensions are equal for every value of their symbols."""
    if a is None or b is None:
        return False
    if isinstance(a, SymInt) or isinstance(b, SymInt):
        return _expression(a) == _expression(b)
    return int(a) == int(b)


def equated(a: int, b: int) -> tuple[SymInt, int] | None:
    """What must be equal for ``a == b``: two names, or a name and a number; None if it is neither.

    ``x + 1 == y + 1`` says that x is y, ``b * x == b`` that x is 1.
    """
    difference = _add(_expression(a), _expression(b), -1)
    common = Counter(difference[0][0]) if difference else Counter()
    for monomial, _ in difference[1:]:
        common &= Counter(monomial)
    if common:
        difference = _divide_exactly(difference, ((tuple(common.elements()), 1),)) or difference
    named = [(monomial[0], factor) for monomial, factor in difference if len(monomial) == 1]
    constant = dict(difference).get((), 0)
    if len(named) + bool(constant) != len(difference) or any(
        atom[0] != "s" or abs(f) != 1 for atom, f in named
    ):
        return None
    sizes = [SymInt(1, (((atom,), 1),)) for atom, _ in named]
    if len(named) == 2 and not constant and named[0][1] == -named[1][1]:
        return sizes[0], sizes[1]
    number = -constant * named[0][1] if len(named) == 1 else 0
    return (sizes[0], number) if number > 0 else None


def is_unknown(value: Any) -> bool:
    """Whether a dimension depends on values."""
    return isinstance(value, SymInt) and any(atom[0] == "u" for term, _ in value.poly for atom in term)


def is_symbolic(value: Any) -> TypeGuard[SymInt]:
    """Whether ``value`` is a dimension that is not a plain number."""
    return isinstance(value, SymInt)


def _render_poly(poly: Poly) -> str:
    terms = []
    # Constants last, as people write sums.
    for monomial, coefficient in sorted(poly, key=lambda item: (item[0] == (), repr(item))):
        factors = [_render_atom(atom) for atom in monomial]
        sign = "-" if coefficient < 0 else "+"
        if not factors or abs(coefficient) != 1:
            factors.insert(0, str(abs(coefficient)))
        terms.append((sign, "*".join(factors)))
    text = "".join(f" {sign} {body}" for sign, body in terms)
    return text.removeprefix(" + ").replace(" - ", "-", 1) if text.startswith(" - ") else text[3:]


def _render_atom(atom: Atom) -> str:
    if atom[0] in ("s", "u"):
        return str(atom[1])
    left, right = _render_poly(atom[1]), _render_poly(atom[2])
    left = f"({left})" if " " in left else left
    right = f"({right})" if " " in right or "*" in right else right
    return f"floor({left}/{right})" if atom[0] == "//" else f"mod({left}, {right})"


def render(value: int) -> str:
    """The expression as text, such as ``floor((height + 1)/2)``; a plain number as itself."""
    return _render_poly(_expression(value)) or "0"


def key(value: Any) -> Any:
    """A hashable form in which two traces with different hints agree: the expression, not the hint."""
    return ("dim", value.poly) if isinstance(value, SymInt) else value
