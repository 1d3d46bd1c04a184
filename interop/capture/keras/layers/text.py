"""TextVectorization with the string operators of ONNX: StringNormalizer, StringSplit, StringConcat.

ONNX has none that splits a text into characters; ONNX Runtime's own Tokenizer, which is in every build of it, does.

TensorFlow lowers ASCII letters only, so the C locale is asked for. ONNX replaces no substrings: a text is split
at each character that has to go and joined again. Its split at spaces knows no other whitespace, so tabs and
line ends are turned into spaces first.
Sources: https://onnx.ai/onnx/operators/onnx__StringNormalizer.html, onnx__StringSplit.html,
onnx__StringConcat.html; tf.strings.split, tf.strings.ngrams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit, element_count
from interop.capture.keras.layers.lookup import encoded, indices, text
from interop.capture.keras.layers.masking import choose, pack, rows
from interop.capture.keras.ops.creation import counting, filled
from interop.capture.keras.registry import layer as layer_emitter
from interop.capture.keras.subgraphs import scan
from interop.errors import UnsupportedOp
from interop.graph.record import Value
from interop.graph.typecodes import onnx_type_code

_PUNCTUATION = "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'"
_WHITESPACE = "\t\n\v\f\r"


@dataclass(frozen=True)
class _Tokens:
    """(texts, tokens) strings, which of them there are, and how many each text has."""

    tokens: Value
    valid: Value
    counts: Value


def _lower(e: Emit, x: Value) -> Value:
    """Rows of any rank; the operator takes one axis only."""
    flat = e.reshape(x, (element_count(x.dims),))
    lower = e.node("StringNormalizer", flat, shape=flat.shape, case_change_action="LOWER", locale="C")
    return e.reshape(lower, x.dims)


def _split(e: Emit, x: Value, delimiter: str | None) -> tuple[Value, Value]:
    """(texts, parts) and how many parts each text has."""
    parts, counts = e.nodes(
        "StringSplit", x, outputs=[("string", None), ("int64", x.shape)], delimiter=delimiter
    )
    parts.shape = (*x.dims, e.unknown("parts", parts))
    return e.witness(parts), counts


def _repeated(e: Emit, value: str, dims: Any) -> Value:
    return e.expand(text(value), dims)


def _replaced(e: Emit, x: Value, character: str, by: str) -> Value:
    """A character of (texts,) replaced by a space, or by nothing; spaces may come before and after."""
    parts, _ = _split(e, x, character)
    # One part more, as a text without any character has no part and Scan wants one.
    column = _repeated(e, "", (*x.dims, 1))

    def join(joined: list[Value], part: list[Value]) -> tuple[list[Value], list[Value]]:
        piece = e.node("StringConcat", text(by), part[0], shape=x.shape) if by else part[0]
        return [e.node("StringConcat", joined[0], piece, shape=x.shape)], []

    (whole,), _ = scan(e, join, [_repeated(e, "", x.dims)], [e.concat([column, parts], 1)], axis=1)
    return whole


def _standardized(e: Emit, layer: Any, how: Any, x: Value) -> Value:
    if callable(how):
        raise UnsupportedOp(
            f"layer {layer.name!r} standardizes with a Python function, which runs outside of any graph. Use one of "
            "'lower', 'strip_punctuation', 'lower_and_strip_punctuation' and None."
        )
    if how in ("lower", "lower_and_strip_punctuation"):
        x = _lower(e, x)
    if how in ("strip_punctuation", "lower_and_strip_punctuation"):
        flat = e.reshape(x, (element_count(x.dims),))
        for character in _PUNCTUATION:
            flat = _replaced(e, flat, character, "")
        x = e.reshape(flat, x.dims)
    return x


def _words(e: Emit, x: Value) -> _Tokens:
    """What stands between whitespace in each of (texts,)."""
    for character in _WHITESPACE:
        x = _replaced(e, x, character, " ")
    tokens, counts = _split(e, x, None)
    return _Tokens(tokens, _before(e, tokens.dims[1], counts), counts)


def _characters(e: Emit, x: Value) -> _Tokens:
    """The Unicode characters of each of (texts,)."""
    tokens = e.node(
        "Tokenizer", x, domain="com.microsoft", mark=0, mincharnum=1, pad_value="", separators=[""]
    )
    # The type again: inference of ONNX 1.23 does not know it, and crashes where the next operator asks for it.
    tokens = e.node("Cast", tokens, to=onnx_type_code("string"))
    tokens.shape = (*x.dims, e.unknown("characters", tokens))
    e.witness(tokens)
    valid = e.unary("Not", e.binary("Equal", tokens, text(""), dtype="bool"))
    return _Tokens(tokens, valid, e.reduce("ReduceSum", e.cast(valid, "int64"), [1]))


def _before(e: Emit, length: Any, counts: Value) -> Value:
    """(texts, length) bool: whether a place is one of the first ``counts``."""
    return e.binary("Less", e.unsqueeze(counting(e, length), [0]), e.unsqueeze(counts, [1]), dtype="bool")


def _grams(e: Emit, words: _Tokens, widths: tuple[int, ...]) -> _Tokens:
    """Runs of words joined by spaces: all of the first width, then all of the next."""
    batch, length = words.tokens.dims
    tokens, valid, counts = [], [], []
    for width in widths:
        longer = (
            e.concat([words.tokens, _repeated(e, "", (batch, width - 1))], 1) if width > 1 else words.tokens
        )
        gram: Value | None = None
        for start in range(width):
            part = e.slice(longer, 1, start, length + start)
            part.shape = (batch, length)
            if gram is not None:
                spaced = e.node("StringConcat", gram, text(" "), shape=part.shape)
                part = e.node("StringConcat", spaced, part, shape=part.shape)
            gram = part
        assert gram is not None
        number = e.binary(
            "Max", e.binary("Sub", words.counts, e.scalar(width - 1, "int64")), e.scalar(0, "int64")
        )
        tokens.append(gram)
        valid.append(_before(e, length, number))
        counts.append(number)
    if len(widths) == 1:
        return _Tokens(tokens[0], valid[0], counts[0])
    total = counts[0]
    for number in counts[1:]:
        total = e.binary("Add", total, number)
    return _packed(e, e.concat(tokens, 1), e.concat(valid, 1), total)


def _packed(e: Emit, tokens: Value, valid: Value, counts: Value) -> _Tokens:
    """The valid tokens of each text to the front, and no more columns than the longest needs."""
    front = rows(e, tokens, pack(e, valid).order)
    longest = e.reduce("ReduceMax", counts, [0], keepdims=True)
    width = e.unknown("grams", longest)
    cut = e.node("Slice", front, [0], longest, [1], [1], shape=(tokens.dims[0], width))
    return _Tokens(e.witness(cut), _before(e, width, counts), counts)


def _fitted(e: Emit, found: Value, length: int) -> Value:
    """Rows cut or filled with zeros to a length."""
    batch = found.dims[:-1]
    longer = e.concat([found, filled(e, (*batch, length), 0, "int64")], -1)
    cut = e.slice(longer, -1, 0, length)
    cut.shape = (*batch, length)
    return cut


@layer_emitter("TextVectorization", since=20)
def text_vectorization(e: Emit, layer: Any, inputs: Value) -> Value:
    """Standardize, split, join to n-grams, look up, encode."""
    standardize, split, widths, vocabulary, length = compat.text_settings(layer)
    x = _standardized(e, layer, standardize, inputs)
    if split is None:
        if widths:
            raise UnsupportedOp(
                f"layer {layer.name!r} makes n-grams without splitting; pass split='whitespace'"
            )
        found = indices(e, vocabulary, x)
        if vocabulary.output_mode == "int" and length is not None:
            return _fitted(e, found, length)
        return encoded(e, vocabulary, found)
    if callable(split) or vocabulary.sparse or compat.is_ragged(layer):
        raise UnsupportedOp(
            f"layer {layer.name!r}: TextVectorization exports with split='whitespace', 'character' or None, and dense "
            "outputs. ONNX has no operator that runs Python, or gives ragged or sparse tensors."
        )
    texts = e.reshape(x, x.dims[:1])
    words = _characters(e, texts) if split == "character" else _words(e, texts)
    words = _grams(e, words, widths) if widths else words
    found = indices(e, vocabulary, words.tokens)
    if vocabulary.output_mode != "int":
        none = e.scalar(np.iinfo(np.int64).max, "int64")
        return encoded(e, vocabulary, choose(e, words.valid, found, none))
    found = choose(e, words.valid, found, e.scalar(0, "int64"))
    return found if length is None else _fitted(e, found, length)
