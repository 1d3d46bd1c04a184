"""Pools over more axes than ONNX Runtime has kernels for, most of them by windows of one.

Enters: a model. Leaves: the same model, in which such a MaxPool is one over the axes that it does something along.

``jax2onnx`` writes a ``lax.reduce_window`` over (batch, height, width, channels) as a pool along all four.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_MOST_AXES = 3


def with_pool_kernels(model: Any) -> Any:
    """Narrow every MaxPool along more than three axes, where no more than three have windows."""
    for node in list(model.graph.all_nodes()):
        if node.op_type == "MaxPool" and node.domain == "" and len(node.outputs) == 1:
            kernel = list(node.attributes["kernel_shape"].value)
            if len(kernel) > _MOST_AXES:
                _narrow(node, kernel)
    return model


def _narrow(node: Any, kernel: list[int]) -> None:
    import onnx_ir as ir

    rank = len(kernel)

    def per_axis(name: str, default: int) -> list[int]:
        attribute = node.attributes.get(name)
        return [default] * rank if attribute is None else list(attribute.value)

    strides, dilations = per_axis("strides", 1), per_axis("dilations", 1)
    pads = node.attributes["pads"].value if "pads" in node.attributes else [0] * 2 * rank
    moved = [
        axis
        for axis in range(rank)
        if (kernel[axis], strides[axis], pads[axis], pads[rank + axis]) != (1, 1, 0, 0)
    ]
    if len(moved) > _MOST_AXES:
        return
    still = [axis for axis in range(rank) if axis not in moved]
    order = [0, 1, *(2 + axis for axis in still), *(2 + axis for axis in moved)]
    before = 2 + len(still)
    made: list[Any] = []

    def new(op_type: str, *inputs: Any, **attributes: Any) -> Any:
        attrs = ir.convenience.convert_attributes(attributes)
        made.append(ir.Node("", op_type, inputs, attrs, name=f"{node.name}#{len(made)}"))
        made[-1].outputs[0].name = f"{made[-1].name}#value"
        made[-1].outputs[0].type = (
            node.inputs[0].type if op_type not in ("Shape", "Constant", "Concat") else None
        )
        return made[-1].outputs[0]

    def integers(*values: int) -> Any:
        return new("Constant", value=ir.tensor(np.asarray(values, np.int64)))

    turned = new("Transpose", node.inputs[0], perm=order)
    sizes = new("Concat", integers(-1, 1), new("Shape", turned, start=before), axis=0)
    flat = new("Reshape", turned, sizes)
    pooled = new(
        "MaxPool",
        flat,
        kernel_shape=[kernel[axis] for axis in moved],
        strides=[strides[axis] for axis in moved],
        dilations=[dilations[axis] for axis in moved],
        pads=[*(pads[axis] for axis in moved), *(pads[rank + axis] for axis in moved)],
        **{k: node.attributes[k].value for k in ("ceil_mode", "auto_pad") if k in node.attributes},
    )
    sizes = new("Concat", new("Shape", turned, end=before), new("Shape", pooled, start=2), axis=0)
    back = new("Transpose", new("Reshape", pooled, sizes), perm=np.argsort(order).tolist())
    result = node.outputs[0]
    back.type, back.shape = result.type, result.shape
    graph = node.graph
    graph.insert_before(node, made)
    back.name, result.name = result.name, f"{result.name}#before"
    result.replace_all_uses_with(back, replace_graph_outputs=True)
    graph.remove(node, safe=True)
