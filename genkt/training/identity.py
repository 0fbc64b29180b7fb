"""What a saved training state must match before it is continued."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from torch import nn

from genkt.earlier import without_added
from genkt.io import fingerprint, fingerprint_ids, fingerprint_tensors
from genkt.stores.chunk_files import decoding_key
from genkt.training.averages import AVERAGE_RULE
from genkt.training.probe import OutputRows
from genkt.training.stage import Stage

_FREE = {"save_seconds", "num_workers", "log_every", "compile"}
"""Settings that may change between two starts of the same training."""
_NUM_SAMPLED = 64


def stage_identity(stage: Stage, num_steps: int) -> str:
    """Hash of weights at the start, rows, views, teachers, objective, settings and versions.

    Teachers with kept outputs are known by what these follow from; none is read.
    """
    return _identity(stage, num_steps, [store.fingerprint() for store in stage.batches.stores])


def earlier_identity(stage: Stage, num_steps: int) -> str:
    """The same as before outputs were computed on demand: by some outputs of the whole stage."""
    rows = _rows(stage)
    return _identity(stage, num_steps, [_sampled(store, rows) for store in stage.batches.stores])


def _identity(stage: Stage, num_steps: int, stores: list[str]) -> str:
    batches, plan = stage.batches, stage.batches.plan
    dataset = batches.dataset
    settings = without_added(asdict(stage.settings), "train")
    length: int | str = num_steps
    if stage.is_steady:  # may go on for more steps
        length, settings["steps"] = "steady", None
    return fingerprint(
        {
            "stage": [stage.name, stage.seed, length, stage.head_only, torch.__version__],
            "settings": {k: v for k, v in settings.items() if k not in _FREE},
            "student": stage.student.fingerprint(),
            "objective": _objective_identity(stage.objective),
            "teachers": stores + [teacher.fingerprint() for teacher in stage.online],
            "images": fingerprint_ids(dataset.images.ids),
            **decoding_key(dataset.images.decoding),
            "views": [dataset.spec.as_dict(), *(t.as_dict() for t in dataset.transforms)],
            "plan": [plan.batch_size, plan.labelled_per_batch, plan.seed],
            **_averages(stage),
        },
        batches.labels.tobytes(),
        plan.labelled.tobytes(),
        plan.transfer.tobytes(),
    )


def _averages(stage: Stage) -> dict[str, list[object]]:
    """How the weights that count follow the trained ones, where they do."""
    if rule := stage.momentum:
        return {"momentum": [rule.decay, rule.every]}
    return {} if stage.settings.ema is None else {"average": [AVERAGE_RULE]}


def _rows(stage: Stage) -> np.ndarray:
    """Some rows of those that the stage may read; a store may hold no others."""
    plan, num_views = stage.batches.plan, max(1, stage.batches.dataset.spec.num_views)
    samples = np.union1d(plan.labelled, plan.transfer)
    places = np.linspace(0, len(samples) * num_views - 1, _NUM_SAMPLED, dtype=np.int64)
    sample, view = np.divmod(np.unique(places), num_views)
    return samples[sample] * num_views + view


def _sampled(store: OutputRows, rows: np.ndarray) -> str:
    """Hash of some stored rows: another teacher differs in every one."""
    output = store.rows(rows[~np.isin(rows, list(store.lost))])
    values = {"features": output.features, "logits": output.logits}
    return fingerprint_tensors({k: v for k, v in values.items() if v is not None})


def _objective_identity(objective: nn.Module) -> list[object]:
    """Every module's class and plain values (beta, temperature ...), and the tensors."""
    described: list[object] = [fingerprint_tensors(objective.state_dict())]
    for name, module in objective.named_modules():
        values = {
            key: value
            for key, value in vars(module).items()
            if key != "training" and isinstance(value, (bool, int, float, str))
        }
        functions = {
            k: v.__qualname__ for k, v in vars(module).items() if hasattr(v, "__qualname__")
        }
        described.append([name, type(module).__qualname__, values, functions])
    return described
