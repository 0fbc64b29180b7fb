"""One student of a run: the baseline or the method, on one label draw; finished ones are kept."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from genkt.config.recipe_settings import BASELINE, IrfRecipe, StagedRecipe
from genkt.data.images import ImageSet
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw
from genkt.runs.run_folder import OUTPUTS, RESULT, teacher_folder
from genkt.runs.run_log import StageLog
from genkt.runs.session import Session, draw_seed
from genkt.runs.student_files import Cell, fault_of, forget, is_sealed, read_cell, save_cell
from genkt.stages.beta_search import FOLDER
from genkt.stages.course import Course
from genkt.stages.irf import SETTINGS, same_training, train_setting
from genkt.stages.stage_kinds import baseline_steps, run_stages
from genkt.stages.train_stage import train_supervised
from genkt.stopping import part
from genkt.training.checkpoint import STATE
from genkt.training.stage import Record
from genkt.types import CellResult, Cost, DamagedError

logger = logging.getLogger("genkt")


def run_cell(session: Session, draw: Draw, arm: str) -> Cell:
    """Train one arm on one draw, or load it where an earlier start or another process did."""
    directory = session.folder.cell(draw.index, arm)
    if not _is_there(session, directory):
        with session.alone(f"draw {draw.index}, {arm}"):
            if not _is_there(session, directory):  # nobody finished it meanwhile
                _train_cell(session, draw, arm, directory)
    elif session.fabric.is_global_zero and any(directory.rglob(STATE)):  # killed while it tidied
        with session.alone(f"draw {draw.index}, {arm}"):
            _tidy(session, draw, arm, directory)
    return load_cell(session, directory)


def heal(session: Session) -> bool:
    """Have finished students whose files are not what was written trained again.

    Returns:
        Whether there was one, as the first process of a launch sees it.
    """
    found, old = 0, False
    if session.fabric.is_global_zero:
        for draw in session.pool.draws:
            for arm in session.config.arms:
                directory = session.folder.cell(draw.index, arm)
                found += _forgotten(session, directory, f"draw {draw.index}, {arm}")
                old = old or ((directory / RESULT).is_file() and not is_sealed(directory))
    if old:
        logger.info(
            "%s: some students were written by an older genkt, without digests: their files are "
            "taken as they are",
            session.folder.path,
        )
    return session.fabric.broadcast(found > 0)


def _forgotten(session: Session, directory: Path, name: str) -> bool:
    """Whether a student was damaged; it counts as not trained then."""

    def fault() -> DamagedError | None:
        return fault_of(directory, lambda: load_cell(session, directory))

    if fault() is None:
        return False
    with session.alone(name):
        error = fault()  # else another process has trained it again
        if error is not None:
            logger.warning("%s; %s: trained again", str(error).rpartition("; ")[0], name)
            forget(directory)
    return error is not None


def _is_there(session: Session, directory: Path) -> bool:
    """As the first process of a launch sees it: all of them must go the same way."""
    return session.fabric.broadcast((directory / RESULT).is_file())


def _train_cell(session: Session, draw: Draw, arm: str, directory: Path) -> None:
    log = session.log.stage(draw.index, arm)
    recipe = session.config.recipe
    with part(f"draw {draw.index}, {arm}"):
        if isinstance(recipe, IrfRecipe):
            cell = _run_setting(session, recipe, draw, arm, directory, log)
        elif arm == BASELINE:
            cell = _run_baseline(session, recipe, draw, directory, log)
        else:
            cell = _run_recipe(session, recipe, draw, arm, directory, log)
    log.close()
    if session.fabric.is_global_zero:
        save_cell(replace(cell, log=log.known), directory)
        _tidy(session, draw, arm, directory)
    session.fabric.barrier()
    logger.info("draw %d, %s: %.1f %%", draw.index, arm, 100 * cell.result.accuracy)


def _run_baseline(
    session: Session, recipe: StagedRecipe, draw: Draw, directory: Path, log: StageLog
) -> Cell:
    """Plain fine-tuning for as many steps of as many images as all stages of the recipe."""
    student = _fresh_student(session, draw)
    first = _first_weights(student)
    settings = replace(session.config.train, steps=baseline_steps(session, draw, recipe))
    cost, curve = train_supervised(
        session, draw, "finetune", student, settings, directory / "finetune", log
    )
    return _cell(session, draw, BASELINE, student, curve, {"finetune": cost}, None, first, {})


def _run_recipe(
    session: Session, recipe: StagedRecipe, draw: Draw, arm: str, directory: Path, log: StageLog
) -> Cell:
    """A fresh student goes through all stages."""
    student = _fresh_student(session, draw)
    course = Course(
        session, draw, directory, log, student,
        costs=_making(session, draw), extras=_first_weights(student),
    )  # fmt: skip
    distilled = run_stages(course, recipe)
    return _cell(
        session, draw, arm, course.student, course.curve, course.costs, distilled, course.extras,
        course.artifacts,
    )  # fmt: skip


def _run_setting(
    session: Session, recipe: IrfRecipe, draw: Draw, arm: str, directory: Path, log: StageLog
) -> Cell:
    """An arm of ``recipe=irf``; one that trains as another arm does takes its student."""
    setting, twin = SETTINGS[arm], same_training(arm)
    assert session.represented is not None
    student = _fresh_student(session, draw)
    stages: dict[str, Cost] = {}
    curve: list[Record] = []
    if twin == arm:
        settings = replace(
            session.config.train, steps=recipe.steps, lr=recipe.lr, batch_size=recipe.batch_size
        )
        if setting.re_represents:
            stages = _making(session, draw)
        costs, curve = train_setting(session, draw, student, setting, settings, directory, log)
        stages |= costs
    else:
        trained = run_cell(session, draw, twin)
        student.model.load_state_dict(trained.weights)
        stages = trained.stages
        student.to(session.fabric.device)
    test = session.represented.test if setting.test_on == "reconstructions" else None
    return _cell(session, draw, arm, student, curve, stages, None, {}, {}, test)


def _making(session: Session, draw: Draw) -> dict[str, Cost]:
    """What the generator's work took: this draw's set, and its share of what all draws use."""
    stages = {}
    if session.sets:
        stage = "synthesize" if session.retriever is None else "retrieve"
        stages[stage] = Cost(seconds=session.sets[draw.index].seconds)
    if session.represented is not None:
        share = session.represented.seconds / len(session.pool.draws)
        stages["re-represent"] = Cost(seconds=share)
    return stages


def _fresh_student(session: Session, draw: Draw) -> Backbone:
    """The same first weights for every arm of a draw."""
    return session.student(session.num_classes, draw_seed(draw, "student"))


def _first_weights(student: Backbone) -> dict[str, float | int | str]:
    """What tells whether two arms of a draw began with the same student."""
    return {"first_weights": student.fingerprint()}


def _cell(
    session: Session, draw: Draw, arm: str, student: Backbone, curve: list[Record],
    stages: dict[str, Cost], distilled: float | None, extras: dict[str, float | int | str],
    artifacts: dict[str, Tensor], test: ImageSet | None = None,
) -> Cell:  # fmt: skip
    prediction = session.predictions(student, "test", test)
    if "validation" in session.pool.splits.parts:
        extras["validation_accuracy"] = session.predictions(student, "validation").accuracy
    result = CellResult(
        arm=arm,
        draw=draw.index,
        accuracy=prediction.accuracy,
        accuracy_distilled=distilled,
        curve=curve,
        cost=sum(stages.values(), Cost()),
        extras=extras,
    )
    weights = {k: v.detach().cpu() for k, v in student.model.state_dict().items()}
    return Cell(result, prediction, weights, artifacts, stages)


def load_cell(session: Session, directory: Path) -> Cell:
    """Read a finished cell back; DamagedError where a file is not what was written."""
    test = session.pool.splits.parts["test"]
    labels = torch.from_numpy(test.labels)
    return read_cell(directory, test.ids, labels, session.num_classes)


def _tidy(session: Session, draw: Draw, arm: str, directory: Path) -> None:
    """Drop what only an unfinished cell needs: optimizer states, this draw's teacher outputs."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)
    if arm != BASELINE:
        shutil.rmtree(session.folder.cell(draw.index, OUTPUTS), ignore_errors=True)
        for index in range(len(session.teachers)):
            _drop_states(session.folder.cell(draw.index, teacher_folder(index)))
    _drop_states(directory)  # last: while one is there, a killed process had not come to the end


def _drop_states(directory: Path) -> None:
    for state in directory.rglob(STATE):
        state.unlink()
