"""What the shipped teacher can do: its figures, and the card that states them.

Figures are accuracies in percent. Downstream ones come from label draws of the fixed pool
(``data.splits.draw_labels``, seeds 0..4) and are measured on the test set.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from genkt.data.builtin.digits import digits, digits_on_photos
from genkt.data.builtin.glyphs import HELD_OUT_FONTS, draw_bank, sample_glyphs
from genkt.data.builtin.photos import UPSTREAM_PHOTOS, photo_crops
from genkt.data.images import ImageSet
from genkt.data.splits import Splits, draw_labels
from genkt.io import derive_seed
from genkt.models.backbone import Backbone

NUM_DRAWS = 5
LABELS_PER_CLASS = 2
NUM_UPSTREAM = 2000

Figures = dict[str, dict[str, Any]]


def pixels(images: ImageSet, teacher: Backbone) -> Tensor:
    """Every picture as the teacher's transform makes it: uint8 [N, 3, H, W]."""
    return torch.stack([teacher.transform.to_uint8(images.load(i)) for i in range(len(images))])


@torch.no_grad()
def outputs(teacher: Backbone, images: Tensor, batch_size: int = 128) -> tuple[Tensor, Tensor]:
    """Features [N, D] and logits [N, C] of uint8 images, in evaluation mode."""
    teacher.eval()
    parts = [teacher(teacher.normalize(chunk)) for chunk in torch.split(images, batch_size)]
    return torch.cat([part.features for part in parts]), torch.cat([part.logits for part in parts])


def linear_probe(features: Tensor, labels: np.ndarray, test: Tensor, truth: np.ndarray) -> float:
    """Accuracy (percent) of a logistic regression on centred features of unit variance."""
    mean, deviation = features.mean(dim=0), features.std()
    model = LogisticRegression(max_iter=500)
    model.fit(((features - mean) / deviation).numpy(), labels)
    return 100 * float(model.score(((test - mean) / deviation).numpy(), truth))


def nearest_centroid(
    features: Tensor, labels: np.ndarray, test: Tensor, truth: np.ndarray
) -> float:
    """Accuracy (percent) of the class mean with the largest cosine, after centring."""
    mean = features.mean(dim=0)
    centred = F.normalize(features - mean, dim=1)
    classes = np.unique(labels)
    means = torch.stack([centred[torch.from_numpy(labels == c)].mean(dim=0) for c in classes])
    nearest = (F.normalize(test - mean, dim=1) @ F.normalize(means, dim=1).T).argmax(dim=1)
    return 100 * float((classes[nearest.numpy()] == truth).mean())


def fine_tune(
    teacher: Backbone,
    images: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    seed: int,
    steps: int = 100,
) -> Backbone:
    """A copy of the teacher fine-tuned whole on a few labelled images, slightly moved each step.

    AdamW, cosine to zero, 1e-4 (a new head: 3e-3), batch-norm statistics kept, all images per step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "head"))
        tuned = copy.deepcopy(teacher)
        tuned.model.reset_classifier(num_classes)  # type: ignore[operator]
    tuned.num_classes = num_classes
    tuned.frozen = False
    tuned.requires_grad_(True).eval()
    head = tuned.classifier_parameters()
    body = [p for p in tuned.parameters() if all(p is not other for other in head)]
    groups = [{"params": body, "lr": 1e-4}, {"params": head, "lr": 3e-3}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    generator = torch.Generator().manual_seed(derive_seed(seed, "moves"))
    for _ in range(steps):
        matrix = torch.eye(2, 3) + 0.1 * torch.randn(len(images), 2, 3, generator=generator)
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        inputs = F.grid_sample(
            teacher.normalize(images), grid, padding_mode="border", align_corners=False
        )
        loss = F.cross_entropy(tuned(inputs).logits, labels, label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return tuned


def upstream_accuracy(teacher: Backbone, *, on_photos: bool, num: int = NUM_UPSTREAM) -> float:
    """Accuracy (percent) on glyphs of the held-out fonts, without handwritten forms."""
    bank = draw_bank(HELD_OUT_FONTS, num_written=0)
    crops = photo_crops(UPSTREAM_PHOTOS, 512, seed=derive_seed("held-out crops"))
    photos = torch.from_numpy(crops).permute(0, 3, 1, 2)
    generator = torch.Generator().manual_seed(derive_seed("held-out glyphs", int(on_photos)))
    pictures, labels = sample_glyphs(
        bank, num, generator=generator, photos=photos, on_photos=float(on_photos)
    )
    size = teacher.transform.input_size
    scaled = F.interpolate(pictures, size=size, mode="bilinear", align_corners=False)
    images = (scaled * 255).round().to(torch.uint8)
    return 100 * float((outputs(teacher, images)[1].argmax(dim=1) == labels).double().mean())


def task_figures(
    teacher: Backbone, splits: Splits, *, tuned: bool = True, on: str = "test"
) -> Figures:
    """Figures of one downstream task, on the ``test`` or the ``validation`` pictures.

    Args:
        tuned: also fine-tune, which takes most of the time.
    """
    held = splits.parts[on]
    pool_pixels, held_pixels = pixels(splits.train, teacher), pixels(held, teacher)
    pool, target = outputs(teacher, pool_pixels)[0], outputs(teacher, held_pixels)[0]
    labels, truth = np.asarray(splits.train.labels), np.asarray(held.labels)
    probes, tunings = [], []
    for draw in range(NUM_DRAWS):
        rows, _ = draw_labels(splits.train, per_class=LABELS_PER_CLASS, seed=draw)
        probes.append(linear_probe(pool[rows], labels[rows], target, truth))
        if tuned:
            few = torch.from_numpy(labels[rows].copy())
            model = fine_tune(
                teacher, pool_pixels[rows], few, num_classes=len(splits.classes), seed=draw
            )
            right = outputs(model, held_pixels)[1].argmax(dim=1).numpy() == truth
            tunings.append(100 * float(right.mean()))
    result: Figures = {
        "linear_probe_2_per_class": _over_draws(probes),
        "linear_probe_pool": {"value": round(linear_probe(pool, labels, target, truth), 2)},
        "centroid_pool": {"value": round(nearest_centroid(pool, labels, target, truth), 2)},
    }
    if tuned:
        result["fine_tune_2_per_class"] = _over_draws(tunings)
    return result


def _over_draws(values: list[float]) -> dict[str, Any]:
    """Their mean, and half of Student's 95 % interval over the draws alone."""
    half_width = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return {
        "mean": round(float(np.mean(values)), 2),
        "half_width": round(float(half_width), 2),
        "draws": [round(value, 2) for value in values],
    }


def measure(teacher: Backbone) -> dict[str, Any]:
    """All figures of the card: upstream held-out fonts and both downstream tasks' test sets."""
    return {
        "upstream_held_out_fonts": {
            "plain": round(upstream_accuracy(teacher, on_photos=False), 2),
            "on_photos": round(upstream_accuracy(teacher, on_photos=True), 2),
        },
        "digits": task_figures(teacher, digits()),
        "digits_on_photos": task_figures(teacher, digits_on_photos()),
    }
