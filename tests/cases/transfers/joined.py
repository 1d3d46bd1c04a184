"""What both models put beside each other, but not in the same order."""

from __future__ import annotations

from typing import Any

import keras
from cases.transfers import Pair

L = keras.layers


def joined(nn: Any) -> tuple[Any, Any]:
    """Before a normalisation, a depthwise and a transposed convolution, and one inside another."""
    import torch

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.norm = (
                nn.Conv2d(3, 4, 3, padding=1),
                nn.Conv2d(3, 5, 1),
                nn.BatchNorm2d(9),
            )
            self.depth, self.point = nn.Conv2d(9, 18, 3, groups=9, padding=1), nn.Conv2d(18, 6, 1)
            self.up, self.last, self.head = (
                nn.ConvTranspose2d(15, 4, 2, 2),
                nn.GroupNorm(1, 19),
                nn.Linear(19, 3),
            )

        def forward(self, x: Any) -> Any:
            y = torch.cat([self.two(x), self.one(x)], 1)
            z = self.point(self.depth(torch.relu(self.norm(y))))
            z = torch.cat([y, z], 1)
            z = torch.cat([z, nn.functional.avg_pool2d(self.up(z), 2)], 1)
            return self.head(self.last(z).mean((2, 3)))

    inputs = keras.Input((8, 6, 3))
    y = L.Concatenate()([L.Conv2D(4, 3, padding="same")(inputs), L.Conv2D(5, 1)(inputs)])
    z = L.ReLU()(L.BatchNormalization(epsilon=1e-5)(y))
    z = L.Conv2D(6, 1)(L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(z))
    z = L.Concatenate()([z, y])
    z = L.Concatenate()([L.AveragePooling2D(2)(L.Conv2DTranspose(4, 2, 2)(z)), z])
    z = L.GlobalAveragePooling2D()(L.GroupNormalization(1, epsilon=1e-5)(z))
    return keras.Model(inputs, L.Dense(3)(z)), Net()


PAIRS = [Pair("joined in another order", joined, first=True, quick=True)]
