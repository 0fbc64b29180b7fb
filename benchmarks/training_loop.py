"""Training throughput of genkt's loop over a bare hand-written PyTorch loop.

    python benchmarks/training_loop.py

Same model, images, batch size, optimizer and precision. The bare loop has a torch DataLoader over
ready tensors, images channels last, and nothing else: no logs, no checkpoints, no resume.
Ratio = bare seconds over genkt's seconds, which is genkt's throughput over the bare one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from common import paired, report
from torch.utils.data import DataLoader, TensorDataset

from genkt.data.images import from_arrays
from genkt.data.transform import ImageTransform
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.methods.build import build_objective, parse_options
from genkt.models.backbone import Backbone
from genkt.training.batches import Batches, BatchPlan
from genkt.training.fabric import make_fabric
from genkt.training.loop import train
from genkt.training.stage import Stage
from genkt.training.train_settings import TrainSettings

HALF = (0.5, 0.5, 0.5)
BATCH, NUM_IMAGES, STEPS = 128, 1024, 100


def student() -> Backbone:
    torch.manual_seed(0)
    model = timm.create_model(
        "resnet18", layers=[1] * 4, channels=[16, 32, 64, 128], num_classes=10
    )
    backbone = Backbone(model, ImageTransform((32, 32), HALF, HALF, "bilinear", 1.0), "resnet")
    backbone.channels_last = True
    return backbone


def main() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (NUM_IMAGES, 32, 32, 3), dtype=np.uint8)
    images = from_arrays(
        pixels, generator.integers(0, 10, NUM_IMAGES), list("0123456789"), "random"
    )
    fabric = make_fabric()
    dataset = ViewDataset(images, FIXED_VIEW, [student().transform])
    batches = Batches(
        dataset, images.labels, BatchPlan(np.arange(NUM_IMAGES), np.arange(0), BATCH, BATCH, 0)
    )
    settings = TrainSettings(
        steps=STEPS, epochs=None, batch_size=BATCH, labelled_per_batch=0, optimizer="adamw",
        lr=1e-3, weight_decay=0.02, momentum=0.9, warmup=0.1, clip_grad=None, ema=None, ema_every=1,
        precision="fp32", accumulate=1, compile=False, select="last", eval_every=0, log_every=10,
        save_seconds=1e9, num_workers=0,
    )  # fmt: skip

    def genkt_loop() -> None:
        model = student()
        objective = build_objective(
            parse_options({"name": "stl"}), student_width=model.width, num_classes=10
        )
        with tempfile.TemporaryDirectory() as directory:
            train(fabric, Stage("stl", model, objective, batches, settings, Path(directory), 0))

    ready = torch.stack([dataset[(i, 0)][0] for i in range(NUM_IMAGES)])
    labels = torch.from_numpy(images.labels.copy())

    def bare_loop() -> None:
        model = student().model.to(fabric.device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
        loader = DataLoader(TensorDataset(ready, labels), BATCH, shuffle=True)
        step = 0
        while step < STEPS:
            for pixels, targets in loader:
                inputs = (pixels.to(fabric.device).float() / 255 - 0.5) / 0.5
                inputs = inputs.contiguous(memory_format=torch.channels_last)
                loss = F.cross_entropy(model(inputs), targets.to(fabric.device))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1

    result = paired(bare_loop, genkt_loop, pairs=5)
    report(
        "training_loop", {"genkt_over_bare_throughput": result},
        {"genkt_over_bare_throughput.ratio": ">= 0.95"},
    )  # fmt: skip


if __name__ == "__main__":
    main()
