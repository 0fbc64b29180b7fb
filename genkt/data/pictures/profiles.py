"""Colour profiles: pictures in Adobe RGB, Display P3, CMYK or a printer's grey become sRGB.

LittleCMS converts (through Pillow), relative colorimetric with black point compensation, as
photo editors do by default. Built transforms are kept by the bytes of their profile.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_SAME = 2
"""A profile that changes no colour by more than this many levels counts as sRGB."""


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture without transparency as sRGB, mode RGB.

    A profile that is sRGB, broken, or of another colour space than the picture is not applied: the
    pixels are converted as if there were none, to the same bits.

    Args:
        profile: the embedded ICC profile, None without one.
    """
    if not profile:
        return image.convert("RGB")
    if image.mode not in _SPACES:
        image = image.convert("L" if image.mode == "1" else "RGB")
    transform = _transform(profile, image.mode)
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is only where the picture itself is changed
    return converted


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; None where there is nothing to convert."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(
            opened, ImageCms.createProfile("sRGB"), mode, "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        return None
    return None if mode != "CMYK" and _is_identity(transform, mode) else transform


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform leaves a grid of colours as it is."""
    steps = np.linspace(0, 255, 18).astype(np.uint8)
    grid = steps[:, None]
    if mode == "RGB":
        grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
    probe = Image.fromarray(grid)
    shown = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int)
    return bool(np.abs(shown - np.asarray(probe.convert("RGB"))).max() <= _SAME)
