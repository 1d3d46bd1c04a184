"""What emitters state about themselves: opsets that exist, and errors for those they cannot meet."""

from __future__ import annotations

import onnx
import pytest

from interop.capture.keras import registry
from interop.capture.keras.emit import Emit
from interop.errors import UnsupportedOp
from interop.graph.opsets import IR_VERSIONS
from interop.graph.record import Recorder

VERSIONS = {
    schema.since_version for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""
}


def test_every_since_is_a_version_of_onnx_that_is_written() -> None:
    stated = {
        (kind, key, since)
        for kind, emitters in registry.registered().items()
        for key, versions in emitters.items()
        for since in versions
    }
    assert {row for row in stated if row[2] not in VERSIONS or row[2] > max(IR_VERSIONS)} == set()


def test_an_operation_the_opset_cannot_meet_is_named() -> None:
    with pytest.raises(UnsupportedOp, match="SegmentMax needs opset 18 or newer, but opset 17 was requested"):
        registry.find_op("SegmentMax", 17)


def test_an_operator_the_opset_does_not_have_is_named() -> None:
    emit = Emit(Recorder(17))
    x = emit.recorder.input("x", "float32", (2, 4))
    with pytest.raises(UnsupportedOp, match="GroupNormalization needs opset 18 or newer, but opset 17"):
        emit.node("GroupNormalization", x, [1.0], [0.0], num_groups=2)
