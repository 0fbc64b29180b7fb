"""genkt: small models from large vision teachers, few labels and transfer sets.

Light to import: everything heavy is loaded when its name is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "transfer": "genkt.api",
    "evaluate": "genkt.api",
    "analyze": "genkt.api",
    "estimate": "genkt.api",
    "synthesize": "genkt.api_synthesis",
    "compare": "genkt.api_compare",
    "retrieve": "genkt.api_retrieval",
    "deduplicate": "genkt.api_retrieval",
    "load_generator": "genkt.generative.generator",
    "redecode": "genkt.recipes.synthesis.tokens",
    "TransferSet": "genkt.data.transfer_set",
    "read_transfer_set": "genkt.data.transfer_set",
    "load_classifier": "genkt.recipes.inference",
    "Classifier": "genkt.recipes.inference",
    "load_model": "genkt.models.load",
    "ModelSpec": "genkt.models.load",
    "Backbone": "genkt.models.backbone",
    "ImageSet": "genkt.data.images",
    "Splits": "genkt.data.splits",
    "read_folder": "genkt.data.folders",
    "read_unlabelled": "genkt.data.folders",
    "cache_outputs": "genkt.training.teacher",
    "OutputStore": "genkt.data.cache",
    "ViewSpec": "genkt.data.views",
    "ImageTransform": "genkt.data.views",
    "UserError": "genkt.types",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'genkt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
