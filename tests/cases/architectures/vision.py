"""Image networks of timm, small variants with ten classes, the quickest first."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar

from cases.architectures import Architecture


class _Names(type):
    """A class whose every attribute is its own name: enumerations are read while timm is imported."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _Absent(ModuleType):
    """A module of torchvision that holds a class of any name."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Names(name, (), {})


class _Torchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands for torchvision, which timm imports for its image loading and the networks here do not use."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        found = name.partition(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if found else None

    def create_module(self, spec: Any) -> ModuleType:
        return _Absent(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def _timm(name: str, blocks: int | None = None, **options: Any) -> Any:
    """A network, of its first blocks alone where their number is no option of it."""
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_Torchvision())
    import timm

    model = timm.create_model(name, num_classes=10, **options)
    if blocks is not None:
        model.blocks = model.blocks[:blocks]
    return model


def _row(name: str, size: int = 64, **options: Any) -> Architecture:
    return Architecture(f"timm {name}", lambda: _timm(name, **options), (3, size, size))


_SMALL = {"img_size": 64, "depth": 2}
_ONE_EACH = (1, 1, 1, 1)

ROWS = [
    _row("test_byobnet"),
    _row("test_nfnet"),
    _row("mobilenetv1_100"),
    _row("mobilenetv2_050"),
    _row("mobilenetv3_small_050"),
    _row("resnet18"),
    _row("resnet26d", layers=_ONE_EACH),
    _row("res2net50_14w_8s", layers=_ONE_EACH),
    _row("regnetx_002"),
    _row("regnety_002"),
    _row("ghostnet_050"),
    _row("densenet121", block_config=(2, 3, 4, 3)),
    _row("vgg11_bn", mlp_ratio=0.02),
    _row("convmixer_768_32", blocks=2),
    _row("poolformer_s12"),
    _row("convnext_atto", depths=_ONE_EACH),
    _row("edgenext_xx_small", depths=_ONE_EACH),
    _row("vit_tiny_patch16_224", **_SMALL),
    _row("deit_tiny_patch16_224", **_SMALL),
    _row("cait_xxs24_224", **_SMALL),
    _row("mixer_s32_224", blocks=2, img_size=64),
    _row("resmlp_12_224", blocks=2, img_size=64),
    _row("gmlp_ti16_224", blocks=2, img_size=64),
    _row("swin_tiny_patch4_window7_224", img_size=64, window_size=4, depths=_ONE_EACH, embed_dim=24),
    _row("dla46_c"),
    _row("repvgg_a0"),
    _row("rexnet_100"),
    _row("efficientnet_b0"),
    _row("mobilevit_xxs"),
    _row("hrnet_w18_small"),
]
