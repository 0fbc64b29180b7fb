"""Masks: which part of a picture is hidden, on pixels and on the token grid; True is hidden.

Shapes: pixel masks [B, H, W], hidden tokens [B, h, w], both bool; one token covers H/h x W/w
pixels. A band at the bottom is what a transformer that reads in raster order completes exactly;
bands at the other sides are the same for one that reads in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from genkt.io import did_you_mean
from genkt.settings.faults import Fault, SettingsError
from genkt.types import Range, UserError

MaskKind = Literal["bottom", "top", "left", "right", "rectangle", "scatter"]
Fill = Literal["edge", "grey"]
KINDS: tuple[MaskKind, ...] = get_args(MaskKind)
GREY = 128
_SLACK = 1e-9  # a share of 0.3 holds 3 rows of 10, whatever the last bit of 0.3


@dataclass(frozen=True)
class MaskSettings:
    """Which masks are drawn, all in whole tokens.

    Args:
        kinds: one of them is drawn for each mask, each entry equally often (an entry given twice
            counts twice): a band at the ``bottom``, ``top``, ``left`` or ``right``, a
            ``rectangle`` anywhere, or single tokens in ``scatter``.
        min_share, max_share: least and largest hidden part of the area, both included. At least
            one token is hidden and one visible, whatever the shares.

    Raises:
        UserError: no or unknown kinds, or shares that are not 0 <= min <= max <= 1.

    Example:
        >>> draw_mask(MaskSettings(min_share=0.5, max_share=0.5), (4, 2), seed=0).int().tolist()
        [[0, 0], [0, 0], [1, 1], [1, 1]]
    """

    kinds: tuple[MaskKind, ...] = ("bottom",)
    min_share: Annotated[float, Range(0, 1)] = 0.25
    max_share: Annotated[float, Range(0, 1)] = 0.75

    def __post_init__(self) -> None:
        """Check the values together. Raises: UserError."""
        if not self.kinds or isinstance(self.kinds, str):
            got = f'the text "{self.kinds}"' if self.kinds else "none"
            text = f"expected a list of some of {', '.join(KINDS)}, got {got}"
            raise SettingsError([Fault("kinds", text)])
        object.__setattr__(self, "kinds", tuple(self.kinds))  # a list cannot be hashed
        for kind in self.kinds:
            if kind not in KINDS:
                hint = did_you_mean(str(kind), KINDS)
                text = f'expected some of {", ".join(KINDS)}, got "{kind}".{hint}'
                raise SettingsError([Fault("kinds", text)])
        if not 0 <= self.min_share <= self.max_share <= 1:
            text = (
                "expected 0 <= min_share <= max_share <= 1, "
                f"got {self.min_share} and {self.max_share}"
            )
            raise SettingsError([Fault("min_share", text, also=("max_share",))])


def draw_mask(settings: MaskSettings, grid: tuple[int, int], seed: int) -> Tensor:
    """A random mask: kind, then size, then place, each uniform among those that are possible.

    Args:
        settings: which masks.
        grid: (h, w) in tokens.
        seed: the same seed gives the same mask.

    Returns:
        Hidden tokens, bool [h, w], neither none nor all.

    Raises:
        UserError: no whole number of tokens hides such a share of this grid.
    """
    height, width = grid
    sizes = {kind: _sizes(settings, kind, grid) for kind in settings.kinds}
    if impossible := [kind for kind, found in sizes.items() if not found]:
        raise UserError(
            f"masks: no {impossible[0]} mask of whole tokens hides between "
            f"{settings.min_share:g} and {settings.max_share:g} of {height} x {width} tokens; "
            "widen min_share and max_share"
        )
    generator = torch.Generator().manual_seed(seed)
    kind = settings.kinds[_draw(len(settings.kinds), generator)]
    rows, columns = sizes[kind][_draw(len(sizes[kind]), generator)]
    hidden = torch.zeros(height, width, dtype=torch.bool)
    if kind == "scatter":
        hidden.view(-1)[torch.randperm(height * width, generator=generator)[:columns]] = True
        return hidden
    top, left = height - rows, width - columns  # of a band at the bottom or the right
    if kind in ("top", "left"):
        top, left = 0, 0
    elif kind == "rectangle":
        top, left = _draw(top + 1, generator), _draw(left + 1, generator)
    hidden[top : top + rows, left : left + columns] = True
    return hidden


def to_pixels(hidden: Tensor, downsampling: int) -> Tensor:
    """Pixel masks [B, h f, w f] of hidden tokens [B, h, w], with f = ``downsampling``."""
    return hidden.repeat_interleave(downsampling, dim=-2).repeat_interleave(downsampling, dim=-1)


def hidden_tokens(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens of which any pixel is hidden.

    Args:
        masks: bool [B, H, W].
        grid: (h, w) of the tokens; divides (H, W).

    Returns:
        bool [B, h, w].

    Raises:
        UserError: the grid does not divide the masks.
    """
    height, width = masks.shape[1:]
    if height % grid[0] or width % grid[1]:
        raise UserError.of(
            "masks", f"sides that {grid[0]} x {grid[1]} tokens divide", f"{height} x {width} pixels"
        )
    rows, columns = grid
    cells = masks.reshape(len(masks), rows, height // rows, columns, width // columns)
    return cells.any(dim=4).any(dim=2)


def dilate(hidden: Tensor, rings: int) -> Tensor:
    """Hide every token within ``rings`` tokens of a hidden one, diagonals included.

    Args:
        hidden: bool [B, h, w].
        rings: 0 changes nothing.

    Returns:
        bool [B, h, w].

    Raises:
        UserError: negative rings.
    """
    if rings < 0:
        raise UserError.of("dilation", "0 or more rings of tokens", rings)
    if rings == 0:
        return hidden
    window = 2 * rings + 1
    return functional.max_pool2d(hidden[:, None].float(), window, 1, rings)[:, 0] > 0


def fill_hidden(images: Tensor, masks: Tensor, how: Fill) -> Tensor:
    """The pictures with their hidden pixels replaced by values that say nothing about them.

    Args:
        images: uint8 [B, 3, H, W].
        masks: bool [B, H, W]; hidden pixels are never read.
        how: ``edge`` gives each hidden pixel the colour of the nearest visible one, ``grey``
            mid-grey. A picture without visible pixels becomes grey either way.

    Returns:
        uint8 [B, 3, H, W] on the pictures' device; visible pixels as they were.

    Raises:
        UserError: masks that do not fit the pictures, or an unknown way.
    """
    _check_fit(masks, images)
    if how not in get_args(Fill):
        hint = did_you_mean(str(how), get_args(Fill))
        raise UserError.of("fill", "edge | grey", f'"{how}".{hint}')
    masks = masks.to(images.device)
    covered = masks[:, None]
    if how == "edge":
        nearest = _nearest_visible(masks.cpu().numpy())
        source = torch.from_numpy(nearest).to(images.device).flatten(1)[:, None]
        edges = images.flatten(2).gather(2, source.expand(-1, images.shape[1], -1))
        images = edges.view_as(images)  # a visible pixel is its own nearest one
        covered = covered & masks.all(dim=2).all(dim=1).view(-1, 1, 1, 1)
    return torch.where(covered, torch.full_like(images, GREY), images)


def check_masks(masks: Tensor, images: Tensor, *, allow_full: bool = False) -> None:
    """Refuse masks that do not fit the pictures, and those that hide nothing or everything.

    Args:
        masks: bool [B, H, W].
        images: [B, 3, H, W].
        allow_full: take masks that hide everything (free generation).

    Raises:
        UserError: says which masks are wrong.
    """
    _check_fit(masks, images)
    flat = masks.flatten(1)
    if empty := _indices(~flat.any(dim=1)):
        raise UserError(f"masks: expected at least one hidden pixel, masks {empty} hide nothing")
    full = _indices(flat.all(dim=1))
    if full and not allow_full:
        raise UserError(f"masks: expected at least one visible pixel, masks {full} hide everything")


def _check_fit(masks: Tensor, images: Tensor) -> None:
    if masks.dtype != torch.bool:
        raise UserError.of("masks", "bool, True where hidden", str(masks.dtype)[6:])
    expected = [images.shape[0], *images.shape[2:]]
    if images.ndim != 4 or list(masks.shape) != expected:
        raise UserError.of(
            "masks",
            "[B, H, W] for images [B, 3, H, W]",
            f"{list(masks.shape)} for {list(images.shape)}",
        )


def _indices(wrong: Tensor, most: int = 5) -> str:
    """ "0, 3" of the true entries, or "" where there are none."""
    found = wrong.nonzero().flatten().tolist()
    return ", ".join(map(str, found[:most])) + (" ..." if len(found) > most else "")


def _nearest_visible(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[B, H, W] flat index of the visible pixel nearest to each one; itself where none is.

    Masks that repeat (the samples of one picture, fixed bands) are computed once.
    """
    from scipy.ndimage import distance_transform_edt

    height, width = masks.shape[1:]
    own = np.arange(height * width).reshape(height, width)
    known: dict[bytes, NDArray[np.int64]] = {}
    for mask in masks:
        key = mask.tobytes()
        if key not in known:
            known[key] = own
            if mask.any() and not mask.all():
                rows, columns = distance_transform_edt(
                    mask, return_distances=False, return_indices=True
                )
                known[key] = own[rows, columns]
    return np.stack([known[mask.tobytes()] for mask in masks]) if len(masks) else masks.astype(int)


def _draw(num_choices: int, generator: torch.Generator) -> int:
    return int(torch.randint(num_choices, (), generator=generator))


@lru_cache(maxsize=64)
def _sizes(
    settings: MaskSettings, kind: MaskKind, grid: tuple[int, int]
) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of every part that may be hidden; (1, number) for single tokens."""
    height, width = grid
    if kind in ("bottom", "top"):
        return tuple((rows, width) for rows in _counts(settings, height))
    if kind in ("left", "right"):
        return tuple((height, columns) for columns in _counts(settings, width))
    counts = set(_counts(settings, height * width))
    if kind == "scatter":
        return tuple((1, count) for count in sorted(counts))
    every = ((rows, columns) for rows in range(1, height + 1) for columns in range(1, width + 1))
    return tuple(size for size in every if size[0] * size[1] in counts)


def _counts(settings: MaskSettings, total: int) -> list[int]:
    """The allowed numbers of hidden ones among ``total`` rows, columns or tokens."""
    low, high = settings.min_share - _SLACK, settings.max_share + _SLACK
    return [count for count in range(1, total) if low <= count / total <= high]
