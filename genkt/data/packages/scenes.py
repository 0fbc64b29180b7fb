"""One stamp on one photograph: the picture, where the thing is, and what it is called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genkt.data.builtin.photos import open_photo
from genkt.data.images import ImageSet, content_hash
from genkt.data.openers import origin_of
from genkt.data.packages.stamp_files import PARTS, Stamp, cut_out
from genkt.io import derive_seed
from genkt.types import UserError

GROUNDS: tuple[str, ...] = (
    "skimage/data/brick.png",
    "skimage/data/camera.png",
    "skimage/data/grass.png",
    "skimage/data/gravel.png",
    "skimage/data/ihc.png",
    "skimage/data/retina.jpg",
    "sklearn/datasets/images/china.jpg",
)
"""Photographs that lie behind stamps: those of the libraries that show no thing of a class."""

_COLUMNS, _ROWS = 3, 2  # tiles of a photograph, one for each part
_LENGTH = (0.5, 0.9)  # of a stamp's longer side, of the picture's side
_DEGREES = 20.0
_TINT = (0.55, 1.0)  # of each colour of a ground, so that grey photographs are not all of it
_VERSION = 1  # of the way a scene is made: part of its id


@dataclass(frozen=True)
class Scene:
    """A stamp on a photograph.

    Args:
        picture: RGB, as ``ImageSet.load`` gives it.
        mask: [H, W] True where the thing covers the ground by half or more.
        box: left, top, right, bottom of the mask, in pixels; right and bottom are outside.
        stamp: what was put there, with its caption and class.
    """

    picture: Image.Image
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    stamp: Stamp


@dataclass(frozen=True)
class SceneOpener:
    """Makes the pictures of one part; item i is scene i of ``stamps[i]``.

    Args:
        folder: of the package.  part: of ``PARTS``.  size: side of the pictures, in pixels.
        seeds: one for each scene.
    """

    folder: Path
    part: str
    size: int
    stamps: tuple[Stamp, ...]
    seeds: tuple[int, ...]
    decoding: ClassVar[int] = 1  # the id is of all that a picture is made of

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        return self.scene(item).picture

    def scene(self, item: int) -> Scene:
        """The scene, always the same."""
        stamp, rng = self.stamps[item], np.random.default_rng(self.seeds[item])
        ground = _ground(self.part, self.size, rng)
        thing = _placed(cut_out(self.folder / f"{stamp.name}.png"), self.size, rng)
        ground.paste(thing, (0, 0), thing)
        mask = np.asarray(thing.getchannel("A")) >= 128
        return Scene(ground, mask, _box(mask), stamp)

    def sample_id(self, item: int) -> str:
        """The id, with a hash of all that the picture is made of."""
        stamp = self.stamps[item]
        made_of = f"{_VERSION}|{stamp.digest}|{_ground_digest(self.part)}|{self.size}"
        digest = content_hash(f"{made_of}|{self.seeds[item]}".encode())
        return f"stamps/{self.part}/{item}-{stamp.name}#{digest}"


def make_scenes(
    folder: Path, part: str, stamps: Sequence[Stamp], classes: Sequence[str], size: int
) -> ImageSet:
    """Pictures of one part, one for each entry of ``stamps``; they are made when they are loaded.

    Args:
        stamps: N, several pictures of a stamp where it comes several times; those without a class
            are unlabelled. Pictures of a stamp are a group.
    """
    seeds = [derive_seed(part, place, stamp.name, "scene") for place, stamp in enumerate(stamps)]
    opener = SceneOpener(folder, part, size, tuple(stamps), tuple(seeds))
    number = {name: label for label, name in enumerate(classes)}
    labels = [number.get(stamp.class_name, -1) for stamp in stamps]
    items = range(len(stamps))
    return ImageSet(
        [opener.sample_id(item) for item in items], labels, classes, [*items], opener,
        groups=[stamp.name for stamp in stamps],
    )  # fmt: skip


def scene_of(images: ImageSet, index: int) -> Scene:
    """The scene of a picture of ``data=stamps``: its mask, box and caption.

    Raises:
        UserError: the picture is of other data.
    """
    opener, item = origin_of(images.open_item, int(images.items[index]))
    if not isinstance(opener, SceneOpener):
        raise UserError.of("scene", "a picture of data=stamps", images.ids[index])
    return opener.scene(item)


def tile(name: str, part: str) -> NDArray[np.uint8]:
    """[H, W, 3] the piece of a photograph that belongs to a part; the pieces do not overlap.

    Raises:
        UserError: a photograph that is not installed.
    """
    photo = np.asarray(open_photo(name))
    height, width = photo.shape[0] // _ROWS, photo.shape[1] // _COLUMNS
    row, column = divmod(PARTS.index(part), _COLUMNS)
    piece = photo[row * height : (row + 1) * height, column * width : (column + 1) * width]
    return np.ascontiguousarray(piece)


@lru_cache(maxsize=len(PARTS))
def _tiles(part: str) -> list[Image.Image]:
    return [Image.fromarray(tile(name, part)) for name in GROUNDS]


@lru_cache(maxsize=len(PARTS))
def _ground_digest(part: str) -> str:
    return content_hash(b"".join(each.tobytes() for each in _tiles(part)))


def _ground(part: str, size: int, rng: np.random.Generator) -> Image.Image:
    """A square of one of the part's photographs, turned, mirrored and tinted."""
    tiles = _tiles(part)
    photo = tiles[int(rng.integers(len(tiles)))]
    most = min(photo.size)
    side = int(rng.integers(min(size, most), most + 1))
    left = int(rng.integers(photo.width - side + 1))
    top = int(rng.integers(photo.height - side + 1))
    crop = photo.resize(
        (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
    )
    pixels = np.rot90(np.asarray(crop), int(rng.integers(4)))
    pixels = pixels[:, ::-1] if rng.integers(2) else pixels
    tinted = np.round(pixels * rng.uniform(*_TINT, 3)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(tinted))


def _placed(stamp: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A turned stamp somewhere on an empty RGBA picture, whole."""
    degrees, length = float(rng.uniform(-_DEGREES, _DEGREES)), rng.uniform(*_LENGTH) * size
    cos, sin = math.cos(math.radians(degrees)), abs(math.sin(math.radians(degrees)))
    scale = length / max(
        stamp.width * cos + stamp.height * sin, stamp.width * sin + stamp.height * cos
    )
    width, height = (max(1, round(side * scale)) for side in stamp.size)
    scaled = stamp.resize((width, height), Image.Resampling.BILINEAR)
    turned = scaled.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    room = size - turned.width, size - turned.height
    place = int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))
    canvas = Image.new("RGBA", (size, size))
    canvas.paste(turned, place)
    return canvas


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Around what is True; the whole picture where nothing is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, mask.shape[1], mask.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
