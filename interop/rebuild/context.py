"""What a handler may ask while it computes a node.

One ``Context`` a node. It knows the node (for messages, the opset, how many outputs are wanted), the sizes of
tensors, and how to do what ``keras.ops`` alone gets wrong with open dimensions: reshape, expand, add.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import keras
import numpy as np
from keras import KerasTensor, ops
from numpy.typing import NDArray

from interop.capture.keras.symint import SymInt
from interop.errors import GraphError
from interop.graph.typecodes import dtype_name
from interop.rebuild import broadcast
from interop.rebuild.dtypes import available
from interop.rebuild.reshaping import NoReshape, reshaped
from interop.rebuild.sizes import Dims, Sizes


class Context:
    """See the module.

    Attributes:
        node: the ``ir.Node`` that is computed.
        opset: version of its domain.
        sizes: the table of symbolic sizes.
    """

    def __init__(self, node: Any, opset: int, sizes: Sizes, body: Callable[[Any], Body]) -> None:
        self.node, self.opset, self.sizes = node, opset, sizes
        self._body = body

    # The node

    def error(self, problem: str) -> GraphError:
        """A GraphError that names the node."""
        domain = f"{self.node.domain}::" if self.node.domain else ""
        name = self.node.name or self.node.outputs[0].name
        return GraphError(f"node {name!r} ({domain}{self.node.op_type}, opset {self.opset}): {problem}")

    def fail(self, problem: str) -> NoReturn:
        """Raise a GraphError that names the node."""
        raise self.error(problem)

    def wants(self, output: int) -> bool:
        """Whether anybody uses an output of the node."""
        return output < len(self.node.outputs) and bool(self.node.outputs[output].name)

    @property
    def outputs(self) -> int:
        """How many outputs the node has."""
        return len(self.node.outputs)

    # Values

    def known(self, x: Any) -> NDArray[Any] | None:
        """The numbers of a tensor if they can be read now: it is an array, or the backend computes eagerly."""
        if isinstance(x, np.ndarray):
            return x
        if x is None or isinstance(x, KerasTensor) or not is_concrete(x):
            return None
        return np.asarray(ops.convert_to_numpy(x))

    def ints(self, x: Any) -> list[int]:
        """Numbers that must be known and plain."""
        array = self.known(x)
        if array is None or any(isinstance(item, SymInt) for item in array.flat):
            self.fail("an input that must be known depends on the model's inputs")
        return [int(item) for item in array.flat]

    def items(self, array: NDArray[Any]) -> list[int]:
        """The items of a ``dims`` input as Python numbers and symbolic sizes.

        NumPy's own numbers must not meet symbolic ones: ``np.int64(2) * size`` is a number.
        """
        return list(array.reshape(-1).tolist())

    def dtype(self, x: Any) -> str:
        """The name of a tensor's element type."""
        return str(keras.backend.standardize_dtype(x.dtype))

    def dtype_of_code(self, code: int) -> str:
        """The name of an ONNX element type, as the backend stores it: JAX has no 64 bits by default."""
        try:
            return available(dtype_name(code))
        except ValueError as error:
            self.fail(str(error))

    def body(self, graph: Any) -> Body:
        """A subgraph, ready to run; it sees the values around the node."""
        return self._body(graph)

    # Sizes

    def dims(self, x: Any) -> Dims:
        """The sizes of a tensor: numbers, and expressions where a dimension is open."""
        return tuple(x.shape) if isinstance(x, np.ndarray) else self.sizes.of(x)

    def declare(self, x: Any, dims: Sequence[int | None]) -> Any:
        """Say what the open dimensions of a result are; None where that is not known. Returns the tensor."""
        if not isinstance(x, np.ndarray):
            self.sizes.declare(x, dims)
        return x

    def rank(self, x: Any) -> int:
        """Number of axes."""
        return len(x.shape)

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front, checked."""
        if not -rank <= axis < rank:
            self.fail(f"axis {axis} of a tensor with {rank} axes")
        return axis % rank

    # Operations that need sizes

    def add(self, x: Any, y: Any) -> Any:
        """``x + y``; ``ops.add`` is wrong on TensorFlow for some shapes."""
        return broadcast.add(x, y)

    def reshape(self, x: Any, dims: Sequence[int]) -> Any:
        """A tensor in another shape, in which several sizes may be open."""
        have = self.dims(x)
        dims = tuple(dims)
        if len(have) == len(dims) and all(self.sizes.same(a, b) for a, b in zip(have, dims, strict=True)):
            return x
        open_sizes = sum(isinstance(size, SymInt) for size in dims)
        if open_sizes <= 1:
            result = ops.reshape(x, tuple(-1 if isinstance(size, SymInt) else int(size) for size in dims))
        elif not isinstance(x, KerasTensor):
            result = ops.reshape(x, tuple(self.sizes.measured(size) for size in dims))
        else:
            try:
                result = reshaped(self.sizes, x, have, dims)
            except NoReshape:
                self.fail(
                    f"reshape {self.text(have)} -> {self.text(dims)} has more open dimensions than Keras can "
                    "reshape. Export the model with fewer dynamic dimensions"
                )
        return self.declare(result, dims)

    def expand(self, x: Any, dims: Sequence[int]) -> Any:
        """A tensor broadcast to sizes that may be open."""
        if all(self.sizes.same(a, b) for a, b in zip(self.dims(x), dims, strict=False)) and len(
            dims
        ) == self.rank(x):
            return x
        if not any(isinstance(size, SymInt) for size in dims):
            return ops.broadcast_to(x, tuple(int(size) for size in dims))
        if not isinstance(x, KerasTensor | np.ndarray):
            measured = tuple(self.sizes.measured(size) for size in dims)
            if not any(isinstance(size, KerasTensor) for size in measured):
                return ops.broadcast_to(x, measured)
            x = ops.convert_to_numpy(x)  # a constant, in a graph of layers
        dtype = self.dtype(x)
        zeros = self.sizes.zeros(tuple(dims), dtype)
        result = ops.logical_or(zeros, x) if dtype == "bool" else broadcast.add(zeros, x)
        return self.declare(result, dims)

    def text(self, dims: Sequence[int]) -> str:
        """Sizes as a message shows them."""
        return f"({', '.join(str(size) for size in dims)})"


class Body:
    """A subgraph of a node: called with tensors, it returns tensors.

    Attributes:
        inputs: names of its inputs.
        outputs: names of its outputs.
    """

    def __init__(self, graph: Any, run: Callable[[Sequence[Any], bool], list[Any]]) -> None:
        self.inputs = tuple(str(value.name) for value in graph.inputs)
        self.outputs = tuple(str(value.name) for value in graph.outputs)
        self._run = run

    def __call__(self, *tensors: Any) -> list[Any]:
        return self._run(tensors, False)

    def traced(self, *tensors: Any) -> list[Any]:
        """The same inside a function that the backend traces, of whose tensors none may be used outside."""
        made = self._run(tensors, True)
        return [ops.convert_to_tensor(x) if isinstance(x, np.ndarray) else x for x in made]


def is_concrete(x: Any) -> bool:
    """Whether a backend's tensor has numbers now, and not only when a compiled function runs."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return not isinstance(x, jax.core.Tracer)
    if backend == "tensorflow":
        import tensorflow as tf

        return not tf.is_symbolic_tensor(x)
    return not (hasattr(x, "is_meta") and x.is_meta)
