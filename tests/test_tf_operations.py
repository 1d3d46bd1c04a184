"""Operations of TensorFlow that tf2onnx lacks or gets wrong: exported with open sizes, compared with TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import interop
from interop.errors import CaptureError, UnsupportedOp

pytestmark = pytest.mark.framework("tensorflow")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4)).astype("float32")
P = RNG.uniform(0.05, 0.95, size=(3, 4)).astype("float32")
IMAGES = RNG.uniform(size=(2, 6, 8, 3)).astype("float32")
SQUARES = RNG.normal(size=(2, 3, 3)).astype("float32")
SIGNALS = RNG.normal(size=(2, 32)).astype("float32")
WHOLE = RNG.integers(-9, 10, size=(3, 4)).astype("int32")


class Row(NamedTuple):
    """A function of the module ``tf`` and arrays, and the arrays."""

    name: str
    call: Callable[..., Any]
    given: tuple[np.ndarray[Any, Any], ...]


def definite(tf: Any, a: Any) -> Any:
    return tf.matmul(a, a, transpose_b=True) + tf.eye(3)


def per_channel(**options: Any) -> Callable[..., Any]:
    limits = [-3.0, -2.0, -1.0, -0.5], [3.0, 2.5, 1.0, 4.0]
    return lambda tf, a: tf.quantization.fake_quant_with_min_max_vars_per_channel(a, *limits, **options)


def resized(method: str, **options: Any) -> Callable[..., Any]:
    return lambda tf, a: tf.image.resize(a, [5, 3], method, **options)


def triangular(**options: Any) -> Callable[..., Any]:
    return lambda tf, a: tf.linalg.triangular_solve(a + 4 * tf.eye(3), a, **options)


def patches(tf: Any, a: Any, padding: str) -> Any:
    return tf.image.extract_patches(a, [1, 2, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], padding)


def arranged(tf: Any, a: Any) -> Any:
    x = tf.complex(a, 2 * a)
    x = tf.concat([tf.transpose(x, [0, 2, 1]), x[:, :, 1:]], -1)
    return tf.math.imag(tf.reshape(tf.squeeze(tf.expand_dims(x, -1), -1), [-1, 15]))


def looped(tf: Any, a: Any) -> Any:
    return tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, tf.math.log1p(x * x)), [0, a])[1]


ROWS = [
    Row("erfc", lambda tf, a: tf.math.erfc(a * 3), (X,)),
    Row("erfinv", lambda tf, a: tf.math.erfinv(tf.tanh(a)), (X,)),
    Row("ndtri", lambda tf, a: tf.math.ndtri(tf.sigmoid(a)), (X,)),
    Row("log1p", lambda tf, a: tf.math.log1p(a * a * 1e-6), (X,)),
    Row("expm1", lambda tf, a: tf.math.expm1(a * 1e-6), (X,)),
    Row("gelu", lambda tf, a: tf.nn.gelu(a), (X,)),
    Row("xlogy", lambda tf, a, b: tf.math.xlogy(tf.nn.relu(a), b * b), (X, X)),
    Row("xlog1py", lambda tf, a, b: tf.math.xlog1py(tf.nn.relu(a), b * b), (X, X)),
    Row("xlogy of zero", lambda tf, a: tf.math.xlogy(0.0 * a, 0.0 * a) + a, (X,)),
    Row("xdivy", lambda tf, a, b: tf.math.xdivy(tf.nn.relu(a), b), (X, X)),
    Row("multiply_no_nan", lambda tf, a, b: tf.math.multiply_no_nan(1 / tf.nn.relu(a), tf.nn.relu(b)), (X, X)),
    Row("nextafter", lambda tf, a, b: tf.math.nextafter(a, b) - a, (P, X)),
    Row("truncatemod", lambda tf, a: tf.truncatemod(a, 4), (WHOLE,)),
    Row("l2_loss", lambda tf, a: a * tf.nn.l2_loss(a), (X,)),
    Row("clip_by_global_norm", lambda tf, a: tf.clip_by_global_norm([a, 2 * a], 1.0)[0], (X,)),
    Row("euclidean norm", lambda tf, a: tf.math.reduce_euclidean_norm(a, 1, keepdims=True), (X,)),
    Row("euclidean norm of all", lambda tf, a: a / tf.math.reduce_euclidean_norm(a), (X,)),
    Row("cross", lambda tf, a, b: tf.linalg.cross(a, b), (X[:, :3], P[:, :3])),
    Row("in_top_k", lambda tf, a, b: tf.math.in_top_k(b, a, 2), (X, np.array([0, 3, 1], "int32"))),
    Row("searchsorted", lambda tf, a: tf.searchsorted([-1.0, 0.0, 0.5], a), (X[0],)),
    Row("searchsorted right", lambda tf, a, b: tf.searchsorted(tf.sort(a), b, side="right"), (X, P)),
    Row("bucketize", lambda tf, a: tf.raw_ops.Bucketize(input=a, boundaries=[-1.0, 0.0, 0.5]), (X,)),
    Row("unravel_index", lambda tf, a: tf.unravel_index(tf.abs(a), [4, 3]), (WHOLE[0],)),
    Row("invert_permutation", lambda tf, a: tf.math.invert_permutation(tf.argsort(a)), (X[0],)),
    Row("scatter_nd adds up", lambda tf, a: tf.scatter_nd(tf.abs(a)[:, None] % 5, a, [5]), (WHOLE.ravel(),)),
    Row("scatter_nd of booleans", lambda tf, a: tf.scatter_nd([[1]], a[:1] > 0, [3, 4]), (X,)),
    Row("rank", lambda tf, a: tf.rank(a) + 0 * tf.cast(a, "int32"), (X,)),
    Row("fake quantised", per_channel(), (2 * X,)),
    Row("fake quantised narrow", per_channel(num_bits=4, narrow_range=True), (2 * X,)),
    Row("rgb_to_hsv", lambda tf, a: tf.image.rgb_to_hsv(tf.sigmoid(a)), (IMAGES,)),
    Row("hsv_to_rgb", lambda tf, a: tf.image.hsv_to_rgb(tf.sigmoid(a)), (IMAGES,)),
    Row("adjust_saturation", lambda tf, a: tf.image.adjust_saturation(a, 1.7), (IMAGES,)),
    Row("extract_patches", lambda tf, a: patches(tf, a, "SAME"), (IMAGES,)),
    Row("resize bicubic", resized("bicubic"), (IMAGES,)),
    Row("resize area", resized("area"), (IMAGES,)),
    Row("resize bilinear antialias", resized("bilinear", antialias=True), (IMAGES,)),
    Row("resize bicubic antialias", resized("bicubic", antialias=True), (IMAGES,)),
    Row("resize lanczos3", resized("lanczos3"), (IMAGES,)),
    Row("resize lanczos5 antialias", resized("lanczos5", antialias=True), (IMAGES,)),
    Row("cholesky", lambda tf, a: tf.linalg.cholesky(definite(tf, a)), (SQUARES,)),
    Row("inverse", lambda tf, a: tf.linalg.inv(definite(tf, a)), (SQUARES,)),
    Row("inverse of the adjoint", lambda tf, a: tf.linalg.inv(a + 4 * tf.eye(3), adjoint=True), (SQUARES,)),
    Row("solve", lambda tf, a: tf.linalg.solve(definite(tf, a), a), (SQUARES,)),
    Row("triangular solve", triangular(), (SQUARES,)),
    Row("triangular solve upper", triangular(lower=False), (SQUARES,)),
    Row("triangular solve adjoint", triangular(adjoint=True), (SQUARES,)),
    Row("expm", lambda tf, a: tf.linalg.expm(a * 0.1), (SQUARES,)),
    Row("slogdet", lambda tf, a: tf.linalg.slogdet(definite(tf, a)), (SQUARES,)),
    Row("stft", lambda tf, a: tf.abs(tf.signal.stft(a, 8, 4)), (SIGNALS,)),
    Row("angle of rfft", lambda tf, a: tf.cos(tf.math.angle(tf.signal.rfft(a))), (SIGNALS,)),
    Row("irfft", lambda tf, a: tf.signal.irfft(tf.signal.rfft(a) * tf.signal.rfft(tf.nn.relu(a))), (SIGNALS,)),
    Row("fft", lambda tf, a: tf.abs(tf.signal.fft(tf.cast(a, tf.complex64))), (SIGNALS,)),
    Row("ifft", lambda tf, a: tf.math.real(tf.signal.ifft(tf.complex(a, a * a))), (SIGNALS,)),
    Row("fft3d", lambda tf, a: tf.abs(tf.signal.fft3d(tf.complex(a, a)[:, None])), (SQUARES,)),
    Row("complex arranged", arranged, (SQUARES,)),
    Row("fft2d", lambda tf, a: tf.abs(tf.signal.ifft2d(tf.signal.fft2d(tf.complex(a, a * a)))), (SQUARES,)),
    Row("rfft2d", lambda tf, a: tf.math.imag(tf.signal.rfft2d(a)), (SQUARES,)),
    Row("dct", lambda tf, a: tf.signal.dct(a), (SIGNALS,)),
    Row("conj", lambda tf, a: tf.math.imag(tf.math.conj(tf.complex(a, 2 * a)) + tf.complex(a, a)), (X,)),
    Row("lower", lambda tf, a: tf.strings.lower(a), (np.array(["AbC", "dE", ""], object),)),
    Row("upper", lambda tf, a: tf.strings.upper(a), (np.array([["AbC", "dE"], ["f", ""]], object),)),
    Row("in a loop", looped, (X,)),
]  # fmt: skip


def traced(row: Row) -> Any:
    import tensorflow as tf

    specs = [
        tf.TensorSpec([None, *value.shape[1:]], tf.string if value.dtype == object else value.dtype)
        for value in row.given
    ]
    return tf.function(lambda *given: row.call(tf, *given), input_signature=specs, autograph=False)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_operation(row: Row, tmp_path: Path) -> None:
    import tensorflow as tf

    function = traced(row)
    interop.export_onnx(function, tmp_path / "f.onnx", verify=row.name != "in_top_k")
    graph = interop.load_graph(tmp_path / "f.onnx")
    for cut in (slice(None), slice(1)):
        given = [value[cut] for value in row.given]
        wanted = tf.nest.flatten(function(*map(tf.constant, given)))
        found = graph.run({spec.name: value for spec, value in zip(graph.inputs, given, strict=True)})
        for ours, theirs in zip(found, wanted, strict=True):
            if ours.dtype == object:
                assert ours.tolist() == np.char.decode(theirs.numpy().astype(bytes)).tolist()
            else:
                assert ours.dtype == theirs.numpy().dtype
                np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def test_gelu_is_what_runtimes_know(tmp_path: Path) -> None:
    import onnxruntime

    interop.export_onnx(traced(next(row for row in ROWS if row.name == "gelu")), tmp_path / "f.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "f.onnx"), options)
    import onnx

    assert [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node] == ["Gelu"]


REFUSED = {
    "tf.math.lgamma has no ONNX form": (lambda tf, a: tf.math.lgamma(a), "without an ONNX form: Lgamma"),
    "complex output": (lambda tf, a: tf.complex(a, a), "takes and returns no complex numbers"),
    "complex operation": (lambda tf, a: tf.abs(tf.exp(tf.complex(a, a))), "Exp on complex numbers"),
    "cropped": (lambda tf, a: tf.abs(tf.signal.rfft2d(a[None], [2, 2])), "fft_length"),
    "kernel": (
        lambda tf, a: tf.image.resize(a[None, :, :, None], [2, 2], "gaussian"),
        "bilinear, bicubic, lanczos3",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_form_is_named(call: Callable[..., Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((CaptureError, UnsupportedOp), match=message):
        interop.export_onnx(traced(Row("", call, (X,))), tmp_path / "f.onnx")
    assert not (tmp_path / "f.onnx").exists()


def test_layer_in_raw_tensorflow(tmp_path: Path) -> None:
    """The same forms where a layer of Keras goes through tf2onnx."""
    import keras
    import tensorflow as tf

    class Spectrum(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.scale = self.add_weight(shape=(5,), name="scale", initializer="ones")

        def call(self, x: Any) -> Any:
            return tf.math.log1p(tf.abs(tf.signal.stft(x, 8, 4))) * self.scale

    inputs = keras.Input((32,))
    model = keras.Model(inputs, keras.layers.Dense(3)(Spectrum(name="spectrum")(inputs)))
    interop.save_model(model, tmp_path / "model")
    assert interop.verify(model, tmp_path / "model").passed
    assert "spectrum/scale" in interop.load_tensors(tmp_path / "model")
