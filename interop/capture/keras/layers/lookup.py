"""Vocabularies and hashes: IntegerLookup, StringLookup, TextVectorization, Hashing, HashedCrossing.

Tables become ``ai.onnx.ml`` LabelEncoder nodes. Two things differ from Keras: a graph cannot raise, so an
unknown key of a layer without a bucket for unknown keys gives -1 (nothing, when encoded), and encoded outputs
have the dtype that Keras declares, floats, where its eager layers give integers.
Source: https://onnx.ai/onnx/operators/onnx_aionnxml_LabelEncoder.html.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.layers.hashing import bucket
from interop.capture.keras.ops.creation import counting
from interop.capture.keras.registry import layer as layer_emitter
from interop.errors import UnsupportedOp
from interop.graph.record import Value

_NO_TEXT = (
    "ONNX has no operator that hashes, or reads the bytes of a string, and that of onnxruntime-extensions gives other "
    "buckets than TensorFlow's."
)


def text(value: str | list[str]) -> Value:
    """A constant of strings."""
    array = np.asarray(value, np.str_)
    return Value("constant", "string", array.shape, array=array)


def encoder(e: Emit, x: Value, table: dict[Any, Any], default: Any) -> Value:
    """``table[x]``, or the default."""
    keys, values = list(table), list(table.values())
    to_text = isinstance(default, str) or any(isinstance(value, str) for value in values)
    given = {
        "keys_strings" if x.dtype == "string" else "keys_int64s": keys,
        "values_strings" if to_text else "values_int64s": values,
        "default_string" if to_text else "default_int64": default,
    }
    dtype = "string" if to_text else "int64"
    return e.node("LabelEncoder", x, domain="ai.onnx.ml", dtype=dtype, shape=x.shape, **given)


def indices(e: Emit, layer: Any, x: Value) -> Value:
    """The place of each token in the vocabulary; the token at each place when the layer is inverted."""
    x = x if x.dtype == "string" else e.cast(x, "int64")
    default = compat.lookup_default(layer)
    found = encoder(e, x, compat.lookup_table(layer), default)
    if layer.invert or layer.num_oov_indices <= 1:
        return found
    if x.dtype == "string":
        raise UnsupportedOp(
            f"layer {layer.name!r} spreads unknown tokens over {layer.num_oov_indices} buckets by the hash of their "
            f"text. {_NO_TEXT} Use num_oov_indices=1."
        )
    if layer.oov_method == "farmhash":
        place = _hashed(e, layer, x, layer.num_oov_indices)
    else:
        place = e.binary("Mod", x, e.scalar(layer.num_oov_indices, "int64"))
    place = e.binary("Add", place, e.scalar(compat.lookup_first_unknown(layer), "int64"))
    unknown = e.binary("Equal", found, e.scalar(default, "int64"), dtype="bool")
    return e.node("Where", unknown, place, found, dtype="int64", shape=x.shape)


def _hashed(e: Emit, layer: Any, x: Value, count: int) -> Value:
    """The bucket of each integer."""
    if layer.salt is not None:
        raise UnsupportedOp(
            f"layer {layer.name!r} hashes with SipHash, as it has a salt; FarmHash alone is exported. Use salt=None."
        )
    if e.opset < 18:
        raise UnsupportedOp(
            f"layer {layer.name!r} hashes, which takes BitwiseXor of opset 18; the graph is of opset {e.opset}"
        )
    return bucket(e, x, count)


def categories(
    e: Emit, found: Value, mode: str, depth: int, dtype: str, weights: Value | None = None
) -> Value:
    """Places from 0 to ``depth`` - 1 as one_hot, multi_hot or count; any other place is left out."""
    found = e.reshape(found, (1,)) if found.rank == 0 else found
    if mode == "one_hot" and found.rank > 1 and found.dims[-1] == 1:
        found = e.squeeze(found, [-1])
    hit = e.binary("Equal", e.unsqueeze(found, [found.rank]), counting(e, depth), dtype="bool")
    ones = e.cast(hit, dtype)
    if mode == "one_hot":
        return ones
    if weights is not None:
        ones = e.binary("Mul", ones, e.unsqueeze(e.cast(weights, dtype), [weights.rank]))
    # Keras reduces axis 1 of whatever rank.
    return e.reduce("ReduceMax" if mode == "multi_hot" else "ReduceSum", ones, [1 if found.rank > 1 else 0])


def encoded(e: Emit, layer: Any, found: Value) -> Value:
    """Places as the layer's output: as they are, or one_hot, multi_hot, count or tf_idf."""
    mode = layer.output_mode
    if mode == "int":
        return found
    depth, dtype = compat.lookup_depth(layer), "float32"
    if mode != "tf_idf":
        return categories(e, found, mode, depth, dtype)
    counts = categories(e, found, "count", depth, dtype)
    return e.binary("Mul", counts, e.constant(compat.lookup_weights(layer), dtype))


@layer_emitter("IntegerLookup", "StringLookup", since=13)
def lookup(e: Emit, layer: Any, inputs: Value) -> Value:
    if layer.sparse:
        raise UnsupportedOp(f"layer {layer.name!r} gives sparse tensors, which ONNX has no operators for")
    return encoded(e, layer, indices(e, layer, inputs))


@layer_emitter("Hashing", since=18)
def hashing(e: Emit, layer: Any, inputs: Any) -> Value:
    """Buckets of integers; bucket 0 is the mask's alone if there is one."""
    x = e.tensor(inputs)
    if x.dtype == "string":
        raise UnsupportedOp(
            f"layer {layer.name!r} hashes texts. {_NO_TEXT} Hash before the graph, or use StringLookup."
        )
    if layer.sparse:
        raise UnsupportedOp(f"layer {layer.name!r} gives sparse tensors, which ONNX has no operators for")
    masked = layer.mask_value is not None and layer.num_bins > 1
    found = _hashed(e, layer, x, layer.num_bins - masked)
    if masked:
        is_mask = e.binary("Equal", x, e.like(layer.mask_value, x), dtype="bool")
        found = e.binary("Add", found, e.scalar(1, "int64"))
        found = e.node("Where", is_mask, e.scalar(0, "int64"), found, dtype="int64", shape=found.shape)
    if layer.output_mode == "int":
        return e.cast(found, str(layer.dtype))
    return categories(e, found, layer.output_mode, layer.num_bins, str(layer.dtype))


@layer_emitter("HashedCrossing", since=13)
def hashed_crossing(e: Emit, layer: Any, inputs: Any) -> Value:
    raise UnsupportedOp(
        f"layer {layer.name!r}: HashedCrossing chains the hashes of its inputs in a way that only TensorFlow has. "
        "Cross before the graph, or hash one feature made of both with Hashing."
    )


@layer_emitter("CategoryEncoding", since=13)
def category_encoding(e: Emit, layer: Any, inputs: Value, count_weights: Any = None) -> Value:
    """The layer's own code has a way of TensorFlow's that takes no traced tensors."""
    places = e.cast(inputs, "int64")
    e.bound(places, layer.num_tokens)
    dtype = str(layer.compute_dtype)
    weights = None if count_weights is None else e.tensor(count_weights, dtype)
    return categories(e, places, layer.output_mode, layer.num_tokens, dtype, weights)


@layer_emitter("Discretization", since=13)
def discretization(e: Emit, layer: Any, inputs: Value) -> Any:
    """Encoded bins; their numbers alone come out of the layer's own code."""
    if layer.output_mode == "int" or layer.sparse:
        return NotImplemented
    edges = [float(edge) for edge in layer.bin_boundaries]
    bounds = e.constant(np.asarray(edges), inputs.dtype if inputs.dtype.startswith("float") else "float32")
    below = e.binary("Less", e.unsqueeze(e.cast(inputs, bounds.dtype), [inputs.rank]), bounds, dtype="bool")
    passed = e.cast(e.unary("Not", below), "int32")  # not GreaterOrEqual: NaN is in the last bin
    places = e.cast(e.reduce("ReduceSum", passed, [-1]), "int64")
    return categories(e, places, layer.output_mode, len(edges) + 1, str(layer.compute_dtype))
