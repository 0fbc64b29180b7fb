"""One student of a run: the baseline or the method, on one label draw; finished ones are kept."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genkt.data.images import ImageSet
from genkt.data.splits import holdout
from genkt.data.views import FIXED_VIEW
from genkt.io import atomic_path, read_json, write_json
from genkt.losses.logits import cross_entropy
from genkt.methods.base import MethodOptions
from genkt.methods.build import beta_candidates, with_beta
from genkt.models.backbone import Backbone
from genkt.recipes.config import BASELINE, IrfRecipe
from genkt.recipes.data import Draw
from genkt.recipes.irf import SETTINGS, same_training, train_setting
from genkt.recipes.run_folder import StageLog
from genkt.recipes.session import Session, TeacherSet, draw_seed
from genkt.recipes.stages import distil, distil_steps, train_supervised
from genkt.recipes.teachers import prepare_teachers
from genkt.training.checkpoint import save_weights
from genkt.training.stage import Record
from genkt.types import UNLABELLED, CellResult, Cost, Prediction


@dataclass(frozen=True)
class Cell:
    """A finished student: its figures, test predictions, weights, and what the method learned."""

    result: CellResult
    prediction: Prediction
    weights: dict[str, Tensor]
    artifacts: dict[str, Tensor]
    stages: dict[str, Cost]


def run_cell(session: Session, draw: Draw, arm: str) -> Cell:
    """Train one arm on one draw, or load it where an earlier start finished it."""
    directory = session.folder.cell(draw.index, arm)
    if not (directory / "result.json").is_file():
        log = session.log.stage(draw.index, arm)
        if isinstance(session.config.recipe, IrfRecipe):
            cell = _run_setting(session, draw, arm, directory, log)
        elif arm == BASELINE:
            cell = _run_baseline(session, draw, directory, log)
        else:
            cell = _run_method(session, draw, directory, log)
        log.close()
        if session.fabric.is_global_zero:
            _save(cell, directory)
            _tidy(session, draw, directory)
        session.fabric.barrier()
    return load_cell(session, directory)


def _run_baseline(session: Session, draw: Draw, directory: Path, log: StageLog) -> Cell:
    """Plain fine-tuning for as many steps of as many images as all stages of the method."""
    student = _fresh_student(session, draw)
    first = _first_weights(student)
    num_steps = distil_steps(session, draw) + session.config.finetune.steps
    settings = replace(session.config.train, steps=num_steps)
    cost, curve = train_supervised(
        session, draw, "finetune", student, settings, directory / "finetune", log
    )
    return _cell(session, draw, BASELINE, student, curve, {"finetune": cost}, None, first, {})


def _run_method(session: Session, draw: Draw, directory: Path, log: StageLog) -> Cell:
    """Adapt and cache the teachers, distil, then fine-tune on the labels."""
    config = session.config
    stages = _making(session, draw)
    started = time.perf_counter()
    teachers, cost = prepare_teachers(session, draw, log)
    if teachers.models:  # all of it counts: forward passes into the cache, probes, fine-tuning
        spent = max(cost.seconds, time.perf_counter() - started)
        stages["teachers"] = replace(cost, seconds=spent)
    extras: dict[str, float | int | str] = _teacher_accuracy(teachers)
    options, cost = _searched(session, draw, config.method, teachers, directory, log)
    if cost.steps:
        stages["search"] = cost
        extras["beta"] = options.beta  # type: ignore[attr-defined]
    student = _fresh_student(session, draw)
    extras |= _first_weights(student)
    cost, curve, artifacts = distil(
        session, draw, student, options, teachers, directory / "distil", log
    )
    stages["distil"] = cost
    distilled = session.predictions(student, "test").accuracy if config.finetune.steps else None
    if config.finetune.steps:
        costs, more = _finetune(session, draw, student, directory, log)
        offset = stages["distil"].steps
        stages |= costs
        curve = curve + [{**record, "step": int(record["step"]) + offset} for record in more]
    name = config.method.name
    return _cell(session, draw, name, student, curve, stages, distilled, extras, artifacts)


def _finetune(
    session: Session, draw: Draw, student: Backbone, directory: Path, log: StageLog
) -> tuple[dict[str, Cost], list[Record]]:
    """The last stage of a distilled student: plain, or its head first by IRF."""
    last = session.config.finetune
    settings = replace(session.config.train, steps=last.steps, lr=last.lr)
    if last.recipe == "irf":
        return train_setting(session, draw, student, SETTINGS["irf"], settings, directory, log)
    cost, curve = train_supervised(
        session, draw, "finetune", student, settings, directory / "finetune", log
    )
    return {"finetune": cost}, curve


def _run_setting(session: Session, draw: Draw, arm: str, directory: Path, log: StageLog) -> Cell:
    """An arm of ``recipe=irf``; one that trains as another arm does takes its student."""
    recipe, setting, twin = session.config.recipe, SETTINGS[arm], same_training(arm)
    assert isinstance(recipe, IrfRecipe) and session.represented is not None
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


def _teacher_accuracy(teachers: TeacherSet) -> dict[str, float | int | str]:
    """Test accuracy of every teacher that has a head for the task."""
    return {
        f"teacher_accuracy.{index}": accuracy
        for index, accuracy in enumerate(teachers.test_accuracy)
        if accuracy is not None
    }


def _searched(
    session: Session, draw: Draw, options: MethodOptions, teachers: TeacherSet,
    directory: Path, log: StageLog,
) -> tuple[MethodOptions, Cost]:  # fmt: skip
    """Replace ``beta=search`` by the candidate that does best on a held-out tenth of the labels.

    Every candidate trains a student on the other labels, without what was synthesized from the
    held-out images. Best: most right answers, then lowest cross-entropy, then the smaller beta.
    The final student is trained on all labels afterwards.
    """
    candidates = beta_candidates(options)
    if not candidates:
        return options, Cost()
    kept, held = holdout(draw.images.select(draw.labelled), 0.1, draw.seed, "beta")
    labels = np.full_like(draw.labels, UNLABELLED)
    labels[draw.labelled[kept]] = draw.labels[draw.labelled[kept]]
    search = replace(
        _without(session, draw, draw.labelled[held]), labels=labels, labelled=draw.labelled[kept]
    )
    total, scores = Cost(), []
    for beta in candidates:
        student = _fresh_student(session, draw)
        cost, _, _ = distil(
            session, search, student, with_beta(options, beta), teachers,
            directory / f"search-{beta:g}", log, name=f"search-{beta:g}",
        )  # fmt: skip
        total += cost
        accuracy, loss = _held_out_score(session, student, draw.images.select(draw.labelled[held]))
        scores.append((-accuracy, loss, beta))
    return with_beta(options, min(scores)[2]), total


def _without(session: Session, draw: Draw, rows: np.ndarray) -> Draw:
    """The draw without some labelled rows as transfer images, and what was made of them."""
    hidden = {draw.images.ids[row] for row in rows}
    if session.sets:
        records = session.sets[draw.index].found.records()
        made = draw.transfer[[record.parent in hidden for record in records]]
    else:
        made = session.pool.made_of(draw.transfer, hidden)
    return draw.without_transfer(np.concatenate([rows, made]))


def _held_out_score(session: Session, student: Backbone, images: ImageSet) -> tuple[float, float]:
    """(accuracy, cross-entropy) on training images, under the fixed view."""
    from genkt.data.views import ViewDataset
    from genkt.training.evaluate import predict

    dataset = ViewDataset(images, FIXED_VIEW, [student.transform])
    prediction = predict(student, dataset, device=session.fabric.device)
    log_probabilities = prediction.probabilities.clamp_min(1e-12).log()
    return prediction.accuracy, cross_entropy(log_probabilities, prediction.labels).item()


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
    write_json(directory / "result.json", {"result": asdict(cell.result), "stages": stages})


def load_cell(session: Session, directory: Path) -> Cell:
    """Read a finished cell back."""
    from safetensors.torch import load_file

    saved: dict[str, Any] = read_json(directory / "result.json")
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


def _tidy(session: Session, draw: Draw, directory: Path) -> None:
    """Drop what only an unfinished cell needs: optimizer states, this draw's teacher outputs."""
    for state in directory.rglob("state.pt"):
        state.unlink()
    for searched in directory.glob("search-*"):
        shutil.rmtree(searched)
    if directory.name != BASELINE:
        shutil.rmtree(directory.parent / "cache", ignore_errors=True)
        for state in directory.parent.glob("teacher*/**/state.pt"):
            state.unlink()
