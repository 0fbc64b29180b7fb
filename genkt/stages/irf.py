"""Image re-representation fine-tuning (IRF): the head first, on reconstructions, then everything.

Source: Wang et al. 2022, "One to Transfer All", section 3.1 (stages 3 and 4) and Table 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from genkt.config.recipe_settings import BASELINE
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw
from genkt.runs.represented import Pictures
from genkt.runs.run_log import StageLog
from genkt.runs.session import Session
from genkt.stages.train_stage import train_supervised
from genkt.training.stage import Record
from genkt.training.train_settings import TrainSettings
from genkt.types import Cost


@dataclass(frozen=True)
class IrfSetting:
    """What the two stages train on; a row of the paper's Table 4.

    Args:
        name: for the reader.
        deliver: what the head alone is trained on, the backbone frozen; None: no such stage.
        calibrate: what everything is trained on; None: no such stage.
        test_on: what the finished model is tested on.
    """

    name: str
    deliver: Pictures | None
    calibrate: Pictures | None
    test_on: Literal["originals", "reconstructions"] = "originals"

    @property
    def re_represents(self) -> bool:
        """Whether a stage trains on reconstructions."""
        return bool({self.deliver, self.calibrate} & {"reconstructions", "both"})


SETTINGS: Mapping[str, IrfSetting] = {
    BASELINE: IrfSetting("Plain fine-tuning", None, "originals"),
    "linear_probe": IrfSetting("Linear probe", "originals", None),
    "lp_ft": IrfSetting("(a) LP, then FT", "originals", "originals"),
    "rec_rec": IrfSetting("(c) rec, rec", "reconstructions", "reconstructions"),
    "rec_rec_on_rec": IrfSetting(
        "(d) (c) on rec", "reconstructions", "reconstructions", "reconstructions"
    ),
    "mixed": IrfSetting("(e) FT on both", None, "both"),
    "mixed_mixed": IrfSetting("(f) both, both", "both", "both"),
    "irf": IrfSetting("IRF", "reconstructions", "originals"),
}
"""Arm -> its setting; names are short, as they label charts. Row (b) of the table is ``irf`` with
a generator that was primed on other images than the model: ``irf.generator=DIR``."""


def same_training(arm: str) -> str:
    """The first arm that trains as ``arm`` does: (d) is (c), tested on other images."""
    mine = SETTINGS[arm]
    return next(
        name
        for name, other in SETTINGS.items()
        if (other.deliver, other.calibrate) == (mine.deliver, mine.calibrate)
    )


def train_setting(
    session: Session, draw: Draw, model: Backbone, setting: IrfSetting, settings: TrainSettings,
    directory: Path, log: StageLog, *, prefix: str = "", validate: bool = True,
) -> tuple[dict[str, Cost], list[Record]]:  # fmt: skip
    """Train ``model`` in place by the stages of a setting; two stages share the steps.

    Args:
        settings: of the calibration; ``steps`` is what both stages take together. The delivery
            has ``irf.head_lr`` as its learning rate.
        prefix: of the stages' names and folders.
        validate: measure the model on the validation images, where there are such.
    """
    assert session.represented is not None
    assert settings.steps is not None
    stages = {"deliver": setting.deliver, "calibrate": setting.calibrate}
    used: dict[str, Pictures] = {name: on for name, on in stages.items() if on is not None}
    first = settings.steps // len(used)
    lengths = dict(zip(used, (first, settings.steps - first), strict=False))
    costs: dict[str, Cost] = {}
    curve: list[Record] = []
    for name, pictures in used.items():
        head_only = name == "deliver"
        lr = session.config.irf.head_lr if head_only else settings.lr
        cost, more = train_supervised(
            session, session.represented.draw(draw, pictures), prefix + name, model,
            replace(settings, steps=lengths[name], lr=lr), directory / (prefix + name), log,
            head_only=head_only, validate=validate,
        )  # fmt: skip
        done = sum(earlier.steps for earlier in costs.values())
        curve += [{**record, "step": int(record["step"]) + done} for record in more]
        costs[prefix + name] = cost
    return costs, curve
