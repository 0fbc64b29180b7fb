"""Any number of handwritten-looking glyphs: a bank is drawn from fonts once, then warped.

The upstream half of the embedded world. Every glyph of the bank is kept as two distance fields
(to its outline, to its skeleton) instead of pixels: a threshold on the distance gives a stroke of
any width after any warp, so each copy has its own pen and stays smooth.
"""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genkt.data.builtin.strokes import write_forms
from genkt.types import UserError

MERGED = "cijklmopsuvwxyz"
"""Lower-case letters that share a class with their capital (the EMNIST "balanced" merge)."""

CLASSES: tuple[str, ...] = tuple(string.digits + string.ascii_uppercase) + tuple(
    letter for letter in string.ascii_lowercase if letter not in MERGED
)
"""The 47 upstream classes: 10 digits, 26 capitals, 11 lower-case letters of their own shape."""

TRAIN_FONTS: tuple[str, ...] = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralBolIta",
    "cmb10", "cmr10", "cmti10", "cmtt10", "cmmi10",
)  # fmt: skip
"""Fonts of matplotlib that the bank is drawn from."""

HELD_OUT_FONTS: tuple[str, ...] = ("DejaVuSerif", "STIXGeneralItalic", "cmss10")
"""Fonts never trained on: they measure the upstream task."""

CANVAS = 64
"""Side of a distance field, in its own pixels."""

BOX = 40
"""The longer side of every glyph on the canvas; the margin leaves room for warps."""

_OVERSAMPLE = 2
_REACH = 12.0  # distances are clipped here, in canvas pixels: no pen is that wide


@dataclass(frozen=True)
class GlyphBank:
    """G glyphs as distance fields, sorted by class.

    Args:
        fields: [G, 2, CANVAS, CANVAS] float32, in canvas pixels: signed distance to the outline
            (negative inside) and distance to the skeleton.
        labels: [G] int64, sorted, every class present.
    """

    fields: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> GlyphBank:
        """The same bank on another device."""
        return GlyphBank(self.fields.to(device), self.labels.to(device))

    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Pick one glyph per label, uniformly in its class: [B] labels -> [B] indices."""
        starts = torch.searchsorted(self.labels, labels)
        counts = torch.searchsorted(self.labels, labels, right=True) - starts
        position = torch.rand(len(labels), generator=generator, device=labels.device)
        return starts + (position * counts).long().clamp(max=counts - 1)


@dataclass(frozen=True)
class GlyphStyle:
    """How far a copy may differ from its font; lengths are shares of half the frame.

    Args:
        elastic: largest smooth displacement.
        rotate_degrees, shear, aspect: affine part; aspect is a largest log-ratio.
        fill: range of the share of the frame that the longer side of the ink spans.
        translate: largest offset of the ink's centre.
        restroked: share of copies drawn from the skeleton.
        pen: range of the half stroke width of re-stroked copies, canvas pixels.
        weight: range of the offset of the outline of the others, canvas pixels.
        coarse: share of copies scanned at a low resolution (8 to 16 pixels) and scaled up.
        blur: largest standard deviation of the blur, output pixels.
        noise: largest standard deviation of the noise, of the range 0..1.
        inverted: share of dark-on-light copies.
    """

    elastic: float = 0.25
    rotate_degrees: float = 15.0
    shear: float = 0.35
    aspect: float = 0.35
    fill: tuple[float, float] = (0.85, 1.05)
    translate: float = 0.08
    restroked: float = 0.6
    pen: tuple[float, float] = (1.5, 5.0)
    weight: tuple[float, float] = (-1.0, 2.5)
    coarse: float = 0.7
    blur: float = 1.0
    noise: float = 0.1
    inverted: float = 0.2


def font_path(name: str) -> Path:
    """The file of one of matplotlib's fonts.

    Raises:
        UserError: matplotlib ships no such font.
    """
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    path = folder / f"{name}.ttf"
    if not path.is_file():
        from genkt.io import did_you_mean

        names = sorted(file.stem for file in folder.glob("*.ttf"))
        raise UserError(f"font {name!r}: matplotlib has no such font.{did_you_mean(name, names)}")
    return path


def draw_bank(
    fonts: tuple[str, ...] = TRAIN_FONTS, *, num_written: int = 4, seed: int = 0
) -> GlyphBank:
    """Draw every digit and letter of the fonts and measure the distances: a few seconds.

    Args:
        fonts: names of matplotlib's fonts.
        num_written: jittered copies of each handwritten form of ``strokes`` beside the fonts.
        seed: of that jitter.

    Raises:
        UserError: an unknown font.
    """
    fields, labels = [], []
    for name in fonts:
        path = font_path(name)
        for character in string.digits + string.ascii_letters:
            fields.append(distance_fields(_draw(path, character)))
            labels.append(class_of(character))
    side, box = CANVAS * _OVERSAMPLE, BOX * _OVERSAMPLE
    for character, ink in write_forms(num_written, seed=seed, side=side, box=box):
        fields.append(distance_fields(ink))
        labels.append(class_of(character))
    order = np.argsort(np.asarray(labels), kind="stable")
    stacked = torch.from_numpy(np.stack(fields)[order])
    return GlyphBank(stacked, torch.as_tensor(labels)[order])


def class_of(character: str) -> int:
    """Index in ``CLASSES`` of a digit or letter, after the merge of look-alike cases."""
    return CLASSES.index(character.upper() if character in MERGED else character)


def _draw(path: Path, character: str) -> np.ndarray:
    """One glyph, its longer side BOX, centred on an oversampled canvas: bool [S, S]."""
    side, box = CANVAS * _OVERSAMPLE, BOX * _OVERSAMPLE
    longer = max(_ink(path, character, 200).size)
    ink = _ink(path, character, max(8, round(200 * box / longer)))
    image = Image.new("L", (side, side))
    image.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return np.asarray(image) > 127


def _ink(path: Path, character: str, size: int) -> Image.Image:
    """A character cropped to its ink (a font's own box counts the space around it)."""
    image = Image.new("L", (3 * size, 3 * size))
    font = ImageFont.truetype(str(path), size)
    ImageDraw.Draw(image).text((size, size), character, fill=255, font=font)
    return image.crop(image.getbbox())


def distance_fields(ink: np.ndarray) -> np.ndarray:
    """Outline and skeleton distances of an oversampled bool drawing: float32 [2, S/2, S/2]."""
    from scipy.ndimage import distance_transform_edt as distance
    from skimage.morphology import skeletonize

    skeleton = skeletonize(ink)  # type: ignore[no-untyped-call]
    fields = np.stack([distance(~ink) - distance(ink), distance(~skeleton)]) / _OVERSAMPLE
    side = ink.shape[0] // _OVERSAMPLE
    pooled = fields.reshape(2, side, _OVERSAMPLE, side, _OVERSAMPLE).mean(axis=(2, 4))
    return np.asarray(pooled.clip(-_REACH, _REACH), dtype=np.float32)


def uniform(num: int, low: float, high: float, generator: torch.Generator, *shape: int) -> Tensor:
    """[num, *shape] uniform draws in [low, high) on the generator's device."""
    draws = torch.rand(num, *shape, generator=generator, device=generator.device)
    return low + (high - low) * draws


def render_ink(
    bank: GlyphBank, indices: Tensor, style: GlyphStyle, generator: torch.Generator, size: int = 32
) -> Tensor:
    """Warp and stroke glyphs: [B] indices -> ink [B, 1, size, size] in 0..1, ink bright.

    The ink is re-framed after the warp, as scanned characters are: its bounding box is what is
    centred and scaled, not the font's.
    """
    fields, num = bank.fields[indices], len(indices)
    warp = _warp(num, style, generator)
    pen = _Pen.draw(num, style, generator)
    rough = pen.stroke(F.grid_sample(fields, warp, padding_mode="border", align_corners=False))
    frame = _frame(rough, style, generator, size)
    warp = F.grid_sample(warp.permute(0, 3, 1, 2), frame, align_corners=False,
                         padding_mode="border").permute(0, 2, 3, 1)  # fmt: skip
    return pen.stroke(F.grid_sample(fields, warp, padding_mode="border", align_corners=False))


def _grid(num: int, size: int, device: torch.device) -> Tensor:
    """Pixel centres of a frame in -1..1: [num, size, size, 2], x first."""
    line = (torch.arange(size, device=device) * 2 + 1) / size - 1
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([columns, rows], dim=-1).expand(num, size, size, 2)


def _warp(num: int, style: GlyphStyle, generator: torch.Generator, size: int = 32) -> Tensor:
    """Where on the canvas each point of a roomy frame looks: [num, size, size, 2]."""
    turn = math.radians(style.rotate_degrees)
    angle = uniform(num, -turn, turn, generator)
    slant = uniform(num, -style.shear, style.shear, generator)
    aspect = uniform(num, -style.aspect, style.aspect, generator).exp()
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack([cos * aspect, -sin, sin + slant, cos / aspect], -1).view(num, 2, 2)
    grid = _grid(num, size, generator.device)
    moved = (grid.reshape(num, -1, 2) @ matrix).view(num, size, size, 2)
    strength = uniform(num, 0, style.elastic, generator, 1, 1, 1)
    field = torch.zeros_like(moved)
    for knots, share in ((3, 1.0), (5, 0.6)):
        random = uniform(num, -1, 1, generator, 2, knots + 2, knots + 2)
        smooth = F.interpolate(random, size=size, mode="bicubic", align_corners=True)
        field = field + share * smooth.permute(0, 2, 3, 1)
    return moved + strength * field


@dataclass(frozen=True)
class _Pen:
    """Every copy's own stroke: which field it follows, how wide, how soft, how even."""

    restroked: Tensor
    width: Tensor
    softness: Tensor
    pressure: Tensor

    @staticmethod
    def draw(num: int, style: GlyphStyle, generator: torch.Generator) -> _Pen:
        restroked = uniform(num, 0, 1, generator, 1, 1, 1) < style.restroked
        pen = uniform(num, *style.pen, generator, 1, 1, 1)
        weight = uniform(num, *style.weight, generator, 1, 1, 1)
        return _Pen(
            restroked,
            torch.where(restroked, pen, weight),
            uniform(num, 0.5, 1.2, generator, 1, 1, 1),
            uniform(num, -1, 1, generator, 1, 4, 4),
        )

    def stroke(self, fields: Tensor) -> Tensor:
        """Distance fields [B, 2, H, W] -> ink [B, 1, H, W]; pressure varies along the stroke."""
        distance = torch.where(self.restroked, fields[:, 1:], fields[:, :1])
        pressure = F.interpolate(self.pressure, size=fields.shape[-2:], mode="bilinear")
        return torch.sigmoid((self.width + 0.8 * pressure - distance) / self.softness * 2)


def _frame(ink: Tensor, style: GlyphStyle, generator: torch.Generator, size: int) -> Tensor:
    """The part of a roomy frame that the output shows, set by the ink: [B, size, size, 2]."""
    num, side = len(ink), ink.shape[-1]
    edges = []
    for axis in (2, 1):  # columns give x, rows give y
        inside = (ink[:, 0] > 0.5).any(dim=3 - axis).to(torch.uint8)
        first = inside.argmax(dim=1)
        last = side - inside.flip(1).argmax(dim=1)
        edges.append(torch.stack([first, last], dim=-1) * (2 / side) - 1)
    low, high = torch.stack(edges, dim=1).unbind(-1)
    centre = (low + high) / 2 + uniform(num, -1, 1, generator, 2) * style.translate
    half = (high - low).amax(dim=1) / 2 / uniform(num, *style.fill, generator)
    return _grid(num, size, ink.device) * half.view(num, 1, 1, 1) + centre.view(num, 1, 1, 2)


def scan(ink: Tensor, style: GlyphStyle, generator: torch.Generator) -> Tensor:
    """Imperfect reproduction of ink [B, 1, H, W]: coarse scans, blur, faint ink; same shape."""
    num, size = len(ink), ink.shape[-1]
    coarse = uniform(num, 0, 1, generator) < style.coarse
    resolution = 8 * torch.ones(num, dtype=torch.long, device=ink.device)
    finer = uniform(num, 0, 1, generator) < 0.5
    resolution[finer] = uniform(int(finer.sum()), 9, 17, generator).long()
    result = ink.clone()
    for pixels in range(8, 17):  # a tensor has one size, so copies go by resolution
        rows = (coarse & (resolution == pixels)).nonzero()[:, 0]
        if len(rows):
            small = F.interpolate(ink[rows], size=pixels, mode="area")
            large = F.interpolate(small, size=size, mode="bicubic", align_corners=False)
            result[rows] = large.clamp(0, 1)
    result = _blur(result, uniform(num, 0, style.blur, generator))
    # thin pens fade at a low resolution; scanners stretch the contrast again
    peak = result.amax(dim=(1, 2, 3), keepdim=True).clamp(min=0.2)
    contrast = uniform(num, 0.75, 1.5, generator, 1, 1, 1)
    return (result / peak * contrast).clamp(0, 1)


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with one standard deviation per image, [B] in pixels: [B, 1, H, W]."""
    offsets = torch.arange(-3, 4, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=0.05)[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    num = len(images)
    stacked = F.pad(images.transpose(0, 1), (3, 3, 3, 3), mode="replicate")
    stacked = F.conv2d(stacked, kernel.view(num, 1, 1, 7), groups=num)
    return F.conv2d(stacked, kernel.view(num, 1, 7, 1), groups=num).transpose(0, 1)


def colour(
    ink: Tensor, style: GlyphStyle, generator: torch.Generator, photos: Tensor | None = None
) -> Tensor:
    """Ink [B, 1, H, W] on a ground -> pictures [B, 3, H, W] in 0..1.

    Args:
        photos: [P, 3, H, W] uint8 crops of photographs; with them, every picture is ``|photo -
        ink|``; without them the ground is plain and sometimes bright.
    """
    num = len(ink)
    if photos is None:
        inverted = uniform(num, 0, 1, generator, 1, 1, 1) < style.inverted
        pictures = torch.where(inverted, 1 - ink, ink).expand(-1, 3, -1, -1)
    else:
        chosen = (uniform(num, 0, 1, generator) * len(photos)).long().clamp(max=len(photos) - 1)
        ground = photos[chosen].to(ink.dtype) / 255
        mirrored = uniform(num, 0, 1, generator, 1, 1, 1) < 0.5
        ground = torch.where(mirrored, ground.flip(3), ground)
        light = uniform(num, 0.8, 1.2, generator, 3, 1, 1)
        pictures = ((ground * light).clamp(0, 1) - ink).abs()
    level = uniform(num, 0, style.noise, generator, 1, 1, 1)
    noise = torch.randn(num, 1, *ink.shape[2:], generator=generator, device=ink.device)
    return (pictures + level * noise).clamp(0, 1)


def sample_glyphs(
    bank: GlyphBank,
    num: int,
    *,
    generator: torch.Generator,
    style: GlyphStyle | None = None,
    photos: Tensor | None = None,
    on_photos: float = 0.0,
    size: int = 32,
) -> tuple[Tensor, Tensor]:
    """A batch of the upstream task, classes uniform.

    Args:
        num: B.  photos: [P, 3, size, size] uint8 crops for the share ``on_photos`` of the batch.
        generator: on the bank's device; the only randomness.

    Returns:
        Pictures [B, 3, size, size] float32 in 0..1 and labels [B] int64.

    Raises:
        UserError: a share on photographs without photographs.

    Example:
        >>> bank = draw_bank(("cmr10",), num_written=0)
        >>> generator = torch.Generator().manual_seed(0)
        >>> pictures, labels = sample_glyphs(bank, 4, generator=generator)
        >>> tuple(pictures.shape), tuple(labels.shape)
        ((4, 3, 32, 32), (4,))
    """
    if on_photos > 0 and photos is None:
        raise UserError.of(f"on_photos={on_photos}", "crops in photos", "none")
    style = style or GlyphStyle()
    labels = torch.randint(len(CLASSES), (num,), generator=generator, device=generator.device)
    ink = render_ink(bank, bank.draw(labels, generator), style, generator, size)
    ink = scan(ink, style, generator)
    split = round(num * on_photos)
    parts = [colour(ink[split:], style, generator)]
    if split:
        parts.insert(0, colour(ink[:split], style, generator, photos))
    return torch.cat(parts), labels
