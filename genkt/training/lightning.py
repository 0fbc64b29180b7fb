"""Lightning's Fabric, imported without a package of which it only reads the version.

lightning_fabric imports torchmetrics to compare its version. No part of genkt uses torchmetrics;
it imports a thousand modules, of transformers and torchvision too: 1.8 s of CPU in every process,
where torch and timm take 3.2 s and Fabric itself 0.05 s. The package metadata hold the version too.
``test_fabric.py`` fails once lightning no longer asks in this way; then this file can be removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning_utilities.core import imports

_UNUSED = "torchmetrics"


@contextmanager
def _version_from_metadata() -> Iterator[None]:
    by_import = imports.compare_version

    def compare(package: str, op: Any, version: str, use_base_version: bool = False) -> bool:
        if package == _UNUSED:
            return bool(imports.RequirementCache(f"{package}>={version}"))
        return by_import(package, op, version, use_base_version)

    imports.compare_version = compare
    try:
        yield
    finally:
        imports.compare_version = by_import


with _version_from_metadata():
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

__all__ = ["Fabric", "LightningEnvironment", "MixedPrecision"]
