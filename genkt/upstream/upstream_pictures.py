"""Upstream pictures: a generator is trained on them, and downstream data compared with them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from genkt.data.builtin.glyphs import CLASSES, draw_bank, sample_glyphs
from genkt.data.builtin.photos import UPSTREAM_PHOTOS, photo_crops
from genkt.data.images import ImageSet, Skipped
from genkt.data.transform import ImageTransform
from genkt.data.views import ViewDataset, ViewSpec
from genkt.io import derive_seed
from genkt.readers.folders import read_classes, read_unlabelled
from genkt.training.batches import Batches, BatchPlan, loader_workers
from genkt.training.lost_images import LostImages
from genkt.training.spares import blanked
from genkt.types import UserError

GLYPHS = "glyphs"
"""The built-in upstream: drawn characters, some of them on photographs."""

NUM_CROPS, ON_PHOTOS = 4096, 0.5
NUM_WRITTEN = 4


class Upstream(Protocol):
    """An endless source of labelled pictures; step t is a function of (seed, t) alone."""

    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    """What was left out when its files were read."""

    def iterate(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures [B, 3, size, size] uint8 and labels [B] (-1 unknown) of each step."""

    def sample(self, num: int, seed: int) -> Tensor:
        """``num`` pictures [N, 3, size, size] uint8 that depend on the seed alone."""


class GlyphUpstream:
    """Drawn glyphs, half of them on photographs (``genkt.data.builtin.glyphs``).

    Args:
        batch_size: of a step.  seed: of everything.  size: side in pixels.
        device: where they are drawn.
    """

    classes = CLASSES
    skipped: tuple[Skipped, ...] = ()

    def __init__(
        self, batch_size: int, seed: int, size: int, device: torch.device | str = "cpu"
    ) -> None:
        self.batch_size, self.seed, self.size = batch_size, seed, size
        self.device = torch.device(device)
        self.bank = draw_bank(num_written=NUM_WRITTEN, seed=derive_seed(seed, "forms"))
        self.bank = self.bank.to(self.device)
        crops = photo_crops(UPSTREAM_PHOTOS, NUM_CROPS, seed=derive_seed(seed, "crops"), size=size)
        self.photos = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous().to(self.device)

    def iterate(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See ``Upstream``."""
        for step in range(start, stop):
            yield self._draw(self.batch_size, derive_seed(self.seed, "step", step), ON_PHOTOS)

    def sample(self, num: int, seed: int, *, on_photos: float = ON_PHOTOS) -> Tensor:
        """See ``Upstream``; ``on_photos`` is the share that lies on photographs."""
        pictures = self._draw(num, derive_seed(seed, "upstream sample"), on_photos)[0].cpu()
        generator = torch.Generator().manual_seed(derive_seed(seed, "upstream order"))
        return pictures[torch.randperm(num, generator=generator)]  # any part holds both kinds

    def _draw(self, num: int, seed: int, on_photos: float) -> tuple[Tensor, Tensor]:
        generator = torch.Generator(self.device).manual_seed(seed)
        pictures, labels = sample_glyphs(
            self.bank, num, generator=generator, photos=self.photos, on_photos=on_photos,
            size=self.size,
        )  # fmt: skip
        return (pictures * 255).round().to(torch.uint8), labels


class FolderUpstream:
    """Images of any folders, in random crops; sub-folders are classes where asked for.

    Args:
        roots: folders of images.  labelled: the folders hold one sub-folder per class.
        crop_scale: least share of a picture that a crop keeps.
        hflip: mirror half of the crops.

    Raises:
        UserError: no readable image there.
    """

    def __init__(
        self, roots: list[str], batch_size: int, seed: int, size: int, *,
        labelled: bool = False, crop_scale: float = 0.5, hflip: bool = True,
        num_workers: int | None = None,
    ) -> None:  # fmt: skip
        read = _read_labelled if labelled else partial(read_unlabelled, in_full=True)
        images: ImageSet = read(roots)
        self.images = images
        self.classes = images.classes
        self.skipped = images.skipped
        self.seed = seed
        half = (0.5, 0.5, 0.5)
        self.transform = ImageTransform((size, size), half, half, "bicubic", 1.0)
        views = ViewSpec(
            num_views=0, seed=derive_seed(seed, "views"), crop_scale=(crop_scale, 1.0),
            crop_ratio=(0.8, 1.25), hflip=hflip,
        )  # fmt: skip
        everything = np.arange(len(images))
        plan = BatchPlan(everything[:0], everything, batch_size, 0, derive_seed(seed, "batches"))
        workers = loader_workers("auto" if num_workers is None else num_workers, images, False)
        dataset = ViewDataset(images, views, [self.transform])
        self._lost = None if labelled else LostImages(instead="another picture takes its place")
        self._batches = Batches(dataset, images.labels, plan, num_workers=workers, lost=self._lost)

    def iterate(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See ``Upstream``."""
        for batch in self._batches.iterate(start, stop):
            yield batch.images, batch.labels

    def sample(self, num: int, seed: int) -> Tensor:
        """See ``Upstream``; whole pictures, each at most once: fewer where there are fewer."""
        order = np.random.default_rng(derive_seed(seed, "upstream sample"))
        rows = order.permutation(len(self.images))[:num]
        dataset = ViewDataset(self.images, ViewSpec(), [self.transform])
        keys = [(int(row), 0) for row in rows]
        if self._lost is None:
            return dataset.batch(keys)[0]
        (pictures,), lost = blanked(dataset, keys)
        for place, error in lost.items():
            self._lost.add(self.images.ids[keys[place][0]], error, len(self.images))
        return pictures[[place for place in range(len(keys)) if place not in lost]]


def open_upstream(
    upstream: str | list[str], batch_size: int, seed: int, size: int, *,
    labelled: bool = False, device: torch.device | str = "cpu",
) -> GlyphUpstream | FolderUpstream:  # fmt: skip
    """``glyphs``, or a folder or list of folders."""
    if upstream == GLYPHS:
        return GlyphUpstream(batch_size, seed, size, device)
    roots = [upstream] if isinstance(upstream, str) else list(upstream)
    return FolderUpstream(roots, batch_size, seed, size, labelled=labelled)


def _read_labelled(roots: list[str]) -> ImageSet:
    if len(roots) > 1:
        raise UserError(f"upstream: expected one folder of class folders, got {len(roots)}")
    return read_classes(roots[0])
