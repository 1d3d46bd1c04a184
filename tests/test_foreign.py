"""Models of PyTorch, TensorFlow and JAX through the same door, checked against the framework itself."""

from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest

import interop
from interop.errors import CaptureError, InteropError, RebuildError, SpecializationError, UnsupportedOp

SHAPES = ((2, 8, 9), (5, 11, 7))


def images(size: int, last: bool) -> np.ndarray:
    batch, height, width = SHAPES[size]
    shape = (batch, height, width, 3) if last else (batch, 3, height, width)
    return np.random.default_rng(size).standard_normal(shape).astype("float32")


def torch_net() -> Any:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.norm = torch.nn.BatchNorm2d(8)
            self.lstm = torch.nn.LSTM(8, 6, batch_first=True, bidirectional=True)
            self.head = torch.nn.Linear(8, 5)
            self.drop = torch.nn.Dropout(0.5)
            self.register_buffer("scale", torch.linspace(0.5, 2, 5))

        def forward(self, x: Any, offset: Any = None) -> Any:
            hidden = torch.relu(self.norm(self.conv(x)))
            sequence, _ = self.lstm(hidden.mean(3).transpose(1, 2))
            logits = self.drop(self.head(hidden.mean((2, 3)))) * self.scale
            return {"logits": logits if offset is None else logits + offset, "states": (sequence, hidden)}

    return Net()


def tensorflow_net() -> Any:
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__("net")
            draw = tf.random.Generator.from_seed(0).normal
            self.kernel = tf.Variable(draw((3, 3, 3, 8)), name="conv/kernel")
            self.dense = tf.Variable(draw((8, 5)), name="dense/kernel")
            self.scale = tf.Variable(2.0, name="scale", trainable=False)

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, name="image")])
        def __call__(self, image: Any) -> Any:
            hidden = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 2, "SAME"))
            logits = tf.matmul(tf.reduce_mean(hidden, (1, 2)), self.dense) * self.scale
            return {"logits": logits, "height": tf.shape(hidden)[1] + tf.zeros_like(logits[:, 0], tf.int32)}

    return Net()


def jax_function(params: Any, x: Any, y: Any) -> Any:
    import jax.numpy as jnp

    hidden = jnp.tanh(x @ params["dense"]["kernel"] + params["dense"]["bias"])
    return {"hidden": hidden, "rest": (jnp.sort(x, axis=-1), y * 2)}


def jax_params() -> Any:
    import jax  # noqa: F401 -- as where a JAX function is defined

    rng = np.random.default_rng(0)
    kernel, bias = rng.standard_normal((4, 3)), rng.standard_normal(3)
    return {"dense": {"kernel": kernel.astype("float32"), "bias": bias.astype("float32")}}


def linen_net() -> Any:
    import jax
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = linen.relu(linen.BatchNorm(use_running_average=True)(linen.Conv(8, (3, 3))(x)))
            return linen.Dense(5)(x.mean((1, 2)))

    net = Net()
    return net.bind(net.init(jax.random.key(0), np.ones((1, 8, 9, 3), "float32")))


def nnx_net() -> Any:
    import jax
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.first = nnx.Linear(4, 6, rngs=rngs)
            self.norm = nnx.LayerNorm(6, rngs=rngs)
            self.last = nnx.Linear(6, 2, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.last(jax.nn.gelu(self.norm(self.first(x))))

    return Net(nnx.Rngs(0))


def keys(path: Path) -> list[str]:
    return sorted(tensor.name for tensor in onnx.load(path).graph.initializer)


@pytest.mark.framework("torch")
def test_torch_module(tmp_path: Path) -> None:
    net = torch_net()
    assert net.training
    summary = interop.export_onnx(net, tmp_path / "net.onnx", input_signature=[(None, 3, "height", "width")])
    assert net.training
    assert summary.opset == 20
    graph = interop.load_graph(tmp_path / "net.onnx")
    assert [(spec.name, spec.shape) for spec in graph.inputs] == [("x", ("batch", 3, "height", "width"))]
    assert [spec.name for spec in graph.outputs] == ["logits", "output_1", "output_2"]
    assert interop.verify(net, tmp_path / "net.onnx").passed
    saved = interop.save_model(net, tmp_path / "net.interop", input_signature=(images(0, last=False),))
    assert saved.parameters == sum(v.numel() for v in net.state_dict().values() if v.ndim) + 1
    tensors = interop.load_tensors(tmp_path / "net.interop")
    assert set(tensors) == set(net.state_dict())
    np.testing.assert_array_equal(tensors["conv.weight"], net.conv.weight.detach().numpy())
    net.eval()
    for size in (0, 1):
        x = images(size, last=False)[:, :, :8, :9] if size == 0 else np.repeat(images(0, last=False), 3, 0)
        wanted = net(__import__("torch").as_tensor(x))
        got = interop.load_graph(tmp_path / "net.interop")(x)
        np.testing.assert_allclose(got["logits"], wanted["logits"].detach(), atol=1e-5)
        np.testing.assert_allclose(got["states"][0], wanted["states"][0].detach(), atol=1e-5)
    with pytest.raises(RebuildError, match="saved from torch"):
        interop.load_model(tmp_path / "net.interop")


@pytest.mark.framework("torch")
def test_torch_arguments_by_name_and_programs(tmp_path: Path) -> None:
    import torch

    net = torch_net()
    example = {"x": images(0, last=False), "offset": np.ones((2, 5), "float32")}
    interop.export_onnx(net, tmp_path / "named.onnx", input_signature=example)
    names = [spec.name for spec in interop.load_graph(tmp_path / "named.onnx").inputs]
    assert names == ["x", "offset"]
    batch = torch.export.Dim("batch")
    x = torch.as_tensor(images(0, last=False))
    with warnings.catch_warnings():  # torch's own, about its LSTM
        warnings.simplefilter("ignore")
        program = torch.export.export(net.eval(), (x,), dynamic_shapes=({0: batch},))
    interop.export_onnx(program, tmp_path / "program.onnx", opset=18)
    assert interop.verify(net, tmp_path / "program.onnx", sizes=None).passed


@pytest.mark.framework("torch")
@pytest.mark.parametrize("kind", ["module", "program", "program by name", "program by both"])
def test_torch_arguments_nest_as_in_forward(kind: str, tmp_path: Path) -> None:
    import torch

    class Net(torch.nn.Module):
        def forward(self, x, more, *, k=None):  # type: ignore[no-untyped-def]
            return {"y": x * more["b"][0] + more["b"][1] * (1 if k is None else k), "z": [x]}

    x, w, c, k = (torch.randn(2, 3) for _ in range(4))
    args, kwargs = (
        ((), {"x": x, "more": {"b": (w, c)}}) if kind == "program by name" else ((x, {"b": (w, c)}), {})
    )
    if kind == "program by both":
        kwargs = {"k": k}
    net = Net().eval()
    if kind == "module":
        interop.save_model(net, tmp_path / "net", input_signature=args)
    else:
        interop.save_model(torch.export.export(net, args, kwargs), tmp_path / "net")
    graph = interop.load_graph(tmp_path / "net")
    given = torch.utils._pytree.tree_map(lambda tensor: tensor.numpy(), [args, kwargs])
    found = (
        graph({"args": given[0], "kwargs": given[1]})
        if kind.endswith("both")
        else graph(*given[0], **given[1])
    )
    np.testing.assert_allclose(found["y"], net(*args, **kwargs)["y"], atol=1e-6)
    np.testing.assert_array_equal(found["z"][0], x)


def torch_rows() -> dict[str, Any]:
    """Functions of the module ``torch`` and of (n, 4) and (n, 4): operators that torch.onnx has no translation of."""
    rows: dict[str, Any] = {
        "fmax": lambda torch, x, y: torch.fmax((x - 0.5).sqrt(), (y - 0.5).sqrt()).nan_to_num(7.0),
        "fmin of whole numbers": lambda torch, x, y: torch.fmin((8 * x).long(), (8 * y).long()),
        "hypot": lambda torch, x, y: torch.hypot(1e20 * x, 1e20 * y) / 1e20 + torch.hypot(0 * x, 0 * y),
        "copysign": lambda torch, x, y: torch.copysign(x, -y) + 3 * torch.copysign(x, (0 * y).neg()),
        "kthvalue": lambda torch, x, y: torch.kthvalue(x, 3, dim=1),
        "median": lambda torch, x, y: torch.median(x, dim=-1, keepdim=True),
        "searchsorted": lambda torch, x, y: torch.searchsorted(
            x.sort(1).values, y, right=True, out_int32=True
        ),
        "searchsorted in one row": lambda torch, x, y: torch.searchsorted(torch.tensor([-1.0, 0.0, 0.5]), y),
        "isin": lambda torch, x, y: torch.isin((4 * x).long(), torch.tensor([0, 2])),
        "masked_select": lambda torch, x, y: torch.masked_select(x, y[:, :1] > 0) if len(y) else x,
    }
    for p in (0.0, 1.0, 2.0, 3.5, float("inf")):
        rows[f"cdist {p}"] = lambda torch, x, y, p=p: torch.cdist(x[None], y[None], p=p)
    return rows


@pytest.mark.framework("torch")
@pytest.mark.parametrize("name", torch_rows())
def test_torch_operators_without_translation(name: str, tmp_path: Path) -> None:
    import torch

    class Net(torch.nn.Module):
        def forward(self, x, y):  # type: ignore[no-untyped-def]
            return torch_rows()[name](torch, x, y)

    interop.export_onnx(Net(), tmp_path / "net.onnx", input_signature=[(None, 4), (None, 4)])
    graph = interop.load_graph(tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    for batch in (3, 1):
        x, y = rng.normal(size=(2, batch, 4)).astype("float32")
        wanted = torch.utils._pytree.tree_leaves(Net()(torch.as_tensor(x), torch.as_tensor(y)))
        for ours, theirs in zip(graph.run({"x": x, "y": y}), wanted, strict=True):
            assert ours.dtype == theirs.numpy().dtype
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.framework("torch")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_torch_in_half_types(dtype: str, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 64, batch_first=True).to(getattr(torch, dtype))
    given = [torch.randn(2, 4, 16).to(getattr(torch, dtype))]
    for name in ("net.onnx", "net.interop"):
        write = interop.export_onnx if name.endswith("onnx") else interop.save_model
        write(layer, tmp_path / name, input_signature=given)
        graph = interop.load_graph(tmp_path / name)
        assert {spec.dtype for spec in (*graph.inputs, *graph.outputs)} == {dtype}
        assert interop.verify(layer, tmp_path / name).passed
    weights = sum(value.numel() for value in layer.state_dict().values())
    assert (tmp_path / "net.onnx").stat().st_size < 3 * weights + 20_000


@pytest.mark.framework("tensorflow")
def test_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    net = tensorflow_net()
    interop.export_onnx(net, tmp_path / "net.onnx")
    assert interop.load_graph(tmp_path / "net.onnx").inputs[0].shape == ("batch", "image_1", "image_2", 3)
    tf.saved_model.save(net, str(tmp_path / "saved"))
    conversion = interop.convert(tmp_path / "saved", tmp_path / "saved.interop")
    assert conversion.parity is not None
    assert conversion.parity.vacuous, "the height is the same for the whole batch"
    assert not conversion.parity.disagrees, str(conversion)
    tensors = interop.load_tensors(tmp_path / "saved.interop")
    assert set(tensors) == {"conv/kernel", "dense/kernel", "scale"}
    np.testing.assert_array_equal(tensors["conv/kernel"], net.kernel.numpy())
    graph = interop.load_graph(tmp_path / "saved.interop")
    for size in (0, 1):
        x = images(size, last=True)
        got, wanted = graph(x), net(tf.constant(x))
        np.testing.assert_allclose(got["logits"], wanted["logits"], atol=1e-4)
        np.testing.assert_array_equal(got["height"], wanted["height"])
    function = tf.function(lambda a, b: tf.matmul(a, b, transpose_b=True))
    interop.export_onnx(function, tmp_path / "f.onnx", input_signature=[(None, 4), (None, 4)])
    with pytest.raises(CaptureError, match="input_signature"):
        interop.export_onnx(function, tmp_path / "f.onnx")


@pytest.mark.framework("tensorflow")
def test_tflite(tmp_path: Path) -> None:
    import tensorflow as tf

    tf.saved_model.save(tensorflow_net(), str(tmp_path / "saved"))
    content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert()
    (tmp_path / "net.tflite").write_bytes(content)
    assert interop.export_onnx(tmp_path / "net.tflite", tmp_path / "net.onnx").opset == 20
    with pytest.raises(FileNotFoundError, match="no TFLite file here"):
        interop.export_onnx(tmp_path / "missing.tflite", tmp_path / "net.onnx")


@pytest.mark.framework("tensorflow")
@pytest.mark.parametrize("quantised", [False, True])
def test_tflite_of_keras(quantised: bool, tmp_path: Path) -> None:
    """Gelu, for which tf2onnx has no form; whole numbers inside, which are compared as such."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    gelu, softmax = keras.layers.Dense(16, activation="gelu"), keras.layers.Dense(4, activation="softmax")
    model = keras.Sequential([keras.Input((8,)), gelu, softmax])
    model.export(tmp_path / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    x = np.random.default_rng(0).normal(size=(64, 1, 8)).astype("float32")
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([one] for one in x)
    (tmp_path / "net.tflite").write_bytes(converter.convert())
    interop.export_onnx(tmp_path / "net.tflite", tmp_path / "net.onnx")
    found = interop.load_graph(tmp_path / "net.onnx")(x[:, 0])
    np.testing.assert_allclose(found, model(x[:, 0]), atol=2e-2 if quantised else 1e-6)


@pytest.mark.framework("jax")
def test_jax(tmp_path: Path) -> None:
    bound = functools.partial(jax_function, jax_params())
    interop.save_model(bound, tmp_path / "f.interop", input_signature=[(None, 4), ("batch", 2)])
    assert set(interop.load_tensors(tmp_path / "f.interop")) == {"dense/kernel", "dense/bias"}
    assert interop.verify(bound, tmp_path / "f.interop").passed
    graph = interop.load_graph(tmp_path / "f.interop")
    assert [spec.name for spec in graph.inputs] == ["x", "y"]
    x, y = np.eye(4, dtype="float32"), np.ones((4, 2), "float32")
    np.testing.assert_allclose(graph(x, y)["hidden"], bound(x, y)["hidden"], atol=1e-6)
    with pytest.raises(CaptureError, match="input_signature"):
        interop.export_onnx(bound, tmp_path / "f.onnx")


@pytest.mark.framework("jax")
def test_jax_arguments_nest_as_in_the_call(tmp_path: Path) -> None:
    def alone(tree):  # type: ignore[no-untyped-def]
        return {"y": tree["x"] * tree["more"][0] + tree["more"][1]}

    def two(x, tree):  # type: ignore[no-untyped-def]
        return alone({"x": x, "more": tree["more"]})

    x, w, c = np.random.default_rng(0).normal(size=(3, 2, 3)).astype("float32")
    for function, args in ((alone, ({"x": x, "more": [w, c]},)), (two, (x, {"more": (w, c)}))):
        interop.save_model(function, tmp_path / "f", input_signature=args)
        found = interop.load_graph(tmp_path / "f")(*args)
        np.testing.assert_allclose(found["y"], function(*args)["y"], atol=1e-6)


def jax_rows() -> dict[str, Any]:
    """Functions that jax2onnx alone exports for fixed sizes only, or not so that they run."""

    def remainder(x, y):  # type: ignore[no-untyped-def]
        import jax.numpy as jnp

        return jnp.remainder(x, y), x // y, jnp.fmod(x, y)

    def whole(x, y):  # type: ignore[no-untyped-def]
        n = (x * 8).astype("int32")
        return n % 3, n // 3, n % (1 + abs((y * 4).astype("int32")))

    def pool(x):  # type: ignore[no-untyped-def]
        from jax import lax

        return lax.reduce_window(x, -np.inf, lax.max, (1, 2, 3, 1), (1, 2, 1, 1), "SAME")

    def resize(method: str) -> Any:
        def run(x):  # type: ignore[no-untyped-def]
            import jax

            return jax.image.resize(x, (x.shape[0], 5, 9, 3), method)

        return run

    pair, images = [(None, 4), (None, 4)], [(None, 6, 8, 3)]
    rows = {"remainder": (remainder, pair), "whole numbers": (whole, pair), "max pool": (pool, images)}
    return rows | {f"resize {m}": (resize(m), images) for m in ("nearest", "bilinear", "cubic", "lanczos3")}


@pytest.mark.framework("jax")
@pytest.mark.parametrize("name", jax_rows())
def test_jax_with_open_sizes(name: str, tmp_path: Path) -> None:
    function, signature = jax_rows()[name]
    interop.export_onnx(function, tmp_path / "f.onnx", input_signature=signature)
    graph = interop.load_graph(tmp_path / "f.onnx")
    rng = np.random.default_rng(0)
    for batch in (3, 1):
        given = [rng.normal(size=(batch, *shape[1:])).astype("float32") for shape in signature]
        if len(given) == 2:  # a quotient that is rounded up to a whole number
            given[0][0], given[1][0] = (
                [5.056379, -2.636236, 81.513756, 6],
                [0.10112758, 0.04624975, -1.8956687, 3],
            )
        found = graph.run({spec.name: value for spec, value in zip(graph.inputs, given, strict=True)})
        wanted = function(*given)
        for ours, theirs in zip(found, wanted if isinstance(wanted, tuple) else [wanted], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.framework("jax")
def test_jax_in_bfloat16(tmp_path: Path) -> None:
    import jax.numpy as jnp

    def function(weight: Any, x: Any) -> Any:
        return jnp.tanh(jnp.swapaxes(x, 0, 1) @ weight)

    bound = functools.partial(function, jnp.asarray(jax_params()["dense"]["kernel"], "bfloat16"))
    interop.save_model(bound, tmp_path / "f.interop", input_signature=[jnp.ones((3, 5, 4), "bfloat16")])
    assert not interop.verify(bound, tmp_path / "f.interop").disagrees


@pytest.mark.framework("jax")
def test_flax(tmp_path: Path) -> None:
    interop.export_onnx(linen_net(), tmp_path / "linen.onnx", input_signature=[(None, None, None, 3)])
    saved = interop.save_model(nnx_net(), tmp_path / "nnx.interop", input_signature=[(None, 4)])
    assert saved.parameters == 4 * 6 + 6 + 6 + 6 + 6 * 2 + 2
    assert "first/kernel" in interop.load_tensors(tmp_path / "nnx.interop")


@pytest.mark.framework("torch")
def test_torch_failures_carry_its_reason(tmp_path: Path) -> None:
    import torch

    class Fixed(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.reshape(2, 12) * 2 if x.shape[0] == 2 else x.sum() * int(x.shape[0])

    path = tmp_path / "out.onnx"
    with pytest.raises(SpecializationError, match="torch says"):
        interop.export_onnx(Fixed(), path, input_signature=(np.ones((2, 3, 4), "float32"),))
    with pytest.raises(CaptureError, match="Pass example inputs"):
        interop.export_onnx(torch_net(), path)
    with pytest.raises(CaptureError, match=r"expected a Keras model; a PyTorch module.*Received: 3"):
        interop.export_onnx(3, path)
    assert not path.exists()


@pytest.mark.framework("tensorflow")
def test_tensorflow_failures_carry_its_reason(tmp_path: Path) -> None:
    import tensorflow as tf

    function = tf.function(lambda a: tf.raw_ops.Betainc(a=a, b=a, x=a))
    with pytest.raises(UnsupportedOp, match="Betainc"):
        interop.export_onnx(function, tmp_path / "out.onnx", input_signature=[(None, 4)])
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.framework("torch")
def test_factory_on_the_command_line(tmp_path: Path) -> None:
    code = (
        "import torch\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh()), [(None, 4)]\n"
    )
    (tmp_path / "my_nets.py").write_text(code)
    command = [sys.executable, "-m", "interop.cli.main", "convert", "my_nets:net", "net.onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert keys(tmp_path / "net.onnx") == ["0.bias", "0.weight"]
    sys.path.insert(0, str(tmp_path))
    try:
        for name in ("net.keras", "net.h5", "net.weights.h5", "net.safetensors"):
            made = interop.convert("my_nets:net", tmp_path / name)
            assert made.parity is None or made.parity.passed
    finally:
        sys.path.remove(str(tmp_path))
    net = sys.modules.pop("my_nets").net()[0]
    layers = keras.saving.load_model(tmp_path / "net.keras")
    assert [type(layer).__name__ for layer in layers.layers if layer.weights] == ["Dense"]
    for x in (np.ones((2, 4), "float32"), np.arange(12, dtype="float32").reshape(3, 4) / 9):
        wanted = net(__import__("torch").as_tensor(x)).detach()
        np.testing.assert_allclose(layers.predict(x, verbose=0), wanted, atol=1e-6)
    assert set(interop.load_tensors(tmp_path / "net.safetensors")) == {"0.bias", "0.weight"}
    assert interop.load_weights(layers, tmp_path / "net.weights.h5").loaded
    with pytest.raises(InteropError, match="no_such_module:net was not found"):
        interop.convert("no_such_module:net", tmp_path / "x.onnx")
