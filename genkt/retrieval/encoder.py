"""What images are compared by: what every encoder has, and its description for whoever loads it.

Always ``TOGETHER`` pictures are encoded at once, the last batch filled up: other batch sizes and
shapes may round differently, and which images are found must not depend on how work was cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from genkt.data.transform import ImageTransform

TOGETHER = 64


class Encoder(Protocol):
    """What images are compared by.

    Attributes:
        name: shown in messages and cards.  width: D.
        transform: how a picture becomes its input.
    """

    name: str
    width: int
    transform: ImageTransform

    def fingerprint(self) -> str:
        """Hash of everything it computes with, the transform aside."""

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """[n, 3, H, W] pictures, n at most ``TOGETHER``, to [n, D]."""


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder by its name, for whoever must load it.

    Args:
        name, pretrained, weights, args, transform, channels_last: see ``ModelSpec``.
    """

    name: str
    pretrained: bool = True
    weights: str | None = None
    args: dict[str, Any] | None = None
    transform: dict[str, Any] | None = None
    channels_last: bool = False


def filled(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A batch of always as many pictures, the last one repeated."""
    assert 0 < len(pixels) <= TOGETHER, len(pixels)
    rest = np.repeat(pixels[-1:], TOGETHER - len(pixels), axis=0)
    return np.concatenate([pixels, rest])
