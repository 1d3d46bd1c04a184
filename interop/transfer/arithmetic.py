"""One arrangement of arithmetic that exporters write in several.

Enters: a flat ``ir.Model``. Leaves: the same model, changed: ``x m + (b - a m)`` is ``(x - a) m + b``, so that a mean,
a factor and an offset are one each, as a normalisation has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def arranged(model: Any) -> Any:
    """Arrange the arithmetic of a model; it is changed."""
    import onnx_ir as ir

    for node in list(model.graph):
        found = _mean_in_offset(node)
        if found is None:
            continue
        x, mean, factor, offset = found
        value = x
        for op_type, other in (("Sub", mean), ("Mul", factor), ("Add", offset)):
            made = ir.node(op_type, [value, other])
            value = made.outputs[0]
            value.name = f"{node.outputs[0].name}/{op_type}"
            model.graph.insert_before(node, made)
        old = node.outputs[0]
        value.shape, value.type = old.shape, old.type
        if old.is_graph_output():
            value.name, old.name = old.name, value.name
        old.replace_all_uses_with(value, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
    return model


def _mean_in_offset(node: Any) -> tuple[Any, Any, Any, Any] | None:
    """What is normalised, the mean, the factor and the offset."""
    if node.op_type != "Add":
        return None
    for product, rest in _both(node):
        if _made_by(product, "Mul") is None or (offset := _made_by(rest, "Sub")) is None:
            continue
        shifted = _made_by(offset.inputs[1], "Mul")
        if shifted is None:
            continue
        for x, factor in _both(product.producer()):
            for mean, same in _both(shifted):
                if factor is same:
                    return x, mean, factor, offset.inputs[0]
    return None


def _both(node: Any) -> Iterator[tuple[Any, Any]]:
    one, other = node.inputs
    yield one, other
    yield other, one


def _made_by(value: Any, op_type: str) -> Any:
    node = value.producer()
    return node if node is not None and node.op_type == op_type else None
