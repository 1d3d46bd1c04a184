"""What a pickle describes, read as a description: nothing that it names is imported, and nothing is called.

Enters: bytes. Leaves: plain Python values; a global is a `Global`, a call of one a `Call` with its arguments, a
reference to something outside a `Reference`. So the file of tensors that is a pickle can be read, and code in it is
only text.

Spec: the opcodes in CPython's ``Lib/pickletools.py``, which parses and does not execute.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from interop.errors import FormatError

_GARBAGE = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
_MARK = object()


@dataclass(frozen=True)
class Global:
    """Something that a pickle would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Call:
    """What a pickle would make by a call.

    Attributes:
        function: what is called; a `Global` unless the pickle is odd.
        arguments: positional ones.
        state: what the made object is given afterwards; None if nothing.
        items: what is put into it, if it is a mapping.
    """

    function: Any
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """Something that the pickle leaves to who reads it."""

    value: Any


def described(data: bytes | BinaryIO, source: str) -> Any:
    """The value that a pickle describes; of a stream, its next pickle.

    Args:
        data: the pickle.
        source: what it is, for messages.

    Raises:
        FormatError: it is no pickle.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except _GARBAGE as error:
        raise FormatError(
            f"{source}: not what torch.save writes: {type(error).__name__}: {error!s:.120}"
        ) from error


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _PUTS:
            self._memo[argument] = self.stack[-1]
        elif name in _GETS:
            self.stack.append(self._memo[argument])
        else:
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise ValueError(f"the opcode {name} is not read here")
            step(argument)

    def _marked(self) -> list[Any]:
        """Everything above the last mark, which goes too."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def _mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._marked()))

    def _tuple1(self, _: Any) -> None:
        self._tuple_of(1)

    def _tuple2(self, _: Any) -> None:
        self._tuple_of(2)

    def _tuple3(self, _: Any) -> None:
        self._tuple_of(3)

    def _tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _list(self, _: Any) -> None:
        self.stack.append(self._marked())

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._list_below().append(item)

    def _appends(self, _: Any) -> None:
        items = self._marked()
        self._list_below().extend(items)

    def _list_below(self) -> list[Any]:
        below = self.stack[-1]
        if isinstance(below, Call):
            return below.items.setdefault("", [])  # type: ignore[no-any-return]
        if not isinstance(below, list):
            raise TypeError("no list to append to")
        return below

    def _dict(self, _: Any) -> None:
        items = self._marked()
        self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _setitems(self, _: Any) -> None:
        self._set(self._marked())

    def _set(self, items: list[Any]) -> None:
        below = self.stack[-1]
        into = below.items if isinstance(below, Call) else below
        if not isinstance(into, dict):
            raise TypeError("no mapping to put items into")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, Hashable):
                raise TypeError("a key that is not hashable")
            into[key] = value

    def _additems(self, _: Any) -> None:
        items = self._marked()
        self.stack[-1].update(items)

    def _frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(self._marked()))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Global(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Global(str(module), str(name)))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple):
            raise TypeError("arguments that are no tuple")
        if function == Global("collections", "OrderedDict"):
            self.stack.append(dict(*arguments))
        else:
            self.stack.append(Call(function, arguments))

    def _newobj(self, argument: Any) -> None:
        self._reduce(argument)

    def _newobj_ex(self, argument: Any) -> None:
        self.stack.pop()
        self._reduce(argument)

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Call):
            self.stack[-1].state = state

    def _binpersid(self, _: Any) -> None:
        self.stack.append(Reference(self.stack.pop()))

    def _persid(self, argument: Any) -> None:
        self.stack.append(Reference(argument))


_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_LITERALS = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    ]
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
