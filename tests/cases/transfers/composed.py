"""Layers whose matrices are made of parameters, or stand in a stack: experts, adapters, normalised weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from cases.transfers import Pair

L = keras.layers
ops = keras.ops


def _experts(x: Any, count: int) -> Any:
    """Layers of their own, mixed by a gate."""
    weights = L.Dense(count, "softmax")(x)
    made = [L.Dense(8)(L.Dense(16, "gelu")(x)) for _ in range(count)]
    return ops.sum(ops.stack(made, -2) * ops.expand_dims(weights, -1), -2)


def experts(nn: Any) -> tuple[Any, Any]:
    """Only numbers tell experts apart: to permute them is right if the columns of the gate are permuted too."""
    import torch

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            made = [nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(4)]
            self.experts, self.gate = nn.ModuleList(made), nn.Linear(8, 4)

        def forward(self, x: Any) -> Any:
            weights = torch.softmax(self.gate(x), -1)
            return sum(weights[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts))

    inputs = keras.Input((5, 8))
    return keras.Model(inputs, _experts(inputs, 4)), Net()


def _stacked(nn: Any) -> Any:
    """Experts in one tensor each."""
    import torch

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Parameter(torch.randn(3, 8, 16)), nn.Parameter(torch.randn(3, 16, 8))
            self.down_bias, self.up_bias = nn.Parameter(torch.randn(3, 8)), nn.Parameter(torch.randn(3, 16))
            self.gate = nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            weights = torch.softmax(self.gate(x), -1)
            h = torch.einsum("bsd,efd->bsef", x, self.up) + self.up_bias
            h = torch.einsum("bsef,edf->bsed", nn.functional.gelu(h), self.down) + self.down_bias
            return torch.einsum("bsed,bse->bsd", h, weights)

    return Net()


def stacked_experts(nn: Any) -> tuple[Any, Any]:
    inputs = keras.Input((5, 8))
    weights = L.Dense(3, "softmax")(inputs)
    h = L.EinsumDense("bsd,edf->bsef", (None, 3, 16), bias_axes="ef", activation="gelu")(inputs)
    h = L.EinsumDense("bsef,efd->bsed", (None, 3, 8), bias_axes="ed")(h)
    return keras.Model(inputs, ops.einsum("bsed,bse->bsd", h, weights)), _stacked(nn)


def experts_into_a_stack(nn: Any) -> tuple[Any, Any]:
    inputs = keras.Input((5, 8))
    return keras.Model(inputs, _experts(inputs, 3)), _stacked(nn)


def adapters(nn: Any) -> tuple[Any, Any]:
    """A product of two thin matrices, added to the matrix in Keras and to the result in PyTorch."""

    class Adapted(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(2, outputs, bias=False), nn.Linear(inputs, 2, bias=False)
            self.base = nn.Linear(inputs, outputs)

        def forward(self, x: Any) -> Any:
            return self.base(x) + 2.0 * self.up(self.down(x))

    model = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu"), L.Dense(3)])
    for layer in model.layers:
        layer.enable_lora(2, lora_alpha=4)
    return model, nn.Sequential(Adapted(6, 8), nn.ReLU(), Adapted(8, 3))


class _Normalised(L.Layer):
    """A direction and a length for each unit; with a size the kernel of a convolution."""

    def __init__(self, units: int, *size: int) -> None:
        super().__init__()
        self.units, self.size = units, size

    def build(self, shape: Any) -> None:
        self.bias = self.add_weight(shape=(self.units,), name="bias")
        self.length = self.add_weight(shape=(self.units,), name="length", initializer="ones")
        self.direction = self.add_weight(shape=(*self.size, shape[-1], self.units), name="direction")

    def call(self, x: Any) -> Any:
        norm = ops.sqrt(ops.sum(self.direction**2, tuple(range(len(self.size) + 1))))
        if self.size:
            return ops.conv(x, self.direction * (self.length / norm), 1, "valid") + self.bias
        return ops.matmul(x, self.direction * self.length / norm) + self.bias


def normalised_weights(nn: Any) -> tuple[Any, Any]:
    from torch.nn.utils.parametrizations import weight_norm

    model = keras.Sequential(
        [keras.Input((7, 6, 4)), _Normalised(6, 3, 3), L.ReLU(), L.Flatten(), _Normalised(3)]
    )
    body = [weight_norm(nn.Conv2d(4, 6, 3)), nn.ReLU(), nn.Flatten()]
    return model, nn.Sequential(*body, weight_norm(nn.Linear(120, 3)))


def plain_weights(nn: Any) -> tuple[Any, Any]:
    """A direction and a length in PyTorch, and what they make in Keras."""
    from torch.nn.utils.parametrizations import weight_norm

    layers = [L.Conv2D(6, 3, activation="relu"), L.Flatten(), L.Dense(3)]
    body = [weight_norm(nn.Conv2d(4, 6, 3)), nn.ReLU(), nn.Flatten()]
    model = keras.Sequential([keras.Input((7, 6, 4)), *layers])
    return model, nn.Sequential(*body, weight_norm(nn.Linear(120, 3), dim=1))


def bilinear(nn: Any) -> tuple[Any, Any]:
    """A product of three tensors, two of which are the same."""
    import torch

    class Layer(L.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(5, 3, 5), name="kernel")
            self.bias = self.add_weight(shape=(3,), name="bias")

        def call(self, x: Any) -> Any:
            return ops.einsum("bi,ioj,bj->bo", x, self.kernel, x) + self.bias

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias, self.weight = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3, 5, 5))

        def forward(self, x: Any) -> Any:
            return torch.einsum("bi,oij,bj->bo", x, self.weight, x) + self.bias

    return keras.Sequential([keras.Input((5,)), Layer()]), Net()


def slopes(nn: Any) -> tuple[Any, Any]:
    """A slope for each channel, and a normalisation of groups of them."""
    model = keras.Sequential(
        [
            keras.Input((9, 8, 6)),
            L.Conv2D(12, 3),
            L.GroupNormalization(3, epsilon=1e-5),
            L.PReLU(shared_axes=[1, 2]),
            L.Conv2D(5, 3),
        ]
    )
    body = [nn.Conv2d(6, 12, 3), nn.GroupNorm(3, 12), nn.PReLU(12)]
    return model, nn.Sequential(*body, nn.Conv2d(12, 5, 3))


def relative_positions(nn: Any) -> tuple[Any, Any]:
    """A table of distances, looked up at places that one model has as a tensor among its parameters."""
    import torch

    places = np.arange(6)[:, None] - np.arange(6)[None] + 5

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.table, self.qkv = nn.Linear(12, 12), nn.Embedding(11, 3), nn.Linear(12, 36)
            self.register_buffer("places", torch.as_tensor(places))

        def forward(self, x: Any) -> Any:
            q, k, v = self.qkv(x).reshape(-1, 6, 3, 3, 4).permute(2, 0, 3, 1, 4)
            scores = q @ k.transpose(-1, -2) * 0.5 + self.table(self.places).permute(2, 0, 1)
            return self.out((torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(-1, 6, 12))

    class Attention(L.Layer):
        def build(self, shape: Any) -> None:
            self.table = self.add_weight(shape=(3, 11), name="table")
            self.q, self.k, self.v, self.out = (L.Dense(12) for _ in range(4))
            for layer in (self.q, self.k, self.v, self.out):
                layer.build(shape)

        def call(self, x: Any) -> Any:
            q, k, v = (
                ops.transpose(ops.reshape(layer(x), (-1, 6, 3, 4)), (0, 2, 1, 3))
                for layer in (self.q, self.k, self.v)
            )
            scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / 2 + ops.take(self.table, places, axis=1)
            mixed = ops.transpose(ops.matmul(ops.softmax(scores), v), (0, 2, 1, 3))
            return self.out(ops.reshape(mixed, (-1, 6, 12)))

    return keras.Sequential([keras.Input((6, 12)), Attention()]), Net()


PAIRS = [
    Pair("experts", experts),
    Pair("experts in stacks", stacked_experts, quick=True),
    Pair("experts into a stack", experts_into_a_stack),
    Pair("adapters", adapters, quick=True),
    Pair("normalised weights", normalised_weights, first=True, quick=True),
    Pair("normalised weights, plain ones", plain_weights, first=True, quick=True),
    Pair("bilinear", bilinear),
    Pair("slopes", slopes, first=True, quick=True),
    Pair("relative positions", relative_positions),
]
