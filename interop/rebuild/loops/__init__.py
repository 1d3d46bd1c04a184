"""Scan and Loop over an open dimension become a layer of Keras; over a known one, they are walked step by step.

==============  ========================================================================
``form``        how loops over time are written: what they carry, read and collect
``recurrence``  those that carry something, as ``RNN``
``mapping``     those that carry nothing, as ``TimeDistributed``
``columns``     what both carry and read, as columns of one matrix
``bags``        loops over bags of rows, which need no loop
==============  ========================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interop.errors import GraphError
from interop.rebuild.context import Context
from interop.rebuild.interpreter import Scope
from interop.rebuild.loops.form import of_loop, of_scan
from interop.rebuild.loops.mapping import Mapped
from interop.rebuild.loops.recurrence import Recurring

if TYPE_CHECKING:
    from interop.rebuild.building import Builder


def run_over_time(builder: Builder, node: Any, scope: Scope) -> None:
    """Compute a Scan or Loop: as a layer if the dimension it runs over is open, else step by step."""
    opset = builder.interpreter.opsets.get("", 1)
    context = Context(node, opset, builder.sizes, builder.interpreter.body_in(scope))
    loop = of_scan(context, scope) if node.op_type == "Scan" else of_loop(context, scope)
    if loop is None:
        builder.interpreter.run_node(node, scope)
        return
    try:
        kind = Recurring if loop.carried else Mapped
        kind(builder, context, loop, scope).run()
    except GraphError:
        raise
    except (ValueError, TypeError) as error:
        raise context.error(f"as a layer: {error}") from error
