"""A TFLite file becomes a graph, through ``tf2onnx``; its frozen weights keep the converter's names.

Enters: the path of a ``.tflite`` file. Leaves: a ``ForeignCapture``, or the outputs of TensorFlow's own interpreter.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interop.capture.foreign import ForeignCapture, NamedInput, quiet
from interop.capture.specs import legal_name, named_dims
from interop.capture.tensorflow import reported
from interop.capture.tf_operations import processed


def capture_tflite(path: Path, opset: int) -> ForeignCapture:
    """The graph of a file, at an opset from 17 to 23."""
    import tensorflow as tf

    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no TFLite file here", str(path))
    with reported(), tf.Graph().as_default():
        model = processed(None, tflite_path=str(path))
    inputs = []
    for value in model.graph.inputs:
        name = legal_name(value.name.removesuffix(":0").removeprefix("serving_default_"))
        dims = [None if not isinstance(dim, int) or dim < 0 else dim for dim in value.shape]
        inputs.append(NamedInput(name, np.dtype(value.dtype.numpy()).name, named_dims(name, tuple(dims))))
    count = len(model.graph.outputs)
    return ForeignCapture(
        model,
        source={"framework": "tflite", "version": tf.__version__},
        opset=opset,
        inputs=inputs,
        input_structure=0 if len(inputs) == 1 else {"tuple": list(range(len(inputs)))},
        output_names=[legal_name(value.name.partition(":")[0]) for value in model.graph.outputs],
        output_structure=0 if count == 1 else {"tuple": list(range(count))},
        parameters=[],
    )


def run_tflite(path: Path, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The outputs of a file for inputs in its order."""
    import tensorflow as tf

    with quiet():
        interpreter = tf.lite.Interpreter(str(path))
    details = interpreter.get_input_details()
    for detail, array in zip(details, arrays, strict=True):
        interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    for detail, array in zip(details, arrays, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def rounded_to(path: Path) -> frozenset[str]:
    """``int8`` for a quantised file: one of quantised weights alone rounds what it computes, too."""
    import tensorflow as tf

    with quiet():
        details = tf.lite.Interpreter(str(path)).get_tensor_details()
    small = (np.int8, np.uint8, np.int16)
    quantised = any(
        one["dtype"] in small and one["quantization_parameters"]["scales"].size for one in details
    )
    return frozenset({"int8"} if quantised else ())
