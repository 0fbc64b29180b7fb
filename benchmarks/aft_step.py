"""What AFT adds to a training step when teacher features are cached.

    python benchmarks/aft_step.py

A = one optimizer step of AFT (features read from the cache, kernels, the feature weights' own
Adam), B = the same step of plain fine-tuning on the same rows; ViT-S student, 1024 teacher
features (ViT-L), batch 128. On a CPU the images are 64x64 instead of 224x224: the kernels cost
the same, the student less, so the ratio is harder to keep low.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
import torch
from common import paired, report

from genkt.data.cache import OutputStore, StoreLayout, StoreWriter, store_identity
from genkt.data.images import ImageSet, from_arrays
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.methods.base import Objective, TeacherShape
from genkt.methods.build import build_objective, parse_options
from genkt.models.backbone import Backbone, transform_of
from genkt.training.batches import Batches, BatchPlan, to_device
from genkt.training.distiller import Distiller
from genkt.types import Batch

BATCH, TEACHER_WIDTH, NUM_IMAGES, CLASSES = 128, 1024, 512, 100
AFT = {
    "name": "aft", "beta": 10.0, "beta_grid": [10.0], "mu_lr": 0.01, "kernel": "linear",
    "mu": "diagonal", "no_kernel": False, "bilevel": False, "kernel_rows": "all",
}  # fmt: skip


class Steps:
    """One arm: its own student, objective and optimizers, stepping through the same rows."""

    def __init__(self, options: dict[str, object], batches: Batches, device: str, size: int):
        torch.manual_seed(0)
        model = timm.create_model("vit_small_patch16_224", num_classes=CLASSES, img_size=size)
        student = Backbone(model, transform_of(model), "vit_small")
        teachers = [TeacherShape("teacher", TEACHER_WIDTH)] if batches.stores else []
        objective: Objective = build_objective(
            parse_options(options), student_width=student.width, num_classes=CLASSES,
            teachers=teachers,
        )  # fmt: skip
        self.module = Distiller(student, objective).to(device).train()
        own = objective.own_optimizer()
        self.optimizers = [torch.optim.AdamW(student.parameters(), lr=1e-4)]
        self.optimizers += [own] if own else []
        self.batches, self.device, self.step = batches, torch.device(device), 0
        self.source = self._source()

    def _source(self) -> list[Batch]:
        return list(self.batches.iterate(0, 4))

    def __call__(self) -> None:
        index = self.step % 4
        rows = self.batches.step_rows(index)
        teachers = tuple(store.rows(rows[:, 0]) for store in self.batches.stores)
        batch = self.source[index]
        batch = replace(batch, teachers=teachers)
        batch = to_device(batch, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            losses = self.module(batch.images, batch.labels, batch.samples, batch.teachers)
        losses["total"].backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1


def make_store(home: Path, images: ImageSet) -> OutputStore:
    """A cache of random teacher features for the images."""
    layout = StoreLayout(len(images), {"features": TEACHER_WIDTH}, "float16")
    identity = store_identity(
        teacher="random", transform={}, views=FIXED_VIEW, dtype="float16", outputs=["features"],
        precision="float32", ids=images.ids,
    )  # fmt: skip
    writer = StoreWriter(home, identity, layout)
    generator = torch.Generator().manual_seed(0)
    writer.write(0, {"features": torch.randn(len(images), TEACHER_WIDTH, generator=generator)})
    return writer.finish()


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 224 if device == "cuda" else 64
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (NUM_IMAGES, 32, 32, 3), dtype=np.uint8)
    labels = generator.integers(0, CLASSES, NUM_IMAGES)
    images = from_arrays(pixels, labels, [f"c{i}" for i in range(CLASSES)], "random")
    with tempfile.TemporaryDirectory() as home:
        store = make_store(Path(home), images)
        model = timm.create_model("vit_small_patch16_224", img_size=size)
        dataset = ViewDataset(images, FIXED_VIEW, [transform_of(model)])
        plan = BatchPlan(np.arange(NUM_IMAGES), np.arange(0), BATCH, BATCH, 0)
        aft = Steps(AFT, Batches(dataset, images.labels, plan, [store]), device, size)
        plain = Steps({"name": "stl"}, Batches(dataset, images.labels, plan), device, size)
        result = paired(aft, plain, pairs=200 if device == "cuda" else 10, warmup=3)
    result["input_size"] = size
    report("aft_step", {"aft_over_plain_step": result}, {"aft_over_plain_step.ratio": "<= 1.01"})


if __name__ == "__main__":
    main()
