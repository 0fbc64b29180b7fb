"""Feature maps of all timm families in one form, [B, D, H', W']."""

from __future__ import annotations

import math

from torch import Tensor, nn

from genkt.types import UserError

_ADVICE = "choose another model, or a method that reads features only"


def spatial_map(
    feature_map: object, model: nn.Module, *, input_size: tuple[int, int], name: str
) -> Tensor:
    """What ``model.forward_features`` gave, as a map [B, D, H', W'], nothing copied.

    timm's ``output_fmt`` marks maps [B, H', W', D]. For tokens [B, T, D], the first
    ``num_prefix_tokens`` (class, registers) are left out. The others form a grid, row by row, in
    the proportions of the input.

    Args:
        feature_map: [B, D, H', W'], [B, H', W', D] or [B, T, D]; anything else is refused.
        model: says which.
        input_size: (H, W) of the images.
        name: of the model, for messages.

    Raises:
        UserError: there is no map, or its tokens are not a grid of the input's shape.
    """
    if not isinstance(feature_map, Tensor) or feature_map.ndim not in (3, 4):
        got = getattr(feature_map, "shape", None)
        shown = f"shape {list(got)}" if got is not None else type(feature_map).__name__
        raise UserError.of(
            f"model {name!r}",
            "a feature map [B, D, H, W] or tokens [B, T, D] from timm's forward_features",
            shown,
            f"; {_ADVICE}",
        )
    if feature_map.ndim == 4:
        last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return feature_map.movedim(-1, 1) if last else feature_map
    num_prefix: int = getattr(model, "num_prefix_tokens", 0)
    places = feature_map[:, num_prefix:]
    height, width = _grid(places.shape[1], input_size, num_prefix, name)
    return places.mT.reshape(len(places), places.shape[2], height, width)


def _grid(
    num_places: int, input_size: tuple[int, int], num_prefix: int, name: str
) -> tuple[int, int]:
    """Rows and columns of a grid in the input's proportions."""
    rows, columns = input_size
    height = math.isqrt(num_places * rows // columns)
    width = num_places // max(1, height)
    # A single remaining token is the class token of some families.
    if num_places < 2 or height * width != num_places or height * columns != width * rows:
        raise UserError.of(
            f"model {name!r}",
            f"one token per place of a grid in the proportions of its {rows} x {columns} input",
            f"{num_places} beside {num_prefix} prefix tokens",
            f"; {_ADVICE}",
        )
    return height, width
