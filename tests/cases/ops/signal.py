"""Fourier transforms, of powers of two and of other lengths, known or not."""

from __future__ import annotations

import numpy as np
from cases.ops import OpCase, x
from keras import ops

_PAIR = (x("b", "t"), x("b", "t"))
_WINDOW = np.linspace(0.5, 1.0, 8, dtype="float32")


def _stft(**options: object) -> object:
    return lambda a: ops.stft(a, **{"sequence_length": 8, "sequence_stride": 4, "fft_length": 8, **options})


def _istft(**options: object) -> object:
    settings = {"sequence_length": 8, "sequence_stride": 4, "fft_length": 8, **options}
    return lambda real, imag: ops.istft((real, imag), **settings)


# jax.scipy.signal.istft loses samples where many frames overlap.
_NOT_JAX = ("tensorflow", "torch")
_SPECTRA = (x("b", "t", 5), x("b", "t", 5))

CASES = [
    OpCase("fft", lambda a, b: ops.fft((a, b)), _PAIR, holds=("DFT",)),
    OpCase("fft", lambda a, b: ops.fft((a, b)), _PAIR, "opset 17", opset=17),
    OpCase("fft", lambda a, b: ops.fft((a, b)), _PAIR, "opset 18", opset=18),
    OpCase("fft", lambda a, b: ops.fft((a, b)), (x("b", 3, 8), x("b", 3, 8)), "power of two"),
    OpCase("fft", lambda a, b: ops.fft((a, b)), (x("t"), x("t")), "vector"),
    OpCase("fft", lambda a, b: ops.fft((a, b)), (x(2, 1000), x(2, 1000)), "long", atol=1e-4),  # sums of 1000
    OpCase("fft2", lambda a, b: ops.fft2((a, b)), (x("b", "t", "n"), x("b", "t", "n"))),
    OpCase("fft2", lambda a, b: ops.fft2((a, b)), (x(8, 4), x(8, 4)), "one image"),
    OpCase("ifft2", lambda a, b: ops.ifft2((a, b)), (x("b", "t", 6), x("b", "t", 6))),
    OpCase("rfft", ops.rfft, (x("b", "t"),)),
    OpCase("rfft", ops.rfft, (x("b", "t"),), "opset 17", opset=17),
    OpCase("rfft", ops.rfft, (x("t"),), "vector"),
    OpCase("rfft", lambda a: ops.rfft(a, fft_length=8), (x("b", "t"),), "cropped or filled"),
    OpCase("rfft", lambda a: ops.rfft(a, fft_length=5), (x("b", 9),), "cropped"),
    OpCase("rfft", lambda a: ops.rfft(a, fft_length=16), (x("b", 9),), "filled"),
    OpCase("irfft", lambda a, b: ops.irfft((a, b)), _PAIR),
    OpCase("irfft", lambda a, b: ops.irfft((a, b)), (x(3, 5), x(3, 5)), "power of two"),
    OpCase("irfft", lambda a, b: ops.irfft((a, b), fft_length=9), (x("b", 5), x("b", 5)), "odd"),
    OpCase("irfft", lambda a, b: ops.irfft((a, b), fft_length=12), _PAIR, "cropped or filled"),
    OpCase("stft", _stft(), (x("b", "h"),), holds=("STFT",)),
    OpCase("stft", _stft(center=False), (x("b", "h"),), "not centred"),
    OpCase("stft", _stft(window="hamming", sequence_stride=3), (x("b", 2, "h"),), "hamming"),
    OpCase("stft", _stft(sequence_length=6, fft_length=10), (x("h"),), "vector"),
    OpCase("stft", _stft(window=_WINDOW, fft_length=12), (x("b", "h"),), "own window"),
    OpCase("stft", _stft(window=None, sequence_length=6), (x("b", "h"),), "no window"),
    OpCase("stft", lambda a: ops.stft(a, 400, 160, 400), (x("b", 1000),), "long", atol=1e-4),  # sums of 400
    OpCase("istft", _istft(), _SPECTRA),
    OpCase("istft", _istft(length=16), _SPECTRA, "length"),
    OpCase("istft", _istft(window="hamming", center=False), _SPECTRA, "not centred"),
    OpCase("istft", _istft(window="hamming", sequence_length=6), _SPECTRA, "short window"),
    OpCase("istft", _istft(window="hamming", sequence_stride=3), _SPECTRA, "uneven stride"),
    OpCase(
        "istft",
        _istft(window="hamming", sequence_stride=2),
        (x("b", 2, "t", 5), x("b", 2, "t", 5)),
        "four axes",
    ),
    OpCase("istft", _istft(window=_WINDOW, sequence_stride=2), _SPECTRA, "own window"),
    OpCase("istft", _istft(window=None), _SPECTRA, "no window"),
    OpCase("istft", _istft(window=_WINDOW, sequence_stride=1), _SPECTRA, "stride 1", backends=_NOT_JAX),
    OpCase(
        "istft",
        lambda a, b: ops.istft((a, b), 20, 2, 20, window="hamming"),
        (x("b", "t", 11), x("b", "t", 11)),
        "many overlaps",
        holds=("ConvTranspose",),
        backends=_NOT_JAX,
    ),
]
