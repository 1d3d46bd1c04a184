"""Networks of random layers are exported, imported and saved: only what is equal, or an error of this toolkit, may come
out of it.

    python -m tools.fuzz.networks --seeds 0:200             # on the backend that KERAS_BACKEND names
    python -m tools.fuzz.networks --seeds 37 --show         # the layers of one network, and the whole report

Each seed is one network of images, sequences, volumes or tokens, with open sizes or fixed ones, and with weights that
make outputs vary. What a row of a table tests alone, meets its neighbours here. Prints a line for each failure and the
counts; exit code 1 if there was one. A network that Keras itself does not build is left out.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

import interop
from interop.errors import InteropError, ParityError
from models.randomize import randomize

Maker = Callable[[random.Random, Any], Any]

_ACTIVATIONS = [
    name
    for name, function in sorted(vars(keras.activations).items())
    if callable(function)
    and name not in ("get", "serialize", "deserialize", "threshold", "glu", "exponential")
]
"""Those that need no arguments, keep the number of channels and do not explode."""


def _activation(r: random.Random) -> str:
    return str(r.choice(_ACTIVATIONS))


def _padding(r: random.Random) -> str:
    return r.choice(["same", "valid"])


def _flag(r: random.Random) -> bool:
    return r.random() < 0.5


def _of_rank(name: str, x: Any, ending: str = "") -> Any:
    """The layer class for as many axes of places as a tensor has."""
    return getattr(layers, f"{name}{len(x.shape) - 2}D{ending}")


def _groups(r: random.Random, channels: int) -> int:
    return r.choice([n for n in {1, 2, channels} if channels % n == 0])


def _convolution(r: random.Random, x: Any) -> Any:
    strides, groups = r.choice([1, 1, 2]), _groups(r, x.shape[-1])
    return _of_rank("Conv", x)(
        groups * r.randint(1, 4),
        r.randint(1, 4),
        strides=strides,
        dilation_rate=1 if strides > 1 else r.choice([1, 2]),
        groups=groups,
        padding=_padding(r),
        activation=_activation(r),
        use_bias=_flag(r),
    )(x)


def _transposed(r: random.Random, x: Any) -> Any:
    strides = r.choice([1, 2, 3])
    extra = None if strides == 1 or _flag(r) else r.randint(0, strides - 1)
    return _of_rank("Conv", x, "Transpose")(
        r.randint(1, 5), r.randint(1, 4), strides=strides, padding=_padding(r), output_padding=extra
    )(x)


def _depthwise(r: random.Random, x: Any) -> Any:
    name = r.choice(["DepthwiseConv", "SeparableConv"])
    width = {} if name == "DepthwiseConv" else {"filters": r.randint(1, 5)}
    return _of_rank(name, x)(
        kernel_size=r.randint(1, 3),
        strides=r.choice([1, 2]),
        padding=_padding(r),
        depth_multiplier=r.randint(1, 2),
        **width,
    )(x)


def _pool(r: random.Random, x: Any) -> Any:
    name = r.choice(["MaxPooling", "AveragePooling"])
    return _of_rank(name, x)(r.randint(1, 3), strides=r.choice([None, 1, 2]), padding=_padding(r))(x)


def _around(r: random.Random, x: Any) -> Any:
    name, size = r.choice(
        [("ZeroPadding", r.randint(1, 2)), ("Cropping", 1), ("UpSampling", r.randint(2, 3))]
    )
    return _of_rank(name, x)(size)(x)


def _normalised(r: random.Random, x: Any) -> Any:
    groups = _groups(r, x.shape[-1])
    return r.choice(
        [
            layers.BatchNormalization(scale=_flag(r), center=_flag(r)),
            layers.LayerNormalization(),
            layers.RMSNormalization(),
            layers.GroupNormalization(groups),
            layers.UnitNormalization(),
        ]
    )(x)


def _plain(r: random.Random, x: Any) -> Any:
    return r.choice(
        [
            layers.Activation(_activation(r)),
            layers.Dense(r.randint(1, 6), activation=_activation(r)),
            layers.Dropout(0.3),
            layers.GaussianNoise(0.2),
        ]
    )(x)


def _joined(r: random.Random, x: Any) -> Any:
    other = layers.Dense(x.shape[-1], activation=_activation(r))(x)
    return r.choice([layers.Add(), layers.Multiply(), layers.Concatenate(), layers.Maximum()])([x, other])


def _excited(r: random.Random, x: Any) -> Any:
    pooled = _of_rank("GlobalAveragePooling", x)(keepdims=True)(x)
    return x * layers.Dense(x.shape[-1], activation="sigmoid")(pooled)


def _resized(r: random.Random, x: Any) -> Any:
    size = (r.randint(5, 9), r.randint(5, 9))
    return ops.image.resize(x, size, interpolation=r.choice(["nearest", "bilinear", "bicubic"]))


def _computed(r: random.Random, x: Any) -> Any:
    steps: list[Callable[[], Any]] = [
        lambda: ops.where(x > ops.mean(x, axis=-1, keepdims=True), x, -x * 0.5),
        lambda: ops.concatenate([ops.flip(x, axis=1), ops.tanh(x)], axis=-1),
        lambda: ops.cumsum(x, axis=1) * 0.2,
        lambda: x - ops.logsumexp(x, axis=-1, keepdims=True),
        lambda: ops.roll(x, 1, axis=-1) * ops.sort(x, axis=-1),
        lambda: (x - ops.mean(x, 1, keepdims=True)) * ops.rsqrt(ops.var(x, 1, keepdims=True) + 1e-2),
    ]
    return r.choice(steps)()


def _recurrent(r: random.Random, x: Any) -> Any:
    one = r.choice([layers.LSTM, layers.GRU, layers.SimpleRNN])
    if _flag(r):
        merged = r.choice(["concat", "sum", "mul", "ave"])
        return layers.Bidirectional(one(r.randint(2, 4), return_sequences=True), merge_mode=merged)(x)
    if one is layers.GRU and _flag(r):
        return one(r.randint(2, 5), return_sequences=True, reset_after=False, go_backwards=_flag(r))(x)
    return one(r.randint(2, 5), return_sequences=True, go_backwards=_flag(r), use_bias=_flag(r))(x)


def _cells(r: random.Random, x: Any) -> Any:
    return layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)], return_sequences=True)(x)


def _attention(r: random.Random, x: Any) -> Any:
    causal = _flag(r)
    if _flag(r):
        return layers.MultiHeadAttention(r.randint(1, 3), r.randint(2, 4))(x, x, use_causal_mask=causal)
    return r.choice([layers.Attention, layers.AdditiveAttention])()([x, x], use_causal_mask=causal)


def _timed(r: random.Random, x: Any) -> Any:
    return layers.TimeDistributed(layers.Dense(3, activation=_activation(r)))(x)


_ANY = (_plain, _normalised, _joined, _computed)
_PLACES = (_convolution, _transposed, _pool, _around, _excited)
KINDS: dict[str, tuple[Maker, ...]] = {
    "image": (*_ANY, *_PLACES, *_PLACES, _depthwise, _resized),
    "volume": (*_ANY, *_PLACES),
    "sequence": (*_ANY, _convolution, _transposed, _depthwise, _recurrent, _attention, _cells, _timed),
    "tokens": (*_ANY, _recurrent, _attention, _cells, _timed),
}


def network(seed: int) -> Any:
    """The network of a seed."""
    r = random.Random(seed)
    keras.utils.set_random_seed(seed)
    kind, is_open = r.choice(list(KINDS)), _flag(r)
    if kind == "tokens":
        inputs = keras.Input((None,), dtype="int32")
        x = layers.Embedding(20, r.randint(2, 6), mask_zero=_flag(r))(inputs)
    else:
        rank = {"image": 2, "volume": 3, "sequence": 1}[kind]
        x = inputs = keras.Input(
            (*(None if is_open else r.randint(8, 12) for _ in range(rank)), r.randint(1, 4))
        )
        if kind == "sequence" and _flag(r):
            x = layers.Masking()(x)
    for _ in range(r.randint(1, 3 if kind == "volume" else 7)):
        x = r.choice(KINDS[kind])(r, x)
    if kind in ("sequence", "tokens") and _flag(r):
        x = layers.GRU(3)(x)
    sizes = (4, *(size or 16 for size in inputs.shape[1:]))
    rng = np.random.default_rng(seed)
    batch = rng.integers(1, 20, sizes) if kind == "tokens" else rng.standard_normal(sizes).astype("float32")
    return randomize(keras.Model(inputs, x), seed, batch)


def outcome(model: Any, folder: Path, way: int) -> str:
    """What happens to a network: ``equal``, ``vacuous`` or ``refused``.

    Raises:
        ParityError: what was made of it computes something else.
    """
    path = folder / "network.onnx"
    try:
        if way == 0:
            interop.export_onnx(model, path)
            return "equal"
        if way == 1:
            interop.export_onnx(model, path, config=False, verify=False)
            other: Any = interop.import_onnx(path)
        else:
            other = folder / "network.interop"
            interop.save_model(model, other)
            interop.verify(interop.load_model(other), other)
        report = interop.verify(model, other)
    except ParityError:
        raise
    except InteropError:
        return "refused"
    if report.disagrees:
        report.raise_if_failed()
    return "equal" if report.passed else "vacuous"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seeds", default="0:100", help="one seed, or the first and the one after the last")
    parser.add_argument("--show", action="store_true", help="show the layers, and whole reports")
    arguments = parser.parse_args()
    first, _, end = arguments.seeds.partition(":")
    counts: Counter[str] = Counter()
    for seed in range(int(first), int(end or int(first) + 1)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = network(seed)
            except Exception:  # noqa: BLE001  Keras' own: sizes that are used up, say
                counts["not built"] += 1
                continue
            folder = Path(tempfile.mkdtemp(prefix="networks_"))
            try:
                result = outcome(model, folder, seed % 3)
            except Exception as error:  # noqa: BLE001  every one is a finding
                result = "failed"
                text = str(error) if arguments.show else " ".join(str(error).split())[:300]
                print(f"seed {seed}: {type(error).__name__}: {text}", flush=True)
            finally:
                shutil.rmtree(folder)
        counts[result] += 1
        if arguments.show:
            for layer in model.layers:
                print(f"  {type(layer).__name__} {getattr(layer.output, 'shape', '')}")
    print(
        f"{keras.config.backend()}: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    )
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
