"""``genkt.retrieve`` and ``genkt.deduplicate``: the command line's settings, and own objects."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from genkt.api.objects import (
    Model,
    ModelSetting,
    call_text,
    given_settings,
    named_arguments,
)
from genkt.config.read_config import read_config
from genkt.config.set_command_settings import RetrieveConfig
from genkt.data.images import ImageSet
from genkt.data.splits import Splits
from genkt.execution.ranks import device_here
from genkt.execution.tasks import HERE
from genkt.models.foreign import as_backbone
from genkt.retrieval.embed import Embedder
from genkt.retrieval.encoders import BackboneEncoder, load_encoder
from genkt.retrieval.prepare_retrieval import retrieve as run_retrieval
from genkt.retrieval.prepare_retrieval import store_home, unique_images
from genkt.retrieval.search.duplicates import Mode, near_duplicates
from genkt.transfer_set.composition import TransferSet
from genkt.types import UserError

_SHARD, _THREADS = 1024, 4


def retrieve(
    *words: str,
    data: ImageSet | Splits | str | dict[str, Any] | None = None,
    gallery: ImageSet | TransferSet | str | Sequence[str] | None = None,
    encoder: ModelSetting | Sequence[str] | None = None,
    **settings: Any,
) -> TransferSet:
    """What ``genkt retrieve`` does, returning the set.

    Args:
        words: settings as on the command line, e.g. ``"crops.per_image=10"``.
        data: a name of ``configs/data``, a dict with such a name and its settings, ``Splits``, or
            the very images to look for.
        gallery: where the images are, or the images.
        encoder: what they are compared by: names, a dict of settings, or a module.
        settings: any other top-level key; dicts set inner keys: ``decontaminate={"assume":
            "leak"}``.

    Raises:
        UserError: every fault of the settings at once, one line each; suspected leaks that nobody
            has decided on.

    Example:
        >>> import tempfile, genkt
        >>> from genkt.data.builtin.digits import digits
        >>> parts, home = digits(), tempfile.mkdtemp()
        >>> found = genkt.retrieve(
        ...     data=parts.train.select(range(3)), gallery=parts.test.select(range(40)),
        ...     encoder="pixels", num_images=6, decontaminate={"assume": "keep"}, device="cpu",
        ...     store=home + "/embeddings", out=home + "/set")
        >>> first = found.record(0)
        >>> len(found), first.source, first.detail["rank"], first.parent in parts.train.ids
        (6, 'retrieved', 1, True)
    """
    named = named_arguments(settings, data=data, gallery=gallery, encoder=encoder)
    config = read_config(RetrieveConfig, "retrieve", [*given_settings(named), *words])
    if config.dry_run:
        raise UserError("dry_run: estimates are made on the command line")
    return run_retrieval(config, call_text("retrieve", words, named))


def deduplicate(
    found: TransferSet,
    *,
    encoder: Model | str = "pixels",
    threshold: float = 0.99,
    mode: Mode = "components",
    store: str | None = None,
    device: str = "auto",
) -> TransferSet:
    """Leave out images that are the same as an earlier one, or nearly.

    Args:
        found: any set; of each cluster its first image stays.
        encoder: what images are compared by: ``pixels``, a timm name, or a module.
        threshold: cosine similarity in (0, 1] from which two images count as one; it means another
            thing for every encoder.
        mode: "components": images that a chain of near copies joins are one cluster. "leader": an
            image goes only if it is a near copy of one that stays.
        store: folder of embeddings; None: in the cache of genkt.
        device: auto, cpu or cuda.

    Raises:
        UserError: no such encoder, an image that cannot be read, or a threshold out of range.

    Example:
        >>> import tempfile, genkt
        >>> from genkt.data.builtin.digits import digits
        >>> found = genkt.TransferSet.of(digits().train.select([0, 1, 0, 2]))
        >>> genkt.deduplicate(found, store=tempfile.mkdtemp())
        TransferSet(3 real images)
    """
    first = found.deduplicate()
    here = device_here(device)
    loaded = (
        BackboneEncoder(as_backbone(encoder), here)
        if isinstance(encoder, nn.Module)
        else load_encoder(encoder, device=here)
    )
    embedder = Embedder([loaded], [None], str(store_home(store)), HERE, _SHARD, here, _THREADS)
    with tempfile.TemporaryDirectory(prefix="genkt-") as work:
        rows = embedder.embed(unique_images(first.images), Path(work), "near copies")
        if rows.skipped:
            name, reason = next(iter(rows.skipped.items()))
            raise UserError(f"{name}: {reason}")
        copies = near_duplicates(rows.features(0, rows.num_rows), threshold, mode=mode)
    return first.select(np.flatnonzero(copies.keep))
