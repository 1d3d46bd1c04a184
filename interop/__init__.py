"""Save a trained model once; open it as Keras layers, as a bare graph, or as named tensors.

Every public name is imported on first use, so ``import interop`` loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from interop.version import __version__

if TYPE_CHECKING:
    from interop import onnx_backend as onnx_backend
    from interop.callbacks import ModelCheckpoint as ModelCheckpoint
    from interop.checkpoint import Checkpoint as Checkpoint
    from interop.conversion import convert as convert
    from interop.errors import InteropError as InteropError
    from interop.exporting import export_onnx as export_onnx
    from interop.importing import import_onnx as import_onnx
    from interop.inspection import inspect as inspect
    from interop.loading import load_graph as load_graph
    from interop.loading import load_model as load_model
    from interop.loading import load_tensors as load_tensors
    from interop.parity import verify as verify
    from interop.runtime.session import GraphModel as GraphModel
    from interop.saving import save_model as save_model
    from interop.status import ExportSummary as ExportSummary
    from interop.status import ImportReport as ImportReport
    from interop.status import LoadStatus as LoadStatus
    from interop.transfer import Plan as Plan
    from interop.transfer import Rule as Rule
    from interop.transfer import TransferReport as TransferReport
    from interop.transfer import match as match
    from interop.transfer import transfer_weights as transfer_weights
    from interop.weights import load_weights as load_weights
    from interop.weights import save_weights as save_weights


_HOME = {
    "Checkpoint": "interop.checkpoint",
    "ExportSummary": "interop.status",
    "GraphModel": "interop.runtime.session",
    "ImportReport": "interop.status",
    "InteropError": "interop.errors",
    "LoadStatus": "interop.status",
    "Plan": "interop.transfer",
    "Rule": "interop.transfer",
    "TransferReport": "interop.transfer",
    "ModelCheckpoint": "interop.callbacks",
    "convert": "interop.conversion",
    "export_onnx": "interop.exporting",
    "import_onnx": "interop.importing",
    "inspect": "interop.inspection",
    "load_graph": "interop.loading",
    "load_model": "interop.loading",
    "load_tensors": "interop.loading",
    "load_weights": "interop.weights",
    "match": "interop.transfer",
    "onnx_backend": "interop",
    "save_model": "interop.saving",
    "transfer_weights": "interop.transfer",
    "save_weights": "interop.weights",
    "verify": "interop.parity",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(
            f"module 'interop' has no attribute {name!r}; it has {', '.join(sorted(__all__))}"
        )
    home = _HOME[name]
    value = import_module(f"interop.{name}") if home == "interop" else getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
