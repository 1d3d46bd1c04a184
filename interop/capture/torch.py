"""A PyTorch module or exported program becomes a graph, through ``torch.onnx``.

Enters: an ``nn.Module`` with example inputs, or a ``torch.export.ExportedProgram``. Leaves: a
``ForeignCapture`` whose initializers are named as in ``state_dict()``. The module is captured in eval mode,
and left in the mode it was in.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from interop.artifact.signature import Structure, pack
from interop.capture.foreign import ForeignCapture, NamedInput, Parameter, outward, quiet, structure_of
from interop.capture.specs import Leaf, legal_name, named_dims, structured
from interop.capture.translations import translations
from interop.errors import CaptureError, SpecializationError, UnsupportedOp
from interop.graph.opsets import check_opset

# Sizes for dimensions that are open: torch takes 0 and 1 for special; networks of images need room.
_SIZES = ((5, 7, 11, 13, 17, 19), (67, 71, 73, 79, 83, 89), (227, 229, 233, 239, 241, 251))

# The exporter's own opset; ours is converted from it.
_EXPORTER_OPSET = 18


def capture(model: Any, *, input_signature: Any = None, opset: int | None = None) -> ForeignCapture:
    """Capture a module or an exported program.

    Args:
        model: an ``nn.Module``, or a ``torch.export.ExportedProgram``, whose dynamic shapes are kept.
        input_signature: example inputs of the module, or shapes or specs: a tuple or list of positional
            arguments, a dict of arguments by name, or the only argument. Of an example, the first
            dimension is dynamic.
        opset: ONNX opset, 17 to 23; default 20.

    Raises:
        CaptureError: there are no example inputs, or the exporter failed; its reason is in the message.
        UnsupportedOp: an operator has no ONNX form.
        SpecializationError: the module's code depends on a size that was to be dynamic.
    """
    import torch

    opset = check_opset(opset)
    source = {"framework": "torch", "version": torch.__version__}
    if isinstance(model, torch.export.ExportedProgram):
        return _capture_program(model, source, opset)
    if input_signature is None:
        raise CaptureError(
            f"{type(model).__name__} is a PyTorch module, whose inputs are not known. Pass example inputs: "
            "input_signature=(x,), or shapes: input_signature=[(None, 3, 224, 224)]"
        )
    failure: CaptureError | None = None
    with evaluating(model):
        for sizes in _SIZES:
            call = Call(model, input_signature, sizes)
            try:
                program = _exported(model, call)
            except SpecializationError:
                raise
            except CaptureError as error:
                failure = failure or error
                if not call.guessed:
                    break
                continue
            structure, _, names = structure_of(_output_tree(program))
            return ForeignCapture(
                program.model,
                source=source,
                opset=opset,
                inputs=call.inputs,
                input_structure=call.structure,
                output_names=names,
                output_structure=structure,
                parameters=parameters(model),
            )
    assert failure is not None
    raise failure


def capture_function(
    run: Callable[..., Any],
    owner: Any,
    inputs: Sequence[NamedInput],
    variables: Sequence[tuple[str, Any]],
    opset: int,
) -> ForeignCapture:
    """Capture a function of tensors that reads Keras variables of a layer.

    Args:
        run: tensors to a tuple of tensors.
        owner: the layer, which is a module on this backend.
        inputs: specs of the tensors.
        variables: (key, Keras variable): the names of the initializers.
        opset: of the result.
    """
    import torch

    class Caller(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.owner = owner

        def forward(self, *tensors: Any) -> Any:
            return run(*tensors)

    program = _exported_at_some_size(Caller(), inputs)
    _name_initializers(program.model.graph, variables)
    count = len(program.model.graph.outputs)
    return ForeignCapture(
        program.model,
        source={"framework": "torch", "version": torch.__version__},
        opset=opset,
        inputs=inputs,
        input_structure={"tuple": list(range(len(inputs)))},
        output_names=[""] * count,
        output_structure={"tuple": list(range(count))},
        parameters=[
            Parameter(key, functools.partial(to_numpy, variable.value), bool(variable.trainable))
            for key, variable in variables
        ],
    )


def _exported_at_some_size(module: Any, inputs: Sequence[NamedInput]) -> Any:
    """The program of a module, exported with the first sizes of the open dimensions that it takes."""
    shapes = tuple({axis: d for axis, d in enumerate(s.shape) if isinstance(d, str)} for s in inputs)
    failure: CaptureError | None = None
    for sizes in _SIZES:
        found: dict[str, int] = {}
        for dim in (dim for spec in inputs for dim in spec.shape if isinstance(dim, str)):
            found.setdefault(dim, sizes[len(found) % len(sizes)])
        examples = tuple(
            _made_up(tuple(found[dim] if isinstance(dim, str) else dim for dim in spec.shape), spec.dtype)
            for spec in inputs
        )
        try:
            with evaluating(module):
                return _export(module, args=examples, dynamic_shapes=(shapes,))
        except SpecializationError:
            raise
        except CaptureError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _name_initializers(graph: Any, variables: Sequence[tuple[str, Any]]) -> None:
    """Give initializers that are the memory of a variable its key as their name."""
    keys = {variable.value.data_ptr(): key for key, variable in variables}
    for name, value in list(graph.initializers.items()):
        raw = value.const_value.raw
        key = keys.get(raw.data_ptr()) if hasattr(raw, "data_ptr") else None
        if key is not None and key != name:
            graph.initializers.pop(name)
            value.name = key
            graph.initializers[key] = value


def _made_up(shape: tuple[Any, ...], dtype: str) -> Any:
    import torch

    kind = getattr(torch, dtype)
    return torch.randn(shape, dtype=kind) if kind.is_floating_point else torch.zeros(shape, dtype=kind)


class Call:
    """How a module is called: arguments, names and open dimensions.

    Attributes:
        inputs: the inputs in the order of the graph.
        structure: how they nest; its top level holds arguments by name.
        guessed: whether sizes were made up, so that others may do better.
    """

    def __init__(self, module: Any, input_signature: Any, sizes: Sequence[int]) -> None:
        by_name = _by_argument(module, structured(input_signature))
        self.structure, leaves, keys = structure_of(by_name)
        self._leaves: list[Leaf] = leaves
        names = self._names(keys, list(by_name))
        leading = {len(leaf.example) for leaf in leaves if leaf.example is not None and leaf.shape}
        shapes = [
            named_dims(name, leaf.shape) if len(leading) < 2 else _own_batch(name, leaf.shape)
            for name, leaf in zip(names, leaves, strict=True)
        ]
        self.guessed = any(leaf.example is None for leaf in leaves)
        open_dims = dict.fromkeys(dim for shape in shapes for dim in shape if isinstance(dim, str))
        self._sizes = dict(zip(open_dims, [*sizes, *range(sizes[-1] + 2, 999, 2)], strict=False))
        dtypes = [leaf.dtype or "float32" for leaf in leaves]
        self.inputs = [NamedInput(*parts) for parts in zip(names, dtypes, shapes, strict=True)]

    @staticmethod
    def _names(keys: Sequence[str], arguments: Sequence[str]) -> list[str]:
        made: list[str] = []
        for index, key in enumerate(keys):
            name = legal_name(key or (arguments[0] if len(arguments) == 1 else f"input_{index}"))
            made.append(f"{name}_{index}" if name in made else name)
        return made

    def examples(self) -> dict[str, Any]:
        """Arguments by name, as tensors."""
        made = [self._example(*pair) for pair in zip(self._leaves, self.inputs, strict=True)]
        return dict(pack(self.structure, made))

    def _example(self, leaf: Leaf, spec: NamedInput) -> Any:
        import torch

        if leaf.example is None:
            shape = tuple(self._sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape)
            dtype = getattr(torch, spec.dtype)
            return (
                torch.randn(shape, dtype=dtype)
                if dtype.is_floating_point
                else torch.zeros(shape, dtype=dtype)
            )
        tensor = torch.as_tensor(leaf.example)
        if tensor.ndim and tensor.shape[0] == 1:  # torch takes a size of 1 for a constant
            tensor = torch.cat([tensor] * 2)
        return tensor

    def dynamic_shapes(self) -> dict[str, Any]:
        """For each argument, the names of its open dimensions."""
        named = [
            {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str)} for spec in self.inputs
        ]
        return dict(pack(self.structure, named))


def parameters(module: Any) -> list[Parameter]:
    """Parameters and buffers as ``state_dict()`` names them."""
    trainable = {name for name, value in module.named_parameters() if value.requires_grad}

    tensors = module.state_dict().items()
    return [Parameter(name, functools.partial(to_numpy, value), name in trainable) for name, value in tensors]


def _from_numpy(array: np.ndarray[Any, Any]) -> Any:
    """A tensor of an array; bfloat16, which NumPy has from ml_dtypes, through its bits."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.as_tensor(array.view(np.int16)).view(torch.bfloat16)
    return torch.as_tensor(array)


def to_numpy(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor as an array; bfloat16 through ml_dtypes."""
    import torch

    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return np.asarray(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(tensor.numpy())


def run(
    module: Any, structure: Structure, arrays: Sequence[np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, Any]]:
    """The module's outputs, flat, for inputs in the order of ``structure``."""
    import torch

    nested = pack(structure, [_from_numpy(array) for array in arrays])
    args: Any = () if isinstance(nested, dict) else nested if isinstance(nested, tuple | list) else (nested,)
    kwargs = nested if isinstance(nested, dict) else {}
    if isinstance(module, torch.export.ExportedProgram):
        if isinstance(nested, list):
            args = (nested,)
        if kwargs.keys() == {"args", "kwargs"}:
            args, kwargs = kwargs["args"], kwargs["kwargs"]
        result = module.module()(*args, **kwargs)
    else:
        with evaluating(module), torch.no_grad():
            result = module(*args, **kwargs)
    _, leaves, _ = structure_of(_plain(result))
    return [to_numpy(leaf) for leaf in leaves]


def _plain(output: Any) -> Any:
    """An output in containers of Python: dataclasses registered with torch's trees become dicts."""
    from torch.utils import _pytree

    leaves, tree = _pytree.tree_flatten(output)
    return _containers(tree, leaves)


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Inside, every submodule is in eval mode; after, each in its own again."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _by_argument(module: Any, nested: Any) -> dict[str, Any]:
    """The signature as arguments of ``forward`` by name."""
    declared = inspect.signature(module.forward).parameters
    positional = [
        name for name, p in declared.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)
    ]
    if isinstance(nested, Mapping) and set(nested) <= set(declared):
        return dict(nested)
    arguments = list(nested) if isinstance(nested, list | tuple) else [nested]
    for name, p in declared.items():
        if p.kind is p.VAR_POSITIONAL and len(arguments) > len(positional):
            raise CaptureError(
                f"{type(module).__name__}.forward takes *{name}, but the inputs of a graph have names. Pass a module "
                "whose forward names each of them: a subclass with def forward(self, x): return super().forward(x)"
            )
    if len(arguments) > len(positional):
        raise CaptureError(
            f"{type(module).__name__}.forward takes {', '.join(positional) or 'no positional arguments'}, but "
            f"input_signature has {len(arguments)}. Pass a dict of arguments by name"
        )
    return dict(zip(positional, arguments, strict=False))


def _own_batch(name: str, shape: tuple[Any, ...]) -> tuple[int | str, ...]:
    return tuple(f"{name}_{axis}" if dim is None else dim for axis, dim in enumerate(shape))


def _exported(module: Any, call: Call) -> Any:
    return _export(module, args=(), kwargs=call.examples(), dynamic_shapes=call.dynamic_shapes())


def _export(model: Any, **arguments: Any) -> Any:
    """Run the exporter; its failures become ours."""
    import torch

    try:
        with quiet():
            return torch.onnx.export(
                model,
                dynamo=True,
                optimize=False,
                verbose=False,
                opset_version=_EXPORTER_OPSET,
                custom_translation_table=translations(),
                **arguments,
            )
    except Exception as error:
        chain = list(_chain(error))
        said = "\n".join(str(step) for step in chain)
        reason = _first_lines(chain[-1])
        if "Constraints violated" in said or "inferred a static shape" in said:
            raise SpecializationError(
                "the module's code depends on the value of a dynamic dimension. Fix that dimension through "
                f"input_signature, or write the code for any size. torch says: {reason}"
            ) from error
        kind = UnsupportedOp if any("Dispatch" in type(step).__name__ for step in chain) else CaptureError
        raise kind(f"torch.onnx cannot export {type(model).__name__}. torch says: {reason}") from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    step: BaseException | None = error
    while step is not None:
        yield step
        step = step.__cause__


def _first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3]):.400}"


def _output_tree(program: Any) -> Any:
    """The structure of a program's output, its leaves numbered."""
    tree = program.exported_program.call_spec.out_spec
    return _containers(tree, list(range(tree.num_leaves)))


def _containers(tree: Any, leaves: list[Any]) -> Any:
    """Leaves in the containers of a torch tree; what is no list, tuple or dict is taken by its keys."""
    position = iter(leaves)

    def visit(spec: Any) -> Any:
        if spec.type is None:
            return next(position)
        below = spec.children() if hasattr(spec, "children") else spec.children_specs  # before PyTorch 2.9
        children = [visit(child) for child in below]
        if spec.type is list:
            return children
        keys = spec.context
        if isinstance(keys, list | tuple) and len(keys) == 2 and isinstance(keys[0], list):
            keys = keys[0]
        if isinstance(keys, list) and len(keys) == len(children) and all(isinstance(k, str) for k in keys):
            return dict(zip(keys, children, strict=True))
        return tuple(children)

    return visit(tree)


def _capture_program(program: Any, source: dict[str, str], opset: int) -> ForeignCapture:
    made = _export(program)
    args, kwargs = program.example_inputs or ((), {})
    tree = {"args": _plain(list(args)), "kwargs": _plain(dict(kwargs))}
    structure, _, _ = structure_of(tree)
    inputs = []
    for value in made.model.graph.inputs:
        name = legal_name(value.name)
        dims = tuple(
            dim if isinstance(dim, int) else str(dim.value) for dim in (value.shape if value.shape else ())
        )
        inputs.append(NamedInput(name, _dtype(value), dims))
    output, _, names = structure_of(_output_tree(made))
    trainable = {name for name, value in program.named_parameters() if value.requires_grad}
    return ForeignCapture(
        made.model,
        source=source,
        opset=opset,
        inputs=inputs,
        input_structure=outward(structure),
        output_names=names,
        output_structure=output,
        parameters=[
            Parameter(name, functools.partial(to_numpy, value), name in trainable)
            for name, value in program.state_dict.items()
        ],
    )


def _dtype(value: Any) -> str:
    from interop.graph.typecodes import dtype_name

    return dtype_name(int(value.dtype))
