"""Names for what passes add to a model."""

from __future__ import annotations

from typing import Any

from interop.graph.passes.bodies import graphs


class Names:
    """Names that nothing in a model has yet."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._taken: set[str] = set()

    def unique(self, wanted: str) -> str:
        if not self._taken:
            for graph in graphs(self._model.graph):
                self._taken.update(value.name for value in graph.inputs)
                self._taken.update(graph.initializers)
                for node in graph:
                    self._taken.update((node.name, *(value.name for value in node.outputs)))
        name, number = wanted, 0
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name
