"""An artifact as a Functional model of stock layers: no class of its own, whatever it was saved from.

Enters: an open `Bundle`. Leaves: what ``import_onnx`` makes of its plain graph, in the artifact's own structures, and
an account of the stored weights. Compile information and the optimizer's state are not part of a graph.
"""

from __future__ import annotations

import onnx_ir as ir

from interop.artifact.bundle import Bundle
from interop.artifact.signature import pack
from interop.capture.keras import compat
from interop.errors import GraphError
from interop.graph.passes import fold_constants
from interop.graph.serialized import deserialized
from interop.rebuild.from_config import Rebuilt
from interop.rebuild.importer import imported
from interop.rebuild.source import inlined
from interop.status import Change, LoadStatus


def inline(bundle: Bundle) -> Rebuilt:
    """Import the artifact's graph.

    Raises:
        GraphError: a node cannot be computed; the message names it.
        UnsupportedNodes: nodes that nothing computes, all of them.
    """
    graph = inlined(deserialized(bundle.graph_bytes()))
    used = list(graph.graph.initializers)
    for name, value in graph.graph.initializers.items():
        value.const_value = ir.tensor(bundle.weights[name], name=name)
    fold_constants(graph)
    model, report = imported(graph, name=bundle.config["model"]["name"])
    signature = bundle.signature
    for kind, specs, has in (
        ("input", signature.inputs, report.inputs),
        ("output", signature.outputs, report.outputs),
    ):
        if {spec.name for spec in specs} != has.keys():
            raise GraphError(
                f"the graph's {kind}s are {sorted(has)}; config.json says {[s.name for s in specs]}"
            )
    named = {tensor.name: tensor for tensor in model.inputs}
    inputs = [named[report.inputs[spec.name]] for spec in signature.inputs]
    made = (
        model.output
        if isinstance(model.output, dict)
        else dict.fromkeys(report.outputs.values(), model.output)
    )
    outputs = [made[report.outputs[spec.name]] for spec in signature.outputs]
    # The one argument of a function has its name in the signature; Keras' models are called with it as it is.
    alone = len(inputs) == 1 and bundle.framework != "keras"
    given = inputs[0] if alone else pack(signature.input_structure, inputs)
    structured = compat.functional(given, pack(signature.output_structure, outputs), model.name)
    changes = tuple(
        Change(name, "a constant of the graph", why, lost=False) for name, why in report.frozen.items()
    )
    return Rebuilt(structured, LoadStatus(loaded=tuple(used), changes=changes))
