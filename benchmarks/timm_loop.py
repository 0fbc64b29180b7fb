"""A plain loop of timm's parts that distils a teacher by its softened logits; nothing of genkt.

    python benchmarks/timm_loop.py WORLD --student resnet18 --teacher resnet34 ...

``beside_timm.py`` writes the world and calls it. It is what one would write with timm alone: its
models, data set, loader, optimizer and cosine schedule; labelled rows and others in every batch; a
test at the end. The teacher runs on every batch.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.data import ImageDataset, create_loader, resolve_data_config
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn

TEMPERATURE, WEIGHT = 2.0, 0.5


def endless(loader: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch."""
    return itertools.chain.from_iterable(itertools.repeat(loader))


def loss_of(logits: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy on the labelled rows, which come first, and KL divergence on all."""
    hard = F.cross_entropy(logits[: len(labels)], labels)
    soft = F.kl_div(
        F.log_softmax(logits / TEMPERATURE, 1), F.softmax(taught / TEMPERATURE, 1),
        reduction="batchmean",
    )  # fmt: skip
    return (1 - WEIGHT) * hard + WEIGHT * TEMPERATURE**2 * soft


@torch.inference_mode()
def accuracy(student: nn.Module, loader: Any) -> float:
    """On the images of a loader, 0..1."""
    student.eval()
    right = [(student(images).argmax(1) == labels).float() for images, labels in loader]
    return float(torch.cat(right).mean())


def arguments() -> argparse.Namespace:
    """The world and the sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", type=Path)
    for name in ("student", "teacher"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("classes", "size", "batch", "labelled", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


def main() -> None:
    said = arguments()
    torch.manual_seed(0)
    student = timm.create_model(said.student, num_classes=said.classes)
    teacher = timm.create_model(
        said.teacher, num_classes=said.classes, checkpoint_path=str(said.world / "teacher.pth")
    ).eval()
    config = resolve_data_config({"input_size": (3, said.size, said.size)}, model=student)

    def loader(folder: str, batch: int, *, training: bool) -> Any:
        return create_loader(
            ImageDataset(str(said.world / folder)), config["input_size"], batch,
            is_training=training, mean=config["mean"], std=config["std"], num_workers=0,
            use_prefetcher=False, device=torch.device("cpu"), crop_pct=1.0,
        )  # fmt: skip

    labelled = endless(loader("data/train", said.labelled, training=True))
    others = endless(loader("pool", said.batch - said.labelled, training=True))
    optimizer = create_optimizer_v2(student, opt="adamw", lr=2e-3, weight_decay=0.02)
    schedule = CosineLRScheduler(optimizer, t_initial=said.steps, t_in_epochs=False)
    student.train()
    for step in range(said.steps):
        (images, labels), (more, _) = next(labelled), next(others)
        images = torch.cat([images, more])
        with torch.no_grad():
            taught = teacher(images)
        loss_of(student(images), taught, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step_update(step + 1)
    found = accuracy(student, loader("data/test", 256, training=False))
    print(f"test accuracy {found:.3f}")


if __name__ == "__main__":
    main()
