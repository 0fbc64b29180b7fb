"""Seeded views of a picture, and the pixels a model's own transform makes of them.

A *view* is geometry only: at most one affine warp, one crop box and one flip, drawn from
``derive_seed(spec.seed, sample_id, view_index, "view")`` and rendered from the decoded picture.
Student and teacher therefore see the same crop and flip, each resized by its own
:class:`ImageTransform`, in every process, at any batch size and after any interruption.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from genkt.data.transform import ImageTransform, plain_dict
from genkt.io import derive_seed
from genkt.settings.faults import Fault, SettingsError
from genkt.types import UserError

if TYPE_CHECKING:
    from genkt.data.images import ImageSet

__all__ = [
    "FIXED_VIEW",
    "ImageTransform",
    "ViewDataset",
    "ViewSpec",
    "render_view",
    "view_index_for",
]

_CROP_ATTEMPTS = 10
DEFAULT_MEMORY_BYTES = 1 << 28


@dataclass(frozen=True)
class ViewSpec:
    """The views of a picture: how many there are, and the ranges of their geometry.

    Every augmentation of a run is named here and nowhere else, and the whole spec is part of a
    cache's identity. A cached row is addressed by (sample, view index), so a loader cannot apply
    augmentation that the teacher did not see: a fixed-view cache has one view index, and a spec
    with fresh views every epoch (``num_views=0``) has no rows and is refused by ``cache_outputs``.

    Args:
        num_views: K >= 1 stored views of each sample; 0: a fresh view every epoch (no cache).
        seed: root of every draw.
        crop_scale: lowest and highest share of the picture's area that the crop keeps, in (0, 1].
        crop_ratio: lowest and highest width / height of the crop, in pixels of the picture. With
            both crop ranges at (1, 1) nothing is cropped, whatever the picture's shape.
        hflip: mirror left-right with probability one half.
        rotate_degrees: rotation is uniform in +- this, 0..180.
        translate: shift is uniform in +- this share of the picture's width and height, in [0, 1).
        scale: lowest and highest magnification about the picture's centre.
        least_side: JPEGs are decoded to 1/2, 1/4 or 1/8 while both sides keep so many pixels: large
            photographs are read faster, with other pixels. 0: in full.

    Raises:
        UserError: a value outside its range, or several views that would all be the same.

    Example:
        >>> spec = ViewSpec(num_views=4, crop_scale=(0.5, 1.0), hflip=True)
        >>> sorted(view_index_for(spec, "cat.png", epoch) for epoch in range(4))
        [0, 1, 2, 3]
        >>> picture = Image.new("RGB", (40, 30))
        >>> first, again = (render_view(picture, spec, "cat.png", 2) for _ in range(2))
        >>> first.tobytes() == again.tobytes()
        True
    """

    num_views: int = 1
    seed: int = 0
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    hflip: bool = False
    rotate_degrees: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    least_side: int = 0

    def __post_init__(self) -> None:
        for name in ("crop_scale", "crop_ratio", "scale"):
            # A list (from YAML) becomes a tuple, so that equal specs compare and hash equal.
            object.__setattr__(self, name, _range(name, getattr(self, name)))
        _require_count("num_views", self.num_views, least=0)
        _require_count("seed", self.seed, least=0)
        _require_count("least_side", self.least_side, least=0)
        _require_within("crop_scale", self.crop_scale[1], 0, 1)
        _require_within("rotate_degrees", self.rotate_degrees, 0, 180)
        _require_within("translate", self.translate, 0, 0.999)
        if not isinstance(self.hflip, bool):
            raise _fault("hflip", f"expected true or false, got {self.hflip!r}")
        if self.num_views > 1 and not self.is_random:
            raise _fault(
                "num_views",
                f"got {self.num_views} without any augmentation: all views would be the same "
                "picture. Use num_views=1, or set crop_scale, hflip, rotate_degrees, translate or "
                "scale",
            )

    @property
    def is_fixed(self) -> bool:
        """Whether every epoch shows the same one picture of a sample."""
        return self.num_views == 1

    @property
    def crops(self) -> bool:
        """Whether a crop box is drawn (its pixels are then resized straight to the input size)."""
        return self.crop_scale != (1.0, 1.0) or self.crop_ratio != (1.0, 1.0)

    @property
    def warps(self) -> bool:
        """Whether a rotation, translation or magnification is drawn."""
        return self.rotate_degrees > 0 or self.translate > 0 or self.scale != (1.0, 1.0)

    @property
    def is_random(self) -> bool:
        """Whether any part of the geometry is drawn."""
        return self.crops or self.warps or self.hflip

    def as_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values, for fingerprints and reports."""
        plain = plain_dict(self)
        if not self.least_side:
            del plain["least_side"]  # caches of earlier versions go on being read
        return plain


def _range(name: str, value: Sequence[float]) -> tuple[float, float]:
    """``value`` as an ascending pair of positive finite numbers."""
    try:
        low, high = (float(part) for part in value)
    except (TypeError, ValueError):
        raise _fault(name, f"expected two numbers (low, high), got {value!r}") from None
    if not 0 < low <= high < math.inf:
        raise _fault(name, f"expected 0 < low <= high, got ({low:g}, {high:g})")
    return low, high


def _fault(name: str, text: str) -> SettingsError:
    return SettingsError([Fault(name, text)])


def _require_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _fault(name, f"expected a whole number >= {least}, got {value!r}")


def _require_within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise _fault(name, f"expected a number from {low} to {high}, got {value!r}")


FIXED_VIEW = ViewSpec()
"""One view without randomness: exactly what the model's own eval transform sees."""


def view_index_for(spec: ViewSpec, sample_id: str, epoch: int) -> int:
    """Which view of a sample an epoch (from 0) shows.

    Each of the K views is used once in every K consecutive epochs from a multiple of K, in an
    order of the sample's own; with ``num_views=0`` the epoch itself is the view.
    """
    num_views = spec.num_views
    if num_views == 0:
        return epoch
    if num_views == 1:
        return 0
    cycle, position = divmod(epoch, num_views)
    return _view_order(spec.seed, sample_id, cycle, num_views)[position]


@lru_cache(maxsize=1 << 16)  # K epochs ask for the same order
def _view_order(seed: int, sample_id: str, cycle: int, num_views: int) -> tuple[int, ...]:
    rng = random.Random(derive_seed(seed, sample_id, cycle, "view order"))
    return tuple(rng.sample(range(num_views), num_views))


def render_view(image: Image.Image, spec: ViewSpec, sample_id: str, view_index: int) -> Image.Image:
    """The picture of one view at the decoded picture's own resolution.

    All randomness comes from ``derive_seed(spec.seed, sample_id, view_index, "view")``. The area
    that a warp brings in from outside is filled with the median colour of the picture's border: the
    background behind a digit or an object on a plain ground, a neutral corner on a photograph.
    Replicated edges would smear strokes that touch the border, and reflection would double them.

    Args:
        image: RGB picture.  view_index: 0..K-1 (any epoch where ``num_views`` is 0).

    Raises:
        UserError: the view is not among the K stored ones.
    """
    if view_index < 0 or (spec.num_views and view_index >= spec.num_views):
        raise UserError(f"view {view_index} of {sample_id}: this spec has {spec.num_views} views")
    if not spec.is_random:
        return image
    rng = random.Random(derive_seed(spec.seed, sample_id, view_index, "view"))
    width, height = image.size
    # Every number is drawn whether or not it is used, so that turning one kind of geometry on
    # or off leaves the others' draws alone; the crop draws last, its count varies.
    angle = math.radians(rng.uniform(-spec.rotate_degrees, spec.rotate_degrees))
    shift_x = rng.uniform(-spec.translate, spec.translate) * width
    shift_y = rng.uniform(-spec.translate, spec.translate) * height
    zoom = rng.uniform(*spec.scale)
    flip = rng.random() < 0.5
    box = (0, 0, width, height)
    if spec.crops:
        box = crop_box(rng, spec.crop_scale, spec.crop_ratio, width, height)
    if spec.warps:
        image = _warp(image, box, angle, (shift_x, shift_y), zoom)
    elif spec.crops:
        image = image.crop(box)
    if spec.hflip and flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def crop_box(
    rng: random.Random,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    width: int,
    height: int,
) -> tuple[int, int, int, int]:
    """A box (left, top, right, bottom) of drawn area share and log-uniform width / height.

    When no draw fits, the largest box whose shape is nearest to the picture's is drawn.

    Args:
        scale: lowest and highest share of the area.  ratio: lowest and highest width / height.
    """
    low, high = (math.log(bound) for bound in ratio)
    for _ in range(_CROP_ATTEMPTS):
        area = rng.uniform(*scale) * width * height
        shape = math.exp(rng.uniform(low, high))
        crop_width, crop_height = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            break
    else:
        shape = min(max(width / height, ratio[0]), ratio[1])
        crop_width = min(width, max(1, round(height * shape)))
        crop_height = min(height, max(1, round(width / shape)))
    left = rng.randint(0, width - crop_width)
    top = rng.randint(0, height - crop_height)
    return left, top, left + crop_width, top + crop_height


def _warp(
    image: Image.Image,
    box: tuple[int, int, int, int],
    angle: float,
    shift: tuple[float, float],
    zoom: float,
) -> Image.Image:
    """Rotate, magnify and shift about the picture's centre, and cut ``box``: one resampling."""
    center_x, center_y = image.width / 2, image.height / 2
    # PIL maps output to input pixels, hence the inverse: input = R(-angle) (output - shift) / zoom.
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    offset_x = box[0] - center_x - shift[0]
    offset_y = box[1] - center_y - shift[1]
    matrix = (
        cos, sin, cos * offset_x + sin * offset_y + center_x,
        -sin, cos, -sin * offset_x + cos * offset_y + center_y,
    )  # fmt: skip
    size = (box[2] - box[0], box[3] - box[1])
    return image.transform(
        size,
        Image.Transform.AFFINE,
        matrix,
        resample=Image.Resampling.BICUBIC,
        fillcolor=_border_color(image),
    )


def _border_color(image: Image.Image) -> tuple[int, ...]:
    """The median of the outermost pixels, per channel, rounded down."""
    pixels = np.asarray(image)
    edges = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    edges.sort(axis=0)  # a fifth of np.median's time on small pictures
    below, above = edges[(len(edges) - 1) // 2].tolist(), edges[len(edges) // 2].tolist()
    return tuple((a + b) // 2 for a, b in zip(below, above, strict=True))


def stacked(pictures: Sequence[Tensor]) -> Tensor:
    """[B, 3, H, W] from B pictures."""
    if get_worker_info() is not None:
        collated: Tensor = default_collate(list(pictures))  # straight into memory that is shared
        return collated
    # In numpy: torch would start its own threads here, beside those of the model.
    return torch.from_numpy(np.stack([picture.numpy() for picture in pictures]))


class ViewDataset(Dataset[tuple[Tensor, ...]]):
    """Rendered views of an image set: uint8 pixels for each model, kept in memory while they fit.

    Args:
        images: N samples.
        spec: the views.
        transforms: one per model (student first, then each teacher).
        memory_bytes: pictures are kept up to this many bytes, all worker processes together, so
            that an epoch over a small set costs no decoding. Rendered ones are kept if there is one
            view of each, or all views together take at most a quarter of that; else decoded ones.
            Each worker process keeps its own.
    """

    def __init__(
        self,
        images: ImageSet,
        spec: ViewSpec,
        transforms: Sequence[ImageTransform],
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        self.images = images
        self.spec = spec
        self.transforms = tuple(transforms)
        self.memory_bytes = memory_bytes
        self._kept: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        self._decoded: dict[int, Image.Image] = {}
        self._kept_bytes = 0
        self._keeps_views = self._few_views()
        Image.init()  # Pillow's plugins, so that not every loader process imports them

    def __len__(self) -> int:
        return len(self.images)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}, "_decoded": {}, "_kept_bytes": 0}

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...]:
        """One [3, H, W] uint8 tensor per transform, for (sample index, view index)."""
        kept = self._kept.get(key)
        return self._render(key, self._load(key[0])) if kept is None else kept

    def batch(self, keys: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
        """One [B, 3, H, W] uint8 tensor per transform; neighbours of one sample decode it once."""
        there = self._decoded
        self.images.read_ahead([k[0] for k in keys if k not in self._kept and k[0] not in there])
        rows: list[tuple[Tensor, ...]] = []
        sample, image = -1, None
        for key in keys:
            row = self._kept.get(key)
            if row is None:
                if image is None or sample != key[0]:
                    sample, image = key[0], self._load(key[0])
                row = self._render(key, image)
            rows.append(row)
        return tuple(map(stacked, zip(*rows, strict=True)))

    def _load(self, sample: int) -> Image.Image:
        image = self._decoded.get(sample)
        if image is None:
            image = self.images.load(sample, self.spec.least_side)
            if not self._keeps_views and self._fits(4 * image.width * image.height):
                self._decoded[sample] = image
        return image

    def _render(self, key: tuple[int, int], image: Image.Image) -> tuple[Tensor, ...]:
        view = render_view(image, self.spec, self.images.ids[key[0]], key[1])
        pixels: dict[tuple[object, ...], Tensor] = {}
        for transform in self.transforms:
            if transform.geometry not in pixels:
                pixels[transform.geometry] = transform.to_uint8(view, cropped=self.spec.crops)
        row = tuple(pixels[transform.geometry] for transform in self.transforms)
        num_bytes = sum(tensor.nbytes for tensor in pixels.values())
        if self._keeps_views and key not in self._kept and self._fits(num_bytes):
            self._kept[key] = row
        return row

    def _few_views(self) -> bool:
        """Whether rendered views are worth their memory: K of them take more than the picture."""
        if self.spec.num_views < 2:
            return self.spec.num_views == 1
        sizes = {transform.geometry: transform.input_size for transform in self.transforms}
        row = sum(3 * height * width for height, width in sizes.values())
        return row * self.spec.num_views * len(self.images) <= self.memory_bytes // 4

    def _fits(self, num_bytes: int) -> bool:
        """Reserve room for one more; nothing is evicted, as epochs visit every sample equally."""
        worker = get_worker_info()
        limit = self.memory_bytes // (worker.num_workers if worker else 1)
        fits = self._kept_bytes + num_bytes <= limit
        self._kept_bytes += num_bytes if fits else 0
        return fits
