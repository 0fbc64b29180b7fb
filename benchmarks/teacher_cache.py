"""What caching a teacher saves, and what filling the cache costs over the bare forward pass.

    python benchmarks/teacher_cache.py

1. One epoch of distillation with the teacher's outputs cached over the same epoch with the same
   teacher run online (the rows, the views and the student are the same).
2. Images a second of ``cache_outputs`` over those of a bare loop that feeds the same model
   ready-made batches: no decoding, no writing. Once for ViT-S at 224 pixels, and once for a
   small convolutional network at 64, where making the pictures is a larger share of the work.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from common import paired, report

from genkt.data.images import ImageSet, from_arrays
from genkt.data.transform import ImageTransform
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.methods.build import build_objective, parse_options
from genkt.methods.shapes import TeacherShape
from genkt.models.backbone import Backbone, transform_of
from genkt.training.batches import Batches, BatchPlan
from genkt.training.fabric import make_fabric
from genkt.training.loop import train
from genkt.training.stage import Stage
from genkt.training.teacher import cache_outputs
from genkt.training.train_settings import TrainSettings

HALF = (0.5, 0.5, 0.5)
BATCH = 64
KD = {"name": "feature_kd", "beta": 1.0, "beta_grid": [1.0]}


def resnet(layers: list[int], channels: list[int], size: int) -> Backbone:
    torch.manual_seed(0)
    model = timm.create_model("resnet18", layers=layers, channels=channels, num_classes=10)
    return Backbone(model, ImageTransform((size, size), HALF, HALF, "bilinear", 1.0), "resnet")


def pictures(count: int) -> ImageSet:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)
    return from_arrays(pixels, generator.integers(0, 10, count), list("0123456789"), "random")


def epoch(images: ImageSet, teacher: Backbone, home: Path, online: bool) -> Callable[[], None]:
    """A function that trains one epoch; the cache is filled beforehand, decoding is not timed."""
    fabric = make_fabric(device="auto")
    teacher.to(fabric.device)
    student = resnet([1, 1, 1, 1], [16, 32, 64, 128], 32)
    transforms = [student.transform] + ([teacher.transform] if online else [])
    dataset = ViewDataset(images, FIXED_VIEW, transforms)
    stores = (
        [] if online else [cache_outputs(teacher, images, FIXED_VIEW, home, device=fabric.device)]
    )
    plan = BatchPlan(np.arange(len(images)), np.arange(0), BATCH, BATCH, 0)
    settings = TrainSettings(
        steps=len(images) // BATCH, epochs=None, batch_size=BATCH, labelled_per_batch=0,
        optimizer="adamw", lr=1e-3, weight_decay=0.0, momentum=0.9, warmup=0.0, clip_grad=None,
        ema=None, ema_every=1, precision="fp32", accumulate=1, compile=False, select="last",
        eval_every=0, log_every=10, save_seconds=1e9, num_workers=0,
    )  # fmt: skip
    objective = build_objective(
        parse_options(KD), student_width=student.width, num_classes=10,
        teachers=[TeacherShape("teacher", teacher.width)],
    )  # fmt: skip
    batches = Batches(dataset, images.labels, plan, stores)

    def run() -> None:
        with tempfile.TemporaryDirectory() as directory:
            train(fabric, Stage("epoch", student, objective, batches, settings, Path(directory), 0,
                                online=[teacher] if online else []))  # fmt: skip

    return run


def caching(images: ImageSet, teacher: Backbone) -> dict[str, object]:
    device = next(teacher.parameters()).device
    dataset = ViewDataset(images, FIXED_VIEW, [teacher.transform])
    ready = [
        dataset.batch([(i, 0) for i in range(start, min(start + BATCH, len(images)))])[0]
        for start in range(0, len(images), BATCH)
    ]

    def bare() -> None:
        with torch.inference_mode():
            for batch in ready:
                teacher(teacher.normalize(batch.to(device)))

    def cached() -> None:
        with tempfile.TemporaryDirectory() as home:
            cache_outputs(teacher, images, FIXED_VIEW, home, batch_size=BATCH, device=device,
                          progress=False)  # fmt: skip

    return paired(bare, cached, pairs=5)


def main() -> None:
    images = pictures(2048)
    teacher = resnet([2, 2, 2, 2], [64, 128, 256, 512], 64).freeze()
    with tempfile.TemporaryDirectory() as home:
        cached = epoch(images, teacher, Path(home), online=False)
        online = epoch(images, teacher, Path(home), online=True)
        epochs = paired(cached, online, pairs=4)
    torch.manual_seed(0)
    vit = timm.create_model("vit_small_patch16_224", num_classes=10)
    large = Backbone(vit, transform_of(vit), "vit_small").freeze()
    results = {
        "cached_over_online_epoch": epochs,
        "caching_over_bare_throughput": caching(images.select(range(128)), large),
        "caching_over_bare_throughput_tiny_teacher": caching(images, teacher),
    }
    goals = {
        "cached_over_online_epoch.ratio": "well below 1",
        "caching_over_bare_throughput.ratio": ">= 0.95",
    }
    report("teacher_cache", results, goals)


if __name__ == "__main__":
    main()
