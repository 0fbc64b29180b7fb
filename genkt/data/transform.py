"""A model's own evaluation transform."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from PIL import Image
from torch import Tensor

from genkt.io import did_you_mean
from genkt.settings.faults import Fault, SettingsError
from genkt.types import Range, UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
CROP_MODES = ("center", "squash")
_SIDES = Range(1, 2**14)
_MEANS = Range(-1000, 1000)
_DEVIATIONS = Range(0, 1000, above=True)


@dataclass(frozen=True)
class ImageTransform:
    """A model's own evaluation transform: resize, centre crop, normalise.

    Args:
        input_size: (H, W) pixels; also one number for both sides, or (3, H, W) as timm has it.
        mean: 3 channel means of pixels in 0..1, or one for all.  std: deviations, in the same way.
        interpolation: one of ``INTERPOLATIONS``.
        crop_pct: input size / resized size; above 1 the picture is padded with black.
        crop_mode: "center" keeps the aspect ratio and loses the longer side's ends, "squash"
            resizes both sides (SigLIP and others). timm's "border" is not supported.

    Raises:
        UserError: a value outside its range.

    Source: equals ``timm.data.create_transform(is_training=False)`` pixel for pixel.
    """

    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", _sides(self.input_size))
        for name, bounds in (("mean", _MEANS), ("std", _DEVIATIONS)):
            values = _channels(name, getattr(self, name))
            if not all(map(bounds.holds, values)):
                raise _fault(name, f"expected numbers {bounds}, got {list(values)}")
            object.__setattr__(self, name, values)
        if not _is_number(self.crop_pct) or not 0 < self.crop_pct <= 2:
            raise _fault("crop_pct", f"expected a number in (0, 2], got {self.crop_pct!r}")
        _require_choice("interpolation", self.interpolation, INTERPOLATIONS)
        _require_choice("crop_mode", self.crop_mode, CROP_MODES)

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> ImageTransform:
        """The transform that ``timm.data.resolve_data_config(...)`` describes.

        Raises:
            UserError: the model does not take 3 channels, or its transform is not supported.
        """
        channels, height, width = config["input_size"]
        if channels != 3:
            raise UserError(f"expected a model with 3 input channels, got {channels}")
        return cls(
            input_size=(height, width),
            mean=config["mean"],
            std=config["std"],
            interpolation=config["interpolation"],
            crop_pct=config["crop_pct"],
            crop_mode=config.get("crop_mode") or "center",
        )

    def to_uint8(self, image: Image.Image, cropped: bool = False) -> Tensor:
        """[3, H, W] uint8 pixels of an RGB picture.

        Args:
            cropped: the picture is a drawn crop already: resize it straight to (H, W).
        """
        height, width = self.input_size
        resample = INTERPOLATIONS[self.interpolation]
        target = (width, height) if cropped else self._resized(image.width, image.height)
        if image.size != target:
            image = image.resize(target, resample)
        if image.size != (width, height):
            left, top = _center(image.width, width), _center(image.height, height)
            image = image.crop((left, top, left + width, top + height))
        # By Pillow, plane by plane: faster than splitting or transposing, and no thread of torch's
        # starts beside those of the model.
        planes = bytearray().join(image.tobytes("raw", band) for band in "RGB")
        return torch.frombuffer(planes, dtype=torch.uint8).view(3, height, width)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) before the centre crop, with timm's and torchvision's roundings."""
        target_height, target_width = (math.floor(side / self.crop_pct) for side in self.input_size)
        if self.crop_mode == "squash":
            return target_width, target_height
        if target_height == target_width:
            if width <= height:
                return target_width, int(target_width * height / width)
            return int(target_width * width / height), target_width
        ratio = min(height / target_height, width / target_width)
        return round(width / ratio), round(height / ratio)

    def resizing(self) -> str:
        """What ``to_uint8`` does, in words."""
        height, width = self.input_size
        size = " x ".join(str(math.floor(side / self.crop_pct)) for side in self.input_size)
        kept = "" if self.crop_mode == "squash" else "keeping its proportions, until it covers "
        return (
            f"Resize it {kept or 'to '}{size} (height x width) by Pillow's {self.interpolation} "
            f"filter; crop the middle {height} x {width}."
        )

    def normalize(self, pixels: Tensor) -> Tensor:
        """float32 [B, 3, H, W], the model's input, from uint8 of that shape on the same device."""
        mean, std = _constants(self.mean, self.std, pixels.device)
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)

    def as_dict(self) -> dict[str, Any]:
        """The transform as plain JSON values, for fingerprints and reports."""
        return plain_dict(self)

    @property
    def geometry(self) -> tuple[object, ...]:
        """The settings that set the uint8 pixels; transforms that agree share one rendering."""
        return self.input_size, self.interpolation, self.crop_pct, self.crop_mode


def whole_overlay(overlay: Mapping[str, Any], size: object = None) -> dict[str, Any]:
    """Parts that replace those of a model's transform, each in the one form that is kept.

    >>> whole_overlay({"mean": 0.5, "crop_pct": 1.0}, 64)
    {'mean': [0.5, 0.5, 0.5], 'crop_pct': 1.0, 'input_size': [64, 64]}

    Args:
        size: another way to give ``input_size``; None: not given.

    Raises:
        SettingsError: what is wrong whatever the model declares for the other parts; of keys
            ``transform.input_size`` and the like, or ``size``.
    """
    names = [field.name for field in fields(ImageTransform)]
    for name in overlay:
        if name not in names:
            hint = did_you_mean(str(name), names) or f" Known here: {', '.join(names)}."
            raise SettingsError([Fault(f"transform.{name}", f"unknown setting.{hint}", "unknown")])
    given = {"input_size": (1, 1), "mean": (0, 0, 0), "std": (1, 1, 1)} | dict(overlay)
    try:
        plain = ImageTransform(**given).as_dict()
    except SettingsError as error:
        raise SettingsError(fault.below("transform") for fault in error.faults) from error
    found = {name: plain[name] for name in overlay}
    if size is not None:
        if "input_size" in found:
            text = f"expected one of the two, got {size} and {overlay['input_size']}"
            raise SettingsError([Fault("size", text, "together", ("transform.input_size",))])
        found["input_size"] = list(_sides(size, "size"))
    return found


def _sides(value: object, name: str = "input_size") -> tuple[int, int]:
    """(H, W) from one number for both sides, from two, or from three as timm has them."""
    several: list[Any] = list(value) if _is_list(value) else [value, value]
    sides = several[1:] if len(several) == 3 and several[0] == 3 else several
    if len(sides) != 2 or not all(
        isinstance(side, Integral) and _is_number(side) for side in sides
    ):
        form = "pixels as 64, [64, 64] or [3, 64, 64]"
        raise _fault(name, f"expected {form}, got {_shown(value)}")
    height, width = map(int, sides)
    if not (_SIDES.holds(height) and _SIDES.holds(width)):
        raise _fault(name, f"expected sides of {_SIDES} pixels, got {_shown(value)}")
    return height, width


def _channels(name: str, value: object) -> tuple[float, float, float]:
    """Three numbers, from three or from one for all channels."""
    numbers: list[Any] = list(value) if _is_list(value) else [value]
    if len(numbers) not in (1, 3) or not all(map(_is_number, numbers)):
        text = f"expected a number, or one for each of 3 channels, got {_shown(value)}"
        raise _fault(name, text)
    red, green, blue = numbers if len(numbers) == 3 else numbers * 3
    return red, green, blue


def _is_list(value: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _shown(value: object) -> object:
    """As it would be typed."""
    return list(value) if _is_list(value) else repr(value)


def _require_choice(name: str, value: str, choices: Sequence[str] | Mapping[str, Any]) -> None:
    if not isinstance(value, str) or value not in choices:
        known = ", ".join(choices)
        hint = did_you_mean(str(value), choices)
        raise _fault(name, f"expected one of {known}, got {value!r}.{hint}")


def _fault(name: str, text: str) -> SettingsError:
    return SettingsError([Fault(name, text)])


def _center(available: int, wanted: int) -> int:
    """First pixel of a centred window; negative (black padding) where the picture is smaller."""
    if wanted > available:
        return -((wanted - available) // 2)
    return round((available - wanted) / 2)


@functools.lru_cache(maxsize=64)
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """[3, 1, 1] mean and std on the device, copied there once."""
    with torch.inference_mode(False):  # the cached tensors are also used outside inference mode
        to_tensor = functools.partial(torch.tensor, dtype=torch.float32, device=device)
        return to_tensor(mean).view(3, 1, 1), to_tensor(std).view(3, 1, 1)


def plain_dict(value: DataclassInstance) -> dict[str, Any]:
    """A dataclass's fields with tuples as lists: exactly what JSON gives back."""
    plain = asdict(value)
    return {key: list(field) if isinstance(field, tuple) else field for key, field in plain.items()}
