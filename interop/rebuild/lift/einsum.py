"""EinsumDense, and Dense where it is one: ``Einsum`` of a tensor and a weight, with a bias added to it.

ONNX: https://onnx.ai/onnx/operators/onnx__Einsum.html. JAX writes the projections of attention so.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from interop.rebuild.lift.dense import dense_layer
from interop.rebuild.lifting import Lifted, NoMatch, Site, Weight, lift
from interop.rebuild.sizes import Dims


@dataclass(frozen=True)
class Equation:
    """Labels of the axes of two factors and of their product, and the factors."""

    labels: tuple[str, str]
    product: str
    factors: tuple[Any, Any]

    @classmethod
    def of(cls, site: Site, node: Any) -> Equation | NoMatch:
        """Read the equation of an Einsum of two factors."""
        equation = site.attributes(node).get("equation", "")
        terms, arrow, product = equation.replace(" ", "").partition("->")
        labels = terms.split(",")
        if len(labels) != 2 or len(node.inputs) != 2 or not arrow:
            return NoMatch("it has not two factors, or names no result")
        if "..." in terms:
            free = [letter for letter in string.ascii_letters if letter not in terms + product]
            counts = {
                -1 if (rank := site.rank(value)) is None else rank - len(term.replace("...", ""))
                for term, value in zip(labels, node.inputs, strict=True)
                if "..." in term
            }
            named = "".join(free[: max(counts)])
            if len(counts) > 1 or min(counts) < 0:
                return NoMatch("it leaves labels out, and the ranks do not say how many")
            labels, product = [term.replace("...", named) for term in labels], product.replace("...", named)
        if any(len(set(term)) < len(term) for term in (*labels, product)):
            return NoMatch("a label stands twice in one term")
        ranks = [site.rank(value) for value in node.inputs]
        if any(rank not in (None, len(term)) for rank, term in zip(ranks, labels, strict=True)):
            return NoMatch("its factors have not as many axes as labels")
        return cls((labels[0], labels[1]), product, (node.inputs[0], node.inputs[1]))

    def weighted(self, site: Site) -> tuple[str, Any, str, Weight] | NoMatch:
        """Labels and value of the factor that is a tensor, labels and contents of the one that is a weight."""
        found = [site.weight(value) for value in self.factors]
        for place in (0, 1):
            weight, other = found[1 - place], found[place]
            if weight is not None and other is None:
                return self.labels[place], self.factors[place], self.labels[1 - place], weight
        return NoMatch("none of its factors is a float initializer, or both are")


def _weighted(site: Site, node: Any) -> tuple[Equation, tuple[str, Any, str, Weight]] | NoMatch:
    """The equation of a node, and its two factors if one is a weight."""
    equation = Equation.of(site, node)
    if isinstance(equation, NoMatch):
        return equation
    factors = equation.weighted(site)
    return factors if isinstance(factors, NoMatch) else (equation, factors)


def projection(site: Site, node: Any) -> Lifted | NoMatch:
    """A Dense layer that computes a product but for the order and the number of its axes; `kernel` is a matrix.

    For patterns that look at what projections are for. What is summed over, and what is new, may be several axes.
    """
    found = _weighted(site, node)
    if isinstance(found, NoMatch):
        return found
    equation, (given, x, own, weight) = found
    summed = [label for label in given if label not in equation.product]
    new = [label for label in equation.product if label not in given]
    if not summed or not new or sorted(own) != sorted(summed + new):
        return NoMatch("the weight is no matrix of what goes in and what comes out")
    order = tuple(own.index(label) for label in (*summed, *new))
    sizes = dict(zip(own, weight.array().shape, strict=True))
    width, units = (math.prod(sizes[label] for label in labels) for labels in (summed, new))
    kernel = weight.changed(
        f"as a matrix {order}", lambda array: np.transpose(array, order).reshape(width, units)
    )
    after, bias, _ = _bias_after(site, node, equation.product, {label: sizes[label] for label in new})
    if bias is not None and bias.array().size != units:
        after, bias = None, None
    if bias is None or after is None:
        return dense_layer(node, (node,), x, kernel, None)
    return dense_layer(after, (node, after), x, kernel, bias.changed("flat", np.ravel))


@lift("Einsum", size=2)
def einsum(site: Site, node: Any) -> Lifted | NoMatch:
    """``einsum(equation, x, kernel) + bias``."""
    found = _weighted(site, node)
    if isinstance(found, NoMatch):
        return found
    equation, (given, x, own, weight) = found
    product = equation.product
    if given[0] != product[:1] or given[0] in own:
        return NoMatch("the first axis is no batch")
    if not set(own) <= {*given, *product} or not set(product) <= {*given, *own}:
        return NoMatch("labels of the weight are summed over alone")
    sizes = dict(zip(own, weight.array().shape, strict=True))
    after, bias, axes = _bias_after(site, node, product, sizes)
    if bias is None or after is None:
        after, bias, axes = node, None, ""
    covers = (node,) if bias is None else (node, after)
    if product[:-1] == given[:-1] and sorted(own) == sorted(given[-1] + product[-1]):
        kernel = weight if own[0] == given[-1] else weight.changed("transposed (1, 0)", np.transpose)
        if bias is None or axes == product[-1]:
            return dense_layer(
                after, covers, x, kernel, None if bias is None else bias.changed("flat", np.ravel)
            )
    text = f"{given},{own}->{product}"
    output_shape = tuple(sizes.get(label) for label in product[1:])

    def make(name: str, dtype: str) -> Any:
        return keras.layers.EinsumDense(text, output_shape, bias_axes=axes or None, name=name, dtype=dtype)

    def dims(all_given: list[Dims]) -> Sequence[Sequence[int | None]]:
        known = dict(zip(given, all_given[0], strict=True))
        return [[known.get(label, sizes.get(label)) for label in product]]

    weights = {"kernel": weight} if bias is None else {"kernel": weight, "bias": bias}
    return Lifted(after, covers, (x,), make, ("EinsumDense", text, output_shape, axes), weights, dims=dims)


def _bias_after(site: Site, node: Any, product: str, sizes: dict[str, int]) -> tuple[Any, Weight | None, str]:
    """The node that adds a bias, the bias from its first axis on, and the labels of its axes."""
    after = site.only_user(node.outputs[0])
    if after is None or after.op_type != "Add":
        return None, None, ""
    bias = site.weight(next((value for value in after.inputs if value is not node.outputs[0]), None))
    if bias is None or bias.array().ndim > len(product):
        return None, None, ""
    shape = bias.array().shape
    labels = product[len(product) - len(shape) :]
    axes = "".join(label for label, size in zip(labels, shape, strict=True) if size != 1)
    if not axes or any(sizes.get(x) != size for x, size in zip(labels, shape, strict=True) if size != 1):
        return None, None, ""
    first = labels.index(axes[0])
    return after, bias.changed(f"from axis {first}", lambda array: array.reshape(array.shape[first:])), axes
