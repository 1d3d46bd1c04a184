"""Modules of Flax, nnx and linen, and the same in Keras and in PyTorch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import pytest
from cases.transfers import Pair
from cases.transfers.plain import cnn as keras_cnn
from cases.transfers.plain import mlp as keras_mlp

L = keras.layers


def _nnx_mlp() -> Any:
    nnx = pytest.importorskip("flax.nnx")
    rngs = nnx.Rngs(0)
    sizes = [(16, 4), (16, 16), (16, 16), (10, 16)]

    class Net(nnx.Module):
        def __init__(self) -> None:
            self.d, self.c, self.b, self.a = (nnx.Linear(*size, rngs=rngs) for size in sizes)

        def __call__(self, x: Any) -> Any:
            for layer in (self.a, self.b, self.c):
                x = nnx.relu(layer(x))
            return self.d(x)

    return Net()


def _nnx_cnn() -> Any:
    nnx = pytest.importorskip("flax.nnx")
    rngs = nnx.Rngs(0)

    class Net(nnx.Module):
        def __init__(self) -> None:
            self.head = nnx.Linear(96, 5, rngs=rngs)
            self.norm = nnx.BatchNorm(8, use_running_average=True, epsilon=1e-5, rngs=rngs)
            self.two = nnx.Conv(8, 6, (3, 3), padding="VALID", use_bias=False, rngs=rngs)
            self.one = nnx.Conv(3, 8, (3, 3), rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = nnx.max_pool(nnx.relu(self.norm(self.one(x))), window_shape=(2, 2), strides=(2, 2))
            return self.head(self.two(x).reshape(-1, 96))

    return Net()


def _nnx_transformer() -> Any:
    nnx = pytest.importorskip("flax.nnx")
    rngs = nnx.Rngs(0)

    class Block(nnx.Module):
        def __init__(self) -> None:
            self.two, self.one = nnx.Linear(20, 12, rngs=rngs), nnx.Linear(12, 20, rngs=rngs)
            self.norm2 = nnx.LayerNorm(12, epsilon=1e-5, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(3, 12, decode=False, rngs=rngs)
            self.norm1 = nnx.LayerNorm(12, epsilon=1e-5, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            h = self.norm1(x + self.attention(x))
            return self.norm2(h + self.two(nnx.relu(self.one(h))))

    class Net(nnx.Module):
        def __init__(self) -> None:
            self.b, self.a = Block(), Block()

        def __call__(self, x: Any) -> Any:
            return self.b(self.a(x))

    return Net()


def _bound(body: Callable[[Any, Any], Any], shape: tuple[int, ...]) -> Any:
    """A linen module with variables."""
    linen = pytest.importorskip("flax.linen")
    import jax

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return body(linen, x)

    variables = Net().init(jax.random.key(0), jax.numpy.zeros((1, *shape)))
    return Net().bind(variables)


def _linen_mlp() -> Any:
    def body(linen: Any, x: Any) -> Any:
        for _ in range(3):
            x = linen.relu(linen.Dense(16)(x))
        return linen.Dense(4)(x)

    return _bound(body, (10,))


def _linen_cnn() -> Any:
    def body(linen: Any, x: Any) -> Any:
        norm = linen.BatchNorm(use_running_average=True, epsilon=1e-5)
        x = linen.relu(norm(linen.Conv(8, (3, 3))(x)))
        x = linen.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = linen.Conv(6, (3, 3), padding="VALID", use_bias=False)(x)
        return linen.Dense(5)(x.reshape(-1, 96))

    return _bound(body, (12, 12, 3))


def _linen_transformer() -> Any:
    def body(linen: Any, x: Any) -> Any:
        for _ in range(2):
            h = linen.LayerNorm(1e-5)(x + linen.MultiHeadDotProductAttention(3)(x, x))
            x = linen.LayerNorm(1e-5)(h + linen.Dense(12)(linen.relu(linen.Dense(20)(h))))
        return x

    return _bound(body, (6, 12))


def _keras_encoder(nn: Any) -> tuple[Any, Any]:
    from cases.transfers.plain import encoder

    return encoder(nn)


def _scanned(nn: Any) -> tuple[Any, Any]:
    """Layers whose parameters stand in a stack, which a function of JAX goes through."""
    jax = pytest.importorskip("jax")
    numpy = jax.numpy

    def apply(params: Any, x: Any) -> Any:
        def layer(x: Any, own: Any) -> tuple[Any, None]:
            return numpy.tanh(x @ own["kernel"] + own["bias"]), None

        x, _ = jax.lax.scan(layer, x, params["layers"])
        return x @ params["out"]

    layers = {"kernel": numpy.ones((3, 7, 7)), "bias": numpy.zeros((3, 7))}
    others = [L.Dense(7, "tanh") for _ in range(3)]
    model = keras.Sequential([keras.Input((7,)), *others, L.Dense(2, use_bias=False)])
    return functools.partial(apply, {"layers": layers, "out": numpy.ones((7, 2))}), model


_OTHERS: dict[str, tuple[Callable[[Any], tuple[Any, Any]], tuple[int, ...]]] = {
    "mlp": (keras_mlp, (10,)),
    "cnn": (keras_cnn, (12, 12, 3)),
    "transformer": (_keras_encoder, (6, 12)),
}
_MODULES = {
    "nnx": {"mlp": _nnx_mlp, "cnn": _nnx_cnn, "transformer": _nnx_transformer},
    "linen": {"mlp": _linen_mlp, "cnn": _linen_cnn, "transformer": _linen_transformer},
}


def _row(kind: str, what: str, other: int) -> Pair:
    make, shape = _OTHERS[what]
    image = what == "cnn"
    # The Flax module stands first: its inputs have channels last, as Keras's.
    return Pair(
        f"{kind} {what}, {('Keras', 'PyTorch')[other]}",
        lambda nn: (_MODULES[kind][what](), make(nn)[other]),
        first=image and other == 1,
        shapes=(shape,),
        signatures={"one": [(1, *shape)]},
    )


PAIRS = [
    *(_row(kind, what, other) for kind in _MODULES for what in _OTHERS for other in (0, 1)),
    Pair("JAX, layers in a stack", _scanned, shapes=((7,),), signatures={"one": [(1, 7)]}),
]
