"""A small grid of runs in every world, from which the constants of the default rules are read.

One draw each: a world is one observation, and what generalises is seen between worlds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genkt.io import read_json, write_json
from genkt.runs.scores import read_teacher_scores
from genkt.runs.student_files import read_result
from worlds.write_world import words_of

_COMMON = (
    "draws=1", "baseline=false", "device=cpu", "executor=inline", "train.eval_every=0",
    "train.save_seconds=600",
)  # fmt: skip

CELLS = "calibration.json"
"""The runs of a world, in its folder."""

Cell = dict[str, float | int | str]
"""The values of one run: phase, rate, temperature, steps, labelled, ..., and what was measured."""


TEMPERATURE = 2.0
"""Of all phases but those that ask for it: it matters little, and its choice is noise."""


@dataclass(frozen=True)
class Setting:
    """One run of the grid.

    Args:
        phase: which question it belongs to.
        words: of ``genkt transfer``.
        values: the same, as numbers for the table.
    """

    phase: str
    words: tuple[str, ...]
    values: dict[str, float]

    @property
    def key(self) -> str:
        """Its name in the file of results; a run of two questions is done once."""
        return " ".join(self.words)


def distilled(
    phase: str, *, rate: float, temperature: float, steps: int, labelled: int = 20,
    finetune: tuple[int, float] = (0, 5e-4),
) -> Setting:  # fmt: skip
    """A student of the teacher's predictions on the unlabelled pictures."""
    words = (
        "method=logit_kd", "transfer_set=unlabelled", f"train.lr={rate:g}",
        f"method.temperature={temperature:g}", f"train.steps={steps}",
        f"train.labelled_per_batch={labelled}", f"finetune.steps={finetune[0]}",
        f"finetune.lr={finetune[1]:g}",
    )  # fmt: skip
    return Setting(phase, words, {
        "rate": rate, "temperature": temperature, "steps": steps, "labelled": labelled,
        "finetune_steps": finetune[0], "finetune_rate": finetune[1],
    })  # fmt: skip


def plain(*, rate: float, steps: int) -> Setting:
    """A student of the labels alone."""
    words = (
        "method=stl", "transfer_set=labelled", f"train.lr={rate:g}", f"train.steps={steps}",
        "finetune.steps=0",
    )  # fmt: skip
    return Setting("plain", words, {"rate": rate, "steps": steps})


def first_phase(*, low_rates: bool) -> list[Setting]:
    """Rates and temperatures, in 240 steps; see ``needs_low_rates``."""
    rates = (2e-4, 6e-4, 2e-3, 6e-3, 1.8e-2) if low_rates else (2e-3, 6e-3, 1.8e-2, 5.4e-2)
    cross = [(6e-3, 1.0), (6e-3, 4.0)] + [(rate, TEMPERATURE) for rate in rates]
    return [distilled("first", rate=r, temperature=t, steps=240) for r, t in cross]


def last_phase() -> list[Setting]:
    """What is left of the grid of rates and temperatures."""
    corners = [(rate, t) for rate in (2e-3, 1.8e-2) for t in (1.0, 4.0)]
    return [distilled("corners", rate=r, temperature=t, steps=240) for r, t in corners]


def next_phases(best: Cell, *, low_rates: bool) -> Iterator[Setting]:
    """What is asked of the best rate of the first phase, at the one temperature."""
    rate, temperature = float(best["rate"]), TEMPERATURE
    rates = (2e-3, 6e-3, 6e-4) if low_rates else (1.8e-2, 6e-3, 2e-3)
    plain_rates = (5e-5, 5e-4, 2e-3) if low_rates else (5e-4, 2e-3, 6e-3)

    def asked(phase: str, steps: int, *, at: float = rate, labelled: int = 20,
              finetune: tuple[int, float] = (0, 5e-4)) -> Setting:  # fmt: skip
        return distilled(phase, rate=at, temperature=temperature, steps=steps, labelled=labelled,
                         finetune=finetune)  # fmt: skip

    yield asked("steps", 1000)
    yield from (asked("finetune", 240, finetune=(60, pace)) for pace in (1e-4, 5e-4))
    yield from (plain(rate=each, steps=300) for each in plain_rates)
    yield from (asked("labelled", 1000, labelled=rows) for rows in (40, 5))
    yield from (asked("steps", 1000, at=each) for each in rates)
    yield asked("steps", 3000)
    yield from (asked("finetune", 1000, finetune=(60, pace)) for pace in (1e-4, 5e-4))
    yield from (plain(rate=each, steps=1000) for each in plain_rates)
    yield from (asked("labelled", 1000, labelled=rows) for rows in (10, 0))
    yield asked("steps", 3000, at=rate / 3)


def best_first(cells: Sequence[Cell]) -> Cell:
    """The one of temperature 2 that is best on validation images: no test image is in a choice."""
    judged = [cell for cell in cells if cell["temperature"] == TEMPERATURE]
    return max(judged, key=lambda cell: float(cell["validation"]))


def settings_of(cells: Sequence[Cell], *, low_rates: bool) -> list[Setting]:
    """All settings of a world, as far as what is measured tells them."""
    first = first_phase(low_rates=low_rates)
    done = {str(cell["key"]): cell for cell in cells}
    if any(each.key not in done for each in first):
        return first
    best = best_first([done[each.key] for each in first])
    return [*first, *next_phases(best, low_rates=low_rates), *last_phase()]


def next_setting(cells: Sequence[Cell], *, low_rates: bool) -> Setting | None:
    """The first that has not been run."""
    done = {cell["key"] for cell in cells}
    waiting = [each for each in settings_of(cells, low_rates=low_rates) if each.key not in done]
    return waiting[0] if waiting else None


def run(world: Path, setting: Setting, scratch: Path) -> Cell:
    """Run one setting; its folder is removed."""
    from genkt import transfer

    shutil.rmtree(scratch, ignore_errors=True)
    transfer(*words_of(world), *_COMMON, *setting.words, f"out={scratch}")
    cell: Cell = {"key": setting.key, "phase": setting.phase, **setting.values}
    cell |= measured(scratch)
    shutil.rmtree(scratch)
    return cell


def measured(run_folder: Path) -> dict[str, float]:
    """Shares of a run's only student: right on test, on validation, and before fine-tuning."""
    (student,) = [each for each in (run_folder / "draws" / "0").iterdir() if each.is_dir()]
    result, costs = read_result(student)
    found = {
        "test": result.accuracy,
        "validation": float(np.load(student / "validation.npy").mean()),
        "seconds": sum(cost.seconds for cost in costs.values()),
    }
    if result.accuracy_distilled is not None:
        found["test_distilled"] = result.accuracy_distilled
    for scores in read_teacher_scores(student):
        if scores.taught is not None:
            found["teacher"] = float(scores.taught.mean())
    return found


def read_cells(world: Path) -> list[Cell]:
    """The runs so far."""
    path = world / CELLS
    return list(read_json(path)) if path.is_file() else []


def needs_low_rates(world: Path) -> bool:
    """Whether its student is pretrained, or a ViT: the grid then has lower rates."""
    return (world / "student").is_dir() or any("=vit_" in word for word in words_of(world))


def calibrate(world: Path, scratch: Path) -> Cell | None:
    """Run the next setting of a world and store it; None: there is none left."""
    cells = read_cells(world)
    setting = next_setting(cells, low_rates=needs_low_rates(world))
    if setting is None:
        return None
    cell = run(world, setting, scratch)
    write_json(world / CELLS, [*cells, cell])
    return cell
