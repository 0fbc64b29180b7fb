"""One student of a run: the baseline or the method on a label draw; finished ones are kept."""

from __future__ import annotations

import itertools
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from genkt.config.irf_settings import BASELINE
from genkt.metrics.choice_values import choice_share, validation_key
from genkt.runs.pool import Draw
from genkt.runs.run_folder import OUTPUTS, RESULT, teacher_folder
from genkt.runs.student_files import (
    TrainedStudent,
    fault_of,
    forget,
    is_sealed,
    read_result,
    read_student,
    save_student,
)
from genkt.stages.cross_validation import FOLD, exams_of
from genkt.stages.student_training import CROSS_VALIDATION, SEARCH, StudentTraining
from genkt.stopping import part
from genkt.training.checkpoint import STATE
from genkt.transfers.export_student import hand_over, is_first
from genkt.transfers.make_sets import RE_REPRESENT
from genkt.transfers.phases import OpenedRun, RunWithSets
from genkt.types import (
    Cost,
    DamagedError,
    Prediction,
    StudentResult,
    StudentScores,
    draw_text,
)

logger = logging.getLogger("genkt")


def train_student(run: RunWithSets, draw: Draw, arm: str) -> TrainedStudent:
    """Train one student, or load it if it is finished already.

    Args:
        draw: for this student; those of earlier ones must be finished.
    """
    opened, name = run.opened, _lock_name(draw, arm)
    directory = run.folder.student(draw.index, arm, draw.student)
    if not _is_there(opened, directory):
        with opened.alone(name):
            if not _is_there(opened, directory):  # no other process finished it meanwhile
                _train(run, draw, arm, directory)
    elif opened.is_first and any(directory.rglob(STATE)):  # killed during the clean-up
        with opened.alone(name):
            _tidy(run, draw, arm, directory)
    trained = load_student(opened, directory)
    if is_first(opened, draw, arm):
        hand_over(run, trained)
    return trained


def heal(opened: OpenedRun) -> bool:
    """Mark finished students with damaged files to be trained again.

    Returns:
        Whether there was one, as the first process of a launch sees it.
    """
    found, old = 0, False
    if opened.is_first:
        for draw in opened.pool.draws:
            for arm, one in itertools.product(opened.config.arms, opened.students_of(draw)):
                directory = opened.folder.student(draw.index, arm, one.student)
                found += _forgotten(opened, directory, one, arm)
                old = old or ((directory / RESULT).is_file() and not is_sealed(directory))
    if old:
        logger.info(
            "%s: some students were written by an older genkt without digests; their "
            "files are used without a check",
            opened.folder.path,
        )
    return opened.fabric.broadcast(found > 0)


def _lock_name(draw: Draw, arm: str) -> str:
    """Of the lock for a student; a draw's students of one arm are trained one after the other.

    They share the teachers and the choices that the first of them makes.
    """
    return f"draw {draw.index}, {arm}"


def _forgotten(opened: OpenedRun, directory: Path, draw: Draw, arm: str) -> bool:
    """Whether a student was damaged; it counts as not trained then."""

    def fault() -> DamagedError | None:
        return fault_of(directory, lambda: load_student(opened, directory))

    if fault() is None:
        return False
    with opened.alone(_lock_name(draw, arm)):
        error = fault()  # no error if another process has trained it again
        if error is not None:
            name = draw_text(draw.index, draw.student)
            logger.warning("%s; %s, %s: trained again", error.fact, name, arm)
            forget(directory)
    return error is not None


def _is_there(opened: OpenedRun, directory: Path) -> bool:
    """The answer of the first process of a launch, as all processes must do the same."""
    return opened.fabric.broadcast((directory / RESULT).is_file())


def _train(run: RunWithSets, draw: Draw, arm: str, directory: Path) -> None:
    opened = run.opened
    student = opened.fresh_student(draw.seed_for("student"))  # the same for every arm of a draw
    first = read_result(run.folder.student(draw.index, arm))[0] if draw.student else None
    training = run.training(draw, arm, directory, student, first)
    with part(training.log.place):
        before = _taken_over(run, training, arm)
        trained = _finished(run, training, arm, before)
    training.log.close()
    if opened.is_first:
        save_student(replace(trained, log=training.log.known), directory)
        _tidy(run, draw, arm, directory)
    opened.fabric.barrier()
    logger.info("%s: %.1f %%", training.log.place, 100 * trained.result.accuracy)


def _taken_over(run: RunWithSets, training: StudentTraining, arm: str) -> Prediction | None:
    """Train the student, or use the one of an arm with the same training.

    Returns:
        As ``StudentArm.train``.
    """
    first = run.config.recipe.trained_as(arm)
    if first != arm:
        trained = train_student(run, training.draw, first)
        training.student.model.load_state_dict(trained.weights)
        training.costs |= trained.stages
        training.student.to(run.opened.fabric.device)
        return None
    if run.arm(arm).reads_made_images and training.first is None:
        training.costs |= _making(run, training.draw)
    return run.arm(arm).train(training)


def _making(run: RunWithSets, draw: Draw) -> dict[str, Cost]:
    """The cost of generation: this draw's set, and its share of what all draws use."""
    stages = {}
    if run.opened.maker is not None:
        stages[run.opened.maker.stage] = Cost(seconds=run.sets[draw.index].seconds)
    if run.represented is not None:
        share = run.represented.seconds / len(run.pool.draws)
        stages[RE_REPRESENT] = Cost(seconds=share)
    return stages


def _finished(
    run: RunWithSets, training: StudentTraining, arm: str, before: Prediction | None
) -> TrainedStudent:
    """The final student, tested and validated."""
    student, images, draw = training.student, training.images, training.draw
    tested = None
    if run.arm(arm).tested_on_reconstructions and run.represented is not None:
        tested = run.represented.test
    prediction = images.predictions(student, "test", tested)
    validation = _validated(run, training, arm)
    if validation is not None:
        share = choice_share(validation, images.metric)
        training.extras[validation_key(images.metric)] = share
    result = StudentResult(
        arm=arm,
        draw=draw.index,
        accuracy=prediction.accuracy,
        accuracy_distilled=before.accuracy if before is not None else None,
        curve=training.curve,
        cost=sum(training.costs.values(), Cost()),
        extras=training.extras,
        seed=draw.student,
    )
    weights = {k: v.detach().cpu() for k, v in student.model.state_dict().items()}
    distilled = before.scores if before is not None else None
    scores = StudentScores(prediction.scores, distilled, validation)
    return TrainedStudent(
        result, prediction, scores, weights, training.artifacts, training.costs,
        teachers=training.teacher_scores,
    )  # fmt: skip


def _validated(run: RunWithSets, training: StudentTraining, arm: str) -> NDArray[np.float32] | None:
    """Scores on the validation images; or, if requested, of students of folds on the labels."""
    if training.images.has_validation:
        return training.images.judged(training.student, "validation")
    if not run.config.cross_validate or arm != run.config.main_arm:
        return None
    scores, trained = [], run.arm(run.config.recipe.trained_as(arm))
    for exam in exams_of(training.images, run.pool, run.pool.draws[training.draw.index]):
        own = training.for_exam(exam, replayed=False)
        trained.train(own)
        scores.append(own.images.judged(own.student))
        own.log.close()
        cost = training.costs.get(CROSS_VALIDATION, Cost())
        training.costs[CROSS_VALIDATION] = sum(own.costs.values(), cost)
    return np.concatenate(scores)


def load_student(opened: OpenedRun, directory: Path) -> TrainedStudent:
    """Read a finished student back; DamagedError if a file is not what was written."""
    test = opened.pool.splits.parts["test"]
    return read_student(directory, test.ids, torch.from_numpy(test.labels), opened.num_classes)


def _tidy(run: RunWithSets, draw: Draw, arm: str, directory: Path) -> None:
    """Remove what only training needs: optimizer states, this draw's outputs."""
    folder = run.folder
    shutil.rmtree(directory / SEARCH, ignore_errors=True)
    if arm != BASELINE:
        if draw.student:
            _drop(folder.student(draw.index, OUTPUTS, draw.student))
        seeds = range(run.config.seeds_per_draw)
        if all((folder.student(draw.index, arm, seed) / RESULT).is_file() for seed in seeds):
            run.teachers.forget()
            _drop(folder.student(draw.index, OUTPUTS))
            for index in range(len(run.teachers)):
                teacher = folder.student(draw.index, teacher_folder(index))
                _drop_states(teacher)
                _drop_folds(teacher)
    _drop_states(
        directory
    )  # last: a remaining state shows that the process was killed before the end


def _drop(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    _drop_folds(place)


def _drop_folds(place: Path) -> None:
    """Remove what stands beside a folder for the folds of its draw."""
    for fold in place.parent.glob(f"{place.name}-{FOLD}*"):
        shutil.rmtree(fold, ignore_errors=True)


def _drop_states(directory: Path) -> None:
    for state in directory.rglob(STATE):
        state.unlink()
