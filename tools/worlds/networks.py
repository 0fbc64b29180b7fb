"""Networks that are trained on many labels of a world: teachers, and first weights of students."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genkt.io import derive_seed
from genkt.models.backbone import Backbone
from genkt.models.load import ModelSpec, load_model
from genkt.training.steps import warmup_cosine
from worlds.pictures import Pictures

_BATCH, _RATE, _WARMUP, _DECAY = 128, 8e-3, 0.1, 0.02
HALF = [0.5, 0.5, 0.5]


@dataclass(frozen=True)
class Network:
    """A small ResNet.

    Args:
        channels: of its four stages of one block each.
        side: of what it looks at, in pixels.
        steps: of its training, of 128 pictures each.
    """

    channels: tuple[int, int, int, int]
    side: int
    steps: int = 0

    def words(self, who: str) -> list[str]:
        """It as a model of ``genkt transfer`` that nobody has trained."""
        return [
            f"{who}=resnet18",
            f"{who}.pretrained=false",
            f"{who}.args={{layers:[1,1,1,1],channels:{list(self.channels)}}}".replace(" ", ""),
            f"{who}.transform={{input_size:[{self.side},{self.side}],mean:{HALF},std:{HALF},"
            "crop_pct:1.0,interpolation:bilinear}".replace(" ", ""),
            f"{who}.channels_last=true",
        ]

    def build(self, num_classes: int, seed: int) -> Backbone:
        """It, with random weights."""
        args = {"layers": [1, 1, 1, 1], "channels": list(self.channels)}
        transform = {
            "input_size": [self.side, self.side], "mean": HALF, "std": HALF, "crop_pct": 1.0,
            "interpolation": "bilinear",
        }  # fmt: skip
        spec = ModelSpec("resnet18", pretrained=False, args=args, transform=transform,
                         channels_last=True)  # fmt: skip
        return load_model(spec, num_classes=num_classes, seed=seed)


def trained(network: Network, pictures: Pictures, classes: tuple[str, ...], seed: int) -> Backbone:
    """The network after cross-entropy on labelled pictures, cropped and mirrored at random."""
    model = network.build(len(classes), seed)
    pixels = as_tensor(pictures, network.side)
    labels = torch.from_numpy(pictures.labels)
    generator = torch.Generator().manual_seed(derive_seed(seed, "batches"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY)
    model.train()
    for step in range(network.steps):
        rows = torch.randint(len(labels), (_BATCH,), generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = _RATE * warmup_cosine(step, network.steps, _WARMUP)
        logits = model(cropped(pixels[rows], generator)).logits
        optimizer.zero_grad()
        F.cross_entropy(logits, labels[rows], label_smoothing=0.05).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


def cropped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random crops of 0.6 to all of the area, half of them mirrored: the shape of [B, 3, S, S]."""
    num, side = len(images), images.shape[-1]
    scale = (0.6 + 0.4 * torch.rand(num, generator=generator)).sqrt()
    mirror = 1 - 2 * (torch.rand(num, generator=generator) < 0.5).float()
    shift = (2 * torch.rand(num, 2, generator=generator) - 1) * (1 - scale)[:, None]
    matrix = torch.zeros(num, 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2] = scale * mirror, scale, shift
    grid = F.affine_grid(matrix, [num, 3, side, side], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def as_tensor(pictures: Pictures, side: int) -> Tensor:
    """[N, 3, side, side] between -1 and 1."""
    pixels = torch.from_numpy(np.ascontiguousarray(pictures.pixels)).permute(0, 3, 1, 2)
    images = pixels.float().div_(127.5).sub_(1)
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=side, mode="bilinear", antialias=True)


@torch.no_grad()
def accuracy(model: Backbone, pictures: Pictures) -> float:
    """Share of labelled pictures that it names rightly."""
    images = as_tensor(pictures, model.transform.input_size[0])
    said = torch.cat([model(each).logits.argmax(1) for each in torch.split(images, 256)])
    return float((said == torch.from_numpy(pictures.labels)).float().mean())


def write_network(model: Backbone, folder: Path, classes: tuple[str, ...]) -> list[str]:
    """Write it as a folder that timm loads; returns the value of a model setting."""
    model.export(folder, classes)
    return [f"local-dir:{folder}"]
