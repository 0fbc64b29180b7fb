"""Typed settings of ``genkt analyze``; ``configs/analyze.yaml`` holds the defaults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from genkt.config.data_settings import DataSettings
from genkt.config.retrieval_settings import OPEN_CLIP, TextSettings
from genkt.io import did_you_mean
from genkt.settings.bounds import BatchSize, Seed
from genkt.settings.faults import Fault, SettingsError, refuse
from genkt.types import Range


@dataclass(frozen=True)
class SimilaritySettings:
    """``similarity``: what classes are compared by.

    Args:
        by: one of the models, ``open_clip:NAME``, or None: the model with the best linear probe.
        weights, pretrained: of an open_clip model.
    """

    by: str | None
    weights: str | None
    pretrained: bool


@dataclass(frozen=True)
class TransferTriple:
    """``transfer``: a student before and after it was taught, and its teacher; all or none."""

    before: str | None
    after: str | None
    teacher: str | None

    def __post_init__(self) -> None:
        missing = [key for key, name in self.named.items() if name is None]
        if missing and len(missing) < len(self.named):
            text = (
                "expected a model too, as the others of before, after, teacher are given; or set "
                "all of them to null"
            )
            raise SettingsError([Fault(missing[0], text, "together")])

    @property
    def named(self) -> dict[str, str | None]:
        """Role -> model."""
        return {"before": self.before, "after": self.after, "teacher": self.teacher}


@dataclass(frozen=True)
class AnalyzeConfig:
    """See ``configs/analyze.yaml``."""

    data: DataSettings
    models: str | list[str]
    split: Literal["train", "validation", "test"]
    answers: Literal["all", "data"]
    probe_on: Literal["train", "labelled"]
    top_percent: list[Annotated[float, Range(0, 100)]]
    similarity: SimilaritySettings
    text: TextSettings
    transfer: TransferTriple | None
    other: str | None
    out: str | None
    overwrite: bool
    seed: Seed
    batch_size: BatchSize
    device: Literal["auto", "cpu", "cuda"]

    def __post_init__(self) -> None:
        """Refuse models that are missing, come twice, or are named and not listed.

        Raises:
            UserError: one line per fault.
        """
        faults = []
        if not self.names:
            faults.append(Fault("models", "expected one or more, got an empty list"))
        faults += [
            Fault("models", f"expected models that differ, got {name} {count} times")
            for name, count in Counter(self.names).items()
            if count > 1
        ]
        for role, name in (self.transfer.named if self.transfer else {}).items():
            faults += self._unlisted(f"transfer.{role}", name)
        by = self.similarity.by
        if by is None or not by.startswith(OPEN_CLIP):
            faults += self._unlisted("similarity.by", by)
        refuse(faults)

    @property
    def names(self) -> list[str]:
        """Every model as it was given."""
        return [self.models] if isinstance(self.models, str) else self.models

    @property
    def titles(self) -> dict[str, str]:
        """Model -> a short name that no other has."""
        return dict(zip(self.names, short_names(self.names), strict=True))

    @property
    def triple(self) -> tuple[str, str, str] | None:
        """The models before, after and teacher, spelled as in ``names``, or None."""
        named = [] if self.transfer is None else list(self.transfer.named.values())
        found = [self.listed(name) for name in named if name is not None]
        return (found[0], found[1], found[2]) if found else None

    def listed(self, name: str) -> str:
        """The model with this name or short name."""
        return next(own for own, short in self.titles.items() if name in (own, short))

    def _unlisted(self, key: str, name: str | None) -> list[Fault]:
        known = dict.fromkeys([*self.names, *self.titles.values()])
        if name is None or name in known:
            return []
        hint = did_you_mean(name, known) or f" It is one of {', '.join(self.names)}."
        return [Fault(key, f"expected one of models, got {name}.{hint}", "together")]


def short_names(names: Sequence[str]) -> list[str]:
    """Names without their leading folders, unless these are needed to distinguish them.

    >>> short_names(["runs/a", "local-dir:runs/b/student", "genkt:digits_teacher", "resnet18"])
    ['a', 'b', 'genkt:digits_teacher', 'resnet18']
    >>> short_names(["x/run", "y/run", "z"])
    ['x/run', 'y/run', 'z']
    """
    short = [_last_part(name) for name in names]
    return [
        name if short.count(brief) > 1 or (brief in names and brief != name) else brief
        for name, brief in zip(names, short, strict=True)
    ]


def _last_part(name: str) -> str:
    bare = name.removeprefix("local-dir:")
    if name.startswith(("hf-hub:", "hf_hub:")) or "/" not in bare:
        return bare
    parts = [part for part in Path(bare).parts if part not in ("/", ".", "..", "~")]
    if len(parts) > 1 and parts[-1] == "student":
        parts.pop()
    return parts[-1] if parts else name
