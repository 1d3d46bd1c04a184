"""Conv1D, Conv2D, Conv3D and their depthwise forms, channels last unless the layout is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from interop.capture.keras.symint import floor_divide
from interop.rebuild.lift.bias import Added, added_after, own_bias
from interop.rebuild.lifting import Lifted, NoMatch, Site, channels_last, lift
from interop.rebuild.sizes import Dims


@dataclass(frozen=True)
class _Windows:
    """How a kernel goes over the axes of places; `sides` is what pads each of them, before and behind."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    sides: tuple[tuple[int, int], ...]
    automatic: bool

    @property
    def rank(self) -> int:
        return len(self.size)

    @property
    def reach(self) -> tuple[int, ...]:
        """Places of a window beside its first."""
        return tuple((length - 1) * step for length, step in zip(self.size, self.dilations, strict=True))

    @property
    def same(self) -> bool:
        """Whether it is what Keras calls "same": without strides, every place is a window's middle."""
        middle = tuple((total // 2, total - total // 2) for total in self.reach)
        return self.automatic or (max(self.strides) == 1 and self.sides == middle)

    def count(self, lengths: Iterable[Any]) -> list[Any]:
        """How many fit, for sizes of the axes that may be open."""
        axes = zip(lengths, self.strides, self.reach, self.sides, strict=True)
        return [
            floor_divide(length - 1 if self.same else length + sum(sides) - reach - 1, stride) + 1
            for length, stride, reach, sides in axes
        ]


@lift("Conv")
def conv(site: Site, node: Any) -> Lifted | NoMatch:
    """A convolution of weights; padding that Keras has no word for is a layer of its own."""
    kernel = site.weight(node.inputs[1])
    if kernel is None:
        return NoMatch("the kernel is no float initializer")
    bias = own_bias(site, node)
    if isinstance(bias, NoMatch):
        return bias
    filters, channels, *size = kernel.array().shape
    windows = _windows(site.attributes(node), tuple(size))
    if isinstance(windows, NoMatch):
        return windows
    rank, groups = windows.rank, windows.groups
    after = added_after(site, node, filters, rank + 2) if bias is None else Added((node,), bias, turned=False)
    last = site.layout != "keep"
    # TensorFlow has depthwise kernels for equal strides only.
    depthwise = groups > 1 and channels == 1 and rank < 3 and len(set(windows.strides)) == 1
    layer_class = getattr(keras.layers, f"{'Depthwise' if depthwise else ''}Conv{rank}D")
    outputs = {"depth_multiplier": filters // groups} if depthwise else {"filters": filters, "groups": groups}
    options = {
        "kernel_size": windows.size,
        "strides": windows.strides,
        "padding": "same" if windows.same else "valid",
        "data_format": "channels_last" if last else "channels_first",
        "dilation_rate": windows.dilations,
        "use_bias": after.bias is not None,
        **outputs,
    }

    def call(layer: Any, x: Any) -> Any:
        if any(map(any, windows.sides)) and not windows.same:
            x = _padding(windows.sides, layer.data_format, layer.compute_dtype)(x)
        return layer(x)

    def places_first(array: Any) -> Any:
        moved = np.transpose(array, (*range(2, rank + 2), 1, 0))
        return moved.reshape(*size, groups, filters // groups) if depthwise else moved

    weights = {"kernel": kernel.changed("places first", places_first)}
    if after.bias is not None:
        weights["bias"] = after.bias

    def dims(given: list[Dims]) -> list[Sequence[int | None]]:
        x = given[0]
        places = windows.count(x[1:-1] if last else x[2:])
        return [(x[0], *places, filters) if last else (x[0], filters, *places)]

    def built_for(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        places = (None,) * rank  # those of the input are fewer, where padding is a layer of its own
        return (shape[0], *places, shape[-1]) if last else (*shape[:2], *places)

    return Lifted(
        after.nodes[-1],
        after.nodes,
        (node.inputs[0],),
        lambda name, dtype: layer_class(**options, name=name, dtype=dtype),
        ("Conv", windows, *options.values()),
        weights,
        channels_last if last else None,
        call,
        dims,
        permutations=(after.permutation(rank + 2, last=last),),
        built_for=built_for,
    )


def _windows(attributes: Mapping[str, Any], size: tuple[int, ...]) -> _Windows | NoMatch:
    """What a node says of its windows, where Keras has a convolution that goes over the places so."""
    rank = len(size)
    if not 1 <= rank <= 3:
        return NoMatch(f"a kernel with {rank} axes of places")
    strides, dilations = (tuple(attributes.get(name) or (1,) * rank) for name in ("strides", "dilations"))
    automatic = attributes.get("auto_pad", "NOTSET")
    if automatic not in ("NOTSET", "VALID", "SAME_UPPER"):
        return NoMatch(f"auto_pad={automatic}")
    if max(strides) > 1 and max(dilations) > 1:
        return NoMatch("strides and dilations together")
    pads = tuple((attributes.get("pads") if automatic == "NOTSET" else None) or (0,) * (2 * rank))
    sides = tuple(zip(pads[:rank], pads[rank:], strict=True))
    groups = int(attributes.get("group", 1))
    return _Windows(size, strides, dilations, groups, sides, automatic == "SAME_UPPER")


def _padding(sides: tuple[tuple[int, int], ...], data_format: str, dtype: str) -> Any:
    """Zeros around."""
    if len(sides) == 1:
        return keras.layers.ZeroPadding1D(sides[0], data_format=data_format, dtype=dtype)
    return getattr(keras.layers, f"ZeroPadding{len(sides)}D")(sides, data_format=data_format, dtype=dtype)
