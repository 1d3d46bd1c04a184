"""Small networks in Keras and in PyTorch; layers are made in different orders and grouped differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from cases.transfers import Pair

L = keras.layers


def mlp(nn: Any) -> tuple[Any, Any]:
    model = keras.Sequential([keras.Input((10,)), *(L.Dense(16, "relu") for _ in range(3)), L.Dense(4)])
    blocks = [layer for _ in range(2) for layer in (nn.Linear(16, 16), nn.ReLU())]
    return model, nn.Sequential(nn.Linear(10, 16), nn.ReLU(), *blocks, nn.Linear(16, 4))


def cnn(nn: Any) -> tuple[Any, Any]:
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            L.Conv2D(8, 3, padding="same"),
            L.BatchNormalization(epsilon=1e-5),
            L.ReLU(),
            L.MaxPool2D(),
            L.Conv2D(6, 3, use_bias=False),
            L.Flatten(),
            L.Dense(5),
        ]
    )
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    return model, nn.Sequential(*body, nn.Conv2d(8, 6, 3, bias=False), nn.Flatten(), nn.Linear(96, 5))


def residual(nn: Any) -> tuple[Any, Any]:
    """Blocks of a ResNet; the module makes the shortcut first and the last normalisation before the first."""
    import torch

    def block(x: Any, filters: int, stride: int) -> Any:
        h = L.Conv2D(filters, 3, stride, "valid", use_bias=False)(L.ZeroPadding2D(1)(x))
        h = L.ReLU()(L.BatchNormalization(epsilon=1e-5)(h))
        h = L.BatchNormalization(epsilon=1e-5)(L.Conv2D(filters, 3, padding="same", use_bias=False)(h))
        if stride > 1:
            x = L.BatchNormalization(epsilon=1e-5)(L.Conv2D(filters, 1, stride, use_bias=False)(x))
        return L.ReLU()(L.Add()([x, h]))

    class Block(nn.Module):
        def __init__(self, inputs: int, filters: int, stride: int) -> None:
            super().__init__()
            if stride > 1:
                conv = nn.Conv2d(inputs, filters, 1, stride, bias=False)
                self.downsample = nn.Sequential(conv, nn.BatchNorm2d(filters))
            self.bn2 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
            self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)

        def forward(self, x: Any) -> Any:
            h = torch.relu(self.bn1(self.conv1(x)))
            shortcut = self.downsample(x) if hasattr(self, "downsample") else x
            return torch.relu(self.bn2(self.conv2(h)) + shortcut)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 5)
            blocks = [Block(8, 8, 1), Block(8, 8, 1), Block(8, 16, 2), Block(16, 16, 1)]
            self.blocks = nn.Sequential(*blocks)
            self.stem = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return self.head(self.blocks(self.stem(x)).mean((2, 3)))

    inputs = keras.Input((16, 16, 3))
    h = L.Conv2D(8, 3, padding="same")(inputs)
    for filters, stride in ((8, 1), (8, 1), (16, 2), (16, 1)):
        h = block(h, filters, stride)
    return keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(h))), Net()


def kernels(nn: Any) -> tuple[Any, Any]:
    """Depthwise, grouped, transposed and 1 x 1."""
    model = keras.Sequential(
        [
            keras.Input((10, 10, 4)),
            L.DepthwiseConv2D(3, depth_multiplier=2),
            L.Conv2D(8, 3, groups=2, activation="relu"),
            L.Conv2DTranspose(6, 2, 2),
            L.Conv2D(4, 1),
        ]
    )
    layers = [nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU()]
    return model, nn.Sequential(*layers, nn.ConvTranspose2d(8, 6, 2, 2), nn.Conv2d(6, 4, 1))


def signal(nn: Any) -> tuple[Any, Any]:
    model = keras.Sequential([keras.Input((20, 3)), L.Conv1D(8, 5, 2, activation="relu"), L.Conv1D(4, 3)])
    return model, nn.Sequential(nn.Conv1d(3, 8, 5, 2), nn.ReLU(), nn.Conv1d(8, 4, 3))


def volume(nn: Any) -> tuple[Any, Any]:
    model = keras.Sequential([keras.Input((6, 7, 8, 2)), L.Conv3D(4, 3), L.ReLU(), L.Flatten(), L.Dense(3)])
    return model, nn.Sequential(nn.Conv3d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(480, 3))


def recurrent(nn: Any) -> tuple[Any, Any]:
    """Stacked: both directions, then LSTM, then GRU."""
    inputs = keras.Input((7, 6))
    h = L.Bidirectional(L.LSTM(4, return_sequences=True))(inputs)
    h = L.LSTM(6, return_sequences=True)(h)
    model = keras.Model(inputs, L.GRU(5, return_sequences=True)(h))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(6, 5, batch_first=True)
            self.lstm = nn.LSTM(8, 6, batch_first=True)
            self.both = nn.LSTM(6, 4, batch_first=True, bidirectional=True)

        def forward(self, x: Any) -> Any:
            for layer in (self.both, self.lstm, self.gru):
                x, _ = layer(x)
            return x

    return model, Net()


def encoder(nn: Any) -> tuple[Any, Any]:
    """Blocks of a transformer; PyTorch's own have queries, keys and values in one matrix."""

    def block(x: Any) -> Any:
        h = L.LayerNormalization(epsilon=1e-5)(x + L.MultiHeadAttention(3, 4)(x, x))
        return L.LayerNormalization(epsilon=1e-5)(h + L.Dense(12)(L.Dense(20, "relu")(h)))

    inputs = keras.Input((6, 12))
    model = keras.Model(inputs, block(block(inputs)))
    layers = [nn.TransformerEncoderLayer(12, 3, 20, batch_first=True) for _ in range(2)]
    return model, nn.Sequential(*layers)


def projections(layout: str) -> Callable[[Any], tuple[Any, Any]]:
    """Queries, keys and values of one matrix, its columns by part, head and feature (``"phd"``) or in another order.

    Without parts (``"dh"``) each has a matrix of its own.
    """

    def make(nn: Any) -> tuple[Any, Any]:
        import torch

        class Attention(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.out = nn.Linear(12, 12)
                count = 1 if "p" in layout else 3
                self.qkv = nn.ModuleList(nn.Linear(12, 36 // count) for _ in range(count))

            def forward(self, x: Any) -> Any:
                sizes = {"p": 3, "h": 3, "d": 4}
                made = [linear(x).reshape(*x.shape[:2], *(sizes[c] for c in layout)) for linear in self.qkv]
                order = [layout.index(c) + 2 for c in "hd"]
                if "p" in layout:
                    made = list(made[0].unbind(layout.index("p") + 2))
                    order = [axis - (axis > layout.index("p") + 2) for axis in order]
                q, k, v = (part.permute(0, order[0], 1, order[1]) for part in made)
                scores = (q @ k.transpose(-1, -2)) * 0.5
                mixed = torch.softmax(scores, -1) @ v
                return self.out(mixed.transpose(1, 2).reshape(x.shape))

        inputs = keras.Input((6, 12))
        return keras.Model(inputs, L.MultiHeadAttention(3, 4)(inputs, inputs)), Attention()

    return make


def language(nn: Any) -> tuple[Any, Any]:
    """Embedded tokens and positions, and the same table to score the tokens."""
    import torch

    class Positions(L.Layer):
        def build(self, shape: Any) -> None:
            self.table = self.add_weight(shape=(8, 10), name="table", initializer="random_normal")

        def call(self, x: Any) -> Any:
            return x + self.table[: x.shape[1]]

    class Score(L.Layer):
        def __init__(self, embedding: Any) -> None:
            super().__init__()
            self.embedding = embedding

        def call(self, x: Any) -> Any:
            return keras.ops.matmul(x, keras.ops.transpose(self.embedding.embeddings))

    tokens = keras.Input((8,), dtype="int32")
    embedding = L.Embedding(30, 10)
    h = L.Dense(10, "tanh")(Positions()(embedding(tokens)))
    model = keras.Model(tokens, Score(embedding)(h))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions = nn.Parameter(torch.randn(1, 8, 10))
            self.score = nn.Linear(10, 30, bias=False)
            self.mix = nn.Linear(10, 10)
            self.tokens = nn.Embedding(30, 10)
            self.score.weight = self.tokens.weight

        def forward(self, x: Any) -> Any:
            return self.score(torch.tanh(self.mix(self.tokens(x) + self.positions)))

    return model, Net()


def shared(nn: Any) -> tuple[Any, Any]:
    """A tower that both inputs go through."""
    import torch

    one, two = keras.Input((6,)), keras.Input((6,))
    tower = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu"), L.Dense(8)])
    model = keras.Model([one, two], L.Dense(3)(L.Concatenate()([tower(one), tower(two)])))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(16, 3)
            self.unused = nn.Linear(5, 5)
            self.tower = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8))

        def forward(self, a: Any, b: Any) -> Any:
            return self.last(torch.cat([self.tower(a), self.tower(b)], 1))

    return model, Net()


def gated(nn: Any) -> tuple[Any, Any]:
    """Two branches of one shape, told apart by what is done with them; in PyTorch one matrix, cut in halves."""
    import torch

    inputs = keras.Input((10,))
    gate, up = L.Dense(12, use_bias=False), L.Dense(12, use_bias=False)
    h = up(inputs) * keras.ops.silu(gate(inputs))
    model = keras.Model(inputs, L.Dense(10)(h))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both = nn.Linear(10, 24, bias=False)
            self.down = nn.Linear(12, 10)

        def forward(self, x: Any) -> Any:
            gate, up = self.both(x).chunk(2, -1)
            return self.down(torch.nn.functional.silu(gate) * up)

    return model, Net()


def branches(nn: Any) -> tuple[Any, Any]:
    """Branches alike but for where they go."""
    import torch

    inputs = keras.Input((10,))
    parts = [L.Dense(6, "relu")(inputs) for _ in range(3)]
    model = keras.Model(inputs, L.Dense(4)(L.Concatenate()(parts)))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.a, self.b = nn.Linear(10, 6), nn.Linear(10, 6), nn.Linear(10, 6)
            self.out = nn.Linear(18, 4)

        def forward(self, x: Any) -> Any:
            c, b, a = self.c(x), self.b(x), self.a(x)
            return self.out(torch.relu(torch.cat([a, b, c], 1)))

    return model, Net()


def differences(nn: Any) -> tuple[Any, Any]:
    """Branches alike in structure: only numbers tell which is subtracted from which."""

    inputs = keras.Input((10,))
    one, two = L.Dense(6), L.Dense(6)
    model = keras.Model(inputs, L.Dense(4)(L.Subtract()([two(inputs), one(inputs)])))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plus, self.minus, self.out = nn.Linear(10, 6), nn.Linear(10, 6), nn.Linear(6, 4)

        def forward(self, x: Any) -> Any:
            return self.out(-self.minus(x) + self.plus(x))

    return model, Net()


PAIRS = [
    Pair("mlp", mlp),
    Pair("cnn", cnn, first=True, quick=True),
    Pair("residual", residual, first=True),
    Pair("kernels", kernels, first=True),
    Pair("signal", signal, first=True),
    Pair("volume", volume, first=True),
    Pair("recurrent", recurrent),
    Pair("encoder", encoder, quick=True),
    Pair("qkv by part", projections("phd")),
    Pair("qkv by head", projections("hpd")),
    Pair("qkv interleaved", projections("hdp")),
    Pair("qkv by part, then by feature", projections("pdh")),
    Pair("qkv by feature, then by part", projections("dph")),
    Pair("qkv by feature, then by head", projections("dhp"), quick=True),
    Pair("qkv apart, by feature", projections("dh")),
    Pair("language", language, tokens=30, quick=True),
    Pair("shared", shared),
    Pair("gated", gated, quick=True),
    Pair("branches", branches),
    Pair("differences", differences, quick=True),
]
