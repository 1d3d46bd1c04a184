"""A model, or a file of tensors, as transfer sees it: named tensors to read and to write, and maybe a graph.

Enters: an object of a framework, an artifact, an ``.onnx`` file, a file of tensors, or a mapping of arrays. Leaves: a
``Model``. Invariant: to assign is all or nothing: a live model changes after every value was read, a file when the new
one is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.artifact.signature import Structure, pack
from interop.capture.dispatch import capture_any, framework_of, runnable
from interop.capture.foreign import structure_of
from interop.capture.specs import Leaf, structured
from interop.errors import WeightsError
from interop.formats.source import TensorSource
from interop.transfer.named import Named, nearest, some

Array = NDArray[Any]


@dataclass(frozen=True)
class Input:
    """An input as it is described: its dtype, and sizes where they are known."""

    dtype: str
    shape: tuple[int | None, ...]
    name: str = ""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape, every size of which must be known here."""
        return tuple(int(dim) for dim in self.shape if dim is not None)


@dataclass(eq=False)
class Model:
    """One side of a transfer.

    Attributes:
        label: what messages call it.
        framework: whose it is.
        tensors: its named tensors.
        reader: reads one.
        writer: writes several and returns the model, or the path of a file; None where it cannot be written.
        aliases: names that are the same tensor as another, by name.
        graph: makes the flat graph for inputs of fixed sizes; None where there are only tensors.
        inputs: what is known of the inputs; None if nothing is.
        structure: how the inputs nest.
        runs: the model's own outputs for arrays, flat; None where only its graph runs.
        native: the framework's object.
        seeds: variables that are no weights, which files of weights may hold too.
        file: path and format, for a file of tensors.
        elsewhere: whether its values are not those that ``runs`` uses, but of a file.
        derived: makes the graph in which what layers derive from variables is computed of these; None if none does.
        doubtful: those of its tensors that may be constants as well: single numbers of a graph.
    """

    label: str
    framework: str
    tensors: dict[str, Named]
    reader: Callable[[str], Array]
    writer: Callable[[Mapping[str, TensorSource]], Any] | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    graph: Callable[[list[Input]], Any] | None = None
    inputs: list[Input] | None = None
    structure: Structure = None
    runs: Callable[[list[Array]], list[Array]] | None = None
    native: Any = None
    seeds: dict[str, Named] = field(default_factory=dict)
    file: tuple[Path, str] | None = None
    elsewhere: bool = False
    derived: Callable[[list[Input]], Any] | None = None
    doubtful: dict[str, Named] = field(default_factory=dict)

    @property
    def certain(self) -> Model:
        """The model without what may be constants."""
        if not self.doubtful:
            return self
        kept = {name: spec for name, spec in self.tensors.items() if name not in self.doubtful}
        return replace(self, tensors=kept)

    def shapes_of(self, names: Container[str]) -> dict[str, tuple[int, ...]]:
        """The shapes of those tensors that are among these."""
        return {name: spec.shape for name, spec in self.tensors.items() if name in names}

    def read(self, name: str) -> Array:
        """The value of a tensor."""
        return self.reader(name)

    def assign(self, values: Mapping[str, TensorSource]) -> Any:
        """Write values by name; returns the model.

        Raises:
            WeightsError: one does not fit; nothing was written.
        """
        if self.writer is None:
            raise WeightsError(f"{self.label} cannot be written to; give a model as target")
        for name, value in values.items():
            if name not in self.tensors:
                near = nearest(name, Named(value.dtype, tuple(value.shape)), self.tensors)
                raise WeightsError(
                    f"the target, {self.label}, has no parameter {name!r}; nearest: {some(near) or 'none'}. Nothing "
                    "was changed"
                )
            if tuple(value.shape) != self.tensors[name].shape:
                raise WeightsError(
                    f"{name!r} of {self.label} is {self.tensors[name]}, but the value is "
                    f"{value.dtype}{list(value.shape)}"
                )
        return self.writer(values)


def open_model(model: Any, signature: Any = None) -> Model:
    """Take what ``match`` takes.

    Args:
        model: an object of a framework, a path, or a mapping of arrays.
        signature: shapes, specs or examples of its inputs.

    Raises:
        WeightsError: it is nothing that has weights.
        FileNotFoundError: nothing is at the path.
    """
    if isinstance(model, Model):
        return model
    match framework_of(model):
        case "keras":
            return _keras(model, signature)
        case "torch":
            return _torch(model, signature)
        case "jax":
            return _jax(model, signature)
    if isinstance(model, str | os.PathLike):
        from interop.transfer.files import open_file

        return open_file(Path(model))
    if isinstance(model, Mapping):
        arrays = {str(name): np.asarray(value) for name, value in model.items()}
        shapes = {name: Named(array.dtype.name, tuple(array.shape)) for name, array in arrays.items()}
        return Model("the mapping", "arrays", shapes, arrays.__getitem__)
    raise WeightsError(
        f"a {type(model).__name__} has no weights to transfer; expected a Keras, PyTorch or Flax model, the path of an "
        "artifact, an .onnx file or a file of tensors, or a mapping of name to array"
    )


def renamed(model: Model, names: Mapping[str, str]) -> Model:
    """The model with other names for all of its tensors, by those it has; itself if there are none."""
    if not names:
        return model
    own = {new: old for old, new in names.items()}
    return replace(
        model,
        tensors={names[name]: spec for name, spec in model.tensors.items()},
        reader=lambda name: model.read(own[name]),
        writer=lambda values: model.assign({own.get(name, name): value for name, value in values.items()}),
        aliases={names[name]: names[other] for name, other in model.aliases.items()},
    )


def arrays_of(values: Mapping[str, TensorSource]) -> dict[str, Array]:
    """All the values, read before any is written; copies, as a framework may keep what it is given."""
    return {name: np.array(value.read()) for name, value in values.items()}


def _keras(model: Any, signature: Any) -> Model:
    from interop.capture.keras import compat, paths
    from interop.capture.keras.inputs import plan_call

    found = paths.walk(model)
    variables = {name: v for name, v in found.by_key.items() if found.roles[name] == "weight"}
    call = plan_call(model, signature)
    inputs = [Input(spec.dtype, _sizes(spec.shape), spec.name) for spec in call.inputs]
    order = [spec.name for spec in call.inputs]

    def graph(sized: list[Input]) -> Any:
        specs = [
            {"shape": i.shape, "dtype": i.dtype, "name": name} for i, name in zip(sized, order, strict=True)
        ]
        return capture_any(model, input_signature=pack(call.structure, specs)).flat()

    derived = _derived(model)

    def graph_of_all(sized: list[Input]) -> Any:
        try:
            for layer in derived:
                vars(layer).update(
                    call=partial(_deriving, layer), mean=None
                )  # with a mean it is captured as one
            return graph(sized)
        finally:
            for layer in derived:
                vars(layer).pop("call", None)
                layer.finalize_state()

    def write(values: Mapping[str, TensorSource]) -> Any:
        for name, value in arrays_of(values).items():
            variables[name].assign(value)
        for layer in derived:
            layer.finalize_state()
        return model

    def run(arrays: list[Array]) -> list[Array]:
        nested = pack(call.structure, arrays)
        result = compat.inference(model)(**nested) if call.by_argument else compat.inference(model)(nested)
        return [compat.to_numpy(leaf) for leaf in structure_of(result)[1]]

    shapes = {
        name: Named(compat.stored_dtype(v), tuple(int(dim) for dim in v.shape))
        for name, v in found.by_key.items()
    }
    return Model(
        f"Keras model {model.name!r}",
        "keras",
        {name: shapes[name] for name in variables},
        lambda name: compat.to_numpy(variables[name]),
        write,
        graph=graph,
        inputs=inputs,
        structure=call.structure,
        runs=run,
        native=model,
        seeds={name: spec for name, spec in shapes.items() if name not in variables},
        derived=graph_of_all if derived else None,
    )


def _derived(model: Any) -> list[Any]:
    """Layers that compute with constants, which they derive from their variables."""
    import keras

    from interop.capture.keras import compat

    found = [one for one in compat.all_layers(model) if isinstance(one, keras.layers.Normalization)]
    return [layer for layer in found if layer.built and layer.input_mean is None]


def _deriving(layer: Any, inputs: Any) -> Any:
    layer.finalize_state()
    return type(layer).call(layer, inputs)


def _torch(model: Any, signature: Any) -> Model:
    import torch

    from interop.capture.torch import to_numpy

    if not isinstance(model, torch.nn.Module):
        raise WeightsError(f"a {type(model).__name__} of PyTorch cannot be changed; pass the nn.Module")
    state = model.state_dict(keep_vars=True)
    first: dict[Any, str] = {}
    aliases = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
        if tensor.numel() and first.setdefault(key, name) != name:
            aliases[name] = first[key]

    def write(values: Mapping[str, TensorSource]) -> Any:
        with torch.no_grad():
            for name, value in arrays_of(values).items():
                state[name].copy_(torch.as_tensor(np.array(value)))
        return model

    shapes = {
        name: Named(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in state.items()
    }
    made = Model(
        f"PyTorch {type(model).__name__}", "torch", shapes, lambda name: to_numpy(state[name]), write, aliases
    )
    return _described(made, model, signature)


def _jax(model: Any, signature: Any) -> Model:
    from interop.capture.jax import named_leaves, with_leaves

    leaves = named_leaves(model)
    shapes = {name: Named(leaf.dtype.name, tuple(leaf.shape)) for name, leaf in leaves.items()}
    label = f"Flax {type(model).__name__}"
    made = Model(
        label,
        "jax",
        shapes,
        lambda name: np.asarray(leaves[name]),
        lambda values: with_leaves(model, arrays_of(values)),
    )
    return _described(made, model, signature)


def _described(made: Model, model: Any, signature: Any) -> Model:
    """A model of a framework that does not know its inputs, with those that a signature gives."""
    made.structure = None
    if signature is not None:
        nested = structured(signature)
        made.structure, leaves, _ = structure_of(tuple(nested) if isinstance(nested, list) else nested)
        made.inputs = [_input(leaf) for leaf in leaves]

    def nest(values: list[Any]) -> Any:
        if made.structure is not None:
            return pack(made.structure, values)
        return values

    def graph(sized: list[Input]) -> Any:
        specs = [{"shape": i.shape, "dtype": i.dtype} for i in sized]
        return capture_any(model, input_signature=nest(specs)).flat()

    other = runnable(model)
    assert other is not None

    def run(arrays: list[Array]) -> list[Array]:
        structure = made.structure if made.structure is not None else {"tuple": list(range(len(arrays)))}
        return other.run(structure, arrays)

    made.graph, made.runs, made.native = graph, run, model
    return made


def _input(leaf: Leaf) -> Input:
    if leaf.example is not None:
        sizes = tuple(int(dim) for dim in leaf.example.shape)
        return Input(leaf.dtype or "float32", (1, *sizes[1:]) if sizes else (), leaf.name or "")
    return Input(leaf.dtype or "float32", _sizes(leaf.shape), leaf.name or "")


def _sizes(shape: Any) -> tuple[int | None, ...]:
    return tuple(dim if isinstance(dim, int) else None for dim in shape)
