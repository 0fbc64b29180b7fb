"""Gathers what a run has to tell into the report's plain values."""

from __future__ import annotations

import json
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genkt.data.images import ImageSet
from genkt.data.splits import Splits
from genkt.io import derive_seed
from genkt.models.backbone import Backbone
from genkt.recipes.cell import BASELINE, Cell
from genkt.recipes.config import FolderSet
from genkt.recipes.data import draw_of
from genkt.recipes.session import Session
from genkt.report.data import ModelSummary, ReportData, SplitSummary, TransferSample
from genkt.report.sheets import pick_samples
from genkt.types import Cost

_SHEET = 24
_PARTS = ("torch", "torchvision", "timm", "lightning_fabric", "numpy", "pillow", "genkt")


def report_data(
    session: Session, cells: dict[str, list[Cell]], chosen: int, command: str
) -> ReportData:
    """The run as plain values; pictures are loaded for the sheets only."""
    method = session.config.method.name
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
        transfer_samples=_transfer_samples(session, chosen),
        transfer_composition=_composition(session, chosen),
        models=models,
        stages=_stages(cells[method]),
        splits=_split_summaries(session, chosen),
        skipped=[(entry.path, entry.reason) for entry in session.pool.skipped],
        command=command,
        versions=versions(),
        config=session.folder.config,
        snippet=snippet(session.folder.path, student),
        notes=_notes(session, cells[method]),
    )


def snippet(out: Path, student: Backbone) -> str:
    """Code that loads the exported student and, where it is timm's, predicts one image."""
    folder = (out / "student").resolve()
    if not student.is_timm:
        return "\n".join(
            [
                "from safetensors.torch import load_file",
                "# model: built by your own code, as the student you gave",
                f"model.load_state_dict(load_file({str(folder / 'model.safetensors')!r}))",
            ]
        )
    name = json.dumps(f"local-dir:{folder}", ensure_ascii=False)
    return "\n".join(
        [
            "import timm, torch",
            "from PIL import Image",
            f"model = timm.create_model({name}, pretrained=True).eval()",
            "config = timm.data.resolve_model_data_config(model)",
            "transform = timm.data.create_transform(**config, is_training=False)",
            'image = transform(Image.open("IMAGE.png").convert("RGB"))',
            "probabilities = model(image[None]).softmax(dim=1)[0]",
            'names = model.pretrained_cfg["label_names"]',
            "print(names[probabilities.argmax()], probabilities.max().item())",
        ]
    )


def versions() -> dict[str, str]:
    """Python, packages, hardware and today's date."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in _PARTS:
        try:
            found[name] = metadata.version("pytorch-lightning" if "fabric" in name else name)
        except metadata.PackageNotFoundError:
            continue
    found["hardware"] = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.machine()} CPU, {os.cpu_count()} cores"
    )
    found["date"] = date.today().isoformat()
    return found


def _title(session: Session) -> str:
    data = session.config.data
    name = getattr(data, "dataset", None) or Path(getattr(data, "root", data.name)).resolve().name
    if data.labels_per_class is not None:
        plural = "label" if data.labels_per_class == 1 else "labels"
        return f"{name}, {data.labels_per_class} {plural} per class"
    return f"{name}, {len(draw_of(session.config, session.pool, 0).labelled)} labelled images"


def _artifacts(models: list[ModelSummary], cell: Cell) -> dict[str, np.ndarray[Any, Any]]:
    """What the method learned, under the teachers' names."""
    names = [model.name for model in models if model.role == "teacher"]
    found = {}
    for key, value in cell.artifacts.items():
        index = key.rpartition(".")[2]
        known = index.isdigit() and int(index) < len(names)
        found[names[int(index)] if known else key] = value.float().numpy()
    return found


def _transfer_samples(session: Session, draw_index: int) -> list[TransferSample]:
    """A few labelled, then transfer images of the exported draw."""
    draw = draw_of(session.config, session.pool, draw_index)
    images, classes = session.pool.images, session.pool.splits.classes
    picked = [*draw.labelled[: _SHEET // 3], *_spread(draw.transfer, images, _SHEET * 2 // 3)]
    return [
        TransferSample(
            image=images.load(int(i)),
            source="real",
            label=classes[draw.labels[i]] if draw.labels[i] >= 0 else None,
            detail=images.ids[int(i)].rpartition("#")[0],
        )
        for i in picked
    ]


def _spread(rows: np.ndarray, images: ImageSet, most: int) -> list[int]:
    """A seeded handful of rows."""
    order = sorted(rows, key=lambda i: derive_seed(0, images.ids[int(i)], "sheet"))
    return [int(i) for i in order[:most]]


def _composition(session: Session, draw_index: int) -> dict[str, int]:
    draw = draw_of(session.config, session.pool, draw_index)
    kind = "another folder" if isinstance(session.config.transfer_set, FolderSet) else "unlabelled"
    parts = {"real, labelled": len(draw.labelled), f"real, {kind}": len(draw.transfer)}
    return {name: count for name, count in parts.items() if count}


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


def _split_summaries(session: Session, draw_index: int) -> list[SplitSummary]:
    splits: Splits = session.pool.splits
    draw = draw_of(session.config, session.pool, draw_index)
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
    if session.adapt != "none" and session.teachers:
        how = session.adapt.replace("_", "-")
        notes.append(f"Teachers were adapted to the labels of each draw ({how}).")
    betas = [f"{cell.result.extras['beta']:g}" for cell in cells if "beta" in cell.result.extras]
    if betas:
        notes.append(f"beta chosen on a held-out tenth of the labels, by draw: {', '.join(betas)}.")
    if "validation" in session.pool.splits.parts:
        notes.append("The exported student is the draw that did best on the validation images.")
    total = config.train.batch_size
    if len(draw_of(config, session.pool, 0).transfer):
        notes.append(
            f"A distillation step sees {config.train.labelled_per_batch} labelled and "
            f"{total - config.train.labelled_per_batch} transfer images; the baseline takes as "
            f"many steps of {total} labelled images as all stages of the method "
            "together, with fresh random views. The teachers' own passes come on top (see Cost)."
        )
    return notes
