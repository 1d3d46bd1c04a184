"""Strings. Source: https://onnx.ai/onnx/operators/onnx__StringNormalizer.html and its kind.

No backend of Keras computes with strings. They are NumPy arrays of Python strings from the input on, which Python's own
methods work on, so these operators run on arrays alone and never in a Keras model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op


def _each(function: Callable[..., Any], dtype: str, *xs: Any) -> Tensor:
    """A Python function of every string, under broadcasting."""
    return np.asarray(np.frompyfunc(function, len(xs), 1)(*xs)).astype(dtype)


@op("StringConcat", since=20)
def concat(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    return _each(lambda a, b: a + b, "object", x, y)


@op("RegexFullMatch", since=20)
def full_match(ctx: Context, x: Tensor, *, pattern: str | None = None) -> Tensor:
    """Patterns are of RE2, whose syntax Python's includes."""
    try:
        wanted = re.compile(pattern or "")
    except re.error as error:
        raise ctx.error(f"{pattern!r} is no regular expression: {error}") from error
    return _each(lambda text: wanted.fullmatch(text) is not None, "bool", x)


@op("StringSplit", since=20)
def split(
    ctx: Context, x: Tensor, *, delimiter: str | None = None, maxsplit: int | None = None
) -> tuple[Tensor, ...]:
    """Parts along a new axis, empty strings after the last, and how many there are."""
    most = -1 if maxsplit is None else maxsplit
    parts = [text.split(delimiter or None, most) for text in x.reshape(-1)]
    width = max(map(len, parts), default=0)
    padded = np.full((len(parts), width), "", object)
    for row, found in enumerate(parts):
        padded[row, : len(found)] = found
    counts = np.asarray([len(found) for found in parts], "int64")
    return padded.reshape(*x.shape, width), counts.reshape(x.shape)


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(character for character in decomposed if not unicodedata.combining(character))


@op("StringNormalizer", since=10)
def normalize(
    ctx: Context,
    x: Tensor,
    *,
    case_change_action: str = "NONE",
    is_case_sensitive: int = 0,
    locale: str = "en_US",
    stopwords: Sequence[str] = (),
) -> Tensor:
    """Strings of one row without the stop words, in lower or upper case."""
    changes: dict[str, Callable[[str], str]] = {"LOWER": str.lower, "UPPER": str.upper, "NONE": str}
    change = changes[case_change_action]
    compare: Callable[[str], str] = str if is_case_sensitive else str.lower
    stops = {compare(word) for word in stopwords}
    texts = [_without_accents(text) for text in x.reshape(-1)]
    kept = [change(text) for text in texts if compare(text) not in stops] or [""]
    return np.asarray(kept, object).reshape((1, -1) if x.ndim == 2 else (-1,))


@op("LabelEncoder", since=2, domain="ai.onnx.ml")
def label_encoder(
    ctx: Context,
    x: Tensor,
    *,
    default_float: float = -0.0,
    default_int64: int = -1,
    default_string: str = "_Unused",
    default_tensor: Tensor = None,
    keys_floats: Sequence[float] | None = None,
    keys_int64s: Sequence[int] | None = None,
    keys_strings: Sequence[str] | None = None,
    keys_tensor: Tensor = None,
    values_floats: Sequence[float] | None = None,
    values_int64s: Sequence[int] | None = None,
    values_strings: Sequence[str] | None = None,
    values_tensor: Tensor = None,
) -> Tensor:
    """A table of labels: keys to values, or to a default."""
    array = ctx.known(x)
    if array is None:
        ctx.fail("looks labels up, which cannot be part of a Keras model")
    given: dict[str, tuple[Any, Any]] = {
        "float32": (values_floats, default_float),
        "int64": (values_int64s, default_int64),
        "object": (values_strings, default_string),
    }
    dtype, (values, default) = next(
        ((kind, pair) for kind, pair in given.items() if pair[0] is not None),
        ("", (values_tensor, default_tensor)),
    )
    if values is None:
        ctx.fail("has no values")
    keys = next((k for k in (keys_floats, keys_int64s, keys_strings, keys_tensor) if k is not None), ())
    if values is values_tensor:
        dtype = str(np.asarray(values).dtype)
        default = np.asarray(-1 if default is None else default).reshape(-1)[0]
    table = dict(
        zip(np.asarray(keys).reshape(-1).tolist(), np.asarray(values).reshape(-1).tolist(), strict=True)
    )
    return _each(lambda key: table.get(key, default), dtype, array)
