"""What went into each arm of a run: labels, steps, images and seconds, nothing left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from genkt.config.irf_settings import BASELINE
from genkt.runs.label_budget import label_budget
from genkt.runs.student_files import TrainedStudent
from genkt.stages.arms import LEARNING_RATE
from genkt.stages.beta_search import cost_name
from genkt.stages.cross_validation import chosen_on
from genkt.stages.keep import KEEPING
from genkt.stages.student_training import TEACHERS
from genkt.transfers.make_sets import RE_REPRESENT
from genkt.transfers.phases import RunWithSets, TrainedRun
from genkt.transfers.pilot_file import Pilot
from genkt.types import Budget, Cost


def budgets(trained: TrainedRun) -> dict[str, Budget]:
    """The budget of every arm, over all its draws and seeds."""
    return {arm: _budget(trained.run, arm, found) for arm, found in trained.students.items()}


def _budget(run: RunWithSets, arm: str, students: Sequence[TrainedStudent]) -> Budget:
    config, maker = run.config, run.opened.maker
    pilot = run.opened.pilot or Pilot({})
    labels = label_budget(config, run.pool, arm, piloted=pilot.labels)
    tried = Cost()
    if arm == BASELINE:
        tried += pilot.baseline
    if arm == config.main_arm:
        tried += pilot.student
    total = sum((student.result.cost for student in students), tried)
    searches = {KEEPING, *(cost_name(stage) for stage in ("distil", *config.distil_stages))}
    made = {RE_REPRESENT, *([maker.stage] if maker is not None else [])}
    return Budget(
        labels=labels.training,
        validation_labels=labels.validation,
        choices=labels.choices,
        steps=total.steps,
        samples=total.samples - _of(students, [TEACHERS]).samples,
        teacher_images=total.teacher_images,
        seconds=total.seconds,
        search_seconds=_of(students, searches).seconds + tried.seconds,
        making_seconds=_of(students, made).seconds,
    )


def _of(students: Sequence[TrainedStudent], stages: Collection[str]) -> Cost:
    """What some stages of all students cost."""
    costs = (student.stages for student in students)
    return sum((cost[name] for cost in costs for name in stages if name in cost), Cost())


def search_notes(trained: TrainedRun) -> list[str]:
    """What was searched, by draw; and whether the baseline was searched too."""
    config, pool = trained.run.config, trained.run.pool
    mine, baseline = (_extras(trained, arm) for arm in (config.main_arm, BASELINE))
    betas = [f"{extras['beta']:g}" for extras in mine if "beta" in extras]
    rates = [f"{extras[LEARNING_RATE]:.2g}" for extras in baseline if LEARNING_RATE in extras]
    notes = []
    if betas:
        where = chosen_on(config, pool.splits, pool.draws[0])
        notes.append(f"beta chosen on {where}, by draw: {', '.join(betas)}.")
    if rates:
        some = "" if len(rates) == len(baseline) else f" on {len(rates)} of {len(baseline)} draws"
        notes.append(
            "The learning rate of the baseline was chosen in the same way from as many values "
            f"({config.num_searched}){some}, by draw: {', '.join(rates)}."
        )
    elif betas and baseline:
        notes.append(
            f"The baseline was not searched: its learning rate is {config.plain_rate:g} "
            "(baseline_search=true searches it over as many values)."
        )
    return notes


def _extras(trained: TrainedRun, arm: str) -> list[dict[str, float | int | str]]:
    """The facts of an arm's first student of every draw."""
    found = trained.students.get(arm, ())
    return [student.result.extras for student in found if not student.result.seed]


def uncounted_notes(run: RunWithSets) -> list[str]:
    """A note where transfer images were made before the run: nobody knows for how long."""
    draw = run.pool.draws[0]
    found = run.pool.elsewhere(np.setdiff1d(draw.transfer, draw.labelled))
    if run.opened.maker is not None or found is None:
        return []
    counts = {source: number for source, number in found.counts().items() if source != "real"}
    if not counts:
        return []
    shown = ", ".join(f"{number:,} {source}" for source, number in counts.items())
    return [f"Made before this run, so the time for it is in no budget: {shown} transfer images."]
