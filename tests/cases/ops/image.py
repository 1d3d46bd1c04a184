"""Images: colours, borders, filters, resampling and warps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases.ops import Input, OpCase, x
from keras import ops


def row(name: str, variant: str, inputs: Any, *others: Any, case: Any = None, **options: Any) -> OpCase:
    """``keras.ops.image.<name>`` on traced inputs, constants and keyword options; ``case`` is for the row."""
    function: Callable[..., Any] = getattr(ops.image, name)
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)

    def call(*traced: Any) -> Any:
        return function(*traced, *others, **options)

    return OpCase(name, call, arguments, variant, **(case or {}))


def unit(*shape: int | str) -> Input:
    """Values in [0, 1], with some equal channels."""

    def make(rng: np.random.Generator, dims: tuple[int, ...]) -> Any:
        return np.round(rng.uniform(0, 1, dims), 1)

    return x(*shape, make=make)


def pixels(*shape: int | str) -> Input:
    """Bytes."""
    return x(*shape, dtype="uint8", low=0, high=255)


LAST, FIRST, ONE = unit("b", "h", "w", 3), unit("b", 3, "h", "w"), unit("h", "w", 3)
CF = {"data_format": "channels_first"}
# Eagerly, Keras reads no data_format as channels_first where it blurs on jax and torch.
CL = {"data_format": "channels_last"}

COLOURS = [
    row("rgb_to_grayscale", "", LAST),
    row("rgb_to_grayscale", "first", FIRST, **CF),
    row("rgb_to_grayscale", "one", ONE),
    row("rgb_to_grayscale", "bytes", pixels("b", "h", "w", 3)),
    row("rgb_to_grayscale", "gray", unit("b", "h", "w", 1)),
    row("rgb_to_hsv", "", LAST),
    row("rgb_to_hsv", "first", FIRST, **CF),
    row("rgb_to_hsv", "one", ONE),
    row("hsv_to_rgb", "", LAST),
    row("hsv_to_rgb", "first", FIRST, **CF),
    row("hsv_to_rgb", "wide", x("b", "h", "w", 3, low=-1.0)),
]
BORDERS = [
    row("pad_images", "", LAST, 2, 1, 3, 0),
    row("pad_images", "target", LAST, top_padding=2, left_padding=1, target_height=20, target_width=19),
    row(
        "pad_images",
        "first",
        unit(3, "h", "w"),
        bottom_padding=2,
        right_padding=1,
        target_height=20,
        target_width=19,
        **CF,
    ),
    row("crop_images", "", LAST, 2, 1, 3, 0),
    row("crop_images", "target", LAST, top_cropping=2, left_cropping=1, target_height=8, target_width=7),
    row("crop_images", "end", LAST, bottom_cropping=2, right_cropping=1, target_height=8, target_width=7),
    row("crop_images", "first", unit(3, "h", "w"), 1, 2, 3, 4, **CF),
]
FILTERS = [
    row("gaussian_blur", "", LAST, **CL),
    row("gaussian_blur", "first", FIRST, (5, 5), (2.0, 0.5), **CF),
    row("gaussian_blur", "one", ONE, (7, 7), (1.5, 1.5), **CL),
    row("sobel_edges", "", LAST),
    row("sobel_edges", "first", FIRST, **CF),
    row("ssim", "", (LAST, LAST), filter_size=5),
    row("ssim", "first", (FIRST, FIRST), max_val=2.0, filter_size=4, filter_sigma=1.0, k1=0.02, **CF),
    row("ssim", "one", (unit(13, 12, 3), unit(13, 12, 3)), case={"constant": True}),
    row("extract_patches", "", LAST, 4),
    row("extract_patches", "overlapping", LAST, (3, 2), strides=(2, 1), dilation_rate=1),
    row("extract_patches", "same", LAST, (3, 4), strides=(2, 3), padding="same"),
    row("extract_patches", "dilated", LAST, 3, strides=1, dilation_rate=2),
    row("extract_patches", "first", FIRST, 3, padding="same", case={"backends": ("jax", "torch")}, **CF),
    row("extract_patches", "one", ONE, 3),
    row("extract_patches_3d", "", unit("b", 5, "t", 7, 2), 2),
    row("extract_patches_3d", "same", unit("b", 5, "t", 7, 2), (2, 3, 2), strides=(1, 2, 3), padding="same"),
    row("extract_patches_3d", "one", unit(5, "t", 7, 2), 2, strides=1),
]

# torch has neither lanczos nor area; area is TensorFlow's alone.
NOT_TORCH = {"backends": ("jax", "tensorflow")}
SIZES = {"up": (25, 23), "down": (5, 4), "mixed": (7, 31)}
RESIZE = (
    [
        row("resize", f"{interpolation}_{name}", LAST, size, interpolation=interpolation)
        for interpolation in ("nearest", "bilinear", "bicubic")
        for name, size in SIZES.items()
    ]
    + [
        row(
            "resize",
            f"{interpolation}_{name}_smooth",
            LAST,
            size,
            interpolation=interpolation,
            antialias=True,
            case=case,
        )
        for interpolation, case in (("bilinear", None), ("bicubic", None), ("lanczos3", NOT_TORCH))
        for name, size in SIZES.items()
    ]
    + [
        row("resize", "lanczos3", LAST, (7, 31), interpolation="lanczos3", case=NOT_TORCH),
        row("resize", "lanczos5", LAST, (25, 6), interpolation="lanczos5", case=NOT_TORCH),
        row("resize", "area", LAST, (25, 6), interpolation="area", case={"backends": ("tensorflow",)}),
        row("resize", "static_smooth", unit("b", 13, 9, 3), (5, 20), interpolation="bicubic", antialias=True),
        row("resize", "first", FIRST, (7, 20), **CF),
        row("resize", "first_smooth", FIRST, (7, 20), antialias=True, **CF),
        row("resize", "one", ONE, (7, 20)),
        row("resize", "one_first", unit(3, "h", "w"), (7, 20), interpolation="bicubic", **CF),
        row("resize", "opset17", LAST, (7, 20), case={"opset": 17}),
        # Weights of quarters only: sums are exact, and so is what is a tie.
        row("resize", "bytes", pixels("b", 12, 10, 3), (6, 20)),
        row("resize", "bytes_nearest", pixels("b", "h", "w", 3), (7, 20), interpolation="nearest"),
        row("resize", "bytes_bicubic", pixels("b", 12, 10, 3), (24, 5), interpolation="bicubic"),
        row("resize", "crop", LAST, (7, 11), crop_to_aspect_ratio=True),
        row("resize", "crop_wide", LAST, (5, 20), crop_to_aspect_ratio=True, interpolation="nearest"),
        row("resize", "crop_smooth", LAST, (4, 7), crop_to_aspect_ratio=True, antialias=True),
        row("resize", "crop_static", unit("b", 13, 9, 3), (7, 11), crop_to_aspect_ratio=True),
        row("resize", "pad", LAST, (7, 11), pad_to_aspect_ratio=True, fill_value=0.5),
        row("resize", "pad_tall", LAST, (21, 6), pad_to_aspect_ratio=True),
        row("resize", "pad_smooth", LAST, (4, 7), pad_to_aspect_ratio=True, antialias=True),
        row("resize", "pad_static", unit("b", 13, 9, 3), (7, 11), pad_to_aspect_ratio=True),
        row("resize", "pad_one_first", unit(3, "h", "w"), (7, 11), pad_to_aspect_ratio=True, **CF),
    ]
)
SHIFTED = [
    OpCase(
        "scale_and_translate",
        lambda a, method=method, smooth=smooth: ops.image.scale_and_translate(
            a,
            (ops.shape(a)[0], 9, 14, 3),
            np.float32([0.6, 1.7]),
            np.float32([1.3, -0.8]),
            (1, 2),
            method,
            smooth,
        ),
        (LAST,),
        f"{method}_{smooth}",
    )
    for method in ("linear", "cubic", "lanczos3", "lanczos5")
    for smooth in (True, False)
] + [
    OpCase(
        "scale_and_translate",
        lambda a, s, t: ops.image.scale_and_translate(a, (20, 8), s + 2.5, t, (0, -1), "bilinear"),
        (unit("h", "w"), x(2), x(2)),
        "traced",
    ),
]

MODES = ("constant", "nearest", "wrap", "mirror", "reflect")
# Halves are avoided: backends round them differently where they shift by float errors.
POINTS = x(2, "n", "t", low=-30.0, high=40.0)
MAPPED = [
    row(
        "map_coordinates",
        f"{mode}_{order}",
        (unit("h", "w"), POINTS),
        order,
        fill_mode=mode,
        fill_value=0.3,
        # TensorFlow's own mirror reads beyond the end.
        case={"backends": ("jax", "torch")} if mode == "mirror" else None,
    )
    for mode in MODES
    for order in (0, 1)
] + [
    row("map_coordinates", "3d", (unit("h", "w", 3), x(3, "n", low=-1.0, high=12.0)), 1, fill_mode="nearest"),
    row("map_coordinates", "bytes", (pixels("h", "w"), POINTS), 1, fill_mode="wrap"),
    row(
        "map_coordinates",
        "cells",
        (unit("h", "w"), x(2, "n", "t", dtype="int32", low=-3, high=20)),
        0,
        fill_mode="constant",
        fill_value=7,
        # With whole coordinates, TensorFlow cuts the values of the image to integers.
        case={"backends": ("jax", "torch")},
    ),
]
# No cell of up to 26 x 26 comes to lie within 5e-4 of half way between two: processors round such ties differently.
TURN = np.float32([[0.7874, -0.5126, 2.055, 0.4444, 0.911, -3.2401, 0, 0]])


def turned(images: Any, **options: Any) -> Any:
    """Images under one affine map each: the same for all, and shifted by the row of the batch."""
    batch = ops.shape(images)[0]
    shift = ops.cast(ops.arange(batch), "float32")[:, None] * np.float32([[0, 0, 1.3, 0, 0, 0.7, 0, 0]])
    return ops.image.affine_transform(images, shift + TURN, **options)


WARPED = [
    OpCase(
        "affine_transform",
        lambda a, mode=mode, kind=kind: turned(a, fill_mode=mode, interpolation=kind, fill_value=0.25),
        (LAST,),
        f"{mode}_{kind}",
        # TensorFlow has no mirror.
        backends=("jax", "torch") if mode == "mirror" else ("jax", "tensorflow", "torch"),
    )
    for mode in MODES
    for kind in ("nearest", "bilinear")
] + [
    OpCase("affine_transform", lambda a: turned(a, **CF), (FIRST,), "first"),
    row("affine_transform", "one", (ONE, x(8, make=lambda rng, shape: TURN[0]))),
]

CORNERS = np.float32([[1, 2], [8, 1], [2, 9], [9, 10]])


def corners(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Four corners of a box, each a little off."""
    return CORNERS + rng.uniform(-0.9, 0.9, shape)


# What is drawn cannot be compared, but nothing moves where the noise counts for nothing.
ELASTIC = [
    row("elastic_transform", "still", LAST, alpha=0.0, sigma=1.0),
    row("elastic_transform", "still_first", FIRST, alpha=0.0, sigma=1.5, interpolation="nearest", **CF),
    row(
        "elastic_transform",
        "drawn",
        LAST,
        case={"backends": (), "holds": ("RandomNormalLike",)},
        fill_mode="constant",
    ),
]

PERSPECTIVES = [
    row(
        "perspective_transform",
        kind,
        (LAST, x("b", 4, 2, make=corners), x("b", 4, 2, make=corners)),
        interpolation=kind,
        fill_value=0.25,
    )
    for kind in ("nearest", "bilinear")
] + [
    row("perspective_transform", "first", (FIRST, *[x("b", 4, 2, make=corners)] * 2), **CF),
    row("perspective_transform", "one", (ONE, *[x(4, 2, make=corners)] * 2)),
]

CASES = [*COLOURS, *BORDERS, *FILTERS, *RESIZE, *SHIFTED, *MAPPED, *WARPED, *PERSPECTIVES, *ELASTIC]
