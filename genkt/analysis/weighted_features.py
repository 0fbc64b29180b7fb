"""Probes of teacher features with and without the weights that runs of AFT learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genkt.analysis.collect_outputs import Collector, Features
from genkt.analysis.probes import probed
from genkt.config.model_settings import TeacherSettings
from genkt.earlier import as_now
from genkt.files import read_tensors
from genkt.io import home_path, reading
from genkt.models.load import ModelSpec, load_model
from genkt.report.analyze.analyze_data import WeightedProbe
from genkt.runs.model_factories import teacher_specs
from genkt.runs.run_folder import CLAIM, read_claim
from genkt.runs.student_files import ARTIFACTS
from genkt.runs.student_places import files_of_arm
from genkt.types import UserError

_KEY = "weights."


@dataclass(frozen=True)
class AftRun:
    """Feature weights that a run has learned.

    Args:
        teachers: of the run.  seed: for weights that are not loaded from a file.
        weights: one [D_t of all teachers] a student, 0..1.
    """

    teachers: tuple[ModelSpec, ...]
    seed: int
    weights: tuple[Tensor, ...]


def read_aft(name: str) -> AftRun | None:
    """The weights that a run of ``method=aft`` learned; None if ``name`` is not such a run.

    Raises:
        UserError: a run whose teachers or weights are not kept in a form that can be probed.
    """
    folder = home_path(name)
    if not (folder / "run.json").is_file():
        return None
    run = read_claim(folder)
    config = as_now(run["config"])
    method = config.get("method") or {}
    if method.get("name") != "aft":
        return None
    given = [key for key in run.get("inputs", {}) if key.startswith("teacher ")]
    if given:
        raise UserError("its teachers were given in Python")
    if any(folder.glob("draws/*/teacher*")):
        raise UserError("its teachers were trained on the labels, and are not kept")
    weights = [_weights(path) for path in files_of_arm(folder, "aft", ARTIFACTS)]
    found = [each for each in weights if each is not None]
    if not found:
        raise UserError("its mu is not one weight per feature (method.mu=diagonal)")
    with reading(folder / CLAIM, "the settings of a run"):
        settings = TeacherSettings(**config["teacher"])
        return AftRun(tuple(teacher_specs(settings)), config["seed"], tuple(found))


def _weights(path: Path) -> Tensor | None:
    """[D_t] of all teachers, side by side as AFT sees them."""
    saved = read_tensors(path)
    keys = sorted((key for key in saved if key.startswith(_KEY)), key=lambda k: int(k[len(_KEY) :]))
    return torch.cat([saved[key].float() for key in keys]) if keys else None


def weighted_probe(title: str, run: AftRun, collector: Collector) -> WeightedProbe:
    """Linear probes of a run's teacher features, without and with each draw's weights.

    Raises:
        UserError: a teacher that cannot be loaded, or is not the one of the run.
    """
    models = [load_model(spec, seed=run.seed).freeze() for spec in run.teachers]
    found = [collector.features(model) for model in models]
    train = torch.cat([each.train for each in found], dim=1)
    analysed = torch.cat([each.analysed for each in found], dim=1)
    widths = {len(weights) for weights in run.weights}
    if widths != {train.shape[1]}:
        raise UserError(f"its weights are for {max(widths)} features, the teachers have "
                        f"{train.shape[1]}")  # fmt: skip
    return WeightedProbe(
        run=title,
        teachers=[model.name for model in models],
        width=train.shape[1],
        plain=probed(Features(train, analysed, None), collector.parts),
        weighted=[
            probed(Features(train * weights, analysed * weights, None), collector.parts)
            for weights in run.weights
        ],
    )
