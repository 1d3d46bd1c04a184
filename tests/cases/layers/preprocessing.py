"""Preprocessing of numbers, categories, strings, sound and images, as it is at inference."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases.layers import LayerCase, words, x
from keras import layers

IMAGE, FIRST = (x("b", "h", "w", 3, low=0, high=255),), (x("b", 3, "h", "w", low=0, high=255),)
UNIT = (x("b", "h", "w", 3, low=0, high=1),)
SINGLE = (x("h", "w", 3, low=0, high=255),)
IDS = (x("b", "t", dtype="int32", low=0, high=5),)
TALL = {"h": "t", "w": "n"}
VOCABULARY = ("red", "green", "blue", "Größe", "日本")
COLOURS = (words("b", "t", of=(*VOCABULARY, "pink", "", "[UNK]")),)
SENTENCES = (
    "The cat, the dog!",
    "a  dog\tsat on 'the' mat",
    "cat",
    "",
    " -- ",
    "Zebra? no: (CAT) dog.",
    "mat mat mat on the cat's dog #1 ~ yes",
)
TEXT = (words("b", of=SENTENCES),)
TOKENS = ("the", "cat", "dog", "sat", "on", "mat")


def _different(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape)


def _adapted(cls: Any, data: Any, **options: Any) -> Any:
    def build() -> Any:
        layer = cls(**options)
        layer.adapt(data)
        return layer

    return build


def _row(name: str, variant: str = "", inputs: Any = IMAGE, row: Any = None, **options: Any) -> LayerCase:
    """A layer with its own options; ``row`` holds options of the row."""
    cls = getattr(layers, name)
    return LayerCase(name, lambda: cls(**options), inputs, variant, **(row or {}))


def _of_any_length(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Integers of 1 to 20 characters, the sign included."""
    edges = [0, -1, 2**63 - 1, -(2**63), 10**18, 10**15, -(10**15), 99, 100, 12345678, 1234567, -1234567]
    drawn = (10.0 ** rng.uniform(0, 18.9, shape)).astype("int64") * rng.choice([-1, 1], shape)
    drawn.ravel()[: len(edges)] = edges[: drawn.size]
    return drawn


LONG = (x("b", 30, dtype="int64", make=_of_any_length),)
DATA = np.random.default_rng(0).normal(2, 3, (50, 4)).astype("float32")
TABLE = {"random": False}
NO_TORCH = {"backends": ("jax", "tensorflow")}
# PyTorch has no Lanczos interpolation. Its weights have both signs, so that what is left is small.
LANCZOS = NO_TORCH | {"emitters": True}
BINS = [-1.5, -1.2, -0.9, -0.6, -0.3, 0.0, 0.3, 0.5, 0.8, 1.1, 1.4, 1.7]
# Places in a vocabulary, and strings, need no spread over the batch to prove something.
# JAX narrows the places to 32 bits.
TABLES = {"direct": True, "varies": False, "dtypes": ("int64",)}
# Keras declares floats for encoded tokens, but its eager layers give the integers of their tables.
FLOATS = {"dtypes": ("float32",)}
# Each character that goes is a Scan over the parts between.
SPLITS = TABLES | {"holds": ("StringSplit", "Scan"), "lacks": ("Loop", "If")}
IMAGES_AT_REST = [
    ("AugMix", {}),
    ("CutMix", {}),
    ("MixUp", {}),
    ("RandAugment", {}),
    ("RandomBrightness", {"factor": 0.5}),
    ("RandomColorDegeneration", {"factor": 0.5}),
    ("RandomColorJitter", {"brightness_factor": 0.5, "hue_factor": 0.2}),
    ("RandomContrast", {"factor": 0.5}),
    ("RandomElasticTransform", {"factor": 0.5}),
    ("RandomErasing", {"factor": 0.5}),
    ("RandomFlip", {}),
    ("RandomGaussianBlur", {"factor": 0.5}),
    ("RandomGrayscale", {"factor": 0.5}),
    ("RandomHue", {"factor": 0.5}),
    ("RandomInvert", {"factor": 0.5}),
    ("RandomPerspective", {"factor": 0.5}),
    ("RandomPosterization", {"factor": 4}),
    ("RandomRotation", {"factor": 0.2}),
    ("RandomSaturation", {"factor": 0.5}),
    ("RandomSharpness", {"factor": 0.5}),
    ("RandomShear", {"x_factor": 0.3, "y_factor": 0.2}),
    ("RandomTranslation", {"height_factor": 0.2, "width_factor": 0.2}),
    ("RandomZoom", {"height_factor": 0.2}),
    ("Solarization", {}),
]

CASES = [
    LayerCase("Normalization", _adapted(layers.Normalization, DATA), (x("b", 4),), **TABLE),
    LayerCase("Normalization", _adapted(layers.Normalization, DATA, axis=None), variant="scalar", **TABLE),
    LayerCase("Normalization", _adapted(layers.Normalization, DATA), variant="time", **TABLE),
    LayerCase("Normalization", _adapted(layers.Normalization, DATA, invert=True), variant="invert", **TABLE),
    _row("Normalization", "given", (x("b", "t", 3),), mean=[1.0, 2.0, 3.0], variance=[2.0, 0.0, 4.0]),
    _row("Rescaling", scale=1 / 255, offset=-0.5),
    _row("Rescaling", "per_channel", scale=[0.1, 0.2, 0.3], offset=[1.0, 2.0, 3.0]),
    _row(
        "Rescaling", "integers", (x("b", "t", 3, dtype="int32", low=0, high=255),), scale=1 / 127.5, offset=-1
    ),
    _row("Discretization", "", (x("b", "t"),), {"varies": False}, bin_boundaries=[-1.0, 0.0, 0.5]),
    LayerCase("Discretization", _adapted(layers.Discretization, DATA, num_bins=4), (x("b", 4),), "adapted"),
    *[
        _row("Discretization", mode, (x("b", "t"),), bin_boundaries=BINS, output_mode=mode)
        for mode in ("one_hot", "multi_hot", "count")
    ],
    _row("CategoryEncoding", "multi_hot", IDS, num_tokens=6),
    _row("CategoryEncoding", "one_hot", IDS, num_tokens=6, output_mode="one_hot"),
    _row("CategoryEncoding", "count", IDS, num_tokens=6, output_mode="count"),
    _row(
        "CategoryEncoding",
        "one_hot_column",
        (x("b", 1, dtype="int32", make=_different),),
        num_tokens=6,
        output_mode="one_hot",
    ),
    _row(
        "CategoryEncoding",
        "one_hot_vector",
        (x("b", dtype="int32", make=_different),),
        num_tokens=6,
        output_mode="one_hot",
    ),
    _row(
        "CategoryEncoding",
        "count_weights",
        (*IDS, x("b", "t")),
        {"call": lambda layer, ids, weights: layer(ids, count_weights=weights)},
        num_tokens=6,
        output_mode="count",
    ),
    *[
        _row(
            "IntegerLookup",
            name,
            (x("b", "t", dtype="int64", low=0, high=40),),
            TABLES | TABLE | (FLOATS if "output_mode" in options else {}),
            vocabulary=[12, 36, 7, 21, 3],
            **options,
        )
        for name, options in {
            "": {},
            "two_oov": {"num_oov_indices": 3},
            "one_hot": {"output_mode": "one_hot"},
            "multi_hot": {"output_mode": "multi_hot"},
            "count": {"output_mode": "count", "max_tokens": 9, "pad_to_max_tokens": True},
            "tf_idf": {"output_mode": "tf_idf", "idf_weights": [0.5, 1.0, 1.5, 2.0, 0.7]},
        }.items()
    ],
    _row(
        "IntegerLookup",
        "mask",
        (x("b", "t", dtype="int64", low=0, high=40),),
        TABLES,
        vocabulary=[12, 36, 7, 21],
        mask_token=0,
    ),
    _row(
        "IntegerLookup",
        "invert",
        (x("b", "t", dtype="int64", low=0, high=7),),
        TABLES,
        vocabulary=[12, 36, 7, 21],
        invert=True,
    ),
    _row(
        "IntegerLookup",
        "int32",
        (x("b", "t", dtype="int32", low=0, high=40),),
        TABLES,
        vocabulary=[12, 36, 7, 21],
    ),
    _row("StringLookup", "", COLOURS, TABLES, vocabulary=list(VOCABULARY)),
    _row("StringLookup", "mask", COLOURS, TABLES, vocabulary=list(VOCABULARY), mask_token=""),
    *[
        _row("StringLookup", mode, COLOURS, TABLES | FLOATS, vocabulary=list(VOCABULARY), output_mode=mode)
        for mode in ("one_hot", "multi_hot", "count")
    ],
    _row(
        "StringLookup",
        "tf_idf",
        COLOURS,
        TABLES | FLOATS,
        vocabulary=list(VOCABULARY),
        output_mode="tf_idf",
        idf_weights=[0.5, 1.0, 1.5, 2.0, 0.7],
    ),
    _row(
        "StringLookup",
        "invert",
        (x("b", "t", dtype="int64", low=0, high=7),),
        # Only TensorFlow's eager layer can return strings.
        {**TABLES, "dtypes": ("object",), "backends": ("tensorflow",)},
        vocabulary=list(VOCABULARY),
        invert=True,
    ),
    LayerCase(
        "StringLookup", _adapted(layers.StringLookup, ["red", "red", "blue"]), COLOURS, "adapted", **TABLES
    ),
    *[
        _row("TextVectorization", name, TEXT, SPLITS | row, vocabulary=list(TOKENS), **options)
        for name, row, options in (
            ("", {}, {}),
            ("length", {}, {"output_sequence_length": 5}),
            ("lower", {}, {"standardize": "lower"}),
            ("as_is", {}, {"standardize": None}),
            ("multi_hot", FLOATS, {"output_mode": "multi_hot"}),
            ("count", FLOATS, {"output_mode": "count"}),
            ("tf_idf", FLOATS, {"output_mode": "tf_idf", "idf_weights": [0.5, 1.0, 1.5, 2.0, 0.7, 0.2]}),
        )
    ],
    _row(
        "TextVectorization",
        "no_split",
        TEXT,
        TABLES,
        vocabulary=["cat", " -- "],
        split=None,
        standardize="lower",
    ),
    _row("TextVectorization", "ngrams", TEXT, SPLITS, vocabulary=["the cat", "cat", "mat mat"], ngrams=2),
    _row(
        "TextVectorization",
        "only_bigrams",
        TEXT,
        SPLITS | FLOATS,
        vocabulary=["the cat", "the dog", "mat mat"],
        ngrams=(2,),
        output_mode="count",
    ),
    LayerCase(
        "TextVectorization", _adapted(layers.TextVectorization, list(SENTENCES)), TEXT, "adapted", **SPLITS
    ),
    _row("TextVectorization", "column", (words("b", 1, of=SENTENCES),), SPLITS, vocabulary=list(TOKENS)),
    *[
        _row(
            "TextVectorization",
            f"characters{name}",
            TEXT,
            SPLITS | {"holds": ("Tokenizer",)} | row,
            vocabulary=letters,
            split="character",
            **options,
        )
        for name, row, letters, options in (
            ("", {}, list("acdgehot "), {}),
            ("_as_is", {}, list("acTZ?\t'-"), {"standardize": None, "output_sequence_length": 6}),
            ("_bigrams", FLOATS, ["c a", "a t"], {"ngrams": 2, "output_mode": "count"}),
        )
    ],
    *[
        _row("Hashing", name, inputs, TABLES | TABLE | row, **options)
        for name, inputs, row, options in (
            ("", LONG, {}, {"num_bins": 1000003}),
            ("mask", IDS, {}, {"num_bins": 7, "mask_value": 2}),
            ("few", IDS, {}, {"num_bins": 1}),
            ("floats", (x("b", 4, low=-50, high=50),), {}, {"num_bins": 11}),
            ("count", IDS, FLOATS, {"num_bins": 5, "output_mode": "count"}),
            (
                "one_hot",
                (x("b", 1, dtype="int64", low=0, high=99),),
                FLOATS,
                {"num_bins": 5, "output_mode": "one_hot"},
            ),
        )
    ],
    _row(
        "IntegerLookup",
        "farmhash",
        LONG,
        TABLES | TABLE,
        vocabulary=[0, 99, 7],
        num_oov_indices=5,
        oov_method="farmhash",
    ),
    _row("STFTSpectrogram", "", (x("b", 40, 1),), frame_length=8, frame_step=4, fft_length=8),
    *[
        _row("STFTSpectrogram", mode, (x("b", 40, 2),), mode=mode, frame_length=8, fft_length=8)
        for mode in ("magnitude", "psd", "real", "imag", "stft")
    ],
    # The sign of a nearly zero imaginary part decides between pi and -pi: the weights are drawn instead.
    _row("STFTSpectrogram", "angle", (x("b", 40, 2),), mode="angle", frame_length=8, fft_length=8),
    _row("STFTSpectrogram", "dynamic", (x("b", "w", 1),), frame_length=8, padding="same", expand_dims=True),
    _row(
        "STFTSpectrogram",
        "channels_first",
        (x("b", 2, 40),),
        {"backends": ("jax", "torch")},  # TensorFlow convolves channels last on a CPU
        frame_length=8,
        data_format="channels_first",
    ),
    _row(
        "MelSpectrogram",
        "",
        (x("b", 60),),
        fft_length=16,
        sequence_stride=8,
        sampling_rate=800,
        num_mel_bins=4,
    ),
    _row("Resizing", "", height=7, width=9),
    *[
        _row("Resizing", mode, row=row, height=7, width=20, interpolation=mode)
        for mode, row in (("nearest", {}), ("bicubic", {}), ("lanczos3", LANCZOS), ("lanczos5", LANCZOS))
    ],
    _row("Resizing", "antialias", height=5, width=6, antialias=True),
    _row("Resizing", "channels_first", FIRST, height=7, width=20, data_format="channels_first"),
    _row("Resizing", "single", SINGLE, height=7, width=9),
    _row("Resizing", "crop", height=7, width=4, crop_to_aspect_ratio=True),
    _row("Resizing", "pad", height=7, width=4, pad_to_aspect_ratio=True, fill_value=3.0),
    _row("Resizing", "crop_fixed", (x("b", 9, 12, 3),), height=7, width=4, crop_to_aspect_ratio=True),
    _row("CenterCrop", "", height=7, width=4),
    _row("CenterCrop", "single", SINGLE, height=7, width=4),
    _row("CenterCrop", "channels_first", FIRST, height=7, width=4, data_format="channels_first"),
    _row("CenterCrop", "small", (x("b", 5, 9, 3),), height=7, width=4),
    _row("RandomCrop", "", (x("b", 9, 12, 3),), height=7, width=4),
    # Its compute_output_spec returns its input, which no Functional model can have.
    LayerCase("Equalization", layers.Equalization, IMAGE, model=True),
    LayerCase(
        "MaxNumBoundingBoxes", lambda: layers.MaxNumBoundingBoxes(4, bounding_box_format="xyxy"), IMAGE
    ),
    _row("AutoContrast"),
    _row("AutoContrast", "unit", UNIT, value_range=(0, 1)),
    # On PyTorch Keras counts in integers and so cuts what it redistributes.
    _row(
        "ContrastLimitedAdaptiveHistogramEqualization",
        "",
        (x("b", 16, 16, 3, low=0, high=255),),
        {"backends": ("jax", "tensorflow")},
    ),
    _row(
        "Pipeline", "", IMAGE, layers=[layers.Rescaling(1 / 255), layers.RandomFlip(), layers.Resizing(6, 5)]
    ),
    *[
        LayerCase(name, lambda name=name, options=options: getattr(layers, name)(**options), IMAGE)
        for name, options in IMAGES_AT_REST
    ],
]
