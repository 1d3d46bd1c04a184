"""Colours, borders and filters of images; the backends differ in some, and a graph follows its own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.convolution import channels_first, restored
from interop.capture.keras.registry import op
from interop.capture.keras.symint import is_symbolic
from interop.graph.record import Value


def _channel_axis(data_format: str, rank: int) -> int:
    return rank - 1 if data_format == "channels_last" else rank - 3


@op("RGBToGrayscale", since=13)
def rgb_to_grayscale(e: Emit, images: Value, *, data_format: str) -> Value:
    """Weights of the three colours; integers are cut off, as Keras does."""
    axis = _channel_axis(data_format, images.rank)
    if images.dims[axis] == 1:
        return images
    x = e.cast(images, compat.result_type(images.dtype, float))
    shape = [3 if i == axis else 1 for i in range(axis, x.rank)]
    weights = e.constant(np.reshape([0.2989, 0.5870, 0.1140], shape), x.dtype)
    return e.reduce("ReduceSum", e.binary("Mul", x, weights), [axis], True)


def _smallest_step(dtype: str) -> float:
    return 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)


def _planes(e: Emit, images: Value, axis: int) -> tuple[Value, ...]:
    shape = tuple(1 if i == axis else dim for i, dim in enumerate(images.dims))
    return e.nodes("Split", images, [1, 1, 1], outputs=[(images.dtype, shape)] * 3, axis=axis)


def _where(e: Emit, condition: Value, a: Value | float, b: Value | float, like: Value) -> Value:
    yes, no = (x if isinstance(x, Value) else e.like(x, like) for x in (a, b))
    return e.node("Where", condition, yes, no, dtype=like.dtype, shape=like.shape)


@op("RGBToHSV", since=13)
def rgb_to_hsv(e: Emit, images: Value, *, data_format: str) -> Value:
    axis = _channel_axis(data_format, images.rank)
    return to_hsv(e, images, axis, as_tensorflow=keras.config.backend() == "tensorflow")


def to_hsv(e: Emit, images: Value, axis: int, *, as_tensorflow: bool) -> Value:
    """Along an axis; only TensorFlow tells colours that are next to nothing apart from black."""
    if not as_tensorflow:
        tiny = e.like(_smallest_step(images.dtype), images)
        small = e.binary("Less", e.unary("Abs", images), tiny, dtype="bool")
        images = _where(e, small, 0.0, images, images)
    red, green, blue = _planes(e, images, axis)
    zero, one, sixth = e.like(0, red), e.like(1, red), e.like(1 / 6, red)
    value = e.node("Max", red, green, blue, shape=red.shape)
    spread = e.binary("Sub", value, e.node("Min", red, green, blue, shape=red.shape))
    coloured = e.binary("Greater", spread, zero, dtype="bool")
    lit = e.binary("Greater", value, zero, dtype="bool")
    saturation = e.binary("Div", spread, _where(e, lit, value, one, red))
    saturation = _where(e, lit, saturation, 0.0, red)
    norm = e.binary("Div", sixth, _where(e, coloured, spread, one, red))

    def hue(a: Value, b: Value, turn: float) -> Value:
        part = e.binary("Mul", norm, e.binary("Sub", a, b))
        return e.binary("Add", part, e.like(turn, red)) if turn else part

    is_green = e.binary("Equal", value, green, dtype="bool")
    angle = _where(e, is_green, hue(blue, red, 1 / 3), hue(red, green, 2 / 3), red)
    is_red = e.binary("Equal", value, red, dtype="bool")
    angle = _where(e, is_red, hue(green, blue, 0.0), angle, red)
    angle = _where(e, coloured, angle, 0.0, red)
    angle = e.binary("Add", angle, e.cast(e.binary("Less", angle, zero, dtype="bool"), red.dtype))
    return e.concat([angle, saturation, value], axis)


@op("HSVToRGB", since=13)
def hsv_to_rgb(e: Emit, images: Value, *, data_format: str) -> Value:
    axis = _channel_axis(data_format, images.rank)
    return from_hsv(e, images, axis, as_tensorflow=keras.config.backend() == "tensorflow")


def from_hsv(e: Emit, images: Value, axis: int, *, as_tensorflow: bool) -> Value:
    """Along an axis; in TensorFlow a hue beyond 1 is not one turn further."""
    hue, saturation, value = _planes(e, images, axis)
    if not as_tensorflow:
        hue = e.binary("Sub", hue, e.unary("Floor", hue))
    sector = e.binary("Mul", hue, e.like(6, hue))
    zero, one = e.like(0, hue), e.like(1, hue)

    def distance(centre: float) -> Value:
        return e.unary("Abs", e.binary("Sub", sector, e.like(centre, hue)))

    ramps = [
        e.binary("Sub", distance(3), one),
        e.binary("Sub", e.like(2, hue), distance(2)),
        e.binary("Sub", e.like(2, hue), distance(4)),
    ]
    grey = e.binary("Sub", one, saturation)
    colours = []
    for ramp in ramps:
        strength = e.node("Clip", ramp, zero, one, shape=hue.shape)
        mixed = e.binary("Add", grey, e.binary("Mul", saturation, strength))
        colours.append(e.binary("Mul", value, mixed))
    return e.concat(colours, axis)


def _borders(operation: Any, shape: Any, sign: int, word: str) -> list[tuple[Any, Any, Any]]:
    """(before, after, resulting size) of height and width; ``sign`` is 1 to pad, -1 to crop."""
    first = len(shape) - (3 if operation.data_format == "channels_last" else 2)
    found = []
    for size, start, end, side in (
        (shape[first], "top", "bottom", "height"),
        (shape[first + 1], "left", "right", "width"),
    ):
        before, after = getattr(operation, f"{start}_{word}"), getattr(operation, f"{end}_{word}")
        target = getattr(operation, f"target_{side}")
        if (before, after, target).count(None) != 1:
            raise ValueError(f"exactly two of {start}_{word}, {end}_{word} and target_{side} must be given")
        if target is None:
            target = size + sign * (before + after)
        elif before is None:
            before = sign * (target - size) - after
        else:
            after = sign * (target - size) - before
        for width in (before, after, target):
            if not is_symbolic(width) and width < 0:
                raise ValueError(f"{word} {(before, after)} does not fit a {side} of {size}")
        found.append((before, after, target))
    return found


def _bordered_spec(operation: Any, images: Any, sign: int, word: str) -> Any:
    shape = list(images.shape)
    first = len(shape) - (3 if operation.data_format == "channels_last" else 2)
    shape[first : first + 2] = [target for _, _, target in _borders(operation, shape, sign, word)]
    return compat.tensor_spec(shape, images.dtype)


def _pad_spec(operation: Any, images: Any) -> Any:
    return _bordered_spec(operation, images, 1, "padding")


def _crop_spec(operation: Any, images: Any) -> Any:
    return _bordered_spec(operation, images, -1, "cropping")


def _sides(
    e: Emit, images: Value, sign: int, given: tuple[Any, Any, Any, Any], data_format: str
) -> tuple[list[int], list[Any], list[Any]]:
    """(axes, before, after) of height and width from what was given of top, bottom, left and right."""
    first = images.rank - (3 if data_format == "channels_last" else 2)
    befores, afters = [], []
    for axis, (before, after) in zip((first, first + 1), (given[:2], given[2:]), strict=True):
        total = sign * (e.spec.shape[axis] - images.dims[axis])
        befores.append(total - after if before is None else before)
        afters.append(total - befores[-1])
    return [first, first + 1], befores, afters


@op("PadImages", since=13, spec=_pad_spec)
def pad_images(
    e: Emit,
    images: Value,
    *,
    top_padding: Any,
    bottom_padding: Any,
    left_padding: Any,
    right_padding: Any,
    data_format: str,
) -> Value:
    given = (top_padding, bottom_padding, left_padding, right_padding)
    axes, befores, afters = _sides(e, images, 1, given, data_format)
    before, after = [0] * images.rank, [0] * images.rank
    before[axes[0] : axes[0] + 2], after[axes[0] : axes[0] + 2] = befores, afters
    return e.node("Pad", images, e.sizes(before + after), shape=tuple(e.spec.shape))


@op("CropImages", since=13, spec=_crop_spec)
def crop_images(
    e: Emit,
    images: Value,
    *,
    top_cropping: Any,
    bottom_cropping: Any,
    left_cropping: Any,
    right_cropping: Any,
    data_format: str,
) -> Value:
    given = (top_cropping, bottom_cropping, left_cropping, right_cropping)
    axes, befores, _ = _sides(e, images, -1, given, data_format)
    ends = [before + e.spec.shape[axis] for before, axis in zip(befores, axes, strict=True)]
    return e.node("Slice", images, e.sizes(befores), e.sizes(ends), axes, shape=tuple(e.spec.shape))


def one_kernel(e: Emit, x: Value, kernel: np.ndarray[Any, Any], pads: list[int]) -> Value:
    """One kernel over every channel of a channels-first operand."""
    channels = int(x.dims[1])
    height, width = kernel.shape
    sizes = [
        size + sum(pads[i::2]) - k + 1
        for i, (size, k) in enumerate(zip(x.dims[2:], kernel.shape, strict=True))
    ]
    return e.node(
        "Conv",
        x,
        e.constant(np.tile(kernel, (channels, 1, 1, 1)), x.dtype),
        shape=(*x.dims[:2], *sizes),
        kernel_shape=[height, width],
        group=channels,
        pads=pads if any(pads) else None,
    )


def gaussian(size: int, sigma: float) -> np.ndarray[Any, Any]:
    """A bell of ``size`` cells whose sum is 1."""
    x = np.arange(size) - (size - 1) / 2
    bell = np.exp(-0.5 * (x / sigma) ** 2)
    return np.asarray(bell / bell.sum())


def _blur_window(kernel_size: Any) -> tuple[tuple[int, int], list[int]]:
    """Shape of the kernel, and (top, left, bottom, right).

    jax makes kernels of (width, height); torch pads every side by half of the first size, where the
    others keep the shape of the images.
    """
    first, second = int(kernel_size[0]), int(kernel_size[1])
    shape = (second, first) if keras.config.backend() == "jax" else (first, second)
    if keras.config.backend() == "torch":
        return shape, [first // 2] * 4
    return shape, [(k - 1) // 2 for k in shape] + [k // 2 for k in shape]


def _blur_spec(operation: Any, images: Any) -> Any:
    shape = list(images.shape)
    first = len(shape) - (3 if operation.data_format == "channels_last" else 2)
    kernel, pads = _blur_window(operation.kernel_size)
    for i in range(2):
        shape[first + i] = shape[first + i] + (pads[i] + pads[i + 2] - kernel[i] + 1)
    return compat.tensor_spec(shape, images.dtype)


@op("GaussianBlur", since=11, spec=_blur_spec)
def gaussian_blur(e: Emit, images: Value, *, kernel_size: Any, sigma: Any, data_format: str) -> Value:
    bells = [gaussian(int(size), float(s)) for size, s in zip(kernel_size, sigma, strict=True)]
    shape, pads = _blur_window(kernel_size)
    kernel = np.outer(bells[1], bells[0]).reshape(shape)
    x = images if images.rank == 4 else e.unsqueeze(images, [0])
    blurred = restored(e, one_kernel(e, channels_first(e, x, data_format), kernel, pads), data_format)
    return blurred if images.rank == 4 else e.squeeze(blurred, [0])


@op("SobelEdges", since=13)
def sobel_edges(e: Emit, images: Value, *, data_format: str) -> Value:
    """Differences along height and width, on a new last axis."""
    x = channels_first(e, images, data_format)
    pads = [1, 1, 1, 1]
    if keras.config.backend() == "tensorflow":
        shape = (*x.dims[:2], x.dims[2] + 2, x.dims[3] + 2)
        x = e.node("Pad", x, [0, 0, 1, 1, 0, 0, 1, 1], shape=shape, mode="reflect")
        pads = [0, 0, 0, 0]
    down = np.asarray([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    edges = [restored(e, one_kernel(e, x, kernel, pads), data_format) for kernel in (down, down.T)]
    return e.concat([e.unsqueeze(edge, [4]) for edge in edges], 4)


@op("SSIM", since=13)
def ssim(
    e: Emit,
    image1: Any,
    image2: Any,
    *,
    max_val: float,
    filter_size: int,
    filter_sigma: float,
    k1: float,
    k2: float,
    data_format: str,
) -> Value:
    """Mean over windows of the similarity of means, variances and covariance."""
    dtype = compat.result_type(e.spec.dtype, float)
    pair = [e.tensor(image, dtype) for image in (image1, image2)]
    batched = pair[0].rank == 4
    pair = [image if batched else e.unsqueeze(image, [0]) for image in pair]
    a, b = (channels_first(e, image, data_format) for image in pair)
    products = [a, b, e.binary("Mul", a, a), e.binary("Mul", b, b), e.binary("Mul", a, b)]
    bell = gaussian(filter_size, filter_sigma)
    means = one_kernel(e, e.concat(products, 1), np.outer(bell, bell), [0, 0, 0, 0])
    channels = int(a.dims[1])
    shape = (means.dims[0], channels, *means.dims[2:])
    mean1, mean2, square1, square2, both = e.nodes(
        "Split", means, [channels] * 5, outputs=[(dtype, shape)] * 5, axis=1
    )
    power1, power2 = e.binary("Mul", mean1, mean1), e.binary("Mul", mean2, mean2)
    cross, powers = e.binary("Mul", mean1, mean2), e.binary("Add", power1, power2)
    variances = e.binary("Sub", e.binary("Add", square1, square2), powers)
    covariance = e.binary("Sub", both, cross)
    c1, c2 = e.like((k1 * max_val) ** 2, a), e.like((k2 * max_val) ** 2, a)

    def twice(x: Value, c: Value) -> Value:
        return e.binary("Add", e.binary("Mul", x, e.like(2, x)), c)

    top = e.binary("Mul", twice(cross, c1), twice(covariance, c2))
    bottom = e.binary("Mul", e.binary("Add", powers, c1), e.binary("Add", variances, c2))
    return e.reduce("ReduceMean", e.binary("Div", top, bottom), [1, 2, 3] if batched else None)
