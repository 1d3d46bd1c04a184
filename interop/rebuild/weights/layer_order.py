"""What files by object path say beside their tensors: which layers come in another order than their names.

See ``capture.keras.order``. Enters: a model, or a file's texts. Leaves: such texts, or the rank of what they list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from interop.capture.keras import paths
from interop.capture.keras.order import out_of_order
from interop.errors import FormatError
from interop.formats.h5 import LAYER_ORDER


def layer_order(model: Any) -> list[str]:
    """The layers that are not in the order of their names."""
    return out_of_order(model, paths.layer_paths(model))


def metadata(model: Any) -> dict[str, str]:
    """What a file says of a model beside its tensors."""
    return {LAYER_ORDER: json.dumps(layer_order(model), ensure_ascii=False, separators=(",", ":"))}


def ranks(told: Mapping[str, str], source: str) -> dict[str, int] | None:
    """Rank by path of the layers that are not in the order of their names; None if a file does not say.

    Args:
        told: what a file has beside its tensors.
        source: the file, for messages.

    Raises:
        FormatError: it says something else.
    """
    if LAYER_ORDER not in told:
        return None
    try:
        listed = json.loads(told[LAYER_ORDER])
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{source}: its {LAYER_ORDER} is no JSON: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise FormatError(f"{source}: its {LAYER_ORDER} lists no object paths")
    return {path: rank for rank, path in enumerate(listed)}
