"""Gathers what a run has to tell into the report's plain values."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from genkt.config.data_settings import title_of
from genkt.config.recipe_settings import BASELINE, IrfRecipe
from genkt.config.set_settings import DiggSet, MixSet, RetrievedSet, SavedSet
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.inference.snippets import student_snippet
from genkt.models.backbone import Backbone
from genkt.models.weights import weights_notes
from genkt.report.kit.sheets import pick_samples
from genkt.report.transfer.report_data import ModelSummary, ReportData, SplitSummary
from genkt.retrieval.retrieval_card import leaks_text
from genkt.runs.pool import Draw
from genkt.runs.session import Session, weights_files
from genkt.runs.student_files import Cell
from genkt.runs.versions import versions
from genkt.settings.objects import GivenObject
from genkt.stages.irf import SETTINGS
from genkt.stages.stage_kinds import ACCURACY
from genkt.transfers.average_notes import average_notes
from genkt.transfers.report_images import composition, sheet_link, transfer_samples
from genkt.transfers.upstream_distance import upstream_distance, upstream_of
from genkt.types import Cost


def report_data(
    session: Session, cells: dict[str, list[Cell]], chosen: int, command: str
) -> ReportData:
    """The run as plain values; pictures are loaded for the sheets only."""
    config, draw = session.config, session.pool.draws[chosen]
    method = config.main_arm
    mine = cells[method][chosen]
    baseline = cells[BASELINE][chosen] if BASELINE in cells and method != BASELINE else None
    predictions = {arm: runs[chosen].prediction for arm, runs in cells.items()}
    rows = pick_samples(mine.prediction, baseline.prediction if baseline else None)
    test = session.pool.splits.parts["test"]
    student = session.student(session.num_classes, 0)
    models = _models(session, student, cells[method])
    return ReportData(
        title=_title(session),
        cells=[cell.result for runs in cells.values() for cell in runs],
        classes=session.pool.splits.classes,
        method=method,
        baseline=BASELINE,
        exported_draw=chosen,
        predictions=predictions,
        curves={"validation_accuracy": "Validation accuracy", "total": "Training loss"},
        artifacts=_artifacts(models, mine),
        sample_images={test.ids[row]: test.load(row) for row in rows},
        transfer_samples=transfer_samples(session, draw),
        transfer_composition=composition(session, draw),
        transfer_sheet=sheet_link(session, draw),
        distance=upstream_distance(session),
        models=models,
        stages=_stages(cells[method]),
        after=_accuracy_after(cells[method]),
        splits=_split_summaries(session, draw),
        skipped=[(e.path, e.reason) for e in session.pool.skipped if e.is_damage],
        command=command,
        versions=versions(),
        config=session.folder.config,
        snippet=student_snippet(session.folder.path, student),
        notes=_notes(session, cells[method]),
        **_irf_names(config),
    )


def _irf_names(config: TransferConfig) -> dict[str, Any]:
    """What the arms of ``recipe=irf`` and its answer are called."""
    if not isinstance(config.recipe, IrfRecipe):
        return {}
    names = {arm: setting.name for arm, setting in SETTINGS.items()}
    return {"arm_names": names, "subject": "Model transferred by IRF"}


def _title(session: Session) -> str:
    data = session.config.data
    name = title_of(data)
    if data.labels_per_class is not None:
        plural = "label" if data.labels_per_class == 1 else "labels"
        return f"{name}, {data.labels_per_class} {plural} per class"
    return f"{name}, {len(session.pool.draws[0].labelled)} labelled images"


def _artifacts(models: list[ModelSummary], cell: Cell) -> dict[str, np.ndarray[Any, Any]]:
    """What the method learned, under the teachers' names."""
    names = [model.name for model in models if model.role == "teacher"]
    found = {}
    for key, value in cell.artifacts.items():
        index = key.rpartition(".")[2]
        known = index.isdigit() and int(index) < len(names)
        found[names[int(index)] if known else key] = value.float().numpy()
    return found


def _models(session: Session, student: Backbone, cells: list[Cell]) -> list[ModelSummary]:
    """The student, and each teacher with its mean test accuracy over the draws."""
    size = _size(session.folder.path / "student" / "model.safetensors")
    found = [ModelSummary("student", student.name, student.num_parameters, size)]
    for index in range(len(session.teachers)):
        teacher = session.teacher(index)
        key = f"teacher_accuracy.{index}"
        values = [float(c.result.extras[key]) for c in cells if key in c.result.extras]
        accuracy = sum(values) / len(values) if values else None
        found.append(
            ModelSummary("teacher", teacher.name, teacher.num_parameters, accuracy=accuracy)
        )
    return found


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _stages(cells: list[Cell]) -> dict[str, Cost]:
    """The method's stages, summed over the draws."""
    total: dict[str, Cost] = {}
    for cell in cells:
        for name, cost in cell.stages.items():
            total[name] = total.get(name, Cost()) + cost
    return total


def _accuracy_after(cells: list[Cell]) -> dict[str, float]:
    """Mean test accuracy after every stage that trained the student."""
    known: dict[str, list[float]] = {}
    for cell in cells:
        for key, value in cell.result.extras.items():
            if key.startswith(ACCURACY):
                known.setdefault(key.removeprefix(ACCURACY), []).append(float(value))
        if trained := [name for name, cost in cell.stages.items() if cost.steps]:
            known.setdefault(trained[-1], []).append(cell.result.accuracy)
    return {name: sum(values) / len(values) for name, values in known.items()}


def _split_summaries(session: Session, draw: Draw) -> list[SplitSummary]:
    splits: Splits = session.pool.splits
    counts = np.bincount(draw.labels[draw.labelled], minlength=session.num_classes)
    found = [SplitSummary("labelled", len(draw.labelled), tuple(int(n) for n in counts))]
    if len(draw.transfer):
        found.append(SplitSummary("transfer", len(draw.transfer)))
    for name in ("validation", "test"):
        if name in splits.parts:
            part = splits.parts[name]
            found.append(SplitSummary(name, len(part), tuple(part.class_counts().values())))
    return found


def _notes(session: Session, cells: list[Cell]) -> list[str]:
    config, notes = session.config, list(session.pool.notes)
    if config.adaptation != "none" and session.teachers:
        notes.append(f"Teachers were adapted to the labels of each draw ({_adapted(cells)}).")
    betas = [f"{cell.result.extras['beta']:g}" for cell in cells if "beta" in cell.result.extras]
    if betas:
        notes.append(f"beta chosen on a held-out tenth of the labels, by draw: {', '.join(betas)}.")
    if "validation" in session.pool.splits.parts:
        notes.append("The exported student is the draw that did best on the validation images.")
    notes += average_notes(session)
    notes += [*weights_notes(weights_files(config)), *_generator_notes(session)]
    if not isinstance(config.recipe, IrfRecipe):
        notes += _stage_notes(session)
    return notes


def _stage_notes(session: Session) -> list[str]:
    """What a step of each distillation sees, and what the baseline is given for it."""
    config, notes = session.config, []
    for name, stage in config.distil_stages.items():
        settings = stage.settings(config.train)
        if stage.images == "all" and len(session.pool.draws[0].transfer):
            count = settings.labelled_per_batch
            notes.append(
                f"A step of {name} sees {count} labelled and {settings.batch_size - count} "
                "transfer images."
            )
    if config.baseline and config.main_arm != BASELINE:
        passes = " The teachers' own passes come on top (see Cost)." if session.teachers else ""
        notes.append(
            f"The baseline takes steps of {config.train.batch_size} labelled images, with fresh "
            f"random views, until it has seen as many as all stages together.{passes}"
        )
    return notes


def _adapted(cells: list[Cell]) -> str:
    """How, with the number of draws where that differs from draw to draw."""
    ways = Counter(
        str(value).replace("_", "-")
        for cell in cells
        for key, value in cell.result.extras.items()
        if key.startswith("teacher_adapted.")
    )
    return ", ".join(ways if len(ways) == 1 else (f"{way}: {n}" for way, n in ways.items()))


def _generator_notes(session: Session) -> list[str]:
    """What was made by a generator, and of what."""
    config, notes = session.config, []
    if session.sets and isinstance(config.transfer_set, DiggSet):
        every = config.transfer_set.sources == "all"
        sources = "all training images, no labels" if every else "its own labelled images alone"
        notes.append(
            f"Every draw synthesized its transfer images (DIGG, {config.transfer_set.generator}) "
            f"from {sources}."
        )
    if session.sets and isinstance(config.transfer_set, RetrievedSet):
        notes.append(_retrieved_note(config.transfer_set, session))
    if isinstance(config.read_set, SavedSet):
        notes.append(_saved_note(config.read_set, session.pool.draws[0]))
    if isinstance(config.read_set, MixSet):
        notes.append(_mix_note(config.read_set))
    if session.represented is not None:
        notes.append(f"Labelled images were re-represented by {config.irf.generator} (IRF).")
    if isinstance(config.recipe, IrfRecipe):
        notes.append(
            f"Every arm takes {config.recipe.steps} steps of {config.recipe.batch_size} images; "
            "two stages share them: the head alone (LP), then everything (FT). Letters are the "
            "rows of Table 4 in One to Transfer All; rec: trained on re-represented images."
        )
        if "rec_rec_on_rec" in config.arms:
            notes.append(
                "The students of (d) are those of (c), tested on re-represented test images."
            )
        if upstream_of(session) is None:
            notes.append(
                "No upstream images were given (recipe.upstream), so there is no Frechet distance."
            )
    return notes


_QUERIES = {"random": "at random", "text": "with the names of the classes as queries"}


def _retrieved_note(settings: RetrievedSet, session: Session) -> str:
    """What the draws' own sets were retrieved from and by, and what became of suspected leaks."""
    how = _QUERIES.get(settings.strategy, "with its own labelled images as queries")
    leaks = dict.fromkeys(leaks_text(own.found.header) for own in session.sets)
    return (
        f"Every draw retrieved its transfer images from {_places(settings.gallery)} {how}; "
        f"images of the data: {'; '.join(leaks)}."
    )


def _saved_note(settings: SavedSet, draw: Draw) -> str:
    """Where the transfer images were read, and what shares their parts have."""
    given = isinstance(settings.root, GivenObject)
    where = "given in Python" if given else f"read from {_places(settings.root)}"
    total = sum(part.share for part in draw.parts)
    shares = [f"{100 * p.share / total:.3g} % ({len(p.rows)} images)" for p in draw.parts]
    shared = f" Their parts share the transfer rows of a step: {', '.join(shares)}."
    return f"Transfer images were {where}, without their labels.{shared if shares else ''}"


def _places(found: str | GivenObject | list[str]) -> str:
    return ", ".join(found) if isinstance(found, list) else str(found)


def _mix_note(mix: MixSet) -> str:
    """What the transfer images were mixed of."""
    if mix.shares is None:
        return f"Transfer images, each as often as any other: {', '.join(mix.parts)}."
    parts = zip(mix.parts, mix.shares, strict=True)
    of_each = (f"{100 * share / sum(mix.shares):.3g} % {name}" for name, share in parts)
    return f"Of the transfer rows of a step: {', '.join(of_each)}."
