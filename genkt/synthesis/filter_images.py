"""Filters for synthesized images: by a teacher's answers, and near copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genkt.config.synthesis_settings import SynthesisSettings
from genkt.generative.filters import by_agreement, by_confidence, diversity
from genkt.io import read_json, write_json
from genkt.models.backbone import Backbone
from genkt.retrieval.search.duplicates import near_duplicates
from genkt.retrieval.search.scoring import unit_rows
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.set_files import (
    ShardWriter,
    read_image_file,
    read_records,
    read_tokens,
    shard_facts,
)

MOST_MEASURED = 4096
"""Number of images whose diversity is measured."""

LOW_CONFIDENCE, DISAGREEMENT, DUPLICATE = "low confidence", "other class than source", "duplicate"

_TOGETHER = 64
"""The teacher's batch size, always the same, as other sizes round differently."""


@dataclass(frozen=True)
class Screened:
    """The results of the filters for n images.

    Args:
        reasons: why each is left out, "" if it is kept.
        facts: details for each image's record.
        features: [n, D] float32 of the teacher if near copies are searched for later, else None.
    """

    reasons: list[str]
    facts: list[dict[str, Any]]
    features: Tensor | None = None


def screen(
    settings: SynthesisSettings, teacher: Backbone | None, images: Tensor, sources: Tensor | None
) -> Screened:
    """Apply the teacher to images, if a filter is on.

    Args:
        images: [n, 3, H, W] uint8.
        sources: [B, 3, H, W] uint8, each the source of n / B images in order; None: there are no
        sources.
    """
    filters, count = settings.filters, len(images)
    reasons, facts = [""] * count, [dict[str, Any]() for _ in range(count)]
    if teacher is None or not filters.needs_teacher:
        return Screened(reasons, facts)
    probabilities, features = judge(teacher, images)
    for fact, best in zip(facts, probabilities.max(dim=1).values.tolist(), strict=True):
        fact["confidence"] = round(best, 4)
    if filters.min_confidence is not None:
        keep = by_confidence(probabilities, filters.min_confidence).tolist()
        reasons = [r if k else r or LOW_CONFIDENCE for r, k in zip(reasons, keep, strict=True)]
    if filters.agreement and sources is not None:
        of_sources, _ = judge(teacher, sources)
        repeated = of_sources.repeat_interleave(count // len(sources), dim=0)
        keep = by_agreement(probabilities, repeated).tolist()
        reasons = [r if k else r or DISAGREEMENT for r, k in zip(reasons, keep, strict=True)]
    return Screened(reasons, facts, features if filters.needs_features else None)


@torch.no_grad()
def judge(teacher: Backbone, images: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's probabilities [n, C] and features [n, D] for uint8 [n, 3, H, W] pictures."""
    device, width = next(teacher.parameters()).device, teacher.width

    def answer(pixels: Tensor) -> Tensor:
        output = teacher(teacher.normalize(pixels.to(device)))
        assert output.logits is not None
        return torch.cat([output.features, output.logits.softmax(dim=1)], dim=1).float()

    fitted = [
        teacher.transform.to_uint8(Image.fromarray(picture.permute(1, 2, 0).numpy()))
        for picture in images
    ]
    parts = []
    for part in torch.split(torch.stack(fitted), _TOGETHER):
        filled = torch.cat([part, part[-1:].expand(_TOGETHER - len(part), -1, -1, -1)])
        parts.append(answer(filled)[: len(part)].cpu())
    found = torch.cat(parts)
    return found[:, width:], found[:, :width]


def remove_duplicates(
    root: Path, num_shards: int, settings: SynthesisSettings, classes: tuple[str, ...]
) -> None:
    """Remove near copies of earlier images from a set whose shards are all finished.

    The list of removals is saved first, so that an interrupted removal can be continued.
    """
    path = root / "shards" / "duplicates.json"
    if not path.is_file():
        assert settings.filters.max_similarity is not None
        found = _find_duplicates(root, num_shards, settings.filters.max_similarity)
        write_json(path, {str(shard): rows for shard, rows in found.items()})
    for shard, rows in read_json(path).items():
        _drop_rows(root, int(shard), rows, settings, classes)


def _find_duplicates(root: Path, num_shards: int, threshold: float) -> dict[int, list[int]]:
    """Rows of each shard that are near copies of an earlier image of the set.

    Args:
        threshold: cosine similarity of teacher features at or above which two images are near
        copies.
    """
    parts = [read_tokens(root, shard)["features"] for shard in range(num_shards)]
    starts = np.cumsum([0, *(len(part) for part in parts)])
    copies = near_duplicates([unit_rows(np.concatenate(parts))], threshold, mode="leader")
    found: dict[int, list[int]] = {}
    for row in np.flatnonzero(~copies.keep).tolist():
        shard = int(np.searchsorted(starts, row, side="right")) - 1
        found.setdefault(shard, []).append(row - int(starts[shard]))
    return found


def _drop_rows(
    root: Path, shard: int, rows: Sequence[int], settings: SynthesisSettings,
    classes: tuple[str, ...],
) -> None:  # fmt: skip
    """Rewrite a finished shard without some rows; repeating it changes nothing.

    The shard counts as unfinished meanwhile. If the rewrite is interrupted, it is synthesized
    again.
    """
    facts = shard_facts(root, shard)
    assert facts is not None
    if DUPLICATE in facts["dropped"]:
        return
    out = set(rows)
    keep = [row for row in range(facts["num_images"]) if row not in out]
    records, tokens = read_records(root, shard), read_tokens(root, shard)
    with ShardWriter(root, shard, settings.files, classes) as writer:
        for row in keep:
            record = records[row]
            writer.add(
                read_image_file(root, record.file, record.offset),
                int(Path(record.file).stem),
                label=record.label, source=record.source,
                parent=record.parent, detail=record.detail,
            )  # fmt: skip
        facts["dropped"] = dict(sorted({**facts["dropped"], DUPLICATE: len(out)}.items()))
        del facts["num_images"], facts["files"]
        arrays: dict[str, NDArray[Any]] = {name: array[keep] for name, array in tokens.items()}
        writer.finish(facts, arrays)


def measure_diversity(found: TransferSet) -> dict[str, float]:
    """How different the first images of a set are; {} if no features were kept.

    Returns:
        The known figures of ``Diversity``, by name.
    """
    features, tokens, count = list[Tensor](), list[Tensor](), 0
    for shard in range(found.num_shards):
        arrays = read_tokens(found.directory, shard)
        if "features" not in arrays or count >= MOST_MEASURED:
            break
        features.append(torch.from_numpy(arrays["features"]).float())
        if "tokens" in arrays:
            tokens.append(torch.from_numpy(arrays["tokens"].astype(np.int64)))
        count += len(arrays["features"])
    if not count:
        return {}
    parents = [record.parent or "" for record in islice(found.records(), MOST_MEASURED)]
    grids = torch.cat(tokens)[:MOST_MEASURED] if tokens else None
    measured = asdict(diversity(torch.cat(features)[:MOST_MEASURED], parents, grids))
    names = ("within_source", "effective_number", "distinct_tokens")
    return {name: round(measured[name], 4) for name in names if measured[name] is not None}
