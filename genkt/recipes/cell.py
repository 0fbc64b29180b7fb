"""One student of a run: the baseline or the method, on one label draw; finished ones are kept."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genkt.data.images import ImageSet
from genkt.io import atomic_path, read_json, write_json
from genkt.models.backbone import Backbone
from genkt.recipes.course import Course
from genkt.recipes.data import Draw
from genkt.recipes.irf import SETTINGS, same_training, train_setting
from genkt.recipes.recipe_config import BASELINE, IrfRecipe, StagedRecipe
from genkt.recipes.run_folder import OUTPUTS, RESULT, StageLog, teacher_folder
from genkt.recipes.search import FOLDER
from genkt.recipes.session import Session, draw_seed
from genkt.recipes.stage_kinds import baseline_steps, run_stages
from genkt.recipes.stages import train_supervised
from genkt.training.checkpoint import save_weights
from genkt.training.stage import Record
from genkt.types import CellResult, Cost, Prediction

logger = logging.getLogger("genkt")


@dataclass(frozen=True)
class Cell:
    """A finished student: its figures, test predictions, weights, and what the method learned."""

    result: CellResult
    prediction: Prediction
    weights: dict[str, Tensor]
    artifacts: dict[str, Tensor]
    stages: dict[str, Cost]


def run_cell(session: Session, draw: Draw, arm: str) -> Cell:
    """Train one arm on one draw, or load it where an earlier start or another process did."""
    directory = session.folder.cell(draw.index, arm)
    if not _is_there(session, directory):
        with session.alone(f"draw {draw.index}, {arm}"):
            if not _is_there(session, directory):  # nobody finished it meanwhile
                _train_cell(session, draw, arm, directory)
    return load_cell(session, directory)


def _is_there(session: Session, directory: Path) -> bool:
    """As the first process of a launch sees it: all of them must go the same way."""
    return session.fabric.broadcast((directory / RESULT).is_file())


def _train_cell(session: Session, draw: Draw, arm: str, directory: Path) -> None:
    log = session.log.stage(draw.index, arm)
    recipe = session.config.recipe
    if isinstance(recipe, IrfRecipe):
        cell = _run_setting(session, recipe, draw, arm, directory, log)
    elif arm == BASELINE:
        cell = _run_baseline(session, recipe, draw, directory, log)
    else:
        cell = _run_recipe(session, recipe, draw, arm, directory, log)
    log.close()
    if session.fabric.is_global_zero:
        _save(cell, directory)
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


def _save(cell: Cell, directory: Path) -> None:
    """Everything of a finished cell; ``result.json`` last, as it says that all is there."""
    save_weights(directory / "student.safetensors", cell.weights)
    if cell.artifacts:
        save_weights(directory / "artifacts.safetensors", cell.artifacts)
    with atomic_path(directory / "probabilities.npy") as path, open(path, "wb") as stream:
        np.save(stream, cell.prediction.probabilities.numpy())
    stages = {name: asdict(cost) for name, cost in cell.stages.items()}
    write_json(directory / RESULT, {"result": asdict(cell.result), "stages": stages})


def load_cell(session: Session, directory: Path) -> Cell:
    """Read a finished cell back."""
    from safetensors.torch import load_file

    saved: dict[str, Any] = read_json(directory / RESULT)
    values = saved["result"]
    values["cost"] = Cost(**values["cost"])
    test = session.pool.splits.parts["test"]
    artifacts = directory / "artifacts.safetensors"
    return Cell(
        result=CellResult(**values),
        prediction=Prediction(
            test.ids,
            torch.from_numpy(test.labels),
            torch.from_numpy(np.load(directory / "probabilities.npy")),
        ),
        weights=load_file(directory / "student.safetensors"),
        artifacts=load_file(artifacts) if artifacts.is_file() else {},
        stages={name: Cost(**cost) for name, cost in saved["stages"].items()},
    )


def _tidy(session: Session, draw: Draw, arm: str, directory: Path) -> None:
    """Drop what only an unfinished cell needs: optimizer states, this draw's teacher outputs."""
    for state in directory.rglob("state.pt"):
        state.unlink()
    shutil.rmtree(directory / FOLDER, ignore_errors=True)
    if arm == BASELINE:
        return
    shutil.rmtree(session.folder.cell(draw.index, OUTPUTS), ignore_errors=True)
    for index in range(len(session.teachers)):
        for state in session.folder.cell(draw.index, teacher_folder(index)).rglob("state.pt"):
            state.unlink()
