"""genkt: small models from large vision teachers, few labels and transfer sets.

Light to import: everything heavy is loaded when its name is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "transfer": "genkt.api.transfer",
    "evaluate": "genkt.api.evaluate",
    "analyze": "genkt.api.analyze",
    "estimate": "genkt.api.transfer",
    "synthesize": "genkt.api.synthesize",
    "compare": "genkt.api.compare",
    "scores_of_study": "genkt.report.compare.study_scores",
    "retrieve": "genkt.api.retrieve",
    "deduplicate": "genkt.api.retrieve",
    "load_generator": "genkt.generative.generator",
    "redecode": "genkt.synthesis.tokens",
    "TransferSet": "genkt.transfer_set.composition",
    "read_transfer_set": "genkt.transfer_set.composition",
    "load_classifier": "genkt.inference.load_classifier",
    "Classifier": "genkt.inference.load_classifier",
    "load_model": "genkt.models.load",
    "ModelSpec": "genkt.models.load",
    "Backbone": "genkt.models.backbone",
    "ImageSet": "genkt.data.images",
    "Splits": "genkt.data.splits",
    "read_folder": "genkt.readers.folders",
    "read_unlabelled": "genkt.readers.folders",
    "cache_outputs": "genkt.training.teacher",
    "OutputStore": "genkt.stores.teacher_outputs",
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
