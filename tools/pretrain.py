"""Trains the shipped teacher of the built-in digits on drawn glyphs; writes its folder and card.

    python tools/pretrain.py                            # as checkpoints/digits_teacher was
    python tools/pretrain.py steps=3000 out=runs/small  # other values of teacher/pretrain.yaml

The same command continues an interrupted training.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import yaml
from teacher.pretrain_teacher import pretrain
from teacher.train_teacher import TeacherSettings
from tqdm import tqdm

from genkt.settings.faults import Fault, refuse
from genkt.settings.schema import parse
from genkt.types import UserError

DEFAULTS = Path(__file__).parent / "teacher" / "pretrain.yaml"


@dataclass(frozen=True)
class PretrainSettings(TeacherSettings):
    """See ``teacher/pretrain.yaml``."""

    out: str
    name: str

    def training(self) -> TeacherSettings:
        """What the training needs to know, without where it goes."""
        return TeacherSettings(**{f.name: getattr(self, f.name) for f in fields(TeacherSettings)})


def settings_of(words: list[str]) -> PretrainSettings:
    """The defaults, with ``key=value`` words in front.

    Raises:
        UserError: no such setting, or a value that does not fit.
    """
    values = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    for word in words:
        key, _, value = word.partition("=")
        values[key] = yaml.safe_load(value)
    faults: list[Fault] = []
    settings = parse(PretrainSettings, values, "", faults)
    refuse(faults)
    assert isinstance(settings, PretrainSettings)
    return settings


def main(words: list[str]) -> None:
    """Train, measure, and say where the model is."""
    settings = settings_of(words)
    kept = [word for word in words if not word.startswith("out=")]
    command = shlex.join(["python", "tools/pretrain.py", *kept])
    out = Path(settings.out)
    with tqdm(total=settings.steps, desc="pretrain", disable=None) as bar:

        def show(step: int, figures: dict[str, float]) -> None:
            bar.update(step - bar.n)
            bar.set_postfix(loss=f"{figures['loss']:.3f}", refresh=False)

        pretrain(settings.training(), out, name=settings.name, command=command, report=show)
    print((out / "teacher" / "README.md").read_text(encoding="utf-8"))
    print(f"model and card: {out / 'teacher'}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"pretrain: {error}")
