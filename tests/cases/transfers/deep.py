"""Whole residual networks, many blocks that are alike, and parameters that nothing uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from cases.transfers import Pair

L = keras.layers


def _norm() -> Any:
    return L.BatchNormalization(epsilon=1e-5)


def resnet(blocks: tuple[int, ...], wide: bool) -> Callable[[Any], tuple[Any, Any]]:
    """The networks of He et al. 2015 (https://arxiv.org/abs/1512.03385), narrow; the 3 x 3 convolution has the stride.

    The Keras model makes the shortcut of a block last, the PyTorch module first, with its head before everything.
    """
    grow = 4 if wide else 1

    def conv(x: Any, filters: int, size: int, stride: int = 1) -> Any:
        if size > 1:
            x = L.ZeroPadding2D(size // 2)(x)
        return _norm()(L.Conv2D(filters, size, stride, use_bias=False)(x))

    def block(x: Any, filters: int, stride: int) -> Any:
        sizes = [(1, 1), (3, stride), (1, 1)] if wide else [(3, stride), (3, 1)]
        h = x
        for k, (size, step) in enumerate(sizes):
            last = k == len(sizes) - 1
            h = conv(h, filters * (grow if last else 1), size, step)
            h = h if last else L.ReLU()(h)
        if stride > 1 or x.shape[-1] != h.shape[-1]:
            x = conv(x, filters * grow, 1, stride)
        return L.ReLU()(L.Add()([h, x]))

    def make(nn: Any) -> tuple[Any, Any]:
        import torch

        class Block(nn.Module):
            def __init__(self, inputs: int, filters: int, stride: int) -> None:
                super().__init__()
                if stride > 1 or inputs != filters * grow:
                    norm = nn.BatchNorm2d(filters * grow)
                    self.shortcut = nn.Sequential(
                        nn.Conv2d(inputs, filters * grow, 1, stride, bias=False), norm
                    )
                shapes = [(3, stride, filters), (3, 1, filters)]
                if wide:
                    shapes = [(1, 1, filters), (3, stride, filters), (1, 1, filters * grow)]
                before = [inputs, *(n for _, _, n in shapes[:-1])]
                rows = list(zip(before, shapes, strict=True))
                norms = [nn.BatchNorm2d(n) for _, _, n in shapes]
                convs = [nn.Conv2d(m, n, k, s, k // 2, bias=False) for m, (k, s, n) in reversed(rows)]
                self.norms, self.convs = nn.ModuleList(norms), nn.ModuleList(convs[::-1])

            def forward(self, x: Any) -> Any:
                h = x
                for k, (c, n) in enumerate(zip(self.convs, self.norms, strict=True)):
                    h = n(c(h)) if k == len(self.convs) - 1 else torch.relu(n(c(h)))
                return torch.relu((self.shortcut(x) if hasattr(self, "shortcut") else x) + h)

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.head = nn.Linear(64 * grow, 10)
                made, inputs = [], 8
                for stage, count in enumerate(blocks):
                    for k in range(count):
                        made.append(Block(inputs, 8 << stage, 2 if k == 0 and stage else 1))
                        inputs = (8 << stage) * grow
                self.body = nn.Sequential(*made)
                stem = [nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
                self.stem = nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1))

            def forward(self, x: Any) -> Any:
                return self.head(self.body(self.stem(x)).mean((2, 3)))

        inputs = keras.Input((64, 64, 3))
        h = L.ReLU()(_norm()(L.Conv2D(8, 7, 2, use_bias=False)(L.ZeroPadding2D(3)(inputs))))
        h = L.MaxPool2D(3, 2)(L.ZeroPadding2D(1)(h))
        for stage, count in enumerate(blocks):
            for k in range(count):
                h = block(h, 8 << stage, 2 if k == 0 and stage else 1)
        return keras.Model(inputs, L.Dense(10)(L.GlobalAveragePooling2D()(h))), Net()

    return make


def repeated(nn: Any) -> tuple[Any, Any]:
    """Twenty-four encoder blocks, one like the other, normalised first."""
    inputs = keras.Input((5, 12))
    h = inputs
    for _ in range(24):
        n = L.LayerNormalization(epsilon=1e-5)(h)
        h = h + L.MultiHeadAttention(2, 6)(n, n)
        n = L.LayerNormalization(epsilon=1e-5)(h)
        h = h + L.Dense(12)(L.Dense(16, "relu")(n))
    layers = [nn.TransformerEncoderLayer(12, 2, 16, batch_first=True, norm_first=True) for _ in range(24)]
    return keras.Model(inputs, L.LayerNormalization(epsilon=1e-5)(h)), nn.Sequential(
        *layers, nn.LayerNorm(12)
    )


def unused(nn: Any) -> tuple[Any, Any]:
    """Parameters on either side that the result does not depend on; one is as large as one that counts."""
    import torch

    class Spare(L.Layer):
        def build(self, shape: Any) -> None:
            self.spare = self.add_weight(shape=(shape[-1], 7), name="spare")

        def call(self, x: Any) -> Any:
            return x

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.auxiliary = nn.Linear(10, 7)
            self.second, self.first = nn.Linear(7, 3), nn.Linear(10, 7)
            self.register_buffer("steps", torch.zeros(5))

        def forward(self, x: Any) -> Any:
            return self.second(torch.tanh(self.first(x)))

    return keras.Sequential([keras.Input((10,)), Spare(), L.Dense(7, "tanh"), L.Dense(3)]), Net()


PAIRS = [
    Pair("resnet18", resnet((2, 2, 2, 2), wide=False), first=True),
    Pair("resnet50", resnet((3, 4, 6, 3), wide=True), first=True),
    Pair("24 blocks", repeated),
    Pair("unused", unused, quick=True),
]
