"""What the function of each layer call takes and gives.

Enters: a ``Recording``. Leaves: for every scope, the values that must come in from outside and those that something
outside uses, passed from scope to scope by their lowest common ancestor.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from interop.graph.invocations import leaves
from interop.graph.record import Recording, Scope, Value


@dataclass(slots=True, eq=False)
class Interface:
    """What a scope takes from outside and gives to the outside; dicts keep the order of first use."""

    inputs: dict[Value, None] = field(default_factory=dict)
    outputs: dict[Value, None] = field(default_factory=dict)


def interfaces(recording: Recording) -> dict[Scope, Interface]:
    """Inputs and outputs of every scope; cost is linear in uses times nesting depth."""
    table: dict[Scope, Interface] = {scope: Interface() for scope in recording.root.walk()}
    root = recording.root

    def use(value: Value, consumer: Scope) -> None:
        if value.kind == "constant":
            return
        producer = value.scope or root
        inside, outside = consumer, producer
        while inside is not outside:
            if inside.depth >= outside.depth:
                if value in table[inside].inputs:
                    return  # passed in here already, so its way from the producer exists
                table[inside].inputs[value] = None
                assert inside.parent is not None
                inside = inside.parent
            else:
                table[outside].outputs[value] = None
                assert outside.parent is not None
                outside = outside.parent

    for node in recording.root.all_nodes():
        for value in node.inputs:
            if value is not None:
                use(value, node.scope)
        for body in node.bodies.values():
            for value in body.outputs:
                use(value, body.scope)
    for _, value in recording.outputs:
        use(value, root)
    made = {value for node in root.all_nodes() for value in node.outputs}
    for scope in root.walk():
        if scope.invocation is not None and scope.invocation.whole and scope.parent is not None:
            for value in leaves(scope.invocation.results):
                if isinstance(value, Value) and value in made:
                    use(value, scope.parent)
    # An output found through a deeper consumer must leave every scope on its way up: done above,
    # because the walk climbs one level at a time from the producer.
    return table
