"""``tf.image``: channels last, samples at the centres of pixels."""

from __future__ import annotations

from typing import Any

from interop.capture.keras.emit import Emit
from interop.capture.tf_forms.registry import Operation, form, keras_form, known
from interop.errors import UnsupportedOp
from interop.graph.record import Value


@form("RGBToHSV")
def _rgb_to_hsv(e: Emit, node: Operation, images: Value) -> Value:
    from interop.capture.keras.ops.image import to_hsv

    return to_hsv(e, images, images.rank - 1, as_tensorflow=True)


@form("HSVToRGB")
def _hsv_to_rgb(e: Emit, node: Operation, images: Value) -> Value:
    from interop.capture.keras.ops.image import from_hsv

    return from_hsv(e, images, images.rank - 1, as_tensorflow=True)


@form("ScaleAndTranslate")
def _scaled(e: Emit, node: Operation, images: Value, size: Value, scale: Value, translation: Value) -> Any:
    """``tf.image.resize`` with ``antialias``, and by the methods that always take it."""
    kernel = node.get("kernel_type", "lanczos3")
    methods = {"lanczos3": "lanczos3", "lanczos5": "lanczos5", "triangle": "linear", "keyscubic": "cubic"}
    if kernel not in methods:
        raise UnsupportedOp(
            f"tf.image.resize with the kernel {kernel!r} has no ONNX form. Take bilinear, bicubic, lanczos3 or lanczos5"
        )
    height, width = (int(n) for n in known(size, "the size given to tf.image.resize"))
    return keras_form(
        e,
        "ScaleAndTranslate",
        e.cast(images, "float32"),
        (images.dims[0], height, width, images.dims[3]),
        scale,
        translation,
        spatial_dims=(1, 2),
        method=methods[kernel],
        antialias=bool(node.get("antialias", True)),
    )


@form("AdjustSaturation")
def _saturated(e: Emit, node: Operation, images: Value, factor: Value) -> Value:
    from interop.capture.keras.ops.image import from_hsv, to_hsv

    three = [(images.dtype, (*images.dims[:-1], 1))] * 3
    colours = to_hsv(e, images, images.rank - 1, as_tensorflow=True)
    hue, saturation, value = e.nodes("Split", colours, [1, 1, 1], outputs=three, axis=images.rank - 1)
    scaled = e.node("Mul", saturation, e.cast(factor, images.dtype))
    scaled = e.node("Clip", scaled, e.like(0, images), e.like(1, images), shape=hue.shape)
    made = e.concat([hue, scaled, value], images.rank - 1)
    return from_hsv(e, made, images.rank - 1, as_tensorflow=True)


@form("ExtractImagePatches")
def _patches(e: Emit, node: Operation, images: Value) -> Any:
    return keras_form(
        e,
        "ExtractPatches",
        images,
        size=tuple(node.get("ksizes"))[1:3],
        strides=tuple(node.get("strides"))[1:3],
        dilation_rate=tuple(node.get("rates"))[1:3],
        padding=str(node.get("padding")).lower(),
        data_format="channels_last",
    )


@form("ResizeArea", "ResizeBicubic")
def _resized(e: Emit, node: Operation, images: Value, size: Value) -> Value:
    """As ``tf.image.resize`` asks for it: samples at the centres of pixels."""
    from interop.capture.keras.ops import resampling

    area = node.node.op_type == "ResizeArea"
    if node.get("align_corners", False) or not (area or node.get("half_pixel_centers", False)):
        raise UnsupportedOp(f"{node.node.op_type} as in TensorFlow 1 has no ONNX form. Take tf.image.resize")
    do, x = resampling.Terms(e), e.cast(images, "float32")
    for axis, count in enumerate(known(size, "the size given to tf.image.resize").tolist(), 1):
        own = x.dims[axis]
        step = do("Div", do.size(own), do.size(count))
        if area:
            weights = resampling.shares(do, own, count, step)
        else:
            weights = resampling.bicubic_as_tensorflow(do, own, count, step)
        x = resampling.weighted(e, x, axis, do.value(weights, x.dtype), count)
    return x
