"""Teacher outputs: one pass over the images, into a store that is never stale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import nn

from genkt.data.images import ImageSet
from genkt.data.views import FIXED_VIEW, ViewSpec
from genkt.disk import cache_home
from genkt.io import did_you_mean
from genkt.models.foreign import as_backbone
from genkt.stores.chunk_files import OUTPUTS
from genkt.stores.teacher_outputs import OutputStore
from genkt.training.lost_images import LostImages
from genkt.training.store_job import AUTOCAST, TEACHER_BATCH, Caching, Precision, StoreJob
from genkt.types import UserError

OutputName = Literal["features", "logits", "feature_map"]


@overload
def cache_outputs(teacher: nn.Module, *args: Any, **options: Any) -> OutputStore: ...


@overload
def cache_outputs(
    teacher: Sequence[nn.Module], *args: Any, **options: Any
) -> tuple[OutputStore, ...]: ...


def cache_outputs(
    teacher: nn.Module | Sequence[nn.Module],
    images: ImageSet,
    views: ViewSpec = FIXED_VIEW,
    home: str | Path | None = None,
    *,
    outputs: Sequence[OutputName] | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    batch_size: int = TEACHER_BATCH,
    device: str | torch.device = "cpu",
    num_workers: int = 0,
    precision: Precision = "float32",
    progress: bool = True,
    lost: LostImages | None = None,
) -> OutputStore | tuple[OutputStore, ...]:
    """The teacher's outputs on every view of every image, computed once and then reused.

    A store under ``home`` that matches in weights, input transform, views, dtype, outputs,
    precision and ordered sample ids is opened; a damaged one is recomputed with a warning; an
    unfinished one is continued after its last commit. A second process that asks for the same
    store waits for the first. The teacher runs in evaluation mode and is left on ``device``.

    Args:
        teacher: the model, or several of them; its own transform makes its input. A ``Backbone``,
            a timm model, or what ``genkt.models.as_backbone`` makes of any other.
        images: N samples.
        views: K >= 1 stored views; by default the one that the model is evaluated on.
        home: folder of stores; None: that of all runs (``genkt.disk.cache_home``).
        outputs: what to keep; None: features, and logits of a model that has classes. A feature
            map [D, H', W'] is kept whole, so it takes H' W' times the disk of the features.
        dtype: of the stored values; they must stay finite in it.
        batch_size: rows per forward pass; does not name the store.
        device: where the teacher runs.
        num_workers: processes that decode and render; 0: threads of this process.
        precision: what the forward pass computes in (autocast unless "float32").
        progress: tell rate, time left and the share of time spent waiting for pictures.
        lost: counts images that can no longer be read; the store has no outputs of them
            (``OutputStore.lost``). None: such an image is an error.

    Returns:
        The finished store, one per teacher; row = sample index * K + view index.

    Raises:
        UserError: fresh views every epoch (``num_views=0``), an empty set, an unknown option, a
            full disk, outputs that are not finite, with the sample ids, an image that can no
            longer be read, or a teacher without feature maps where these are asked for.

    Example:
        >>> import tempfile
        >>> from genkt.data.builtin.digits import digits
        >>> from genkt.data.views import ViewSpec
        >>> from genkt.models.load import ModelSpec, load_model
        >>> images = digits().train.select(range(3))
        >>> views = ViewSpec(num_views=2, rotate_degrees=10.0)
        >>> teacher = load_model(ModelSpec("genkt:digits_teacher"))
        >>> store = cache_outputs(teacher, images, views, tempfile.mkdtemp(), progress=False)
        >>> output = store.rows([0, 5])  # sample 0 in view 0, sample 2 in view 1
        >>> len(store), tuple(output.features.shape), tuple(output.logits.shape)
        (6, (2, 256), (2, 47))
    """
    folder, place = cache_home() if home is None else Path(home), torch.device(device)

    def stored(module: nn.Module) -> OutputStore:
        backbone = as_backbone(module)
        usual: list[OutputName] = ["features", "logits"] if backbone.num_classes else ["features"]
        wanted = usual if outputs is None else outputs
        kept = checked_outputs(images, views, wanted, precision, batch_size)
        caching = Caching(kept, dtype, precision, batch_size, num_workers)
        job = StoreJob(backbone, backbone.fingerprint(), images, views, caching)
        return job.stored(folder, place, shown=progress, lost=lost)

    return stored(teacher) if isinstance(teacher, nn.Module) else tuple(map(stored, teacher))


def checked_outputs(
    images: ImageSet, views: ViewSpec, outputs: Sequence[str], precision: str, batch_size: int
) -> tuple[str, ...]:
    """The outputs in the store's order, after refusing what cannot be cached."""
    if not views.num_views:
        raise UserError.of(
            "teacher cache",
            "num_views >= 1",
            "0 (a fresh view every epoch)",
            ". Store some views, e.g. num_views=8, or run the teacher online",
        )
    if not len(images):
        raise UserError.of("teacher cache", "at least one image", "an empty set")
    if batch_size < 1:
        raise UserError.of("teacher cache", "batch_size >= 1", batch_size)
    for name, value, choices in (
        *(("outputs", output, OUTPUTS) for output in outputs),
        ("precision", precision, tuple(AUTOCAST)),
    ):
        if value not in choices:
            known = ", ".join(choices)
            hint = did_you_mean(value, choices)
            raise UserError(f"teacher cache: {name}: expected {known}, got {value!r}.{hint}")
    if not outputs:
        raise UserError(f"teacher cache: outputs: expected some of {', '.join(OUTPUTS)}, got none")
    return tuple(name for name in OUTPUTS if name in outputs)
