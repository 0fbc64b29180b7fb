"""Image re-representation fine-tuning (IRF): the head first, on reconstructions, then everything.

Source: Wang et al. 2022, "One to Transfer All", section 3.1 (stages 3 and 4) and Table 4.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from genkt.config.irf_settings import IrfSetting, Pictures
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw
from genkt.runs.represented import Represented
from genkt.runs.run_images import RunImages
from genkt.runs.run_log import StageLog
from genkt.stages.train_stage import train_supervised
from genkt.training.stage import Record
from genkt.training.train_settings import TrainSettings
from genkt.types import Cost


def train_setting(
    images: RunImages, represented: Represented, draw: Draw, model: Backbone, setting: IrfSetting,
    settings: TrainSettings, directory: Path, log: StageLog,
    *, head_lr: float, prefix: str = "", validate: bool = True,
) -> tuple[dict[str, Cost], list[Record]]:  # fmt: skip
    """Train ``model`` in place by the stages of a setting; two stages share the steps.

    Args:
        settings: of the calibration; ``steps`` is the total of both stages.
        head_lr: learning rate of the delivery.
        prefix: of the stages' names and folders.
        validate: measure the model on the validation images, if there are any.
    """
    steps = settings.num_steps(len(draw.labelled))
    stages = {"deliver": setting.deliver, "calibrate": setting.calibrate}
    used: dict[str, Pictures] = {name: on for name, on in stages.items() if on is not None}
    first = steps // len(used)
    lengths = dict(zip(used, (first, steps - first), strict=False))
    costs: dict[str, Cost] = {}
    curve: list[Record] = []
    for name, pictures in used.items():
        head_only = name == "deliver"
        own = replace(settings, steps=lengths[name], lr=head_lr if head_only else settings.lr)
        cost, more = train_supervised(
            images, represented.draw(draw, pictures), prefix + name, model, own,
            directory / (prefix + name), log, head_only=head_only, validate=validate,
        )  # fmt: skip
        done = sum(earlier.steps for earlier in costs.values())
        curve += [{**record, "step": int(record["step"]) + done} for record in more]
        costs[prefix + name] = cost
    return costs, curve
