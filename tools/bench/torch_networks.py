"""What is imported: ResNet-50 and a transformer encoder in PyTorch, exported by ``torch.onnx``.

The same networks as ``networks.application("ResNet50")`` and ``networks.bert`` in Keras: ResNet-50 as in
https://arxiv.org/abs/1512.03385, biased convolutions, strides in the first of a block; BERT's encoder as in
https://arxiv.org/abs/1810.04805. Two exporters: "dynamo" keeps what training needs; "torchscript", opset 13, joins
normalisation and convolution, and is what the peers were made for.

    python torch_networks.py resnet50 dynamo 224 path.onnx
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import measure
import torch
from torch import nn

VOCABULARY = 30522


class Block(nn.Module):  # type: ignore[misc]
    """A bottleneck."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(channels, width, 1, stride), nn.BatchNorm2d(width)
        self.b, self.norm_b = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.c, self.norm_c = nn.Conv2d(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.short = nn.Identity()
        if channels != 4 * width:
            self.short = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride), nn.BatchNorm2d(4 * width))

    def forward(self, x: Any) -> Any:
        h = torch.relu(self.norm_a(self.a(x)))
        h = torch.relu(self.norm_b(self.b(h)))
        return torch.relu(self.short(x) + self.norm_c(self.c(h)))


class ResNet50(nn.Module):  # type: ignore[misc]
    """Images (batch, 3, height, width) to 1,000 probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 64, 7, 2, padding=3), nn.BatchNorm2d(64)
        blocks, channels = [], 64
        for stage, count in enumerate((3, 4, 6, 3)):
            for place in range(count):
                blocks.append(Block(channels, 64 << stage, 2 if stage and not place else 1))
                channels = 256 << stage
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, 1000)

    def forward(self, x: Any) -> Any:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.stem(x))), 3, 2, 1)
        return torch.softmax(self.head(self.blocks(x).mean((2, 3))), -1)


class Layer(nn.Module):  # type: ignore[misc]
    """Attention and two dense layers, each normalised after it is added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.norm_a = nn.Linear(width, width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm_b = nn.LayerNorm(width)

    def forward(self, x: Any) -> Any:
        q, k, v = (
            part(x).reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = torch.softmax(q @ k.transpose(2, 3) / (x.shape[2] // self.heads) ** 0.5, -1)
        x = self.norm_a(x + self.out((scores @ v).transpose(1, 2).reshape(x.shape)))
        return self.norm_b(x + self.down(nn.functional.gelu(self.up(x))))


class Bert(nn.Module):  # type: ignore[misc]
    """Token ids (batch, length) to vectors (batch, length, width)."""

    def __init__(self, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Parameter(torch.randn(1, 512, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))

    def forward(self, ids: Any) -> Any:
        return self.layers(self.norm(self.tokens(ids) + self.positions[:, : ids.shape[1]]))


def main(kind: str, exporter: str, size: int, path: str) -> None:
    """The child: export with an open batch."""
    torch.manual_seed(0)
    if kind == "resnet50":
        module, x = ResNet50(), torch.randn(2, 3, size, size)
    else:
        layers = int(kind.removeprefix("bert"))
        module, x = Bert(layers, 768, 12), torch.randint(0, VOCABULARY, (2, size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            axes = ({0: torch.export.Dim("batch", min=1, max=64)},)
            torch.onnx.export(
                module.eval(),
                (x,),
                path,
                dynamo=True,
                dynamic_shapes=axes,
                input_names=["x"],
                external_data=False,
            )
        else:
            torch.onnx.export(
                module.eval(),
                (x,),
                path,
                dynamo=False,
                opset_version=13,
                input_names=["x"],
                dynamic_axes={"x": {0: "batch"}},
            )
    measure.report(done=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
