"""Networks of ``torch.nn`` alone."""

from __future__ import annotations

import torch
from cases.architectures import Architecture
from torch import nn


class Residual(nn.Module):
    """Residual blocks of convolutions with BatchNorm, a strided one among them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.one = nn.Sequential(
            nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1)
        )
        self.short = nn.Conv2d(16, 32, 1, 2)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.stem(x))
        x = torch.relu(self.one(x) + self.short(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class UNet(nn.Module):
    """Down, up with transposed convolutions, joined along channels."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.middle = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.out = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.down(x)
        return torch.softmax(self.out(torch.cat([skip, self.up(self.middle(skip))], 1)), 1)


class Recurrent(nn.Module):
    """Tokens, a recurrent network, a head on its last step; of one that reads both ways, on the state that each
    way ends in, as the last step of the way back has read one token alone."""

    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 12)
        self.body = kind(12, 10, batch_first=True, **options)
        self.head = nn.Linear(20 if options.get("bidirectional") else 10, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        steps, state = self.body(self.embedding(ids))
        return self.head(torch.cat([state[-2], state[-1]], 1) if self.body.bidirectional else steps[:, -1])


class Transformer(nn.Module):
    """A TransformerEncoder over tokens with learned positions."""

    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 16)
        self.position = nn.Parameter(torch.randn(1, 9, 16))
        layer = nn.TransformerEncoderLayer(
            16, 4, 32, batch_first=True, norm_first=norm_first, activation="gelu"
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 6)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embedding(ids) + self.position).mean(1))


class Decoder(nn.Module):
    """A decoder that attends to what it reads, places first as in ``nn.Transformer`` by default; a learned scale
    without axes, and positions that do not train."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 12)
        self.memory = nn.Linear(12, 12)
        self.layer = nn.TransformerDecoderLayer(12, 3, 24, dropout=0.0)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("positions", torch.randn(9, 1, 12))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids).transpose(0, 1) * self.scale + self.positions
        return self.layer(x[:5], torch.tanh(self.memory(x))).transpose(0, 1)


class Signal(nn.Module):
    """Convolutions over time, with PReLU and an instance norm."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(4, 8, 5, 2, 2),
            nn.InstanceNorm1d(8, affine=True),
            nn.PReLU(8),
            nn.Conv1d(8, 8, 3, dilation=2, groups=2),
            nn.AvgPool1d(2),
            nn.Flatten(),
            nn.Linear(8 * 14, 5),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Bags(nn.Module):
    """Words without their order."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.most = nn.EmbeddingBag(40, 6), nn.EmbeddingBag(40, 6, mode="max")
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.mean(x), self.most(x)], 1))


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 24),
        nn.BatchNorm1d(24),
        nn.LeakyReLU(0.2),
        nn.Linear(24, 16),
        nn.Tanh(),
        nn.Linear(16, 4),
    )


def _volume() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 6, 3, padding=1),
        nn.BatchNorm3d(6),
        nn.ELU(),
        nn.MaxPool3d(2),
        nn.Flatten(),
        nn.Linear(384, 3),
    )


ROWS = [
    Architecture("mlp", _mlp, (12,), quick=True),
    Architecture("residual", Residual, (3, 32, 32), quick=True),
    Architecture("unet", UNet, (3, 16, 16), quick=True),
    Architecture("lstm", lambda: Recurrent(nn.LSTM), (9,), 40, quick=True),
    Architecture("transformer", lambda: Transformer(False), (9,), 40, quick=True),
    Architecture("transformer, norm first", lambda: Transformer(True), (9,), 40),
    Architecture(
        "gru, both ways, stacked", lambda: Recurrent(nn.GRU, num_layers=2, bidirectional=True), (9,), 40
    ),
    Architecture("rnn", lambda: Recurrent(nn.RNN), (9,), 40),
    Architecture("decoder", Decoder, (9,), 40),
    Architecture("decoder, TorchScript", Decoder, (9,), 40, quick=True, dynamo=False),
    Architecture("bags", Bags, (9,), 40),
    Architecture("bags, TorchScript", Bags, (9,), 40, dynamo=False),
    Architecture("signal", Signal, (4, 64)),
    Architecture("volume", _volume, (2, 8, 8, 8)),
    Architecture("residual, TorchScript", Residual, (3, 32, 32), dynamo=False),
    Architecture("unet, TorchScript", UNet, (3, 16, 16), dynamo=False),
    Architecture("lstm, TorchScript", lambda: Recurrent(nn.LSTM), (9,), 40, quick=True, dynamo=False),
    Architecture("transformer, TorchScript", lambda: Transformer(False), (9,), 40, quick=True, dynamo=False),
]
