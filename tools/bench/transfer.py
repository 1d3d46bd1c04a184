"""How long the alignment of transformers takes, by the number of layers, and in how much memory.

``python tools/bench/transfer.py 6 12 24 --width 64`` prints a line a size; 24 layers of ``--width 1024`` are 300 M
parameters. Both models are Keras models; capture is timed apart from what transfer adds.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any


def network(layers: int, width: int) -> Any:
    """An encoder of blocks that are all alike."""
    import keras

    x = inputs = keras.Input((8, width))
    for _ in range(layers):
        attention = keras.layers.MultiHeadAttention(max(width // 64, 1), min(width, 64))
        x = keras.layers.LayerNormalization()(x + attention(x, x))
        hidden = keras.layers.Dense(4 * width, "gelu")(x)
        x = keras.layers.LayerNormalization()(x + keras.layers.Dense(width)(hidden))
    return keras.Model(inputs, x)


def main() -> None:
    """Measure each number of layers in turn."""
    from interop.transfer.matching import matched
    from interop.transfer.proof import prove

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layers", type=int, nargs="+")
    parser.add_argument("--width", type=int, default=64)
    given = parser.parse_args()
    for layers in given.layers:
        source, target = network(layers, given.width), network(layers, given.width)
        weights = source.count_params() * 4
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        started = time.perf_counter()
        found = matched(source, target)
        aligned = time.perf_counter() - started
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        proof = prove(found)
        proven = time.perf_counter() - started - aligned
        print(
            f"{layers} layers, {weights / 4e6:.1f} M parameters: capture and alignment {aligned:.2f} s, "
            f"{grown / weights:.2f} x the weights in memory; proof {proven:.2f} s, error {proof.error:.1e}"
        )


if __name__ == "__main__":
    main()
