"""What every capture tells about the variables and layers behind its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from interop.artifact.signature import Signature
from interop.formats.source import TensorSource


@dataclass(frozen=True)
class VariableRecord:
    """One tensor that goes to ``weights.safetensors``."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    trainable: bool
    role: str
    source: TensorSource

    def to_json(self) -> dict[str, Any]:
        """The entry in ``config.json``."""
        return {
            "key": self.key,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "trainable": self.trainable,
            "role": self.role,
        }


@dataclass(frozen=True)
class LayerRecord:
    """One layer of the tree, with what it became in the graph."""

    path: str
    class_name: str
    module: str
    registered_name: str | None
    trainable: bool
    functions: tuple[str, ...]
    calls: tuple[str, ...]
    variables: tuple[str, ...]
    call: dict[str, Any] = field(default_factory=dict)
    invocations: tuple[dict[str, Any], ...] = ()

    def to_json(self, *, revivable: bool = False, described: dict[str, Any] | None = None) -> dict[str, Any]:
        """The entry in ``config.json``.

        Args:
            revivable: say how the layer is called, for who loads the model without one of its classes.
            described: the layer's own description, where that of the layer around it may be of no use.
        """
        known = {} if described is None else {"object": described}
        how = {"call": self.call, "invocations": list(self.invocations), **known} if revivable else {}
        return {
            "path": self.path,
            "class": self.class_name,
            "module": self.module,
            "registered_name": self.registered_name,
            "trainable": self.trainable,
            "functions": list(self.functions),
            "calls": list(self.calls),
            "variables": list(self.variables),
            **how,
        }


class Capture(Protocol):
    """A captured model of any framework, ready to be written."""

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""

    @property
    def opset(self) -> int:
        """Of the default domain."""

    @property
    def ir_version(self) -> int:
        """Of the ONNX format."""

    @property
    def source(self) -> dict[str, str]:
        """The framework it came from, and its version."""

    @property
    def variables(self) -> tuple[VariableRecord, ...]:
        """Every tensor of the model, sorted by key; those the graph does not use included."""

    @property
    def layers(self) -> tuple[LayerRecord, ...]:
        """The layer tree; empty where a framework's exporter made the graph."""

    @property
    def fallback_layers(self) -> tuple[str, ...]:
        """Paths of Keras layers that the backend's own exporter converted."""

    @property
    def parameters(self) -> int:
        """Number of weights, without seeds, metrics and constants."""

    def serialize(self, placements: Mapping[str, Any]) -> bytes:
        """``model.onnx`` of an artifact, every initializer external."""

    def flat(self) -> Any:
        """An ``ir.Model`` without functions, the weights in memory."""

    def with_functions(self) -> Any:
        """An ``ir.Model`` with one function per layer body where layers are known."""
