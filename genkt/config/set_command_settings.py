"""Typed settings of ``genkt synthesize`` and ``genkt retrieve``, which make a transfer set."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from genkt.config.data_settings import DataSettings
from genkt.config.model_settings import TeacherSettings
from genkt.config.retrieval_settings import RetrievalSettings
from genkt.config.synthesis_settings import DiggSettings, InversionSettings, SynthesisSettings
from genkt.execution.tasks import ExecutorSettings
from genkt.settings.bounds import Count, CountOrNone
from genkt.settings.faults import Fault, SettingsError
from genkt.settings.objects import GivenObject


@dataclass(frozen=True)
class SynthesizeConfig(SynthesisSettings):
    """Everything ``genkt synthesize`` needs; see ``configs/synthesize.yaml`` for each key."""

    data: DataSettings
    teacher: TeacherSettings
    out: str
    generator: str | GivenObject
    sources: Literal["train", "labelled", "all"]
    draw: CountOrNone
    images: str | list[str] | None
    num_images: Count | None
    device: Literal["auto", "cpu", "cuda"]
    executor: ExecutorSettings
    overwrite: bool
    dry_run: bool

    def __post_init__(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            UserError: one line per fault.
        """
        super().__post_init__()
        if self.num_images is not None and not hasattr(self.synthesis, "num_images"):
            text = (
                "expected null with synthesis=irf, which makes one image of each source; "
                "max_sources takes fewer sources"
            )
            raise SettingsError([Fault("num_images", text, "together")])
        if isinstance(self.teacher.model, list):
            text = "expected one model to filter or invert, got a list"
            raise SettingsError([Fault("teacher", text)])

    @property
    def settings(self) -> SynthesisSettings:
        """The settings of the synthesis itself."""
        values = {f.name: getattr(self, f.name) for f in fields(SynthesisSettings)}
        method = self.synthesis
        if self.num_images is not None and isinstance(method, (DiggSettings, InversionSettings)):
            values["synthesis"] = replace(method, num_images=self.num_images)
        return SynthesisSettings(**values)


@dataclass(frozen=True)
class RetrieveConfig(RetrievalSettings):
    """Everything ``genkt retrieve`` needs; see ``configs/retrieve.yaml`` for each key."""

    data: DataSettings
    queries: Literal["labelled", "train", "all"]
    draw: CountOrNone
    out: str
    device: Literal["auto", "cpu", "cuda"]
    executor: ExecutorSettings
    overwrite: bool
    dry_run: bool

    @property
    def settings(self) -> RetrievalSettings:
        """What the retrieval itself needs to know."""
        return RetrievalSettings(
            **{f.name: getattr(self, f.name) for f in fields(RetrievalSettings)}
        )
