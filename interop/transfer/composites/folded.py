"""A layer and what scales and shifts each of its features after it, as one layer: a kernel and a bias.

``kernel' = kernel * factor`` and ``bias' = beta + (bias - mean) * factor``, with ``factor = gamma / sqrt(variance +
epsilon)`` for each feature; what there is not of these is 1 or 0. The way back: the kernel is the kernel', and what
comes after does nothing. The variance is then ``1 - epsilon``, which makes a factor of exactly 1 in float32, also where
there is no gamma.

Source of the factor: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from interop.formats.source import TensorSource
from interop.transfer.composites.composite import Composite, Later, Read, filled
from interop.transfer.named import Named

Array = NDArray[Any]
ROLES = ("kernel", "bias", "mean", "variance", "gamma", "beta")
_SHIFTS = ("bias", "beta", "mean")  # the first that there is holds the bias


@dataclass(frozen=True)
class Folded(Composite):
    """A kernel and a bias in several parts.

    Attributes:
        roles: of the parts, in their order: of ``ROLES``, the kernel first.
        epsilon: what is added to the variance.
        sizes: of the axes into which the kernel's are split.
        steps: how the feature changes along each of these.
    """

    roles: tuple[str, ...]
    epsilon: float
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    kind = "folded"
    verb = "fold"
    remark = (
        "are neutral (mean 0, variance 1 - epsilon), as the source has its normalisations in the layers before and no "
        "statistics of its own: inference is the same; training goes on from other statistics"
    )

    def name(self, role: str) -> str | None:
        """The parameter of a role, if there is one."""
        return next((name for name, own in zip(self.parts, self.roles, strict=True) if own == role), None)

    def make(self, name: str, read: Read) -> Array:
        kernel, *_ = self.makes
        factor, bias = affine(
            self.roles, {role: self._flat(role, read) for role in self.roles[1:]}, self.epsilon
        )
        if name != kernel:
            return np.asarray(bias, self.makes[name].dtype)
        whole = read(next(iter(self.parts)))
        of_feature = np.broadcast_to(factor, (self._features,))[self._feature()]
        return np.asarray((whole.reshape(self.sizes) * of_feature).reshape(whole.shape), whole.dtype)

    def apart(self, read: Read) -> dict[str, TensorSource]:
        kernel, *biases = self.makes
        held: dict[str, TensorSource] = {}
        for (part, spec), role in zip(self.parts.items(), self.roles, strict=True):
            if role == "kernel":
                held[part] = Later(spec, lambda: read(kernel))
            elif biases and part == self.held_by(biases[0]):
                sign = -1 if role == "mean" else 1
                held[part] = Later(
                    spec,
                    lambda s=spec, k=sign: (k * read(biases[0])).reshape(s.shape).astype(s.dtype),  # type: ignore[misc]
                )
            else:
                neutral = {"variance": 1 - self.epsilon, "gamma": 1.0}
                held[part] = filled(spec, neutral.get(role, 0.0))
        return held

    def made_of(self, name: str) -> tuple[str, ...]:
        kernel, *_ = self.makes
        parts = zip(self.parts, self.roles, strict=True)
        own = ("kernel", "gamma", "variance") if name == kernel else ROLES[1:]
        return tuple(part for part, role in parts if role in own)

    def held_by(self, name: str) -> str:
        kernel, *_ = self.makes
        first, *_ = self.parts if name == kernel else filter(None, map(self.name, _SHIFTS))
        return first

    def others(self) -> dict[str, str]:
        holders = {self.held_by(name) for name in self.makes}
        words = {"variance": f"1 - {self.epsilon:.6g}", "gamma": "ones"}
        return {
            part: words.get(role, "zeros")
            for part, role in zip(self.parts, self.roles, strict=True)
            if part not in holders
        }

    @property
    def form(self) -> Any:
        one_sum = {"bias": "mean"}  # what is added before is one sum
        return frozenset(one_sum.get(role, role) for role in self.roles)

    @property
    def beside(self) -> tuple[str, ...]:
        return tuple(name for role in ("mean", "variance") if (name := self.name(role)) is not None)

    @property
    def _features(self) -> int:
        return 1 + sum((size - 1) * step for size, step in zip(self.sizes, self.steps, strict=True))

    def _feature(self) -> Array:
        """The feature of each element of the kernel."""
        made = np.zeros((1,) * len(self.sizes), np.int64)
        for axis, (size, step) in enumerate(zip(self.sizes, self.steps, strict=True)):
            if step:
                made = made + np.arange(size).reshape((-1,) + (1,) * (len(self.sizes) - axis - 1)) * step
        return made

    def _flat(self, role: str, read: Read) -> Array:
        name = self.name(role)
        assert name is not None
        return read(name).reshape(-1).astype(np.float64)

    def _settings(self) -> dict[str, Any]:
        sizes = {"sizes": list(self.sizes), "steps": list(self.steps)}
        return {"roles": list(self.roles), "epsilon": self.epsilon, **sizes}

    @classmethod
    def read_from(cls, parts: Mapping[str, Named], makes: Mapping[str, Named], value: Any) -> Self:
        roles, epsilon = tuple(value["roles"]), float(value["epsilon"])
        sizes, steps = (tuple(int(one) for one in value[key]) for key in ("sizes", "steps"))
        made = cls(parts, makes, roles, epsilon, sizes, steps)
        kernel, *rest = parts.values()
        fits = (
            len(roles) == len(parts) == len(set(roles)) and roles[0] == "kernel" and set(roles) <= set(ROLES)
        )
        fits = fits and len(sizes) == len(steps) and int(np.prod(sizes)) == kernel.size and min(steps) >= 0
        fits = fits and all(spec.size == made._features for spec in rest) and 0 <= epsilon < 1
        if not fits or len(makes) != 1 + any(role in _SHIFTS for role in roles):
            raise ValueError(f"{value!r:.120} does not say how a kernel is folded")
        return made


def affine(roles: tuple[str, ...], values: Mapping[str, Array], epsilon: float) -> tuple[Array, Array]:
    """The factor and the bias of each feature."""
    factor = np.asarray(values.get("gamma", 1.0))
    if "variance" in roles:
        factor = factor / np.sqrt(values["variance"] + epsilon)
    return factor, values.get("beta", 0.0) + (values.get("bias", 0.0) - values.get("mean", 0.0)) * factor
