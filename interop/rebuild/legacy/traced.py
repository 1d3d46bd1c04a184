"""SavedModels that have traced functions and no layers: of ``tf.Module``, of Keras 3's ``export``, of an old Keras.

Enters: a folder. Leaves: a Functional model of stock layers. Its structure is that of the signature's function, which
TensorFlow opens and ``tf2onnx`` makes a graph of; its values are those of the checkpoint inside, read with their
checksums.

Objects of the SavedModel and nodes of the checkpoint's graph belong together by the names of attributes on the way
from the root. Variables are named as TensorFlow names them (``dense/kernel``); those that it gives no scope, by the
way to them.

Invariant: every stored tensor is accounted for: in the model, or in a `Change`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.capture import tensorflow
from interop.capture.foreign import ForeignCapture
from interop.errors import CaptureError, GraphError, RebuildError
from interop.formats.mapping import TensorMapping
from interop.formats.tensorbundle import reader
from interop.formats.tensorbundle.elements import STRING
from interop.formats.tensorbundle.objects import OBJECT_GRAPH, ObjectGraph
from interop.graph.passes import fold_constants, inlined
from interop.graph.passes.convolution import with_biases
from interop.rebuild.from_config import Rebuilt
from interop.rebuild.importer import imported
from interop.status import Change, ImportReport, LoadStatus

_LISTS = frozenset({"variables", "trainable_variables", "non_trainable_variables", "keras_api"})
"""What Keras stores a second time, beside the attributes that hold it."""
_ARITHMETIC = frozenset({"Sqrt", "Reciprocal", "Mul", "Div", "Sub", "Neg", "Add"})
_SHOWN = 8


@dataclass(frozen=True)
class _Variable:
    """A variable of the SavedModel, and where its value is stored."""

    name: str
    key: str
    handle: int


def load_traced(path: Path) -> Rebuilt:
    """The model of a SavedModel's signature: ``serving_default``, or its only one.

    TensorFlow opens the SavedModel, which may run operations in it: it is to be trusted as a program is.

    Raises:
        BackendError: TensorFlow or tf2onnx is not installed; names the extra.
        FormatError: its checkpoint is damaged.
        RebuildError: TensorFlow cannot open it, or no layers can be made of its function.
    """
    try:
        traced = open_traced(path)
        graph, used = inlined(traced.capture.flat()), traced.weights
        with reader.open_file(_checkpoint(path)) as tensors:
            for name in (name for name in graph.graph.initializers if name in traced.keys):
                _fill(graph.graph.initializers[name], tensors[traced.keys[name]])
            fold_constants(graph, _normalisations(graph))
            _lift_constants(graph)
            model, report = imported(with_biases(graph), name=_name(path))
            _freeze(model, report, {v.key for v in traced.capture.variables if not v.trainable})
            left = _unused(tensors, {traced.keys[name] for name in used if name in traced.keys})
    except (CaptureError, GraphError) as error:
        raise RebuildError(
            f"it has no layers, only traced functions, and none can be made of them: {error}"
        ) from error
    frozen = [Change(name, "a constant of the graph", why, lost=False) for name, why in report.frozen.items()]
    return Rebuilt(model, LoadStatus(loaded=tuple(sorted(used)), changes=(_TRACED, *left, *frozen)))


@dataclass(frozen=True)
class Traced:
    """The function of a SavedModel's signature.

    Attributes:
        function: TensorFlow's concrete function.
        capture: its graph; weights have the names that TensorFlow gives its variables.
        keys: name of each variable that it reads to that of its tensor in the checkpoint.
    """

    function: Any
    capture: ForeignCapture
    keys: dict[str, str]

    @property
    def weights(self) -> list[str]:
        """Names of the variables that the graph has."""
        return [record.key for record in self.capture.variables if record.role == "weight"]


def open_traced(path: Path) -> Traced:
    """The function of a SavedModel's signature: ``serving_default``, or its only one.

    Raises:
        BackendError: TensorFlow or tf2onnx is not installed; names the extra.
        CaptureError: TensorFlow cannot open it, or no graph can be made of its function.
        FormatError: its checkpoint is damaged.
        RebuildError: its checkpoint has no object graph.
    """
    loaded = tensorflow.load_saved_model(path)
    with reader.open_file(_checkpoint(path)) as tensors:
        function = tensorflow.concrete_function(loaded)
        variables = _variables(loaded, function, tensors, str(path))
    captured = tensorflow.capture(function, names={v.handle: v.name for v in variables})
    return Traced(function, captured, {variable.name: variable.key for variable in variables})


def _checkpoint(path: Path) -> Path:
    return path / "variables" / "variables"


_TRACED = Change(
    "the SavedModel",
    "traced functions without layers",
    "layers made from the function that predicts: they train, but have no dropout, and statistics that are in no "
    "layer stay as they are",
    lost=False,
)


def _name(path: Path) -> str | None:
    """A model's name, of the folder's; None if that cannot be one."""
    name = path.resolve().name
    return name if name.isidentifier() else None


def _fill(value: Any, array: NDArray[Any]) -> None:
    """Give an initializer its stored value."""
    import onnx_ir as ir

    value.const_value = ir.tensor(np.array(array), name=value.name)


def _normalisations(graph: Any) -> list[Any]:
    """Nodes that compute what a normalisation multiplies and adds of its weights: with them, it is a layer."""
    weights = set(map(id, graph.graph.initializers.values()))
    kept: list[Any] = []
    made: set[int] = set()
    for node in graph.graph:
        values = [value for value in node.inputs if value is not None]
        users = {user.op_type for output in node.outputs for user, _ in output.uses()}
        of_weights = [id(value) in weights or id(value) in made for value in values]
        begins = node.op_type == "Add" and any(of_weights) and "Sqrt" in users
        goes_on = node.op_type in _ARITHMETIC and all(of_weights) and any(id(v) in made for v in values)
        if begins or goes_on:
            kept.append(node)
            made |= {id(output) for output in node.outputs}
    return kept


def _lift_constants(graph: Any) -> None:
    """The weights of recurrent layers, which tf2onnx rearranges and makes constants of, are weights again."""
    from onnx_ir.passes.common import LiftConstantsToInitializersPass

    LiftConstantsToInitializersPass()(graph)


def _freeze(model: Any, report: ImportReport, fixed: Collection[str]) -> None:
    """Layers that hold nothing but variables that were not trained, such as statistics, are not trained."""
    trained: dict[str, bool] = {}
    for name, places in report.weights.items():
        for layer in (place.rpartition("/")[0] for place in places):
            trained[layer] = trained.get(layer, False) or name not in fixed
    for layer in model.layers:
        if not trained.get(layer.name, True):
            layer.trainable = False


def _variables(loaded: Any, function: Any, tensors: TensorMapping, source: str) -> list[_Variable]:
    """The variables that a function reads and the checkpoint has, each under a name of its own."""
    if OBJECT_GRAPH not in tensors:
        raise RebuildError("its checkpoint has no object graph, as TensorFlow 1 wrote it. Convert it to ONNX")
    graph = ObjectGraph.parse(bytes(tensors[OBJECT_GRAPH].item()), source)
    read = {id(variable.handle) for variable in function.variables}
    found: dict[int, _Variable] = {}
    taken: set[str] = set()
    for where, number, held in _walk(loaded, graph):
        node = graph.nodes[number]
        if node.key not in tensors or id(getattr(held, "handle", None)) not in read - found.keys():
            continue
        own = str(held.name).removesuffix(":0")
        name = own if "/" in own and own not in taken else "/".join(where)
        taken.add(name)
        found[id(held.handle)] = _Variable(name, str(node.key), id(held.handle))
    return list(found.values())


def _walk(loaded: Any, graph: ObjectGraph) -> Iterator[tuple[tuple[str, ...], int, Any]]:
    """Way, node and object of all that both have: nearest first, lists of variables last."""
    queue: deque[tuple[tuple[str, ...], int, Any]] = deque([((), 0, loaded)])
    later: deque[tuple[tuple[str, ...], int, Any]] = deque()
    seen = {0}
    while queue or later:
        where, number, held = queue.popleft() if queue else later.popleft()
        yield where, number, held
        objects = tensorflow.object_children(held)
        for name, child in graph.nodes[number].children.items():
            if name not in objects or (child in seen and name in _LISTS):
                continue
            if name in _LISTS and where == ():
                later.append(((name,), child, objects[name]))
            elif child not in seen:
                seen.add(child)
                queue.append(((*where, name), child, objects[name]))


def _unused(tensors: TensorMapping, used: set[str]) -> list[Change]:
    """What becomes of the stored tensors that the function does not read."""
    left = sorted(key for key in tensors if key not in used and tensors.dtypes[key] != STRING)
    state = [key for key in left if key.startswith("optimizer/") or "/.OPTIMIZER_SLOT/" in key]
    rest = [key for key in left if key not in set(state)]
    said: list[tuple[list[str], str, str, bool]] = [
        (state, "the optimizer's state", "left out: a traced function is not compiled", True),
        (rest, "what predicting does not use", "left out", False),
    ]
    return [
        Change("the SavedModel", f"{what}: {_listed(keys)}", became, lost)
        for keys, what, became, lost in said
        if keys
    ]


def _listed(keys: list[str]) -> str:
    shown = ", ".join(key.partition("/.ATTRIBUTES/")[0] for key in keys[:_SHOWN])
    return shown + (f", and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
