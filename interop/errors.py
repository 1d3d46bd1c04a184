"""Every error this toolkit raises on purpose.

::

    InteropError
    ├── BackendError             no Keras backend is installed, or the chosen one is missing
    ├── CaptureError             a framework object could not become a graph
    │   ├── UnsupportedOp        an operation has no emitter (names layer path, operation, what to do)
    │   └── SpecializationError  Python code branched on a dimension that must stay dynamic
    ├── ArtifactError            bytes on disk are not a valid artifact (also a ValueError)
    │   ├── UnsafeFileError      the file is built to harm: bombs, path escapes, overlaps, links
    │   ├── DigestError          the bytes are not the ones that were written
    │   └── VersionError         written by a newer version than this one can read
    ├── FormatError              a weights file cannot be read (also a ValueError)
    ├── RebuildError             a config could not become layer objects
    │   ├── MissingClassError    custom classes or functions that the caller must pass in
    │   ├── GraphError           an ONNX graph is broken, or a node cannot be computed (names the node)
    │   └── UnsupportedNodes     every node of an ONNX graph that has no handler (also an UnsupportedOp)
    ├── WeightsError             values do not fit the model they are loaded into (also a ValueError)
    ├── SignatureError           inputs of a call do not fit the signature (also a ValueError)
    └── ParityError              two models that should agree do not

A message states the stage and the layer or node, what was found, what was expected, and the
next step. Errors are wrapped once per stage with ``raise ... from e``.
"""

from __future__ import annotations


class InteropError(Exception):
    """Base class: ``except InteropError`` catches everything raised on purpose."""


class BackendError(InteropError, ImportError):
    """No usable Keras backend; the message names the extra to install."""


class CaptureError(InteropError):
    """A framework object could not be captured as a graph."""


class UnsupportedOp(CaptureError):
    """An operation without an emitter; names the layer path, the operation and the ways out."""


class SpecializationError(CaptureError):
    """The trace depends on the value of a dimension that must stay dynamic."""


class ArtifactError(InteropError, ValueError):
    """The files are not a valid artifact."""


class UnsafeFileError(ArtifactError):
    """A file that a writer of this format never makes and that could harm the reader."""


class DigestError(ArtifactError):
    """A digest does not match: the bytes changed after they were written."""


class VersionError(ArtifactError):
    """The artifact needs a newer reader."""


class FormatError(InteropError, ValueError):
    """A file of named tensors cannot be read."""


class RebuildError(InteropError):
    """A config could not be turned into layer objects."""


class MissingClassError(RebuildError):
    """Custom classes or functions named by the config that were not found."""


class GraphError(RebuildError, ValueError):
    """An ONNX graph that breaks the rules, or a node of it that cannot be computed; names the node."""


class UnsupportedNodes(RebuildError, UnsupportedOp):
    """Nodes of an ONNX graph that nothing computes: all of them, with their names."""


class WeightsError(InteropError, ValueError):
    """Weights do not fit the model they are loaded into."""


class SignatureError(InteropError, ValueError):
    """The inputs of a call do not fit the graph's signature."""


class ParityError(InteropError):
    """Two models that should agree do not, or the comparison could not be made."""
