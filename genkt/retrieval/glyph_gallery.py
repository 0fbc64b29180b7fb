"""The built-in gallery: drawn characters of 47 classes, half of them on photographs.

They come from ``GlyphUpstream``, the pictures that the shipped teacher and generator were trained
on, with a seed of their own; no handwritten digit of the data is among them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from genkt.config.retrieval_settings import GLYPHS, GlyphSettings
from genkt.data.images import ImageSet, content_hash
from genkt.disk import make_folder
from genkt.io import atomic_path, clear_dead_temporaries, derive_seed, fingerprint
from genkt.types import UNLABELLED
from genkt.upstream.upstream_pictures import GlyphUpstream

SIDE = 32
_BATCH = 500


@lru_cache(maxsize=2)
def _mapped(path: str) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return array


@dataclass(frozen=True)
class _Opener:
    path: str
    decoding: ClassVar[int] = 1  # the id is of the pixels

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        return Image.fromarray(np.array(_mapped(self.path)[item]))


def glyph_gallery(settings: GlyphSettings, home: Path) -> ImageSet:
    """The gallery, drawn once and then read from a file.

    A larger one with the same seed begins with the same pictures.

    Args:
        home: folder of that file.
    """
    name = fingerprint(asdict(settings), metadata.version("genkt"))
    path = home / f"{GLYPHS}-{name}.npy"
    make_folder(path.parent)
    with FileLock(path.with_suffix(".lock")):
        clear_dead_temporaries(home)
        if not path.is_file():
            with atomic_path(path, settings.num_images * SIDE * SIDE * 3) as temporary:
                _draw(settings, temporary)
    ids = [
        f"{GLYPHS}/{place}#{content_hash(picture.tobytes())}"
        for place, picture in enumerate(np.load(path, mmap_mode="r"))
    ]
    labels = np.full(len(ids), UNLABELLED)
    return ImageSet(ids, labels, (), np.arange(len(ids)), _Opener(str(path)))


def _draw(settings: GlyphSettings, path: Path) -> None:
    shape = (settings.num_images, SIDE, SIDE, 3)
    upstream = GlyphUpstream(_BATCH, derive_seed(settings.seed, "gallery"), SIDE)
    steps = -(-settings.num_images // _BATCH)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with open(path, "wb") as stream:  # no writable map: a full disk would kill the process
        np.lib.format.write_array_header_1_0(stream, header)
        for step, (pictures, _) in enumerate(upstream.iterate(0, steps)):
            rest = settings.num_images - step * _BATCH
            stream.write(pictures.permute(0, 2, 3, 1).numpy()[:rest].tobytes())
