"""One row a pair of models of two frameworks that compute the same; a file a family, found by itself.

``tests/test_transfer.py`` runs them all, in both directions. A row makes both models anew.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np


@dataclass(frozen=True)
class Pair:
    """Two models.

    Attributes:
        name: of the row.
        make: makes both; called with ``torch.nn``. The first one's inputs are the same with channels last.
        first: whether the second one has channels first.
        tokens: size of the vocabulary, if inputs are tokens.
        least: the first of the tokens that are no padding.
        shapes: of the inputs without the batch; by default those that a Keras model tells.
        named: names of both models' inputs where they are passed by name.
        signatures: what each model is told of its inputs, by ``one`` and ``other``.
        quick: whether it runs without ``--full`` too.
        differs: what the models do differently, words of each line of the report that says so; by default nothing.
        output: which of the outputs that are passed by name is compared.
    """

    name: str
    make: Callable[[Any], tuple[Any, Any]]
    first: bool = False
    tokens: int = 0
    least: int = 0
    shapes: tuple[tuple[int, ...], ...] = ()
    named: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    signatures: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = False
    differs: tuple[str, ...] = ()
    output: str = ""

    def inputs(self, one: Any, batch: int) -> tuple[Any, Any]:
        """The same inputs for both models, by name or by position."""
        rng = np.random.default_rng(batch)
        shapes = self.shapes or tuple(spec.shape[1:] for spec in one.inputs)
        arrays = []
        for k, sizes in enumerate(shapes):
            shape = (batch, *sizes)
            if self.tokens:
                filling = self._filling(k)
                arrays.append(
                    rng.integers(self.least, self.tokens, shape)
                    if filling is None
                    else np.full(shape, filling)
                )
            else:
                arrays.append(rng.standard_normal(shape).astype("float32"))
        moved = [np.ascontiguousarray(np.moveaxis(a, -1, 1)) if self.first else a for a in arrays]
        sides = []
        for names, values in zip(self.named, (arrays, moved), strict=True):
            sides.append(dict(zip(names, values, strict=False)) if names else tuple(values))
        return sides[0], sides[1]

    def _filling(self, k: int) -> int | None:
        """What the input at a place is filled with: masks with ones, segments with zeros, None for tokens.

        Without names, tokens come first, and a mask and segments follow.
        """
        name = self.named[0][k] if self.named[0] else ("token_ids", "mask", "segment_ids")[k]
        if "mask" in name:
            return 1
        return 0 if "segment" in name or "type" in name else None


def all_pairs() -> list[Pair]:
    """The rows of every family, by file name."""
    found: list[Pair] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        found += importlib.import_module(f"{__name__}.{module.name}").PAIRS
    return found


def is_torch(model: Any) -> bool:
    """Whether it is a module of PyTorch and no Keras model that is one on that backend."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module) and not isinstance(model, keras.Layer)


def drawn(model: Any, seed: int = 0) -> Any:
    """A model whose every parameter differs from every other, and whose signals neither fade nor grow.

    Returns:
        The model, or another where its framework's do not change.
    """
    rng = np.random.default_rng(seed)
    if isinstance(model, keras.Layer):
        for variable in model.weights:
            variable.assign(_values(rng, variable.path, variable.shape, variable.shape[:-1]))
        return model
    if is_torch(model):
        import torch

        with torch.no_grad():
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    value.copy_(torch.as_tensor(_values(rng, name, value.shape, value.shape[1:])))
        return model.eval()
    from interop.capture.jax import named_leaves, with_leaves

    leaves = named_leaves(model)
    made = {
        name: _values(rng, name, leaf.shape, leaf.shape[:-1])
        for name, leaf in leaves.items()
        if leaf.dtype.kind == "f"
    }
    return with_leaves(model, made)


def _values(rng: np.random.Generator, name: str, shape: Any, before: Any) -> np.ndarray:
    noise = rng.standard_normal(tuple(shape)).astype("float32")
    last = name.replace(".", "/").rpartition("/")[2]
    if "var" in last:
        return np.abs(noise) * 0.3 + 0.7
    if len(shape) > 1:
        return noise * np.float32(1.2 / max(float(np.prod(before)), 1) ** 0.5)
    return 0.2 * noise + np.float32(0.9 if last in ("gamma", "scale", "weight") else 0)


def outputs(pair: Pair, model: Any, inputs: Any) -> np.ndarray:
    """The first output, by the model's own framework."""
    given = inputs
    if isinstance(model, keras.Layer):
        made = model(given if isinstance(given, dict) or len(given) > 1 else given[0], training=False)
    elif is_torch(model):
        import torch

        with torch.no_grad():
            if isinstance(given, dict):
                made = model(**{name: torch.as_tensor(array) for name, array in given.items()})
            else:
                made = model(*map(torch.as_tensor, given))
    else:
        made = model(*given)
    while isinstance(made, tuple | list):
        made = made[0]
    if isinstance(made, Mapping):
        made = made[pair.output] if pair.output in made else next(iter(made.values()))
    return np.asarray(keras.ops.convert_to_numpy(made) if isinstance(model, keras.Layer) else made)


def difference(pair: Pair, one: Any, other: Any) -> float:
    """The largest relative error, at two batch sizes."""
    worst = 0.0
    for batch in (3, 5):
        given = pair.inputs(one, batch)
        expected, made = outputs(pair, one, given[0]), outputs(pair, other, given[1])
        made = made if made.shape == expected.shape else np.moveaxis(made, 1, -1)
        scale = np.sqrt(np.mean(expected**2))
        assert np.std(expected, axis=0).mean() > 1e-2 * scale, "the outputs do not vary"
        worst = max(worst, float(np.abs(expected - made).max() / scale))
    return worst
