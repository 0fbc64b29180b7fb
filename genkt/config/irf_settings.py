"""The arms of ``recipe=irf``: what their two stages train on, and what they are tested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Pictures = Literal["originals", "reconstructions", "both"]


@dataclass(frozen=True)
class IrfSetting:
    """What the two stages train on; a row of Table 4 in Wang et al. 2022, "One to Transfer All".

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


BASELINE = "stl"
"""The arm of plain fine-tuning."""

IRF_SETTINGS: Mapping[str, IrfSetting] = {
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
    mine = IRF_SETTINGS[arm]
    return next(
        name
        for name, other in IRF_SETTINGS.items()
        if (other.deliver, other.calibrate) == (mine.deliver, mine.calibrate)
    )
