"""Small syntheses shared by the tests: settings, sources on disk, byte comparison."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tiny import tree, write_images

from genkt.config.synthesis_settings import (
    DiggSettings,
    FilterSettings,
    InversionSettings,
    IrfSettings,
    SynthesisSettings,
)
from genkt.data.images import ImageSet
from genkt.generative.decoding.sampling import Sampling
from genkt.generative.deep_inversion import DeepInversionSettings
from genkt.generative.masks import MaskSettings
from genkt.readers.folders import read_folder
from genkt.transfer_set.set_files import ImageFiles

DIGG = DiggSettings(
    "digg", num_images=None, num_masks=2, samples_per_mask=3, masks=MaskSettings(),
    sampling=Sampling(), encode="masked", fill="edge", dilation=1, keep_visible=False,
)  # fmt: skip
IRF = IrfSettings("irf")
INVERSION = InversionSettings(
    "deep_inversion", 10, DeepInversionSettings(steps=2, batch_size=4, flip=False)
)
SETTINGS = SynthesisSettings(
    synthesis=DIGG, files=ImageFiles(), filters=FilterSettings(), shard_size=10,
    max_sources=7, seed=3, batch_size=12, num_threads=2,
)  # fmt: skip


def settings(synthesis: Any = DIGG, **changes: Any) -> SynthesisSettings:
    """``SETTINGS`` with another method or other values; digg's own are given in ``digg``."""
    own = changes.pop("digg", {})
    method = dataclasses.replace(synthesis, **own) if own else synthesis
    return dataclasses.replace(SETTINGS, synthesis=method, **changes)


def sources(home: Path) -> ImageSet:
    """Twelve small pictures of three classes."""
    if not (home / "images").is_dir():
        write_images(home / "images", per_class=4)
    return read_folder(home / "images", test_fraction=0.0).train


LOG = "synthesize.log"
"""The only file that tells the time."""

OF_SPEED = (LOG, "config.yaml", "run.json", "README.md", "contact_sheet.html")
"""What names the settings and the command, speed included."""


def content(out: Path, without: tuple[str, ...] = (LOG,)) -> dict[str, bytes]:
    """Every file of a set, without some."""
    return {name: data for name, data in tree(out).items() if name not in without}
