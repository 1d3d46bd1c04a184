"""A graph that a framework's own exporter made, brought to the form of ours.

Enters: an ``ir.Model`` and which of its initializers are parameters. Leaves: the model without functions, in
the wanted opset; its initializers are the parameters under their names, and large constants as
``constant_<n>``; everything else that is constant is inside the graph.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from interop.errors import CaptureError
from interop.graph.opsets import IR_VERSIONS
from interop.graph.passes import inlined
from interop.graph.passes.halves import with_half_kernels
from interop.graph.passes.pools import with_pool_kernels

# As in our own graphs: more elements than this and a constant is stored with the weights.
_INLINE_LIMIT = 1024


def normalized(model: Any, parameters: Collection[str], opset: int) -> Any:
    """Bring a model to the form of ours.

    Args:
        model: with its tensors in memory; may be changed.
        parameters: names of the initializers that must stay as they are.
        opset: of the result.

    Raises:
        CaptureError: the exporter's opset cannot be converted to the wanted one.
    """
    model = _simplified(_at_opset(with_pool_kernels(inlined(model)), opset), frozenset(parameters))
    model = with_half_kernels(model, opset)
    model.ir_version = IR_VERSIONS[opset]
    model.producer_name = "interop"
    model.producer_version = None
    model.functions.clear()
    for domain in set(model.opset_imports) - {node.domain for node in model.graph.all_nodes()} - {""}:
        del model.opset_imports[domain]
    return _constants_in_their_place(model, frozenset(parameters))


def _at_opset(model: Any, opset: int) -> Any:
    from onnxscript import version_converter

    present = model.opset_imports.get("", opset)
    if present == opset:
        return model
    version_converter.convert_version(model, target_version=opset, fallback=True)
    if model.opset_imports.get("") != opset:
        raise CaptureError(
            f"the framework's exporter wrote opset {present}, which cannot be converted to {opset}. "
            f"Pass opset={present}"
        )
    return model


def _simplified(model: Any, parameters: frozenset[str]) -> Any:
    """Fold what does not depend on parameters, and drop what is not used."""
    from onnx_ir.passes import common
    from onnxscript import optimizer

    def without_parameters(node: Any) -> bool | None:
        return False if any(v is not None and v.name in parameters for v in node.inputs) else None

    optimizer.fold_constants(model, should_fold=without_parameters)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    return model


def _constants_in_their_place(model: Any, parameters: frozenset[str]) -> Any:
    """Small constants become nodes, large ones initializers of our naming."""
    import onnx_ir as ir
    from onnx_ir.passes import common

    common.LiftConstantsToInitializersPass(lift_all_constants=False, size_limit=_INLINE_LIMIT)(model)
    graph = model.graph
    number = 0
    for name, value in list(graph.initializers.items()):
        if name in parameters:
            continue
        tensor = value.const_value
        if tensor.size > _INLINE_LIMIT and tensor.dtype != ir.DataType.STRING:
            graph.initializers.pop(name)
            value.name = f"constant_{number}"
            tensor.name = value.name
            graph.initializers[value.name] = value
            number += 1
            continue
        node = ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], name=f"{name}#constant")
        made = node.outputs[0]
        made.type, made.shape, made.name = value.type, value.shape, f"{name}#value"
        value.replace_all_uses_with(made, replace_graph_outputs=True)
        graph.initializers.pop(name)
        if len(graph):
            graph.insert_before(graph[0], node)
        else:
            graph.append(node)
    return model
