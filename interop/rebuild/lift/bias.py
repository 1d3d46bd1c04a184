"""The bias that is added behind a convolution, its result moved to channels last before that or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interop.rebuild.lifting import NoMatch, Site, Weight, channels_last
from interop.rebuild.values import Permutation


@dataclass(frozen=True)
class Added:
    """What follows a convolution and belongs to it.

    Attributes:
        nodes: the convolution first.
        bias: one number a channel.
        turned: whether the result has its channels last in the graph.
    """

    nodes: tuple[Any, ...]
    bias: Weight | None
    turned: bool

    def permutation(self, rank: int, *, last: bool) -> Permutation | None:
        """The order of axes that the layer's output is in, of the graph's own; None: the same.

        Args:
            rank: of the output.
            last: whether the layer has its channels last.
        """
        if self.turned:
            return None if last else (0, rank - 1, *range(1, rank - 1))
        return channels_last(rank) if last else None


def own_bias(site: Site, node: Any) -> Weight | NoMatch | None:
    """The bias that a convolution is given; None where that is none, or zeros that are no weight."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    bias = site.weight(value)
    if bias is None and value is not None and not site.is_all(value, 0):
        return NoMatch("the bias is no float initializer")
    return bias


def added_after(site: Site, node: Any, filters: int, rank: int) -> Added:
    """The bias behind a convolution that has none; of `rank` axes with the batch and the channels."""
    alone = Added((node,), None, turned=False)
    before = [node]
    after, channel = site.only_user(node.outputs[0]), 1
    if after is not None and after.op_type == "Transpose":
        if tuple(site.attributes(after).get("perm", ())) != channels_last(rank):
            return alone
        before.append(after)
        after, channel = site.only_user(after.outputs[0]), rank - 1
    if after is None or after.op_type != "Add":
        return alone
    other = next((value for value in after.inputs if value is not before[-1].outputs[0]), None)
    bias = site.weight(other)
    if bias is None:
        return alone
    shape = bias.array().shape
    place = channel - (rank - len(shape))
    if place < 0 or shape[place] != filters or bias.array().size != filters:
        return alone
    flat = bias if len(shape) == 1 else bias.changed("flat", lambda array: array.reshape(-1))
    return Added((*before, after), flat, turned=len(before) > 1)
