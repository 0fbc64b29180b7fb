"""Lightning's Fabric, imported without a package of which it only wants to know the version.

lightning_fabric imports torchmetrics to compare its version, which no part of genkt uses and which
brings modules of transformers and torchvision with it: more than half of the time that genkt, and
every process it starts, took before anything happened. Its metadata tell the version as well.
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
