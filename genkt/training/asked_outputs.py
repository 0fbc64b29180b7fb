"""Teacher outputs that are computed when they are first asked for, and kept like all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genkt.data.images import ImageSet, LostImage
from genkt.data.views import ViewSpec
from genkt.models.backbone import Backbone
from genkt.stores.chunk_files import tell_outdated
from genkt.stores.on_demand import OnDemandStore
from genkt.stores.teacher_outputs import OutputStore, store_lock
from genkt.training.lost_images import LostImages
from genkt.training.row_pictures import RowPictures, row_pictures
from genkt.training.store_job import TEACHER_BATCH, Caching, Precision, StoreJob
from genkt.training.teacher import OutputName, checked_outputs


def outputs_on_demand(
    teacher: Backbone,
    images: ImageSet,
    views: ViewSpec,
    home: str | Path,
    *,
    outputs: Sequence[OutputName] = ("features", "logits"),
    dtype: Literal["float16", "float32"] = "float16",
    batch_size: int = TEACHER_BATCH,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    lost: LostImages | None = None,
) -> OutputStore | OnDemandStore:
    """As ``cache_outputs``, but a row is computed when it is first read.

    A finished store of the same identity is opened in place of it. Rows are computed in batches
    of ``batch_size``, the last one filled up, so that a row is the same whatever else is asked
    for with it.

    Args:
        teacher, images, views, home, outputs, dtype, batch_size, device, precision, lost: see
            ``genkt.training.teacher.cache_outputs``.

    Raises:
        UserError: as ``cache_outputs``; what is wrong with an output, when it is asked for.
    """
    home, place = Path(home), torch.device(device)
    kept = checked_outputs(images, views, outputs, precision, batch_size)
    caching = Caching(kept, dtype, precision, batch_size, num_workers=0)
    job = StoreJob(teacher, teacher.fingerprint(), images, views, caching)
    identity = job.identity
    with store_lock(home, identity):
        if (store := job.found(home, lost)) is not None:
            job.count(store.lost, lost)
            return store
        tell_outdated(home, identity)

    def compute(rows: NDArray[np.int64], gone: dict[int, LostImage]) -> Iterator[dict[str, Tensor]]:
        pictures = RowPictures(job.dataset(), rows, batch_size, survives=lost is not None)
        read = row_pictures(pictures, pictures.starts(), 0, place)
        return job.outputs(job.readable(read, gone, lost), place)

    return OnDemandStore(home, identity, job.layout, compute, job.name_of)
