"""Dense: ``MatMul`` with a matrix of weights, a bias added to it; ``Gemm``."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from interop.rebuild.lifting import Lifted, NoMatch, Site, Weight, lift


def dense_layer(node: Any, covers: tuple[Any, ...], x: Any, kernel: Weight, bias: Weight | None) -> Lifted:
    """A Dense layer in place of nodes."""
    units = int(kernel.array().shape[1])

    def make(name: str, dtype: str) -> Any:
        return keras.layers.Dense(units, use_bias=bias is not None, name=name, dtype=dtype)

    weights = {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}
    config = ("Dense", units, bias is not None)
    return Lifted(node, covers, (x,), make, config, weights, dims=lambda given: [(*given[0][:-1], units)])


@lift("MatMul", size=2)
def dense(site: Site, node: Any) -> Lifted | NoMatch:
    """``x @ kernel``, with ``+ bias`` if that is all that becomes of it."""
    kernel = site.weight(node.inputs[1])
    if kernel is None:
        return NoMatch("the second factor is no float initializer")
    shape = kernel.array().shape
    if len(shape) != 2:
        return NoMatch(f"the weights have {len(shape)} axes, not 2")
    if site.weight(node.inputs[0]) is not None:
        return NoMatch("both factors are weights")
    if site.rank(node.inputs[0]) == 1:
        return NoMatch("the input is a vector without a batch")
    return _with_bias_after(site, node, kernel)


def _with_bias_after(site: Site, node: Any, kernel: Weight) -> Lifted:
    """A product, with the bias that is added to it, if that is all that becomes of it."""
    units = kernel.array().shape[1]
    after = site.only_user(node.outputs[0])
    if after is not None and after.op_type == "Add":
        added = next((value for value in after.inputs if value is not node.outputs[0]), None)
        bias = site.weight(added)
        if bias is not None and bias.array().shape in {(units,), (1, units)}:
            flat = bias if bias.array().ndim == 1 else bias.changed("flat", np.ravel)
            return dense_layer(after, (node, after), node.inputs[0], kernel, flat)
    return dense_layer(node, (node,), node.inputs[0], kernel, None)


@lift("Gemm", size=2)
def gemm(site: Site, node: Any) -> Lifted | NoMatch:
    """``x @ kernel + bias`` with factors 1; without a bias in it, one may be added to it, as jax2onnx writes it."""
    attributes = site.attributes(node)
    beta = attributes.get("beta", 1.0)
    if attributes.get("transA") or attributes.get("alpha", 1.0) != 1.0 or beta not in (0.0, 1.0):
        return NoMatch("it scales or transposes its input")
    kernel = site.weight(node.inputs[1])
    if kernel is None:
        return NoMatch("the second factor is no float initializer")
    if attributes.get("transB"):
        kernel = kernel.changed("transposed (1, 0)", np.transpose)
    if len(node.inputs) < 3 or node.inputs[2] is None or not beta:
        return _with_bias_after(site, node, kernel)
    bias, units = site.weight(node.inputs[2]), kernel.array().shape[1]
    if bias is None or bias.array().size != units:
        return NoMatch("what is added is no bias")
    flat = bias if bias.array().ndim == 1 else bias.changed("flat", np.ravel)
    return dense_layer(node, (node,), node.inputs[0], kernel, flat)
