"""``genkt pretrain``."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from genkt.cli.app import run_command
from genkt.recipes.embedded_teacher import TeacherSettings


@dataclass(frozen=True)
class PretrainConfig(TeacherSettings):
    """See ``configs/pretrain.yaml``."""

    out: str
    name: str

    def settings(self) -> TeacherSettings:
        """What the training needs to know, without where it goes."""
        return TeacherSettings(**{f.name: getattr(self, f.name) for f in fields(TeacherSettings)})


def run(words: list[str]) -> None:
    """Train, measure, and say where the model is."""
    kept = [word for word in words if not word.startswith("out=")]
    command = shlex.join(["genkt", "pretrain", *kept])
    run_command(PretrainConfig, "pretrain", words, lambda config: _task(config, command))


def _task(config: PretrainConfig, command: str) -> None:
    from tqdm import tqdm

    from genkt.recipes.pretrain import pretrain

    out = Path(config.out)
    with tqdm(total=config.steps, desc="pretrain", disable=None) as bar:

        def show(step: int, figures: dict[str, float]) -> None:
            bar.update(step - bar.n)
            bar.set_postfix(loss=f"{figures['loss']:.3f}", refresh=False)

        pretrain(config.settings(), out, name=config.name, command=command, report=show)
    print((out / "teacher" / "README.md").read_text(encoding="utf-8"))
    print(f"model and card: {out / 'teacher'}")
