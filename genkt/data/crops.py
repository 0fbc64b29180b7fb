"""Crops of gallery pictures: drawn from a seed, the picture's id and a number, never stored.

A gallery of crops holds ``per_image`` random parts of every picture, each distorted a little.
The spec, the id and the crop's number fully determine the pixels. So only the features are stored;
the pixels are made again when a crop is needed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from PIL import Image, ImageEnhance, ImageOps

from genkt.data.transform import plain_dict
from genkt.data.views import crop_box
from genkt.io import derive_seed
from genkt.settings.bounds import Factor, Pixels
from genkt.settings.faults import Fault, SettingsError
from genkt.types import Range, UserError

Pair = tuple[Factor, Factor]

STRONGEST = 30
"""The largest magnitude. At 0 only the operations without a strength change anything."""


@dataclass(frozen=True)
class CropSpec:
    """Which crops of a picture exist.

    Args:
        per_image: K crops of each picture; 0: no crops, every picture as a whole.
        seed: of every draw.
        size: side in pixels that a crop is scaled to, whatever its shape.
        scale: lowest and highest share of the picture's area, in (0, 1].
        ratio: lowest and highest width / height of the box.
        num_ops: distortions per crop (RandAugment), each drawn from ``OPERATIONS``; 0: none.
        magnitude: how strong they are, 0 to ``STRONGEST``.

    Raises:
        UserError: an invalid range.

    Source: R. Vemulapalli et al., "Knowledge Transfer from Vision Foundation Models for Efficient
    Training of Small Task-specific Models", B.2; E. Cubuk et al., "RandAugment", with the
    operations and strengths of torchvision's ``RandAugment``.

    Example:
        >>> spec = CropSpec(10, 0, 24, (0.08, 1.0), (0.75, 1.333), 2, 9)
        >>> picture = Image.radial_gradient("L").convert("RGB")
        >>> first, again = (make_crop(picture, spec, "moon.png", 3) for _ in range(2))
        >>> first.picture.tobytes() == again.picture.tobytes(), first.picture.size
        (True, (24, 24))
    """

    per_image: Annotated[int, Range(0, 10**6)]
    seed: Annotated[int, Range(0, 2**63 - 1)]
    size: Pixels
    scale: Pair
    ratio: Pair
    num_ops: Annotated[int, Range(0, 100)]
    magnitude: Annotated[int, Range(0, STRONGEST)]

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):
            low, high = (float(part) for part in getattr(self, name))
            if not 0 < low <= high < math.inf:
                text = f"expected 0 < low <= high, got [{low:g}, {high:g}]"
                raise SettingsError([Fault(name, text)])
            object.__setattr__(self, name, (low, high))
        if self.scale[1] > 1:
            text = f"expected shares up to 1, got {self.scale[1]:g}"
            raise SettingsError([Fault("scale", text)])

    def as_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values, for fingerprints and cards."""
        return plain_dict(self)


@dataclass(frozen=True)
class Crop:
    """One crop.

    Args:
        picture: RGB, ``size`` pixels a side.
        box: (left, top, right, bottom) in the picture it was cut from.
        operations: what was done to it, e.g. "rotate -9".
    """

    picture: Image.Image
    box: tuple[int, int, int, int]
    operations: tuple[str, ...]


def crop_id(image_id: str, index: int) -> str:
    """The name of a crop: its picture's id and its number."""
    return f"{image_id}@{index}"


def make_crop(picture: Image.Image, spec: CropSpec, image_id: str, index: int) -> Crop:
    """Cut and distort one crop.

    Args:
        picture: the whole RGB picture.
        image_id: its sample id.
        index: 0..K-1.

    Raises:
        UserError: the spec has no such crop.
    """
    if not 0 <= index < spec.per_image:
        raise UserError(
            f"crop {index} of {image_id}: this gallery has {spec.per_image} crops per picture"
        )
    rng = random.Random(derive_seed(spec.seed, image_id, index, "crop"))
    box = crop_box(rng, spec.scale, spec.ratio, picture.width, picture.height)
    side = (spec.size, spec.size)
    crop = picture.resize(side, Image.Resampling.BICUBIC, box=box)
    done = []
    for _ in range(spec.num_ops):
        name = rng.choice(OPERATIONS)
        strength = rng.choice((-1, 1)) * spec.magnitude / STRONGEST
        crop = _APPLY[name](crop, strength)
        done.append(f"{name} {strength:+.2f}" if name in _SIGNED else name)
    return Crop(crop, box, tuple(done))


def _affine(
    image: Image.Image, matrix: tuple[float, float, float, float, float, float]
) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _shear_x(image: Image.Image, strength: float) -> Image.Image:
    slope = 0.3 * strength
    return _affine(image, (1, slope, -slope * image.height / 2, 0, 1, 0))  # about the centre


def _shear_y(image: Image.Image, strength: float) -> Image.Image:
    slope = 0.3 * strength
    return _affine(image, (1, 0, 0, slope, 1, -slope * image.width / 2))


def _translate_x(image: Image.Image, strength: float) -> Image.Image:
    return _affine(image, (1, 0, round(150 / 331 * strength * image.width), 0, 1, 0))


def _translate_y(image: Image.Image, strength: float) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, round(150 / 331 * strength * image.height)))


def _rotate(image: Image.Image, strength: float) -> Image.Image:
    return image.rotate(30 * strength, Image.Resampling.BILINEAR)


def _posterize(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(4 * abs(strength)))


def _solarize(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.solarize(image, round(255 * (1 - abs(strength))))


def _enhance(kind: Callable[[Image.Image], Any]) -> Callable[[Image.Image, float], Image.Image]:
    def apply(image: Image.Image, strength: float) -> Image.Image:
        enhanced: Image.Image = kind(image).enhance(1 + 0.9 * strength)
        return enhanced

    return apply


_SIGNED: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "shear x": _shear_x,
    "shear y": _shear_y,
    "translate x": _translate_x,
    "translate y": _translate_y,
    "rotate": _rotate,
    "brightness": _enhance(ImageEnhance.Brightness),
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "sharpness": _enhance(ImageEnhance.Sharpness),
}
_APPLY: dict[str, Callable[[Image.Image, float], Image.Image]] = _SIGNED | {
    "identity": lambda image, _: image,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
}

OPERATIONS: tuple[str, ...] = tuple(_APPLY)
"""The distortions; of the first nine the sign counts too."""
