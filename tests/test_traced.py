"""SavedModels without layers (tools/legacy_fixtures/traced.py), imported, against what TensorFlow computed."""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest

import interop
from interop.errors import BackendError, FormatError, RebuildError

FIXTURES = Path(__file__).parent / "fixtures" / "legacy" / "traced"
# JAX has no 64-bit numbers unless it is told to.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*Explicitly requested dtype")


_UNPACKED = tempfile.TemporaryDirectory()


@cache
def folder_of(name: str) -> Path:
    """The SavedModel, unpacked."""
    path = Path(_UNPACKED.name, name)
    shutil.unpack_archive(FIXTURES / f"{name}.zip", path)
    return path


def opened(name: str):
    reports = []
    return interop.load_model(folder_of(name), report=reports), reports[0]


def computed(model, inputs):
    x = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    y = keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))
    return y if isinstance(y, dict) else {"": y}


def part(name: str, kind: str):
    with np.load(FIXTURES / f"{name}.npz", allow_pickle=False) as file:
        return {key.removeprefix(f"{kind}/"): file[key] for key in file.files if key.startswith(f"{kind}/")}


# The classes of layers that the graph is recognised as, and the variables it reads.
ROWS = {
    "keras_2_adam": ("Dense Dense", "head/bias head/kernel trunk/bias trunk/kernel"),
    "keras_2_convnet": (
        "DepthwiseConv2D BatchNormalization Dense",
        "stem/kernel depthwise_conv2d/depthwise_kernel",
    ),
    # Its optimizer tells of slots, which TensorFlow opens with the class of the optimizer only.
    "keras_2_legacy_adam": ("Dense Dense", "head/bias head/kernel trunk/bias trunk/kernel"),
    "keras_2_lstm": ("LSTM", "lstm/lstm_cell/bias lstm/lstm_cell/kernel lstm/lstm_cell/recurrent_kernel"),
    "keras_2_multi_head_attention": ("", "multi_head_attention/query/kernel multi_head_attention/key/kernel"),
    "keras_2_shared": ("Dense Dense Dense", "shared/bias shared/kernel dense_1/kernel"),
    "keras_3_convnet": (
        "Conv2D BatchNormalization MaxPooling2D Dense",
        "conv/bias conv/kernel norm/beta norm/gamma norm/moving_mean norm/moving_variance",
    ),
    "keras_3_two": (
        "Dense Dense Dense",
        "last/bias last/kernel left/bias left/kernel right/bias right/kernel",
    ),
    "module": ("", "biases/0 biases/1 kernels/0 kernels/1"),
}


LONG = {"keras_2_multi_head_attention"}  # TensorFlow takes ten seconds for its graph


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.full if n in LONG else ()) for n in sorted(ROWS)]
)
def test_a_model_of_traced_functions(name):
    model, status = opened(name)
    status.assert_consumed()
    layers, variables = (words.split() for words in ROWS[name])
    assert not set(variables) - set(status.loaded)
    assert not set(layers) - {type(layer).__name__ for layer in model.layers}
    answers = part(name, "output")
    out = computed(model, part(name, "input"))
    for key, expected in answers.items():
        np.testing.assert_allclose(out[key if len(answers) > 1 else ""], expected, rtol=1e-5, atol=1e-5)
    lost = ["the optimizer's state" in change.what for change in status.lost]
    assert lost == ([True] if name.endswith("adam") else [])


def test_it_trains_and_saves_without_this_toolkit(tmp_path):
    model, _ = opened("keras_3_convnet")
    x, y = part("keras_3_convnet", "input")["x"], np.eye(3, dtype="float32")[:2]
    statistics = [v for v in model.variables if "moving" in v.name]
    assert len(statistics) == 2
    assert not any(v.trainable for v in statistics)
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in statistics]
    model.compile("sgd", "mse", run_eagerly=keras.backend.backend() == "tensorflow")
    first = model.train_on_batch(x, y)
    assert model.train_on_batch(x, y) < first
    assert not any(
        np.array_equal(a, keras.ops.convert_to_numpy(v)) for a, v in zip(before, statistics, strict=True)
    )
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(
        *(keras.ops.convert_to_numpy(m(x, training=False)) for m in (model, again)), rtol=1e-5, atol=1e-6
    )


def test_layers_of_keras_2_without_their_classes():
    """The function of a SavedModel that has layers too."""
    path = FIXTURES.parent / "saved_model" / "dense"
    model = interop.load_model(path, inline=True, report=(reports := []))
    assert [type(layer).__name__ for layer in model.layers] == ["InputLayer", "Dense"]
    assert set(reports[0].loaded) == {"dense/bias", "dense/kernel"}
    with np.load(f"{path}.npz") as file:
        out = keras.ops.convert_to_numpy(model(file["input/x"]))
        np.testing.assert_allclose(out, file["output/0"], rtol=1e-5, atol=1e-6)
    with pytest.raises(RebuildError, match="saved with save_traces=False"):
        interop.load_model(path.with_name("subclassed"), inline=True)


@pytest.mark.framework("tensorflow")
def test_functions_without_signatures(tmp_path):
    import tensorflow as tf

    class Called(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(np.arange(12, dtype="float32").reshape(4, 3))

        @tf.function
        def __call__(self, x, training=False):
            return x @ self.kernel * (2.0 if training else 1.0)

    class Two(tf.Module):
        def __init__(self):
            super().__init__()
            self.bias = tf.Variable([1.0, 2.0])

        @tf.function(input_signature=[tf.TensorSpec((None, 2), name="x")])
        def first(self, x):
            return x + self.bias

    class Three(Two):
        @tf.function(input_signature=[tf.TensorSpec((None, 2), name="x")])
        def second(self, x):
            return x * self.bias

    called = Called()
    called(tf.ones((2, 4)), training=True)
    called(tf.ones((2, 4)))
    called.__call__.get_concrete_function(tf.TensorSpec((None, 4)))
    tf.saved_model.save(called, str(tmp_path / "called"))
    x = np.ones((3, 4), "float32")
    np.testing.assert_array_equal(
        interop.load_model(tmp_path / "called", report=[])(x), x @ called.kernel.numpy()
    )
    tf.saved_model.save(Two(), str(tmp_path / "one"))
    model = interop.load_model(tmp_path / "one", report=[])
    np.testing.assert_array_equal(model(np.zeros((3, 2), "float32")), [[1, 2]] * 3)
    tf.saved_model.save(Three(), str(tmp_path / "two"))
    with pytest.raises(RebuildError, match="no signatures, but the functions first, second"):
        interop.load_model(tmp_path / "two")


def test_conversion(tmp_path):
    done = interop.convert(folder_of("keras_3_two"), tmp_path / "m.keras")
    assert done.parity is not None
    assert done.parity.passed


def test_values_are_checked(tmp_path):
    shutil.copytree(folder_of("module"), tmp_path / "m")
    data = tmp_path / "m" / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[5] ^= 1
    data.write_bytes(content)
    with pytest.raises((FormatError, RebuildError)):
        interop.load_model(tmp_path / "m")


def test_what_cannot_be_opened(tmp_path, monkeypatch):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(RebuildError, match="TensorFlow cannot open the SavedModel"):
        interop.load_model(tmp_path / "m")
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(BackendError, match=r"pip install 'interop\[tensorflow\]'"):
        interop.load_model(folder_of("module"))
