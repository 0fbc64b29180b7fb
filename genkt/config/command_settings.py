"""Typed settings of the commands that train nothing; ``configs/`` holds their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from genkt.config.data_settings import DataSettings
from genkt.settings.bounds import BatchSize, Count, CountOrNone, Depth, NotNegative, Seed
from genkt.types import Range


@dataclass(frozen=True)
class PredictConfig:
    """See ``configs/predict.yaml``."""

    run: str
    images: list[str]
    format: Literal["table", "csv", "json"]
    output: str | None
    top: Count
    batch_size: BatchSize
    device: Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class EvaluateConfig:
    """See ``configs/evaluate.yaml``."""

    data: DataSettings
    model: str
    weights: str | None
    split: Literal["train", "validation", "test"]
    output: str | None
    seed: Seed
    batch_size: BatchSize
    device: Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class ExportConfig:
    """See ``configs/export.yaml``."""

    run: str
    output: str | None
    opset: Annotated[int, Range(18, 23)]
    tolerance: NotNegative


@dataclass(frozen=True)
class ConvertConfig:
    """See ``configs/convert.yaml``."""

    checkpoint: str
    out: str
    config: str | None
    kind: Literal["auto", "vqgan", "transformer"]
    size: Annotated[int, Range(1, 2**14)] | None
    num_heads: Depth | None
    num_conditions: CountOrNone | None
    sos_token: CountOrNone | None
    overwrite: bool


@dataclass(frozen=True)
class InspectConfig:
    """See ``configs/inspect.yaml``."""

    set: str
    out: str | None
    check: bool
    examples: Annotated[int, Range(0, 1000)]
