"""What a saved training state must match before it is continued."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from torch import nn

from genkt.io import fingerprint, fingerprint_ids, fingerprint_tensors
from genkt.training.probe import Rows
from genkt.training.stage import Stage

_FREE = {"save_seconds", "num_workers", "log_every", "compile"}
"""Settings that may change between two starts of the same training."""
_NUM_SAMPLED = 64


def stage_identity(stage: Stage, num_steps: int) -> str:
    """Hash of weights at the start, rows, views, teachers, objective, settings and versions."""
    batches, plan = stage.batches, stage.batches.plan
    dataset = batches.dataset
    return fingerprint(
        {
            "stage": [stage.name, stage.seed, num_steps, stage.head_only, torch.__version__],
            "settings": {k: v for k, v in asdict(stage.settings).items() if k not in _FREE},
            "student": stage.student.fingerprint(),
            "objective": _objective_identity(stage.objective),
            "teachers": [
                _sampled(store, len(dataset) * dataset.spec.num_views) for store in batches.stores
            ]
            + [teacher.fingerprint() for teacher in stage.online],
            "images": fingerprint_ids(dataset.images.ids),
            "views": [dataset.spec.as_dict(), *(t.as_dict() for t in dataset.transforms)],
            "plan": [plan.batch_size, plan.labelled_per_batch, plan.seed],
        },
        batches.labels.tobytes(),
        plan.labelled.tobytes(),
        plan.transfer.tobytes(),
    )


def _sampled(store: Rows, num_rows: int) -> str:
    """Hash of some stored rows: another teacher differs in every one."""
    output = store.rows(np.unique(np.linspace(0, num_rows - 1, _NUM_SAMPLED, dtype=np.int64)))
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
