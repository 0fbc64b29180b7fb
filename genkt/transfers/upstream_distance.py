"""Distance of the downstream images from upstream, before and after re-representation."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genkt.config.transfer_settings import TransferConfig
from genkt.data.images import from_arrays
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.files import number, read_or_forget, read_signed, write_signed
from genkt.generative.generator import SHIPPED
from genkt.io import derive_seed, reading
from genkt.metrics.frechet import frechet_distance
from genkt.metrics.rounding import without_noise
from genkt.models.backbone import Backbone
from genkt.report.transfer.report_data import DistanceSummary
from genkt.transfers.phases import OpenedRun
from genkt.types import UNLABELLED
from genkt.upstream.upstream_pictures import GLYPHS, open_upstream

_BATCH = 64


def upstream_distance(opened: OpenedRun) -> DistanceSummary | None:
    """Measure it once per run, with the features of the model before its transfer.

    All pictures are fitted to the generator's size first, so that re-representation is the only
    difference. None if the settings name no upstream images, or there are too few images.
    """
    path = opened.folder.path / "frechet.json"
    if opened.fabric.broadcast(opened.is_first and _is_measured(path)):
        return _read(path)
    config, device = opened.config, opened.fabric.device
    upstream = upstream_of(config)
    if upstream is None:
        return None
    generator, train = opened.generators.load(config.irf.generator), opened.pool.splits.train
    seed = derive_seed(config.seed, "frechet")
    wanted = min(config.recipe.most_compared, len(train))
    source = open_upstream(upstream, _BATCH, seed, generator.size, device=device)
    theirs = source.sample(wanted, seed)
    rows = np.random.default_rng(seed).permutation(len(train))[: len(theirs)]
    if len(rows) < 2:
        return None
    ours = generator.as_images([train.load(int(row)) for row in np.sort(rows)])
    model = opened.fresh_student().freeze().to(device)
    features = [
        _features(model, pictures, device)
        for pictures in (theirs, ours, generator.reconstruct(ours))
    ]
    found = DistanceSummary(
        before=without_noise(frechet_distance(features[0], features[1])),
        after=without_noise(frechet_distance(features[0], features[2])),
        num_images=len(rows),
        upstream="drawn glyphs" if upstream == GLYPHS else upstream,
        model=model.name,
    )
    if opened.is_first:
        write_signed(path, asdict(found))
    return found


def _is_measured(path: Path) -> bool:
    again = "it is measured again"
    return path.exists() and read_or_forget(path, lambda: _read(path), again) is not None


def _read(path: Path) -> DistanceSummary:
    expected = "a distance from upstream"
    known = [field.name for field in fields(DistanceSummary)]
    saved = read_signed(path, expected, unsigned=known)
    with reading(path, expected):
        found = DistanceSummary(**saved)
        number(found.before), number(found.after)
    return found


def upstream_of(config: TransferConfig) -> str | None:
    """The folder of upstream images, ``GLYPHS``, or None if there are none to compare with."""
    named = config.recipe.upstream_images
    if named != "auto":
        return named
    return GLYPHS if config.irf.generator.startswith(SHIPPED) else None


@torch.inference_mode()
def _features(model: Backbone, pictures: Tensor, device: torch.device) -> np.ndarray:
    """[N, D] features of pictures [N, 3, H, W] uint8, under the model's own transform."""
    arrays = pictures.permute(0, 2, 3, 1).contiguous().numpy()
    images = from_arrays(arrays, np.full(len(arrays), UNLABELLED), (), "pictures")
    dataset = ViewDataset(images, FIXED_VIEW, [model.transform], 0)
    parts = []
    for start in range(0, len(images), _BATCH):
        rows = range(start, min(start + _BATCH, len(images)))
        inputs = dataset.batch([(row, 0) for row in rows])[0].to(device)
        parts.append(model(model.normalize(inputs)).features.float().cpu())
    return torch.cat(parts).numpy()
