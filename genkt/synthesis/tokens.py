"""Decodes the images of a synthesized set from its tokens again, to the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genkt.data.images import ImageSet
from genkt.generative.generator import Generator, fit_picture
from genkt.generative.masks import MaskSettings, to_pixels
from genkt.synthesis.make_images import source_mask
from genkt.transfer_set.composition import read_transfer_set
from genkt.transfer_set.read_set import image_files
from genkt.transfer_set.set_files import Record
from genkt.types import UserError

_AT_ONCE = 64


def redecode(
    directory: str | Path, generator: Generator, sources: ImageSet | None = None
) -> Iterator[tuple[Record, bytes]]:
    """Make the file of every image of a set from its tokens.

    With the same kind of device and the same libraries they equal the files of the set byte for
    byte. Otherwise single pixels may differ by rounding.

    Args:
        directory: the set.
        generator: the one it was made with.
        sources: the images it was made from, needed if their own pixels were kept
        (``keep_visible``).

    Raises:
        UserError: no such set, one without tokens, another generator, or missing sources.
    """
    found = read_transfer_set(directory)
    header, files = found.header, image_files(found.header)
    if not header.get("has_tokens"):
        raise UserError(f"{directory}: expected tokens to decode, got only images")
    if header["generator"]["fingerprint"] != generator.fingerprint():
        raise UserError(
            f"{directory}: was made with generator {header['generator']['name']} "
            f"({header['generator']['fingerprint']}), this is another one "
            f"({generator.fingerprint()})"
        )
    method = header["settings"]["synthesis"]
    keeps = bool(method.get("keep_visible"))
    if keeps and sources is None:
        raise UserError(f"{directory}: keeps its sources' pixels (keep_visible); give sources=")
    for shard in range(found.num_shards):
        start, stop = found.starts[shard : shard + 2].tolist()
        tokens = torch.from_numpy(found.tokens(shard)["tokens"].astype(np.int64))
        for first in range(start, stop, _AT_ONCE):
            records = [found.record(row) for row in range(first, min(first + _AT_ONCE, stop))]
            rows = tokens[first - start :][: len(records)]
            images = generator.vqgan.decode(rows).cpu()
            if keeps and sources is not None:
                images = _with_sources(images, records, sources, generator, header["settings"])
            for record, image in zip(records, images, strict=True):
                yield record, files.encode(image.permute(1, 2, 0).numpy())


def _with_sources(
    images: Tensor,
    records: list[Record],
    sources: ImageSet,
    generator: Generator,
    settings: dict[str, Any],
) -> Tensor:
    """The visible pixels of the sources put back."""
    places = {sample_id: place for place, sample_id in enumerate(sources.ids)}
    masks = MaskSettings(**{**settings["synthesis"]["masks"]})
    rows = []
    for image, record in zip(images, records, strict=True):
        if record.parent not in places:
            raise UserError(f"sources: expected {record.parent} among them, but it is missing")
        pixels = fit_picture(sources.load(places[record.parent]), generator.size)
        source = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        at_round = (record.detail or {})["round"]
        grid = generator.vqgan.grid
        mask = source_mask(masks, grid, settings["seed"], record.parent, at_round)
        hidden = to_pixels(mask, generator.vqgan.downsampling)
        rows.append(torch.where(hidden, image, source))
    return torch.stack(rows)
