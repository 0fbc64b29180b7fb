"""JPEG to a training view by several decoders, over plain Pillow and torchvision's transforms.

    python benchmarks/decoding.py        # simplejpeg is measured where it is installed

Ratio = processor time of Pillow and ``RandomResizedCrop`` over that of the way measured, on one
core, up to the 224-pixel uint8 tensor: above 1 is faster. Freed memory is kept, as in training.

- ``genkt``: content hash, ``decode``, view and ``to_uint8``, as a run does it.
- ``draft``: the same with ``least_side=448``, Pillow's draft mode (other pixels).
- ``torchvision``, ``simplejpeg``: the same with their decoders; their pixels are Pillow's.

Both decoders give arrays that Pillow copies before it resizes them. With the copy they gain a few
per cent at most, so Pillow stays; draft mode is the setting ``data.views.least_side``.
"""

from __future__ import annotations

import io
import itertools
import os
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import skimage.data
import torch
import torchvision
from common import cpu_seconds, report
from data_loading import BARE, CROPS, TRANSFORM
from PIL import Image

from genkt.data.images import content_hash
from genkt.data.pictures.decode import decode, reduced
from genkt.data.views import render_view
from genkt.training.fabric import keep_freed_memory

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

SIZES = ((500, 375), (2000, 1500))
TIMES, PAIRS = 20, 9

Decoder = Callable[[bytes], Image.Image]


def photo(size: tuple[int, int]) -> bytes:
    """An encoded photograph of this size."""
    stream = io.BytesIO()
    Image.fromarray(skimage.data.coffee()).resize(size).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def by_draft(data: bytes) -> Image.Image:
    """At least twice the side of the view: a crop of a quarter of the area is not enlarged."""
    with reduced(448):
        return decode(data)


def by_torchvision(data: bytes) -> Image.Image:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return Image.fromarray(torchvision.io.decode_jpeg(encoded).permute(1, 2, 0).numpy())


def by_simplejpeg(data: bytes) -> Image.Image:
    return Image.fromarray(simplejpeg.decode_jpeg(data))


def decoders() -> dict[str, Decoder]:
    """Those that are installed, by name."""
    found: dict[str, Decoder] = {"genkt": decode, "draft": by_draft, "torchvision": by_torchvision}
    return found | ({"simplejpeg": by_simplejpeg} if simplejpeg is not None else {})


def measured(data: bytes, decoder: Decoder) -> dict[str, Any]:
    """Both ratios, whole and of the decoding alone, and whether the pixels are Pillow's."""
    draws = itertools.count()

    def plain() -> None:
        BARE["crops"](Image.open(io.BytesIO(data)).convert("RGB"))

    def ours() -> None:
        content_hash(data)
        view = render_view(decoder(data), CROPS, "photo", next(draws))
        TRANSFORM.to_uint8(view, cropped=True)

    def repeated(work: Callable[[], Any]) -> float:
        return cpu_seconds(lambda: [work() for _ in range(TIMES)])

    def pillow() -> Image.Image:
        return Image.open(io.BytesIO(data)).convert("RGB")

    repeated(plain), repeated(ours)
    whole = [repeated(plain) / repeated(ours) for _ in range(PAIRS)]
    alone = [repeated(pillow) / repeated(partial(decoder, data)) for _ in range(PAIRS)]
    return {
        "to_view": statistics.median(whole),
        "decoding": statistics.median(alone),
        "pixels_equal": np.array_equal(decoder(data), decode(data)),
    }


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    results = {
        f"{size[0]}x{size[1]}": {
            name: measured(photo(size), decoder) for name, decoder in decoders().items()
        }
        for size in SIZES
    }
    report("decoding", results, {"500x375.genkt.to_view": ">= 1.2"})


if __name__ == "__main__":
    main()
